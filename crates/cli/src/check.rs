//! `check` and `product get --compare`: do MySQL, Redis and the API say the same? Is every view accounted for, and every piece of
//! stock?
//!
//! How to tell is in the crate `checks`; here are the API over HTTP, the progress, the report, and the repair. Changes nothing
//! unless it is told to repair.

use crate::api_client::{ApiClient, MAX_SKUS};
use crate::args::CheckArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::progress::Progress;
use crate::stores::Stores;
use catalog::check::PATIENCE;
use checks::compare::{Line, Sides};
use checks::products::{CALL, Found, Places};
use checks::{MOST_TOLD, account, pieces, stock};
use domain::ProductId;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use storage::mysql::{product_sample, stock_mend};
use telemetry::stop::Shutdown;

/// Products that are compared, and looked at again, together: where all differ, a thousand of them wait as long as one.
const CHUNK: usize = 1_000;

const _: () = assert!(CALL <= MAX_SKUS);

#[derive(Debug, Default, PartialEq, Serialize)]
struct Report {
    products_compared: u64,
    /// Of these, products that Redis had an entry of; the others were compared without it.
    found_in_redis: u64,
    mismatches: u64,
    /// Of these, those that were gone after their entry was deleted.
    repaired: u64,
    /// Keys that earlier runs of Redis left in the cache; nobody reads them.
    earlier_keys: u64,
    /// What does not hold in the account of views; nothing repairs it.
    account_faults: u64,
    /// Products whose stock is not what its movements and reservations say.
    stock_faults: u64,
    /// Of these, those that were mended by the movement that was missing.
    stock_repaired: u64,
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &[
        "products_compared",
        "found_in_redis",
        "mismatches",
        "repaired",
        "earlier_keys",
        "account_faults",
        "stock_faults",
        "stock_repaired",
    ];

