//! The tables `products` and `price_history`.
//!
//! Only `catalog` calls what writes here: a changed row without the steps around it leaves the cache stale.

use super::{DUPLICATE_KEY, Flavor, LOCK_NOWAIT, LOCK_WAIT_TIMEOUT, MySql, Tx, number_list, take};
use crate::{Error, Kind};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::{ImportedProduct, Money, NewProduct, Product, ProductId, Sku};
use mysql_async::{Params, Row, Value};
use rust_decimal::Decimal;
use std::collections::{BTreeSet, HashMap};
use telemetry::metrics::MysqlOp;

pub(super) const COLUMNS: &str =
    "id, sku, name, description, active, price, currency, version, updated_at, deleted_at IS NOT NULL AS deleted";

/// A row, which may be that of a deleted product.
#[derive(Debug, Clone)]
pub struct ProductRow {
    pub product: Product,
    pub deleted: bool,
}

/// What a locking read for a fill found.
#[derive(Debug)]
pub enum Locked {
    /// Nobody is writing this row: it may be cached.
    Found(ProductRow),
    /// There is no such row and nobody is making one: its absence may be cached.
    Absent,
    /// Somebody is writing it, or that could not be told apart: read without locking and cache nothing.
    Busy,
}

pub(super) fn product(mut row: Row) -> Result<ProductRow, Error> {
    let row = &mut row;
    let id = product_id(take(row, "id")?)?;
    let price: Option<Decimal> = take(row, "price")?;
    let currency: Option<String> = take(row, "currency")?;
    let product = Product {
        id,
        sku: Sku::stored(take(row, "sku")?),
        name: take(row, "name")?,
        description: take(row, "description")?,
        active: take::<i64>(row, "active")? != 0,
        price: price.zip(currency).map(|(amount, currency)| Money::stored(amount, &currency)),
        version: take(row, "version")?,
        updated_at: time(row)?,
    };
    Ok(ProductRow { product, deleted: take::<i64>(row, "deleted")? != 0 })
}

pub(super) fn product_id(id: u64) -> Result<ProductId, Error> {
    ProductId::new(id).map_err(|error| Error::new(Kind::Corrupt, format!("products.id {error}")))
}

/// Zero dates, which other writers can leave behind, are shown as the beginning of 1970.
fn time(row: &mut Row) -> Result<DateTime<Utc>, Error> {
    match row.take_opt::<NaiveDateTime, _>("updated_at") {
        Some(Ok(time)) => Ok(time.and_utc()),
        Some(Err(_)) => Ok(DateTime::UNIX_EPOCH),
        None => Err(Error::new(Kind::Bug, "the statement returned no column updated_at")),
    }
}

/// Plain, non-locking read of several rows; ids without a row are left out.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn find(mysql: &MySql, ids: &[ProductId]) -> Result<Vec<ProductRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let list = number_list(ids.iter().map(|id| id.get()));
    let rows = mysql.rows(MysqlOp::Products, format!("SELECT {COLUMNS} FROM products WHERE id IN ({list})"), ()).await?;
    rows.into_iter().map(product).collect()
}

/// The read of a cache fill: with a shared lock and without waiting, so that whoever holds the row (a
/// writer, from before it marks the entry until its COMMIT is visible) keeps us from caching.
///
/// One id is read with NOWAIT, which tells a row that is being inserted from one that is not there;
/// several with SKIP LOCKED, which does not, so that a missing one counts as busy.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn find_for_fill(mysql: &MySql, ids: &[ProductId]) -> Result<HashMap<ProductId, Locked>, Error> {
    let lock = match mysql.deployment()?.flavor {
        Flavor::MariaDb => "LOCK IN SHARE MODE",
        Flavor::MySql => "FOR SHARE",
    };
    let alone = ids.len() == 1;
    let wait = if alone { "NOWAIT" } else { "SKIP LOCKED" };
    let list = number_list(ids.iter().map(|id| id.get()));
    let sql = format!("SELECT {COLUMNS} FROM products WHERE id IN ({list}) {lock} {wait}");
    let mut found = HashMap::with_capacity(ids.len());
    match mysql.rows(MysqlOp::Fill, sql, ()).await {
        Ok(rows) => {
            for row in rows {
                let row = product(row)?;
                found.insert(row.product.id, Locked::Found(row));
            }
        }
        Err(error) if matches!(error.code(), Some(LOCK_WAIT_TIMEOUT | LOCK_NOWAIT)) => {
            return Ok(ids.iter().map(|id| (*id, Locked::Busy)).collect());
        }
        Err(error) => return Err(error),
    }
    for id in ids {
        found.entry(*id).or_insert(if alone { Locked::Absent } else { Locked::Busy });
    }
    Ok(found)
}

