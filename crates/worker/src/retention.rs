//! Deletes what has served its time: answers kept for repeated requests.
//!
//! In small pieces with a pause between them, so that neither a writer nor a replica waits for it. Any number of workers
//! may do it at once; which of them deletes a row does not matter.

use std::sync::Arc;
use std::time::Duration;
use storage::mysql::idempotency;
use storage::{Kind, MySql};
use telemetry::metrics::{KeptTable, RetentionMetrics};
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(60);

/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(100);

/// Goes on until the process is asked to stop. A store that is away is waited for; what else fails is told each time.
pub(crate) async fn run(mysql: MySql, metrics: Arc<RetentionMetrics>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let pause = match idempotency::forget(&mysql).await {
            Ok(deleted) => {
                metrics.deleted[KeptTable::Idempotency].add(deleted);
                if deleted < idempotency::PIECE { INTERVAL } else { PAUSE }
            }
            Err(error) => {
                if !matches!(error.kind(), Kind::Unavailable | Kind::Conflict | Kind::Unknown) {
                    tracing::warn!("rows of idempotency that have served their time cannot be deleted; tried again each minute: {error}");
                }
                INTERVAL
            }
        };
        shutdown.sleep(pause).await;
    }
}
