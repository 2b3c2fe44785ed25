//! Compares what is cached with the rows, fairly: what a write under way makes differ is not reported.
//!
//! An entry is read, then its row with the locking read of a fill, then the entry again. Where the entry was data of the same
//! bytes both times and differs from the row, it is wrong, whatever else went on meanwhile:
//!
//! - It is not older than the row: who committed that row had marked the entry before, and so before it was read again.
//! - It is not newer: data are published or filled after their COMMIT, and so the row was there when it was read.
//! - With the row's version it has the row's bytes, because a version is written once.
//!
//! So no lock is held while Redis is asked, and no writer waits for a check. A row that is being written, a marker, a lease,
//! and an entry that changed between the two reads give no verdict. What plain SQL writes is the exception: it changes a row
//! without a mark and is shown within two seconds. Hence only what a second comparison, [`PATIENCE`] later, finds unchanged and
//! still wrong is a mismatch ([`Compared::stays`]).

use crate::{Stores, read};
use domain::ProductId;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use storage::mysql::products::{self, Locked};
use storage::redis::inspect::Held;
pub use storage::redis::inspect::Place;
use storage::redis::product_cache::Cached;
use storage::{Error, MySql, Redis};
use telemetry::metrics::{CheckField, Label};

/// Twice what a change by plain SQL takes to show.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// Reads both stores to compare them, and deletes entries that are wrong.
#[derive(Clone)]
pub struct Checker {
    stores: Stores,
}

/// A product as the cache and as MySQL hold it.
#[derive(Debug, Clone)]
pub struct Compared {
    pub id: ProductId,
    held: Option<Held>,
    row: Option<Cached>,
}

impl Compared {
    /// What the cache holds; `None` where it has no data or they were just changing.
    #[must_use]
    pub fn cached(&self) -> Option<&Cached> {
        self.held.as_ref().map(Held::cached)
    }

    /// What a fill would store; `None` while somebody writes the row.
    #[must_use]
    pub fn row(&self) -> Option<&Cached> {
        self.row.as_ref()
    }

    /// Whether both are there to be compared.
    #[must_use]
    pub fn has_verdict(&self) -> bool {
        self.held.is_some() && self.row.is_some()
    }

    #[must_use]
    pub fn differs(&self) -> bool {
        self.held.as_ref().zip(self.row.as_ref()).is_some_and(|(held, row)| !held.is(row))
    }

    /// Whether the entry that differed is still there in `later`, and still differs.
    #[must_use]
    pub fn stays(&self, later: &Self) -> bool {
        self.differs() && later.differs() && self.held == later.held
    }

    /// In what it differs.
    #[must_use]
    pub fn fields(&self) -> Vec<CheckField> {
        match (self.cached(), self.row()) {
            (Some(cached), Some(row)) if self.differs() => fields(cached, row),
            _ => Vec::new(),
        }
    }
}

impl Checker {
    #[must_use]
    pub fn new(mysql: MySql, redis: Redis) -> Self {
        Self { stores: Stores { mysql, redis } }
    }

    /// Compares products, in their order: two round trips to Redis, one statement, and one more for each row that is locked or
    /// not there.
    ///
    /// # Errors
    /// A store is away.
    pub async fn compare(&self, ids: &[ProductId]) -> Result<Vec<Compared>, Error> {
        let Stores { redis, .. } = &self.stores;
        let session = redis.cache.session()?;
        let before = redis.held(&session, ids).await?;
        let mut rows = self.rows(ids).await?;
        let after = redis.held(&session, ids).await?;
        let both = before.into_iter().zip(after);
        let compared = |(id, (before, after)): (&ProductId, (Option<Held>, Option<Held>))| {
            let held = before.filter(|held| after.as_ref() == Some(held));
            Compared { id: *id, held, row: rows.remove(id).flatten() }
        };
        Ok(ids.iter().zip(both).map(compared).collect())
    }