/// Which of the ids have a row that is not deleted.
///
/// # Errors
/// MySQL is away.
pub async fn existing(mysql: &MySql, ids: &[ProductId]) -> Result<BTreeSet<u64>, Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    let sql = format!("SELECT id FROM products WHERE id IN ({list}) AND deleted_at IS NULL");
    let rows = mysql.rows(MysqlOp::Known, sql, ()).await?;
    rows.into_iter().map(|mut row| take(&mut row, "id")).collect()
}

/// The ids of products that are not deleted, by SKU; unknown SKUs are left out.
///
/// # Errors
/// MySQL is away.
pub async fn ids_of(mysql: &MySql, skus: &[Sku]) -> Result<HashMap<Sku, ProductId>, Error> {
    if skus.is_empty() {
        return Ok(HashMap::new());
    }
    let list = serde_json::json!(skus).to_string();
    mysql.rows(MysqlOp::Products, IDS_OF, (list,)).await?.into_iter().map(sku_and_id).collect()
}

/// One text for any number of SKUs, so that the statement is prepared once.
pub(super) const IDS_OF: &str = "SELECT p.id, p.sku FROM \
     JSON_TABLE(?, '$[*]' COLUMNS (sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$')) d \
     JOIN products p ON p.sku = d.sku WHERE p.deleted_at IS NULL";

pub(super) fn sku_and_id(mut row: Row) -> Result<(Sku, ProductId), Error> {
    let id = product_id(take(&mut row, "id")?)?;
    Ok((Sku::stored(take(&mut row, "sku")?), id))
}

/// The place behind which a page begins, in one of two orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// By id; 0 is before all.
    Id(u64),
    /// By the time of the last change, then by id. With id 0 what changed at that microsecond is still to come.
    Updated(DateTime<Utc>, u64),
}

/// A page of products, deleted ones left out.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn page(mysql: &MySql, after: After, limit: u32) -> Result<Vec<Product>, Error> {
    let select = format!("SELECT {COLUMNS} FROM products");
    let rows = match after {
        After::Id(id) => {
            let sql = format!("{select} WHERE id > {id} AND deleted_at IS NULL ORDER BY id LIMIT {limit}");
            mysql.rows(MysqlOp::Products, sql, ()).await?
        }
        After::Updated(time, id) => {
            // Not as a comparison of pairs, which neither server turns into a range of the index.
            let range = format!("updated_at >= ? AND (updated_at > ? OR id > {id})");
            let sql = format!("{select} WHERE {range} AND deleted_at IS NULL ORDER BY updated_at, id LIMIT {limit}");
            mysql.rows(MysqlOp::Products, sql, (time.naive_utc(), time.naive_utc())).await?
        }
    };
    rows.into_iter().map(|row| product(row).map(|row| row.product)).collect()
}

/// Locks the row until the transaction ends and returns it.
///
/// # Errors
/// `Conflict` when another writer holds the row for longer than the lock wait.
pub async fn lock(tx: &mut Tx, id: ProductId) -> Result<Option<ProductRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM products WHERE id = ? FOR UPDATE");
    tx.rows(&sql, (id.get(),)).await?.pop().map(product).transpose()
}

