//! Many prices in one transaction, and a batch taken back.
//!
//! The steps are those of a single write but for the last two: rows are locked in the order of their ids, changed, and
//! their entries are deleted under the locks, before COMMIT. Nothing is marked and nothing is published: the next read of
//! each product fills its entry. Each product is a register as ever; several in one answer are no snapshot.
//!
//! What is asked of rows is judged under their locks, so that a batch that is only tried says what it would do.

use crate::once::{self, Done, Once};
use crate::write::{self, COMMIT_BEFORE, WRITE_LIMIT, Write, not_announced, retried, roll_back};
use crate::{Catalog, Error};
use chrono::{DateTime, Utc};
use domain::price_rows::MOST_ROWS;
use domain::{MaxChange, Money, Move, Named, PriceRow, ProductId, Sku};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use storage::mysql::Tx;
use storage::mysql::price_batches::{self, Change, PastChange};
use storage::mysql::products::ProductRow;
use storage::redis::Session;
use storage::{Error as StoreError, Kind};
use telemetry::metrics::{MysqlOp, PriceResult};
use uuid::Uuid;

/// What becomes of a batch of which a row cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Nothing is changed.
    RejectAll,
    /// The other rows are applied.
    SkipFailed,
}

/// Prices that are to be set together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Names it in the history. Several may share one: they are then taken back together. What was set under it is answered
    /// as changed when it is sent again.
    pub id: Uuid,
    /// At most [`MOST_ROWS`].
    pub rows: Vec<PriceRow>,
    /// Of rows that have none of their own.
    pub reason: Option<String>,
    pub actor: Option<Arc<str>>,
    pub on_error: OnError,
    /// Rows whose price would move further fail.
    pub max_change: Option<MaxChange>,
    /// Judge under the locks, and change nothing.
    pub dry_run: bool,
}

/// Why a row cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// There is no such product, or it was deleted.
    Unknown,
    /// Another row of the batch, at this place, is about the same product.
    Twice(usize),
    /// The product has this version and not the one that was asked for.
    Version(u64),
    /// The price would move further than allowed.
    TooFar(Move),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Changed,
    /// It has this price; its version does not matter then (RFC 9110 §13.1.1: what was asked for is there).
    Unchanged,
    Failed(RowFault),
}

/// What became, or would become, of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Where the product is known.
    pub product_id: Option<ProductId>,
    pub sku: Option<Sku>,
    pub from: Option<Money>,
    pub to: Money,
    /// After the change; that of now where nothing changes.
    pub version: Option<u64>,
    pub verdict: Verdict,
}

impl Judged {
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

/// What a batch did.
#[derive(Debug)]
pub struct BatchSet {
    /// In the order of the request.
    pub rows: Vec<Judged>,
    /// False for a dry run and where rows were refused: nothing was changed then, whatever rows say.
    pub applied: bool,
}

/// What became of one product of a batch that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Restored,
    /// Its price was changed after the batch, perhaps by an undo before.
    ChangedSince {
        undone_by: Option<String>,
    },
    /// The product was deleted.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub product_id: ProductId,
    pub sku: Option<Sku>,
    /// The price that the batch set.
    pub from: Option<Money>,
    /// The price before the batch.
    pub to: Option<Money>,
    pub outcome: Outcome,
}

/// A part of a batch that was taken back.
#[derive(Debug)]
pub struct UndonePiece {
    pub rows: Vec<Undone>,
    /// Where the next one begins; none behind the last.
    pub next: Option<ProductId>,
}

