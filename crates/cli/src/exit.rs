//! How a command ends: the exit codes that `--help` lists, and the failures that lead to them.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// What the shell sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Failure = 1,
    /// Also what clap answers to a wrong command line.
    Usage = 2,
    /// The rest was done.
    SomeFailed = 3,
    NotFound = 4,
    /// Also: places that should agree differ.
    Conflict = 5,
    NotAllowed = 6,
    Unreachable = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stopped: one line that names the place and the cure, and the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Says what was being done when `fault` came.
    pub(crate) fn doing(what: impl Display, fault: &(impl std::error::Error + ?Sized)) -> Self {
        Self::new(Exit::Failure, format!("{what}: {}", chain(fault)))
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(fault: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(fault) = cause {
        let said = fault.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = fault.source();
    }
    text
}

/// The output could not be written. A reader that left (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(fault: io::Error) -> Self {
        match fault.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, ""),
            _ => Self::doing("writing the output", &fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let codes =
            [Exit::Ok, Exit::Failure, Exit::Usage, Exit::SomeFailed, Exit::NotFound, Exit::Conflict, Exit::NotAllowed, Exit::Unreachable];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_cause_is_said_once() {
        let fault = io::Error::other(io::Error::other("disk is full"));
        assert_eq!(Failure::doing("writing bad.csv", &fault).message, "writing bad.csv: disk is full");
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit, Exit::Ok);
        assert_eq!(Failure::from(io::Error::other("disk is full")).exit, Exit::Failure);
    }
}
