//! Write-through. The order of the steps is what makes it right, and every writer takes the same ones:
//!
//! 1. BEGIN, take the caller's key if it has one (`once.rs`), lock the row, look at what the caller expects of it, change it.
//! 2. Read the row back: the bytes to publish and their version. With a key, keep the answer under it.
//! 3. Mark the entry while the row is locked. Redis full: delete it instead. Redis away: roll back, 503.
//! 4. COMMIT. Refused: nothing was changed. Unanswered: the outcome is unknown, and the marker stays.
//! 5. Publish: replace our own marker. Whatever comes of it, the write is acknowledged.
//!
//! From 1 to 4 the row's lock keeps every reader from filling the entry with the older row; from 3 on the
//! entry does not show it either. A write runs to its end whether or not its caller still waits.

use crate::once::{self, Done, Once};
use crate::turns::{Turn, Turns};
use crate::{Catalog, Current, Error, Inner, Stores, read};
use chrono::{DateTime, Utc};
use domain::{ImportedProduct, Money, NewProduct, Product, ProductId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::mysql::Tx;
use storage::mysql::products::{self, ProductRow};
use storage::redis::Session;
use storage::redis::product_cache::Marked;
use storage::{Error as StoreError, Kind};
use telemetry::metrics::{MysqlOp, PriceResult, PriceStage};
use telemetry::pause_point::{self, PausePoint};

/// How long a caller waits for a write. Above the lock wait (2 s), below a request's limit (5 s).
pub(crate) const WRITE_LIMIT: Duration = Duration::from_millis(4_500);

/// After this a write that has not reached its COMMIT gives up: its caller is about to be told that it failed.
pub(crate) const COMMIT_BEFORE: Duration = Duration::from_secs(4);

/// How long a write with a key waits for those of its product before it is told that they are under way: as long as it would
/// wait for the key's row.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// Until when a deadlock is answered by running the whole transaction again: once more after a lock wait that ended in one, and
/// soon enough for another lock wait. A lock wait that came to its end is not answered so.
const RETRY_BEFORE: Duration = Duration::from_millis(2_200);

/// Runs a whole transaction again when it lost a deadlock. A macro, because a closure that returns a future which
/// borrows cannot be shown to be `Send`.
macro_rules! retried {
    ($write:expr, $once:expr) => {
        loop {
            match $once.await {
                Err(error) if $write.may_run_again(&error) => {}
                result => break result,
            }
        }
    };
}

pub(crate) use retried;

/// A price to be set.
#[derive(Debug)]
pub struct PriceChange {
    pub price: Money,
    /// For the history.
    pub reason: Option<String>,
    /// Who asked for it, for the history.
    pub actor: Option<Arc<str>>,
    /// Otherwise nothing is written.
    pub only_if: Option<Precondition>,
    /// Done once, however often it is asked for.
    pub once: Option<Once<Product>>,
}

/// What a caller expects of a product that it changes. Looked at while the row is locked, so that what was seen is what is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// It has a price.
    Priced,
    /// Its version is one of these.
    Version(Vec<u64>),
}

impl Precondition {
    fn holds(&self, product: &Product) -> bool {
        match self {
            Self::Priced => product.price.is_some(),
            Self::Version(versions) => versions.contains(&product.version),
        }
    }
}

/// A price that is in MySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSet {
    pub product_id: ProductId,
    pub price: Money,
    pub version: u64,
    /// When the row got its present version.
    pub committed_at: DateTime<Utc>,
    /// False when the product had this price already.
    pub changed: bool,
}

impl PriceSet {
    /// The price that a product was given, as its row shows it.
    #[must_use]
    pub fn of(product: &Product, price: Money) -> Self {
        Self { product_id: product.id, price, version: product.version, committed_at: product.updated_at, changed: true }
    }
}

/// What an import did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    Created,
    Updated,
    Unchanged,
}

/// What came of a transaction: inside, what its caller is refused; outside, failures of a store, some of which are tried again.
pub(crate) type Outcome<T> = Result<Result<T, Error>, StoreError>;

/// One write under way: the stores, and when it began.
pub(crate) struct Write {
    pub(crate) stores: Stores,
    turns: Arc<Turns>,
    pub(crate) started: Instant,
    metrics: crate::Metrics,
}

