//! The two protocols as small state machines, every interleaving of which is tried.
//!
//! `prices.rs` is how a price is written and read, `views.rs` how views are pushed, drained and shown; each step is one
//! call to a server, and faults are steps with a budget. `search.rs` walks all reachable states and gives a shortest
//! trace to one that breaks a promise. The tests run the protocols, which must hold, and versions of them that lack one
//! rule, which must fail: a search that finds nothing there would prove nothing here.
//!
//! What a small model proves: that the rules suffice for one product, two or three writers and two readers or workers,
//! under the faults named, whatever the order of their steps. What it does not: anything about more of them, about
//! several products in one statement, about time limits and liveness, or about the code. The same traces are played on
//! the real programs in `tests/it/faults`. It assumes of MySQL that a row's lock is released only after its COMMIT is
//! visible to new reads, and that a locking read returns the newest committed row; of Redis, that a script is atomic.

pub mod prices;
#[cfg(test)]
mod prices_tests;
pub mod search;
pub mod views;
#[cfg(test)]
mod views_tests;
