//! Reads of the table `price_history`: one row for each price that was set through the catalogue. `products.rs` and
//! `price_batches.rs` write it.

use super::{MySql, take};
use crate::Error;
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::{Money, ProductId};
use mysql_async::Row;
use telemetry::metrics::MysqlOp;

/// A price that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    /// Its place in the history: rows of a product are written in the order of their ids, under the product's lock.
    pub id: u64,
    /// Of the product, from then on.
    pub version: u64,
    /// `None`: from then on the product had no price, because the first that it ever had was taken back.
    pub price: Option<Money>,
    /// What it replaced, where its writer kept that, and since when the product had been so.
    pub replaced: Option<(Money, DateTime<Utc>)>,
    pub reason: Option<String>,
    /// Who set it, where that is known.
    pub actor: Option<String>,
    /// The batch that it was set with.
    pub batch: Option<String>,
    pub changed_at: DateTime<Utc>,
}

/// At most `limit` rows of a product that stand before the row `before`, the newest first.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn newest(mysql: &MySql, id: ProductId, before: u64, limit: u32) -> Result<Vec<PriceRow>, Error> {
    let sql = format!(
        "SELECT id, version, price, currency, before_price, before_currency, before_since, reason, actor, batch, changed_at \
         FROM price_history WHERE product_id = {id} AND id < {before} ORDER BY id DESC LIMIT {limit}"
    );
    mysql.rows(MysqlOp::History, sql, ()).await?.into_iter().map(price_row).collect()
}

fn price_row(mut row: Row) -> Result<PriceRow, Error> {
    let row = &mut row;
    let price = take::<Option<_>>(row, "price")?.zip(take::<Option<String>>(row, "currency")?);
    let replaced = take::<Option<_>>(row, "before_price")?.zip(take::<Option<String>>(row, "before_currency")?);
    let replaced = replaced.map(|(amount, currency)| Money::stored(amount, &currency));
    let before_since: Option<NaiveDateTime> = take(row, "before_since")?;
    Ok(PriceRow {
        id: take(row, "id")?,
        version: take(row, "version")?,
        price: price.map(|(amount, currency)| Money::stored(amount, &currency)),
        replaced: replaced.zip(before_since.map(|since| since.and_utc())),
        reason: take(row, "reason")?,
        actor: take(row, "actor")?,
        batch: take(row, "batch")?,
        changed_at: take::<NaiveDateTime>(row, "changed_at")?.and_utc(),
    })
}
