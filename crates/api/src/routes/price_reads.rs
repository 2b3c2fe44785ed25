//! What a product costs now and what it did cost before.

use super::prices::{self, PriceBody};
use super::schemas::{HistoryPage, Id, Known};
use super::{NO_CACHE, pages, path_id, products};
use crate::error::ApiError;
use crate::input::{conditions, query};
use crate::state::State;
use actix_web::http::header::{CACHE_CONTROL, CACHE_STATUS, ETAG, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use catalog::{PriceRow, PriceSet, Record};
use chrono::{DateTime, Utc};
use domain::price_history::{PriceSince, PriceStep};
use domain::product::time_text;
use domain::{Money, ProductId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A price, and what it is to be compared with.
#[derive(Serialize, ToSchema)]
#[schema(as = CurrentPriceWithPrior)]
pub(crate) struct PriceShown {
    #[serde(flatten)]
    set: PriceBody,
    /// The lowest price of the 30 days before the present reduction began; null where the price is no reduction.
    #[schema(value_type = Option<super::schemas::Price>, required)]
    prior_30d: Option<Money>,
}

/// The price of a product
///
/// `prior_30d` is what a reduction must be announced with in the EU (directive 98/6/EC, article 6a): the lowest price in the
/// 30 days before it began, the one that was in force when those days began included. Reductions that follow each other
/// without a raise between them are one, which began with the first. Amounts of other currencies do not count. Null: the
/// price is no reduction. It is read from MySQL each time, and while MySQL is away the answer is 503: null would claim that
/// there is no reduction.
#[utoipa::path(
    get, path = "/v1/products/{id}/price", operation_id = "getPrice", tag = "prices", params(Id, Known),
    responses(
        (status = 200, description = "The price.", body = PriceShown, headers(
            ("ETag" = String, description = "Strong; the version, as `If-Match` takes it."),
            ("Cache-Status" = String, description = "`inventory; hit`, `inventory; fwd=uri-miss` or `inventory; fwd=bypass` (RFC 9211)."),
        ), example = json!({
            "product_id": 1, "amount": "2.25", "currency": "GBP", "version": 2, "committed_at": "2011-01-04T10:05:00.000000Z",
            "prior_30d": {"amount": "2.55", "currency": "GBP"}
        })),
        (status = 304, description = "The client has what would be answered.", headers(("ETag" = String, description = "The tag that matched."))),
        (status = 404, description = "`unknown-product`, `no-price`"),
    ),
)]
pub(crate) async fn read(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let (record, source) = state.read(state.ready()?.catalog.product_record(id)).await??;
    let mut response = match record {
        None => ApiError::UnknownProduct(id).error_response(),
        Some(record) => match price(id, &record)? {
            None => ApiError::NoPrice(id).error_response(),
            Some(set) => shown(&request, &state, set).await?,
        },
    };
    response.headers_mut().insert(CACHE_STATUS, HeaderValue::from_static(products::cache_status(source)));
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    Ok(response)
}

/// What came before a version does not change, so that a client who has the version needs nothing more.
async fn shown(request: &HttpRequest, state: &State, set: PriceSet) -> Result<HttpResponse, ApiError> {
    let tag = prices::tag(set.version);
    let mut response = if conditions::none_match(request, &tag) {
        HttpResponse::NotModified().finish()
    } else {
        let present = PriceSince { price: Some(set.price), since: set.committed_at };
        let prior = state.read(state.ready()?.catalog.prior_price(set.product_id, present, set.version)).await??;
        HttpResponse::Ok().json(PriceShown { set: PriceBody::of(&set), prior_30d: prior })
    };
    response.headers_mut().insert(ETAG, HeaderValue::try_from(tag).expect("digits and quotes"));
    Ok(response)
}

/// The price that a record holds.
fn price(id: ProductId, record: &Record) -> Result<Option<PriceSet>, ApiError> {
    #[derive(Deserialize)]
    struct Stored {
        price: Option<StoredMoney>,
        updated_at: DateTime<Utc>,
    }
    #[derive(Deserialize)]
    struct StoredMoney {
        amount: String,
        currency: String,
    }
    let stored: Stored = serde_json::from_slice(&record.json).map_err(|error| ApiError::Internal(error.into()))?;
    let Some(StoredMoney { amount, currency }) = stored.price else { return Ok(None) };
    let price = Money::shown(&amount, &currency).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(Some(PriceSet { product_id: id, price, version: record.version, committed_at: stored.updated_at, changed: false }))
}

