//! Merges what waits while it cannot be drained, so that memory in Redis follows products and hours, and not views.
//!
//! A shard is merged while its drain fails or is held, and while it is far behind. Any number of workers may do it at once:
//! each call joins other records. Promises to hold Redis for a few milliseconds at a time and to leave it to others for
//! longer than it held it; never touches MySQL, and never the sealed batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storage::redis::merge::{self, Backlog};
use storage::redis::view_queue;
use storage::{Error, Redis};
use telemetry::metrics::DrainMetrics;
use telemetry::stop::Shutdown;
use tokio::sync::Mutex;

/// Between looks at the lists.
const LOOK: Duration = Duration::from_secs(1);

/// A shorter list waits for more: each call writes the whole record again that it joins others into.
const WORTH: u64 = merge::MOST_RECORDS;

/// But not for longer than this: a few records may be large ones.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Batches that may wait in a shard whose drain works before it counts as far behind; merging costs Redis more than draining.
const FAR_BEHIND: u64 = 8;

/// Redis is left to others for this many times as long as a call took: more than it takes pushes to come through.
const REST: u32 = 3;

/// What the drain and the merging of one worker know of each other.
pub(crate) struct Held {
    /// Shards whose last step failed, or was held by an operator.
    shards: Box<[AtomicBool]>,
    /// Who holds it may call a script that takes Redis for some milliseconds. The calls of a connection that come together are
    /// answered together, and views would wait for all of them.
    pub(crate) turn: Mutex<()>,
}

impl Held {
    pub(crate) fn new(shards: u16) -> Arc<Self> {
        Arc::new(Self { shards: (0..shards).map(|_| AtomicBool::new(false)).collect(), turn: Mutex::new(()) })
    }

    pub(crate) fn note(&self, shard: u16, held: bool) {
        self.shards[usize::from(shard)].store(held, Ordering::Relaxed);
    }

    fn is(&self, shard: u16) -> bool {
        self.shards[usize::from(shard)].load(Ordering::Relaxed)
    }
}

/// Merges until the process is asked to stop. A Redis that is away is waited for; its absence is told elsewhere.
pub(crate) async fn run(redis: Redis, held: Arc<Held>, metrics: Arc<DrainMetrics>, shutdown: Shutdown) {
    let mut merger = Merger { merged_at: vec![Instant::now(); held.shards.len()], redis, held, metrics };
    while !shutdown.is_requested() {
        if let Err(error) = merger.round(&shutdown).await {
            tracing::debug!("what waits is merged later: {error}");
        }
        shutdown.sleep(LOOK).await;
    }
}

struct Merger {
    redis: Redis,
    held: Arc<Held>,
    metrics: Arc<DrainMetrics>,
    /// When little was last waiting in each shard, or was merged.
    merged_at: Vec<Instant>,
}

impl Merger {
    /// Looks at all shards and merges where it is worth it.
    async fn round(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let session = self.redis.queue.session()?;
        for (shard, backlog) in (0..).zip(merge::backlogs(&session, &self.redis.keys).await?) {
            let (held, merged_at) = (self.held.is(shard), &mut self.merged_at[usize::from(shard)]);
            if !held || backlog.open == 0 {
                *merged_at = Instant::now();
            }
            let worth = held && (backlog.open >= WORTH || merged_at.elapsed() >= LONGEST_WAIT);
            if worth || is_far_behind(backlog) {
                *merged_at = Instant::now();
                self.merge(shard, backlog.open, shutdown).await?;
            }
        }
        Ok(())
    }

    /// Merges so many records of a shard, or some more.
    async fn merge(&self, shard: u16, records: u64, shutdown: &Shutdown) -> Result<(), Error> {
        let (mut taken, mut joined, mut entries) = (0, 0, 0);
        while taken < records && !shutdown.is_requested() {
            let session = self.redis.queue.session()?;
            let turn = self.held.turn.lock().await;
            let started = Instant::now();
            let merged = merge::merge(&session, &self.redis.keys, shard).await?;
            let took = started.elapsed();
            drop(turn);
            if merged.taken == 0 {
                break;
            }
            (taken, joined, entries) = (taken + merged.taken, joined + merged.joined, entries + merged.entries);
            self.metrics.merged_records.add(merged.joined);
            self.metrics.merged_entries.add(merged.entries);
            shutdown.sleep(took * REST).await;
        }
        tracing::debug!(shard, taken, joined, entries, "merged what waits");
        Ok(())
    }
}

/// Whether more waits than some batches take. What is merged already is left out, as far as the number of its records tells.
fn is_far_behind(backlog: Backlog) -> bool {
    let waiting = backlog.entries.saturating_sub(backlog.merged * merge::MOST_PAIRS);
    backlog.open >= WORTH && (backlog.open > FAR_BEHIND * view_queue::MOST_RECORDS || waiting > FAR_BEHIND * view_queue::MOST_PAIRS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_far_behind_by_records_or_by_what_they_hold_but_not_by_what_is_merged() {
        let backlog = |open, merged, entries| Backlog { open, merged, entries };
        assert!(is_far_behind(backlog(40_001, 0, 40_001)));
        assert!(is_far_behind(backlog(500, 0, 480_001)));
        assert!(!is_far_behind(backlog(500, 24, 480_001)));
        assert!(!is_far_behind(backlog(0, 0, 600_000)), "the rest of it is sealed");
        assert!(!is_far_behind(backlog(40_000, 0, 40_000)));
    }
}
