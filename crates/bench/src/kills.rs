//! What each design of the views' path answers, leaves behind, loses and doubles: first at full load, then while its processes
//! are killed with -9 at seeded moments and started again. Redis syncs every write.
//!
//! Lost is what was acknowledged and never counted; doubled what was counted and never sent. Both by product, so that one does
//! not hide the other.

use crate::baselines::Kind;
use crate::figures::{Spread, grouped};
use crate::load::{self, End};
use crate::paced::{Ledger, Paced};
use crate::progress::Progress;
use crate::report::millis;
use crate::requests::{Popularity, Requests};
use crate::stack::{Baseline, OURS, Stack, THEIRS, Victim};
use anyhow::ensure;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;

/// Views a second while kills are made: what the slowest worker can keep up with, so that all are killed under the same load.
const PER_SECOND: u32 = 1_000;

/// The longest time from the moment at which a victim is seen at work to its kill.
const PAUSE: Duration = Duration::from_millis(300);

/// After full load. What a design has not counted by then is a backlog: ours flushes twice a second.
const GRACE: Duration = Duration::from_secs(1);

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a process may take to be at work, and how long what waits may take to be counted.
const WORK_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

/// What was popped from a queue is in MySQL or lost when nothing has waited or changed for so long.
const QUIET: Duration = Duration::from_secs(1);

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    rounds: u32,
    warm: Duration,
    measured: Duration,
    /// Of each process that a design has.
    kills: usize,
}

pub(crate) const FULL: Plan = Plan { rounds: 5, warm: Duration::from_millis(300), measured: Duration::from_secs(2), kills: 20 };

/// To see that everything works; its figures say little.
pub(crate) const QUICK: Plan = Plan { rounds: 1, warm: Duration::from_millis(100), measured: Duration::from_millis(500), kills: 2 };

struct Design {
    title: &'static str,
    /// None is ours.
    kind: Option<Kind>,
}

const DESIGNS: [Design; 5] = [
    Design { title: "this one", kind: None },
    Design { title: "one UPDATE a view", kind: Some(Kind::Direct) },
    Design { title: "RPUSH; BLPOP of ten, COMMIT", kind: Some(Kind::Textbook) },
    Design { title: "RPUSH; LRANGE, COMMIT, LTRIM", kind: Some(Kind::Trim) },
    Design { title: "XADD; a statement an entry, XACK", kind: Some(Kind::Stream) },
];

/// A turn at full load.
#[derive(Debug, Clone, Copy)]
struct Turn {
    per_second: f64,
    p50_millis: f64,
    p99_millis: f64,
    /// Views that were in MySQL when the load ended, for each second of it.
    counted_per_second: f64,
    /// Share of the accepted views that were not there after the grace either.
    left_behind: f64,
}

/// What became of the views among which processes were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    acknowledged: u64,
    unknown: u64,
    lost: u64,
    doubled: u64,
}

impl Verdict {
    fn is_sound(&self) -> bool {
        (self.lost, self.doubled) == (0, 0)
    }
}

/// A running design.
enum Running {
    Ours,
    Theirs(Box<Baseline>),
}

