//! `check` and `product get --compare`: do MySQL, Redis and the API say the same? Is every view accounted for (`account.rs`), and every
//! piece of stock (`stock.rs`)?
//!
//! Promises that a write under way is not reported, nor a change by plain SQL that is still on its way: cache and rows are
//! compared as the worker's sampler does (`catalog::check`), an answer of the API counts if it was the same before and after the
//! row was read, and what differs is looked at again later. Changes nothing unless it is told to repair; a read through the API
//! may fill the cache, as any read does.

mod account;
mod stock;

use crate::api_client::{ApiClient, MAX_SKUS};
use crate::args::CheckArgs;
use crate::compare::{Side, Sides};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::progress::Progress;
use crate::stores::Stores;
use catalog::check::{Checker, Compared, PATIENCE, Place};
use domain::ProductId;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use storage::redis::product_cache::Cached;
use telemetry::stop::Shutdown;

/// Products in one call of the API.
const CHUNK: usize = MAX_SKUS;

/// When a difference is looked at again: soon, as most were made by a write, and then late enough for plain SQL.
const AGAIN: [Duration; 2] = [Duration::from_millis(300), PATIENCE];

/// Keys of Redis that one step of the search for entries looks at.
const STEP: u32 = 1_000;

/// So many differences are told in words, all are counted.
const MAX_TOLD: u64 = 20;

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

/// What is asked.
struct Places<'a> {
    checker: Checker,
    api: &'a ApiClient,
}

/// What the three places say of one product.
struct Found {
    sides: Sides,
    compared: Compared,
}

impl Found {
    fn differs(&self) -> bool {
        self.sides.differ() || self.compared.differs()
    }
}

pub(crate) async fn run(args: &CheckArgs, stores: &Stores, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let limit = (!args.full).then_some(args.sample as usize);
    let places = Places { checker: stores.checker(), api };
    let mut ids = stores.product_ids(limit).await?;
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
            report.products_compared += all.len() as u64;
            report.found_in_redis += all.iter().filter(|(_, found)| found.sides.redis != Side::Silent).count() as u64;
        }
        for (id, found) in all.iter().filter(|(_, found)| found.differs()) {
            let (told, repaired) = places.told(*id, found, args.repair).await?;
            report.mismatches += 1;
            report.repaired += u64::from(repaired);
            if report.mismatches <= MAX_TOLD {
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
    report.account_faults = account::faults(stores, args.full.then_some(listed), &stop).await?;
    (report.stock_faults, report.stock_repaired) = stock::faults(stores, listed, args, &stop).await?;
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
    let places = Places { checker: stores.checker(), api };
    Ok(places.settled(&[id]).await?.pop().map(|(_, found)| found.sides))
}

impl Places<'_> {
    /// Ids with an entry in Redis that are not among those of the products.
    async fn cached_beside(&self, products: &[ProductId]) -> Result<BTreeSet<ProductId>, Failure> {
        let products: BTreeSet<_> = products.iter().copied().collect();
        let (mut place, mut beside) = (Place::default(), BTreeSet::new());
        loop {
            let met = self.checker.walk(&mut place, STEP).await?;
            beside.extend(met.into_iter().filter(|id| !products.contains(id)));
            if place.is_start() {
                return Ok(beside);
            }
        }
    }

    /// The answers about each product, in the order of the ids.
    async fn settled(&self, ids: &[ProductId]) -> Result<Vec<(ProductId, Found)>, Failure> {
        let mut all = self.look(ids).await?;
        for pause in AGAIN {
            let differing: Vec<_> = ids.iter().filter(|id| all[id].differs()).copied().collect();
            if differing.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            let before = self.look(&differing).await?;
            let after = self.answers(&differing).await?;
            for (id, mut found) in before {
                if !found.sides.api.is_as(&answer(&after, id)) {
                    found.sides.api = Side::Silent;
                }
                all.insert(id, found);
            }
        }
        Ok(ids.iter().filter_map(|id| all.remove_entry(id)).collect())
    }

    /// The API first, so that what it just cached is what Redis shows.
    async fn look(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Found>, Failure> {
        let answers = self.answers(ids).await?;
        let found = |compared: Compared| {
            let sides = Sides { mysql: side(compared.row()), redis: side(compared.cached()), api: answer(&answers, compared.id) };
            (compared.id, Found { sides, compared })
        };
        Ok(self.checker.compare(ids).await?.into_iter().map(found).collect())
    }

    async fn answers(&self, ids: &[ProductId]) -> Result<HashMap<u64, Value>, Failure> {
        let told = self.api.products(ids).await?;
        Ok(told.into_iter().filter_map(|product| Some((product["id"].as_u64()?, product))).collect())
    }

    /// A difference in words; where it is to be repaired, also what is there afterwards and whether that is even.
    async fn told(&self, id: ProductId, found: &Found, repair: bool) -> Result<(String, bool), Failure> {
        let before = match found.sides.in_words(&found.sides) {
            same if same.is_empty() => "the fields are the same, but the bytes in Redis are not those that a fill would store".to_owned(),
            words => words,
        };
        if !repair {
            return Ok((format!("product {id}: {before}"), false));
        }
        if !self.checker.discard(&found.compared).await? {
            return Ok((format!("product {id}: {before}; its entry is none that could be deleted"), false));
        }
        let mut after = self.settled(&[id]).await?;
        let Some((_, after)) = after.pop() else { return Ok((format!("product {id}: {before} → entry deleted"), false)) };
        let (now, repaired) = (after.sides.in_words(&found.sides), !after.differs());
        let now = if now.is_empty() && repaired { "the bytes are the same".to_owned() } else { now };
        Ok((format!("product {id}: {before} → entry deleted → {now}"), repaired))
    }
}

fn answer(answers: &HashMap<u64, Value>, id: ProductId) -> Side {
    answers.get(&id.get()).cloned().map_or(Side::Absent, Side::Product)
}

/// A record that cannot be read is one without fields.
fn side(record: Option<&Cached>) -> Side {
    match record {
        None => Side::Silent,
        Some(Cached { json: None, .. }) => Side::Absent,
        Some(Cached { json: Some(json), .. }) => Side::Product(serde_json::from_slice(json).unwrap_or_default()),
    }
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

    #[test]
    fn a_record_is_a_product_or_its_absence_or_nothing() {
        let data = |json: Option<&[u8]>| side(Some(&Cached { version: 1, json: json.map(Into::into) }));
        assert_eq!(side(None), Side::Silent);
        assert_eq!(data(None), Side::Absent);
        assert_eq!(data(Some(b"{\"id\":1}")), Side::Product(serde_json::json!({"id": 1})));
        assert_eq!(data(Some(b"{")), Side::Product(Value::Null));
    }
}
