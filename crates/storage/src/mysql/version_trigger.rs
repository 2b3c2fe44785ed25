//! The trigger `products_version`: it raises `version` where another system changes what is shown and does not raise it itself.
//!
//! Optional, because making it needs a privilege that not everybody gives. The cache is right without it, by the tail of the
//! binlog; what is lost is that the `ETag` of a product does not move with such a change. It runs with the rights of who made
//! it, which is why a line for an administrator names the user that migrates, and why that user must stay.
//!
//! Our own writers raise the version themselves, so it changes nothing of theirs; `async_hwm` and the counters of views are
//! not shown by the version.

use super::{MySql, of_driver, take};
use crate::Error;
use crate::mysql::server::is_denied;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use telemetry::metrics::MysqlOp;

/// It has one of these names: another release's is made beside the old one, which then goes, so that there is one at any time.
const NAMES: [&str; 2] = ["products_version", "products_version_too"];

/// As bytes: to a collation `Mug` and `mug` are equal.
const BODY: &str = "SET NEW.version = IF(NEW.version > OLD.version OR \
    (CAST(NEW.sku AS BINARY) <=> CAST(OLD.sku AS BINARY) AND CAST(NEW.name AS BINARY) <=> CAST(OLD.name AS BINARY) \
    AND CAST(NEW.description AS BINARY) <=> CAST(OLD.description AS BINARY) AND NEW.active <=> OLD.active \
    AND NEW.price <=> OLD.price AND NEW.currency <=> OLD.currency AND NEW.deleted_at <=> OLD.deleted_at), \
    NEW.version, OLD.version + 1)";

/// With the binlog on, who makes a trigger must be trusted (`log_bin_trust_function_creators`) or have SUPER.
const NOT_TRUSTED: u16 = 1419;

/// A trigger's name, and its text where this user may see it.
type Named = (String, String);

/// Whether the trigger is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    Present,
    /// Not there, or not to be seen by this user, who would need the right TRIGGER.
    Absent,
    /// It could not be made.
    Refused {
        why: String,
        /// What an administrator has to run.
        line: String,
    },
}

/// Looks for it.
///
/// # Errors
/// MySQL is away.
pub async fn find(mysql: &MySql) -> Result<Trigger, Error> {
    Ok(if made(mysql).await?.iter().any(|(_, body)| body == BODY) { Trigger::Present } else { Trigger::Absent })
}

/// The statement that makes it where there is none, for the user whose rights it is to have, `name@host`.
#[must_use]
pub fn line(database: &str, user: &str) -> String {
    line_as(NAMES[0], database, user)
}

fn line_as(trigger: &str, database: &str, user: &str) -> String {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let event = format!("BEFORE UPDATE ON `{database}`.products FOR EACH ROW");
    format!("CREATE DEFINER = '{name}'@'{host}' TRIGGER `{database}`.{trigger} {event} {BODY};")
}

/// Makes it where it is not there or is of another release. `conn` is patient and migrates alone.
///
/// # Errors
/// MySQL is away. A right that is missing is none: see [`Trigger::Refused`].
pub(super) async fn ensure(mysql: &MySql, conn: &mut Conn) -> Result<Trigger, Error> {
    let there = made(mysql).await?;
    let is_there = |name: &str| there.iter().any(|(taken, _)| taken == name);
    let current = there.iter().find(|(_, body)| body == BODY).map(|(name, _)| name.as_str());
    // With both and neither current, the second is of an upgrade that was not finished.
    let name = current.or(NAMES.into_iter().find(|name| !is_there(name))).unwrap_or(NAMES[1]);
    if current.is_none()
        && let Err(error) = make(conn, name, is_there(name)).await.map_err(|error| of_driver(&error))
    {
        if !is_refused(&error) {
            return Err(error);
        }
        let user: Option<String> = conn.query_first("SELECT CURRENT_USER()").await.map_err(|error| of_driver(&error))?;
        return Ok(Trigger::Refused { why: error.to_string(), line: line_as(name, mysql.database(), &user.unwrap_or_default()) });
    }
    // The old one goes last: where it may be dropped, the new one may perhaps not be made.
    for (old, _) in there.iter().filter(|(old, _)| old != name) {
        match conn.query_drop(format!("DROP TRIGGER {old}")).await.map_err(|error| of_driver(&error)) {
            // Both do no harm: who finds the version raised leaves it.
            Err(error) if !is_refused(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(Trigger::Present)
}

async fn make(conn: &mut Conn, name: &str, is_there: bool) -> mysql_async::Result<()> {
    if is_there {
        conn.query_drop(format!("DROP TRIGGER {name}")).await?;
    }
    conn.query_drop(format!("CREATE TRIGGER {name} BEFORE UPDATE ON products FOR EACH ROW {BODY}")).await
}

fn is_refused(error: &Error) -> bool {
    is_denied(error) || error.code() == Some(NOT_TRUSTED)
}

/// Name and text of those that are there.
async fn made(mysql: &MySql) -> Result<Vec<Named>, Error> {
    // Both servers keep the text as it was sent. Names for the columns: MySQL returns those of information_schema in capitals.
    // MariaDB shows who may not see it a trigger without its text.
    const SQL: &str = "SELECT trigger_name AS name, COALESCE(action_statement, '') AS body FROM information_schema.triggers \
                       WHERE trigger_schema = ? AND trigger_name IN (?, ?) AND event_object_table = 'products'";
    let rows = mysql.rows(MysqlOp::Migrate, SQL, (mysql.database(), NAMES[0], NAMES[1])).await?;
    rows.into_iter().map(|mut row| Ok((take(&mut row, "name")?, take(&mut row, "body")?))).collect()
}
