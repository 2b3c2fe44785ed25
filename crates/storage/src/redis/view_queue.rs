//! The view queue: one list of records a shard, and the pending counts beside it.
//!
//! - **push**: a writer adds one record to `open` and its counts to `pend`, and leaves a ticket if the list was empty.
//! - **ticket**: a worker waits for one with BLPOP. It announces records and is none: a lost ticket costs a sweep.
//! - **merge**: joins records at the head of `open` into the last one of `merged`, while they cannot be drained (`merge.rs`).
//! - **claim**: moves records from `merged`, then from `open`, into the shard's one sealed batch, with their sums. Nothing
//!   leaves Redis.
//! - **settle**: after the batch's COMMIT in MySQL, forgets it and takes its sums from `pend`.
//! - **shown** views = cached total of MySQL, which never contains an unsettled batch, + pending (`shown_views.rs`).
//!
//! At most one batch a shard is sealed. Whoever is killed or repeated at any point, the watermarks in MySQL
//! decide what counts. A batch ends at `most_views`, [`MOST_PRODUCTS`], [`MOST_RECORDS`] or [`MOST_PAIRS`]; the capacity is the API's to keep.

use super::errors::short;
use super::event_ids::{self, Event, Fate};
use super::keys::Keys;
use super::scripts::SCRIPTS;
use super::view_writers::Known;
use super::{Node, Session, workers};
use crate::{Error, Kind};
use ::redis::aio::MultiplexedConnection;
use ::redis::{Script, ScriptInvocation};
use domain::view::{Record, pushed_at_ms};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::metrics::{RedisOp, StoreMetrics};
use uuid::Uuid;

/// Products that one call of settle takes out of a batch: some 2 ms of Redis.
const SETTLED_AT_ONCE: u64 = 500;

/// Most distinct products of a batch.
pub const MOST_PRODUCTS: u64 = 5_000;

/// Most records of a batch, for times when each push carries a view or a few; smaller batches would repeat a product's row more
/// often. A claim takes 3.3 µs for a record and 0.4 µs for a pair, so that it holds Redis for at most 40 ms (measured on 7.0).
pub const MOST_RECORDS: u64 = 5_000;

/// Most (product, record) pairs of a batch; see [`MOST_RECORDS`]. A merged record has at most 5,000.
pub const MOST_PAIRS: u64 = 60_000;

/// A call of a script with its keys, in the order of its header.
pub(super) fn invoke<'a>(script: &'a Script, keys: &[&String]) -> ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    for key in keys {
        call.key(key);
    }
    call
}

/// What a writer sends to one shard.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    pub shard: u16,
    /// Its `accepted` is what the writer knows to be stored before it; the record that is kept carries the running total.
    pub record: &'a Record,
    /// Counted beside what the record has, each once under its id; if nothing is new, no record is kept.
    pub events: &'a [Event],
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// False when the sequence number was seen before: the record is there already, or a later one is.
    pub stored: bool,
    /// The writer's views in this shard that were ever stored.
    pub accepted: u64,
    /// Entries waiting in the shard.
    pub entries: u64,
    /// What became of each event with an id; empty if the push was not stored.
    pub fates: Vec<Fate>,
}

