//! Cargo's build of the three programs, shown as one live line.

use std::time::{Duration, Instant};

use servers::Process;

use super::Stop;
use crate::Result;
use crate::place::Place;
use crate::screen::{live, say};

pub(super) fn start(place: &Place) -> Result<Process> {
    let log = place.up().join("build.log");
    let mut command = place.cargo();
    command.args(["build", "--locked", "--color", "never", "--bins"]);
    command.args(["--package", "api", "--package", "worker", "--package", "cli"]);
    Ok(Process::spawn("cargo build", command, &log)?)
}

pub(super) fn finish(build: &mut Process, stop: &Stop) -> Result<()> {
    let start = Instant::now();
    let status = loop {
        stop.check()?;
        if let Some(status) = build.exited() {
            break status;
        }
        let tail = build.log_tail();
        let last = tail.lines().last().unwrap_or_default();
        live(format!("building ({:.0} s) {}", start.elapsed().as_secs_f64(), last.trim()));
        std::thread::sleep(Duration::from_millis(100));
    };
    live("");
    if !status.success() {
        return Err(build.error("the programs do not build; the rest is in target/up/build.log").into());
    }
    if start.elapsed() > Duration::from_secs(1) {
        say(format!("built in {:.0} s", start.elapsed().as_secs_f64()));
    }
    Ok(())
}
