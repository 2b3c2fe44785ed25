//! What of reservations has served its time: those that were committed, released or expired long ago, with their items.
//! Their movements are the ledger, and stay.

use super::{MySql, take};
use crate::{Error, Kind};
use std::time::Duration;
use telemetry::metrics::MysqlOp;

/// How long a reservation is kept after it ended, days.
pub const RESERVATIONS_KEPT_DAYS: u32 = 90;

/// Reservations of one transaction, which have some hundred items together, 10,000 at most.
pub const RESERVATIONS_PIECE: u64 = 100;

/// How long a transaction is waited for.
const FORGET_LIMIT: Duration = Duration::from_secs(10);

/// Deletes the oldest reservations that have served their time, at most [`RESERVATIONS_PIECE`], and says how many. The server's
/// clock decides.
///
/// # Errors
/// MySQL is away, or others hold the rows.
pub async fn forget_reservations(mysql: &MySql) -> Result<u64, Error> {
    let this = mysql.clone();
    mysql.detached(MysqlOp::Retention, Kind::Unavailable, FORGET_LIMIT, async move { forget(&this).await }).await
}

async fn forget(mysql: &MySql) -> Result<u64, Error> {
    let mut tx = mysql.begin().await?;
    let old = tx.rows(&old(), ()).await?;
    let ids: Vec<String> = old.into_iter().map(|mut row| take(&mut row, "id")).collect::<Result<_, _>>()?;
    if ids.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let marks = vec!["?"; ids.len()].join(",");
    for sql in ["DELETE FROM reservation_items WHERE reservation_id IN", "DELETE FROM reservations WHERE id IN"] {
        tx.execute(&format!("{sql} ({marks})"), ids.clone()).await?;
    }
    tx.commit().await?;
    Ok(ids.len() as u64)
}

/// Ids begin with the milliseconds in which they were made, and nothing ended before it was made: so the oldest of the primary
/// key are looked at, and no index by the time of the end is needed, which each reservation would have to pay for.
fn old() -> String {
    let days = RESERVATIONS_KEPT_DAYS;
    format!(
        "SELECT id FROM reservations FORCE INDEX (PRIMARY) \
         WHERE id < LOWER(INSERT(LPAD(HEX(CAST(UNIX_TIMESTAMP() - {days} * 86400 AS UNSIGNED) * 1000), 12, '0'), 9, 0, '-')) \
         AND state IN ('committed', 'released', 'expired') AND updated_at < UTC_TIMESTAMP(6) - INTERVAL {days} DAY \
         ORDER BY id LIMIT {RESERVATIONS_PIECE} FOR UPDATE"
    )
}
