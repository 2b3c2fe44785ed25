//! The part of `check` that is about stock: is what is on hand and reserved what movements and reservations say?
//!
//! Promises that stock at work makes nothing differ: the figures of a product are of one moment (`storage::mysql::stock_checks`).

use super::MAX_TOLD;
use crate::args::CheckArgs;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::stores::Stores;
use domain::ProductId;
use std::collections::BTreeSet;
use storage::mysql::stock_checks::{self, Among, Base};
use storage::mysql::stock_mend;
use telemetry::metrics::Invariant;
use telemetry::stop::Shutdown;

/// Products of one look, which must end within the limit of a call.
const CHUNK: usize = 100;

/// How many products have stock of which something does not hold, and of how many of them everything holds after it was mended; the
/// first are told. With `full` the products are all there are, ascending: then their movements are added up from the first on,
/// and what belongs to no product is looked at too.
pub(super) async fn faults(stores: &Stores, products: &[ProductId], args: &CheckArgs, stop: &Shutdown) -> Result<(u64, u64), Failure> {
    let active = stock_checks::active(&stores.mysql).await?;
    let progress = Progress::start("products' stock", Some(products.len() as u64));
    let (mut found, mut after) = (Vec::new(), 0);
    let mut chunks: Vec<_> = products.chunks(CHUNK).collect();
    if chunks.is_empty() && args.full {
        chunks.push(&[]);
    }
    for (number, chunk) in (1..).zip(&chunks) {
        if stop.is_requested() {
            progress.finish();
            return Err(Failure::new(Exit::Failure, "interrupted: not all stock was compared"));
        }
        let last = if number == chunks.len() { u64::MAX } else { chunk.last().map_or(after, |id| id.get()) };
        let (among, base) = if args.full {
            (Among::Range { after, last }, Base::FirstMovement)
        } else {
            (Among::These(chunk.iter().map(|id| id.get()).collect()), Base::Subtotals)
        };
        found.extend(stock_checks::uneven(&stores.mysql, &among, &active, base).await?);
        after = last;
        progress.advance(chunk.len() as u64);
    }
    progress.finish();
    let (mut mended, mut left) = (0, BTreeSet::new());
    for (number, figures) in (0..).zip(&found) {
        let after =
            if args.repair { Some(stock_mend::mend(&stores.mysql, figures.product_id, &crate::price::actor()).await?) } else { None };
        let violated: Vec<_> = after.as_ref().unwrap_or(figures).violated().collect();
        mended += u64::from(violated.is_empty());
        left.extend(violated.iter().copied().map(cure));
        if number < MAX_TOLD {
            let after =
                after.map_or(String::new(), |after| if violated.is_empty() { " → mended".to_owned() } else { format!(" → {after}") });
            eprintln!("{figures}{after}");
        }
    }
    left.iter().for_each(|cure| eprintln!("{cure}"));
    Ok((found.len() as u64, mended))
}

/// What to do about it.
fn cure(violated: Invariant) -> &'static str {
    match violated {
        Invariant::OnHand | Invariant::Reserved => {
            "where stock is not what its movements add up to, plain SQL changed the one without the other: `inventoryctl check --repair` \
             writes the movement that is missing and leaves the stock as it is; where another quantity was counted, `inventoryctl stock \
             set` it after that"
        }
        Invariant::Items => {
            "where reserved is not what the active reservations add up to, plain SQL changed the one without the other: `inventoryctl \
             check --repair` sets it to that, unless more than is on hand would be reserved"
        }
        Invariant::Oversold => {
            "where more is reserved than is on hand, count it (`inventoryctl stock set`) or release reservations; the constraint \
             stock_not_oversold must be missing: add it again as migrations/V3__stock.sql has it"
        }
    }
}
