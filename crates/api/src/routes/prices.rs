//! Prices: written through to MySQL and the cache before the answer.

use super::schemas::{Id, NewPrice};
use super::{NO_CACHE, path_id};
use crate::access;
use crate::error::ApiError;
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, conditions, query};
use crate::state::State;
use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use catalog::PriceSet;
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
    #[schema(format = DateTime)]
    committed_at: String,
}

/// Set a price
///
/// 200 means committed, and shown by every later read through any instance. The price that is already there is answered
/// with the version that it has, and leaves no row in the history.
#[utoipa::path(
    put, path = "/v1/products/{id}/price", operation_id = "setPrice", tag = "prices", params(Id),
    request_body(content = NewPrice, example = json!({"amount": "2.25", "currency": "GBP", "reason": "january sale"})),
    responses(
        (status = 200, description = "The price as it was committed.", body = PriceBody,
            headers(("ETag" = String, description = "Strong; the version.")),
            example = json!({
                "product_id": 1, "amount": "2.25", "currency": "GBP", "version": 2, "committed_at": "2011-01-04T10:05:00.000000Z"
            })),
        (status = 404, description = "`unknown-product`"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`"),
    ),
)]
pub(crate) async fn set(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    conditions::refuse_unsupported(&request)?;
    let (price, reason) = new_price(body::json(&request, payload, state.time_limit).await?)?;
    let set = state.write(state.ready()?.catalog.set_price(id, price, reason, access::caller(&request))).await?;
    Ok(answer(set.map_err(|error| ApiError::of_product(id, error))?))
}

fn answer(set: PriceSet) -> HttpResponse {
    let tag = HeaderValue::try_from(format!("\"{}\"", set.version)).expect("digits and quotes");
    let body = PriceBody {
        product_id: set.product_id,
        price: set.price,
        version: set.version,
        committed_at: domain::product::time_text(set.committed_at),
    };
    let body = serde_json::to_vec(&body).expect("a struct of texts and numbers always serialises");
    let mut response = HttpResponse::Ok().content_type(super::JSON).body(body);
    response.headers_mut().insert(ETAG, tag);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    response
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

    #[tokio::test]
    async fn a_price_is_answered_with_its_version_as_a_strong_tag() {
        let money = Money::parse("2.1", domain::Currency::parse("GBP").unwrap()).unwrap();
        let committed_at = DateTime::from_timestamp_micros(1_294_135_200_000_000).unwrap();
        let response = answer(PriceSet { product_id: ProductId::new(42).unwrap(), price: money, version: 8, committed_at, changed: true });
        assert_eq!(response.headers().get(ETAG).unwrap(), "\"8\"");
        assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "no-cache");
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        assert_eq!(
            body,
            r#"{"product_id":42,"amount":"2.10","currency":"GBP","version":8,"committed_at":"2011-01-04T10:00:00.000000Z"}"#.as_bytes()
        );
    }
}