/// Sends pushes, each to its shard, in one round trip; what became of each, in their order. A repeat with the same sequence number
/// is harmless; it must carry the `run8` of its first sending.
///
/// # Errors
/// Of all pushes or of one. `Full`, `Unavailable`: nothing of it was stored. Any other kind: it may have been; repeat it as it is.
pub async fn push_each(
    session: &Session,
    keys: &Keys,
    pushes: &[Push<'_>],
    wake_at_views: u64,
) -> Result<Vec<Result<Pushed, Error>>, Error> {
    let mut pipeline = ::redis::pipe();
    for Push { shard, record, events } in pushes {
        let queue = keys.queue(*shard);
        let mut call = invoke(&SCRIPTS.push, &[&queue.open, &queue.wseq, &queue.pend, &queue.entries, &queue.ready, &queue.waiting]);
        call.arg(wake_at_views);
        for field in record.fields() {
            call.arg(field);
        }
        if !events.is_empty() {
            event_ids::add(&mut call, keys, *shard, record.at_ms, events);
        }
        pipeline.invoke_script(&call);
    }
    let replies: Vec<Result<(u8, u64, i64, String), Error>> = session.each(RedisOp::Push, pipeline).await?;
    let pushed = |(stored, accepted, entries, fates): (u8, u64, i64, String)| Pushed {
        stored: stored == 1,
        accepted,
        entries: entries.max(0) as u64,
        fates: event_ids::fates(&fates),
    };
    Ok(replies.into_iter().map(|reply| reply.map(pushed)).collect())
}

/// Sends one push.
///
/// # Errors
/// As [`push_each`].
pub async fn push(
    session: &Session,
    keys: &Keys,
    shard: u16,
    record: &Record,
    events: &[Event],
    wake_at_views: u64,
) -> Result<Pushed, Error> {
    push_each(session, keys, &[Push { shard, record, events }], wake_at_views).await?.pop().ok_or_else(short)?
}

/// What a claim found.
#[derive(Debug)]
pub enum Claimed {
    Nothing,
    /// Another worker has the batch to itself for now.
    Busy,
    Batch {
        id: String,
        records: Vec<Vec<u8>>,
        /// Whether records wait behind this batch.
        more: bool,
    },
}

/// How a worker claims.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    pub new_id: &'a str,
    pub worker: &'a str,
    /// How long the worker has the batch to itself; a convenience, not a guarantee.
    pub deadline: Duration,
    pub most_views: u64,
}

/// Seals the next batch of a shard, or returns the one that is sealed.
///
/// # Errors
/// As any command; a batch may have been sealed, and the next claim returns it.
pub async fn claim(session: &Session, keys: &Keys, shard: u16, claim: &Claim<'_>) -> Result<Claimed, Error> {
    let queue = keys.queue(shard);
    let lists = [&queue.open, &queue.merged, &queue.batch, &queue.batch_id];
    let names = [&lists[..], &[&queue.sums, &queue.sv, &queue.ready, &queue.waiting, &queue.claimant, &queue.entries]].concat();
    let mut call = invoke(&SCRIPTS.claim, &names);
    call.arg(claim.new_id)
        .arg(claim.worker)
        .arg(claim.deadline.as_millis() as u64)
        .arg(claim.most_views)
        .arg(MOST_PRODUCTS)
        .arg(MOST_RECORDS)
        .arg(MOST_PAIRS);
    let mut reply: Vec<Vec<u8>> = session.script(RedisOp::Claim, &call).await?;
    match reply.first().map(Vec::as_slice) {
        Some(b"none") => Ok(Claimed::Nothing),
        Some(b"busy") => Ok(Claimed::Busy),
        Some(word @ (b"batch" | b"more")) if reply.len() > 1 => {
            let more = word == b"more";
            let records = reply.split_off(2);
            let id = String::from_utf8(reply.swap_remove(1)).map_err(|_| Error::new(Kind::Corrupt, "Redis: batch_id is no text"))?;
            Ok(Claimed::Batch { id, records, more })
        }
        _ => Err(Error::new(Kind::Bug, "Redis: claim returned something else")),
    }
}

/// Forgets a batch that MySQL has committed, some products at a time; `exact` as [`domain::view::Tally::is_exact`]. Returns whether it
/// was still there; if not, the cached totals of its products, `ids`, are dropped.
///
/// # Errors
/// As any command; repeat it.
pub async fn settle(
    session: &Session,
    keys: &Keys,
    shard: u16,
    batch: &str,
    exact: bool,
    worker: &str,
    ids: &BTreeSet<u64>,
) -> Result<bool, Error> {
    let call = settlement(session, keys, shard, batch, exact, worker);
    loop {
        match session.script::<u8>(RedisOp::Settle, &call).await? {
            0 => return forget_totals(session, keys, shard, ids).await.map(|()| false),
            1 => return Ok(true),
            _ => {}
        }
    }
}

