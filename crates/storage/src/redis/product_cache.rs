//! Product entries: one string a product, whose value is one of
//!
//! - `D<version>|1<json>`: data, `1` being the format of what follows; `D<version>|` a deleted product, `D0|` an id
//!   that no product has;
//! - `W<version>:<token>`: marker, a write is under way;
//! - `L<token>`: lease, one reader is filling the entry.
//!
//! Publish and fill replace exactly the value that the caller put there. No property rests on a TTL or a clock: what
//! makes it safe to fill is the shared row lock under which the caller has read (`mysql::products::find_for_fill`).
//! An entry is put by `acquire` (a lease where there is nothing), `replace` (publish and fill) and the SET of a marker, and by
//! nothing else. It goes by the scripts `discard` (a check) and `tail` (a change of the binlog), by DEL and UNLINK (writers whose
//! marker has no room, imports, the tail, operators, keys of earlier runs), by its TTL or by eviction: all of that is safe.

use super::errors::short;
use super::scripts::SCRIPTS;
use super::shown_views::{self, Queued};
use super::{Redis, Session};
use crate::{Error, Kind};
use ::redis::Value;
use domain::{Product, ProductId};
use std::sync::Arc;
use std::time::Duration;
use telemetry::metrics::RedisOp;
use uuid::Uuid;

/// A marker outlives every transaction that may still publish; when it ends early, one publish is lost and nothing else.
const MARKER_TTL_MS: u64 = 5_000;

/// A lease that was not used throttles locking reads of a row that is being written.
const LEASE_TTL_MS: u64 = 2_000;

/// Entries that one call drops: some 0.2 ms of Redis.
pub const DROPPED_AT_ONCE: usize = 500;

const FORMAT: u8 = b'1';

/// What a reader finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Data(Cached),
    /// A marker, someone's lease, or a value of another release: read MySQL and store nothing.
    Busy,
    Absent,
}

/// A product as the cache holds it; without a record it is known to be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub version: u64,
    pub json: Option<Arc<[u8]>>,
}

impl Cached {
    /// The record of a row.
    ///
    /// # Errors
    /// Never for a [`Product`]; its fields all have a JSON form.
    pub fn of(product: &Product) -> Result<Self, Error> {
        let json = serde_json::to_vec(product).map_err(|error| Error::new(Kind::Bug, format!("product as JSON: {error}")))?;
        Ok(Self { version: product.version, json: Some(json.into()) })
    }

    /// Nothing is there: an unknown id (version 0) or a deleted product.
    #[must_use]
    pub fn absent(version: u64) -> Self {
        Self { version, json: None }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = format!("D{}|", self.version).into_bytes();
        if let Some(json) = &self.json {
            value.push(FORMAT);
            value.extend_from_slice(json);
        }
        value
    }
}

impl Entry {
    pub(super) fn parse(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::Absent };
        Self::data(value).map_or(Self::Busy, Self::Data)
    }

    fn data(value: &[u8]) -> Option<Cached> {
        let bar = value.iter().position(|byte| *byte == b'|')?;
        let version = std::str::from_utf8(value.get(1..bar)?).ok()?.parse().ok()?;
        match (value[0], &value[bar + 1..]) {
            (b'D', []) => Some(Cached::absent(version)),
            (b'D', [FORMAT, json @ ..]) => Some(Cached { version, json: Some(json.into()) }),
            _ => None,
        }
    }
}

/// The right to replace one value with another: a reader's lease or a writer's marker.
#[derive(Debug, Clone)]
pub struct Token {
    id: ProductId,
    value: String,
}

fn token() -> String {
    Uuid::new_v4().simple().to_string()
}

/// What asking for a lease gave.
#[derive(Debug)]
pub enum Acquired {
    /// The entry was absent; now it is ours to fill.
    Lease(Token),
    /// What was there.
    Found(Entry),
}

/// What marking an entry gave.
#[derive(Debug)]
pub enum Marked {
    Marker(Token),
    /// Redis is full: the entry was deleted instead. The same guarantees, and nothing to publish.
    Deleted,
}

