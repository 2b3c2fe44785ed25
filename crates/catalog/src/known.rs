//! Which product ids exist, remembered in this process so that counting a view asks nobody.

use crate::Catalog;
use crate::gather::Gather;
use domain::ProductId;
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use storage::MySql;
use storage::mysql::products;

/// Ids that are remembered, about 40 bytes each; the least used are forgotten.
const MOST_KNOWN: usize = 500_000;
const MOST_ABSENT: usize = 50_000;

/// How long absence is believed; a product may be made at any time.
const ABSENT_LIFE: Duration = Duration::from_secs(1);

/// A view must not wait for a slow MySQL: the drain finds out what does not exist.
const ASK_LIMIT: Duration = Duration::from_millis(250);

pub(crate) struct Known {
    present: Cache<u64, ()>,
    absent: Cache<u64, Instant>,
    ask: Gather<ProductId, bool>,
}

impl Known {
    pub(crate) fn new(mysql: &MySql) -> Self {
        let mysql = mysql.clone();
        let ask = Gather::new(move |ids: Vec<ProductId>| {
            let mysql = mysql.clone();
            async move {
                let existing = products::existing(&mysql, &ids).await?;
                Ok(ids.into_iter().map(|id| (id, existing.contains(&id.get()))).collect::<HashMap<_, _>>())
            }
        });
        Self { present: Cache::new(MOST_KNOWN), absent: Cache::new(MOST_ABSENT), ask }
    }

    /// Presence is never taken back: a read that began before a product was made may end after it, and the views of a
    /// deleted product are the drain's to judge.
    pub(crate) fn note(&self, id: ProductId, exists: bool) {
        let present = self.present.get(&id.get()).is_some();
        match (exists, present) {
            (_, true) => {}
            (true, false) => {
                self.present.insert(id.get(), ());
                self.absent.remove(&id.get());
            }
            (false, false) => self.absent.insert(id.get(), Instant::now()),
        }
    }
}

impl Catalog {
    /// Whether a product is known not to exist. False when that could not be found out in time.
    pub async fn is_absent(&self, id: ProductId) -> bool {
        let known = &self.inner.known;
        if known.present.get(&id.get()).is_some() {
            return false;
        }
        if known.absent.get(&id.get()).is_some_and(|since| since.elapsed() < ABSENT_LIFE) {
            return true;
        }
        match tokio::time::timeout(ASK_LIMIT, known.ask.load(id)).await {
            Ok((Ok(exists), _)) => {
                known.note(id, exists);
                !exists
            }
            _ => false,
        }
    }
}
