//! Do MySQL, Redis and the API say the same of products?
//!
//! Promises that a write under way is not reported, nor a change by plain SQL that is still on its way: cache and rows are
//! compared as the worker's sampler does (`catalog::check`), what differs is looked at again later, and it counts if the entry and
//! the answer of the API are still the same, and still wrong. Changes nothing; a read through the API may fill the cache, as any
//! read does.

use crate::AGAIN;
use crate::compare::{Side, Sides};
use catalog::check::{Checker, Compared, Place};
use domain::ProductId;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use storage::Error;
use storage::redis::product_cache::Cached;

/// Products of one call of the API.
pub const CALL: usize = 100;

/// Keys of Redis that one step of the search for entries looks at.
const STEP: u32 = 1_000;

/// What is asked. `api` answers the products that there are of those that it is asked for, over HTTP or not; its errors take in
/// those of the stores.
pub struct Places<A> {
    pub checker: Checker,
    pub api: A,
}

/// What the three places say of one product.
pub struct Found {
    pub id: ProductId,
    pub sides: Sides,
    /// Entry and row, byte for byte; `None` where the entry was written since they were last looked at.
    pub compared: Option<Compared>,
}

impl Found {
    #[must_use]
    pub fn differs(&self) -> bool {
        self.sides.differ() || self.compared.as_ref().is_some_and(Compared::differs)
    }

    /// Whether MySQL told what the others must say; it does not while somebody writes the row.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        self.sides.mysql != Side::Silent
    }

    /// In what it differs, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.sides.in_words(&self.sides) {
            same if same.is_empty() => "the fields are the same, but the bytes in Redis are not those that a fill would store".to_owned(),
            words => words,
        }
    }

    /// What is still as it was `before`; of what was written since nobody can say how long it will be so.
    fn still_as(mut self, before: &Self) -> Self {
        if !self.sides.api.is_as(&before.sides.api) {
            self.sides.api = Side::Silent;
        }
        let passes = |now: &Compared| now.differs() && !before.compared.as_ref().is_some_and(|before| before.stays(now));
        if self.compared.take_if(|now| passes(now)).is_some() {
            self.sides.redis = Side::Silent;
        }
        self
    }
}

impl<A, E> Places<A>
where
    A: AsyncFn(&[ProductId]) -> Result<Vec<Value>, E>,
    E: From<Error>,
{
    /// Ids with an entry in Redis that are not among those of the products.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn cached_beside(&self, products: &[ProductId]) -> Result<BTreeSet<ProductId>, E> {
        let products: BTreeSet<_> = products.iter().copied().collect();
        let (mut place, mut beside) = (Place::default(), BTreeSet::new());
        loop {
            let met = self.checker.walk(&mut place, STEP).await?;
            beside.extend(met.into_iter().filter(|id| !products.contains(id)));
            if place.is_start() {
                return Ok(beside);
            }
        }
    }

    /// The answers about each of the products, in their order, looked at again while they differ.
    ///
    /// # Errors
    /// A store is away, or the API does not answer.
    pub async fn settled(&self, ids: &[ProductId]) -> Result<Vec<Found>, E> {
        let mut all = self.first(ids).await?;
        self.settle(&mut all).await?;
        Ok(all)
    }

    /// The same without waiting: what differs may be a write that is under way.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub async fn first(&self, ids: &[ProductId]) -> Result<Vec<Found>, E> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CALL) {
            all.extend(self.look(ids).await?);
        }
        Ok(all)
    }

    /// Looks again at those that differ, all of them at the same time.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub async fn settle(&self, all: &mut [Found]) -> Result<(), E> {
        let [soon, patience] = AGAIN;
        self.look_again(all, soon, |_, now| now).await?;
        self.look_again(all, patience, |before, now| now.still_as(before)).await
    }

    async fn look_again(&self, all: &mut [Found], pause: Duration, told: impl Fn(&Found, Found) -> Found) -> Result<(), E> {
        let mut differing: Vec<&mut Found> = all.iter_mut().filter(|found| found.differs()).collect();
        if differing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        for before in differing.chunks_mut(CALL) {
            let ids: Vec<_> = before.iter().map(|found| found.id).collect();
            let now = self.look(&ids).await?;
            let answers = self.answers(&ids).await?;
            for (before, mut now) in before.iter_mut().zip(now) {
                if !now.sides.api.is_as(&answer(&answers, now.id)) {
                    now.sides.api = Side::Silent;
                }
                **before = told(before, now);
            }
        }
        Ok(())
    }

    /// The API first, so that what it just cached is what Redis shows.
    async fn look(&self, ids: &[ProductId]) -> Result<Vec<Found>, E> {
        let answers = self.answers(ids).await?;
        let found = |compared: Compared| {
            let sides = Sides { mysql: side(compared.row()), redis: side(compared.cached()), api: answer(&answers, compared.id) };
            Found { id: compared.id, sides, compared: Some(compared) }
        };
        Ok(self.checker.compare(ids).await?.into_iter().map(found).collect())
    }

    async fn answers(&self, ids: &[ProductId]) -> Result<HashMap<u64, Value>, E> {
        let told = (self.api)(ids).await?;
        Ok(told.into_iter().filter_map(|product| Some((product["id"].as_u64()?, product))).collect())
    }
}

fn answer(answers: &HashMap<u64, Value>, id: ProductId) -> Side {
    answers.get(&id.get()).cloned().map_or(Side::Absent, Side::Product)
}

/// A record that cannot be read is one without fields.
fn side(record: Option<&Cached>) -> Side {
    match record {
        None => Side::Silent,
        Some(Cached { json: None, .. }) => Side::Absent,
        Some(Cached { json: Some(json), .. }) => Side::Product(serde_json::from_slice(json).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_product_or_its_absence_or_nothing() {
        let data = |json: Option<&[u8]>| side(Some(&Cached { version: 1, json: json.map(Into::into) }));
        assert_eq!(side(None), Side::Silent);
        assert_eq!(data(None), Side::Absent);
        assert_eq!(data(Some(b"{\"id\":1}")), Side::Product(serde_json::json!({"id": 1})));
        assert_eq!(data(Some(b"{")), Side::Product(Value::Null));
    }
}
