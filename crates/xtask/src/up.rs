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

use std::process::Stdio;
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
use stack::{Part, Stack};

/// The worker needs a fraction of a second; a busy two-core machine gets a minute.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// Where products are compared for longer than this, it is said why one waits.
const COMPARED_AT_ONCE: Duration = Duration::from_secs(3);
/// The comparison looks at so much together that a busy machine takes a second for it.
const CUT_SHORT_DEADLINE: Duration = Duration::from_secs(5);

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
    report(stack, &mut console, stop, &figures)?;
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
        let figures = figures(stack);
        match figures {
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
fn report(stack: &mut Stack, console: &mut Console, stop: &Stop, figures: &Figures) -> Result<()> {
    let compared = compare(stack, console, stop)?;
    live("");
    say(format!("\nviews {}", figures.sum()));
    say(format!("{compared}\n"));
    stack.say_curl_lines();
    stack.say_shell_line()?;
    say("type worker, redis, mysql or api (kills it with -9 under load), traffic, help\n");
    live(figures.line());
    Ok(())
}

/// Whether API, Redis and MySQL say the same of all products, in words.
fn compare(stack: &mut Stack, console: &mut Console, stop: &Stop) -> Result<String> {
    let mut check = stack.inventoryctl("check", &["check", "--full", "-o", "json"])?;
    let (start, mut said) = (Instant::now(), false);
    while check.exited().is_none() {
        let waited = console.wait(stack, "all products are being compared");
        if waited.is_err() && stop.asked() {
            // It prints how far it came. Killed at the deadline it does not.
            let _ = check.stop(CUT_SHORT_DEADLINE);
            say(compared(None, &stack.output_of("check")));
        }
        waited?;
        if !said && start.elapsed() > COMPARED_AT_ONCE {
            say("comparing all products: API, Redis, MySQL");
            said = true;
        }
    }
    let code = check.exited().and_then(|status| status.code());
    let words = compared(code, &stack.output_of("check"));
    if is_complete(code) {
        return Ok(words);
    }
    // What it asks may have been killed: that is said first, and is no reason to end all.
    stack.look_after(&Part::ALL, stop)?;
    Ok(format!("{words}\n{}", check.error("`inventoryctl check --full` failed")))
}

/// The words for what `inventoryctl check` printed before it ended with this code.
fn compared(code: Option<i32>, report: &str) -> String {
    let [compared, mismatches] = ["products_compared", "mismatches"].map(|name| json::count(report, name));
    let products = compared.map_or("? products".to_owned(), |compared| format!("{} products", grouped(compared)));
    let verdict = match mismatches {
        Some(0) => "API = Redis = MySQL".to_owned(),
        Some(some) => format!("{} DIFFER between API, Redis and MySQL", grouped(some)),
        None => "?".to_owned(),
    };
    match (compared, is_complete(code)) {
        (_, true) => format!("prices {products} compared: {verdict}"),
        (Some(_), false) => format!("prices {products} compared, the rest not: cut short; of these {verdict}"),
        (None, false) => "prices not known to be the same: the comparison was cut short".to_owned(),
    }
}

/// `check` ends with 5 where something differs; with anything else it did not come to its end.
fn is_complete(code: Option<i32>) -> bool {
    matches!(code, Some(0 | 5))
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

fn figures(stack: &Stack) -> Result<Figures> {
    let mut command = stack.command("inventoryctl");
    let output = command.args(["queue", "status", "-o", "json"]).stdin(Stdio::null()).output()?;
    if output.stdout.is_empty() {
        return Err(format!("`inventoryctl queue status` failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Figures::parse(&String::from_utf8_lossy(&output.stdout))
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

    const ALIKE: &str = r#"{"products_compared":59700,"mismatches":0}"#;

    #[test]
    fn a_comparison_that_came_to_its_end_says_what_it_found() {
        assert_eq!(compared(Some(0), ALIKE), "prices 59,700 products compared: API = Redis = MySQL");
        let differ = ALIKE.replace(r#""mismatches":0"#, r#""mismatches":2"#);
        assert_eq!(compared(Some(5), &differ), "prices 59,700 products compared: 2 DIFFER between API, Redis and MySQL");
    }

    #[test]
    fn a_comparison_that_was_cut_short_says_so() {
        let words = "prices 59,700 products compared, the rest not: cut short; of these API = Redis = MySQL";
        assert_eq!([compared(None, ALIKE), compared(Some(1), ALIKE)], [words, words]);
        assert_eq!(compared(Some(7), ""), "prices not known to be the same: the comparison was cut short");
    }
}
