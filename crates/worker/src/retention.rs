//! Deletes what has served its time: answers kept for repeated requests, hourly buckets, dead letters that are done with,
//! reservations that ended long ago, and what both stores remember of writers that are long gone.
//!
//! In small pieces with a pause between them, so that neither a writer nor a replica waits for it. Any number of workers
//! may do it at once; which of them deletes a row does not matter.

use std::sync::Arc;
use std::time::Duration;
use storage::mysql::stock_retention::{self, RESERVATIONS_PIECE};
use storage::mysql::{RETENTION_PIECE, idempotency, view_retention};
use storage::{Error, Kind, MySql, Redis, writers};
use telemetry::metrics::{KeptTable, Label, RetentionMetrics};
use telemetry::stop::Shutdown;

/// Between looks at what is kept for hours or days.
const INTERVAL: Duration = Duration::from_secs(60);

/// Between looks at what is kept for months.
const LONG_INTERVAL: Duration = Duration::from_secs(3600);

/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Retention {
    pub(crate) mysql: MySql,
    pub(crate) redis: Redis,
    pub(crate) metrics: Arc<RetentionMetrics>,
}

impl Retention {
    /// Goes on until the process is asked to stop.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        tokio::join!(
            self.tidy(KeptTable::Idempotency, INTERVAL, &shutdown),
            self.tidy(KeptTable::ViewMarks, INTERVAL, &shutdown),
            self.tidy(KeptTable::ViewHours, LONG_INTERVAL, &shutdown),
            self.tidy(KeptTable::DeadLetters, LONG_INTERVAL, &shutdown),
            self.tidy(KeptTable::Reservations, LONG_INTERVAL, &shutdown),
        );
    }

    /// Deletes piece by piece whatever is old, and looks again after `interval`. A store that is away is waited for; what else
    /// fails is told each time.
    async fn tidy(&self, table: KeptTable, interval: Duration, shutdown: &Shutdown) {
        while !shutdown.is_requested() {
            let pause = match self.piece(table).await {
                Ok((deleted, more)) => {
                    self.metrics.deleted[table].add(deleted);
                    if more { PAUSE } else { interval }
                }
                Err(error) => {
                    if !matches!(error.kind(), Kind::Unavailable | Kind::Conflict | Kind::Unknown) {
                        let table = table.as_str();
                        tracing::warn!("rows of {table} that have served their time cannot be deleted; tried again each minute: {error}");
                    }
                    INTERVAL
                }
            };
            shutdown.sleep(pause).await;
        }
    }

    /// Deletes a piece; returns how many rows, and whether there are more.
    async fn piece(&self, table: KeptTable) -> Result<(u64, bool), Error> {
        let (deleted, piece) = match table {
            KeptTable::Idempotency => (idempotency::forget(&self.mysql).await?, RETENTION_PIECE),
            KeptTable::ViewHours => (view_retention::forget_hours(&self.mysql).await?, RETENTION_PIECE),
            KeptTable::DeadLetters => (view_retention::forget_letters(&self.mysql).await?, RETENTION_PIECE),
            KeptTable::Reservations => (stock_retention::forget_reservations(&self.mysql).await?, RESERVATIONS_PIECE),
            KeptTable::ViewMarks => return self.writers().await,
        };
        Ok((deleted, deleted == piece))
    }

    async fn writers(&self) -> Result<(u64, bool), Error> {
        let (mut retired, mut more) = (0, false);
        for shard in self.redis.keys.shards().all() {
            let round = writers::retire(&self.mysql, &self.redis, shard).await?;
            retired += round.retired;
            more |= round.more;
        }
        Ok((retired, more))
    }
}
