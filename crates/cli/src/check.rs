//! `check` and `product get --compare`: do MySQL, Redis and the API say the same?
//!
//! Promises that a write under way is not reported: what differs is read again before it counts.
//! Changes nothing; a read through the API may fill the cache, as any read does.

use crate::api_client::{ApiClient, MAX_SKUS};
use crate::args::CheckArgs;
use crate::compare::{Side, Sides};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::progress::Progress;
use crate::stores::Stores;
use domain::ProductId;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use telemetry::stop::Shutdown;

/// Products in one call of the API.
const CHUNK: usize = MAX_SKUS;

/// How often a difference is looked at again, and after which wait: longer together than any write takes.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// So many differences are told in words, all are counted.
const MAX_TOLD: u64 = 20;

#[derive(Debug, Default, PartialEq, Serialize)]
struct Report {
    products_compared: u64,
    /// Of these, products that Redis had an entry of; the others were compared without it.
    found_in_redis: u64,
    mismatches: u64,
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &["products_compared", "found_in_redis", "mismatches"];

    fn cells(&self) -> Vec<String> {
        [self.products_compared, self.found_in_redis, self.mismatches].iter().map(ToString::to_string).collect()
    }
}

pub(crate) async fn run(args: &CheckArgs, stores: &Stores, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let limit = (!args.full).then_some(args.sample as usize);
    let ids = stores.product_ids(limit).await?;
    let progress = Progress::start("products", Some(ids.len() as u64));
    let mut report = Report::default();
    for ids in ids.chunks(CHUNK) {
        if stop.is_requested() {
            break;
        }
        for (id, sides) in settled(stores, api, ids).await? {
            report.products_compared += 1;
            report.found_in_redis += u64::from(sides.redis != Side::NotCached);
            if sides.differ() {
                report.mismatches += 1;
                if report.mismatches <= MAX_TOLD {
                    progress.say(&format!("product {id}: {}", sides.difference()));
                }
            }
        }
        progress.advance(ids.len() as u64);
    }
    progress.finish();
    output.one(&report)?;
    match report.mismatches {
        _ if stop.is_requested() => Err(Failure::new(Exit::Failure, "interrupted: the rest was not compared")),
        0 => Ok(Exit::Ok),
        _ => Ok(Exit::Conflict),
    }
}

/// The three answers about each product, looked at again while they differ.
pub(crate) async fn settled(stores: &Stores, api: &ApiClient, ids: &[ProductId]) -> Result<Vec<(ProductId, Sides)>, Failure> {
    let mut all = look(stores, api, ids).await?;
    for _ in 1..LOOKS {
        let differing: Vec<_> = ids.iter().filter(|id| all[id].differ()).copied().collect();
        if differing.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        all.extend(look(stores, api, &differing).await?);
    }
    Ok(ids.iter().filter_map(|id| all.remove_entry(id)).collect())
}

/// The API first, so that what it just cached is what Redis shows.
async fn look(stores: &Stores, api: &ApiClient, ids: &[ProductId]) -> Result<HashMap<ProductId, Sides>, Failure> {
    let told = api.products(ids).await?;
    let by_id: HashMap<_, _> = told.into_iter().map(|product| (product["id"].as_u64(), product)).collect();
    let cached = stores.cached(ids).await?;
    let rows = stores.rows(ids).await?;
    let sides = |(id, redis): (&ProductId, Side)| {
        let api = by_id.get(&Some(id.get())).cloned();
        let mysql = rows.get(id).cloned();
        (*id, Sides { mysql: side(mysql), redis, api: side(api) })
    };
    Ok(ids.iter().zip(cached).map(sides).collect())
}

fn side(product: Option<Value>) -> Side {
    product.map_or(Side::Absent, Side::Product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_fields_of_the_contract() {
        let report = Report { products_compared: 2630, found_in_redis: 2630, mismatches: 0 };
        assert_eq!(serde_json::to_string(&report).unwrap(), r#"{"products_compared":2630,"found_in_redis":2630,"mismatches":0}"#);
        assert_eq!(report.cells(), ["2630", "2630", "0"]);
    }
}
