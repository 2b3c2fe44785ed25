//! The tables `stock` and `stock_movements`: what is on hand and reserved, and the ledger of every change.
//!
//! Only the crate `stock` calls what changes them (`stock_mend.rs` mends the books beside it), in this order inside one transaction: [`lock`], [`set`], [`add_movements`].
//! Whatever locks several products does it in the order of their ids, so that no two transactions wait for each other.

use super::reservations::time;
use super::{MySql, Tx, number_list, products, take, values_list};
use crate::{Error, Kind};
use chrono::{DateTime, Utc};
use domain::ProductId;
use domain::stock::Level;
use mysql_async::Row;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
pub use telemetry::metrics::StockKind as MovementKind;
use telemetry::metrics::{Label, MysqlOp};
use uuid::Uuid;

/// Rows locked by one statement; from 1,000 on MariaDB takes a list for a table of its own, and nothing says in which order
/// rows are locked then (`in_predicate_conversion_threshold`).
const LOCKED_AT_ONCE: usize = 500;

/// A change of one product's stock that is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    pub product_id: ProductId,
    pub kind: MovementKind,
    /// Change of the quantity on hand.
    pub delta: i64,
    /// Change of the quantity reserved.
    pub reserved_delta: i64,
    /// After the change.
    pub level: Level,
    pub reason: Option<String>,
    pub reference: Option<String>,
    pub actor: Option<String>,
    pub reservation: Option<Uuid>,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its place: rows of a product are written in the order of their ids, under the lock of its stock.
    pub id: u64,
    pub kind: String,
    pub delta: i64,
    pub reserved_delta: i64,
    pub on_hand: u64,
    pub reserved: u64,
    pub reason: Option<String>,
    pub reference: Option<String>,
    pub actor: Option<String>,
    pub reservation: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// A product's stock beside what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub product_id: u64,
    pub sku: String,
    pub name: String,
    pub on_hand: i64,
    /// More than is on hand only where plain SQL broke the rules of stock.
    pub reserved: i64,
}

/// Rows of `stock` that a transaction holds.
#[derive(Debug, Default)]
pub struct Locked {
    pub levels: HashMap<ProductId, Held>,
    /// The database's clock when the last of them was locked; none where there was no row.
    pub now: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub level: Level,
    /// Whether the product is there and was not deleted.
    pub is_sold: bool,
}

/// Available quantity (on hand − reserved) by product; products without a row are left out.
///
/// # Errors
/// MySQL is away.
pub async fn available(mysql: &MySql, ids: &[ProductId]) -> Result<HashMap<u64, i64>, Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    let sql = format!("SELECT product_id, on_hand - reserved AS available FROM stock WHERE product_id IN ({list})");
    let rows = mysql.rows(MysqlOp::Availability, sql, ()).await?;
    rows.into_iter().map(|mut row| Ok((take(&mut row, "product_id")?, take(&mut row, "available")?))).collect()
}

/// The stock of a product; `None`: there is no such product.
///
/// # Errors
/// MySQL is away.
pub async fn find(mysql: &MySql, id: ProductId) -> Result<Option<Level>, Error> {
    let sql = "SELECT COALESCE(s.on_hand, 0) AS on_hand, COALESCE(s.reserved, 0) AS reserved, COALESCE(s.version, 0) AS version \
               FROM products p LEFT JOIN stock s ON s.product_id = p.id WHERE p.id = ? AND p.deleted_at IS NULL";
    mysql.rows(MysqlOp::Stock, sql, (id.get(),)).await?.pop().map(|mut row| level(&mut row)).transpose()
}

/// Active products by what is available of them, the least first, then by id; at most `limit`. A product of which nothing was
/// ever counted, reserved or adjusted has no row, and is none of them.
///
/// Reads all rows of `stock` and sorts them, then looks up the products of those that are wanted: with 100,000 products 30 ms alone
/// on a core (MariaDB 10.11), and ten times that with a million. Not by the storefront, therefore.
///
/// # Errors
/// MySQL is away.
pub async fn lowest(mysql: &MySql, limit: u64) -> Result<Vec<Named>, Error> {
    // In this order of tables only columns of the first are sorted by, so that the second is read for few of its rows.
    let sql = format!(
        "SELECT s.product_id, p.sku, p.name, s.on_hand, s.reserved FROM stock s STRAIGHT_JOIN products p ON p.id = s.product_id \
         WHERE p.active AND p.deleted_at IS NULL ORDER BY s.on_hand - s.reserved, s.product_id LIMIT {limit}"
    );
    let named = |mut row: Row| {
        Ok(Named {
            product_id: take(&mut row, "product_id")?,
            sku: take(&mut row, "sku")?,
            name: take(&mut row, "name")?,
            on_hand: take(&mut row, "on_hand")?,
            reserved: take(&mut row, "reserved")?,
        })
    };
    mysql.rows(MysqlOp::Stock, sql, ()).await?.into_iter().map(named).collect()
}

/// Makes the rows of those products that have none, with nothing on hand at version 0: what no row says as well. In a
/// statement of its own, so that a transaction which then locks them in their order meets them.
///
/// # Errors
/// MySQL is away, or another holds a row.
pub async fn open(mysql: &MySql, ids: &[ProductId]) -> Result<(), Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    let sql = format!(
        "INSERT IGNORE INTO stock (product_id, on_hand, reserved, version) \
         SELECT id, 0, 0, 0 FROM products WHERE id IN ({list}) AND deleted_at IS NULL ORDER BY id"
    );
    mysql.change(MysqlOp::Stock, sql).await.map(|_| ())
}

