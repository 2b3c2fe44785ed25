//! Prices: written through to MySQL and the cache before the answer.

use super::schemas::{Expected, Id, NewPrice, Repeatable};
use super::{answers, path_id};
use crate::access;
use crate::error::ApiError;
use crate::input::conditions::{self, Match};
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, idempotency, query};
use crate::state::State;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use catalog::{Answer, Once, Precondition, PriceChange, PriceSet};
use domain::{Money, ProductId};
use serde::Serialize;
use utoipa::ToSchema;

/// A price that was committed.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceSet)]
pub(crate) struct PriceBody {
    #[schema(value_type = u64)]
    product_id: ProductId,
    #[serde(flatten)]
    #[schema(value_type = super::schemas::Price)]
    price: Money,
    /// Of the product; rises with every change of catalogue data or price.
    version: u64,
    /// When the product got this version: a change of its name or its other data moves it too.
    #[schema(format = DateTime)]
    committed_at: String,
}

/// Set a price
///
/// 200 means committed, and shown by every later read through any instance. The price that is already there is answered
/// with the version that it has, and leaves no row in the history.
/// With `If-Match` the price is set only if the product still has a version that is named there. With an `Idempotency-Key`
/// a repeated request changes nothing and is answered as the first was, also when that answer was lost.
#[utoipa::path(
    put, path = "/v1/products/{id}/price", operation_id = "setPrice", tag = "prices", params(Id, Expected, Repeatable),
    request_body(content = NewPrice, example = json!({"amount": "2.25", "currency": "GBP", "reason": "january sale"})),
    responses(
        (status = 200, description = "The price as it was committed.", body = PriceBody,
            headers(
                ("ETag" = String, description = "Strong; the version."),
                ("Idempotent-Replayed" = String, description = "`true`: it was done before, and this was answered."),
            ),
            example = json!({
                "product_id": 1, "amount": "2.25", "currency": "GBP", "version": 2, "committed_at": "2011-01-04T10:05:00.000000Z"
            })),
        (status = 404, description = "`unknown-product`"),
        (status = 409, description = "`request-in-progress`", headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 412, description = "`precondition-failed`"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn set(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let only_if = conditions::if_match(&request)?.map(expected);
    conditions::refuse_if_none_match(&request, "If-None-Match is for reads; If-Match sets a price only over the version that it names")?;
    let body = body::json_bytes(&request, payload, state.time_limit).await?;
    let (price, reason) = new_price(Json::parse(&body)?)?;
    let key = idempotency::key(&request, "PUT /v1/products/{id}/price", &body)?;
    let once = key.map(|key| Once::new(key, move |product| answer(&PriceSet::of(product, price))));
    let change = PriceChange { price, reason, actor: access::caller(&request), only_if, once };
    let set = state.write(state.ready()?.catalog.set_price(id, change)).await?;
    Ok(answers::of(set.map_err(|error| ApiError::of_product(id, error))?, answer))
}

impl PriceBody {
    pub(super) fn of(set: &PriceSet) -> Self {
        let committed_at = domain::product::time_text(set.committed_at);
        Self { product_id: set.product_id, price: set.price, version: set.version, committed_at }
    }
}

/// `*` asks for a price that is there to be replaced.
fn expected(named: Match) -> Precondition {
    match named {
        Match::Anything => Precondition::Priced,
        Match::Version(versions) => Precondition::Version(versions),
    }
}

/// The strong tag of a price, which `If-Match` takes.
pub(super) fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

fn answer(set: &PriceSet) -> Answer {
    let body = serde_json::to_vec(&PriceBody::of(set)).expect("a struct of texts and numbers always serialises");
    Answer { status: 200, etag: Some(tag(set.version)), location: None, body }
}

fn new_price(body: Json) -> Result<(Money, Option<String>), ApiError> {
    let mut faults = Faults::default();
    let price = Reader::new(body, String::new(), &mut faults).and_then(|mut reader| {
        let price = reader.money();
        let reason = reader.nullable("reason", fields::text_that(reason));
        reader.finish();
        Some((price?, reason))
    });
    faults.into_result(price)
}

pub(super) fn reason(text: String) -> Result<String, String> {
    domain::price_rows::check_reason(&text).map(|()| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn amounts_that_are_no_plain_decimals_are_refused() {
        for amount in
            ["\"-1\"", "\"1e3\"", "\"12.999\"", "\"NaN\"", "\"1000000000000000000000000000000\"", "12.99", "1", "null", "\"\"", "[]"]
        {
            let body = format!(r#"{{"amount":{amount},"currency":"GBP"}}"#);
            let Err(ApiError::Invalid(faults)) = new_price(Json::parse(body.as_bytes()).unwrap()) else { panic!("{amount} was accepted") };
            assert_eq!(faults.len(), 1, "{amount}");
            assert_eq!(faults[0].pointer, "/amount", "{amount}");
        }
    }

    #[test]
    fn a_reason_is_short_plain_text() {
        let read = |reason: &str| {
            let body = serde_json::json!({"amount": "2.1", "currency": "GBP", "reason": reason}).to_string();
            new_price(Json::parse(body.as_bytes()).unwrap())
        };
        assert_eq!(read("january sale").unwrap().1.as_deref(), Some("january sale"));
        assert!(read(&"é".repeat(255)).is_ok());
        assert!(read(&"x".repeat(256)).is_err());
        assert!(read("a\0b").is_err());
    }

    #[test]
    fn a_price_is_answered_with_its_version_as_a_strong_tag() {
        let money = Money::parse("2.1", domain::Currency::parse("GBP").unwrap()).unwrap();
        let committed_at = DateTime::from_timestamp_micros(1_294_135_200_000_000).unwrap();
        let set = PriceSet { product_id: ProductId::new(42).unwrap(), price: money, version: 8, committed_at, changed: true };
        let Answer { status, etag, location, body } = answer(&set);
        assert_eq!((status, etag.as_deref(), location), (200, Some("\"8\""), None));
        let wanted = r#"{"product_id":42,"amount":"2.10","currency":"GBP","version":8,"committed_at":"2011-01-04T10:00:00.000000Z"}"#;
        assert_eq!(String::from_utf8(body).unwrap(), wanted);
    }
}
