//! `cargo xtask up`: one command from a clone to a running system fed with a month of real trade.
//!
//! Starts private servers while cargo builds, migrates, imports, starts API and worker, replays the
//! month once per data directory, prints what was measured, and then obeys typed words. All data
//! lie under `target/up`. However it ends, nothing that it started goes on running.

mod build;
mod figures;
mod http;
mod live;
mod lives;
mod stack;
mod traffic;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use servers::Process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::place::Place;
use crate::screen::{grouped, live, say};
use crate::{Result, json, need};
use figures::Figures;
use live::Console;
use stack::Stack;

/// The worker needs a fraction of a second; a busy two-core machine gets a minute.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<()> {
    say("inventory: Redis, MySQL, API and worker, fed with a month of real trade");
    say("Ctrl-C ends everything; the data stay in target/up\n");
    let stop = Stop::on_signals()?;
    let place = Place::find()?;
    let _lock = place.lock()?;
    need::servers()?;
    let mut stack = Stack::new(place);
    let done = bring_up(&mut stack, &stop);
    live("");
    match done {
        // What fails while we are being stopped fails because of it.
        Err(error) if !stop.asked() => {
            say(format!("error: {error}"));
            stack.end()?;
            Err("ended because of the error above".into())
        }
        _ => stack.end(),
    }
}

/// Set by Ctrl-C, SIGTERM or a closed terminal; the second one ends us at once, and everything that
/// we started with us (see `servers::Process`).
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once the end was asked for: what every wait looks at.
    pub(crate) fn check(&self) -> Result<()> {
        if self.asked() { Err("asked to end".into()) } else { Ok(()) }
    }
}

fn bring_up(stack: &mut Stack, stop: &Stop) -> Result<()> {
    stack.empty_logs()?;
    let mut build = build::start(stack.place())?;
    let started = stack.forget_if_cut_short().and_then(|()| stack.start_servers());
    build::finish(&mut build, stop)?;
    started?;
    load(stack, stop)?;
    stack.start_programs(stop)?;
    let mut console = Console::open(stack.figures_command(), stop.clone())?;
    if !stack.is_replayed() {
        replay(stack, &mut console, stop)?;
    }
    let figures = wait_until_drained(stack, &mut console, stop)?;
    report(stack, &figures)?;
    console.obey(stack)
}

