//! What a run says of itself: how far it is, on stderr, and in the end what was done, on stdout.

use super::faults::Fault;
use super::frame::Ran;
use super::history::Violation;
use super::workload::Counters;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const ON_TERMINAL: Duration = Duration::from_secs(1);
const OFF_TERMINAL: Duration = Duration::from_secs(10);

/// How often a kind of fault struck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Struck {
    pub times: u64,
    /// While requests were unanswered.
    pub unanswered: u64,
    /// Requests that were unanswered, at all times together.
    pub in_flight: u64,
}

impl Struck {
    pub(super) fn note(&mut self, in_flight: usize) {
        self.add(&Self { times: 1, unanswered: u64::from(in_flight > 0), in_flight: in_flight as u64 });
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.times += more.times;
        self.unanswered += more.unanswered;
        self.in_flight += more.in_flight;
    }
}

/// How far a run is: what is done, of which the rate is shown too, and what came of it.
pub struct Told {
    pub count: u64,
    pub unit: &'static str,
    pub more: u64,
    pub of: &'static str,
}

/// A bar on a terminal, a line every ten seconds elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    ticks: JoinHandle<()>,
}

impl Progress {
    /// `told` says how far the run is.
    #[must_use]
    pub fn start(planned: Duration, told: impl Fn() -> Told + Send + 'static) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(planned.as_secs());
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  {elapsed}, about {eta} left");
            bar.with_style(style.expect("the template is well-formed"))
        });
        let ticks = tokio::spawn(tick(told, bar.clone()));
        Self { bar, ticks }
    }

    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    pub(super) fn end(&self) {
        self.ticks.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn tick(told: impl Fn() -> Told, bar: Option<ProgressBar>) {
    let (started, mut before) = (Instant::now(), 0);
    let every = if bar.is_some() { ON_TERMINAL } else { OFF_TERMINAL };
    loop {
        tokio::time::sleep(every).await;
        let (Told { count: now, unit, more, of }, seconds) = (told(), started.elapsed().as_secs());
        let rate = now.saturating_sub(before) / every.as_secs();
        before = now;
        let text = format!("{} {unit}, {}/s, {} {of}", HumanCount(now), HumanCount(rate), HumanCount(more));
        match &bar {
            Some(bar) => {
                bar.set_position(seconds);
                bar.set_message(text);
            }
            None => eprintln!("{seconds:>6} s  {text}"),
        }
    }
}

/// Prints what a run did.
pub(super) fn print(seed: u64, ran: &Ran<Fault, Violation, ()>, counters: &Counters) {
    let of = |count: &std::sync::atomic::AtomicU64| HumanCount(count.load(Ordering::Relaxed));
    let (operations, seconds) = (counters.operations(), ran.took.as_secs_f64());
    let (reads, hits) = (counters.reads.load(Ordering::Relaxed), counters.hits.load(Ordering::Relaxed));
    began(seed, ran);
    println!(
        "operations {} in {} requests, {:.0} operations a second",
        HumanCount(operations),
        of(&counters.requests),
        operations as f64 / seconds
    );
    println!(
        "reads {}, {:.1} % of them hits; {} more without an answer",
        HumanCount(reads),
        100.0 * hits as f64 / reads.max(1) as f64,
        of(&counters.failed_reads)
    );
    println!("writes {} acknowledged, {} refused, {} unknown", of(&counters.written), of(&counters.refused), of(&counters.unknown));
    table(ran.struck.iter().map(|(fault, struck)| (fault.name(), *struck)));
}

/// Prints which rounds there were.
pub(super) fn began<F, V, T>(seed: u64, Ran { rounds, took, .. }: &Ran<F, V, T>) {
    println!("\nseeds {seed} to {}, {rounds} rounds in {:.0} s", seed.wrapping_add(rounds.saturating_sub(1)), took.as_secs_f64());
}

/// Prints how often something was killed with -9.
pub(super) fn kills<'a>(struck: impl Iterator<Item = &'a Struck>) {
    let sums = struck.fold([0, 0], |[all, unanswered], struck| [all + struck.times, unanswered + struck.unanswered]);
    println!("kill -9: {}, of these {} while requests were unanswered", sums[0], sums[1]);
}

/// Prints how often each kind of fault struck.
pub(super) fn table(struck: impl Iterator<Item = (String, Struck)> + Clone) {
    let times: u64 = struck.clone().map(|(_, struck)| struck.times).sum();
    println!("faults {times}\n\n{:<24} {:>6} {:>27} {:>18}", "kind", "times", "while requests unanswered", "unanswered, mean");
    for (name, Struck { times, unanswered, in_flight }) in struck {
        println!("{name:<24} {times:>6} {unanswered:>27} {:>18.1}", in_flight as f64 / times.max(1) as f64);
    }
    println!();
}
