//! The binlog of both servers, read for what it says of `products`.
//!
//! Reads every kind of row event, plain and compressed transactions, and statements. What it cannot read it says
//! ([`What::Unreadable`]) instead of passing over it. A place to begin again is given only behind a whole transaction or
//! statement: between a table's map and its rows there is none.

use super::{CALL_LIMIT, MySql, of_driver, rows, take};
use crate::{Error, Kind};
use domain::ProductId;
use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, EventData, QueryEvent, RowsEventData, TableMapEvent};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, OptsBuilder, Params, Value};
use std::time::Duration;
use telemetry::metrics::{MysqlOp, TailEvent};

/// How long the server is quiet before it says that it is still there, in which case all that was committed has been sent.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// A server that says nothing for so long hangs, or the way to it does: the driver itself would wait for ever.
const SILENCE: Duration = Duration::from_secs(3);

/// Of any table: the server sends events that are larger than its `max_allowed_packet`, up to 1 GiB.
/// <https://dev.mysql.com/doc/refman/8.4/en/replication-options-replica.html#sysvar_replica_max_allowed_packet>
const LARGEST_EVENT_BYTES: usize = 1 << 30;

const TABLE: &str = "products";

/// The server's answer to a place that it does not have: purged, reset, or another server's.
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html#error_er_source_fatal_error_reading_binlog>
const NO_SUCH_PLACE: u16 = 1236;

/// A place behind a whole transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub file: String,
    pub offset: u64,
    /// When the file was begun, seconds since 1970 UTC; 0 where that is not known yet.
    pub begun: u64,
}

/// A row of `products` that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub kind: TailEvent,
    pub id: ProductId,
    /// What the version rose to; `None` where it did not rise, or where there was no row or is none.
    pub version: Option<u64>,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing of ours.
    Other,
    /// One element for each row, two where the id changed.
    Rows(Vec<Change>),
    /// A statement that names the table: TRUNCATE, DROP, ALTER, RENAME; or a change of any table that was not logged as rows.
    Statement,
    /// It may have been about the table; the text says what it was.
    Unreadable(String),
    /// Nothing has happened for a while.
    Idle,
}

/// One step of the stream.
#[derive(Debug)]
pub struct Read {
    pub what: What,
    /// When it was executed, by the server's clock, seconds since 1970 UTC; `None` for what has no time.
    pub at: Option<u32>,
    /// Where to go on after it, if there is such a place.
    pub passed: Option<Position>,
}

/// An open stream.
pub struct Binlog {
    stream: BinlogStream,
    mysql: MySql,
    columns: Columns,
    file: String,
    begun: u64,
    /// Where the last passed place was; offsets of a file beyond 4 GiB begin again and are of no use.
    offset: u64,
    /// Where the compressed transaction ends that is being read.
    payload_end: Option<u64>,
}

/// Where the columns that we need are in a row.
#[derive(Debug, Clone, Copy)]
struct Columns {
    id: usize,
    version: usize,
}

impl Columns {
    async fn read(mysql: &MySql) -> Result<Self, Error> {
        // A name for the column: MySQL returns those of information_schema in capitals.
        const SQL: &str = "SELECT column_name AS name FROM information_schema.columns \
                           WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position";
        let rows = mysql.rows(MysqlOp::Tail, SQL, (mysql.database(), TABLE)).await?;
        let names: Vec<String> = rows.into_iter().map(|mut row| take(&mut row, "name")).collect::<Result<_, _>>()?;
        let place = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        // Without a table there are no rows; when it comes back, the statement that makes it is read first.
        Ok(Self { id: place("id").unwrap_or(usize::MAX), version: place("version").unwrap_or(usize::MAX) })
    }
}

/// Whether the server no longer has the place at which the stream was to begin.
#[must_use]
pub fn is_position_lost(error: &Error) -> bool {
    error.code() == Some(NO_SUCH_PLACE)
}

/// Where the binlog ends now. Asked over a new connection: a right on the server counts only for those made after its grant.
///
/// # Errors
/// The server is away, has no binlog, or does not let us see it (1227).
pub async fn end(mysql: &MySql) -> Result<Position, Error> {
    const NO_SUCH_STATEMENT: u16 = 1064;
    let ask = async {
        let mut conn = mysql.own_connection().await?;
        // The first is MySQL's since 8.2 and the only one from 8.4 on, the second everybody else's.
        let mut found = rows(&mut conn, "SHOW BINARY LOG STATUS", Params::Empty).await;
        if found.as_ref().is_err_and(|error| error.code() == Some(NO_SUCH_STATEMENT)) {
            found = rows(&mut conn, "SHOW MASTER STATUS", Params::Empty).await;
        }
        let _ = conn.disconnect().await;
        found
    };
    let found = tokio::time::timeout(CALL_LIMIT, ask).await.map_err(|_| hangs())??;
    let mut row = found.into_iter().next().ok_or_else(|| Error::new(Kind::Bug, "MySQL writes no binlog"))?;
    Ok(Position { file: take(&mut row, "File")?, offset: take(&mut row, "Position")?, begun: 0 })
}

