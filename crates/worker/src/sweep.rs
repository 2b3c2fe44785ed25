//! Finishes what others left half-way: replays of dead letters that Redis was not told of.
//!
//! Looks once a second, at one key of an index; whoever started the replay mostly was quicker.

use std::time::Duration;
use storage::mysql::dead_letters::finish_replays;
use storage::{Kind, MySql, Redis};
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps until the process is asked to stop. A store that is away is waited for; its absence is told elsewhere. What else
/// fails is told once, until a sweep succeeds again.
pub(crate) async fn run(mysql: MySql, redis: Redis, shutdown: Shutdown) {
    let mut told = false;
    while !shutdown.is_requested() {
        match finish_replays(&mysql, &redis).await {
            Ok(()) => told = false,
            Err(error) if told || matches!(error.kind(), Kind::Unavailable | Kind::Unknown) => {
                tracing::debug!("replays wait to be finished: {error}");
            }
            Err(error) => {
                told = true;
                tracing::warn!("replays cannot be finished, so their views may not be shown yet; tried again each second: {error}");
            }
        }
        shutdown.sleep(INTERVAL).await;
    }
}
