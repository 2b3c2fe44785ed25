//! Shown views of products: the cached total of MySQL, which never contains an unsettled batch, + what is pending.
//!
//! Both are read as one moment, by script. Where a total is not cached it is read from MySQL and stored only if no batch of
//! the shard was sealed or settled meanwhile, so what is shown never falls and at rest is exact.

use super::errors::short;
use super::keys::Keys;
use super::scripts::SCRIPTS;
use super::view_queue::invoke;
use super::{Redis, Session};
use crate::Error;
use ::redis::Value;
use domain::ProductId;
use std::collections::BTreeMap;
use telemetry::metrics::RedisOp;

/// A product's views: those in MySQL without any unsettled batch, and those on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Views {
    pub persisted: u64,
    pub pending: u64,
}

impl Views {
    /// What is shown.
    #[must_use]
    pub fn total(self) -> u64 {
        self.persisted.saturating_add(self.pending)
    }
}

/// What the queue alone knows of a product's views, as one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// As in [`Views`], if it is cached.
    pub persisted: Option<u64>,
    pub pending: u64,
}

fn number(value: &Value) -> Option<u64> {
    let Value::BulkString(digits) = value else { return None };
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(number.max(0) as u64)
}

fn text(value: &Value) -> Option<String> {
    let Value::BulkString(text) = value else { return None };
    String::from_utf8(text.clone()).ok()
}

/// Which reply belongs to which product.
pub(super) struct ShownPlan {
    shards: BTreeMap<u16, Vec<usize>>,
    products: usize,
}

/// Adds one call a shard to a pipeline.
pub(super) fn add_shown(pipeline: &mut ::redis::Pipeline, keys: &Keys, session: &Session, ids: &[ProductId]) -> ShownPlan {
    let mut shards = BTreeMap::<u16, Vec<usize>>::new();
    for (place, id) in ids.iter().enumerate() {
        shards.entry(keys.shards().of(*id)).or_default().push(place);
    }
    for (shard, places) in &shards {
        let queue = keys.queue(*shard);
        let mut call = invoke(&SCRIPTS.shown, &[&queue.pend, &queue.batch_id, &queue.sums, &queue.sv]);
        call.arg(keys.total_prefix(session.run8(), *shard));
        for place in places {
            call.arg(ids[*place].get());
        }
        pipeline.invoke_script(&call);
    }
    ShownPlan { shards, products: ids.len() }
}

impl ShownPlan {
    pub(super) fn parse(&self, replies: &[Value]) -> Result<Vec<Queued>, Error> {
        let mut shown = vec![Queued { persisted: None, pending: 0 }; self.products];
        for (places, reply) in self.shards.values().zip(replies) {
            for (place, queued) in places.iter().zip(queued(reply)?) {
                shown[*place] = queued;
            }
        }
        Ok(shown)
    }
}

/// The part of a shard's answer that is always there.
fn queued(reply: &Value) -> Result<impl Iterator<Item = Queued>, Error> {
    let Value::Array(parts) = reply else { return Err(short()) };
    let [Value::Array(totals), Value::Array(pending), ..] = parts.as_slice() else { return Err(short()) };
    Ok(totals.iter().zip(pending).map(|(total, pending)| Queued { persisted: number(total), pending: number(pending).unwrap_or(0) }))
}

impl Redis {
    /// What the queue knows of products' views (at most 1,000), without their entries.
    ///
    /// # Errors
    /// As any command.
    pub async fn queued(&self, ids: &[ProductId]) -> Result<Vec<Queued>, Error> {
        let session = self.queue.session()?;
        let mut pipeline = ::redis::pipe();
        let plan = add_shown(&mut pipeline, &self.keys, &session, ids);
        plan.parse(&session.pipeline::<Vec<_>>(RedisOp::Shown, &pipeline).await?)
    }
}

