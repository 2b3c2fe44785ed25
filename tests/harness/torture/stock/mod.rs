//! The same for stock: clients reserve crossing baskets, commit, release, adjust and count through two APIs while APIs, worker and
//! MySQL are killed, answers are lost and rows are locked the other way round. Stock must never be oversold, each change must be
//! there as its client was told, and at each moment levels, movements and reservations must agree.

mod asking;
mod faults;
mod judge;
mod ledger;
mod report;
mod rest;
mod run;
mod told;
mod trade;
mod victims;
mod watch;
mod workload;

pub use faults::Fault;
pub use judge::{Rule, Violation, judge};
pub use ledger::{Ledger, Movement, Reservation};
pub use run::{Plan, Round, Verdict, round, run};
pub use told::{Call, Closing, Outcome, Request, Sight, State, Told, What};
pub use workload::Counters;
