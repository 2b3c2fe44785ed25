//! Read-through.
//!
//! 1. One round trip reads entry and shown views of all that a thread asks for at the moment. Data → answer.
//! 2. Otherwise the id joins the next flight, which takes leases for what is absent, reads those rows with a
//!    shared lock and without waiting, and fills. What is marked, leased by others or locked is read plainly
//!    and not filled. Redis away: everything is read plainly.
//!
//! A flight reads the primary, in autocommit mode, after all its loads began (`gather.rs`).

use crate::available::Availability;
use crate::gather::Gather;
use crate::{Catalog, Error, Stores};
use chrono::{DateTime, Utc};
use domain::{Product, ProductId, Sku};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use storage::Redis;
pub use storage::mysql::products::After;
use storage::mysql::products::{self, Locked, ProductRow};
use storage::mysql::view_counts;
use storage::redis::product_cache::{Acquired, Cached, Entry, Read, Token};
pub use storage::redis::shown_views::Views;
use storage::redis::shown_views::{Queued, ShownFill};
use telemetry::metrics::CacheResult;
use telemetry::pause_point::{self, PausePoint};

/// Attempts at shown totals before waiting for the shard to rest.
const EAGER_ATTEMPTS: u32 = 5;
const REST_PAUSE: Duration = Duration::from_millis(2);
const SHOWN_LIMIT: Duration = Duration::from_secs(4);

/// How long a product whose record is there waits for what is shown beside it, and how long nobody waits after that. A
/// healthy MySQL takes milliseconds; a hit must not be as slow as a MySQL that hangs.
const BESIDE_LIMIT: Duration = Duration::from_millis(500);
const BESIDE_PAUSE: Duration = Duration::from_secs(1);

/// The record of a product: its JSON without views and availability, and its version.
#[derive(Debug, Clone)]
pub struct Record {
    pub version: u64,
    /// A complete JSON object.
    pub json: Arc<[u8]>,
}

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Hit,
    /// Nothing was cached.
    Miss,
    /// The cache could not be used: a write or another fill was under way, or Redis is away.
    Bypass,
}

/// A product as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: ProductId,
    /// `None`: there is no such product.
    pub record: Option<Record>,
    /// On hand − reserved, at most two seconds old; `None` while it cannot be read.
    pub available: Option<i64>,
    /// `None` while they cannot be read.
    pub views: Option<Views>,
    pub source: Source,
}

/// Some products of a walk over all of them.
#[derive(Debug)]
pub struct Page {
    pub shown: Vec<Shown>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<After>,
}

/// Reads of what is shown beside a record. After one that failed or was late, all are left out for a while.
#[derive(Default)]
pub(crate) struct Beside {
    failed: Mutex<Option<Instant>>,
}

impl Beside {
    async fn read<T>(&self, load: impl Future<Output = (Result<T, storage::Error>, bool)>) -> Option<T> {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed().is_some_and(|since| since.elapsed() < BESIDE_PAUSE) {
            return None;
        }
        let loaded = tokio::time::timeout(BESIDE_LIMIT, load).await.ok().and_then(|(loaded, _)| loaded.ok());
        *failed() = loaded.is_none().then(Instant::now);
        loaded
    }
}

/// What one thread reads together.
pub(crate) struct Here {
    /// Reads of the cache: one round trip for all that is asked for at the moment.
    pub(crate) cached: Gather<ProductId, Read>,
    available: Gather<ProductId, i64>,
}

impl Here {
    /// `redis` is this thread's.
    pub(crate) fn new(redis: Redis, availability: &Arc<Availability>) -> Self {
        let cached = Gather::here(move |ids: Vec<ProductId>| {
            let redis = redis.clone();
            async move {
                let reads = redis.read(&ids).await;
                Ok(ids.into_iter().zip(reads).collect())
            }
        });
        Self { cached, available: availability.gather() }
    }
}

/// The loads that go to MySQL and are asked for by the whole process, each kind gathered by itself.
pub(crate) struct Gathers {
    records: Gather<ProductId, Cached>,
    views: Gather<ProductId, Option<Views>>,
}

impl Gathers {
    pub(crate) fn new(stores: &Stores) -> Self {
        let (records, views) = (stores.clone(), stores.clone());
        Self {
            records: Gather::new(move |ids| records.clone().load_records(ids)),
            views: Gather::new(move |ids| views.clone().load_views(ids)),
        }
    }
}

