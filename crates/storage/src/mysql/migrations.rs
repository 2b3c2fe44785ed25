//! Schema: applying it, and learning at start what the database is.

use super::version_trigger::{self, Trigger};
use super::{Deployment, Flavor, MySql, take};
use crate::{Error, Kind};
use domain::Shards;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use std::collections::HashMap;
use std::time::Duration;
use telemetry::metrics::MysqlOp;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// How long one migrating process waits for another.
const LOCK_WAIT_SECONDS: u32 = 30;

/// All migrations together; DDL on large tables takes its time.
const MIGRATE_LIMIT: Duration = Duration::from_secs(3600);

/// Oldest servers with what is used here: NOWAIT and SKIP LOCKED, `JSON_TABLE`, CHECK.
const OLDEST_MARIADB: (u32, u32) = (10, 6);
const OLDEST_MYSQL: (u32, u32) = (8, 0);

/// One migration, and when it was applied if it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub version: u32,
    pub name: String,
    pub applied_on: Option<String>,
}

/// Why a process must not start; waiting does not mend it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a migration did.
#[derive(Debug)]
pub struct Migrated {
    /// Names of the migrations that were applied.
    pub applied: Vec<String>,
    pub trigger: Trigger,
}

/// Applies what is missing, makes the deployment id and the shards if there are none, and the trigger of versions if it may.
/// Any number of processes may call it at the same time.
///
/// # Errors
/// The server is away, lacks a privilege, or holds migrations that differ from ours.
pub async fn migrate(mysql: &MySql, shards: Shards) -> Result<Migrated, Error> {
    let this = mysql.clone();
    mysql.detached(MysqlOp::Migrate, Kind::Unknown, MIGRATE_LIMIT, async move { migrate_locked(&this, shards).await }).await
}

async fn migrate_locked(mysql: &MySql, shards: Shards) -> Result<Migrated, Error> {
    let mut lock = mysql.own_connection().await?;
    let driver = |error: mysql_async::Error| super::of_driver(&error);
    // The holder of a named lock must outlive the server's patience with idle connections.
    lock.query_drop("SET SESSION wait_timeout = 28800, lock_wait_timeout = 60").await.map_err(driver)?;
    let name = format!("{}:migrate", mysql.database());
    // Hashed: MySQL allows 64 characters, and a database's name alone may have them.
    let got = lock.exec_first("SELECT GET_LOCK(SHA2(?, 224), ?)", (&name, LOCK_WAIT_SECONDS)).await.map_err(driver)?;
    let got: Option<u8> = got.flatten();
    if got != Some(1) {
        return Err(Error::new(Kind::Conflict, "another process is migrating; wait for it and run `inventoryctl migrate status`"));
    }
    let mut pool = mysql.patient_pool();
    let report = embedded::migrations::runner().run_async(&mut pool).await;
    pool.disconnect().await.map_err(driver)?;
    let report = report.map_err(|error| Error::new(Kind::Bug, format!("migration failed: {error}")))?;
    seed(&mut lock, shards).await.map_err(driver)?;
    let trigger = version_trigger::ensure(mysql, &mut lock).await?;
    // The lock goes with its connection.
    lock.disconnect().await.map_err(driver)?;
    Ok(Migrated { applied: report.applied_migrations().iter().map(|migration| migration.to_string()).collect(), trigger })
}

/// The deployment id and one row a shard; the number of shards is a fact of the database from then on.
async fn seed(conn: &mut Conn, shards: Shards) -> mysql_async::Result<()> {
    conn.query_drop("INSERT INTO deployment (id) SELECT UUID() FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM deployment)").await?;
    let present: Option<u64> = conn.query_first("SELECT COUNT(*) FROM view_shards").await?;
    if present == Some(0) {
        let rows: Vec<String> = shards.all().map(|shard| format!("({shard})")).collect();
        conn.query_drop(format!("INSERT INTO view_shards (shard) VALUES {}", rows.join(","))).await?;
    }
    Ok(())
}

/// What is applied and what is missing, in order.
///
/// # Errors
/// The server is away.
pub async fn status(mysql: &MySql) -> Result<Vec<Migration>, Error> {
    let applied = applied(mysql).await?;
    let runner = embedded::migrations::runner();
    let all = runner.get_migrations().iter().map(|migration| {
        let version = migration.version();
        let applied_on = applied.iter().find(|(number, _)| *number == i64::from(version)).map(|(_, on)| on.clone());
        Migration { version: version as u32, name: migration.name().to_owned(), applied_on }
    });
    let mut all: Vec<Migration> = all.collect();
    all.sort_by_key(|migration| migration.version);
    Ok(all)
}

/// The newest migration that was applied, which this program need not know.
///
/// # Errors
/// The server is away.
pub async fn newest(mysql: &MySql) -> Result<Option<i64>, Error> {
    Ok(applied(mysql).await?.last().map(|(version, _)| *version))
}

