//! The operator's hold on the drain: `view_shards.paused_at` of every shard.
//!
//! [`pause`] takes the lock of each shard's row, in their order, and so waits for the batches that are being applied;
//! whoever adds views to MySQL afterwards reads the hold under the same lock and refuses. Once it has returned no view
//! is written until [`resume`], whatever is killed or started meanwhile. Views go on being accepted by Redis.

use super::{MySql, Tx, take};
use crate::{Error, Kind};
use chrono::{DateTime, NaiveDateTime, Utc};
use mysql_async::Row;
use std::fmt;
use std::time::{Duration, Instant};
use telemetry::metrics::MysqlOp;

/// How long a pause or a resume waits for batches that are being applied. Workers wait 10 s for one of theirs.
pub const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// One attempt: a lock is waited for 2 s, and every shard may be waited for.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// After this an attempt that has not reached its COMMIT gives up: what comes later could undo what was told meanwhile.
const COMMIT_BEFORE: Duration = Duration::from_secs(9);

/// What the columns of a name and a reason hold.
pub const MOST_CHARS: usize = 255;

/// Who holds the drain since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    pub since: DateTime<Utc>,
    pub by: String,
    pub reason: Option<String>,
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "paused since {} by {}", domain::product::time_text(self.since), self.by)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// The hold, if there is one.
///
/// # Errors
/// MySQL is away.
pub async fn state(mysql: &MySql) -> Result<Option<Paused>, Error> {
    let sql = "SELECT paused_at, paused_by, pause_reason FROM view_shards WHERE paused_at IS NOT NULL ORDER BY shard LIMIT 1";
    mysql.rows(MysqlOp::Pause, sql, ()).await?.into_iter().next().map_or(Ok(None), paused)
}

/// Holds the drain, and returns the hold and whether it is new; one that was there stays as it was.
/// `by` and `reason` have at most [`MOST_CHARS`] characters.
///
/// # Errors
/// `Conflict` when a batch was being applied for all of [`LOCK_LIMIT`]. `Unknown` when COMMIT was not answered: repeat it.
pub async fn pause(mysql: &MySql, by: &str, reason: Option<&str>) -> Result<(Paused, bool), Error> {
    patiently(mysql, |latest| hold(mysql.clone(), latest, by.to_owned(), reason.map(str::to_owned))).await
}

async fn hold(mysql: MySql, latest: Instant, by: String, reason: Option<String>) -> Result<(Paused, bool), Error> {
    let mut tx = mysql.begin().await?;
    let holds = locked(&mut tx).await?;
    if let Some(Some(first)) = holds.first()
        && holds.iter().all(Option::is_some)
    {
        tx.rollback().await?;
        return Ok((first.clone(), false));
    }
    let sql = "UPDATE view_shards SET paused_at = CURRENT_TIMESTAMP(6), paused_by = ?, pause_reason = ? WHERE paused_at IS NULL";
    tx.execute(sql, (by, reason)).await?;
    let held = locked(&mut tx).await?.into_iter().flatten().next();
    let held = held.ok_or_else(|| Error::new(Kind::Bug, "view_shards has no rows; run `inventoryctl migrate`"))?;
    tx.commit_by(latest).await?;
    Ok((held, true))
}

/// Ends the hold, and returns it if there was one.
///
/// # Errors
/// As [`pause`].
pub async fn resume(mysql: &MySql) -> Result<Option<Paused>, Error> {
    patiently(mysql, |latest| release(mysql.clone(), latest)).await
}

async fn release(mysql: MySql, latest: Instant) -> Result<Option<Paused>, Error> {
    let mut tx = mysql.begin().await?;
    let held = locked(&mut tx).await?.into_iter().flatten().next();
    if held.is_none() {
        tx.rollback().await?;
        return Ok(None);
    }
    tx.execute("UPDATE view_shards SET paused_at = NULL, paused_by = NULL, pause_reason = NULL", ()).await?;
    tx.commit_by(latest).await?;
    Ok(held)
}

/// The hold on a shard whose row is locked by this statement, which is the first of every transaction that adds views.
///
/// # Errors
/// MySQL is away, or the row was locked for too long; `Bug` for a shard without a row.
pub(super) async fn lock_shard(tx: &mut Tx, shard: u16) -> Result<Option<Paused>, Error> {
    let sql = "SELECT paused_at, paused_by, pause_reason FROM view_shards WHERE shard = ? FOR UPDATE";
    let missing = || Error::new(Kind::Bug, format!("view_shards has no row {shard}: nothing would keep workers apart"));
    paused(tx.rows(sql, (shard,)).await?.pop().ok_or_else(missing)?)
}

/// The holds of all shards, their rows locked one after another in the order of their numbers.
async fn locked(tx: &mut Tx) -> Result<Vec<Option<Paused>>, Error> {
    let sql = "SELECT paused_at, paused_by, pause_reason FROM view_shards ORDER BY shard FOR UPDATE";
    tx.rows(sql, ()).await?.into_iter().map(paused).collect()
}

/// Runs a transaction again while a batch holds a row for longer than a lock is waited for; tells each attempt until when it
/// may commit.
async fn patiently<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
    mysql: &MySql,
    transaction: impl Fn(Instant) -> F,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        let attempt = transaction(Instant::now() + COMMIT_BEFORE);
        match mysql.detached(MysqlOp::Pause, Kind::Unknown, ATTEMPT_LIMIT, attempt).await {
            Err(error) if error.kind() == Kind::Conflict && started.elapsed() < LOCK_LIMIT => {}
            result => return result,
        }
    }
}

fn paused(mut row: Row) -> Result<Option<Paused>, Error> {
    let Some(since) = take::<Option<NaiveDateTime>>(&mut row, "paused_at")? else { return Ok(None) };
    let by: Option<String> = take(&mut row, "paused_by")?;
    Ok(Some(Paused { since: since.and_utc(), by: by.unwrap_or_default(), reason: take(&mut row, "pause_reason")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_told_in_one_line() {
        let since = DateTime::from_timestamp_micros(1_294_135_200_000_000).unwrap();
        let mut hold = Paused { since, by: "ann@shop".into(), reason: Some("disk is full".into()) };
        assert_eq!(hold.to_string(), "paused since 2011-01-04T10:00:00.000000Z by ann@shop: disk is full");
        hold.reason = None;
        assert_eq!(hold.to_string(), "paused since 2011-01-04T10:00:00.000000Z by ann@shop");
    }
}
