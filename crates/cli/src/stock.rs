//! `stock`: what is on hand of a product and what became of it, over the API.

pub(crate) mod movements;

use crate::api_client::{ApiClient, Count, Reply};
use crate::args::{AdjustArgs, SetStockArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::product;
use crate::table;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

/// Stock as the API answers it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
struct Level {
    product_id: u64,
    on_hand: i64,
    reserved: i64,
    available: i64,
    version: u64,
}

impl Row for Level {
    const COLUMNS: &'static [&'static str] = &["product_id", "on_hand", "reserved", "available", "version"];

    fn cells(&self) -> Vec<String> {
        let Self { product_id, on_hand, reserved, available, version } = self;
        vec![product_id.to_string(), on_hand.to_string(), reserved.to_string(), available.to_string(), version.to_string()]
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on hand, {} of them reserved, version {}", self.on_hand, self.reserved, self.version)
    }
}

/// A count that was set.
#[derive(Debug, Serialize)]
struct Set {
    product_id: u64,
    /// What was on hand; none where that was not looked at.
    before: Option<i64>,
    on_hand: i64,
    reserved: i64,
    available: i64,
    version: u64,
}

impl Row for Set {
    const COLUMNS: &'static [&'static str] = &["product_id", "before", "on_hand", "reserved", "available", "version"];

    fn cells(&self) -> Vec<String> {
        let Self { product_id, before, on_hand, reserved, available, version } = self;
        let before = before.map_or_else(|| "not looked at".to_owned(), |before| before.to_string());
        let rest = [on_hand, reserved, available].map(ToString::to_string);
        [product_id.to_string(), before].into_iter().chain(rest).chain([version.to_string()]).collect()
    }
}

/// A change by some pieces.
#[derive(Debug, Deserialize, Serialize)]
struct Adjusted {
    product_id: u64,
    delta: i64,
    on_hand: i64,
    reserved: i64,
    available: i64,
    version: u64,
}

impl Row for Adjusted {
    const COLUMNS: &'static [&'static str] = &["product_id", "delta", "on_hand", "reserved", "available", "version"];

    fn cells(&self) -> Vec<String> {
        let Self { product_id, delta, on_hand, reserved, available, version } = self;
        let counts = [on_hand, reserved, available].map(ToString::to_string);
        [product_id.to_string(), format!("{delta:+}")].into_iter().chain(counts).chain([version.to_string()]).collect()
    }
}

pub(crate) async fn get(name: &str, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let body = api.stock(product::find(name, api).await?).await?;
    match output.format() {
        Format::Json | Format::Ndjson => output.text(&body)?,
        Format::Table | Format::Csv => output.one(&api.parsed::<Level>(&body)?)?,
    }
    Ok(Exit::Ok)
}

/// Without a version of the caller's own it is the one that is seen just before which is replaced.
pub(crate) async fn set(args: &SetStockArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(&args.product, api).await?;
    let before: Option<Level> = match args.if_version {
        None if !args.any_version => Some(api.parsed(&api.stock(id).await?)?),
        _ => None,
    };
    let over = args.if_version.or(before.as_ref().map(|level| level.version));
    let (reason, reference) = (args.why.reason.as_deref(), args.why.reference.as_deref());
    let reply = api.set_stock(id, &Count { on_hand: args.on_hand, reason, reference, over }).await?;
    if !reply.status.is_success() {
        return Err(not_set(&args.product, over, &reply));
    }
    let Level { product_id, on_hand, reserved, available, version } = api.parsed(&reply.body)?;
    output.one(&Set { product_id, before: before.map(|level| level.on_hand), on_hand, reserved, available, version })?;
    Ok(Exit::Ok)
}

/// A refusal of a count with what is there now, where the API tells it.
fn not_set(name: &str, over: Option<u64>, reply: &Reply) -> Failure {
    let refusal = reply.refusal();
    match serde_json::from_value::<Level>(reply.problem()["current"].clone()) {
        Ok(now) if over.is_some_and(|over| over != now.version) => {
            let over = over.unwrap_or_default();
            Failure::new(refusal.exit, format!("{name} was not set: version {over} is no more, there is now: {now}"))
        }
        Ok(now) => Failure::new(refusal.exit, format!("{name} was not set: there is now: {now}; {}", refusal.message)),
        Err(_) => refusal,
    }
}

