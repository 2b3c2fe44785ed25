//! Reservations: pieces held for a basket until it is paid, let go, or forgotten.

use super::schemas::{self, NewReservation, Repeatable, RepeatableOnce, ReservationId};
use super::{answers, part};
use crate::access;
use crate::error::ApiError;
use crate::input::fields::{self, Fault, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, conditions, idempotency, query};
use crate::state::State;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use domain::ProductId;
use domain::product::time_text;
use domain::stock::{Line, MOST_LINES, MOST_QUANTITY, ReservationState};
use serde::Serialize;
use std::collections::HashSet;
use std::time::Duration;
use stock::{Answer, Ask, Change, Changed, Error, Once, Reservation};
use utoipa::ToSchema;
use uuid::Uuid;

/// Pieces of products that are promised to somebody until a time.
#[derive(Serialize, ToSchema)]
#[schema(as = Reservation)]
pub(crate) struct ReservationBody {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(value_type = schemas::ReservationState)]
    state: ReservationState,
    /// By product.
    #[schema(value_type = Vec<schemas::Line>)]
    items: Vec<Line>,
    #[schema(required)]
    reference: Option<String>,
    /// By the database's clock.
    #[schema(format = DateTime)]
    expires_at: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When its state became what it is.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl ReservationBody {
    fn of(reservation: &Reservation) -> Self {
        let Reservation { id, state, lines, reference, expires_at, created_at, updated_at, .. } = reservation;
        let [expires_at, created_at, updated_at] = [expires_at, created_at, updated_at].map(|time| time_text(*time));
        Self { id: *id, state: *state, items: lines.clone(), reference: reference.clone(), expires_at, created_at, updated_at }
    }
}

/// What is asked for.
struct Asked {
    lines: Vec<Line>,
    ttl: Option<Duration>,
    reference: Option<String>,
}

/// Reserve products
///
/// All lines or none: where there is too little of one product nothing is reserved, and every shortage is listed. The pieces are
/// held until the reservation is committed, released, or its time is over; after that they are available to others at once.
#[utoipa::path(
    post, path = "/v1/reservations", operation_id = "reserve", tag = "stock", params(RepeatableOnce),
    request_body(content = NewReservation, example = json!({
        "items": [{"product_id": 1, "quantity": 2}], "ttl_seconds": 900, "reference": "cart_9"
    })),
    responses(
        (status = 201, description = "The pieces are held.", body = ReservationBody, headers(
            ("Location" = String, description = "The path of the reservation."),
            ("Idempotent-Replayed" = String, description = "`true`: it was done before, and this was answered."),
        ), example = json!({
            "id": "019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e0f", "state": "active", "items": [{"product_id": 1, "quantity": 2}], "reference": "cart_9",
            "expires_at": "2011-01-04T10:20:00.000000Z", "created_at": "2011-01-04T10:05:00.000000Z", "updated_at": "2011-01-04T10:05:00.000000Z"
        })),
        (status = 404, description = "`unknown-product`, with every one of them"),
        (status = 409, description = "`insufficient-stock`, with every shortage"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn make(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    conditions::refuse_if_match(&request, "If-Match has no meaning on this route, which makes what was not there")?;
    let body = body::json_bytes(&request, payload, state.time_limit).await?;
    let key = idempotency::required_key(&request, "POST /v1/reservations", &body)?;
    let (default, limit) = state.reservation_ttl;
    let Asked { lines, ttl, reference } = asked(Json::parse(&body)?, limit)?;
    let id = Uuid::now_v7();
    let products: Vec<ProductId> = lines.iter().map(|line| line.product_id).collect();
    let change = Change::Reserve { id, lines, ttl: ttl.unwrap_or(default), reference };
    let ask = Ask { change, actor: access::caller(&request), once: Some(Once { key, answer: made }) };
    let done = state.write(state.ready()?.stock.change(ask)).await?;
    Ok(answers::of(done.map_err(|error| of_lines(&products, error))?, made))
}

/// A reservation
///
/// An active one whose time is over reads `expired`.
#[utoipa::path(
    get, path = "/v1/reservations/{id}", operation_id = "getReservation", tag = "stock", params(ReservationId),
    responses(
        (status = 200, description = "The reservation as it is now.", body = ReservationBody),
        (status = 404, description = "`unknown-reservation`"),
    ),
)]
pub(crate) async fn read(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let found = state.read(state.ready()?.stock.stock().reservation(id)).await?;
    let found = found.map_err(|error| of_reservation(id, error))?.ok_or(ApiError::UnknownReservation(id))?;
    Ok(HttpResponse::Ok().json(ReservationBody::of(&found)))
}

