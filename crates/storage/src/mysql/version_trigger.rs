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

const NAME: &str = "products_version";

/// As bytes: to a collation `Mug` and `mug` are equal.
const BODY: &str = "SET NEW.version = IF(NEW.version > OLD.version OR \
    (CAST(NEW.sku AS BINARY) <=> CAST(OLD.sku AS BINARY) AND CAST(NEW.name AS BINARY) <=> CAST(OLD.name AS BINARY) \
    AND CAST(NEW.description AS BINARY) <=> CAST(OLD.description AS BINARY) AND NEW.active <=> OLD.active \
    AND NEW.price <=> OLD.price AND NEW.currency <=> OLD.currency AND NEW.deleted_at <=> OLD.deleted_at), \
    NEW.version, OLD.version + 1)";

/// With the binlog on, who makes a trigger must be trusted (`log_bin_trust_function_creators`) or have SUPER.
const NOT_TRUSTED: u16 = 1419;

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
    Ok(if body(mysql).await?.as_deref() == Some(BODY) { Trigger::Present } else { Trigger::Absent })
}

/// The statement that makes it, for the user whose rights it is to have, `name@host`.
#[must_use]
pub fn line(database: &str, user: &str) -> String {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let event = format!("BEFORE UPDATE ON `{database}`.products FOR EACH ROW");
    format!("CREATE DEFINER = '{name}'@'{host}' TRIGGER `{database}`.{NAME} {event} {BODY};")
}

/// Makes it where it is not there or is of another release. `conn` is patient and migrates alone.
///
/// # Errors
/// MySQL is away. A right that is missing is none: see [`Trigger::Refused`].
pub(super) async fn ensure(mysql: &MySql, conn: &mut Conn) -> Result<Trigger, Error> {
    let found = body(mysql).await?;
    if found.as_deref() == Some(BODY) {
        return Ok(Trigger::Present);
    }
    let make = async {
        if found.is_some() {
            conn.query_drop(format!("DROP TRIGGER {NAME}")).await?;
        }
        conn.query_drop(format!("CREATE TRIGGER {NAME} BEFORE UPDATE ON products FOR EACH ROW {BODY}")).await
    };
    match make.await.map_err(|error| of_driver(&error)) {
        Ok(()) => Ok(Trigger::Present),
        Err(error) if is_denied(&error) || error.code() == Some(NOT_TRUSTED) => {
            let user: Option<String> = conn.query_first("SELECT CURRENT_USER()").await.map_err(|error| of_driver(&error))?;
            Ok(Trigger::Refused { why: error.to_string(), line: line(mysql.database(), &user.unwrap_or_default()) })
        }
        Err(error) => Err(error),
    }
}

async fn body(mysql: &MySql) -> Result<Option<String>, Error> {
    // Both servers keep the text as it was sent.
    const SQL: &str = "SELECT action_statement AS body FROM information_schema.triggers \
                       WHERE trigger_schema = ? AND trigger_name = ? AND event_object_table = 'products'";
    let mut rows = mysql.rows(MysqlOp::Migrate, SQL, (mysql.database(), NAME)).await?;
    rows.pop().map(|mut row| take(&mut row, "body")).transpose()
}