/// A price that was set.
#[derive(Serialize, ToSchema)]
#[schema(as = PastPrice)]
struct Entry {
    /// Null, as is the currency, where the first price that the product ever had was taken back.
    #[schema(required)]
    amount: Option<String>,
    #[schema(required)]
    currency: Option<String>,
    /// Beside the price before it.
    kind: Kind,
    /// The price that it replaced, also one that stands in no entry because it was set with plain SQL; null where there was none.
    #[schema(value_type = Option<super::schemas::Price>, required)]
    replaced: Option<Money>,
    /// As its writer gave it.
    #[schema(required)]
    reason: Option<String>,
    /// The name of the token that it came with, where there was one; `inventoryctl`, with the user of its system where that is
    /// known, of what `inventoryctl price import` and `undo` set.
    #[schema(required)]
    changed_by: Option<String>,
    /// The batch that it was set with, as `POST /v1/prices/batch` answered it and `inventoryctl price undo` takes it; null: it was
    /// set alone.
    #[schema(required, format = "uuid")]
    batch: Option<String>,
    /// Of the product, from then on.
    version: u64,
    #[schema(format = DateTime)]
    changed_at: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PriceChangeKind)]
#[serde(rename_all = "snake_case")]
enum Kind {
    First,
    Raised,
    Reduced,
    Unchanged,
    CurrencyChanged,
    /// The product had no price from then on.
    Removed,
}

/// A page of what a product did cost.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceHistory)]
pub(crate) struct HistoryBody {
    data: Vec<Entry>,
    /// Null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The prices of a product, the newest first
///
/// One entry for each price that was set through this API or by an import. What other systems set with plain SQL has no entry of
/// its own, but is told as what the next one replaced. The history of a deleted product can still be read.
#[utoipa::path(
    get, path = "/v1/products/{id}/price-history", operation_id = "getPriceHistory", tag = "prices", params(Id, HistoryPage),
    responses(
        (status = 200, description = "A page of prices.", body = HistoryBody, example = json!({
            "data": [{
                "amount": "2.25", "currency": "GBP", "kind": "reduced", "replaced": {"amount": "2.55", "currency": "GBP"},
                "reason": "january sale", "changed_by": null, "batch": null, "version": 2, "changed_at": "2011-01-04T10:05:00.000000Z"
            }, {
                "amount": "2.55", "currency": "GBP", "kind": "first", "replaced": null,
                "reason": null, "changed_by": null, "batch": null, "version": 1, "changed_at": "2011-01-04T10:00:00.000000Z"
            }],
            "next_cursor": null
        })),
        (status = 404, description = "`unknown-product`"),
    ),
)]
pub(crate) async fn history(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    let [limit, cursor] = query::parameters(&request, ["limit", "cursor"])?;
    let limit = pages::limit(limit)?;
    let before = cursor.map_or(Ok(u64::MAX), |text| pages::row(&text))?;
    let history = state.read(state.ready()?.catalog.price_history(id, before, limit)).await?;
    let history = history.map_err(|error| ApiError::of_product(id, error))?;
    let data = history.prices.into_iter().map(entry).collect();
    Ok(HttpResponse::Ok().json(HistoryBody { data, next_cursor: history.next.map(pages::cursor_to_row) }))
}

fn entry((row, replaced): (PriceRow, Option<Money>)) -> Entry {
    let kind = match row.price.map(|price| PriceStep::between(replaced, price)) {
        None => Kind::Removed,
        Some(PriceStep::First) => Kind::First,
        Some(PriceStep::Raised) => Kind::Raised,
        Some(PriceStep::Reduced) => Kind::Reduced,
        Some(PriceStep::Unchanged) => Kind::Unchanged,
        Some(PriceStep::CurrencyChanged) => Kind::CurrencyChanged,
    };
    let PriceRow { price, reason, actor, batch, version, changed_at, .. } = row;
    let (amount, currency) = (price.map(|price| price.amount_text()), price.map(|price| price.currency().code().to_owned()));
    Entry { amount, currency, kind, replaced, reason, changed_by: actor, batch, version, changed_at: time_text(changed_at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_of_a_record_is_that_which_it_shows() {
        let record = |json: &str| Record { version: 7, json: json.as_bytes().into() };
        let id = ProductId::new(42).unwrap();
        let with =
            r#"{"id":42,"sku":"a","price":{"amount":"2.5555","currency":"GBP"},"version":7,"updated_at":"2011-01-04T10:00:00.000000Z"}"#;
        let set = price(id, &record(with)).unwrap().unwrap();
        assert_eq!((set.price.to_string().as_str(), set.version), ("2.5555 GBP", 7));
        assert_eq!(time_text(set.committed_at), "2011-01-04T10:00:00.000000Z");
        let without = r#"{"id":42,"price":null,"updated_at":"2011-01-04T10:00:00.000000Z"}"#;
        assert_eq!(price(id, &record(without)).unwrap(), None);
        assert!(matches!(price(id, &record("{}")), Err(ApiError::Internal(_))));
    }
}
