//! The table `stock`: what may still be sold. A product without a row has none.

use super::{MySql, number_list, take};
use crate::Error;
use domain::ProductId;
use std::collections::HashMap;
use telemetry::metrics::MysqlOp;

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