    fn cells(&self) -> Vec<String> {
        let Self { products_compared, found_in_redis, mismatches, repaired, earlier_keys, account_faults, stock_faults, stock_repaired } =
            self;
        let cells = [products_compared, found_in_redis, mismatches, repaired, earlier_keys, account_faults, stock_faults, stock_repaired];
        cells.iter().map(ToString::to_string).collect()
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["field", "mysql", "redis", "api", "differs"];

    fn cells(&self) -> Vec<String> {
        self.columns().to_vec()
    }
}

pub(crate) async fn run(args: &CheckArgs, stores: &Stores, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let places = Places { checker: stores.checker(), api: async |ids: &[ProductId]| api.products(ids).await };
    let mut ids = if args.full { stores.product_ids().await? } else { product_sample::sample(&stores.mysql, args.sample).await? };
    let products = ids.len();
    if args.full {
        ids.extend(places.cached_beside(&ids).await?);
    }
    let progress = Progress::start("products", Some(ids.len() as u64));
    let mut report = Report::default();
    let (listed, others) = ids.split_at(products);
    for (ids, are_products) in listed.chunks(CHUNK).map(|ids| (ids, true)).chain(others.chunks(CHUNK).map(|ids| (ids, false))) {
        if stop.is_requested() {
            break;
        }
        let all = places.settled(ids).await?;
        if are_products {
            report.products_compared += all.iter().filter(|found| found.is_compared()).count() as u64;
            report.found_in_redis += all.iter().filter(|found| found.sides.is_cached()).count() as u64;
        }
        for found in all.iter().filter(|found| found.differs()) {
            let (told, repaired) = told(&places, found, args.repair).await?;
            report.mismatches += 1;
            report.repaired += u64::from(repaired);
            if report.mismatches <= MOST_TOLD as u64 {
                progress.say(&told);
            }
        }
        progress.advance(ids.len() as u64);
    }
    progress.finish();
    if stop.is_requested() {
        output.one(&report)?;
        return Err(Failure::new(Exit::Failure, "interrupted: the rest was not compared"));
    }
    report.earlier_keys = places.checker.earlier_keys(args.repair).await?;
    tell_earlier(report.earlier_keys, args.repair);
    report.account_faults = account_faults(stores, args.full.then_some(listed), &stop).await?;
    (report.stock_faults, report.stock_repaired) = stock_faults(stores, listed, args, &stop).await?;
    output.one(&report)?;
    Ok(if report.mismatches == report.repaired && report.account_faults == 0 && report.stock_faults == report.stock_repaired {
        Exit::Ok
    } else {
        Exit::Conflict
    })
}

fn tell_earlier(keys: u64, removed: bool) {
    match keys {
        0 => {}
        _ if removed => eprintln!("removed {keys} keys that an earlier run of Redis left in the cache"),
        _ => eprintln!(
            "{keys} keys in the cache are of an earlier run of Redis: nobody reads them, they end by themselves; --repair removes them"
        ),
    }
}

/// The three answers about one product, looked at again while they differ.
pub(crate) async fn settled(stores: &Stores, api: &ApiClient, id: ProductId) -> Result<Option<Sides>, Failure> {
    let places = Places { checker: stores.checker(), api: async |ids: &[ProductId]| api.products(ids).await };
    let mut found = places.first(&[id]).await?;
    if found.iter().any(Found::differs) {
        eprintln!("they differ; looked at again for {} s, because a write under way would end within that", PATIENCE.as_secs());
    }
    places.settle(&mut found).await?;
    Ok(found.pop().map(|found| found.sides))
}

/// A difference in words; where it is to be repaired, also what is there afterwards and whether that is even.
async fn told<A>(places: &Places<A>, found: &Found, repair: bool) -> Result<(String, bool), Failure>
where
    A: AsyncFn(&[ProductId]) -> Result<Vec<Value>, Failure>,
{
    let before = format!("product {}: {}", found.id, found.in_words());
    if !repair {
        return Ok((before, false));
    }
    let discarded = match &found.compared {
        Some(compared) => places.checker.discard(compared).await?,
        None => false,
    };
    if !discarded {
        return Ok((format!("{before}; its entry is none that could be deleted"), false));
    }
    let mut after = places.settled(&[found.id]).await?;
    let Some(after) = after.pop() else { return Ok((format!("{before} → entry deleted"), false)) };
    let (now, repaired) = (after.sides.in_words(&found.sides), !after.differs());
    let now = if now.is_empty() && repaired { "the bytes are the same".to_owned() } else { now };
    Ok((format!("{before} → entry deleted → {now}"), repaired))
}

/// How many things do not hold of views; the first are told. With `products` (all, ascending) the totals and hours are looked at too.
async fn account_faults(stores: &Stores, products: Option<&[ProductId]>, stop: &Shutdown) -> Result<u64, Failure> {
    let mut faults = account::faults(&stores.mysql, &stores.redis, products.is_some()).await?;
    if let Some(products) = products {
        let progress = Progress::start("products' hours", Some(products.len() as u64));
        for piece in pieces(products) {
            if stop.is_requested() {
                progress.finish();
                return Err(Failure::new(Exit::Failure, "interrupted: the views were not all compared"));
            }
            faults.extend(account::hours(&stores.mysql, &piece).await?);
            progress.advance(piece.products.len() as u64);
        }
        progress.finish();
    }
    faults.iter().take(MOST_TOLD).for_each(|fault| eprintln!("{fault}"));
    Ok(faults.len() as u64)
}

/// How many products have stock of which something does not hold, and of how many of them everything holds after it was mended; the
/// first are told. With `--full` the products are all there are, ascending.
async fn stock_faults(stores: &Stores, products: &[ProductId], args: &CheckArgs, stop: &Shutdown) -> Result<(u64, u64), Failure> {
    let look = stock::Look::begin(&stores.mysql, args.full).await?;
    let progress = Progress::start("products' stock", Some(products.len() as u64));
    let mut found = Vec::new();
    for piece in pieces(products) {
        if stop.is_requested() {
            progress.finish();
            return Err(Failure::new(Exit::Failure, "interrupted: not all stock was compared"));
        }
        found.extend(look.uneven(&piece).await?);
        progress.advance(piece.products.len() as u64);
    }
    progress.finish();
    let (mut mended, mut left) = (0, BTreeSet::new());
    for (number, figures) in found.iter().enumerate() {
        let after =
            if args.repair { Some(stock_mend::mend(&stores.mysql, figures.product_id, &crate::price::actor()).await?) } else { None };
        let violated: Vec<_> = after.as_ref().unwrap_or(figures).violated().collect();
        mended += u64::from(violated.is_empty());
        left.extend(violated.iter().copied().map(stock::cure));
        if number < MOST_TOLD {
            let after =
                after.map_or(String::new(), |after| if violated.is_empty() { " → mended".to_owned() } else { format!(" → {after}") });
            eprintln!("{figures}{after}");
        }
    }
    left.iter().for_each(|cure| eprintln!("{cure}"));
    Ok((found.len() as u64, mended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_fields_of_the_contract() {
        let report = Report {
            products_compared: 2630,
            found_in_redis: 2630,
            mismatches: 2,
            repaired: 1,
            earlier_keys: 0,
            account_faults: 3,
            stock_faults: 4,
            stock_repaired: 2,
        };
        let json = r#"{"products_compared":2630,"found_in_redis":2630,"mismatches":2,"repaired":1,"earlier_keys":0,"account_faults":3,"stock_faults":4,"stock_repaired":2}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), json);
        assert_eq!(report.cells(), ["2630", "2630", "2", "1", "0", "3", "4", "2"]);
    }
}
