//! What a MySQL or MariaDB says of itself, of our sessions and of our rights. Judging it is its caller's.
//!
//! Reads only, and with the least rights: what the user may not see is an error in its own field, and the rest is there.

use super::migrations::{self, Migration};
use super::tail::{self, Followed};
use super::version_trigger::{self, Trigger};
use super::{MySql, take};
use crate::fields::{Clock, Fields};
use crate::watch::now_ms;
use crate::{Error, Kind};
use mysql_async::Row;
use telemetry::metrics::MysqlOp;

/// Settings of the server that our guarantees, or our comfort, rest on. Not all servers have all.
const GLOBAL: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'innodb_flush_log_at_trx_commit', 'innodb_doublewrite', \
     'log_bin', 'sync_binlog', 'binlog_format', 'binlog_row_image', 'read_only', 'super_read_only', 'innodb_read_only', \
     'max_connections', 'max_allowed_packet', 'wsrep_on', 'group_replication_group_name', 'group_replication_single_primary_mode')";

/// What a session of ours has, whatever the server's defaults are. `tx_…` are MariaDB's names until 11.1.
const SESSION: &str = "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation', 'tx_read_only', \
     'transaction_read_only', 'sql_mode', 'time_zone', 'wait_timeout', 'innodb_lock_wait_timeout', 'lock_wait_timeout', \
     'max_user_connections', 'max_statement_time')";

const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected', 'Max_used_connections', 'wsrep_cluster_size')";

/// Rights on a table, a database or everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// In capitals, such as `SELECT` or `ALL PRIVILEGES`. Rights on single columns are left out.
    pub rights: Vec<String>,
    /// As the server writes it, without quotes: `*.*`, `shop.*` (the database may be a pattern) or `shop.products`.
    pub on: String,
}

/// A table and its engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub engine: String,
}

/// A server as this user sees it.
#[derive(Debug, Clone)]
pub struct Server {
    pub database: String,
    /// `name@host` as the server matched us.
    pub user: String,
    pub global: Fields,
    pub session: Fields,
    pub status: Fields,
    pub grants: Result<Vec<Grant>, Error>,
    /// Whether the user has roles, whose rights do not show among `grants`.
    pub has_roles: bool,
    /// Ours, applied or missing.
    pub migrations: Result<Vec<Migration>, Error>,
    /// Versions that the database has and this program does not know.
    pub unknown_migrations: Vec<i64>,
    /// Ascending.
    pub shards: Result<Vec<u16>, Error>,
    /// Id of the deployment, once it is migrated.
    pub deployment: Result<Option<String>, Error>,
    pub tables: Result<Vec<Table>, Error>,
    /// Whether a worker follows the binlog.
    pub tail: Result<Followed, Error>,
    pub version_trigger: Result<Trigger, Error>,
    pub clock: Result<Clock, Error>,
}

/// Why `version` is too old for us, or names no version.
///
/// # Errors
/// In words, with what is needed.
pub fn supported(version: &str) -> Result<(), String> {
    migrations::supported(version).map(|_| ())
}

/// Whether the user lacks a right for what failed: access to a server, database, table or column, or an operation.
#[must_use]
pub fn is_denied(error: &Error) -> bool {
    const DENIED: [u16; 5] = [1044, 1045, 1142, 1143, 1227];
    error.code().is_some_and(|code| DENIED.contains(&code))
}

/// Whether the server knows no such user, or not with this password.
#[must_use]
pub fn is_wrong_login(error: &Error) -> bool {
    error.code() == Some(1045)
}

/// Whether the server is there and the database is not.
#[must_use]
pub fn is_unknown_database(error: &Error) -> bool {
    error.code() == Some(1049)
}

/// Reads all of it; takes about 20 short statements.
///
/// # Errors
/// The server cannot be reached, or lets us not in.
pub async fn examine(mysql: &MySql) -> Result<Server, Error> {
    let global = variables(mysql, GLOBAL).await?;
    let session = variables(mysql, SESSION).await?;
    let user = text(mysql, "SELECT CURRENT_USER() AS it").await?.unwrap_or_default();
    let grants = grants(mysql).await;
    let has_roles = grants.as_ref().is_ok_and(|(_, has_roles)| *has_roles);
    let unknown = migrations::unknown(mysql).await;
    Ok(Server {
        database: mysql.database().to_owned(),
        user,
        global,
        session,
        status: variables(mysql, STATUS).await?,
        grants: grants.map(|(grants, _)| grants),
        has_roles,
        migrations: migrations::status(mysql).await,
        unknown_migrations: unknown.unwrap_or_default(),
        shards: shards(mysql).await,
        deployment: text(mysql, "SELECT id AS it FROM deployment").await,
        tables: tables(mysql).await,
        tail: tail::followed(mysql).await,
        version_trigger: version_trigger::find(mysql).await,
        clock: clock(mysql).await,
    })
}

