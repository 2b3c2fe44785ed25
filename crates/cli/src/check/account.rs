//! The part of `check` that is about views: is each that was accepted where the account says?
//!
//! Promises that a drain at work makes nothing differ: every number is read as of one moment, and what is off is looked at again
//! and told only if it stays. After Redis came back with older data the queue must be drained first.

use super::{AGAIN, MAX_TOLD};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::stores::Stores;
use domain::ProductId;
use storage::conservation::{Fault, of_hours, of_shards, of_totals};
use telemetry::stop::Shutdown;

/// Products whose hours are added up by one statement, which must end within the limit of a call.
const CHUNK: usize = 100;

/// How many things do not hold; the first are told. With `products` (all, ascending) the totals and hours are looked at too.
pub(super) async fn faults(stores: &Stores, products: Option<&[ProductId]>, stop: &Shutdown) -> Result<u64, Failure> {
    let mut faults = of_account(stores, products.is_some()).await?;
    for pause in AGAIN {
        if faults.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        faults = of_account(stores, products.is_some()).await?;
    }
    if let Some(products) = products {
        faults.extend(hours(stores, products, stop).await?);
    }
    faults.iter().take(MAX_TOLD as usize).for_each(|fault| eprintln!("{fault}"));
    Ok(faults.len() as u64)
}

async fn of_account(stores: &Stores, with_totals: bool) -> Result<Vec<Fault>, Failure> {
    let mut faults = of_shards(&stores.mysql, &stores.redis).await?;
    if with_totals {
        faults.extend(of_totals(&stores.mysql).await?);
    }
    Ok(faults)
}

async fn hours(stores: &Stores, products: &[ProductId], stop: &Shutdown) -> Result<Vec<Fault>, Failure> {
    let progress = Progress::start("products' hours", Some(products.len() as u64));
    let (mut faults, mut after) = (Vec::new(), 0);
    let chunks: Vec<_> = products.chunks(CHUNK).collect();
    for (number, chunk) in (1..).zip(&chunks) {
        if stop.is_requested() {
            progress.finish();
            return Err(Failure::new(Exit::Failure, "interrupted: the views were not all compared"));
        }
        // Views between two products, or behind the last, belong to none; they are looked at with their neighbours.
        let last = if number == chunks.len() { u64::MAX } else { chunk.last().map_or(after, |id| id.get()) };
        faults.extend(of_hours(&stores.mysql, after, last).await?);
        after = last;
        progress.advance(chunk.len() as u64);
    }
    progress.finish();
    Ok(faults)
}