impl Catalog {
    /// Sets prices in one transaction: all that can be, or none, as `on_error` says. The same batch again changes nothing more
    /// and answers the same.
    ///
    /// # Errors
    /// `KeyReused`, `InProgress`; `Unavailable`: nothing was applied; `Unknown`: all or nothing of what could be.
    ///
    /// # Panics
    /// With more rows than [`MOST_ROWS`]: whoever reads them counts them.
    pub async fn set_prices(&self, batch: Batch, once: Option<Once<BatchSet>>) -> Result<Done<BatchSet>, Error> {
        assert!(batch.rows.len() <= MOST_ROWS, "a batch of {} rows", batch.rows.len());
        let (write, rows, dry_run, keyed) = (self.write(), batch.rows.len() as u64, batch.dry_run, once.is_some());
        let task = async move {
            let _turn = write.turn().await?;
            retried!(write, write.set_prices(&batch, once.as_ref()))
        };
        let result = self.inner.stores.mysql.detached(MysqlOp::Prices, Kind::Unknown, WRITE_LIMIT, task).await;
        let result = result.map_err(Error::from).flatten();
        if !dry_run {
            self.count(&result, rows);
        }
        // What was refused or only tried leaves no key.
        self.count_once(keyed && !matches!(&result, Ok(Done::Now(set)) if !set.applied), &result);
        result
    }

    fn count(&self, result: &Result<Done<BatchSet>, Error>, rows: u64) {
        let writes = &self.inner.metrics.prices.writes;
        match result {
            // Nothing was written, and nothing compared.
            Ok(Done::Before(_)) => {}
            Ok(Done::Now(set)) => {
                let of = |wanted: &Verdict| set.rows.iter().filter(|row| set.applied && row.verdict == *wanted).count() as u64;
                let (changed, unchanged) = (of(&Verdict::Changed), of(&Verdict::Unchanged));
                writes[PriceResult::Written].add(changed);
                writes[PriceResult::Unchanged].add(unchanged);
                writes[PriceResult::Refused].add(rows - changed - unchanged);
            }
            Err(Error::Unknown(_)) => writes[PriceResult::Unknown].add(rows),
            Err(_) => writes[PriceResult::Unavailable].add(rows),
        }
    }

    /// Gives the products that a batch changed, at most [`MOST_ROWS`] of them behind `after`, the prices from before it, where
    /// nobody changed them since. One transaction, and itself a batch with the id `undo`. Asking for the same again under the
    /// same id changes nothing more and answers the same.
    ///
    /// # Errors
    /// `NotFound`: no batch of this id changed anything; `Unavailable`: nothing was applied; `Unknown`: applied or not.
    pub async fn undo(&self, batch: Uuid, undo: Uuid, after: Option<ProductId>, actor: Option<Arc<str>>) -> Result<UndonePiece, Error> {
        let from = after.map_or(0, ProductId::get);
        let ids = price_batches::changed_by(&self.inner.stores.mysql, batch, from, MOST_ROWS).await?;
        if ids.is_empty() && after.is_none() {
            return Err(Error::NotFound);
        }
        let next = ids.last().copied().filter(|_| ids.len() == MOST_ROWS);
        let write = self.write();
        let task = async move {
            let _turn = write.turn().await?;
            retried!(write, write.undo(batch, undo, &ids, actor.as_deref()))
        };
        let rows = self.inner.stores.mysql.detached(MysqlOp::Prices, Kind::Unknown, WRITE_LIMIT, task).await?;
        Ok(UndonePiece { rows, next })
    }
}

impl Write {
    async fn set_prices(&self, batch: &Batch, once: Option<&Once<BatchSet>>) -> write::Outcome<Done<BatchSet>> {
        // Taken first and used to the end: a run of Redis that begins meanwhile has none of the entries that are deleted.
        let session = if batch.dry_run { None } else { Some(self.stores.redis.cache.session()?) };
        let mut tx = self.stores.mysql.begin().await?;
        if let Some(known) = once::begin(&mut tx, once).await? {
            return tx.rollback().await.map(|()| known);
        }
        let ids = ids_of(&mut tx, &batch.rows).await?;
        let there = price_batches::lock(&mut tx, &ids.iter().flatten().copied().collect(), self.started + COMMIT_BEFORE).await?;
        let mut rows = judge(batch, &ids, &there);
        let refused = match batch.on_error {
            OnError::RejectAll => rows.iter().any(Judged::is_failed),
            OnError::SkipFailed => rows.iter().all(Judged::is_failed),
        };
        let Some(session) = session.filter(|_| !refused) else {
            return tx.rollback().await.map(|()| Ok(Done::Now(BatchSet { rows, applied: false })));
        };
        let changes: Vec<Change> = rows.iter().zip(&batch.rows).filter_map(|(row, asked)| change(row, asked, batch, &there)).collect();
        set_before(&mut tx, batch.id, &mut rows).await?;
        price_batches::set(&mut tx, batch.id, &changes, batch.actor.as_deref()).await?;
        // Those that have their price already too: another system may have set it with plain SQL.
        let settled: Vec<_> = rows.iter().filter(|row| !row.is_failed()).filter_map(|row| row.product_id).collect();
        let set = BatchSet { rows, applied: true };
        once::keep(&mut tx, once, &set).await?;
        self.commit_dropping(tx, &session, &settled).await?;
        Ok(Ok(Done::Now(set)))
    }