/// What one product read found in the cache and, if the queue shares its server, in the queue.
#[derive(Debug, Clone)]
pub struct Read {
    pub entry: Entry,
    pub views: Option<Queued>,
}

impl Redis {
    /// Reads entry and shown views of products in one round trip to each server, both at once; one answer for each id, in
    /// their order. A server that is away leaves its part out: entries are then `Busy`, views `None`.
    pub async fn read(&self, ids: &[ProductId]) -> Vec<Read> {
        if self.is_one() {
            let away = || ids.iter().map(|_| Read { entry: Entry::Busy, views: None }).collect();
            return self.read_one(ids).await.unwrap_or_else(|_| away());
        }
        let (entries, shown) = tokio::join!(self.read_entries(ids), self.queued(ids));
        let entries = entries.unwrap_or_else(|_| vec![Entry::Busy; ids.len()]);
        let shown = shown.map_or_else(|_| vec![None; ids.len()], |shown| shown.into_iter().map(Some).collect());
        entries.into_iter().zip(shown).map(|(entry, views)| Read { entry, views }).collect()
    }

    async fn read_one(&self, ids: &[ProductId]) -> Result<Vec<Read>, Error> {
        let session = self.cache.session()?;
        let mut pipeline = ::redis::pipe();
        pipeline.add_command(self.entries(&session, ids));
        let plan = shown_views::add_shown(&mut pipeline, &self.keys, &session, ids);
        let replies: Vec<Value> = session.pipeline(RedisOp::Product, &pipeline).await?;
        let [Value::Array(entries), shown @ ..] = replies.as_slice() else { return Err(short()) };
        let entries = entries.iter().map(|entry| Entry::parse(bytes(entry)));
        Ok(entries.zip(plan.parse(shown)?).map(|(entry, views)| Read { entry, views: Some(views) }).collect())
    }

    async fn read_entries(&self, ids: &[ProductId]) -> Result<Vec<Entry>, Error> {
        let session = self.cache.session()?;
        let entries: Vec<Value> = session.command(RedisOp::Product, &self.entries(&session, ids)).await?;
        Ok(entries.iter().map(|entry| Entry::parse(bytes(entry))).collect())
    }

    pub(super) fn entries(&self, session: &Session, ids: &[ProductId]) -> ::redis::Cmd {
        let mut command = ::redis::cmd("MGET");
        for id in ids {
            command.arg(self.keys.entry(session.run8(), *id));
        }
        command
    }

    /// Asks for the leases of several entries in one round trip.
    ///
    /// # Errors
    /// `Full` when Redis has no room for a lease; others as any command.
    pub async fn acquire(&self, session: &Session, ids: &[ProductId]) -> Result<Vec<Acquired>, Error> {
        let leases: Vec<String> = ids.iter().map(|_| format!("L{}", token())).collect();
        let mut pipeline = ::redis::pipe();
        for (id, lease) in ids.iter().zip(&leases) {
            let mut call = SCRIPTS.acquire.prepare_invoke();
            call.key(self.keys.entry(session.run8(), *id)).arg(lease).arg(LEASE_TTL_MS);
            pipeline.invoke_script(&call);
        }
        let found: Vec<Option<Vec<u8>>> = session.pipeline(RedisOp::Acquire, &pipeline).await?;
        let acquired = ids.iter().zip(leases).zip(found).map(|((id, lease), found)| match found {
            Some(found) if found == lease.as_bytes() => Acquired::Lease(Token { id: *id, value: lease }),
            found => Acquired::Found(Entry::parse(found.as_deref())),
        });
        Ok(acquired.collect())
    }

