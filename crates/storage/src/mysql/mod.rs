//! MySQL or MariaDB, the source of truth: connections, sessions, time limits, transactions.
//!
//! The driver has no time limits, and a cancelled BEGIN or COMMIT leaves a connection in doubt. So every
//! call runs as a task of its own that nobody cancels; its caller waits for a bounded time and then goes
//! on without it. What such a task still holds is bounded by the pool.

pub mod binlog;
pub mod dead_letters;
pub mod idempotency;
pub mod migrations;
pub mod pause;
pub mod price_batches;
pub mod price_history;
pub mod product_sample;
pub mod products;
pub mod reservations;
pub mod server;
pub mod sold_out;
pub mod stock;
pub mod stock_checks;
pub mod stock_mend;
pub mod stock_retention;
pub mod tail;
pub mod version_trigger;
pub(crate) mod view_checks;
pub mod view_counts;
pub mod view_retention;
mod view_sums;

use crate::{Error, Kind};
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row, Transaction, TxOpts};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use telemetry::metrics::{Gauge, MysqlOp, StoreMetrics};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a caller waits for one call. Above the lock wait of a session (2 s), below a request's limit (5 s).
pub const CALL_LIMIT: Duration = Duration::from_secs(4);

/// How long a call waits for a connection to be free. A store that hangs then holds as many tasks as connections, and no more.
const FREE_LIMIT: Duration = Duration::from_secs(2);

/// Idle connections are closed before the server does it (`wait_timeout=10`).
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Quiet connections are probed after this; how soon a vanished host is then given up is the kernel's to say
/// (`net.ipv4.tcp_keepalive_intvl`, `_probes`, `tcp_retries2`).
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// Rows that one statement deletes at most of what has served its time: locks and a piece of the binlog that nobody notices.
pub const RETENTION_PIECE: u64 = 1_000;

/// What every session sets. `wait_timeout`: a process that was stopped in mid-transaction loses its locks.
/// `lock_wait_timeout`: an ALTER TABLE must not hold every connection for its length.
const SESSION: [&str; 2] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET NAMES utf8mb4, autocommit = 1, time_zone = '+00:00', innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10, \
     sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'",
];

/// The two dialects where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    MariaDb,
    MySql,
}

/// What was learned when the database was first reached; the same for all processes of a deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub flavor: Flavor,
    pub server_version: String,
    /// What its flush settings promise, in words.
    pub durability: String,
    /// Owns the key prefix in Redis.
    pub id: String,
    pub shards: domain::Shards,
}

/// Handle to the database; clones share one pool.
#[derive(Clone)]
pub struct MySql {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    /// One for each connection that calls may use; the pool may open one more, for [`MySql::ping`].
    free: Arc<Semaphore>,
    connections: u16,
    opts: Opts,
    runtime: Handle,
    metrics: Arc<StoreMetrics>,
    deployment: OnceLock<Deployment>,
}

