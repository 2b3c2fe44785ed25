//! What every process says of itself: its logs, its metrics and its health.
//!
//! Also what all programs share at their edges: reading settings and secrets, asking for tokens, and being asked to end.
//! It knows no store and no domain type: others tell it what happened, it never goes to look.

pub mod config;
mod distribution;
mod exposition;
pub mod health;
mod http_metrics;
mod instruments;
mod labels;
pub mod log;
pub mod metrics;
pub mod ops;
pub mod pause_point;
pub mod problem;
pub mod scope;
pub mod stop;
pub mod tokens;

/// Which build this is: the version of the workspace and the commit it was built from.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Build {
    pub version: &'static str,
    pub commit: &'static str,
    pub binary: &'static str,
}

impl Build {
    /// `INVENTORY_COMMIT` is read when this crate is compiled, not when it runs.
    #[must_use]
    pub fn of(binary: &'static str) -> Self {
        let commit = option_env!("INVENTORY_COMMIT").unwrap_or("unknown");
        Self { version: env!("CARGO_PKG_VERSION"), commit, binary }
    }
}
