//! What Redis remembers of writers, so that it can be forgotten: see `crate::writers`.

use super::Session;
use super::errors::short;
use super::keys::Keys;
use super::scripts::SCRIPTS;
use super::view_queue::invoke;
use crate::{Error, Kind};
use domain::view::Writer;
use std::collections::{HashMap, HashSet};
use telemetry::metrics::RedisOp;

/// Most records, and most (product, record) pairs, that are looked through for writers: a few milliseconds of Redis. Where
/// more waits, the shard is looked at later.
const MOST_LOOKED_THROUGH: u64 = 20_000;

/// The writers of a shard at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Writers {
    /// Those of whom a record waits or is sealed.
    pub(crate) waiting: HashSet<Writer>,
    /// What is remembered of each.
    pub(crate) known: HashMap<Writer, Known>,
}

/// The last push of a writer that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) seq: u64,
    /// Running total of its views.
    pub(crate) accepted: u64,
    /// Both as they stand in Redis.
    text: String,
}

/// Reads the writers of a shard; `None` while too much waits to be looked through.
///
/// # Errors
/// As any command.
pub(crate) async fn writers(session: &Session, keys: &Keys, shard: u16) -> Result<Option<Writers>, Error> {
    let queue = keys.queue(shard);
    let mut call = invoke(&SCRIPTS.writers, &[&queue.wseq, &queue.entries, &queue.merged, &queue.open, &queue.batch]);
    let reply: Vec<::redis::Value> = session.script(RedisOp::Sweep, call.arg(MOST_LOOKED_THROUGH)).await?;
    let mut reply = reply.into_iter();
    let Some(waiting) = reply.next() else { return Ok(None) };
    let waiting: usize = from_redis(waiting)?;
    let texts: Vec<String> = reply.map(from_redis).collect::<Result<_, _>>()?;
    let (waiting, known) = texts.split_at_checked(waiting).ok_or_else(short)?;
    let known = known.chunks_exact(2).filter_map(|pair| Some((Writer::parse(&pair[0])?, Known::parse(&pair[1])?)));
    Ok(Some(Writers { waiting: waiting.iter().filter_map(|writer| Writer::parse(writer)).collect(), known: known.collect() }))
}

fn from_redis<T: ::redis::FromRedisValue>(value: ::redis::Value) -> Result<T, Error> {
    ::redis::from_redis_value(value).map_err(|_| Error::new(Kind::Bug, "Redis: writers returned something else"))
}

impl Known {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (seq, accepted) = text.split_once(' ')?;
        Some(Self { seq: seq.parse().ok()?, accepted: accepted.parse().ok()?, text: text.to_owned() })
    }
}

/// Forgets writers, at most 1,000, but none that pushed since it was read.
///
/// # Errors
/// As any command; repeat it.
pub(crate) async fn forget(session: &Session, keys: &Keys, shard: u16, writers: &[(Writer, Known)]) -> Result<(), Error> {
    let mut call = invoke(&SCRIPTS.forget_writers, &[&keys.queue(shard).wseq]);
    for (writer, known) in writers {
        call.arg(writer.to_string()).arg(&known.text);
    }
    session.script::<u64>(RedisOp::Sweep, &call).await.map(|_| ())
}
