//! The same for views: clients send them through two APIs while APIs, workers, Redis and MySQL are killed, each of them also at
//! every pause point of a view's way; then all is healed and drained, and what MySQL holds is compared with what clients were
//! told. Beside it the textbook's worker, which must be seen to lose and to double.

mod faults;
mod judge;
mod report;
mod rest;
mod run;
mod tail;
pub mod textbook;
mod victims;
mod watch;
mod workload;

pub use faults::Fault;
pub use judge::{Booked, Outcome, Request, Rule, Violation, booked, judge};
pub use run::{Plan, Round, Verdict, round, run};
pub use workload::Counters;
