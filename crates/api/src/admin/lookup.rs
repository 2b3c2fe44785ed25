//! One product as MySQL, Redis and the API tell it, with what is known of its past: prices, views by the hour, movements of stock.

use super::checks::places;
use super::{flag, of_catalog, of_read, within};
use crate::error::ApiError;
use crate::input::fields::Fault;
use crate::input::query;
use crate::state::{State, Stores};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use catalog::{PriceRow, Views};
use checks::compare::{Side, Sides};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use domain::product::time_text;
use domain::{ProductId, Sku};
use serde_json::{Value, json};
use std::time::Duration;
use stock::{LedgerRow, Level};
use storage::mysql::products;

/// How long a comparison is waited for: what differs is looked at again for longer than a request may take.
const COMPARE_LIMIT: Duration = Duration::from_secs(15);

/// Prices and movements of one answer.
const LISTED: u32 = 50;

/// Hours of views of one answer; the last is the one that is not over.
const HOURS: i64 = 48;

/// How a product is named.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Id(ProductId),
    Sku(Sku),
}

impl Name {
    fn parse([sku, id]: [Option<String>; 2]) -> Result<Self, ApiError> {
        let invalid = |name: &str, fault: &dyn std::fmt::Display| ApiError::InvalidQuery(format!("{name} {fault}"));
        match (sku, id) {
            (Some(sku), None) => Sku::parse(&sku).map(Self::Sku).map_err(|fault| invalid("sku", &fault)),
            (None, Some(id)) => ProductId::parse(&id).map(Self::Id).map_err(|fault| invalid("id", &fault)),
            _ => Err(ApiError::InvalidQuery("give the sku or the id of a product, one of them".into())),
        }
    }

    fn unknown(&self) -> ApiError {
        let (pointer, detail) = match self {
            Self::Id(id) => ("/id", format!("there is no product {id}")),
            Self::Sku(sku) => ("/sku", format!("no product has the SKU {sku}; upper and lower case differ")),
        };
        ApiError::UnknownProducts(vec![Fault { pointer: pointer.into(), detail }])
    }
}

/// What is known of a product's past, and its stock.
struct Beside {
    prices: Vec<PriceRow>,
    views: Option<Views>,
    hours: Vec<(DateTime<Utc>, u64)>,
    /// Where the first of the hours begins.
    from: DateTime<Utc>,
    level: Option<Level>,
    movements: Vec<LedgerRow>,
}

/// GET `/v1/admin/products/lookup?sku=85123A` or `?id=42`: MySQL decides what a SKU means, and a product that any place tells is shown.
/// What differs is looked at again for seconds, unless `settle=false`: `settled` in the answer says whether it still may be a write
/// in passing. So a page can show the first look at once, and the settled one when it is there.
pub(super) async fn lookup(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [sku, id, settle] = query::parameters(&request, ["sku", "id", "settle"])?;
    let name = Name::parse([sku, id])?;
    let settle = flag("settle", settle, true)?;
    let stores = state.stores()?;
    let id = match &name {
        Name::Id(id) => *id,
        Name::Sku(sku) => {
            let ids = state.read(products::ids_of(&stores.mysql, std::slice::from_ref(sku))).await?.map_err(of_read)?;
            ids.get(sku).copied().ok_or_else(|| name.unknown())?
        }
    };
    let places = places(stores);
    let compare = async {
        let mut found = places.first(&[id]).await?;
        if settle {
            places.settle(&mut found).await?;
        }
        Ok(found.pop())
    };
    let found = within(COMPARE_LIMIT, compare).await?.map_err(of_catalog)?;
    let found = found.filter(|found| found.sides.mysql != Side::Absent || found.sides.differ()).ok_or_else(|| name.unknown())?;
    let beside = state.read(beside(stores, id)).await?.map_err(of_catalog)?;
    let mut told = shown(id, &found.sides, beside);
    told["settled"] = json!(settle || !found.sides.differ());
    Ok(HttpResponse::Ok().json(told))
}