/// A call of settle for some products of a batch.
fn settlement(session: &Session, keys: &Keys, shard: u16, batch: &str, exact: bool, worker: &str) -> ScriptInvocation<'static> {
    let queue = keys.queue(shard);
    let mut call =
        invoke(&SCRIPTS.settle, &[&queue.batch, &queue.batch_id, &queue.sums, &queue.pend, &queue.entries, &queue.sv, &queue.claimant]);
    call.arg(batch).arg(u8::from(exact)).arg(keys.total_prefix(session.run8(), shard)).arg(worker).arg(SETTLED_AT_ONCE);
    call
}

/// Drops the cached totals of products of one shard, so that they are read from MySQL anew: a settle of a batch that
/// nobody has. A reader that began before must begin again, and stores nothing that is older.
///
/// # Errors
/// As any command; repeat it.
pub async fn forget_totals(session: &Session, keys: &Keys, shard: u16, ids: &BTreeSet<u64>) -> Result<(), Error> {
    let mut call = settlement(session, keys, shard, &Uuid::new_v4().to_string(), false, "");
    for id in ids {
        call.arg(*id);
    }
    session.script::<u8>(RedisOp::Settle, &call).await.map(|_| ())
}

/// Views that wait in a shard's lists.
///
/// # Errors
/// As any command.
pub async fn views_waiting(session: &Session, keys: &Keys, shard: u16) -> Result<u64, Error> {
    let views: Option<i64> = session.command(RedisOp::Sweep, &::redis::Cmd::get(&keys.queue(shard).waiting)).await?;
    Ok(views.unwrap_or(0).max(0) as u64)
}

/// How much later than asked a blocking reply may come before its connection is given up.
const SILENCE: Duration = Duration::from_secs(2);

/// Leaves a ticket for every shard, in place of those that are there. Its text only says where it came from.
///
/// # Errors
/// As any command; `Full` when Redis has no memory for it.
pub async fn announce(session: &Session, keys: &Keys) -> Result<(), Error> {
    let mut pipeline = ::redis::pipe();
    for shard in keys.shards().all() {
        let ready = &keys.queue(shard).ready;
        pipeline.del(ready).ignore().rpush(ready, "flush").ignore();
    }
    session.pipeline(RedisOp::Ticket, &pipeline).await
}

/// A connection that waits for tickets, and only for them.
pub struct Tickets {
    connection: MultiplexedConnection,
    metrics: Arc<StoreMetrics>,
    ready: Vec<String>,
}

impl Tickets {
    /// # Errors
    /// Redis is away.
    pub async fn open(node: &Node, keys: &Keys) -> Result<Self, Error> {
        let ready = keys.shards().all().map(|shard| keys.queue(shard).ready.clone()).collect();
        let mut connection = node.blocking_connection().await?;
        // So that whoever runs the shop sees which workers there are; a server that refuses it serves us all the same.
        let _ = ::redis::cmd("CLIENT").arg("SETNAME").arg(workers::own_name()).exec_async(&mut connection).await;
        Ok(Self { connection, metrics: node.metrics().clone(), ready })
    }

    /// Waits for a ticket and returns its shard; `None` after `limit`.
    ///
    /// # Errors
    /// The connection is lost or silent: open another. A ticket that was popped meanwhile is gone, which a sweep makes up for.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<u16>, Error> {
        let mut command = ::redis::cmd("BLPOP");
        command.arg(&self.ready).arg(limit.as_secs_f64());
        let started = Instant::now();
        let reply = tokio::time::timeout(limit + SILENCE, command.query_async(&mut self.connection)).await;
        self.metrics.observe_redis(RedisOp::Ticket, started.elapsed());
        let reply: Result<Option<(String, String)>, Error> = match reply {
            Ok(reply) => reply.map_err(|error| super::errors::of_driver(&error)),
            Err(_) => Err(Error::new(Kind::Unavailable, "Redis: BLPOP was not answered")),
        };
        let reply = reply.inspect_err(|error| self.metrics.redis_error(RedisOp::Ticket, error.kind().label()))?;
        Ok(reply.and_then(|(key, _)| self.ready.iter().position(|ready| *ready == key)).map(|shard| shard as u16))
    }
}

