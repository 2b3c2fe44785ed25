//! The table `binlog_tail` and the named lock beside it: who follows the binlog, from where, and whether it keeps up.
//!
//! The lock belongs to a connection, so that it goes with its holder. The row is what the next holder goes on from, and what
//! every other process learns of the tail.

use super::binlog::Position;
use super::{CALL_LIMIT, MySql, rows, take};
use crate::fields::Fields;
use crate::{Error, Kind};
use mysql_async::{Conn, Params, Row};
use std::fmt;
use std::time::Duration;
use telemetry::metrics::MysqlOp;

/// How often the holder of the lock is heard of. One that is silent for 10 s (`wait_timeout` of our sessions) has stopped, and
/// the server gives the lock to another.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// What the column of a reason holds.
const MOST_CHARS: usize = 512;

const LOCK: &str = "tail";

/// Whose binlog it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// UUID of the server, or its id where it has none.
    pub server: String,
    /// Seconds since 1970 UTC; give or take a second.
    pub started: u64,
    /// The server's clock, seconds since 1970 UTC.
    pub now: u64,
    /// Why it cannot be followed, and what to do about it.
    pub blocked: Option<String>,
}

/// What the last holder left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub position: Position,
    pub server: String,
    pub started: u64,
    /// What was committed before this was acted upon, seconds since 1970 UTC by the server's clock.
    pub acted_until: u64,
}

/// Whether plain SQL of others is followed, as any process learns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A worker keeps up.
    Closely,
    /// A worker follows, and is late by this much.
    Late(Duration),
    /// Nobody does.
    Not {
        /// As the last worker that tried was told; none: no worker tries.
        why: Option<String>,
    },
}

impl Followed {
    /// How late changes are shown; none where nobody follows.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        match self {
            Self::Closely => Some(Duration::ZERO),
            Self::Late(by) => Some(*by),
            Self::Not { .. } => None,
        }
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closely => f.write_str("a worker follows the binlog"),
            Self::Late(by) => write!(f, "the worker that follows the binlog is {} s behind", by.as_secs()),
            Self::Not { why: None } => f.write_str("no worker follows the binlog"),
            Self::Not { why: Some(why) } => write!(f, "the binlog is not followed: {why}"),
        }
    }
}

/// The right to follow, held by a connection of its own.
pub struct Hold {
    conn: Conn,
}

impl Hold {
    /// Takes it, unless another has it.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn take(mysql: &MySql) -> Result<Option<Self>, Error> {
        let name = format!("{}:{LOCK}", mysql.database());
        let take = async {
            let mut conn = mysql.own_connection().await?;
            // Hashed: MySQL allows 64 characters, and a database's name alone may have them.
            let got = rows(&mut conn, "SELECT GET_LOCK(SHA2(?, 224), 0) AS got", (name,).into()).await?;
            let got = got.into_iter().next().map(|mut row| take::<Option<u8>>(&mut row, "got")).transpose()?.flatten();
            Ok((got == Some(1)).then_some(Self { conn }))
        };
        tokio::time::timeout(CALL_LIMIT, take).await.map_err(|_| silent())?
    }

    /// Tells the server that the holder lives, and returns the server's clock, seconds since 1970 UTC.
    ///
    /// # Errors
    /// The right is lost.
    pub async fn ping(&mut self) -> Result<u64, Error> {
        let rows = tokio::time::timeout(CALL_LIMIT, rows(&mut self.conn, "SELECT UNIX_TIMESTAMP() AS now", Params::Empty)).await;
        let mut row = rows.map_err(|_| silent())??.pop().ok_or_else(silent)?;
        take(&mut row, "now")
    }

    /// Gives it up.
    pub async fn release(self) {
        // A connection that is lost has given it up already.
        let _ = tokio::time::timeout(CALL_LIMIT, self.conn.disconnect()).await;
    }
}

fn silent() -> Error {
    Error::new(Kind::Unavailable, format!("MySQL did not answer the holder of the tail within {CALL_LIMIT:?}"))
}

/// Looks at the server whose binlog is to be followed.
///
/// # Errors
/// MySQL is away.
pub async fn source(mysql: &MySql) -> Result<Source, Error> {
    const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id', 'log_bin', \
                             'binlog_format', 'log_bin_compress')";
    let pair = |mut row: Row| Ok((take::<String>(&mut row, "Variable_name")?, take::<String>(&mut row, "Value")?));
    let variables: Fields = mysql.rows(MysqlOp::Tail, VARIABLES, ()).await?.into_iter().map(pair).collect::<Result<_, Error>>()?;
    let text = |name| variables.text(name).filter(|text| !text.is_empty());
    let server = text("server_uuid").or(text("server_uid")).map_or_else(String::new, |id| format!("{id}/"));
    let server = format!("{server}{}", text("server_id").unwrap_or_default());
    let is_on = |name| text(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("ON"));
    let blocked = if !is_on("log_bin") {
        Some("log_bin is OFF; set log_bin and server_id, and restart the server".to_owned())
    } else if is_on("log_bin_compress") {
        Some("log_bin_compress is ON, which is not supported; SET GLOBAL log_bin_compress = OFF".to_owned())
    } else {
        // MySQL means to remove the setting and leave ROW.
        text("binlog_format").filter(|format| !format.eq_ignore_ascii_case("ROW")).map(not_rows)
    };
    let mut uptime = mysql.rows(MysqlOp::Tail, "SHOW GLOBAL STATUS LIKE 'Uptime'", ()).await?;
    let uptime: String = uptime.pop().map(|mut row| take(&mut row, "Value")).transpose()?.unwrap_or_default();
    let mut now = mysql.rows(MysqlOp::Tail, "SELECT UNIX_TIMESTAMP() AS now", ()).await?;
    let now: u64 = now.pop().map(|mut row| take(&mut row, "now")).transpose()?.unwrap_or_default();
    Ok(Source { server, started: now.saturating_sub(uptime.parse().unwrap_or(0)), now, blocked })
}