/// What a price leaves in the history, beside itself.
struct Past<'a> {
    before: Option<&'a Product>,
    reason: Option<&'a str>,
    actor: Option<&'a str>,
}

/// An entry that was marked, and the session over which it is published.
struct Mark {
    session: Session,
    marked: Marked,
    took: Duration,
}

impl Catalog {
    /// Sets the price of a product. Setting the price that it has changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `PreconditionFailed`; `KeyReused`, `InProgress`; `Unavailable`: not applied; `Unknown`: applied or not.
    pub async fn set_price(&self, id: ProductId, change: PriceChange) -> Result<Done<PriceSet>, Error> {
        let (write, keyed) = (self.write(), change.once.is_some());
        let (prices, started) = (self.inner.metrics.prices.clone(), write.started);
        let task = async move {
            let _turn = match write.turns.take(Some(id), write.started + if keyed { KEY_WAIT } else { COMMIT_BEFORE }).await {
                // Perhaps behind another with this key: it is safe to come back.
                Err(_) if keyed => return Ok(Err(Error::InProgress)),
                turn => turn?,
            };
            retried!(write, write.set_price(id, &change))
        };
        let result = self.inner.stores.mysql.detached(MysqlOp::Price, Kind::Unknown, WRITE_LIMIT, task).await;
        prices.duration[PriceStage::Total].observe(started.elapsed());
        let result = result.map_err(Error::from).flatten();
        let outcome = match &result {
            Ok(Done::Now(set)) if set.changed => Some(PriceResult::Written),
            Ok(Done::Now(_)) => Some(PriceResult::Unchanged),
            // Nothing was written, and nothing compared.
            Ok(Done::Before(_)) => None,
            Err(Error::Unavailable(_) | Error::Internal(_)) => Some(PriceResult::Unavailable),
            Err(Error::Unknown(_)) => Some(PriceResult::Unknown),
            Err(_) => Some(PriceResult::Refused),
        };
        outcome.into_iter().for_each(|outcome| prices.writes[outcome].inc());
        self.count_once(keyed, &result);
        result
    }

    pub(crate) fn count_once<T>(&self, keyed: bool, result: &Result<Done<T>, Error>) {
        if keyed {
            once::count(&self.inner.metrics.idempotency, result);
        }
    }

    /// Makes a product; MySQL gives its id. `actor` is who asked for it.
    ///
    /// # Errors
    /// `DuplicateSku`; otherwise as [`Self::set_price`].
    pub async fn create(&self, product: NewProduct, actor: Option<Arc<str>>, once: Option<Once<Product>>) -> Result<Done<Product>, Error> {
        let (write, keyed) = (self.write(), once.is_some());
        let task = async move {
            let _turn = write.turn().await?;
            retried!(write, write.create(&product, actor.as_deref(), once.as_ref()))
        };
        let created = self.inner.stores.mysql.detached(MysqlOp::Create, Kind::Unknown, WRITE_LIMIT, task).await;
        let created = created.map_err(Error::from).flatten();
        self.count_once(keyed, &created);
        if let Ok(Done::Now(product)) = &created {
            self.inner.known.note(product.id, true);
        }
        created
    }

    /// Makes a product or brings it up to date, by SKU; what the file does not tell stays. A dry run changes nothing and says what
    /// would be done. What is as the file says is left alone, its cache entry too: where plain SQL has changed the row, that is shown
    /// as such changes are. `actor` is who asked for it.
    ///
    /// # Errors
    /// `DuplicateSku` when the SKU belongs to a deleted product; otherwise as [`Self::set_price`].
    pub async fn import(&self, product: ImportedProduct, dry_run: bool, actor: Option<Arc<str>>) -> Result<Imported, Error> {
        let (write, sku) = (self.write(), product.sku.clone());
        let task = async move {
            let _turn = write.turn().await?;
            retried!(write, write.import(&product, dry_run, actor.as_deref()))
        };
        let imported = self.inner.stores.mysql.detached(MysqlOp::Import, Kind::Unknown, WRITE_LIMIT, task).await?;
        imported.ok_or(Error::DuplicateSku(sku))
    }