impl Binlog {
    /// Asks for the stream from `from` on.
    ///
    /// # Errors
    /// The server is away or does not let us read it (1227). That it has no such place is told by the first [`Self::next`].
    pub async fn open(mysql: &MySql, from: &Position) -> Result<Self, Error> {
        let columns = Columns::read(mysql).await?;
        let open = async {
            let opts = OptsBuilder::from_opts(mysql.inner.opts.clone()).max_allowed_packet(Some(LARGEST_EVENT_BYTES));
            let mut conn = Conn::new(opts).await.map_err(|error| of_driver(&error))?;
            let period = HEARTBEAT.as_nanos();
            // The second name is that of newer MySQL.
            let heartbeat = format!("SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}");
            rows(&mut conn, &heartbeat, Params::Empty).await?;
            // One that no replica has: the server ends an older stream of the same id.
            let server_id = fastrand::u32(1 << 31..);
            let request = BinlogStreamRequest::new(server_id).with_filename(from.file.as_bytes()).with_pos(from.offset);
            conn.get_binlog_stream(request).await.map_err(|error| of_driver(&error))
        };
        let stream = tokio::time::timeout(CALL_LIMIT, open).await.map_err(|_| hangs())??;
        Ok(Self { stream, mysql: mysql.clone(), columns, file: from.file.clone(), begun: 0, offset: from.offset, payload_end: None })
    }

    /// The file in which the stream is, and when it was begun; known after the first few steps of a file. 0: not yet.
    #[must_use]
    pub fn file(&self) -> (&str, u64) {
        (&self.file, self.begun)
    }

    /// The next step.
    ///
    /// # Errors
    /// The stream has ended, or nothing came for too long. It is of no use then. `Unavailable` for what may pass.
    pub async fn next(&mut self) -> Result<Read, Error> {
        let next = tokio::time::timeout(SILENCE, self.stream.next()).await.map_err(|_| hangs())?;
        self.read(next).await
    }

    /// The next step if it has arrived already.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn ready(&mut self) -> Option<Result<Read, Error>> {
        // Dropping the future of a step loses nothing: what has arrived stays with the stream.
        let next = self.stream.next().now_or_never()?;
        Some(self.read(next).await)
    }

    async fn read(&mut self, next: Option<mysql_async::Result<Event>>) -> Result<Read, Error> {
        let ended = || Error::new(Kind::Unavailable, "MySQL ended the stream of its binlog");
        let event = next.ok_or_else(ended)?.map_err(|error| of_driver(&error))?;
        let header = event.header();
        let what = match event.read_data() {
            Ok(Some(data)) => self.what(&data, header.timestamp()),
            Ok(None) if is_harmless(header.event_type_raw(), header.flags_raw()) => What::Other,
            Ok(None) => What::Unreadable(format!("an event of kind {}", header.event_type_raw())),
            Err(error) => What::Unreadable(format!("an event of kind {}: {error}", header.event_type_raw())),
        };
        let passed = self.passed(&event);
        if what == What::Statement {
            self.columns = Columns::read(&self.mysql).await?;
        }
        let at = Some(header.timestamp()).filter(|at| *at > 0);
        Ok(Read { what, at, passed })
    }

    fn what(&mut self, data: &EventData<'_>, timestamp: u32) -> What {
        match data {
            // The first of a stream is sent before it is known that a checksum ends each event, which then reads as part of the
            // name. It names the file that was asked for; between files it repeats what the one before it said.
            EventData::RotateEvent(_) if self.begun == 0 => What::Other,
            EventData::RotateEvent(rotate) => {
                self.file = rotate.name().into_owned();
                self.offset = rotate.position();
                self.begun = 0;
                What::Other
            }
            EventData::FormatDescriptionEvent(_) => {
                self.begun = u64::from(timestamp);
                What::Other
            }
            EventData::HeartbeatEvent => What::Idle,
            EventData::QueryEvent(query) => self.statement(query),
            // LOAD DATA that was logged as a statement.
            EventData::ExecuteLoadQueryEvent(_) => What::Statement,
            EventData::RowsEvent(rows) => match self.stream.get_tme(rows.table_id()) {
                Some(table) if is_ours(table, self.mysql.database()) => {
                    changes(rows, table, self.columns).map_or_else(What::Unreadable, What::Rows)
                }
                Some(_) => What::Other,
                None => What::Unreadable("rows of a table that was not named before".to_owned()),
            },
            // The server lost events; what they were is unknown.
            EventData::IncidentEvent(_) => What::Unreadable("an incident".to_owned()),
            _ => What::Other,
        }
    }

    /// Read liberally: taking too much for ours costs misses, too little a stale price.
    fn statement(&self, query: &QueryEvent<'_>) -> What {
        let (schema, text) = (query.schema(), query.query());
        if names(&schema, &text, self.mysql.database()) || changes_rows(&text) { What::Statement } else { What::Other }
    }

    /// Where one may begin again after this event.
    fn passed(&mut self, event: &Event) -> Option<Position> {
        let offset = u64::from(event.header().log_pos());
        match event.header().event_type() {
            Ok(EventType::TRANSACTION_PAYLOAD_EVENT) => {
                self.payload_end = Some(offset);
                return None;
            }
            Ok(EventType::XID_EVENT | EventType::QUERY_EVENT) => {}
            _ => return None,
        }
        let inside = self.payload_end;
        if event.header().event_type() == Ok(EventType::XID_EVENT) {
            self.payload_end = None;
        } else if inside.is_some() {
            return None;
        }
        let offset = inside.unwrap_or(offset);
        if offset <= self.offset {
            return None;
        }
        self.offset = offset;
        Some(Position { file: self.file.clone(), offset, begun: self.begun })
    }
}