impl MySql {
    /// A handle that connects when it is first used. Must be called on the runtime that is to do the I/O.
    ///
    /// # Errors
    /// A URL that is not `mysql://user:password@host:port/database`.
    pub fn new(url: &str, connections: u16, metrics: Arc<StoreMetrics>) -> Result<Self, String> {
        let hint = "a MySQL URL has the form mysql://user:password@host:port/database";
        let opts = Opts::from_url(url).map_err(|error| format!("{error}; {hint}"))?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(format!("the URL names no database; {hint}"));
        }
        let constraints = PoolConstraints::new(0, usize::from(connections) + 1).ok_or("a pool needs at least one connection")?;
        let pool_opts = PoolOpts::new()
            .with_constraints(constraints)
            .with_inactive_connection_ttl(IDLE_LIMIT)
            .with_ttl_check_interval(Duration::from_secs(1))
            // A reset at each return would throw the prepared statements away; our sessions change nothing.
            .with_reset_connection(false);
        let opts: Opts = OptsBuilder::from_opts(opts)
            .pool_opts(pool_opts)
            .setup(SESSION.to_vec())
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .prefer_socket(Some(false))
            .into();
        let pool = Pool::new(opts.clone());
        metrics.mysql_pool_limit(connections);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                free: Arc::new(Semaphore::new(usize::from(connections))),
                connections,
                opts,
                runtime: Handle::current(),
                metrics,
                deployment: OnceLock::new(),
            }),
        })
    }

    /// Where the database is, as people write it: host, port and name.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}/{}", self.inner.opts.ip_or_hostname(), self.inner.opts.tcp_port(), self.database())
    }

    /// Most connections that calls may use at once.
    #[must_use]
    pub fn connections(&self) -> u16 {
        self.inner.connections
    }

    /// What [`migrations::reach`] learned.
    ///
    /// # Errors
    /// The database was not reached yet.
    pub fn deployment(&self) -> Result<&Deployment, Error> {
        self.inner.deployment.get().ok_or_else(|| Error::new(Kind::Unavailable, "MySQL was not reached yet"))
    }

    pub(crate) fn set_deployment(&self, deployment: Deployment) {
        // A second reach learns the same: the database cannot change under a process.
        let _ = self.inner.deployment.set(deployment);
    }

    pub(crate) fn database(&self) -> &str {
        self.inner.opts.db_name().unwrap_or_default()
    }

    /// Runs `work` to its end on the runtime of this handle and waits for it for at most `limit`.
    ///
    /// # Errors
    /// Those of `work`; after `limit` an error of kind `late`, while `work` goes on unheard.
    pub async fn detached<T: Send + 'static>(
        &self,
        op: MysqlOp,
        late: Kind,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let task = self.inner.runtime.spawn(work);
        let result = match tokio::time::timeout(limit, task).await {
            Ok(Ok(result)) => result,
            // Of a write that panicked nobody knows how far it came.
            Ok(Err(join)) => {
                let kind = if late == Kind::Unknown { Kind::Unknown } else { Kind::Bug };
                Err(Error::new(kind, format!("MySQL call {op:?} stopped: {join}")))
            }
            Err(_) => Err(Error::new(late, format!("MySQL did not answer {op:?} within {limit:?}"))),
        };
        self.inner.metrics.observe_mysql(op, started.elapsed());
        if let Err(error) = &result {
            self.inner.metrics.mysql_error(op, error.kind().label());
        }
        result
    }

    /// All rows of one statement in autocommit mode.
    pub(crate) async fn rows(&self, op: MysqlOp, sql: impl Into<Cow<'static, str>>, params: impl Into<Params>) -> Result<Vec<Row>, Error> {
        let (this, sql, params) = (self.clone(), sql.into(), params.into());
        self.detached(op, Kind::Unavailable, CALL_LIMIT, async move {
            let _free = this.free_connection().await?;
            let mut conn = this.inner.pool.get_conn().await.map_err(|error| of_driver(&error))?;
            rows(&mut conn, &sql, params).await
        })
        .await
    }

    /// Runs one statement in autocommit mode and returns how many rows it changed.
    pub(crate) async fn change(&self, op: MysqlOp, sql: String) -> Result<u64, Error> {
        let this = self.clone();
        self.detached(op, Kind::Unavailable, CALL_LIMIT, async move {
            let _free = this.free_connection().await?;
            let mut conn = this.inner.pool.get_conn().await.map_err(|error| of_driver(&error))?;
            rows(&mut conn, &sql, Params::Empty).await.map(|_| conn.affected_rows())
        })
        .await
    }

    /// Begins a transaction. Call it inside [`MySql::detached`], so that it is never cancelled half-way.
    ///
    /// # Errors
    /// The server is away or the pool is exhausted for longer than its callers wait.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let free = self.free_connection().await?;
        let tx = self.inner.pool.start_transaction(TxOpts::default()).await.map_err(|error| of_driver(&error))?;
        Ok(Tx { tx, _free: free })
    }

    async fn free_connection(&self) -> Result<OwnedSemaphorePermit, Error> {
        let free = self.inner.free.clone();
        // What is free is nobody's turn: those who wait are served first.
        if let Ok(free) = free.clone().try_acquire_owned() {
            return Ok(free);
        }
        let _waits = Waits::new(&self.inner.metrics);
        let free = tokio::time::timeout(FREE_LIMIT, free.acquire_owned()).await;
        let busy = || Error::new(Kind::Unavailable, "MySQL: all connections are busy (INVENTORY_MYSQL_CONNECTIONS)");
        free.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// A connection outside the pool, for holders of named locks.
    pub(crate) async fn own_connection(&self) -> Result<Conn, Error> {
        Conn::new(self.inner.opts.clone()).await.map_err(|error| of_driver(&error))
    }

    /// A pool for changes of the schema, which wait longer for a table that is in use and then take their time.
    pub(crate) fn patient_pool(&self) -> Pool {
        const PATIENT: &str = "SET SESSION lock_wait_timeout = 60, wait_timeout = 28800";
        // The driver runs them last to first.
        let setup: Vec<&str> = [PATIENT].into_iter().chain(SESSION).collect();
        Pool::new(OptsBuilder::from_opts(self.inner.opts.clone()).setup(setup))
    }

    /// Whether the server answers within the limit; sets `inventory_mysql_up` and the pool's gauges.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        let this = self.clone();
        let ping = async move {
            let mut conn = this.inner.pool.get_conn().await.map_err(|error| of_driver(&error))?;
            rows(&mut conn, "SELECT 1", Params::Empty).await.map(|_| ())
        };
        let result = self.detached(MysqlOp::Status, Kind::Unavailable, CALL_LIMIT, ping).await;
        let pool = self.inner.pool.metrics();
        let load = |value: &std::sync::atomic::AtomicUsize| value.load(std::sync::atomic::Ordering::Relaxed) as i64;
        self.inner.metrics.mysql_up(result.is_ok());
        self.inner.metrics.mysql_pool(load(&pool.connections_in_pool), load(&pool.connections_in_use));
        result
    }
}

