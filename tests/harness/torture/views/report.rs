//! What a run of views says in the end.

use super::faults::Fault;
use super::judge::{Rule, Violation};
use super::workload::Counters;
use crate::torture::frame::Ran;
use crate::torture::report::{began, kills, table};
use indicatif::HumanCount;
use std::sync::atomic::{AtomicU64, Ordering};

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
pub(super) fn print(seed: u64, ran: &Ran<Fault, Violation, Totals>, counters: &Counters, totals: &Totals) {
    let of = |count: &AtomicU64| HumanCount(count.load(Ordering::Relaxed));
    began(seed, ran);
    println!("requests {}, totals shown {}", of(&counters.requests), of(&counters.shown));
    println!("views {} accepted, {} refused, {} doubtful", of(&counters.accepted), of(&counters.refused), of(&counters.doubtful));
    println!(
        "MySQL {} counted + {} set aside; {} lost by the account, of {} in the logs that were cut",
        HumanCount(totals.persisted),
        HumanCount(totals.dead),
        HumanCount(totals.lost),
        HumanCount(totals.gone)
    );
    kills(ran.struck.iter().filter(|(fault, _)| fault.kills()).map(|(_, struck)| struck));
    table(ran.struck.iter().map(|(fault, struck)| (fault.name(), *struck)));
}

/// How many views that is.
pub(super) fn sums(violations: &[Violation]) -> String {
    let views = |rule| violations.iter().filter(|found| found.rule == rule).map(|found| found.views).sum::<u64>();
    format!("; {} views lost, {} doubled", views(Rule::Lost), views(Rule::Doubled))
}
