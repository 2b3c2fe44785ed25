//! What a check asks of Redis: product entries as they stand there, byte for byte, and a walk over its keys.
//!
//! Promises to change nothing but what it is told to delete: an entry only while it still is what was seen, other keys
//! only where no process reads them any more. Deleting an entry is always safe: the next reader fills it again.

use super::errors::short;
use super::product_cache::{Cached, Entry};
use super::scripts::SCRIPTS;
use super::{Node, Redis, Session};
use crate::Error;
use domain::ProductId;
use telemetry::metrics::RedisOp;

/// Keys that one step of a walk over all looks at; some 0.3 ms of Redis's time, and it serves others between steps.
pub(super) const STEP: u32 = 1_000;

/// The data of an entry as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    id: ProductId,
    value: Vec<u8>,
    cached: Cached,
}

impl Held {
    #[must_use]
    pub fn cached(&self) -> &Cached {
        &self.cached
    }

    /// Whether these are the bytes that a fill would store for that record.
    #[must_use]
    pub fn is(&self, record: &Cached) -> bool {
        self.value == record.encode()
    }
}

/// A place in the walk over the keys of a server. What stands there from one end of a walk to the other is met, at least once;
/// the place is good for a restarted server too, whose walk then begins somewhere.
/// <https://redis.io/docs/latest/commands/scan/>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    /// Where each walk begins and ends.
    #[must_use]
    pub fn is_start(self) -> bool {
        self.0 == 0
    }
}

impl Redis {
    /// The data of entries, in the order of the ids; `None` where there is no entry or somebody is at work on it.
    ///
    /// # Errors
    /// As any command.
    pub async fn held(&self, session: &Session, ids: &[ProductId]) -> Result<Vec<Option<Held>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<Option<Vec<u8>>> = session.command(RedisOp::Check, &self.entries(session, ids)).await?;
        if values.len() != ids.len() {
            return Err(short());
        }
        let held = |(id, value): (&ProductId, Option<Vec<u8>>)| {
            let value = value?;
            match Entry::parse(Some(&value)) {
                Entry::Data(cached) => Some(Held { id: *id, value, cached }),
                Entry::Busy | Entry::Absent => None,
            }
        };
        Ok(ids.iter().zip(values).map(held).collect())
    }

    /// Deletes an entry if it still holds what was read; whether it did.
    ///
    /// # Errors
    /// As any command; the entry may be gone or not.
    pub async fn discard(&self, session: &Session, held: &Held) -> Result<bool, Error> {
        let mut call = SCRIPTS.discard.prepare_invoke();
        call.key(self.keys.entry(session.run8(), held.id)).arg(&held.value);
        session.script(RedisOp::Check, &call).await
    }

    /// Goes on with a walk over all keys of the cache's server, past about `step` of them; the products that have an entry there.
    ///
    /// # Errors
    /// As any command; the place is then where it was.
    pub async fn walk(&self, session: &Session, place: &mut Place, step: u32) -> Result<Vec<ProductId>, Error> {
        let keys = scan(session, RedisOp::Check, place, &format!("*:c:{}:p:*", session.run8()), step).await?;
        Ok(keys.iter().filter_map(|key| self.keys.product_of(session.run8(), key)).collect())
    }

    /// Counts what earlier runs of one of our servers left in its cache, and removes it where that is wished. No process reads
    /// these keys, and they end by their TTL.
    ///
    /// # Errors
    /// As any command.
    pub async fn earlier_keys(&self, node: &Node, remove: bool) -> Result<u64, Error> {
        let session = node.session()?;
        let (mut place, mut count) = (Place::default(), 0);
        loop {
            let keys = scan(&session, RedisOp::Check, &mut place, "*:[ct]:*", STEP).await?;
            let earlier: Vec<_> = keys.iter().filter(|key| self.keys.is_of_earlier_run(session.run8(), key)).collect();
            count += earlier.len() as u64;
            if remove && !earlier.is_empty() {
                session.command::<()>(RedisOp::Check, ::redis::cmd("UNLINK").arg(earlier)).await?;
            }
            if place.is_start() {
                return Ok(count);
            }
        }
    }
}

/// One step of a walk. Names that are not text are not ours.
pub(super) async fn scan(session: &Session, op: RedisOp, place: &mut Place, pattern: &str, step: u32) -> Result<Vec<String>, Error> {
    let mut command = ::redis::cmd("SCAN");
    command.arg(place.0).arg("MATCH").arg(pattern).arg("COUNT").arg(step);
    let (next, keys): (u64, Vec<Vec<u8>>) = session.command(op, &command).await?;
    *place = Place(next);
    Ok(keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect())
}