    /// Fills entries whose leases are held. One that lost its lease meanwhile is left as it is.
    ///
    /// # Errors
    /// As any command; a fill that did not happen costs one more miss.
    pub async fn fill(&self, session: &Session, fills: &[(Token, Cached)]) -> Result<(), Error> {
        let mut pipeline = ::redis::pipe();
        for (lease, cached) in fills {
            pipeline.invoke_script(&self.replacement(session, lease, cached)).ignore();
        }
        session.pipeline(RedisOp::Fill, &pipeline).await
    }

    /// Marks an entry: a write is under way. The caller holds the row's lock, until its COMMIT.
    ///
    /// # Errors
    /// Any: the mark may be there or may yet come, which costs a few uncached reads; roll back.
    pub async fn mark(&self, session: &Session, id: ProductId, version: u64) -> Result<Marked, Error> {
        let key = self.keys.entry(session.run8(), id);
        let marker = format!("W{version}:{}", token());
        let set =
            ::redis::Cmd::set_options(&key, &marker, ::redis::SetOptions::default().with_expiration(::redis::SetExpiry::PX(MARKER_TTL_MS)));
        match session.command::<()>(RedisOp::Mark, &set).await {
            Ok(()) => Ok(Marked::Marker(Token { id, value: marker })),
            Err(error) if error.kind() == Kind::Full => {
                self.drop_entry(session, id).await?;
                Ok(Marked::Deleted)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes an entry. The caller holds the row's lock, so that nobody fills it with something older.
    ///
    /// # Errors
    /// Any: the entry may still be there.
    pub async fn drop_entry(&self, session: &Session, id: ProductId) -> Result<(), Error> {
        session.command(RedisOp::Mark, &::redis::Cmd::del(self.keys.entry(session.run8(), id))).await
    }

    /// Deletes many entries, so many at a time that no call holds Redis for long. A writer's caller holds the locks of all the
    /// rows. Returns how many were there.
    ///
    /// # Errors
    /// Any: some entries may still be there.
    pub async fn drop_entries(&self, session: &Session, ids: &[ProductId]) -> Result<u64, Error> {
        let mut dropped = 0;
        for chunk in ids.chunks(DROPPED_AT_ONCE) {
            let keys: Vec<_> = chunk.iter().map(|id| self.keys.entry(session.run8(), *id)).collect();
            dropped += session.command::<u64>(RedisOp::Mark, &::redis::Cmd::unlink(keys)).await?;
        }
        Ok(dropped)
    }

    /// Replaces the marker with what was committed, unless something came between.
    ///
    /// # Errors
    /// As any command; the marker then stays until its TTL and readers go to MySQL.
    pub async fn publish(&self, session: &Session, marker: &Token, cached: &Cached) -> Result<(), Error> {
        session.script::<u8>(RedisOp::Publish, &self.replacement(session, marker, cached)).await.map(|_| ())
    }

    fn replacement(&self, session: &Session, token: &Token, cached: &Cached) -> ::redis::ScriptInvocation<'static> {
        let life = if cached.version == 0 { self.negative_ttl } else { spread(self.cache_ttl) };
        let mut call = SCRIPTS.replace.prepare_invoke();
        call.key(self.keys.entry(session.run8(), token.id)).arg(&token.value).arg(cached.encode()).arg(millis(life));
        call
    }

    pub(crate) fn total_ttl_ms(&self) -> u64 {
        millis(spread(self.cache_ttl))
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// ± 10 %, so that entries that were filled together do not end together.
fn spread(ttl: Duration) -> Duration {
    ttl.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_everything_else_is_somebody_at_work() {
        let data = Cached { version: 7, json: Some(b"{\"a\":\"|\"}".as_slice().into()) };
        for cached in [data, Cached::absent(0), Cached::absent(9)] {
            assert_eq!(Entry::parse(Some(&cached.encode())), Entry::Data(cached));
        }
        for value in ["", "L00ff", "W7:00ff", "D7|2{}", "Dx|1{}", "D7", "|", "X1|1{}"] {
            assert_eq!(Entry::parse(Some(value.as_bytes())), Entry::Busy, "{value}");
        }
        assert_eq!(Entry::parse(None), Entry::Absent);
    }
}