    pub(crate) fn write(&self) -> Write {
        let Inner { stores, turns, metrics, .. } = &*self.inner;
        Write { stores: stores.clone(), turns: turns.clone(), started: Instant::now(), metrics: metrics.clone() }
    }
}

impl Write {
    /// The turn of a write that is of no product yet, or of several.
    pub(crate) async fn turn(&self) -> Result<Turn, StoreError> {
        self.turns.take(None, self.started + COMMIT_BEFORE).await
    }

    pub(crate) fn may_run_again(&self, error: &StoreError) -> bool {
        error.kind() == Kind::Conflict && !error.is_lock_wait() && self.started.elapsed() < RETRY_BEFORE
    }

    async fn set_price(&self, id: ProductId, change: &PriceChange) -> Outcome<Done<PriceSet>> {
        let PriceChange { price, reason, actor, only_if, once } = change;
        let mut tx = self.stores.mysql.begin().await?;
        if let Some(known) = once::begin(&mut tx, once.as_ref()).await? {
            return tx.rollback().await.map(|()| known);
        }
        let Some(before) = products::lock(&mut tx, id).await?.filter(|row| !row.deleted) else {
            return refuse(tx, Error::NotFound).await;
        };
        if only_if.as_ref().is_some_and(|expected| !expected.holds(&before.product)) {
            let current = Current { price: before.product.price, version: before.product.version };
            return refuse(tx, Error::PreconditionFailed(current)).await;
        }
        if before.product.price == Some(*price) {
            // Another system may have set it with plain SQL: then the entry is older than what is acknowledged here.
            if let Err(error) = self.drop_entry(id).await {
                return roll_back(tx, error).await;
            }
            self.end_unchanged(tx, once.as_ref(), &before.product).await?;
            return Ok(Ok(Done::Now(PriceSet { changed: false, ..PriceSet::of(&before.product, *price) })));
        }
        products::set_price(&mut tx, id, *price).await?;
        let row = read_back(&mut tx, id).await?;
        let past = Past { before: Some(&before.product), reason: reason.as_deref(), actor: actor.as_deref() };
        let row = self.land(tx, row, Some(past), once.as_ref()).await?;
        Ok(Ok(Done::Now(PriceSet::of(&row.product, *price))))
    }

    /// Nothing was changed; only what is answered under a key is to be committed.
    async fn end_unchanged(&self, mut tx: Tx, once: Option<&Once<Product>>, product: &Product) -> Result<(), StoreError> {
        if once.is_none() {
            return tx.rollback().await;
        }
        once::keep(&mut tx, once, product).await?;
        tx.commit_by(self.started + COMMIT_BEFORE).await
    }

    async fn create(&self, product: &NewProduct, actor: Option<&str>, once: Option<&Once<Product>>) -> Outcome<Done<Product>> {
        let mut tx = self.stores.mysql.begin().await?;
        if let Some(known) = once::begin(&mut tx, once).await? {
            return tx.rollback().await.map(|()| known);
        }
        let Some(id) = products::insert(&mut tx, product).await? else {
            return refuse(tx, Error::DuplicateSku(product.sku.clone())).await;
        };
        let (row, past) = (read_back(&mut tx, id).await?, Past { before: None, reason: None, actor });
        let row = self.land(tx, row, product.price.map(|_| past), once).await?;
        Ok(Ok(Done::Now(row.product)))
    }

    async fn import(&self, product: &ImportedProduct, dry_run: bool, actor: Option<&str>) -> Result<Option<Imported>, StoreError> {
        let mut tx = self.stores.mysql.begin().await?;
        let before = products::lock_by_sku(&mut tx, &product.sku).await?;
        let (imported, price_changed) = match &before {
            None => (Imported::Created, product.price.is_some()),
            Some(row) if row.deleted => return tx.rollback().await.map(|()| None),
            Some(ProductRow { product: there, .. }) if product.differs_from(there) => {
                (Imported::Updated, product.price_differs_from(there))
            }
            Some(_) => (Imported::Unchanged, false),
        };
        if dry_run || imported == Imported::Unchanged {
            return tx.rollback().await.map(|()| Some(imported));
        }
        let id = match &before {
            Some(ProductRow { product: there, .. }) => {
                products::set_imported(&mut tx, there.id, product).await?;
                there.id
            }
            // Another that made it meanwhile: begin again.
            None => products::insert(&mut tx, &product.clone().made()).await?.ok_or_else(made_meanwhile)?,
        };
        let past = Past { before: before.as_ref().map(|row| &row.product), reason: Some("import"), actor };
        let row = read_back(&mut tx, id).await?;
        self.land(tx, row, price_changed.then_some(past), None).await.map(|_| Some(imported))
    }

