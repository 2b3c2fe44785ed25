//! Histories of the real thing under faults: clients work on real servers while everything under them is killed, cut,
//! stopped and emptied, and what they were told is judged. The suite runs a short round; `cargo xtask torture` long ones.

mod connection;
mod faults;
mod frame;
mod history;
mod report;
mod run;
pub mod stock;
pub mod views;
mod workload;

pub use faults::Fault;
pub use history::{Call, Outcome, Rule, Violation, around, violations};
pub use report::{Progress, Told};
pub use run::{Plan, Round, Verdict, round, run};
pub use workload::Counters;