/// Each change would cost all entries, because a statement does not tell what triggers, views and functions it goes through.
fn not_rows(format: &str) -> String {
    format!("binlog_format is {format}, which logs statements that do not tell their rows; SET GLOBAL binlog_format = 'ROW'")
}

/// What to say where a right is missing, with the line that gives it.
///
/// # Errors
/// MySQL is away.
pub async fn missing_right(mysql: &MySql, error: &Error) -> Result<String, Error> {
    let mut rows = mysql.rows(MysqlOp::Tail, "SELECT CURRENT_USER() AS it", ()).await?;
    let user: String = rows.pop().map(|mut row| take(&mut row, "it")).transpose()?.unwrap_or_default();
    let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
    let right = if error.to_string().contains("binlog_tail") {
        format!("INSERT, UPDATE ON `{}`.binlog_tail", mysql.database())
    } else {
        "REPLICATION SLAVE, REPLICATION CLIENT ON *.*".to_owned()
    };
    Ok(format!("{user} may not; GRANT {right} TO '{name}'@'{host}'"))
}

/// Where the last holder was, if there was one.
///
/// # Errors
/// MySQL is away.
pub async fn saved(mysql: &MySql) -> Result<Option<Saved>, Error> {
    let sql = "SELECT file, position, COALESCE(file_begun, 0) AS file_begun, server, COALESCE(server_started, 0) AS server_started, \
               COALESCE(acted_until, 0) AS acted_until \
               FROM binlog_tail WHERE file IS NOT NULL AND position IS NOT NULL AND server IS NOT NULL";
    let Some(mut row) = mysql.rows(MysqlOp::Tail, sql, ()).await?.pop() else { return Ok(None) };
    let row = &mut row;
    let position = Position { file: take(row, "file")?, offset: take(row, "position")?, begun: take(row, "file_begun")? };
    let (server, started) = (take(row, "server")?, take(row, "server_started")?);
    Ok(Some(Saved { position, server, started, acted_until: take(row, "acted_until")? }))
}

/// Keeps a position: everything before it was acted upon, and all that was committed before `acted_until` (seconds since 1970
/// UTC by the server's clock), which is not when it is kept.
///
/// # Errors
/// As any statement; the one that was kept before is still right.
pub async fn save(mysql: &MySql, position: &Position, source: &Source, acted_until: u64) -> Result<(), Error> {
    let sql = "UPDATE binlog_tail SET file = ?, position = ?, file_begun = ?, server = ?, server_started = ?, acted_until = ?";
    let params = (position.file.clone(), position.offset, position.begun, source.server.clone(), source.started, acted_until);
    mysql.rows(MysqlOp::Tail, sql, params).await.map(|_| ())
}

/// Says that the binlog is followed, and that what was changed before `since` (seconds since 1970 UTC) is shown;
/// `None`: everything is.
///
/// # Errors
/// As any statement.
pub async fn note_following(mysql: &MySql, since: Option<u64>) -> Result<(), Error> {
    mysql.rows(MysqlOp::Tail, "INSERT IGNORE INTO binlog_tail (only_row) VALUES (1)", ()).await?;
    let sql = "UPDATE binlog_tail SET behind_since = FROM_UNIXTIME(?), off_because = NULL";
    mysql.rows(MysqlOp::Tail, sql, (since,)).await.map(|_| ())
}

/// Says why the binlog cannot be followed.
///
/// # Errors
/// As any statement.
pub async fn note_off(mysql: &MySql, why: &str) -> Result<(), Error> {
    mysql.rows(MysqlOp::Tail, "INSERT IGNORE INTO binlog_tail (only_row) VALUES (1)", ()).await?;
    let why: String = why.chars().take(MOST_CHARS).collect();
    mysql.rows(MysqlOp::Tail, "UPDATE binlog_tail SET off_because = ?", (why,)).await.map(|_| ())
}

/// Whether the binlog is followed; one small statement.
///
/// # Errors
/// MySQL is away.
pub async fn followed(mysql: &MySql) -> Result<Followed, Error> {
    let sql = "SELECT IS_USED_LOCK(SHA2(?, 224)) IS NOT NULL AS held, t.off_because, t.behind_since IS NOT NULL AS behind, \
               CAST(GREATEST(COALESCE(TIMESTAMPDIFF(SECOND, t.behind_since, UTC_TIMESTAMP()), 0), 0) AS UNSIGNED) AS late \
               FROM (SELECT 1 AS one) o LEFT JOIN binlog_tail t ON t.only_row = o.one";
    let name = format!("{}:{LOCK}", mysql.database());
    let mut row = mysql.rows(MysqlOp::Tail, sql, (name,)).await?.pop().ok_or_else(|| Error::new(Kind::Bug, "no row of binlog_tail"))?;
    let row = &mut row;
    let why: Option<String> = take(row, "off_because")?;
    Ok(match (take::<i64>(row, "held")? != 0, why, take::<i64>(row, "behind")? != 0) {
        (true, None, false) => Followed::Closely,
        (true, None, true) => Followed::Late(Duration::from_secs(take(row, "late")?)),
        (_, why, _) => Followed::Not { why },
    })
}