    async fn rows(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Option<Cached>>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mysql = &self.stores.mysql;
        let mut rows = HashMap::with_capacity(ids.len());
        for (id, mut locked) in products::find_for_fill(mysql, ids).await? {
            if ids.len() > 1 && matches!(locked, Locked::Busy) {
                // Among several a row that is not there looks like one that is locked.
                locked = products::find_for_fill(mysql, &[id]).await?.remove(&id).unwrap_or(Locked::Busy);
            }
            let row = match locked {
                Locked::Found(row) => Some(read::cached(&row)?),
                Locked::Absent => Some(Cached::absent(0)),
                Locked::Busy => None,
            };
            rows.insert(id, row);
        }
        Ok(rows)
    }

    /// Deletes the entry that was compared, unless it has changed since; whether it did. Always safe: the next read fills it.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn discard(&self, compared: &Compared) -> Result<bool, Error> {
        let Some(held) = &compared.held else { return Ok(false) };
        let Redis { cache, .. } = &self.stores.redis;
        self.stores.redis.discard(&cache.session()?, held).await
    }

    /// Products that have an entry, past about `step` keys from `place` on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn walk(&self, place: &mut Place, step: u32) -> Result<Vec<ProductId>, Error> {
        let Redis { cache, .. } = &self.stores.redis;
        self.stores.redis.walk(&cache.session()?, place, step).await
    }

    /// Counts what is cached under earlier runs of the servers, which nobody reads, and removes it where that is wished.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn earlier_keys(&self, remove: bool) -> Result<u64, Error> {
        let mut count = 0;
        for node in self.stores.redis.nodes() {
            count += self.stores.redis.earlier_keys(node, remove).await?;
        }
        Ok(count)
    }
}

/// The fields in which two records differ that are not the same bytes.
fn fields(cached: &Cached, row: &Cached) -> Vec<CheckField> {
    let (ours, theirs) = match (&cached.json, &row.json) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (None, None) => return vec![CheckField::Version],
        _ => return vec![CheckField::Presence],
    };
    let value = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let (Some(ours), Some(theirs)) = (value(ours), value(theirs)) else { return vec![CheckField::Form] };
    let differs = |field: &CheckField| match field {
        CheckField::Presence | CheckField::Form => false,
        CheckField::Version if cached.version != row.version => true,
        field => ours.get(field.as_str()) != theirs.get(field.as_str()),
    };
    let fields: Vec<_> = CheckField::ALL.iter().copied().filter(differs).collect();
    if fields.is_empty() { vec![CheckField::Form] } else { fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: u64, json: &str) -> Cached {
        Cached { version, json: Some(json.as_bytes().into()) }
    }

    #[test]
    fn a_difference_is_told_by_the_fields_of_the_record() {
        let row = record(7, r#"{"id":1,"sku":"A","name":"B","price":{"amount":"2.55"},"version":7}"#);
        let as_row = |cached: &Cached| fields(cached, &row);
        let stale = record(6, r#"{"id":1,"sku":"A","name":"B","price":{"amount":"2.10"},"version":6}"#);
        assert_eq!(as_row(&stale), [CheckField::Price, CheckField::Version]);
        assert_eq!(as_row(&Cached::absent(0)), [CheckField::Presence]);
        let label = record(8, r#"{"id":1,"sku":"A","name":"B","price":{"amount":"2.55"},"version":7}"#);
        assert_eq!(as_row(&label), [CheckField::Version]);
        let spaced = record(7, r#"{"id":1, "sku":"A","name":"B","price":{"amount":"2.55"},"version":7}"#);
        for form in [spaced, record(7, "{"), record(7, r#""no record""#)] {
            let expected = if form.json.as_deref() == Some(br#""no record""#) { 4 } else { 1 };
            assert_eq!(as_row(&form).len(), expected, "{form:?}");
        }
        assert_eq!(fields(&Cached::absent(0), &Cached::absent(2)), [CheckField::Version]);
    }
}