/// Prints nothing; returns the table in markdown, and whether ours lost and doubled nothing.
///
/// # Errors
/// An error answer at full load, views that are never counted, or something died by itself.
pub(crate) async fn run(stack: &mut Stack, plan: &Plan, seed: u64) -> anyhow::Result<(String, bool)> {
    stack.set_appendfsync("always").await?;
    let progress = Progress::start((plan.warm + plan.measured + GRACE) * plan.rounds * DESIGNS.len() as u32 + planned_kills(plan));
    let mut turns: [Vec<Turn>; DESIGNS.len()] = Default::default();
    let requests = Arc::new(Requests::views(Popularity::Zipf, seed));
    for round in 0..plan.rounds {
        for step in 0..DESIGNS.len() {
            // Each is the first in some round.
            let place = (step + round as usize) % DESIGNS.len();
            progress.row(&format!("full load: {}", DESIGNS[place].title));
            turns[place].push(turn(stack, &DESIGNS[place], plan, &requests).await?);
            progress.advance(plan.warm + plan.measured + GRACE);
        }
    }
    let (mut rows, mut sound) = (Vec::new(), true);
    for (design, turns) in DESIGNS.iter().zip(&turns) {
        progress.row(&format!("kills: {}", design.title));
        let victims = victims(design, plan.kills, seed);
        let verdict = endure(stack, design, &victims, seed).await?;
        sound &= design.kind.is_some() || verdict.is_sound();
        rows.push(cells(design, turns, &victims, verdict));
        progress.advance(planned_kills(plan) / DESIGNS.len() as u32);
    }
    drop(progress);
    let heading = stack.heading().await?;
    Ok((format!("{heading}  \n{}\n\n{}", method(plan, seed), table(&rows)), sound))
}

/// What the progress bar reckons with.
fn planned_kills(plan: &Plan) -> Duration {
    Duration::from_millis(600) * (2 * plan.kills * DESIGNS.len()) as u32
}

fn method(plan: &Plan, seed: u64) -> String {
    format!(
        "innodb_flush_log_at_trx_commit=1, sync_binlog=1, row binlog; Redis with AOF, appendfsync always; 10,000 products, Zipf 1.0; \
         full load: {CLIENTS} connections, {} rounds of {} ms in turns, medians; kills: {} views a second, -9 at moments of \
         seed {seed}, started again at once; lost and doubled are counted by product, after all that waited was counted",
        plan.rounds,
        plan.measured.as_millis(),
        grouped(f64::from(PER_SECOND)),
    )
}

/// Every process of the design as often as the plan says, in an order of the seed.
fn victims(design: &Design, kills: usize, seed: u64) -> Vec<Victim> {
    let has_worker = design.kind.is_none_or(|kind| kind.queue().is_some());
    let of_worker = if has_worker { kills } else { 0 };
    let mut victims = vec![Victim::Api; kills];
    victims.resize(kills + of_worker, Victim::Worker);
    fastrand::Rng::with_seed(seed).shuffle(&mut victims);
    victims
}

impl Running {
    async fn start(stack: &Stack, design: &Design) -> anyhow::Result<Self> {
        let Some(kind) = design.kind else { return Ok(Self::Ours) };
        let mut baseline = stack.start_baseline(kind).await?;
        stack.start_worker_of(&mut baseline)?;
        Ok(Self::Theirs(Box::new(baseline)))
    }

    fn address(&self, stack: &Stack) -> std::net::SocketAddr {
        match self {
            Self::Ours => stack.api(),
            Self::Theirs(baseline) => baseline.address,
        }
    }

    fn database(&self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::Theirs(_) => THEIRS,
        }
    }

    fn kill(&mut self, stack: &mut Stack, victim: Victim) -> anyhow::Result<()> {
        match self {
            Self::Ours => stack.kill(victim),
            Self::Theirs(baseline) => stack.kill_of(baseline, victim),
        }
    }

    async fn waiting(&self, stack: &mut Stack) -> anyhow::Result<u64> {
        match self {
            Self::Ours => Ok(stack.account().await?.pending),
            Self::Theirs(baseline) => stack.waiting_in(baseline).await,
        }
    }
}

async fn turn(stack: &mut Stack, design: &Design, plan: &Plan, requests: &Arc<Requests>) -> anyhow::Result<Turn> {
    let running = Running::start(stack, design).await?;
    let before = stack.views_in(running.database()).await?;
    let end = End::After { warm: plan.warm, measured: plan.measured };
    let slice = load::run(running.address(stack), requests, CLIENTS, end).await?;
    let counted = stack.views_in(running.database()).await? - before;
    tokio::time::sleep(GRACE).await;
    let missing = slice.answered.saturating_sub(stack.views_in(running.database()).await? - before);
    match running {
        Running::Ours => {
            stack.accepted += slice.answered;
            stack.wait_drained().await?;
        }
        Running::Theirs(mut baseline) => {
            stack.forget_views_of(&mut baseline).await?;
        }
    }
    Ok(Turn {
        per_second: slice.per_second(),
        p50_millis: slice.millis(0.5),
        p99_millis: slice.millis(0.99),
        counted_per_second: counted as f64 / (plan.warm + plan.measured).as_secs_f64(),
        left_behind: missing as f64 / slice.answered as f64,
    })
}

