//! Merging what waits while MySQL is away, held or slow: records of many pushes become few of many products.
//!
//! Memory then grows with (product, hour) pairs and not with views, as long as a shard sees at most [`MOST_PAIRS`] products an
//! hour; with more, records of one hour stand side by side, each with all products of its time. One script joins some
//! records of one shard, whole or not at all; any number of workers may call it at once.

use super::keys::Keys;
use super::scripts::SCRIPTS;
use super::{Session, view_queue};
use crate::Error;
use domain::view::MAX_VIEWS_PER_PAIR;
use telemetry::metrics::RedisOp;

/// Most records that one call takes, and most bytes of them, together some 3,600 (product, record) pairs of full pushes:
/// such a call holds Redis for 3 to 9 ms, most of it for the record that it joins them into (measured on 7.0).
pub const MOST_RECORDS: u64 = 256;
const MOST_BYTES: u64 = 32 * 1024;

/// Most (product, hour) pairs of a merged record: as many products as a batch may have. About 45 kB of text.
pub const MOST_PAIRS: u64 = view_queue::MOST_PRODUCTS;

/// Most writers of a merged record, each some 80 bytes of it; an API has one a thread.
const MOST_WRITERS: u64 = 256;

/// What one call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Records that left the open list; 0 when it is empty.
    pub taken: u64,
    /// Those of them that were joined. The others were sent under an earlier run of Redis or are none, and wait as they are.
    pub joined: u64,
    /// Entries that the queue has less.
    pub entries: u64,
}

/// Merges the head of a shard's open list.
///
/// # Errors
/// As any command; repeat it, or not.
pub async fn merge(session: &Session, keys: &Keys, shard: u16) -> Result<Merged, Error> {
    let (queue, run8): (_, &str) = (keys.queue(shard), session.run8());
    let mut call = view_queue::invoke(&SCRIPTS.merge, &[&queue.open, &queue.merged, &queue.entries]);
    call.arg(run8).arg(MOST_RECORDS).arg(MOST_BYTES).arg(MOST_PAIRS).arg(MOST_WRITERS).arg(MAX_VIEWS_PER_PAIR);
    let (taken, joined, entries): (u64, u64, i64) = session.script(RedisOp::Merge, &call).await?;
    Ok(Merged { taken, joined, entries: entries.max(0) as u64 })
}

/// What waits in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Records as they were pushed.
    pub open: u64,
    /// Records that stand before them.
    pub merged: u64,
    /// Entries of both and of the sealed batch.
    pub entries: u64,
}

/// What waits in each shard.
///
/// # Errors
/// As any command.
pub async fn backlogs(session: &Session, keys: &Keys) -> Result<Vec<Backlog>, Error> {
    let mut pipeline = ::redis::pipe();
    for shard in keys.shards().all() {
        let queue = keys.queue(shard);
        pipeline.llen(&queue.open).llen(&queue.merged).get(&queue.entries);
    }
    let counts: Vec<Option<i64>> = session.pipeline(RedisOp::Merge, &pipeline).await?;
    let number = |count: Option<i64>| count.unwrap_or(0).max(0) as u64;
    let backlog = |of: &[Option<i64>]| Backlog { open: number(of[0]), merged: number(of[1]), entries: number(of[2]) };
    Ok(counts.chunks_exact(3).map(backlog).collect())
}