/// Commit a reservation
///
/// The pieces were sold: they are no longer on hand. Again: the same answer.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/commit", operation_id = "commitReservation", tag = "stock", params(ReservationId, Repeatable),
    responses(
        (status = 200, description = "The reservation, committed.", body = ReservationBody),
        (status = 404, description = "`unknown-reservation`"),
        (status = 409, description = "`reservation-not-active`: it was released, or has expired"),
        (status = 422, description = "`validation-failed`: the request has a body with fields; `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn commit(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    end(request, payload, state, "POST /v1/reservations/{id}/commit", Change::Commit).await
}

/// Release a reservation
///
/// The pieces are not wanted any more and are available again. Again: the same answer.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/release", operation_id = "releaseReservation", tag = "stock", params(ReservationId, Repeatable),
    responses(
        (status = 200, description = "The reservation, released.", body = ReservationBody),
        (status = 404, description = "`unknown-reservation`"),
        (status = 409, description = "`reservation-not-active`: it was committed, or has expired"),
        (status = 422, description = "`validation-failed`: the request has a body with fields; `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn release(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    end(request, payload, state, "POST /v1/reservations/{id}/release", Change::Release).await
}

async fn end(
    request: HttpRequest,
    payload: Payload,
    state: Data<State>,
    route: &'static str,
    change: fn(Uuid) -> Change,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    conditions::refuse_if_match(&request, "If-Match has no meaning here: a reservation ends once")?;
    if let Some(json) = body::optional_json(&request, payload, state.time_limit).await? {
        nothing(json)?;
    }
    let once = idempotency::key(&request, route, b"")?.map(|key| Once { key, answer: ended });
    let ask = Ask { change: change(id), actor: access::caller(&request), once };
    let done = state.write(state.ready()?.stock.change(ask)).await?;
    Ok(answers::of(done.map_err(|error| of_reservation(id, error))?, ended))
}

fn path_id(request: &HttpRequest) -> Result<Uuid, ApiError> {
    const HYPHENATED: usize = 36;
    let text = part(request, 3);
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED);
    id.ok_or(ApiError::InvalidReservationId)
}

fn made(changed: &Changed) -> Answer {
    let Changed::Reservation(reservation) = changed else { unreachable!("a reservation was made") };
    Answer { status: 201, location: Some(format!("/v1/reservations/{}", reservation.id)), ..ended(changed) }
}

fn ended(changed: &Changed) -> Answer {
    let Changed::Reservation(reservation) = changed else { unreachable!("a reservation was ended") };
    let body = serde_json::to_vec(&ReservationBody::of(reservation)).expect("a struct of texts and numbers always serialises");
    Answer { status: 200, etag: None, location: None, body }
}

/// An object without fields.
fn nothing(json: Json) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    let read = Reader::new(json, String::new(), &mut faults).map(Reader::finish);
    faults.into_result(read)
}

fn asked(body: Json, ttl_limit: Duration) -> Result<Asked, ApiError> {
    let mut faults = Faults::default();
    let asked = Reader::new(body, String::new(), &mut faults).and_then(|mut reader| {
        let lines = reader.objects("items", MOST_LINES, line);
        let ttl = reader.optional("ttl_seconds", fields::whole_number(1..=ttl_limit.as_secs()));
        let reference = reader.nullable("reference", fields::text_that(super::prices::reason));
        reader.finish();
        Some(Asked { lines: lines?, ttl: ttl.map(Duration::from_secs), reference })
    });
    let asked = faults.into_result(asked)?;
    // Places are those of the request now that each of its lines was read.
    let (mut seen, mut faults) = (HashSet::new(), Faults::default());
    for (place, line) in asked.lines.iter().enumerate().filter(|(_, line)| !seen.insert(line.product_id)) {
        faults.add(format!("/items/{place}/product_id"), format_args!("product {} stands in an item before", line.product_id));
    }
    faults.into_result(Some(asked))
}

fn line(mut reader: Reader<'_>) -> Option<Line> {
    let product_id = reader.required("product_id", fields::product_id);
    let quantity = reader.required("quantity", fields::whole_number(1..=MOST_QUANTITY));
    reader.finish();
    Some(Line { product_id: product_id?, quantity: quantity? })
}

fn of_lines(products: &[ProductId], error: Error) -> ApiError {
    let Error::UnknownProducts(unknown) = error else { return error.into() };
    let places = products.iter().enumerate().filter(|(_, id)| unknown.contains(id));
    let fault = |(place, id)| Fault { pointer: format!("/items/{place}/product_id"), detail: format!("there is no product {id}") };
    ApiError::UnknownProducts(places.map(fault).collect())
}

fn of_reservation(id: Uuid, error: Error) -> ApiError {
    match error {
        Error::UnknownReservation => ApiError::UnknownReservation(id),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        match asked(Json::parse(body.as_bytes()).unwrap(), Duration::from_secs(60)) {
            Err(ApiError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{body}: {:?}", other.map(|asked| asked.lines)),
        }
    }

    #[test]
    fn every_fault_of_a_basket_is_listed() {
        for quantity in ["0", "-1", "1.5", "1000001", "\"1\"", "null"] {
            assert_eq!(faults(&format!(r#"{{"items":[{{"product_id":1,"quantity":{quantity}}}]}}"#)), ["/items/0/quantity"], "{quantity}");
        }
        let twice = r#"{"items":[{"product_id":1,"quantity":1},{"product_id":2,"quantity":1},{"product_id":1,"quantity":2}]}"#;
        assert_eq!(faults(twice), ["/items/2/product_id"]);
        assert_eq!(faults(r#"{"items":[],"ttl_seconds":61,"reference":7,"x":1}"#), ["/items", "/ttl_seconds", "/reference", "/x"]);
        assert_eq!(faults("{}"), ["/items"]);
        assert_eq!(faults(r#"{"items":[{"product_id":1,"quantity":1,"price":2},7]}"#), ["/items/0/price", "/items/1"]);
    }

    #[test]
    fn a_basket_is_read() {
        let body = r#"{"items":[{"product_id":2,"quantity":1},{"product_id":1,"quantity":3}],"reference":null}"#;
        let Asked { lines, ttl, reference } = asked(Json::parse(body.as_bytes()).unwrap(), Duration::from_secs(60)).unwrap();
        assert_eq!((lines.len(), lines[1].quantity, ttl, reference), (2, 3, None, None));
    }
}
