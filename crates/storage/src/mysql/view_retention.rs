//! What of views has served its time in MySQL: old hourly buckets, dead letters that are done with, and the watermarks of
//! writers that are long gone.
//!
//! A watermark may go once nothing of its writer can come back. Until then it keeps views from counting twice; afterwards
//! its totals stand in `view_shards.retired_accepted` and `retired_arrived`, moved there in the transaction that deletes it,
//! under the lock of the shard's row, so that the account of views holds at every moment. When that is safe is decided by
//! `crate::writers`, which also looks at Redis.

use super::{MySql, RETENTION_PIECE, Tx, pause, take};
use crate::{Error, Kind};
use domain::view::{Mark, Writer};
use mysql_async::Row;
use std::time::Duration;
use telemetry::metrics::MysqlOp;

/// How long the hourly buckets are kept at least, days: a year, and a month to look back from its end.
pub const HOURS_KEPT_DAYS: u32 = 400;

/// How long a letter is kept after it was replayed or dropped, days.
pub const LETTERS_KEPT_DAYS: u32 = 90;

/// After so many days without a view a writer is forgotten, first by Redis and after as many more by MySQL. No snapshot of
/// Redis that is older may be restored, and no process go on that was stopped for longer.
pub const WRITERS_KEPT_DAYS: u32 = 7;

/// How long a transaction is waited for: it may stand behind a batch of its shard.
const RETIRE_LIMIT: Duration = Duration::from_secs(10);

/// Deletes the oldest hourly buckets that have served their time, at most [`RETENTION_PIECE`], and says how many. The totals of the
/// products keep their views.
///
/// # Errors
/// MySQL is away, or others hold the rows.
pub async fn forget_hours(mysql: &MySql) -> Result<u64, Error> {
    let sql = format!(
        "DELETE FROM view_hours WHERE hour < UTC_TIMESTAMP() - INTERVAL {HOURS_KEPT_DAYS} DAY ORDER BY hour LIMIT {RETENTION_PIECE}"
    );
    mysql.change(MysqlOp::Retention, sql).await
}

/// Deletes letters that were replayed or dropped long ago, at most [`RETENTION_PIECE`], and says how many. The account does not need
/// them: their views stand among the persisted or the dead of their shard.
///
/// # Errors
/// As [`forget_hours`].
pub async fn forget_letters(mysql: &MySql) -> Result<u64, Error> {
    let sql = format!(
        "DELETE FROM dead_letters WHERE state IN ('replayed', 'dropped') \
         AND updated_at < UTC_TIMESTAMP(6) - INTERVAL {LETTERS_KEPT_DAYS} DAY ORDER BY id LIMIT {RETENTION_PIECE}"
    );
    mysql.change(MysqlOp::Retention, sql).await
}

/// Watermarks of a shard that were not used for [`WRITERS_KEPT_DAYS`], the oldest first, at most [`RETENTION_PIECE`].
///
/// # Errors
/// MySQL is away.
pub(crate) async fn unused_marks(mysql: &MySql, shard: u16) -> Result<Vec<(Writer, Mark)>, Error> {
    let sql = format!(
        "SELECT writer, seq, accepted, arrived FROM view_marks WHERE shard = {shard} AND {} ORDER BY used_at LIMIT {RETENTION_PIECE}",
        unused()
    );
    mysql.rows(MysqlOp::Retention, sql, ()).await?.into_iter().map(writer_and_mark).collect()
}

/// Lets the time of watermarks begin anew.
///
/// # Errors
/// MySQL is away, or others hold the rows.
pub(crate) async fn renew_marks(mysql: &MySql, shard: u16, writers: &[Writer]) -> Result<(), Error> {
    let sql = format!(
        "UPDATE view_marks SET used_at = CURRENT_TIMESTAMP(6) WHERE shard = {shard} AND writer IN ({}) AND {}",
        writer_list(writers),
        unused()
    );
    mysql.change(MysqlOp::Retention, sql).await.map(|_| ())
}

/// Moves the totals of watermarks to their shard's row and deletes them; returns how many. One that was used meanwhile stays,
/// and while an operator holds the drain all do.
///
/// # Errors
/// `Unknown` when COMMIT was not answered; otherwise nothing was changed. Repeat it.
pub(crate) async fn retire_marks(mysql: &MySql, shard: u16, writers: Vec<Writer>) -> Result<u64, Error> {
    let this = mysql.clone();
    let work = async move {
        let mut tx = this.begin().await?;
        let paused = pause::lock_shard(&mut tx, shard).await?.is_some();
        let retired = if paused { 0 } else { retire(&mut tx, shard, &writers).await? };
        if retired == 0 {
            tx.rollback().await?
        } else {
            tx.commit().await?
        }
        Ok(retired)
    };
    mysql.detached(MysqlOp::Retention, Kind::Unknown, RETIRE_LIMIT, work).await
}

async fn retire(tx: &mut Tx, shard: u16, writers: &[Writer]) -> Result<u64, Error> {
    let sql = format!(
        "SELECT writer, seq, accepted, arrived FROM view_marks WHERE shard = {shard} AND writer IN ({}) AND {}",
        writer_list(writers),
        unused()
    );
    let marks: Vec<_> = tx.rows(&sql, ()).await?.into_iter().map(writer_and_mark).collect::<Result<_, _>>()?;
    if marks.is_empty() {
        return Ok(0);
    }
    // What was read is what is deleted: under the lock of the shard's row nobody changes a watermark, but time goes on.
    let read: Vec<Writer> = marks.iter().map(|(writer, _)| *writer).collect();
    tx.execute(&format!("DELETE FROM view_marks WHERE shard = {shard} AND writer IN ({})", writer_list(&read)), ()).await?;
    let sum = |part: fn(&Mark) -> u64| marks.iter().map(|(_, mark)| part(mark)).sum::<u64>();
    let sql = "UPDATE view_shards SET retired_accepted = retired_accepted + ?, retired_arrived = retired_arrived + ? WHERE shard = ?";
    tx.execute(sql, (sum(|mark| mark.accepted), sum(|mark| mark.arrived), shard)).await?;
    Ok(marks.len() as u64)
}

fn unused() -> String {
    format!("used_at < UTC_TIMESTAMP(6) - INTERVAL {WRITERS_KEPT_DAYS} DAY")
}

/// Writers are 32 hexadecimal digits: safe to inline. Sorted, as rows are locked in the order of their keys.
fn writer_list(writers: &[Writer]) -> String {
    let mut quoted: Vec<String> = writers.iter().map(|writer| format!("'{writer}'")).collect();
    quoted.sort_unstable();
    quoted.join(",")
}

fn writer_and_mark(mut row: Row) -> Result<(Writer, Mark), Error> {
    let writer = super::view_counts::parse_writer(&take::<String>(&mut row, "writer")?)?;
    Ok((writer, super::view_counts::mark(&mut row)?))
}