/// Locks the rows, in the order of their ids, until the transaction ends; ids without a row are left out. `SYSDATE` is asked
/// when a row was locked, other than `NOW`, which is the time when the statement began to wait for it.
///
/// # Errors
/// `Conflict` when another holds a row for longer than the lock wait.
pub async fn lock(tx: &mut Tx, ids: &BTreeSet<ProductId>) -> Result<Locked, Error> {
    let (ids, mut locked) = (ids.iter().map(|id| id.get()).collect::<Vec<_>>(), Locked::default());
    for ids in ids.chunks(LOCKED_AT_ONCE) {
        let list = number_list(ids.iter().copied());
        // The index is named so that rows are met, and locked, in its order, however many of the table's they are.
        let sql = format!(
            "SELECT s.product_id, s.on_hand, s.reserved, s.version, SYSDATE(6) AS locked_at, \
             EXISTS (SELECT 1 FROM products p WHERE p.id = s.product_id AND p.deleted_at IS NULL) AS is_sold \
             FROM stock s FORCE INDEX (PRIMARY) WHERE s.product_id IN ({list}) ORDER BY s.product_id FOR UPDATE"
        );
        for mut row in tx.rows(&sql, ()).await? {
            let row = &mut row;
            let held = Held { level: level(row)?, is_sold: take(row, "is_sold")? };
            locked.levels.insert(products::product_id(take(row, "product_id")?)?, held);
            locked.now = locked.now.max(Some(time(row, "locked_at")?));
        }
    }
    Ok(locked)
}

/// Those of the products whose rows another transaction holds at this moment.
///
/// # Errors
/// MySQL is away.
pub async fn held_by_others(mysql: &MySql, ids: &BTreeSet<ProductId>) -> Result<BTreeSet<ProductId>, Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    let there = format!("SELECT product_id FROM stock WHERE product_id IN ({list})");
    let (all, free) = (there.clone(), format!("{there} FOR UPDATE SKIP LOCKED"));
    let ids = |rows: Vec<Row>| -> Result<BTreeSet<_>, Error> {
        rows.into_iter().map(|mut row| products::product_id(take(&mut row, "product_id")?)).collect()
    };
    let (all, free) = (ids(mysql.rows(MysqlOp::Stock, all, ()).await?)?, ids(mysql.rows(MysqlOp::Stock, free, ()).await?)?);
    Ok(&all - &free)
}

/// Sets rows that this transaction has locked, each only if it is still at the version before.
///
/// # Errors
/// `Corrupt` where the table's CHECK refuses a level; `Bug` where a row was not as it was locked: nothing may be committed then.
pub async fn set(tx: &mut Tx, changed: &[(ProductId, Level, Level)]) -> Result<(), Error> {
    let row = |(id, before, after): &(ProductId, Level, Level)| json!([id, before.version, after.on_hand, after.reserved, after.version]);
    let list = Value::from_iter(changed.iter().map(row)).to_string();
    let set = tx.change(include_str!("sql/set_stock.sql"), (list,)).await?;
    if set == changed.len() as u64 {
        return Ok(());
    }
    Err(Error::new(Kind::Bug, format!("{set} of {} rows of stock were as they were locked", changed.len())))
}

/// Writes changes down, in their order.
///
/// # Errors
/// As any statement.
pub async fn add_movements(tx: &mut Tx, movements: &[Movement]) -> Result<(), Error> {
    let row = |movement: &Movement| {
        let Movement { product_id, kind, delta, reserved_delta, level, reason, reference, actor, reservation } = movement;
        let (kind, reservation) = (kind.as_str(), reservation.map(|id| id.to_string()));
        [
            product_id.get().into(),
            kind.into(),
            delta.into(),
            reserved_delta.into(),
            level.on_hand.into(),
            level.reserved.into(),
            reason.into(),
            reference.into(),
            actor.into(),
            reservation.into(),
        ]
    };
    let sql = format!(
        "INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, reason, reference, actor, reservation_id) \
         VALUES {}",
        values_list(movements.iter().map(row))
    );
    tx.execute(&sql, ()).await.map(|_| ())
}

/// At most `limit` rows of a product's ledger that stand before the row `before`, the newest first.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn movements(mysql: &MySql, id: ProductId, before: u64, limit: u32) -> Result<Vec<LedgerRow>, Error> {
    let sql = format!(
        "SELECT id, kind, delta, reserved_delta, on_hand, reserved, reason, reference, actor, reservation_id, created_at \
         FROM stock_movements WHERE product_id = {id} AND id < {before} ORDER BY id DESC LIMIT {limit}"
    );
    mysql.rows(MysqlOp::Stock, sql, ()).await?.into_iter().map(ledger_row).collect()
}

fn ledger_row(mut row: Row) -> Result<LedgerRow, Error> {
    let row = &mut row;
    Ok(LedgerRow {
        id: take(row, "id")?,
        kind: take(row, "kind")?,
        delta: take(row, "delta")?,
        reserved_delta: take(row, "reserved_delta")?,
        on_hand: take(row, "on_hand")?,
        reserved: take(row, "reserved")?,
        reason: take(row, "reason")?,
        reference: take(row, "reference")?,
        actor: take(row, "actor")?,
        reservation: take(row, "reservation_id")?,
        created_at: time(row, "created_at")?,
    })
}

fn level(row: &mut Row) -> Result<Level, Error> {
    Ok(Level { on_hand: take(row, "on_hand")?, reserved: take(row, "reserved")?, version: take(row, "version")? })
}
