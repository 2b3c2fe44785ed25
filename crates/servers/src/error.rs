//! One error for everything that can go wrong while a server is found, started or stopped.

use std::{fmt, io};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub enum Error {
    /// A program is not installed; the text names it and the line to type.
    Missing(String),
    /// The operating system refused something; the text says what we were doing.
    Io(String, io::Error),
    /// A process did not do what was asked of it.
    Process {
        what: String,
        /// The command line, to be typed again by hand.
        command: String,
        /// The last lines of its log.
        log: String,
    },
}

impl Error {
    /// For `map_err`: adds what we were doing to an I/O error.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io(doing, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) => f.write_str(text),
            Self::Io(doing, error) => write!(f, "{doing}: {error}"),
            Self::Process { what, command, log } => {
                write!(f, "{what}\n  command: {command}\n  log:")?;
                if log.is_empty() {
                    write!(f, " (empty)")?;
                }
                log.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}
