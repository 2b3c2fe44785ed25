//! What a run of views says in the end.

use super::faults::Fault;
use super::judge::{Rule, Violation};
use super::workload::Counters;
use crate::torture::report::{Struck, table};
use indicatif::HumanCount;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What MySQL, Redis and the account had at the ends of all rounds together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub persisted: u64,
    pub dead: u64,
    /// As the account says.
    pub lost: u64,
    /// Views in what was cut off Redis's log.
    pub gone: u64,
}

impl Totals {
    pub(super) fn add(&mut self, more: &Self) {
        self.persisted += more.persisted;
        self.dead += more.dead;
        self.lost += more.lost;
        self.gone += more.gone;
    }
}

/// Prints what a run did.
pub(super) fn print(seed: u64, rounds: u64, took: Duration, counters: &Counters, totals: &Totals, struck: &BTreeMap<Fault, Struck>) {
    let of = |count: &AtomicU64| HumanCount(count.load(Ordering::Relaxed));
    println!("\nseeds {seed} to {}, {rounds} rounds in {:.0} s", seed.wrapping_add(rounds.saturating_sub(1)), took.as_secs_f64());
    println!("requests {}, totals shown {}", of(&counters.requests), of(&counters.shown));
    println!("views {} accepted, {} refused, {} doubtful", of(&counters.accepted), of(&counters.refused), of(&counters.doubtful));
    println!(
        "MySQL {} counted + {} set aside; {} lost by the account, of {} in the logs that were cut",
        HumanCount(totals.persisted),
        HumanCount(totals.dead),
        HumanCount(totals.lost),
        HumanCount(totals.gone)
    );
    let kills = struck.iter().filter(|(fault, _)| fault.kills());
    let sums = kills.fold([0, 0], |[all, unanswered], (_, struck)| [all + struck.times, unanswered + struck.unanswered]);
    println!("kill -9: {}, of these {} while requests were unanswered", sums[0], sums[1]);
    table(struck.iter().map(|(fault, struck)| (fault.name(), *struck)));
}

/// One line that says what was found.
pub(super) fn verdict(violations: &[Violation], too_little: Option<&str>) -> String {
    if violations.is_empty() {
        return too_little.map_or("verdict: 0 violations".to_owned(), |why| format!("verdict: judged too little: {why}"));
    }
    let views = |rule| violations.iter().filter(|found| found.rule == rule).map(|found| found.views).sum::<u64>();
    let rules: BTreeSet<Rule> = violations.iter().map(|violation| violation.rule).collect();
    let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
    format!(
        "verdict: violated, {} times: {}; {} views lost, {} doubled",
        violations.len(),
        rules.join("; "),
        views(Rule::Lost),
        views(Rule::Doubled)
    )
}
