//! `cargo xtask test`: all that must hold before a change is merged, and what each part took.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::screen::say;
use crate::{Result, need, schemathesis};

/// Title and cargo's arguments, the quick ones first.
const PARTS: &[(&str, &str)] = &[
    ("format", "fmt --all --check"),
    ("lints", "clippy --workspace --all-targets --locked -- -D warnings"),
    // The tests of tests/it start these programs.
    ("programs", "build --workspace --bins --locked"),
    ("tests", "test --workspace --locked"),
];

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    say("cargo xtask test: format, lints, programs, tests against real servers");
    let place = Place::find()?;
    let mut took = Vec::new();
    let done = part(&mut took, "servers", need::servers).and_then(|()| part(&mut took, "schemathesis", || schemathesis::install(&place)));
    let done = done.and_then(|()| {
        PARTS.iter().try_for_each(|(title, line)| {
            let mut command = place.cargo();
            command.args(line.split(' '));
            if *title == "tests" && !arguments.is_empty() {
                command.arg("--").args(arguments);
            }
            part(&mut took, title, || succeed(&mut command, line))
        })
    });
    say("\npart          seconds");
    for (title, time) in &took {
        say(format!("{title:<12} {:>8.1}", time.as_secs_f64()));
    }
    done
}

fn part(took: &mut Vec<(&'static str, Duration)>, title: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
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