/// Kills the victims one after the other, each when it is at work, and judges what became of the views.
async fn endure(stack: &mut Stack, design: &Design, victims: &[Victim], seed: u64) -> anyhow::Result<Verdict> {
    let mut running = Running::start(stack, design).await?;
    let before = stack.views_by_product(running.database()).await?;
    let mut random = fastrand::Rng::with_seed(seed);
    let views = Paced::start(running.address(stack), PER_SECOND, seed);
    for victim in victims {
        wait_at_work(stack, &running, *victim, &views).await?;
        tokio::time::sleep(PAUSE.mul_f64(random.f64())).await;
        running.kill(stack, *victim)?;
    }
    wait_at_work(stack, &running, Victim::Api, &views).await?;
    let ledger = views.end().await?;
    settle(stack, &running).await?;
    let after = stack.views_by_product(running.database()).await?;
    let verdict = judge(&ledger, &before, &after);
    match running {
        Running::Theirs(mut baseline) => {
            stack.forget_views_of(&mut baseline).await?;
        }
        Running::Ours => {
            let account = stack.account().await?;
            let adds_up = (account.drift(), account.lost, account.dead) == (0, 0, 0);
            ensure!(adds_up || !verdict.is_sound(), "no view was lost or doubled, and this is our own account: {account:?}");
            stack.accepted = account.accepted;
        }
    }
    Ok(verdict)
}

