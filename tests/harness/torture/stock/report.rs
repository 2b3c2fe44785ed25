//! What a run of stock says in the end.

use super::faults::Fault;
use super::judge::Violation;
use super::ledger::Ledger;
use super::told::State;
use super::workload::Counters;
use crate::torture::frame::Ran;
use crate::torture::report::{began, kills, table};
use indicatif::HumanCount;
use std::sync::atomic::{AtomicU64, Ordering};

/// What MySQL had at the ends of all rounds together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub movements: u64,
    pub reservations: u64,
    pub committed: u64,
    pub released: u64,
    pub expired: u64,
    /// That MySQL met while rows were locked the other way round.
    pub deadlocks: u64,
}

impl Totals {
    pub(super) fn of(ledger: &Ledger, deadlocks: u64) -> Self {
        let ended = |state| ledger.reservations.values().filter(|row| row.state == state).count() as u64;
        let (movements, reservations) = (ledger.movements.len() as u64, ledger.reservations.len() as u64);
        let [committed, released, expired] = [State::Committed, State::Released, State::Expired].map(ended);
        Self { movements, reservations, committed, released, expired, deadlocks }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.movements += more.movements;
        self.reservations += more.reservations;
        self.committed += more.committed;
        self.released += more.released;
        self.expired += more.expired;
        self.deadlocks += more.deadlocks;
    }
}

/// Prints what a run did.
pub(super) fn print(seed: u64, ran: &Ran<Fault, Violation, Totals>, counters: &Counters, totals: &Totals) {
    let of = |count: &AtomicU64| HumanCount(count.load(Ordering::Relaxed));
    began(seed, ran);
    println!(
        "requests {}, of them refused {}, consistent snapshots {}",
        of(&counters.requests),
        of(&counters.refused),
        of(&counters.snapshots)
    );
    println!(
        "acknowledged {} reservations, {} commits and releases, {} adjustments and counts",
        of(&counters.reserved),
        of(&counters.closed),
        of(&counters.changed)
    );
    println!("in doubt until they were sent again {}, done and sent again {}", of(&counters.resolved), of(&counters.repeated));
    let Totals { movements, reservations, committed, released, expired, deadlocks } = totals;
    let [movements, reservations, committed, released, expired, deadlocks] =
        [movements, reservations, committed, released, expired, deadlocks].map(|count| HumanCount(*count));
    println!(
        "MySQL {movements} movements, {reservations} reservations: {committed} committed, {released} released, {expired} expired; \
         {deadlocks} deadlocks"
    );
    kills(ran.struck.iter().filter(|(fault, _)| fault.kills()).map(|(_, struck)| struck));
    table(ran.struck.iter().map(|(fault, struck)| (fault.name(), *struck)));
}