/// A caller that waits for a connection, counted for as long as it does, also where it gives up.
struct Waits(Gauge);

impl Waits {
    fn new(metrics: &StoreMetrics) -> Self {
        let gauge = metrics.mysql_waiting().clone();
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// An open transaction; dropped without [`Tx::commit`] it is rolled back.
pub struct Tx {
    tx: Transaction<'static>,
    _free: OwnedSemaphorePermit,
}

impl Tx {
    pub(crate) async fn rows(&mut self, sql: &str, params: impl Into<Params>) -> Result<Vec<Row>, Error> {
        rows(&mut self.tx, sql, params.into()).await
    }

    /// Runs a statement and returns the id that it gave to a new row, 0 where it gave none.
    pub(crate) async fn execute(&mut self, sql: &str, params: impl Into<Params>) -> Result<u64, Error> {
        rows(&mut self.tx, sql, params.into()).await?;
        Ok(self.tx.last_insert_id().unwrap_or_default())
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn change(&mut self, sql: &str, params: impl Into<Params>) -> Result<u64, Error> {
        rows(&mut self.tx, sql, params.into()).await?;
        Ok(self.tx.affected_rows())
    }

    /// # Errors
    /// `Conflict`, or `Unavailable` from a server that is read-only: nothing was changed. Anything else is `Unknown`.
    pub async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await.map_err(|error| {
            let rolled_back = matches!(&error, mysql_async::Error::Server(server)
                if server.state.starts_with("40") || ROLLED_BACK_AT_COMMIT.contains(&server.code));
            let error = of_driver(&error);
            if rolled_back { error } else { error.into_unknown() }
        })
    }

    /// Commits, or rolls back after `latest`: its caller gives it up then, and may see others do what it would undo.
    ///
    /// # Errors
    /// `Unavailable` when it was too late; otherwise as [`Self::commit`].
    pub async fn commit_by(self, latest: Instant) -> Result<(), Error> {
        if Instant::now() < latest {
            return self.commit().await;
        }
        // A lost connection rolls back as well.
        let _ = self.rollback().await;
        Err(Error::new(Kind::Unavailable, "MySQL: the transaction came too late to its end and was rolled back"))
    }

    /// # Errors
    /// The connection was lost; the server rolls back all the same.
    pub async fn rollback(self) -> Result<(), Error> {
        self.tx.rollback().await.map_err(|error| of_driver(&error))
    }
}

/// Statements without parameters go as text: they carry inlined numbers and would fill the statement cache.
async fn rows<Q: Queryable>(conn: &mut Q, sql: &str, params: Params) -> Result<Vec<Row>, Error> {
    let rows = match params {
        Params::Empty => conn.query(sql).await,
        params => conn.exec(sql, params).await,
    };
    rows.map_err(|error| of_driver(&error))
}

/// Lock wait timeout; MariaDB also reports it for NOWAIT.
pub(crate) const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;
/// Refusals of COMMIT after which nothing is committed: lock wait, and read-only in its three forms.
const ROLLED_BACK_AT_COMMIT: [u16; 4] = [LOCK_WAIT_TIMEOUT, 1290, 1792, 1836];
/// MySQL's refusal of NOWAIT.
const LOCK_NOWAIT: u16 = 3572;
pub(crate) const DUPLICATE_KEY: u16 = 1062;

fn of_driver(error: &mysql_async::Error) -> Error {
    let message = match error {
        // The driver says twice that it is one of input and output, which the reason needs not once.
        mysql_async::Error::Io(mysql_async::IoError::Io(error)) => format!("MySQL: {error}"),
        error => format!("MySQL: {error}"),
    };
    match error {
        mysql_async::Error::Server(server) => Error::new(of_server(server.code, &server.state), message).with_code(server.code),
        mysql_async::Error::Io(_) | mysql_async::Error::Driver(_) => Error::new(Kind::Unavailable, message),
        _ => Error::new(Kind::Bug, message),
    }
}

/// SQLSTATE classes 22, 23 and 45 speak of the data; a full table or a read-only server heals.
fn of_server(code: u16, state: &str) -> Kind {
    /// Too many connections or errors of a host, shutting down, offline, read-only, disk or table full, query or session killed,
    /// idle for too long, statement to be prepared again, not synchronised.
    const AWAY: [u16; 19] =
        [1040, 1129, 1053, 3032, 1290, 1792, 1836, 1021, 1114, 1317, 1927, 3169, 4031, 1203, 1226, 3024, 1969, 1615, 1047];
    /// A violated CHECK and a value that is none of the column's type: MySQL has them under HY000, MariaDB under 23 and 22.
    const REFUSED: [u16; 2] = [3819, 1366];
    /// An ambiguous column of a statement or a trigger has class 23 and speaks of no data.
    const AMBIGUOUS_COLUMN: u16 = 1052;
    match code {
        LOCK_WAIT_TIMEOUT | DEADLOCK | LOCK_NOWAIT => Kind::Conflict,
        code if AWAY.contains(&code) => Kind::Unavailable,
        code if REFUSED.contains(&code) => Kind::Corrupt,
        AMBIGUOUS_COLUMN => Kind::Bug,
        _ if state.starts_with("22") || state.starts_with("23") || state.starts_with("45") => Kind::Corrupt,
        _ if state.starts_with("40") => Kind::Conflict,
        _ if state.starts_with("08") => Kind::Unavailable,
        _ => Kind::Bug,
    }
}

/// Takes a column out of a row.
pub(crate) fn take<T: FromValue>(row: &mut Row, column: &str) -> Result<T, Error> {
    match row.take_opt::<T, _>(column) {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(Error::new(Kind::Corrupt, format!("column {column} holds something unexpected"))),
        None => Err(Error::new(Kind::Bug, format!("the statement returned no column {column}"))),
    }
}

/// Rows for VALUES, written out as the driver writes literals: text is quoted and escaped, what is no text is hexadecimal. (None of
/// our sessions has NO_BACKSLASH_ESCAPES.) How many rows there are differs from time to time, so that a prepared statement would
/// be another each time.
pub(crate) fn values_list<const COLUMNS: usize>(rows: impl IntoIterator<Item = [mysql_async::Value; COLUMNS]>) -> String {
    let mut list = String::new();
    for row in rows {
        list.push_str(if list.is_empty() { "(" } else { ",(" });
        for (place, value) in row.iter().enumerate() {
            if place > 0 {
                list.push(',');
            }
            list.push_str(&value.as_sql(false));
        }
        list.push(')');
    }
    list
}

/// `1,2,3`: numbers are safe to inline.
pub(crate) fn number_list(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut list = String::new();
    for number in numbers {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&number.to_string());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_out_so_that_text_stays_within_its_quotes() {
        let rows =
            [["it's \\ \"so\"".into(), 7_u64.into(), None::<String>.into()], ["é\0\n".into(), (-1_i64).into(), [0xFF_u8, 0][..].into()]];
        assert_eq!(values_list(rows), r#"('it\'s \\ \"so\"',7,NULL),('é\0\n',-1,0xFF00)"#);
        assert_eq!(values_list::<1>([]), "");
    }

    #[test]
    fn a_lost_connection_is_said_in_the_words_of_the_system_alone() {
        let refused = std::io::Error::from_raw_os_error(111);
        let said = of_driver(&mysql_async::Error::Io(mysql_async::IoError::Io(refused)));
        assert_eq!((said.kind(), said.to_string().as_str()), (Kind::Unavailable, "MySQL: Connection refused (os error 111)"));
    }

    #[test]
    fn both_servers_errors_are_of_the_same_kinds() {
        for (mariadb, mysql, kind) in [
            // A violated CHECK, text that is no number, a number out of range, a duplicate key.
            ((4025, "23000"), (3819, "HY000"), Kind::Corrupt),
            ((1366, "22007"), (1366, "HY000"), Kind::Corrupt),
            ((1264, "22003"), (1264, "22003"), Kind::Corrupt),
            ((1062, "23000"), (1062, "23000"), Kind::Corrupt),
            // A sum beyond BIGINT, text that is too long, a trigger's own refusal, a foreign key.
            ((1690, "22003"), (1690, "22003"), Kind::Corrupt),
            ((1406, "22001"), (1406, "22001"), Kind::Corrupt),
            ((1644, "45000"), (1644, "45000"), Kind::Corrupt),
            ((1452, "23000"), (1452, "23000"), Kind::Corrupt),
            // A full table, a full disk, a statement that the server gives up as it stops, a transaction that may only read.
            ((1114, "HY000"), (1114, "HY000"), Kind::Unavailable),
            ((1021, "HY000"), (1021, "HY000"), Kind::Unavailable),
            ((1053, "08S01"), (1053, "08S01"), Kind::Unavailable),
            ((1792, "25006"), (1792, "25006"), Kind::Unavailable),
            // Too many locks, a full disk as the engine says it, an error of its files: whatever it is, not of the data.
            ((1206, "HY000"), (1206, "HY000"), Kind::Bug),
            ((1030, "HY000"), (1030, "HY000"), Kind::Bug),
            ((1026, "HY000"), (1026, "HY000"), Kind::Bug),
            // NOWAIT, deadlock.
            ((1205, "HY000"), (3572, "HY000"), Kind::Conflict),
            ((1213, "40001"), (1213, "40001"), Kind::Conflict),
            // Idle for too long; a transaction that replication rolled back (MySQL only).
            ((1927, "70100"), (4031, "HY000"), Kind::Unavailable),
            ((1213, "40001"), (3101, "40000"), Kind::Conflict),
            // A statement's time limit, read-only, offline (MySQL only).
            ((1969, "70100"), (3024, "HY000"), Kind::Unavailable),
            ((1290, "HY000"), (1290, "HY000"), Kind::Unavailable),
            ((1040, "08004"), (3032, "HY000"), Kind::Unavailable),
            // A missing privilege, an unknown column.
            ((1142, "42000"), (1142, "42000"), Kind::Bug),
            ((1054, "42S22"), (1054, "42S22"), Kind::Bug),
            // A missing table, a column that came without a default, an ambiguous one, other columns than the statement has.
            ((1146, "42S02"), (1146, "42S02"), Kind::Bug),
            ((1364, "HY000"), (1364, "HY000"), Kind::Bug),
            ((1052, "23000"), (1052, "23000"), Kind::Bug),
            ((1136, "21S01"), (1136, "21S01"), Kind::Bug),
        ] {
            for (code, state) in [mariadb, mysql] {
                assert_eq!(of_server(code, state), kind, "{code} {state}");
            }
        }
    }
}
