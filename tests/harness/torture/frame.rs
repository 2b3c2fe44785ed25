//! What a run has in common, whatever is tortured: rounds follow each other, each with a seed of its own and with faults dealt by it,
//! until the time is over or one of them fails.

use super::report::{Progress, Struck, Told};
use clap::ValueEnum;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// A round is not begun when less than this is left.
const SHORTEST_ROUND: Duration = Duration::from_secs(15);

/// A run of many rounds.
#[derive(Debug, Clone)]
pub struct Plan<F> {
    pub time: Duration,
    /// Of the first round; the next one has the next.
    pub seed: u64,
    /// Only these strike; empty: all.
    pub only: Vec<F>,
    /// In each round, beside those that every round has.
    pub faults: usize,
}

impl<F: ValueEnum> Plan<F> {
    /// The kinds that may strike.
    pub(super) fn kinds(&self) -> &[F] {
        if self.only.is_empty() { F::value_variants() } else { &self.only }
    }
}

/// What came of a round.
#[derive(Debug)]
pub struct Verdict<F, V, T = ()> {
    pub violations: Vec<V>,
    /// The violations with what is behind them, and what struck when.
    pub shown: String,
    /// Why it says nothing, where it does not.
    pub too_little: Option<String>,
    pub struck: BTreeMap<F, Struck>,
    pub totals: T,
}

impl<F, V, T: Default> Default for Verdict<F, V, T> {
    fn default() -> Self {
        Self { violations: Vec::new(), shown: String::new(), too_little: None, struck: BTreeMap::new(), totals: T::default() }
    }
}

impl<F, V, T> Verdict<F, V, T> {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.too_little.is_none()
    }
}

/// What a run did.
pub(super) struct Ran<F, V, T> {
    pub(super) rounds: u64,
    pub(super) took: Duration,
    pub(super) struck: BTreeMap<F, Struck>,
    /// Of the last round, where it failed.
    pub(super) failed: Option<Verdict<F, V, T>>,
}

/// Runs rounds. `next` makes the one of a seed, in which no fault strikes after the end, and says what is special of it; `round` runs
/// it, and says what it did.
pub(super) async fn rounds<F: Copy + Ord, V, T, R>(
    plan: &Plan<F>,
    told: impl Fn() -> Told + Send + 'static,
    next: impl Fn(u64, Instant) -> (R, &'static str),
    mut round: impl AsyncFnMut(&R) -> (Verdict<F, V, T>, String),
) -> Ran<F, V, T> {
    let started = Instant::now();
    let (until, progress) = (started + plan.time, Progress::start(plan.time, told));
    let (mut ran, mut longest) = (Ran { rounds: 0, took: Duration::ZERO, struck: BTreeMap::new(), failed: None }, SHORTEST_ROUND);
    while ran.failed.is_none() && (ran.rounds == 0 || Instant::now() + longest < until) {
        let (seed, began) = (plan.seed.wrapping_add(ran.rounds), Instant::now());
        let (this, special) = next(seed, until);
        ran.rounds += 1;
        progress.say(&format!("round {}, seed {seed}{special}", ran.rounds));
        let (verdict, did) = round(&this).await;
        for (fault, more) in &verdict.struck {
            ran.struck.entry(*fault).or_default().add(more);
        }
        // A last round that would be cut short says as much as it has time for.
        longest = longest.max(began.elapsed() / 2);
        progress.say(&format!("  {did} in {:.0} s, {} violations", began.elapsed().as_secs_f64(), verdict.violations.len()));
        ran.failed = (!verdict.is_good()).then_some(verdict);
    }
    progress.end();
    ran.took = started.elapsed();
    ran
}

impl<F, V, T> Ran<F, V, T> {
    /// Shows the round that failed, and says in one line what was found: `rule` is what a violation breaks, `more` is said of all.
    /// Returns whether nothing was found, and enough was judged.
    pub(super) fn end<R: Ord + Display>(&self, rule: impl Fn(&V) -> R, more: impl Fn(&[V]) -> String) -> bool {
        let Some(Verdict { violations, too_little, shown, .. }) = &self.failed else {
            println!("verdict: 0 violations");
            return true;
        };
        println!("{shown}");
        match too_little {
            Some(why) if violations.is_empty() => println!("verdict: judged too little: {why}"),
            _ => {
                let rules: BTreeSet<R> = violations.iter().map(rule).collect();
                let rules: Vec<String> = rules.iter().map(R::to_string).collect();
                println!("verdict: violated, {} times: {}{}", violations.len(), rules.join("; "), more(violations));
            }
        }
        false
    }
}

/// The faults of a round. Over the rounds of successive seeds each kind comes equally often: they take their faults from an endless row
/// of shuffled decks, one after the other.
pub(super) fn dealt<F: Copy>(kinds: &[F], seed: u64, count: usize) -> Vec<F> {
    let count = if kinds.is_empty() { 0 } else { count as u64 };
    (0..count).map(|nth| card(kinds, seed.wrapping_mul(count).wrapping_add(nth))).collect()
}

/// The card at a place of the endless row of decks.
fn card<F: Copy>(kinds: &[F], place: u64) -> F {
    let size = kinds.len() as u64;
    let mut deck = kinds.to_vec();
    fastrand::Rng::with_seed(place / size).shuffle(&mut deck);
    deck[(place % size) as usize]
}