/// The API is at work when one more view is acknowledged, a worker when MySQL has one more.
async fn wait_at_work(stack: &Stack, running: &Running, victim: Victim, views: &Paced) -> anyhow::Result<()> {
    let done = async || match victim {
        Victim::Api => Ok(views.acknowledged()),
        Victim::Worker => stack.views_in(running.database()).await,
    };
    let (from, end) = (done().await?, Instant::now() + WORK_LIMIT);
    while done().await? <= from {
        ensure!(Instant::now() < end, "{victim:?} has done nothing for {WORK_LIMIT:?}: see its log");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Waits until nothing waits any more, and nothing has come in MySQL for a while.
async fn settle(stack: &mut Stack, running: &Running) -> anyhow::Result<()> {
    let end = Instant::now() + SETTLE_LIMIT;
    let (mut counted, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET {
        let (waiting, now) = (running.waiting(stack).await?, stack.views_in(running.database()).await?);
        if waiting > 0 || now != counted {
            (counted, since) = (now, Instant::now());
        }
        ensure!(Instant::now() < end, "{waiting} views still wait after {SETTLE_LIMIT:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn judge(ledger: &Ledger, before: &[u64], after: &[u64]) -> Verdict {
    let mut verdict = Verdict { acknowledged: 0, unknown: 0, lost: 0, doubled: 0 };
    let answers = ledger.acknowledged.iter().zip(&ledger.unknown);
    for ((acknowledged, unknown), (before, after)) in answers.zip(before.iter().zip(after)) {
        let counted = after - before;
        verdict.acknowledged += acknowledged;
        verdict.unknown += unknown;
        verdict.lost += acknowledged.saturating_sub(counted);
        verdict.doubled += counted.saturating_sub(acknowledged + unknown);
    }
    verdict
}

const COLUMNS: [&str; 9] = [
    "design",
    "202 views/s (min–max)",
    "p50 / p99 ms",
    "in MySQL/s",
    "left behind 1 s later",
    "kills -9",
    "acknowledged (unknown)",
    "lost",
    "doubled",
];

fn cells(design: &Design, turns: &[Turn], victims: &[Victim], verdict: Verdict) -> [String; COLUMNS.len()] {
    let spread = |of: fn(&Turn) -> f64| Spread::of(&turns.iter().map(of).collect::<Vec<_>>());
    let median = |of| spread(of).map_or(f64::NAN, |spread| spread.median);
    let rate = spread(|turn| turn.per_second)
        .map_or_else(String::new, |all| format!("{} ({}–{})", grouped(all.median), grouped(all.min), grouped(all.max)));
    let of = |victim| victims.iter().filter(|other| **other == victim).count();
    let kills = match of(Victim::Worker) {
        0 => format!("API {}", of(Victim::Api)),
        workers => format!("worker {workers}, API {}", of(Victim::Api)),
    };
    [
        design.title.to_owned(),
        rate,
        format!("{} / {}", millis(median(|turn| turn.p50_millis)), millis(median(|turn| turn.p99_millis))),
        grouped(median(|turn| turn.counted_per_second)),
        format!("{:.0} %", 100.0 * median(|turn| turn.left_behind)),
        kills,
        format!("{} ({})", grouped(verdict.acknowledged as f64), grouped(verdict.unknown as f64)),
        grouped(verdict.lost as f64),
        grouped(verdict.doubled as f64),
    ]
}

/// Markdown whose columns also stand below each other on a terminal.
fn table(rows: &[[String; COLUMNS.len()]]) -> String {
    let all: Vec<[String; COLUMNS.len()]> = std::iter::once(COLUMNS.map(String::from)).chain(rows.iter().cloned()).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for (place, row) in all.iter().enumerate() {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += &format!("| {} |\n", padded.join(" | "));
        if place == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text += &format!("|{}|\n", rules.join("|"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(acknowledged: [u64; 4], unknown: [u64; 4]) -> Ledger {
        Ledger { acknowledged: acknowledged.to_vec(), unknown: unknown.to_vec() }
    }

    #[test]
    fn what_one_product_lost_is_not_made_up_by_what_another_doubled() {
        // One lost, one doubled, and two whose unknown views were counted, or not.
        let verdict = judge(&ledger([5, 5, 5, 5], [0, 0, 2, 2]), &[1, 1, 1, 1], &[4, 9, 8, 6]);
        assert_eq!(verdict, Verdict { acknowledged: 20, unknown: 4, lost: 2, doubled: 3 });
    }

    #[test]
    fn every_process_of_a_design_is_killed_as_often_and_a_seed_says_when() {
        let count = |victims: &[Victim], victim| victims.iter().filter(|other| **other == victim).count();
        let of = |place: usize, seed| victims(&DESIGNS[place], 20, seed);
        assert_eq!((count(&of(0, 1), Victim::Worker), count(&of(0, 1), Victim::Api)), (20, 20));
        assert_eq!(of(1, 1), [Victim::Api; 20], "it has no worker");
        assert!(of(0, 1) == of(0, 1) && of(0, 1) != of(0, 2));
    }

    #[test]
    fn the_table_has_a_row_a_design_and_its_columns_stand_below_each_other() {
        let turn = |per_second| Turn { per_second, p50_millis: 1.0, p99_millis: 20.0, counted_per_second: 900.0, left_behind: 0.1 };
        let verdict = Verdict { acknowledged: 20_000, unknown: 12, lost: 0, doubled: 3 };
        let row = cells(&DESIGNS[4], &[turn(1_000.0), turn(3_000.0), turn(2_000.0)], &victims(&DESIGNS[4], 20, 1), verdict);
        let text = table(&[row]);
        let expected = ["2,000 (1,000–3,000)", "1.00 / 20", "900", "10 %", "worker 20, API 20", "20,000 (12)", "| 0 ", "| 3 "];
        assert!(expected.iter().all(|cell| text.contains(cell)), "{text}");
        let lengths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(lengths.len() == 3 && lengths.iter().all(|length| *length == lengths[0]), "{text}");
    }
}