fn hangs() -> Error {
    Error::new(Kind::Unavailable, format!("MySQL sent nothing of its binlog for {SILENCE:?}"))
}

/// Kinds that the driver does not know and that carry no change: MariaDB's annotations, checkpoints, GTIDs and the start of
/// encryption (160 to 164), MySQL's newer heartbeat (41), and whatever is marked as ignorable.
fn is_harmless(kind: u8, flags: u16) -> bool {
    const IGNORABLE: u16 = 0x80;
    matches!(kind, 160..=164 | 41) || flags & IGNORABLE != 0
}

fn is_ours(table: &TableMapEvent<'_>, database: &str) -> bool {
    table.table_name().eq_ignore_ascii_case(TABLE) && table.database_name().eq_ignore_ascii_case(database)
}

/// Whether a statement may be about our table: it names it, and our database by the way or by name. One that drops the
/// database names no table.
fn names(schema: &str, text: &str, database: &str) -> bool {
    let (text, database) = (text.to_ascii_lowercase(), database.to_ascii_lowercase());
    let there = schema.eq_ignore_ascii_case(&database) || text.contains(&database);
    let drops = text.contains("drop") && (text.contains("database") || text.contains("schema"));
    there && (text.contains(TABLE) || (drops && text.contains(&database)))
}

/// Whether a statement may have changed rows itself, of whatever table: a trigger, a view or a function may lead it to ours.
/// Sessions that log so are few where `binlog_format` is ROW. What is not known to be something else is taken for one.
fn changes_rows(text: &str) -> bool {
    const OF_TRANSACTIONS: [&str; 7] = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "XA"];
    const OF_SCHEMAS: [&str; 11] =
        ["CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "GRANT", "REVOKE", "ANALYZE", "OPTIMIZE", "REPAIR", "FLUSH"];
    let text = without_comments(text);
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let is = |known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    // MariaDB sends nothing but a comment in place of an event that an old reader does not know. CREATE … SELECT may call
    // functions.
    let calls = is(&["CREATE"]) && text.to_ascii_uppercase().contains("SELECT");
    !text.is_empty() && (calls || !(is(&OF_TRANSACTIONS) || is(&OF_SCHEMAS)))
}

/// The text from its first word on. A comment that is executed (`/*!`) stays.
fn without_comments(text: &str) -> &str {
    let mut text = text.trim_start();
    loop {
        let end = if text.starts_with('#') || text.starts_with("--") {
            text.find('\n').map(|end| end + 1)
        } else if text.starts_with("/*") && !text.starts_with("/*!") && !text.starts_with("/*M!") {
            text.find("*/").map(|end| end + 2)
        } else {
            return text;
        };
        text = text[end.unwrap_or(text.len())..].trim_start();
    }
}