    /// Steps 3 to 5 for a row that `tx` has locked, changed and read back; `past` where its price is another.
    async fn land(
        &self,
        mut tx: Tx,
        row: ProductRow,
        past: Option<Past<'_>>,
        once: Option<&Once<Product>>,
    ) -> Result<ProductRow, StoreError> {
        let id = row.product.id;
        let kept = async {
            if let Some(Past { before, reason, actor }) = past {
                products::add_history(&mut tx, &row.product, before, reason, actor).await?;
            }
            once::keep(&mut tx, once, &row.product).await
        };
        // Side by side: the mark only has to stand before COMMIT.
        let (marked, kept) = tokio::join!(self.mark(id, row.product.version), kept);
        let Mark { session, marked, took } = match kept.and(marked) {
            Ok(mark) => mark,
            Err(error) => return roll_back(tx, error).await,
        };
        let cached = read::cached(&row)?;
        pause_point::reached(PausePoint::BeforeCommit, id).await;
        tx.commit_by(self.started + COMMIT_BEFORE).await?;
        pause_point::reached(PausePoint::AfterCommit, id).await;
        self.metrics.prices.duration[PriceStage::Mysql].observe(self.started.elapsed());
        let publishing = Instant::now();
        if let Marked::Marker(marker) = marked {
            // A lost publish costs a few uncached reads: the marker stays until its TTL.
            let _ = self.stores.redis.publish(&session, &marker, &cached).await;
        }
        pause_point::reached(PausePoint::AfterPublish, id).await;
        self.metrics.prices.duration[PriceStage::Redis].observe(took + publishing.elapsed());
        Ok(row)
    }

    async fn drop_entry(&self, id: ProductId) -> Result<(), StoreError> {
        let session = self.stores.redis.cache.session()?;
        self.stores.redis.drop_entry(&session, id).await.map_err(not_announced)
    }

    /// Step 3. The row is locked and is not yet committed.
    async fn mark(&self, id: ProductId, version: u64) -> Result<Mark, StoreError> {
        pause_point::reached(PausePoint::AfterLock, id).await;
        let (session, began) = (self.stores.redis.cache.session()?, Instant::now());
        let marked = self.stores.redis.mark(&session, id, version).await.map_err(not_announced)?;
        pause_point::reached(PausePoint::AfterMark, id).await;
        Ok(Mark { session, marked, took: began.elapsed() })
    }
}

/// Whether the call to Redis arrived or not: nothing is committed, so nothing is unknown to the caller.
pub(crate) fn not_announced(error: StoreError) -> StoreError {
    StoreError::new(Kind::Unavailable, format!("the write cannot be announced: {error}"))
}

/// Step 2.
async fn read_back(tx: &mut Tx, id: ProductId) -> Result<ProductRow, StoreError> {
    let gone = || StoreError::new(Kind::Bug, format!("product {id} was not there after it was written"));
    products::lock(tx, id).await?.ok_or_else(gone)
}

fn made_meanwhile() -> StoreError {
    StoreError::new(Kind::Conflict, "the product was made by another at the same time")
}

/// Ends a transaction that has changed nothing, for a reason that is the caller's.
async fn refuse<T>(tx: Tx, why: Error) -> Outcome<T> {
    tx.rollback().await.map(|()| Err(why))
}

pub(crate) async fn roll_back<T>(tx: Tx, error: StoreError) -> Result<T, StoreError> {
    // The error that led here is the one to tell; a lost connection rolls back as well.
    let _ = tx.rollback().await;
    Err(error)
}
