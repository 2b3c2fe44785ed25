//! Do MySQL, Redis and the API say the same of products?
//!
//! Promises that a write under way is not reported, nor a change by plain SQL that is still on its way: cache and rows are
//! compared as the worker's sampler does (`catalog::check`), an answer of the API counts if it was the same before and after the
//! row was read, and what differs is looked at again later. Changes nothing; a read through the API may fill the cache, as any
//! read does.

use crate::AGAIN;
use crate::compare::{Side, Sides};
use catalog::check::{Checker, Compared, Place};
use domain::ProductId;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use storage::Error;
use storage::redis::product_cache::Cached;

/// Most products that are compared at once: what one call of the API answers.
pub const MOST: usize = 100;

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
    pub sides: Sides,
    pub compared: Compared,
}

impl Found {
    #[must_use]
    pub fn differs(&self) -> bool {
        self.sides.differ() || self.compared.differs()
    }

    /// In what it differs, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.sides.in_words(&self.sides) {
            same if same.is_empty() => "the fields are the same, but the bytes in Redis are not those that a fill would store".to_owned(),
            words => words,
        }
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

    /// The answers about each of at most [`MOST`] products, in the order of the ids, looked at again while they differ.
    ///
    /// # Errors
    /// A store is away, or the API does not answer.
    pub async fn settled(&self, ids: &[ProductId]) -> Result<Vec<(ProductId, Found)>, E> {
        let mut all = self.look(ids).await?;
        for pause in AGAIN {
            let differing: Vec<_> = ids.iter().filter(|id| all[id].differs()).copied().collect();
            if differing.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            let before = self.look(&differing).await?;
            let after = self.answers(&differing).await?;
            for (id, mut found) in before {
                if !found.sides.api.is_as(&answer(&after, id)) {
                    found.sides.api = Side::Silent;
                }
                all.insert(id, found);
            }
        }
        Ok(ids.iter().filter_map(|id| all.remove_entry(id)).collect())
    }

    /// The API first, so that what it just cached is what Redis shows.
    async fn look(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Found>, E> {
        let answers = self.answers(ids).await?;
        let found = |compared: Compared| {
            let sides = Sides { mysql: side(compared.row()), redis: side(compared.cached()), api: answer(&answers, compared.id) };
            (compared.id, Found { sides, compared })
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