/// What a row event did to each row.
fn changes(event: &RowsEventData<'_>, table: &TableMapEvent<'_>, columns: Columns) -> Result<Vec<Change>, String> {
    // A minimal image leaves columns out; values stand in the order of those that are there.
    macro_rules! place {
        ($image:expr, $column:expr) => {
            $image.and_then(|image| {
                let there = image.get($column).is_some_and(|bit| *bit);
                there.then(|| image.iter().take($column).filter(|bit| **bit).count())
            })
        };
    }
    let before = [place!(event.columns_before_image(), columns.id), place!(event.columns_before_image(), columns.version)];
    let after = [place!(event.columns_after_image(), columns.id), place!(event.columns_after_image(), columns.version)];
    let value = |row: Option<&BinlogRow>, place: Option<usize>| row.zip(place).and_then(|(row, place)| number(row, place));
    let mut changes = Vec::new();
    for row in event.rows(table) {
        let (old, new) = row.map_err(|error| format!("a row: {error}"))?;
        let (old_id, old_version) = (value(old.as_ref(), before[0]), value(old.as_ref(), before[1]));
        let (new_id, new_version) = (value(new.as_ref(), after[0]), value(new.as_ref(), after[1]));
        let kind = match (&old, &new) {
            (Some(_), Some(_)) => TailEvent::Update,
            (None, _) => TailEvent::Insert,
            (Some(_), None) => TailEvent::Delete,
        };
        let same_row = kind == TailEvent::Update && (old_id == new_id || new_id.is_none() || old_id.is_none());
        let rose = new_version.zip(old_version).filter(|(new, old)| same_row && new > old).map(|(new, _)| new);
        let ids = [old_id, new_id.filter(|new| old_id != Some(*new))];
        if ids.iter().all(Option::is_none) {
            return Err("a row without its id".to_owned());
        }
        // Ids that are no product's are never cached.
        let ids = ids.into_iter().flatten().filter_map(|id| ProductId::new(id).ok());
        changes.extend(ids.map(|id| Change { kind, id, version: rose }));
    }
    Ok(changes)
}

/// Where the sign is not logged an unsigned number comes as a signed one.
fn number(row: &BinlogRow, place: usize) -> Option<u64> {
    match row.as_ref(place)? {
        BinlogValue::Value(Value::UInt(number)) => Some(*number),
        BinlogValue::Value(Value::Int(number)) => Some(number.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_ours_if_it_may_be() {
        for text in [
            "TRUNCATE products",
            "DROP TABLE `products` /* generated by server */",
            "alter table Products add column colour int",
            "RENAME TABLE products_new TO products",
            "UPDATE products SET price = 1",
            "DROP DATABASE shop",
        ] {
            assert!(names("shop", text, "shop"), "{text}");
        }
        assert!(names("other", "TRUNCATE shop.products", "shop"));
        assert!(names("", "drop schema `shop`", "shop"));
        for (schema, text) in [
            ("shop", "BEGIN"),
            ("shop", "COMMIT"),
            ("shop", "CREATE TABLE orders (id INT)"),
            ("shop", "TRUNCATE product_views"),
            ("other", "TRUNCATE products"),
            ("shop", "DROP TABLE orders"),
        ] {
            assert!(!names(schema, text, "shop"), "{text}");
        }
    }

    #[test]
    fn a_statement_that_may_change_rows_is_ours_whatever_it_names() {
        for text in [
            "UPDATE cheap_things SET price = 1",
            "insert into orders (id) values (1)",
            "/* of the shop */ -- by night\n DELETE FROM orders",
            "/*!50000 UPDATE orders SET a = 1 */",
            "(SELECT 1) UNION (SELECT f())",
            "SELECT `shop`.`reprice`(1)",
            "WITH x AS (SELECT 1) UPDATE orders, x SET a = 1",
            "SET STATEMENT max_statement_time = 1 FOR UPDATE orders SET a = 1",
            "CREATE TABLE t SELECT reprice(1)",
        ] {
            assert!(changes_rows(text), "{text}");
        }
        for text in [
            "BEGIN",
            "COMMIT",
            "SAVEPOINT `a`",
            "ROLLBACK TO `a`",
            "XA START X'61',X'',1",
            "CREATE TABLE orders (id INT)",
            "/* a */ create table orders (id INT) START TRANSACTION",
            "DROP TEMPORARY TABLE IF EXISTS `t` /* generated by server */",
            "TRUNCATE orders",
            "GRANT SELECT ON shop.* TO a",
            "# Dummy event replacing event type 160 that slave cannot handle.",
            "",
        ] {
            assert!(!changes_rows(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_not_passed_over() {
        for (kind, flags) in [(160, 0), (162, 0), (164, 0), (41, 0), (199, 0x80)] {
            assert!(is_harmless(kind, flags), "{kind}");
        }
        // MariaDB's compressed statements and rows, and what comes after all that is known.
        for kind in [165, 166, 171, 199] {
            assert!(!is_harmless(kind, 0), "{kind}");
        }
    }
}