/// What one shard of the queue holds.
#[derive(Debug, Clone)]
pub struct ShardStatus {
    pub views_waiting: u64,
    pub entries: u64,
    pub sv: String,
    /// The sealed batch and its views.
    pub sealed: Option<(String, u64)>,
    /// When the first record of the sealed batch was pushed, milliseconds since 1970 UTC.
    pub sealed_at_ms: Option<u64>,
    /// The same of the first record that waits behind it.
    pub waiting_at_ms: Option<u64>,
    /// Whether no record and no text waits or is sealed: all that was ever pushed is in MySQL.
    pub is_empty: bool,
    pub writers: Vec<WriterStatus>,
}

/// What Redis stored last of one writer.
#[derive(Debug, Clone)]
pub struct WriterStatus {
    /// As text, 32 hexadecimal digits.
    pub writer: String,
    pub seq: u64,
    /// Running total of its views.
    pub accepted: u64,
}

/// Reads all shards, each as one moment.
///
/// # Errors
/// As any command.
pub async fn status(session: &Session, keys: &Keys) -> Result<Vec<ShardStatus>, Error> {
    status_with(session, keys, true).await
}

/// The same without the writers, who may be thousands: for looks that come every second.
///
/// # Errors
/// As any command.
pub async fn status_without_writers(session: &Session, keys: &Keys) -> Result<Vec<ShardStatus>, Error> {
    status_with(session, keys, false).await
}

async fn status_with(session: &Session, keys: &Keys, writers: bool) -> Result<Vec<ShardStatus>, Error> {
    let mut pipeline = ::redis::pipe();
    for shard in keys.shards().all() {
        let queue = keys.queue(shard);
        let lists = [&queue.open, &queue.merged, &queue.batch, &queue.batch_id];
        let names = [&lists[..], &[&queue.sums, &queue.wseq, &queue.waiting, &queue.entries, &queue.sv]].concat();
        pipeline.invoke_script(invoke(&SCRIPTS.status, &names).arg(u8::from(writers)));
    }
    let replies: Vec<Vec<Option<Vec<u8>>>> = session.pipeline(RedisOp::Status, &pipeline).await?;
    replies.iter().map(|reply| shard_status(reply)).collect()
}

fn shard_status(reply: &[Option<Vec<u8>>]) -> Result<ShardStatus, Error> {
    let [waiting, entries, sv, sealed, views, first_sealed, first_waiting, writers @ ..] = reply else {
        return Err(short());
    };
    let text = |field: &Option<Vec<u8>>| field.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let number = |field: &Option<Vec<u8>>| text(field).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).max(0) as u64;
    let writer = |pair: &[Option<Vec<u8>>]| -> Option<WriterStatus> {
        let known = Known::parse(&text(pair.get(1)?)?)?;
        Some(WriterStatus { writer: text(pair.first()?)?, seq: known.seq, accepted: known.accepted })
    };
    let pushed_at = |record: &Option<Vec<u8>>| record.as_deref().and_then(pushed_at_ms);
    Ok(ShardStatus {
        views_waiting: number(waiting),
        entries: number(entries),
        sv: text(sv).unwrap_or_default(),
        sealed: text(sealed).map(|id| (id, number(views))),
        sealed_at_ms: pushed_at(first_sealed),
        waiting_at_ms: pushed_at(first_waiting),
        is_empty: first_sealed.is_none() && first_waiting.is_none(),
        writers: writers.chunks(2).filter_map(writer).collect(),
    })
}

/// The counters of claims and settles of all shards, to see whether a shard moved.
///
/// # Errors
/// As any command.
pub async fn moves(session: &Session, keys: &Keys) -> Result<Vec<String>, Error> {
    let mut pipeline = ::redis::pipe();
    for shard in keys.shards().all() {
        pipeline.get(&keys.queue(shard).sv);
    }
    let moves: Vec<Option<String>> = session.pipeline(RedisOp::Status, &pipeline).await?;
    Ok(moves.into_iter().map(|sv| sv.unwrap_or_else(|| "0".to_owned())).collect())
}
