//! `cargo xtask test`: all that must hold before a change is merged, and what each part took.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::mysql::{self, Wanted};
use crate::place::Place;
use crate::screen::say;
use crate::{Result, need, npm, schemathesis};

/// Title and cargo's arguments, the quick ones first.
const PARTS: &[(&str, &str)] = &[
    ("format", "fmt --all --check"),
    ("lints", "clippy --workspace --all-targets --locked -- -D warnings"),
    // The tests of tests/it start these programs.
    ("programs", "build --workspace --bins --locked"),
    ("tests", "test --workspace --locked"),
];

/// The protocols of prices, views and stock, and what differs between the servers.
const SMOKE: &[(&str, &str)] = &[
    ("programs", "build --workspace --bins --locked"),
    (
        "tests",
        "test --package tests --test it --locked -- smoke:: cache:: check:: views:: stock:: reservations:: stock_checks:: dead_letters:: faults::prices:: faults::pushes::",
    ),
];

/// What is asked for on the command line.
#[derive(Default)]
struct Wish<'a> {
    server: Option<Wanted>,
    smoke: bool,
    /// For the test binaries.
    arguments: &'a [&'a str],
}

impl<'a> Wish<'a> {
    fn parse(mut words: &'a [&'a str]) -> Result<Self> {
        let mut wish = Self::default();
        loop {
            words = match words {
                [] => return Ok(wish),
                ["--server", server, rest @ ..] => {
                    wish.server = Some(Wanted::parse(server)?);
                    rest
                }
                ["--smoke", rest @ ..] => {
                    wish.smoke = true;
                    rest
                }
                ["--", rest @ ..] => {
                    wish.arguments = rest;
                    return Ok(wish);
                }
                [other, ..] => {
                    return Err(format!("`cargo xtask test {other}`: write --server mysql|mariadb, --smoke, or -- and arguments").into());
                }
            };
        }
    }
}

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let wish = Wish::parse(words)?;
    let what = if wish.smoke { "some tests against real servers" } else { "format, lints, programs, tests against real servers" };
    say(format!("cargo xtask test: {what}"));
    let place = Place::find()?;
    let mut took = Vec::new();
    let done = all(&place, &wish, &mut took);
    say("\npart          seconds");
    for (title, time) in &took {
        say(format!("{title:<12} {:>8.1}", time.as_secs_f64()));
    }
    done
}

fn all(place: &Place, wish: &Wish, took: &mut Vec<(&'static str, Duration)>) -> Result<()> {
    part(took, "servers", need::servers)?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(wanted) = wish.server {
        match part(took, "database", || in_front(&mysql::directory(place, wanted)?, &path)) {
            Ok(longer) => path = longer,
            // A machine without it, or without a network, passes its other tests; whoever reads the log must see it.
            Err(error) if wish.smoke => {
                say(format!("\n!!! NOT TESTED ON THIS SERVER: {error}\n"));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    if !wish.smoke {
        part(took, "python", || schemathesis::install(place))?;
        part(took, "programs", need::programs_of_tests)?;
        part(took, "npm", || npm::install(place))?;
    }
    let parts = if wish.smoke { SMOKE } else { PARTS };
    parts.iter().try_for_each(|(title, line)| {
        let mut command = place.cargo();
        command.args(line.split(' ')).env("PATH", &path);
        if *title == "tests" {
            if !wish.arguments.is_empty() {
                command.args((!wish.smoke).then_some("--")).args(wish.arguments);
            }
            say(format!("\nthe tests run on {}", mysql::version_on(&path, wish.server)?));
        }
        part(took, title, || succeed(&mut command, line))
    })
}

/// The PATH with a directory before all others.
fn in_front(directory: &Path, path: &OsStr) -> Result<OsString> {
    let directories = std::iter::once(directory.to_owned()).chain(std::env::split_paths(path));
    Ok(std::env::join_paths(directories)?)
}

fn part<T>(took: &mut Vec<(&'static str, Duration)>, title: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(format!("\n== {title}"));
    let start = Instant::now();
    let done = work();
    took.push((title, start.elapsed()));
    done
}

fn succeed(command: &mut Command, line: &str) -> Result<()> {
    let status = command.status().map_err(|error| format!("starting {}: {error}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {line}` failed, see above").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_or_refused_with_what_there_is() {
        let wish = Wish::parse(&["--server", "mysql", "--smoke", "--", "--nocapture"]).unwrap();
        assert!(wish.server == Some(Wanted::Mysql) && wish.smoke);
        assert_eq!(wish.arguments, ["--nocapture"]);
        for (words, told) in
            [(["--server", "postgres"], "mysql or mariadb"), (["--smok", ""], "--smoke"), (["--server", "--smoke"], "mysql or")]
        {
            let error = Wish::parse(&words).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{told} in {error}");
        }
    }
}
