//! Finishes what others left half-way: replays of dead letters that Redis was not told of.
//!
//! Looks once a second, at one key of an index; whoever started the replay mostly was quicker.

use std::time::Duration;
use storage::mysql::dead_letters::finish_replays;
use storage::{MySql, Redis};
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps until the process is asked to stop. A store that is away is waited for; its absence is told elsewhere.
pub(crate) async fn run(mysql: MySql, redis: Redis, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        if let Err(error) = finish_replays(&mysql, &redis).await {
            tracing::debug!("replays wait to be finished: {error}");
        }
        shutdown.sleep(INTERVAL).await;
    }
}