/// The schema, and the products of the month.
fn load(stack: &Stack, stop: &Stop) -> Result<()> {
    finish(stack, stop, "migrate", &["migrate"])?;
    if stack.is_replayed() {
        return Ok(());
    }
    let file = stack.place().month().display().to_string();
    let start = Instant::now();
    let import = ["product", "import", "--format", "online-retail", &file];
    finish(stack, stop, "import", &import)?;
    say(format!("products imported in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Plays the month through HTTP, once per data directory.
fn replay(stack: &mut Stack, console: &mut Console, stop: &Stop) -> Result<()> {
    say("replaying the month through HTTP: a line is a view, a new price a write");
    stack.mark_replay_begun()?;
    let start = Instant::now();
    let file = stack.place().month().display().to_string();
    let mut replay = stack.inventoryctl("replay", &["replay", &file, "-o", "json"])?;
    while replay.exited().is_none() {
        console.wait(stack, "the month is being replayed, which is done once")?;
    }
    stop.check()?;
    let sent = stack.output_of("replay");
    if !only_unanswered(replay.exited().and_then(|status| status.code()), &sent) {
        succeeded(&mut replay, stop)?;
    }
    let field = |name: &str| json::count(&sent, name).map_or("?".to_owned(), grouped);
    say(format!(
        "replayed in {:.1} s: {} of {} views and {} of {} prices accepted",
        start.elapsed().as_secs_f64(),
        field("views_accepted"),
        field("views_sent"),
        field("prices_accepted"),
        field("prices_sent"),
    ));
    match json::count(&sent, "views_unknown") {
        None | Some(0) => {}
        Some(some) => say(format!("{} views were never answered for: each is there once or not at all", grouped(some))),
    }
    stack.mark_replayed()
}

/// Whether `inventoryctl replay` ended with 3, some failed, for views alone whose answer went away with what was killed: they are
/// not sent again, as they might count twice.
fn only_unanswered(code: Option<i32>, report: &str) -> bool {
    let none = |name: &str| json::count(report, name) == Some(0);
    code == Some(3) && ["views_rejected", "prices_failed", "lines_without_product", "lines_rejected"].into_iter().all(none)
}

fn wait_until_drained(stack: &mut Stack, console: &mut Console, stop: &Stop) -> Result<Figures> {
    let end = Instant::now() + DRAIN_DEADLINE;
    loop {
        stop.check()?;
        let printed = output(stack, &["queue", "status", "-o", "json"]);
        match printed.and_then(|printed| Figures::parse(&printed)) {
            Ok(figures) if figures.pending == 0 => return Ok(figures),
            Ok(figures) if Instant::now() >= end => {
                let (pending, log) = (grouped(figures.pending), stack.place().up().join("worker.log"));
                return Err(format!("{pending} views still wait after {DRAIN_DEADLINE:?}: see {}", log.display()).into());
            }
            Ok(figures) => live(figures.line()),
            // A server may just have been killed, and be started again by the next step.
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => {}
        }
        console.wait(stack, "views wait for the worker")?;
    }
}

/// Measured figures only: what does not add up is printed as it is.
fn report(stack: &Stack, figures: &Figures) -> Result<()> {
    live("");
    let check = output(stack, &["check", "--full", "-o", "json"])?;
    let field = |name: &str| json::count(&check, name).ok_or_else(|| format!("`inventoryctl check` did not print {name}: {check}"));
    let compared = grouped(field("products_compared")?);
    say(format!("\nviews {}", figures.sum()));
    match field("mismatches")? {
        0 => say(format!("prices {compared} products compared: API = Redis = MySQL\n")),
        some => say(format!("prices {compared} products compared: {} DIFFER between API, Redis and MySQL\n", grouped(some))),
    }
    stack.say_curl_lines();
    stack.say_shell_line()?;
    say("type worker, redis, mysql or api (kills it with -9 under load), traffic, help\n");
    live(figures.line());
    Ok(())
}

/// Runs an `inventoryctl` command whose end may take a while.
fn finish(stack: &Stack, stop: &Stop, name: &str, arguments: &[&str]) -> Result<()> {
    let mut process = stack.inventoryctl(name, arguments)?;
    let start = Instant::now();
    while process.exited().is_none() {
        stop.check()?;
        live(format!("inventoryctl {name} ({:.0} s)", start.elapsed().as_secs_f64()));
        std::thread::sleep(Duration::from_millis(50));
    }
    live("");
    succeeded(&mut process, stop)
}

fn succeeded(process: &mut Process, stop: &Stop) -> Result<()> {
    stop.check()?;
    match process.exited() {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(process.error(format!("{} failed ({status})", process.name())).into()),
        None => Err(process.error(format!("{} has not ended", process.name())).into()),
    }
}

/// What a quick `inventoryctl` command prints. `check` exits with 5 where something differs, and
/// prints its figures all the same.
fn output(stack: &Stack, arguments: &[&str]) -> Result<String> {
    let mut command: Command = stack.command("inventoryctl");
    let output = command.args(arguments).stdin(Stdio::null()).output()?;
    if output.stdout.is_empty() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("`inventoryctl {}` failed: {errors}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_may_lack_answers_for_views_and_nothing_else() {
        let report = r#"{"views_unknown":6,"views_rejected":0,"prices_failed":0,"lines_without_product":0,"lines_rejected":0}"#;
        assert!(only_unanswered(Some(3), report));
        for failed in ["views_rejected", "prices_failed", "lines_without_product", "lines_rejected"] {
            let one = report.replace(&format!(r#""{failed}":0"#), &format!(r#""{failed}":1"#));
            assert!(!only_unanswered(Some(3), &one), "{one}");
        }
        assert!(!only_unanswered(Some(1), report) && !only_unanswered(None, report) && !only_unanswered(Some(3), ""));
    }
}
