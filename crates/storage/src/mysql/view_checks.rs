//! The sums of views in MySQL that must agree: all totals with all shards, and each total with its hours.

use super::view_retention::HOURS_KEPT_DAYS;
use super::{MySql, take};
use crate::Error;
use mysql_async::Row;
use telemetry::metrics::MysqlOp;

/// A product whose hours do not make up its total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoursDiffer {
    pub product_id: u64,
    pub total: u64,
    pub hours: u64,
}

/// Views of all products, and those that the shards say they added; at one moment.
///
/// # Errors
/// MySQL is away.
pub(crate) async fn totals_and_persisted(mysql: &MySql) -> Result<(u64, u64), Error> {
    let sql = "SELECT (SELECT CAST(COALESCE(SUM(views), 0) AS UNSIGNED) FROM product_views) AS totals, \
               (SELECT CAST(COALESCE(SUM(persisted), 0) AS UNSIGNED) FROM view_shards) AS persisted";
    let row = mysql.rows(MysqlOp::Status, sql, ()).await?.pop();
    row.map_or(Ok((0, 0)), |mut row| Ok((take(&mut row, "totals")?, take(&mut row, "persisted")?)))
}

/// Products with `after < id <= last` whose hours differ from their total, each at one moment. Hours are deleted when they are
/// old, so those of a product that is as old may be fewer; none may have more.
///
/// # Errors
/// MySQL is away, or needs longer than a call may take for so many products.
pub(crate) async fn hours_differ(mysql: &MySql, after: u64, last: u64) -> Result<Vec<HoursDiffer>, Error> {
    let sql = format!(
        "SELECT t.product_id, CAST(SUM(t.total) AS UNSIGNED) AS total, CAST(SUM(t.hours) AS UNSIGNED) AS hours FROM \
         (SELECT product_id, views AS total, 0 AS hours FROM product_views WHERE product_id > {after} AND product_id <= {last} \
         UNION ALL SELECT product_id, 0, views FROM view_hours WHERE product_id > {after} AND product_id <= {last}) t \
         LEFT JOIN products p ON p.id = t.product_id GROUP BY t.product_id HAVING SUM(t.hours) > SUM(t.total) \
         OR (SUM(t.hours) < SUM(t.total) AND MAX(p.created_at) > UTC_TIMESTAMP() - INTERVAL {HOURS_KEPT_DAYS} DAY)"
    );
    let differ = |mut row: Row| {
        Ok(HoursDiffer { product_id: take(&mut row, "product_id")?, total: take(&mut row, "total")?, hours: take(&mut row, "hours")? })
    };
    mysql.rows(MysqlOp::Status, sql, ()).await?.into_iter().map(differ).collect()
}
