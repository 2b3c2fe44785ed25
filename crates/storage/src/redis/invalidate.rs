//! Product entries that are dropped from outside the protocol of readers and writers: by the tail of the binlog, and by
//! operators.
//!
//! Safe at any time and any number of times: a publish or a fill that is under way replaces only what it put there itself,
//! finds it gone and leaves the entry empty, and the next reader asks MySQL under the row's lock.

use super::inspect::{Place, STEP, scan};
use super::product_cache::DROPPED_AT_ONCE;
use super::scripts::SCRIPTS;
use super::{Redis, Session};
use crate::{Error, Kind};
use domain::ProductId;
use telemetry::metrics::RedisOp;

impl Redis {
    /// Drops what a change of the binlog overtakes; with the version that a row rose to, what is older, else whatever is
    /// there. At most [`DROPPED_AT_ONCE`] changes at once. Returns how many entries were there to drop.
    ///
    /// # Errors
    /// Any: some may be dropped, some not; do it again.
    pub async fn drop_overtaken(&self, session: &Session, changes: &[(ProductId, Option<u64>)]) -> Result<u64, Error> {
        if changes.is_empty() {
            return Ok(0);
        }
        let mut call = SCRIPTS.tail.prepare_invoke();
        for (id, version) in changes {
            call.key(self.keys.entry(session.run8(), *id)).arg(version.map(|version| version.to_string()).unwrap_or_default());
        }
        session.script(RedisOp::Tail, &call).await
    }

    /// Drops the entries of all products, those of earlier runs of Redis too, in pieces. What is there when it begins is gone
    /// when it returns. Returns how many were there.
    ///
    /// # Errors
    /// As any command; some may be dropped.
    pub async fn drop_all_entries(&self) -> Result<u64, Error> {
        let session = self.cache.session()?;
        let pattern = self.keys.all_entries();
        let (mut dropped, mut place) = (0, Place::default());
        loop {
            let keys = scan(&session, RedisOp::Tail, &mut place, &pattern, STEP).await?;
            for chunk in keys.chunks(DROPPED_AT_ONCE) {
                dropped += session.command::<u64>(RedisOp::Tail, ::redis::cmd("UNLINK").arg(chunk)).await?;
            }
            if place.is_start() {
                // A server that was replaced meanwhile may hold entries that this one did not.
                let replaced = || Error::new(Kind::Unavailable, "Redis was lost while entries were dropped");
                return if session.is_current() { Ok(dropped) } else { Err(replaced()) };
            }
        }
    }
}
