//! Real servers and real programs for the tests: a [`Shop`] is a database of its own, a Redis of its own, and as many
//! `inventory-api` and `inventory-worker` processes as a test wants, which it may kill, stop and start again.
//!
//! One MariaDB serves a whole test run; a test that hurts MySQL starts its own. Everything dies with the test
//! process. Nothing here sleeps: tests wait for a condition, with a deadline.

mod books;
mod command;
mod crowd;
mod hung;
mod locks;
mod pause_points;
mod products;
mod program;
mod proxy;
mod redis_log;
mod reply;
mod shop;
pub mod torture;

pub use books::{Books, record, text};
pub use command::{Outcome, abandoned_pipe};
pub use crowd::{Answer, Crowd, Told, view};
pub use hung::HungMysql;
pub use locks::RowLock;
pub use pause_points::{Arrival, Held, PausePoints};
pub use products::Seen;
pub use program::{Program, metric_in, programs_are_in};
pub use proxy::Proxy;
pub use reply::{Reply, pointers};
pub use shop::{Shop, ShopOptions};

use std::time::{Duration, Instant};

/// How long a test waits for what must come: far above what it takes, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` gives a value, and fails the test after `deadline`, naming `what`.
pub async fn eventually<T>(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A seed for a test's randomness: `SEED` of the environment, or a new one. Printed, so that a failure can be run again.
#[must_use]
pub fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    seed
}