    async fn undo(&self, batch: Uuid, undo: Uuid, ids: &BTreeSet<ProductId>, actor: Option<&str>) -> Result<Vec<Undone>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.stores.redis.cache.session()?;
        let mut tx = self.stores.mysql.begin().await?;
        let there = price_batches::lock(&mut tx, ids, self.started + COMMIT_BEFORE).await?;
        let done = price_batches::changes_of(&mut tx, batch, ids).await?;
        let rows: Vec<Undone> = ids.iter().filter_map(|id| Some(look_back(*id, there.get(id), done.get(id)?, batch, undo))).collect();
        let reason = undo_of(batch);
        let still_set = |row: &&Undone| row.outcome == Outcome::Restored && done.get(&row.product_id).is_some_and(|done| done.is_last);
        let change = |row: &Undone| Change {
            id: row.product_id,
            from: row.from,
            since: since(row.product_id, &there),
            to: row.to,
            reason: Some(reason.clone()),
        };
        let changes: Vec<Change> = rows.iter().filter(still_set).map(change).collect();
        price_batches::set(&mut tx, undo, &changes, actor).await?;
        let settled: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::Restored).map(|row| row.product_id).collect();
        self.commit_dropping(tx, &session, &settled).await?;
        Ok(rows)
    }

    /// Deletes the entries of rows that `tx` has locked, and commits.
    async fn commit_dropping(&self, tx: Tx, session: &Session, ids: &[ProductId]) -> Result<(), StoreError> {
        if let Err(error) = self.stores.redis.drop_entries(session, ids).await {
            return roll_back(tx, not_announced(error)).await;
        }
        tx.commit_by(self.started + COMMIT_BEFORE).await
    }
}

/// The id of each row's product, where it has one.
async fn ids_of(tx: &mut Tx, rows: &[PriceRow]) -> Result<Vec<Option<ProductId>>, StoreError> {
    let sku = |row: &PriceRow| match &row.product {
        Named::Sku(sku) => Some(sku.clone()),
        Named::Id(_) => None,
    };
    let skus: Vec<Sku> = rows.iter().filter_map(sku).collect();
    let by_sku = price_batches::ids_of(tx, &skus).await?;
    let id = |row: &PriceRow| match &row.product {
        Named::Id(id) => Some(*id),
        Named::Sku(sku) => by_sku.get(sku).copied(),
    };
    Ok(rows.iter().map(id).collect())
}

fn judge(batch: &Batch, ids: &[Option<ProductId>], there: &HashMap<ProductId, ProductRow>) -> Vec<Judged> {
    let mut places: HashMap<Option<ProductId>, Vec<usize>> = HashMap::new();
    for (place, id) in ids.iter().enumerate() {
        places.entry(*id).or_default().push(place);
    }
    let rows = batch.rows.iter().zip(ids).enumerate();
    rows.map(|(place, (asked, id))| {
        // A SKU may have gone to another product between its look-up and the lock.
        let is_named = |row: &&ProductRow| !matches!(&asked.product, Named::Sku(sku) if *sku != row.product.sku);
        let row = id.and_then(|id| there.get(&id)).filter(|row| !row.deleted).filter(is_named);
        // Which of two rows is meant cannot be known, so neither is taken.
        let other = id.and_then(|_| places[id].iter().copied().find(|other| *other != place));
        judge_row(asked, row, other, batch.max_change)
    })
    .collect()
}