/// The same by SKU.
///
/// # Errors
/// As [`lock`].
pub async fn lock_by_sku(tx: &mut Tx, sku: &Sku) -> Result<Option<ProductRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM products WHERE sku = ? FOR UPDATE");
    tx.rows(&sql, (sku.as_str(),)).await?.pop().map(product).transpose()
}

/// Sets the price of a row that this transaction has locked. Its history is [`add_history`]'s.
///
/// # Errors
/// As any statement.
pub async fn set_price(tx: &mut Tx, id: ProductId, price: Money) -> Result<(), Error> {
    let (amount, currency) = money_values(Some(price));
    let params: Params = vec![amount, currency, Value::from(id.get())].into();
    tx.execute("UPDATE products SET price = ?, currency = ?, version = version + 1 WHERE id = ?", params).await.map(|_| ())
}

/// Sets what a file tells of a row that this transaction has locked. The history of its price is [`add_history`]'s.
///
/// # Errors
/// As any statement.
pub async fn set_imported(tx: &mut Tx, id: ProductId, product: &ImportedProduct) -> Result<(), Error> {
    let (amount, currency) = money_values(product.price);
    let sql = "UPDATE products SET name = ?, description = IF(?, ?, description), active = COALESCE(?, active), \
               price = COALESCE(?, price), currency = COALESCE(?, currency), version = version + 1 WHERE id = ?";
    let params: Params = vec![
        Value::from(product.name.as_str()),
        Value::from(product.description.is_some()),
        Value::from(product.description.clone().flatten()),
        Value::from(product.active),
        amount,
        currency,
        Value::from(id.get()),
    ]
    .into();
    tx.execute(sql, params).await.map(|_| ())
}

/// Inserts a product; MySQL gives the id. The history of its price is [`add_history`]'s.
///
/// # Errors
/// As any statement; a SKU that is taken is `Ok(None)`.
pub async fn insert(tx: &mut Tx, product: &NewProduct) -> Result<Option<ProductId>, Error> {
    let (amount, currency) = money_values(product.price);
    let sql = "INSERT INTO products (sku, name, description, active, price, currency) VALUES (?, ?, ?, ?, ?, ?)";
    let params: Params = vec![
        Value::from(product.sku.as_str()),
        Value::from(product.name.as_str()),
        Value::from(product.description.as_deref()),
        Value::from(product.active),
        amount,
        currency,
    ]
    .into();
    match tx.execute(sql, params).await {
        Ok(id) => product_id(id).map(Some),
        Err(error) if error.code() == Some(DUPLICATE_KEY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the price of a row that this transaction has changed into its history, with the version and the time that the row
/// now has, beside the price that it replaced: others may have set that one with plain SQL, and then it stands nowhere else.
///
/// # Errors
/// As any statement.
pub async fn add_history(
    tx: &mut Tx,
    row: &Product,
    before: Option<&Product>,
    reason: Option<&str>,
    actor: Option<&str>,
) -> Result<(), Error> {
    let sql = "INSERT INTO price_history \
               (product_id, version, price, currency, reason, actor, changed_at, before_price, before_currency, before_since) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let before = before.filter(|product| product.price.is_some());
    let ((amount, currency), (old_amount, old_currency)) = (money_values(row.price), money_values(before.and_then(|old| old.price)));
    let params: Params = vec![
        Value::from(row.id.get()),
        Value::from(row.version),
        amount,
        currency,
        Value::from(reason),
        Value::from(actor),
        Value::from(row.updated_at.naive_utc()),
        old_amount,
        old_currency,
        Value::from(before.map(|old| old.updated_at.naive_utc())),
    ]
    .into();
    tx.execute(sql, params).await.map(|_| ())
}

fn money_values(price: Option<Money>) -> (Value, Value) {
    let amount = price.map(|price| price.amount());
    let currency = price.map(|price| price.currency().code().to_owned());
    (Value::from(amount), Value::from(currency))
}