pub(crate) async fn adjust(args: &AdjustArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(&args.product, api).await?;
    let key = args.key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let body = json!({"delta": args.delta, "reason": args.why.reason, "reference": args.why.reference});
    let reply = api.adjust_stock(id, body, &key).await?;
    tell_shortages(&reply, &HashMap::from([(id.get(), args.product.clone())]));
    tell_replayed(&reply, args.key.as_deref());
    output.one(&api.parsed::<Adjusted>(&reply.done()?)?)?;
    Ok(Exit::Ok)
}

/// Of a key of one's own one wants to know. One that was made here is answered so only where the first answer was lost.
pub(crate) fn tell_replayed(reply: &Reply, key: Option<&str>) {
    if let Some(key) = key.filter(|_| reply.replayed) {
        eprintln!("this was done before under the key {key}, and this is what was answered; nothing was changed now");
    }
}

/// What was asked for and is not available.
#[derive(Debug, Deserialize)]
struct Shortage {
    product_id: u64,
    requested: i64,
    available: i64,
}

/// All shortages of a refusal, as a table on stderr; `names` tells how products were named.
pub(crate) fn tell_shortages(reply: &Reply, names: &HashMap<u64, String>) {
    if let Some(table) = shortages(reply, names) {
        eprintln!("{}", table.trim_end());
    }
}

fn shortages(reply: &Reply, names: &HashMap<u64, String>) -> Option<String> {
    let short: Vec<Shortage> = serde_json::from_value(reply.problem()["shortages"].clone()).ok()?;
    let line = |short: &Shortage| {
        let sku = names.get(&short.product_id).filter(|name| !name.starts_with("id:")).cloned().unwrap_or_default();
        vec![short.product_id.to_string(), sku, short.requested.to_string(), short.available.to_string()]
    };
    let heading = ["PRODUCT_ID", "SKU", "REQUESTED", "AVAILABLE"].map(str::to_owned).to_vec();
    let lines: Vec<_> = [heading].into_iter().chain(short.iter().map(line)).collect();
    (!short.is_empty()).then(|| table::of(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;
    use serde_json::Value;

    fn refused(status: u16, body: &Value) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), replayed: false, body: body.to_string() }
    }

    #[test]
    fn a_count_that_was_not_set_tells_what_is_there() {
        let now = json!({"product_id": 42, "on_hand": 120, "reserved": 2, "available": 118, "version": 8});
        let stale = refused(412, &json!({"detail": "it has version 8", "current": now}));
        let told = not_set("85123A", Some(7), &stale);
        assert_eq!(
            (told.exit, told.message.as_str()),
            (Exit::Conflict, "85123A was not set: version 7 is no more, there is now: 120 on hand, 2 of them reserved, version 8")
        );
        let below = refused(409, &json!({"detail": "2 are reserved", "current": now}));
        for over in [Some(8), None] {
            let told = not_set("85123A", over, &below);
            assert!(
                told.exit == Exit::Conflict && told.message.contains("2 of them reserved, version 8; the API answered 409"),
                "{told:?}"
            );
        }
        assert_eq!(not_set("85123A", Some(7), &refused(404, &json!({"detail": "no"}))).exit, Exit::NotFound);
    }

    #[test]
    fn shortages_are_a_table_with_the_skus_that_were_named() {
        let short = json!([{"product_id": 42, "requested": 2, "available": 1}, {"product_id": 7, "requested": 10, "available": 0}]);
        let names = HashMap::from([(42, "85123A".to_owned()), (7, "id:7".to_owned())]);
        let told = shortages(&refused(409, &json!({"shortages": short})), &names).unwrap();
        assert_eq!(told, "PRODUCT_ID  SKU     REQUESTED  AVAILABLE\n42          85123A  2          1\n7                   10         0\n");
        for none in [json!({}), json!({"shortages": []}), json!({"shortages": 7})] {
            assert_eq!(shortages(&refused(409, &none), &names), None);
        }
    }
}
