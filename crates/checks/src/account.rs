//! The part of a check that is about views: is each that was accepted where the account says?
//!
//! Promises that a drain at work makes nothing differ: every number is read as of one moment, and what is off is looked at again
//! and told only if it stays. After Redis came back with older data the queue must be drained first.

use crate::{AGAIN, Piece};
use storage::conservation::{Fault, of_hours, of_shards, of_totals};
use storage::{Error, MySql, Redis};

/// What does not hold of the shards and, `with_totals`, of the totals of all products.
///
/// # Errors
/// A store is away.
pub async fn faults(mysql: &MySql, redis: &Redis, with_totals: bool) -> Result<Vec<Fault>, Error> {
    let mut faults = of_account(mysql, redis, with_totals).await?;
    for pause in AGAIN {
        if faults.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        faults = of_account(mysql, redis, with_totals).await?;
    }
    Ok(faults)
}

async fn of_account(mysql: &MySql, redis: &Redis, with_totals: bool) -> Result<Vec<Fault>, Error> {
    let mut faults = of_shards(mysql, redis).await?;
    if with_totals {
        faults.extend(of_totals(mysql).await?);
    }
    Ok(faults)
}

/// Products whose hours do not add up to their totals.
///
/// # Errors
/// MySQL is away.
pub async fn hours(mysql: &MySql, piece: &Piece<'_>) -> Result<Vec<Fault>, Error> {
    of_hours(mysql, piece.after, piece.last).await
}
