//! Prices and what came before them. The present price is that of the record, which the cache may hold; what came before is
//! read from MySQL each time and kept nowhere.

use crate::{Catalog, Error, Record, Source};
use domain::price_history::{PriceSince, Prior, prior};
use domain::{Money, ProductId};
use storage::mysql::price_history;
pub use storage::mysql::price_history::PriceRow;
use storage::mysql::products;
use storage::redis::product_cache::Entry;

/// Rows of the history that one statement reads to find the price before a reduction. Most products have fewer.
const PRIOR_PIECE: u32 = 1_000;

/// Statements for one prior price: room for a price that changes every minute. What lies further back is not looked at.
const MOST_PIECES: u32 = 50;

/// Prices of a product, the newest first.
#[derive(Debug)]
pub struct PriceHistory {
    /// Each with the price that it replaced, of which only the first of all has none.
    pub prices: Vec<(PriceRow, Option<Money>)>,
    /// The row before which the next page begins; `None` behind the last.
    pub next: Option<u64>,
}

impl Catalog {
    /// The record of a product, without views and availability; `None`: there is no such product.
    ///
    /// # Errors
    /// The record was not cached and MySQL is away.
    pub async fn product_record(&self, id: ProductId) -> Result<(Option<Record>, Source), Error> {
        let read = self.here.cached.load(id).await.0;
        let (cached, source) = self.record(id, read.map_or(Entry::Busy, |read| read.entry)).await?;
        let version = cached.version;
        Ok((cached.json.map(|json| Record { version, json }), source))
    }

    /// The lowest price in the 30 days before the reduction to the present price began (see [`prior`]), as far as the history
    /// tells. `present` is what the product's record says, at `version`; what was set later is left out, so that both are of
    /// one moment.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn prior_price(&self, id: ProductId, present: PriceSince, version: u64) -> Result<Option<Money>, Error> {
        let _turn = self.inner.ungathered.acquire().await;
        // A price that was set with plain SQL has no row of its own.
        let mut newest_first = vec![present];
        let mut before = u64::MAX;
        let mut pieces = 0;
        loop {
            pieces += 1;
            let rows = price_history::newest(&self.inner.stores.mysql, id, before, PRIOR_PIECE).await?;
            let last = rows.len() < PRIOR_PIECE as usize || pieces == MOST_PIECES;
            before = rows.last().map_or(0, |row| row.id);
            let seen = rows.into_iter().filter(|row| row.version <= version);
            newest_first.extend(seen.flat_map(|row| {
                let replaced = row.replaced.map(|(price, since)| PriceSince { price: Some(price), since });
                std::iter::once(PriceSince { price: row.price, since: row.changed_at }).chain(replaced)
            }));
            match prior(&newest_first) {
                Prior::Known(price) => return Ok(price),
                Prior::Open(price) if last => return Ok(price),
                Prior::Open(_) => {}
            }
        }
    }

    /// At most `limit` prices that were set before the row `before`. The history of a deleted product stays.
    ///
    /// # Errors
    /// `NotFound`: there never was such a product; MySQL is away.
    pub async fn price_history(&self, id: ProductId, before: u64, limit: u32) -> Result<PriceHistory, Error> {
        let _turn = self.inner.ungathered.acquire().await;
        let mysql = &self.inner.stores.mysql;
        // One more tells whether there is a next page, and what the last price of this one replaced.
        let rows = price_history::newest(mysql, id, before, limit.saturating_add(1)).await?;
        if rows.is_empty() && products::find(mysql, &[id]).await?.is_empty() {
            return Err(Error::NotFound);
        }
        let more = rows.len() > limit as usize;
        let older = rows.iter().skip(1).map(|row| row.price).chain([None]);
        let replaced: Vec<_> = rows.iter().zip(older).map(|(row, older)| row.replaced.map(|(price, _)| price).or(older)).collect();
        let prices: Vec<_> = rows.into_iter().zip(replaced).take(limit as usize).collect();
        let next = prices.last().filter(|_| more).map(|(row, _)| row.id);
        Ok(PriceHistory { prices, next })
    }
}
