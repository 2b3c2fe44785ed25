//! Products of which nothing is available, by how often they are looked at: a report over products, stock and views, which live
//! in one database. It reads without locks, some ids at a time; no snapshot across products.

use super::{MySql, number_list, take};
use crate::Error;
use chrono::{DateTime, NaiveDateTime, Utc};
use mysql_async::Row;
use std::cmp::Reverse;
use std::collections::HashMap;
use telemetry::metrics::MysqlOp;

/// Most products that one report names.
pub const MOST_LISTED: u64 = 1_000;

/// Products that one statement looks at: some hundred milliseconds, far below the limit of a call.
const PIECE: u64 = 20_000;

/// An active product of which nothing is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoldOut {
    pub product_id: u64,
    pub sku: String,
    pub name: String,
    /// On hand − reserved: 0, and below only where plain SQL broke the rules of stock.
    pub available: i64,
    pub reserved: i64,
    /// In MySQL; views that are still pending are not among them.
    pub views: u64,
    /// Those of the hours that began in the last 24 hours.
    pub views_24h: u64,
    pub last_movement: Option<LastMovement>,
}

/// The latest change of a product's stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMovement {
    pub kind: String,
    pub at: DateTime<Utc>,
}

/// Active products of which nothing is available, a product without stock among them; those with the most views first, then by
/// id. At most `limit`, and no more than [`MOST_LISTED`].
///
/// # Errors
/// MySQL is away.
pub async fn list(mysql: &MySql, limit: u64) -> Result<Vec<SoldOut>, Error> {
    let limit = limit.min(MOST_LISTED);
    let (mut found, mut after) = (Vec::new(), 0);
    while let Some(last) = end_of_piece(mysql, after).await? {
        found.extend(of_piece(mysql, after, last, limit).await?);
        found.sort_unstable_by_key(|product| (Reverse(product.views), product.product_id));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        after = last;
    }
    add_what_is_recent(mysql, &mut found).await?;
    Ok(found)
}

async fn end_of_piece(mysql: &MySql, after: u64) -> Result<Option<u64>, Error> {
    let sql = format!("SELECT MAX(id) AS last FROM (SELECT id FROM products WHERE id > {after} ORDER BY id LIMIT {PIECE}) piece");
    mysql.rows(MysqlOp::Products, sql, ()).await?.pop().map_or(Ok(None), |mut row| take(&mut row, "last"))
}

async fn of_piece(mysql: &MySql, after: u64, last: u64, limit: u64) -> Result<Vec<SoldOut>, Error> {
    let sql = format!(
        "SELECT p.id, p.sku, p.name, COALESCE(s.on_hand - s.reserved, 0) AS available, COALESCE(s.reserved, 0) AS reserved, \
         COALESCE(v.views, 0) AS views FROM products p LEFT JOIN stock s ON s.product_id = p.id \
         LEFT JOIN product_views v ON v.product_id = p.id WHERE p.id > {after} AND p.id <= {last} \
         AND p.active AND p.deleted_at IS NULL AND COALESCE(s.on_hand - s.reserved, 0) <= 0 ORDER BY views DESC, p.id LIMIT {limit}"
    );
    let sold_out = |mut row: Row| {
        Ok(SoldOut {
            product_id: take(&mut row, "id")?,
            sku: take(&mut row, "sku")?,
            name: take(&mut row, "name")?,
            available: take(&mut row, "available")?,
            reserved: take(&mut row, "reserved")?,
            views: take(&mut row, "views")?,
            views_24h: 0,
            last_movement: None,
        })
    };
    mysql.rows(MysqlOp::Products, sql, ()).await?.into_iter().map(sold_out).collect()
}

/// Only for those that are shown: two look-ups by index for each. `MAX(id)` would read all movements of a product.
async fn add_what_is_recent(mysql: &MySql, found: &mut [SoldOut]) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    let list = number_list(found.iter().map(|product| product.product_id));
    let sql = format!(
        "SELECT p.id, (SELECT CAST(COALESCE(SUM(h.views), 0) AS UNSIGNED) FROM view_hours h \
         WHERE h.product_id = p.id AND h.hour > UTC_TIMESTAMP() - INTERVAL 24 HOUR) AS lately, m.kind, m.created_at \
         FROM products p LEFT JOIN stock_movements m \
         ON m.id = (SELECT latest.id FROM stock_movements latest WHERE latest.product_id = p.id ORDER BY latest.id DESC LIMIT 1) \
         WHERE p.id IN ({list})"
    );
    let mut recent = HashMap::new();
    for mut row in mysql.rows(MysqlOp::Products, sql, ()).await? {
        let (kind, at): (Option<String>, Option<NaiveDateTime>) = (take(&mut row, "kind")?, take(&mut row, "created_at")?);
        let last = kind.zip(at).map(|(kind, at)| LastMovement { kind, at: at.and_utc() });
        let (id, lately): (u64, u64) = (take(&mut row, "id")?, take(&mut row, "lately")?);
        recent.insert(id, (lately, last));
    }
    for product in found {
        if let Some((lately, last)) = recent.remove(&product.product_id) {
            (product.views_24h, product.last_movement) = (lately, last);
        }
    }
    Ok(())
}
