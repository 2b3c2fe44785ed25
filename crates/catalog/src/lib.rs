//! Products and prices: read through the cache, written through to MySQL and Redis.
//!
//! The only place where a product row is written; the API, imports and the operator's command line all
//! come here. What it promises: after a write was acknowledged no later read through any instance shows an
//! older version, and a write that was refused is never seen. Two rules carry that, and neither is a clock:
//! a cache entry is only filled by a reader that holds the row's shared lock (`read.rs`), and a writer marks
//! the entry while it holds the row's exclusive lock, before its COMMIT (`write.rs`).

mod available;
mod batch;
pub mod check;
mod gather;
mod known;
mod once;
mod prices;
mod read;
mod turns;
mod write;

pub use batch::{Batch, BatchSet, Judged, OnError, Outcome, RowFault, Undone, UndonePiece, Verdict};
pub use gather::{FLIGHTS, MOST_KEYS, MOST_WAITING, arrivals};
pub use once::{Answer, Done, Key, Once};
pub use prices::{PriceHistory, PriceRow};
pub use read::{After, Page, Record, Shown, Source, Views};
pub use write::{Imported, Precondition, PriceChange, PriceSet};

use domain::{Money, Sku};
use std::sync::Arc;
use storage::{Kind, MySql, Redis};
use telemetry::metrics::{CacheMetrics, IdempotencyMetrics, PriceMetrics};
use tokio::sync::Semaphore;

/// The price that a write found instead of the one that its caller expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    pub price: Option<Money>,
    /// Of the product.
    pub version: u64,
}

/// Why something asked of the catalog did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such product")]
    NotFound,
    #[error("the SKU {0} is taken")]
    DuplicateSku(Sku),
    /// The product is not as its writer expected. Nothing was changed.
    #[error("the product is at version {}", .0.version)]
    PreconditionFailed(Current),
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// The outcome of the first is not known yet.
    #[error("a request with the same idempotency key is still under way")]
    InProgress,
    /// A store is away or busy. Nothing was changed; try again.
    #[error(transparent)]
    Unavailable(storage::Error),
    /// COMMIT was sent and not answered: applied once, or not at all.
    #[error(transparent)]
    Unknown(storage::Error),
    /// Ours, or the operator's, to mend.
    #[error(transparent)]
    Internal(storage::Error),
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error.kind() {
            Kind::Unavailable | Kind::Full | Kind::Conflict => Self::Unavailable(error),
            Kind::Unknown => Self::Unknown(error),
            Kind::Corrupt | Kind::Bug => Self::Internal(error),
        }
    }
}

/// The metrics that the catalog feeds.
#[derive(Clone)]
pub struct Metrics {
    pub cache: Arc<CacheMetrics>,
    pub prices: Arc<PriceMetrics>,
    pub idempotency: Arc<IdempotencyMetrics>,
}

/// Products and prices of one deployment. Clones share everything.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
    here: Arc<read::Here>,
}

struct Inner {
    stores: Stores,
    reads: read::Gathers,
    beside: read::Beside,
    availability: Arc<available::Availability>,
    /// Turns of reads that cannot share a statement, so that a burst of them leaves connections to writes.
    ungathered: Semaphore,
    turns: Arc<turns::Turns>,
    known: known::Known,
    metrics: Metrics,
}

/// Ungathered reads under way in one process.
const MOST_UNGATHERED: usize = 8;

/// Both stores, as the flights of reads and the tasks of writes carry them.
#[derive(Clone)]
struct Stores {
    mysql: MySql,
    redis: Redis,
}

impl Catalog {
    /// Must be called on the runtime that is to do the I/O, after MySQL was reached.
    #[must_use]
    pub fn new(mysql: MySql, redis: Redis, metrics: Metrics) -> Self {
        let turns = Arc::new(turns::Turns::new(mysql.connections(), metrics.prices.waiting.clone()));
        let stores = Stores { mysql, redis };
        let (reads, known) = (read::Gathers::new(&stores), known::Known::new(&stores.mysql));
        let (beside, ungathered) = (read::Beside::default(), Semaphore::new(MOST_UNGATHERED));
        let availability = Arc::new(available::Availability::new(&stores.mysql));
        let here = Arc::new(read::Here::new(stores.redis.clone(), &availability));
        Self { inner: Arc::new(Inner { stores, reads, beside, availability, ungathered, turns, known, metrics }), here }
    }

    /// The same catalog for another runtime, such as an HTTP thread's: its reads of the cache go over a connection of their own
    /// there, and a hit meets no other thread. Everything else stays shared. Must be called on that runtime.
    #[must_use]
    pub fn here(&self) -> Self {
        let here = Arc::new(read::Here::new(self.inner.stores.redis.here(), &self.inner.availability));
        Self { inner: self.inner.clone(), here }
    }
}