impl Catalog {
    /// Reads one product.
    ///
    /// # Errors
    /// The record was not cached and MySQL is away.
    pub async fn product(&self, id: ProductId) -> Result<Shown, Error> {
        let read = self.here.cached.load(id).await.0;
        self.complete(id, read.unwrap_or(Read { entry: Entry::Busy, views: None })).await
    }

    /// Reads several products; one answer for each id, in their order. No snapshot across products.
    ///
    /// # Errors
    /// As [`Self::product`].
    pub async fn products(&self, ids: &[ProductId]) -> Result<Vec<Shown>, Error> {
        join_all(ids.iter().map(|id| self.product(*id))).await.into_iter().collect()
    }

    /// The ids of products by SKU; unknown SKUs are left out.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn ids_of(&self, skus: &[Sku]) -> Result<HashMap<Sku, ProductId>, Error> {
        let _turn = self.inner.ungathered.acquire().await;
        Ok(products::ids_of(&self.inner.stores.mysql, skus).await?)
    }

    /// Reads at most `limit` products behind a place, from MySQL alone: a walk over the catalogue would fill the cache with what
    /// nobody else asks for. What the queue knows of their views comes in one round trip.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn page(&self, after: After, limit: u32) -> Result<Page, Error> {
        let _turn = self.inner.ungathered.acquire().await;
        // One more tells whether there is a next page.
        let mut rows = products::page(&self.inner.stores.mysql, after, limit.saturating_add(1)).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let place = |last: &Product| match after {
            After::Id(_) => After::Id(last.id.get()),
            After::Updated(..) => After::Updated(last.updated_at, last.id.get()),
        };
        let next = rows.last().filter(|_| more).map(place);
        if rows.is_empty() {
            return Ok(Page { shown: Vec::new(), next });
        }
        let ids: Vec<_> = rows.iter().map(|product| product.id).collect();
        let queued = self.inner.stores.redis.queued(&ids).await;
        let queued = queued.map_or_else(|_| vec![None; ids.len()], |queued| queued.into_iter().map(Some).collect());
        let shown = rows.iter().zip(queued).map(|(product, queued)| self.beside(product, queued));
        let shown = join_all(shown).await.into_iter().collect::<Result<_, _>>()?;
        Ok(Page { shown, next })
    }

    /// A row that was just read, with what is shown beside it.
    async fn beside(&self, product: &Product, queued: Option<Queued>) -> Result<Shown, Error> {
        let Cached { version, json } = Cached::of(product)?;
        let record = json.map(|json| Record { version, json });
        let (available, views) = tokio::join!(self.available(product.id), self.views(product.id, queued));
        Ok(Shown { id: product.id, record, available, views, source: Source::Bypass })
    }

    /// Hourly views of a product that are in MySQL, ascending, `from` included and `to` not.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn view_hours(&self, id: ProductId, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<(DateTime<Utc>, u64)>, Error> {
        let _turn = self.inner.ungathered.acquire().await;
        Ok(view_counts::hours(&self.inner.stores.mysql, id, from, to).await?)
    }

    async fn complete(&self, id: ProductId, read: Read) -> Result<Shown, Error> {
        let (cached, source) = self.record(id, read.entry).await?;
        self.inner.known.note(id, cached.json.is_some());
        let version = cached.version;
        let Some(json) = cached.json else {
            return Ok(Shown { id, record: None, available: None, views: None, source });
        };
        let (available, views) = tokio::join!(self.available(id), self.views(id, read.views));
        Ok(Shown { id, record: Some(Record { version, json }), available, views, source })
    }

    pub(crate) async fn record(&self, id: ProductId, entry: Entry) -> Result<(Cached, Source), Error> {
        let (result, source) = match entry {
            Entry::Data(cached) => {
                let result = if cached.json.is_some() { CacheResult::Hit } else { CacheResult::NegativeHit };
                self.inner.metrics.cache.requests[result].inc();
                return Ok((cached, Source::Hit));
            }
            Entry::Absent => (CacheResult::Miss, Source::Miss),
            Entry::Busy => (CacheResult::Bypass, Source::Bypass),
        };
        self.inner.metrics.cache.requests[result].inc();
        let (cached, joined) = self.inner.reads.records.load(id).await;
        if joined {
            self.inner.metrics.cache.coalesced.inc();
        }
        Ok((cached?, source))
    }

    async fn available(&self, id: ProductId) -> Option<i64> {
        match self.inner.availability.shown(id) {
            Some(available) => Some(available),
            None => self.inner.beside.read(self.here.available.load(id)).await,
        }
    }

    async fn views(&self, id: ProductId, queued: Option<Queued>) -> Option<Views> {
        let queued = queued?;
        match queued.persisted {
            Some(persisted) => Some(Views { persisted, pending: queued.pending }),
            None => self.inner.beside.read(self.inner.reads.views.load(id)).await.flatten(),
        }
    }
}

