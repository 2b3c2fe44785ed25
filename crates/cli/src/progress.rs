//! How far a long command is, on stderr: a bar with rate and time left on a terminal,
//! a line every ten seconds elsewhere. Never touches stdout.

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Redraws a second; more would only use up the terminal.
const REDRAWS_PER_SECOND: u8 = 8;

/// Counts what is done; may be shared by tasks.
pub(crate) struct Progress {
    what: &'static str,
    /// None when there is no end, as in a replay that is repeated.
    total: Option<u64>,
    done: AtomicU64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `what` names the things counted, in the plural. Must be called on a runtime.
    pub(crate) fn start(what: &'static str, total: Option<u64>) -> Arc<Self> {
        let on_terminal = stderr().is_terminal();
        let progress = Arc::new(Self {
            what,
            total,
            done: AtomicU64::new(0),
            started: Instant::now(),
            bar: on_terminal.then(|| terminal_bar(what, total)),
        });
        if !on_terminal {
            tokio::spawn(write_lines(Arc::downgrade(&progress)));
        }
        progress
    }

    pub(crate) fn advance(&self, by: u64) {
        let done = self.done.fetch_add(by, Ordering::Relaxed) + by;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Writes a message above the bar.
    pub(crate) fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{message}")),
            None => eprintln!("{message}"),
        }
    }

    /// Takes the bar away, so that the result stands alone.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What a command waits for: a line that changes on a terminal, a line every ten seconds elsewhere.
pub(crate) struct Waiting {
    bar: ProgressBar,
    started: Instant,
    lines: AtomicU64,
}

impl Waiting {
    pub(crate) fn start() -> Self {
        // Hides itself off a terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), lines: AtomicU64::new(0) }
    }

    pub(crate) fn show(&self, what: String) {
        let due = self.started.elapsed().as_secs() / LINE_INTERVAL.as_secs();
        if !stderr().is_terminal() && self.lines.swap(due, Ordering::Relaxed) < due {
            eprintln!("{what}  {}s", self.started.elapsed().as_secs());
        }
        self.bar.set_message(what);
        self.bar.tick();
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Goes on also when nothing advances: that is when one wants to know.
async fn write_lines(progress: Weak<Progress>) {
    loop {
        tokio::time::sleep(LINE_INTERVAL).await;
        let Some(progress) = progress.upgrade() else { return };
        let done = progress.done.load(Ordering::Relaxed);
        eprintln!("{}", line(progress.what, done, progress.total, progress.started.elapsed()));
    }
}

fn terminal_bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, form) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {human_pos}/{human_len} {msg}  {rate}  eta {eta}"),
        None => (ProgressBar::no_length(), "{spinner} {human_pos} {msg}  {rate}  {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND));
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            // A text that cannot be written is a terminal that is gone.
            let _ = write!(text, "{}/s", HumanCount(state.per_sec().round() as u64));
        }));
    }
    bar.with_message(what)
}

fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(0.001);
    let rate = HumanCount(per_second.round() as u64);
    match total {
        Some(total) => {
            let left = total.saturating_sub(done) as f64 / per_second.max(0.001);
            format!("{}/{} {what}  {rate}/s  eta {}s", HumanCount(done), HumanCount(total), left.ceil())
        }
        None => format!("{} {what}  {rate}/s  {}s", HumanCount(done), elapsed.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_rate_and_time_left() {
        let ten = Duration::from_secs(10);
        assert_eq!(line("events", 20_000, Some(50_012), ten), "20,000/50,012 events  2,000/s  eta 16s");
        assert_eq!(line("events", 20_000, None, ten), "20,000 events  2,000/s  10s");
        assert_eq!(line("events", 0, Some(5), Duration::ZERO), "0/5 events  0/s  eta 5000s");
    }
}