/// Versions that the database has and this program does not know: a newer program migrated it.
pub(super) async fn unknown(mysql: &MySql) -> Result<Vec<i64>, Error> {
    let runner = embedded::migrations::runner();
    let known = |version: i64| runner.get_migrations().iter().any(|migration| i64::from(migration.version()) == version);
    Ok(applied(mysql).await?.into_iter().map(|(version, _)| version).filter(|version| !known(*version)).collect())
}

async fn applied(mysql: &MySql) -> Result<Vec<(i64, String)>, Error> {
    const NO_SUCH_TABLE: u16 = 1146;
    let rows = mysql.rows(MysqlOp::Migrate, "SELECT version, applied_on FROM refinery_schema_history ORDER BY version", ()).await;
    match rows {
        Ok(rows) => rows.into_iter().map(|mut row| Ok((take(&mut row, "version")?, take(&mut row, "applied_on")?))).collect(),
        Err(error) if error.code() == Some(NO_SUCH_TABLE) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Not `SELECT @@…`, which fails where a variable is gone: MySQL means to remove `binlog_format`, leaving only ROW.
const SERVER_FACTS: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
     ('version', 'binlog_format', 'log_bin', 'sync_binlog', 'innodb_flush_log_at_trx_commit')";

/// What a crash of the database's host may take of what was committed and, perhaps, cached.
fn durability(flush: &str, binlog: &str, sync: &str) -> String {
    match (flush, binlog, sync) {
        ("1", "OFF", _) | ("1", _, "1") => "a commit is on disk before it is visible".to_owned(),
        ("1", ..) => format!("sync_binlog={sync}: a crash of its host may lose commits that were seen; set it to 1"),
        _ => format!("innodb_flush_log_at_trx_commit={flush}: a crash may lose commits that were seen; set it to 1"),
    }
}

/// Reaches the database for the first time: checks that it can keep the promises, and learns what it is.
///
/// # Errors
/// [`Refusal::Store`] of kind `Unavailable` passes with time; everything else needs a person.
pub async fn reach(mysql: &MySql) -> Result<Deployment, Refusal> {
    let facts = mysql.rows(MysqlOp::Connect, SERVER_FACTS, ()).await?;
    let pair = |mut row: Row| Ok((take(&mut row, "Variable_name")?, take(&mut row, "Value")?));
    let facts: HashMap<String, String> = facts.into_iter().map(pair).collect::<Result<_, Error>>()?;
    let fact = |name: &str| facts.get(name).map_or("", String::as_str);
    let server_version = fact("version").to_owned();
    let flavor = supported(&server_version).map_err(Refusal::Settings)?;
    if fact("binlog_format").eq_ignore_ascii_case("STATEMENT") {
        let cure = "set binlog_format=ROW: READ COMMITTED sessions cannot write under it";
        return Err(Refusal::Settings(format!("MySQL runs with binlog_format=STATEMENT; {cure}")));
    }
    if let Some(missing) = status(mysql).await?.iter().find(|migration| migration.applied_on.is_none()) {
        let (version, name) = (missing.version, &missing.name);
        return Err(Refusal::Settings(format!("the schema lacks migration {version} ({name}); run `inventoryctl migrate`")));
    }
    let mut row = mysql.rows(MysqlOp::Connect, "SELECT id, (SELECT COUNT(*) FROM view_shards) AS shards FROM deployment", ()).await?;
    let mut row = row.pop().ok_or_else(|| Refusal::Settings("the database has no deployment id; run `inventoryctl migrate`".to_owned()))?;
    let shards = u16::try_from(take::<u64>(&mut row, "shards")?).ok().and_then(Shards::new);
    let shards = shards.ok_or_else(|| Refusal::Settings("view_shards has no rows; run `inventoryctl migrate`".to_owned()))?;
    let durability = durability(fact("innodb_flush_log_at_trx_commit"), fact("log_bin"), fact("sync_binlog"));
    let deployment = Deployment { flavor, server_version, durability, id: take(&mut row, "id")?, shards };
    mysql.set_deployment(deployment.clone());
    Ok(deployment)
}

pub(super) fn supported(version: &str) -> Result<Flavor, String> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (flavor, oldest) = if version.contains("MariaDB") { (Flavor::MariaDb, OLDEST_MARIADB) } else { (Flavor::MySql, OLDEST_MYSQL) };
    if found >= oldest { Ok(flavor) } else { Err(format!("the database is {version}; MariaDB 10.6+ or MySQL 8.0+ is needed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart_by_what_they_say() {
        assert_eq!(supported("10.11.19-MariaDB-0+deb12u1-log"), Ok(Flavor::MariaDb));
        assert_eq!(supported("8.0.36"), Ok(Flavor::MySql));
        assert_eq!(supported("9.7.4"), Ok(Flavor::MySql));
        for old in ["5.7.44", "10.5.1-MariaDB", ""] {
            assert!(supported(old).is_err(), "{old}");
        }
    }
}