async fn beside(stores: &Stores, id: ProductId) -> Result<Beside, catalog::Error> {
    let hour = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap_or_default();
    let (from, to) = (hour - TimeDelta::hours(HOURS - 1), hour + TimeDelta::hours(1));
    let prices = async {
        match stores.catalog.price_history(id, u64::MAX, LISTED).await {
            Ok(history) => Ok(history.prices.into_iter().map(|(row, _)| row).collect()),
            // Redis alone has it.
            Err(catalog::Error::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let stock = stores.stock.stock();
    let level = async { stock.level(id).await.map_err(of_stock) };
    let movements = async { stock.movements(id, u64::MAX, LISTED).await.map_err(of_stock) };
    let (catalog, hours) = (stores.catalog.product(id), stores.catalog.view_hours(id, from, to));
    let (prices, shown, hours, level, movements) = tokio::try_join!(prices, catalog, hours, level, movements)?;
    Ok(Beside { prices, views: shown.views, hours, from, level, movements })
}

/// Reads of stock fail for the store alone.
fn of_stock(error: stock::Error) -> catalog::Error {
    match error {
        stock::Error::Unavailable(error) | stock::Error::Unknown(error) => catalog::Error::Unavailable(error),
        stock::Error::Internal(error) => catalog::Error::Internal(error),
        other => catalog::Error::Internal(storage::Error::new(storage::Kind::Bug, other.to_string())),
    }
}

fn shown(id: ProductId, sides: &Sides, beside: Beside) -> Value {
    let Beside { prices, views, hours, from, level, movements } = beside;
    let sku = [&sides.mysql, &sides.redis, &sides.api].into_iter().find_map(|side| match side {
        Side::Product(product) => product["sku"].as_str(),
        Side::Silent | Side::Absent => None,
    });
    json!({
        "id": id,
        "sku": sku,
        "differs": sides.differ(),
        "fields": sides.lines(),
        "prices": prices.into_iter().map(price_json).collect::<Vec<_>>(),
        "views": {
            "total": views.map(Views::total),
            "persisted": views.map(|views| views.persisted),
            "pending": views.map(|views| views.pending),
            "hours": every_hour(from, &hours),
        },
        "stock": level.map(level_json),
        "movements": movements.into_iter().map(movement_json).collect::<Vec<_>>(),
    })
}

/// Also those in which nobody looked.
fn every_hour(from: DateTime<Utc>, hours: &[(DateTime<Utc>, u64)]) -> Vec<Value> {
    let views = |hour: DateTime<Utc>| hours.iter().find(|(seen, _)| *seen == hour).map_or(0, |(_, views)| *views);
    let hours = (0..HOURS).map(|number| from + TimeDelta::hours(number));
    hours.map(|hour| json!({"hour": time_text(hour), "views": views(hour)})).collect()
}

fn price_json(row: PriceRow) -> Value {
    let (amount, currency) = (row.price.map(|price| price.amount_text()), row.price.map(|price| price.currency().code().to_owned()));
    json!({"amount": amount, "currency": currency, "reason": row.reason, "changed_at": time_text(row.changed_at)})
}

fn level_json(level: Level) -> Value {
    json!({"on_hand": level.on_hand, "reserved": level.reserved, "available": level.available(), "version": level.version})
}

fn movement_json(row: LedgerRow) -> Value {
    let LedgerRow { id, kind, delta, reserved_delta, reason, reference, created_at, .. } = row;
    json!({
        "id": id,
        "kind": kind,
        "delta": delta,
        "reserved_delta": reserved_delta,
        "reason": reason,
        "reference": reference,
        "at": time_text(created_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_named_by_its_sku_or_its_id() {
        let name = |sku: &str, id: &str| Name::parse([sku, id].map(|text| (!text.is_empty()).then(|| text.to_owned())));
        assert_eq!(name("85123A", "").unwrap(), Name::Sku(Sku::parse("85123A").unwrap()));
        assert_eq!(name("", "42").unwrap(), Name::Id(ProductId::new(42).unwrap()));
        for (sku, id) in [("", ""), ("85123A", "42"), ("", "0"), ("", "id:42"), (" 1", "")] {
            assert!(matches!(name(sku, id), Err(ApiError::InvalidQuery(_))), "{sku} {id}");
        }
    }

    #[test]
    fn every_hour_is_there_and_those_that_nobody_looked_in_are_empty() {
        let from = DateTime::from_timestamp(1_300_000_000 / 3_600 * 3_600, 0).unwrap();
        let hours = every_hour(from, &[(from + TimeDelta::hours(1), 7), (from + TimeDelta::hours(HOURS - 1), 2)]);
        let views: Vec<u64> = hours.iter().map(|hour| hour["views"].as_u64().unwrap()).collect();
        assert_eq!((views.len(), views[0], views[1], views[47], views.iter().sum::<u64>()), (48, 0, 7, 2, 9));
        assert_eq!(hours[0]["hour"], time_text(from));
    }
}