async fn variables(mysql: &MySql, sql: &'static str) -> Result<Fields, Error> {
    let pair = |mut row: Row| Ok((take::<String>(&mut row, "Variable_name")?, take::<String>(&mut row, "Value")?));
    mysql.rows(MysqlOp::Status, sql, ()).await?.into_iter().map(pair).collect()
}

async fn text(mysql: &MySql, sql: &'static str) -> Result<Option<String>, Error> {
    mysql.rows(MysqlOp::Status, sql, ()).await?.pop().map(|mut row| take(&mut row, "it")).transpose()
}

async fn shards(mysql: &MySql) -> Result<Vec<u16>, Error> {
    let rows = mysql.rows(MysqlOp::Status, "SELECT shard FROM view_shards ORDER BY shard", ()).await?;
    rows.into_iter().map(|mut row| take(&mut row, "shard")).collect()
}

/// MariaDB shows the hash of the password here: what is not about rights is dropped at once.
async fn grants(mysql: &MySql) -> Result<(Vec<Grant>, bool), Error> {
    let line = |mut row: Row| -> Result<String, Error> {
        let line = row.take_opt::<String, _>(0).and_then(Result::ok);
        line.ok_or_else(|| Error::new(Kind::Corrupt, "SHOW GRANTS returned something unexpected"))
    };
    let rows = mysql.rows(MysqlOp::Status, "SHOW GRANTS", ()).await?;
    let lines: Vec<String> = rows.into_iter().map(line).collect::<Result<_, _>>()?;
    let is_role = |line: &String| line.starts_with("GRANT ") && !line.contains(" ON ");
    Ok((lines.iter().filter_map(|line| grant(line)).collect(), lines.iter().any(is_role)))
}

/// Reads `GRANT SELECT, INSERT ON `shop`.* TO …`.
fn grant(line: &str) -> Option<Grant> {
    let (rights, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
    let (on, _) = rest.split_once(" TO ")?;
    let rights = rights.split(", ").map(str::trim).filter(|right| !right.contains(['(', ')']));
    let on = on.strip_prefix("TABLE ").unwrap_or(on);
    Some(Grant { rights: rights.map(str::to_ascii_uppercase).collect(), on: on.replace(['`', '"'], "") })
}

async fn tables(mysql: &MySql) -> Result<Vec<Table>, Error> {
    // Names for the columns: MySQL returns those of information_schema in capitals.
    const SQL: &str = "SELECT table_name AS name, COALESCE(engine, '') AS engine FROM information_schema.tables \
                       WHERE table_schema = ? AND table_type = 'BASE TABLE' ORDER BY table_name";
    let rows = mysql.rows(MysqlOp::Status, SQL, (mysql.database(),)).await?;
    rows.into_iter().map(|mut row| Ok(Table { name: take(&mut row, "name")?, engine: take(&mut row, "engine")? })).collect()
}

async fn clock(mysql: &MySql) -> Result<Clock, Error> {
    let before = now_ms();
    let sql = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS UNSIGNED) AS now_ms";
    let mut rows = mysql.rows(MysqlOp::Status, sql, ()).await?;
    let after = now_ms();
    let mut row = rows.pop().ok_or_else(|| Error::new(Kind::Bug, "the statement returned no row"))?;
    Ok(Clock::read(before, take(&mut row, "now_ms")?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_both_servers_write_them() {
        let read = |line| grant(line).map(|grant| (grant.rights.join("+"), grant.on));
        let some = |rights: &str, on: &str| Some((rights.to_owned(), on.to_owned()));
        assert_eq!(read("GRANT SELECT, INSERT ON `shop`.`products` TO `api`@`%`"), some("SELECT+INSERT", "shop.products"));
        assert_eq!(read("GRANT USAGE ON *.* TO `api`@`%` IDENTIFIED BY PASSWORD '*94BDC'"), some("USAGE", "*.*"));
        assert_eq!(read("GRANT ALL PRIVILEGES ON `sh\\_op`.* TO `api`@`%` WITH GRANT OPTION"), some("ALL PRIVILEGES", "sh\\_op.*"));
        assert_eq!(read("GRANT SELECT (id), UPDATE ON `shop`.`stock` TO `api`@`%`"), some("UPDATE", "shop.stock"));
        assert_eq!(read("GRANT `reader`@`%` TO `api`@`%`"), None);
    }
}
