//! The table `idempotency`: what was answered to writes that came with a key.
//!
//! The row is inserted first and filled last in the transaction of the change, so that it is there if, and only if, the
//! change is. Whoever comes with the same key meanwhile waits for that transaction by the lock of its row. A refusal rolls
//! back and leaves nothing, so that it is judged afresh the next time.

use super::{DUPLICATE_KEY, LOCK_WAIT_TIMEOUT, MySql, RETENTION_PIECE, Tx, take, values_list};
use crate::{Error, Kind};
use mysql_async::Row;
use serde_json::{Value, json};
use telemetry::metrics::MysqlOp;

/// How long a row is kept at least, hours.
pub const KEPT_HOURS: u32 = 24;

/// What makes two requests the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name of the token that the request came with; empty without one.
    pub token: String,
    /// Method and template, at most 128 bytes.
    pub route: &'static str,
    /// 1 to 255 visible ASCII characters.
    pub key: String,
    /// A digest of all that the request asks for.
    pub request: [u8; 32],
}

/// An answer, whole enough to be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// At most 64 bytes.
    pub etag: Option<String>,
    /// At most 255 bytes.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// What comes of a write that may have a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done<T> {
    /// It was done now.
    Now(T),
    /// It was done before under the same key, and this was answered.
    Before(Answer),
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: the write is this transaction's to do.
    First,
    /// The write was done before.
    Answered(Answer),
    /// The key belongs to another request.
    OtherRequest,
    /// A transaction with this key is under way and did not end within the lock wait.
    InProgress,
}

/// Takes a key for this transaction, or finds out what was answered under it.
///
/// # Errors
/// `Conflict` when several waited for a transaction that was rolled back: the server lets one of them go on and has the
/// others begin again.
pub async fn begin(tx: &mut Tx, key: &Key) -> Result<Begun, Error> {
    let sql = "INSERT INTO idempotency (token, route, idempotency_key, request) VALUES (?, ?, ?, ?)";
    match tx.execute(sql, (&key.token, key.route, &key.key, &key.request[..])).await {
        Ok(_) => Ok(Begun::First),
        Err(error) if error.code() == Some(LOCK_WAIT_TIMEOUT) => Ok(Begun::InProgress),
        Err(error) if error.code() == Some(DUPLICATE_KEY) => find(tx, key).await,
        Err(error) => Err(error),
    }
}

async fn find(tx: &mut Tx, key: &Key) -> Result<Begun, Error> {
    let sql = "SELECT request, status, etag, location, body FROM idempotency WHERE token = ? AND route = ? AND idempotency_key = ?";
    let mut rows = tx.rows(sql, (&key.token, key.route, &key.key)).await?;
    let gone = || Error::new(Kind::Conflict, "the row of an idempotency key was deleted meanwhile");
    let row = &mut rows.pop().ok_or_else(gone)?;
    answered(row, key)
}

fn answered(row: &mut Row, key: &Key) -> Result<Begun, Error> {
    if take::<Vec<u8>>(row, "request")? != key.request {
        return Ok(Begun::OtherRequest);
    }
    Ok(Begun::Answered(Answer {
        status: take(row, "status")?,
        etag: take(row, "etag")?,
        location: take(row, "location")?,
        body: take(row, "body")?,
    }))
}

/// What is known of several keys, by their places; those that are new are left out. Locks nothing: a key that another
/// transaction takes meanwhile is met by [`add`].
///
/// # Errors
/// As any statement.
pub async fn find_all(tx: &mut Tx, keys: &[&Key]) -> Result<Vec<(usize, Begun)>, Error> {
    let row = |(place, key): (usize, &&Key)| json!([place, key.token, key.route, key.key]);
    let list = Value::from_iter(keys.iter().enumerate().map(row)).to_string();
    let rows = tx.rows(include_str!("sql/find_idempotency.sql"), (list,)).await?;
    let found = |mut row: Row| {
        let place: usize = take(&mut row, "place")?;
        let key = keys.get(place).ok_or_else(|| Error::new(Kind::Bug, format!("there is no key at place {place}")))?;
        Ok((place, answered(&mut row, key)?))
    };
    rows.into_iter().map(found).collect()
}

/// Takes new keys, in their order, and keeps what is answered under them; COMMIT follows.
///
/// # Errors
/// `Conflict` where another took one of the keys meanwhile.
pub async fn add(tx: &mut Tx, kept: &[(&Key, &Answer)]) -> Result<(), Error> {
    let mut kept = kept.to_vec();
    kept.sort_unstable_by(|(one, _), (other, _)| (&one.token, one.route, &one.key).cmp(&(&other.token, other.route, &other.key)));
    let row = |(key, answer): &(&Key, &Answer)| {
        let Answer { status, etag, location, body } = answer;
        let name = (&key.token, key.route, &key.key);
        [name.0.into(), name.1.into(), name.2.into(), key.request[..].into(), status.into(), etag.into(), location.into(), body.into()]
    };
    let rows = values_list(kept.iter().map(row));
    let sql = format!("INSERT INTO idempotency (token, route, idempotency_key, request, status, etag, location, body) VALUES {rows}");
    match tx.execute(&sql, ()).await {
        Err(error) if error.code() == Some(DUPLICATE_KEY) => Err(Error::new(Kind::Conflict, "another took an idempotency key meanwhile")),
        added => added.map(|_| ()),
    }
}

/// Keeps the answer under a key that this transaction has taken; COMMIT follows.
///
/// # Errors
/// As any statement.
pub async fn keep(tx: &mut Tx, key: &Key, answer: &Answer) -> Result<(), Error> {
    let sql = "UPDATE idempotency SET status = ?, etag = ?, location = ?, body = ? WHERE token = ? AND route = ? AND idempotency_key = ?";
    let Answer { status, etag, location, body } = answer;
    tx.execute(sql, (status, etag, location, body, &key.token, key.route, &key.key)).await.map(|_| ())
}

/// Deletes the oldest of the rows that have served their time, at most [`RETENTION_PIECE`], and says how many. The server's clock decides.
///
/// # Errors
/// MySQL is away, or others hold the rows.
pub async fn forget(mysql: &MySql) -> Result<u64, Error> {
    let sql = format!(
        "DELETE FROM idempotency WHERE created_at < UTC_TIMESTAMP(6) - INTERVAL {KEPT_HOURS} HOUR ORDER BY created_at LIMIT {RETENTION_PIECE}"
    );
    mysql.change(MysqlOp::Retention, sql).await
}
