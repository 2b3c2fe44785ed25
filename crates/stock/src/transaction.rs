//! A group of changes as one transaction. The order of its locks is what keeps transactions of ours from waiting for each other
//! in a circle: reservations, stock, keys, each in the order of their primary keys.

use crate::book::{Book, Keys};
use crate::{Ask, Outcome};
use domain::ProductId;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};
use storage::mysql::idempotency::{self, Answer, Key};
use storage::mysql::{Tx, reservations, stock};
use storage::{Error, Kind, MySql};
use telemetry::metrics::Counter;

/// After this a transaction that has not reached its COMMIT gives up: its callers are about to be told that it failed.
const COMMIT_BEFORE: Duration = Duration::from_secs(4);

/// Until when a deadlock is answered by running the whole transaction again: soon enough for one lock wait (2 s).
const RETRY_BEFORE: Duration = Duration::from_millis(2_200);

/// What came of one run.
enum Run {
    Judged(Vec<Outcome>),
    /// Products without a row of stock were named, and nothing was done.
    Without(Vec<ProductId>),
}

/// Applies the asks; all of them, but for those that are refused, or none.
///
/// # Errors
/// The transaction failed: nothing was changed, or (`Unknown`) all that is not refused, or nothing.
pub(crate) async fn run(mysql: &MySql, asks: &[Ask], retries: &Counter) -> Result<Vec<Outcome>, Error> {
    let (started, mut opened) = (Instant::now(), false);
    loop {
        match once(mysql, asks, started, opened).await {
            Ok(Run::Judged(outcomes)) => return Ok(outcomes),
            Ok(Run::Without(products)) => {
                stock::open(mysql, &products).await?;
                opened = true;
            }
            Err(error) if error.kind() == Kind::Conflict && !error.is_lock_wait() && started.elapsed() < RETRY_BEFORE => retries.inc(),
            Err(error) => return Err(error),
        }
    }
}

/// `opened`: products that have no row now are none.
async fn once(mysql: &MySql, asks: &[Ask], started: Instant, opened: bool) -> Result<Run, Error> {
    let mut tx = mysql.begin().await?;
    match judged(&mut tx, asks, opened).await {
        Ok(Some((outcomes, wrote))) => {
            if wrote {
                tx.commit_by(started + COMMIT_BEFORE).await?;
            } else {
                tx.rollback().await?;
            }
            Ok(Run::Judged(outcomes))
        }
        Ok(None) => {
            tx.rollback().await?;
            Ok(Run::Without(asks.iter().flat_map(Ask::products).collect()))
        }
        Err(error) => {
            // The error that led here is the one to tell; a lost connection rolls back as well.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

/// The outcomes, and whether anything was written; `None` where a product has no row of stock yet.
async fn judged(tx: &mut Tx, asks: &[Ask], opened: bool) -> Result<Option<(Vec<Outcome>, bool)>, Error> {
    let mut ids: Vec<_> = asks.iter().filter_map(Ask::reservation).collect();
    ids.sort_unstable();
    ids.dedup();
    let held = if ids.is_empty() { HashMap::new() } else { reservations::lock(tx, &ids).await? };
    let named: BTreeSet<ProductId> = asks.iter().flat_map(Ask::products).collect();
    let products = named.iter().copied().chain(held.values().flat_map(|it| it.lines.iter().map(|line| line.product_id))).collect();
    let locked = stock::lock(tx, &products).await?;
    if !opened && named.iter().any(|id| !locked.levels.contains_key(id)) {
        return Ok(None);
    }
    // Under the locks: who waited for them behind the first try of the same request sees now that it was done. Read before, its
    // key would be unknown, and it be refused for what it took itself.
    let keys: Vec<&Key> = asks.iter().filter_map(|ask| Some(&ask.once.as_ref()?.key)).collect();
    let known = if keys.is_empty() { Vec::new() } else { idempotency::find_all(tx, &keys).await? };
    let (mut book, mut keys) = (Book::new(locked, held), Keys::new(known.into_iter().map(|(place, begun)| (keys[place], begun))));
    let outcomes = asks.iter().map(|ask| book.judge(ask, &mut keys)).collect();
    let wrote = write(tx, &book, keys).await?;
    Ok(Some((outcomes, wrote)))
}

async fn write(tx: &mut Tx, book: &Book, keys: Keys<'_>) -> Result<bool, Error> {
    let changes = &book.changes;
    if !changes.levels.is_empty() {
        let levels: Vec<_> = changes.levels.iter().map(|(id, (before, after))| (*id, *before, *after)).collect();
        stock::set(tx, &levels).await?;
        stock::add_movements(tx, &changes.movements).await?;
    }
    if !changes.made.is_empty() {
        reservations::insert(tx, &book.reservations_of(&changes.made)).await?;
    }
    if !changes.ended.is_empty() {
        reservations::set_state(tx, &book.reservations_of(&changes.ended)).await?;
    }
    let kept: Vec<(&Key, &Answer)> = keys.given.iter().map(|(key, answer)| (*key, answer)).collect();
    if !kept.is_empty() {
        idempotency::add(tx, &kept).await?;
    }
    Ok(!changes.levels.is_empty() || !kept.is_empty())
}
