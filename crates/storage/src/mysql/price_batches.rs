//! Many prices in one transaction: rows of `products` and `price_history`.
//!
//! Only `catalog` calls what is here, and drops the cache entries of the rows while they are locked. Whatever locks
//! several products does it here, in the order of their ids, so that no two transactions wait for each other.

use super::products::{self, ProductRow};
use super::{MySql, Tx, number_list, take};
use crate::{Error, Kind};
use chrono::{DateTime, Utc};
use domain::{Money, ProductId, Sku};
use mysql_async::Row;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use telemetry::metrics::MysqlOp;
use uuid::Uuid;

/// Rows locked by one statement. From 1,000 on MariaDB takes a list for a table of its own (`in_predicate_conversion_threshold`),
/// and then nothing says in which order rows are locked. Fewer, because the time is looked at in between only.
const LOCKED_AT_ONCE: usize = 100;

/// A price that is to be another.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: ProductId,
    pub from: Option<Money>,
    /// Since when the product was as it is now.
    pub since: Option<DateTime<Utc>>,
    /// None only where a first price is taken back.
    pub to: Option<Money>,
    pub reason: Option<String>,
}

/// What a batch did to a product, and what came of it.
#[derive(Debug, Clone)]
pub struct PastChange {
    pub from: Option<Money>,
    pub to: Option<Money>,
    /// Whether the history goes on behind it.
    pub is_last: bool,
    /// Batch and reason of the last row of the history.
    pub last_batch: Option<String>,
    pub last_reason: Option<String>,
}

/// The ids of products that are not deleted, by SKU; unknown SKUs are left out. Locks nothing.
///
/// # Errors
/// As any statement.
pub async fn ids_of(tx: &mut Tx, skus: &[Sku]) -> Result<HashMap<Sku, ProductId>, Error> {
    if skus.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.rows(products::IDS_OF, (json!(skus).to_string(),)).await?;
    rows.into_iter().map(products::sku_and_id).collect()
}

/// Locks the rows, in the order of their ids, until the transaction ends; ids without a row are left out.
///
/// # Errors
/// `Conflict` when another writer holds a row for longer than the lock wait; `Unavailable` when others had held them until `latest`.
pub async fn lock(tx: &mut Tx, ids: &BTreeSet<ProductId>, latest: Instant) -> Result<HashMap<ProductId, ProductRow>, Error> {
    let (ids, mut locked) = (ids.iter().map(|id| id.get()).collect::<Vec<_>>(), HashMap::with_capacity(ids.len()));
    for ids in ids.chunks(LOCKED_AT_ONCE) {
        if Instant::now() >= latest {
            return Err(Error::new(Kind::Unavailable, "MySQL: others held rows of the batch for too long"));
        }
        let (columns, list) = (products::COLUMNS, number_list(ids.iter().copied()));
        // The index is named so that rows are met, and locked, in its order, however many of the table's they are.
        let sql = format!("SELECT {columns} FROM products FORCE INDEX (PRIMARY) WHERE id IN ({list}) ORDER BY id FOR UPDATE");
        for row in tx.rows(&sql, ()).await? {
            let row = products::product(row)?;
            locked.insert(row.product.id, row);
        }
    }
    Ok(locked)
}

/// Changes prices of rows that this transaction has locked, and writes their history.
///
/// # Errors
/// As any statement.
pub async fn set(tx: &mut Tx, batch: Uuid, changes: &[Change], actor: Option<&str>) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let list = Value::from_iter(changes.iter().map(row)).to_string();
    tx.execute(include_str!("sql/set_prices.sql"), (&list,)).await?;
    tx.execute(include_str!("sql/add_batch_history.sql"), (actor, batch.to_string(), &list)).await.map(|_| ())
}

/// Amounts go as text: a JSON number would pass through a float.
fn row(change: &Change) -> Value {
    let money = |money: Option<Money>| (money.map(|it| it.amount().to_string()), money.map(|it| it.currency().code().to_owned()));
    let ((price, currency), (before, before_currency)) = (money(change.to), money(change.from));
    let since = change.since.filter(|_| before.is_some()).map(|since| since.naive_utc().to_string());
    json!([change.id, price, currency, before, before_currency, since, change.reason])
}

/// The products that a batch changed, by id, behind `after` (0: from the first).
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn changed_by(mysql: &MySql, batch: Uuid, after: u64, limit: usize) -> Result<BTreeSet<ProductId>, Error> {
    let sql = format!(
        "SELECT DISTINCT product_id FROM price_history WHERE batch = '{batch}' AND product_id > {after} ORDER BY product_id LIMIT {limit}"
    );
    let rows = mysql.rows(MysqlOp::Prices, sql, ()).await?;
    rows.into_iter().map(|mut row| products::product_id(take(&mut row, "product_id")?)).collect()
}

/// What the batch did to those products; what it did last, should a part of it have been sent again after another changed
/// a price between. Under their locks nothing can be added behind.
///
/// # Errors
/// As any statement.
pub async fn changes_of(tx: &mut Tx, batch: Uuid, ids: &BTreeSet<ProductId>) -> Result<HashMap<ProductId, PastChange>, Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    // The index is named because MariaDB, whose figures of the table are old after much was written, read all of it for each thousand.
    let sql = format!(
        "SELECT h.id, h.product_id, h.price, h.currency, h.before_price, h.before_currency, l.id AS last, l.batch, l.reason \
         FROM price_history h FORCE INDEX (price_history_batch) JOIN price_history l \
         ON l.id = (SELECT id FROM price_history WHERE product_id = h.product_id ORDER BY id DESC LIMIT 1) \
         WHERE h.batch = '{batch}' AND h.product_id IN ({list}) ORDER BY h.id"
    );
    tx.rows(&sql, ()).await?.into_iter().map(of_history).collect()
}

fn of_history(mut row: Row) -> Result<(ProductId, PastChange), Error> {
    let row = &mut row;
    let money = |row: &mut Row, amount: &str, currency: &str| -> Result<Option<Money>, Error> {
        let (amount, currency): (Option<Decimal>, Option<String>) = (take(row, amount)?, take(row, currency)?);
        Ok(amount.zip(currency).map(|(amount, currency)| Money::stored(amount, &currency)))
    };
    let id = products::product_id(take(row, "product_id")?)?;
    let done = PastChange {
        from: money(row, "before_price", "before_currency")?,
        to: money(row, "price", "currency")?,
        is_last: take::<u64>(row, "id")? == take::<u64>(row, "last")?,
        last_batch: take(row, "batch")?,
        last_reason: take(row, "reason")?,
    };
    Ok((id, done))
}