fn judge_row(asked: &PriceRow, row: Option<&ProductRow>, other: Option<usize>, max_change: Option<MaxChange>) -> Judged {
    let named = match &asked.product {
        Named::Id(id) => (Some(*id), None),
        Named::Sku(sku) => (None, Some(sku.clone())),
    };
    let failed = |fault| Verdict::Failed(fault);
    let Some(product) = row.map(|row| &row.product) else {
        let fault = other.map_or(RowFault::Unknown, RowFault::Twice);
        return Judged { product_id: named.0, sku: named.1, from: None, to: asked.price, version: None, verdict: failed(fault) };
    };
    let change = Move::between(product.price, asked.price);
    let verdict = match (other, asked.if_version) {
        (Some(other), _) => failed(RowFault::Twice(other)),
        _ if product.price == Some(asked.price) => Verdict::Unchanged,
        (_, Some(version)) if version != product.version => failed(RowFault::Version(product.version)),
        _ if max_change.is_some_and(|most| !most.allows(change)) => failed(RowFault::TooFar(change)),
        _ => Verdict::Changed,
    };
    let version = product.version + u64::from(verdict == Verdict::Changed);
    let (product_id, sku) = (Some(product.id), Some(product.sku.clone()));
    Judged { product_id, sku, from: product.price, to: asked.price, version: Some(version), verdict }
}

/// Rows whose price this batch itself has set are changed: its COMMIT took effect, and the answer was lost.
async fn set_before(tx: &mut Tx, batch: Uuid, rows: &mut [Judged]) -> Result<(), StoreError> {
    let unchanged: BTreeSet<_> = rows.iter().filter(|row| row.verdict == Verdict::Unchanged).filter_map(|row| row.product_id).collect();
    if unchanged.is_empty() {
        return Ok(());
    }
    let done = price_batches::changes_of(tx, batch, &unchanged).await?;
    for row in rows.iter_mut().filter(|row| row.verdict == Verdict::Unchanged) {
        let done = row.product_id.and_then(|id| done.get(&id)).filter(|done| done.is_last && done.to == Some(row.to));
        if let Some(done) = done {
            (row.from, row.verdict) = (done.from, Verdict::Changed);
        }
    }
    Ok(())
}

fn change(row: &Judged, asked: &PriceRow, batch: &Batch, there: &HashMap<ProductId, ProductRow>) -> Option<Change> {
    let id = row.product_id.filter(|_| row.verdict == Verdict::Changed)?;
    let reason = asked.reason.clone().or_else(|| batch.reason.clone());
    Some(Change { id, from: row.from, since: since(id, there), to: Some(row.to), reason })
}

fn since(id: ProductId, there: &HashMap<ProductId, ProductRow>) -> Option<DateTime<Utc>> {
    there.get(&id).map(|row| row.product.updated_at)
}

/// The reason that an undo leaves in the history.
fn undo_of(batch: Uuid) -> String {
    format!("undo of {batch}")
}

fn look_back(id: ProductId, row: Option<&ProductRow>, done: &PastChange, batch: Uuid, undo: Uuid) -> Undone {
    let undone = |outcome, sku| Undone { product_id: id, sku, from: done.to, to: done.from, outcome };
    let Some(row) = row.filter(|row| !row.deleted) else { return undone(Outcome::Gone, None) };
    let by_this_undo = done.last_batch.as_deref() == Some(undo.to_string().as_str());
    let outcome = if by_this_undo || (done.is_last && row.product.price == done.to) {
        Outcome::Restored
    } else {
        let was_undone = done.last_reason.as_deref() == Some(undo_of(batch).as_str());
        Outcome::ChangedSince { undone_by: done.last_batch.clone().filter(|_| was_undone) }
    };
    undone(outcome, Some(row.product.sku.clone()))
}