/// One shard's answer to the first step, with what is needed where a total is missing.
struct ShardShown {
    sv: Option<String>,
    sealed: Option<String>,
    /// What the queue knows of each product, and its sum in the sealed batch.
    products: Vec<(Queued, u64)>,
}

impl ShardShown {
    fn parse(reply: &Value) -> Result<Self, Error> {
        let queued = queued(reply)?;
        let Value::Array(parts) = reply else { return Err(short()) };
        let Some([sv, sealed, Value::Array(sums)]) = parts.get(2..) else {
            return Ok(Self { sv: None, sealed: None, products: queued.map(|queued| (queued, 0)).collect() });
        };
        let sums = sums.iter().map(|sum| number(sum).unwrap_or(0));
        Ok(Self { sv: text(sv), sealed: text(sealed), products: queued.zip(sums).collect() })
    }
}

/// Shown views of products whose total was not cached: what [`ShownFill::begin`] read, to be completed from MySQL.
pub struct ShownFill {
    session: Session,
    shards: Vec<(u16, Vec<ProductId>, ShardShown)>,
}

impl ShownFill {
    /// First step.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begin(redis: &Redis, ids: &[ProductId]) -> Result<Self, Error> {
        let session = redis.queue.session()?;
        let mut pipeline = ::redis::pipe();
        let plan = add_shown(&mut pipeline, &redis.keys, &session, ids);
        let replies: Vec<Value> = session.pipeline(RedisOp::Shown, &pipeline).await?;
        let shard = |((shard, places), reply): ((u16, Vec<usize>), &Value)| {
            Ok((shard, places.iter().map(|place| ids[*place]).collect(), ShardShown::parse(reply)?))
        };
        let shards = plan.shards.into_iter().zip(&replies).map(shard).collect::<Result<_, Error>>()?;
        Ok(Self { session, shards })
    }

    /// Second step, with `totals` read from MySQL after the first: stores what may be cached. Returns the shown views;
    /// products of a shard where a batch was sealed or settled meanwhile are left out: begin again with them.
    ///
    /// # Errors
    /// Redis is away, or came back meanwhile.
    pub async fn store(self, redis: &Redis, totals: &crate::mysql::view_counts::Totals) -> Result<BTreeMap<ProductId, Views>, Error> {
        let mut shown = BTreeMap::new();
        let mut pipeline = ::redis::pipe();
        let mut asked = Vec::new();
        for (shard, ids, state) in &self.shards {
            let Some(sv) = &state.sv else {
                // Somebody else stored them all since we were told that one was missing.
                let views = |queued: Queued| Some(Views { persisted: queued.persisted?, pending: queued.pending });
                shown.extend(ids.iter().zip(&state.products).filter_map(|(id, (queued, _))| Some((*id, views(*queued)?))));
                continue;
            };
            let in_totals = state.sealed.is_some() && totals.last_batches.get(shard) == state.sealed.as_ref();
            let queue = redis.keys.queue(*shard);
            let mut call = invoke(&SCRIPTS.shown_store, &[&queue.pend, &queue.sv]);
            call.arg(redis.keys.total_prefix(self.session.run8(), *shard)).arg(sv).arg(redis.total_ttl_ms());
            for (id, (_, sum)) in ids.iter().zip(&state.products) {
                let views = totals.views.get(&id.get()).copied().unwrap_or(0);
                call.arg(id.get()).arg(views.saturating_sub(if in_totals { *sum } else { 0 }));
            }
            pipeline.invoke_script(&call);
            asked.push(ids);
        }
        if asked.is_empty() {
            return Ok(shown);
        }
        let replies: Vec<Vec<u64>> = self.session.pipeline(RedisOp::ShownStore, &pipeline).await?;
        for (ids, reply) in asked.into_iter().zip(replies) {
            // An empty reply: the shard moved.
            shown.extend(ids.iter().zip(reply.chunks_exact(2)).map(|(id, pair)| (*id, Views { persisted: pair[0], pending: pair[1] })));
        }
        Ok(shown)
    }
}