impl Stores {
    async fn load_records(self, ids: Vec<ProductId>) -> Result<HashMap<ProductId, Cached>, storage::Error> {
        let mut found = HashMap::with_capacity(ids.len());
        let unfilled = match self.lease_and_fill(&ids, &mut found).await? {
            Some(unfilled) => unfilled,
            None => ids,
        };
        if !unfilled.is_empty() {
            let rows = products::find(&self.mysql, &unfilled).await?;
            found.extend(unfilled.into_iter().map(|id| (id, Cached::absent(0))));
            for row in rows {
                found.insert(row.product.id, cached(&row)?);
            }
        }
        Ok(found)
    }

    /// Fills what it can and returns the ids that are to be read plainly; `None` when the cache cannot be used at all.
    async fn lease_and_fill(
        &self,
        ids: &[ProductId],
        found: &mut HashMap<ProductId, Cached>,
    ) -> Result<Option<Vec<ProductId>>, storage::Error> {
        let Ok(session) = self.redis.cache.session() else { return Ok(None) };
        let Ok(acquired) = self.redis.acquire(&session, ids).await else {
            return Ok(None);
        };
        let (mut leases, mut unfilled) = (HashMap::<ProductId, Token>::new(), Vec::new());
        for (id, acquired) in ids.iter().zip(acquired) {
            match acquired {
                Acquired::Lease(token) => drop(leases.insert(*id, token)),
                Acquired::Found(Entry::Data(data)) => drop(found.insert(*id, data)),
                Acquired::Found(_) => unfilled.push(*id),
            }
        }
        if leases.is_empty() {
            return Ok(Some(unfilled));
        }
        let leased: Vec<ProductId> = leases.keys().copied().collect();
        pause_point::reached(PausePoint::AfterLease, &leased).await;
        let mut fills = Vec::with_capacity(leased.len());
        let rows = products::find_for_fill(&self.mysql, &leased).await?;
        pause_point::reached(PausePoint::AfterSelect, &leased).await;
        for (id, locked) in rows {
            let data = match locked {
                Locked::Found(row) => cached(&row)?,
                Locked::Absent => Cached::absent(0),
                Locked::Busy => {
                    unfilled.push(id);
                    continue;
                }
            };
            fills.extend(leases.remove(&id).map(|lease| (lease, data.clone())));
            found.insert(id, data);
        }
        if !fills.is_empty() {
            // A fill that failed costs the next reader a miss.
            let _ = self.redis.fill(&session, &fills).await;
            pause_point::reached(PausePoint::AfterFill, &leased).await;
        }
        Ok(Some(unfilled))
    }

    /// `None` for a product whose shard did not rest within the limit.
    async fn load_views(self, ids: Vec<ProductId>) -> Result<HashMap<ProductId, Option<Views>>, storage::Error> {
        let started = Instant::now();
        let mut shown: HashMap<ProductId, Option<Views>> = ids.iter().map(|id| (*id, None)).collect();
        let mut open = ids;
        for attempt in 1.. {
            let fill = ShownFill::begin(&self.redis, &open).await?;
            let totals = view_counts::totals(&self.mysql, &open).await?;
            shown.extend(fill.store(&self.redis, &totals).await?.into_iter().map(|(id, views)| (id, Some(views))));
            open.retain(|id| shown[id].is_none());
            if open.is_empty() || started.elapsed() > SHOWN_LIMIT {
                break;
            }
            if attempt >= EAGER_ATTEMPTS {
                tokio::time::sleep(REST_PAUSE).await;
            }
        }
        Ok(shown)
    }
}

pub(crate) fn cached(row: &ProductRow) -> Result<Cached, storage::Error> {
    if row.deleted { Ok(Cached::absent(row.product.version)) } else { Cached::of(&row.product) }
}
