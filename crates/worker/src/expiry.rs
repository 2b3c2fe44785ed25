//! Releases reservations whose time is over.
//!
//! It only tidies: whether a reservation has expired is decided by the database's clock whenever it matters, and a buyer who
//! would be refused because of one that has expired is not. So nothing relies on this being quick, or on a worker at all.
//! Any number of workers may do it at once: each reservation is released under its lock, by whoever comes first.

use std::time::Duration;
use stock::{Overdue, Stock};
use storage::mysql::stock_checks;
use storage::{Error, Kind, MySql};
use telemetry::metrics::ExpiryMetrics;
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(1);

/// Transactions of one round, of a hundred reservations each; after as many it looks whether it should stop, and lets others have their turn.
const PIECES: usize = 20;

/// Between two rounds while there is more.
const PAUSE: Duration = Duration::from_millis(50);

/// Between attempts while MySQL is away: twice as long each time, at most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Goes on until the process is asked to stop. MySQL that is away is waited for; its absence is told elsewhere. What else fails
/// is told once, until a round succeeds again.
pub(crate) async fn run(mysql: MySql, stock: Stock, metrics: ExpiryMetrics, shutdown: Shutdown) {
    let (mut told, mut away) = (false, INTERVAL);
    let mut after = None;
    while !shutdown.is_requested() {
        let pause = match round(&mysql, &stock, &metrics, &mut after).await {
            Ok(()) => {
                (told, away) = (false, INTERVAL);
                if after.is_some() { PAUSE } else { INTERVAL }
            }
            Err(error) => {
                if told || matches!(error.kind(), Kind::Unavailable | Kind::Conflict | Kind::Unknown) {
                    tracing::debug!("reservations wait to be released: {error}");
                } else {
                    told = true;
                    tracing::warn!("reservations whose time is over cannot be released; tried again all the time: {error}");
                }
                let pause = away;
                away = (2 * away).min(LONGEST_PAUSE);
                pause
            }
        };
        shutdown.sleep(pause).await;
    }
}

/// Releases a bounded number of them, from behind `after` on, and leaves there where the next round goes on: what cannot be released
/// is passed over until there are no more behind it.
async fn round(mysql: &MySql, stock: &Stock, metrics: &ExpiryMetrics, after: &mut Option<Overdue>) -> Result<(), Error> {
    let overdue = stock_checks::overdue(mysql).await?;
    metrics.overdue.set(overdue);
    if overdue.is_zero() {
        *after = None;
        return Ok(());
    }
    for _ in 0..PIECES {
        *after = stock.expire_overdue(after.as_ref()).await?;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}
