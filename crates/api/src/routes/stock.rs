//! Stock of a product: read from MySQL each time, changed through the combiner.

use super::schemas::{Counted, Id, Known, MovementsPage, NewAdjustment, NewCount, RepeatableOnce};
use super::{NO_CACHE, answers, pages, path_id, prices, stock_of};
use crate::access;
use crate::error::ApiError;
use crate::input::conditions::{self, Match};
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, idempotency, query};
use crate::state::State;
use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use domain::ProductId;
use domain::product::time_text;
use domain::stock::{Level, MOST_COUNTED};
use serde::Serialize;
use stock::{Answer, Ask, Change, Changed, Expected, LedgerRow, Note, Once};
use utoipa::ToSchema;

/// How much of a product there is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stock)]
pub(crate) struct StockBody {
    #[schema(value_type = u64)]
    product_id: ProductId,
    /// In the shop, reserved pieces included.
    on_hand: u64,
    /// Promised to active reservations.
    reserved: u64,
    /// What may still be sold: on hand and not reserved.
    available: u64,
    /// Rises with every change; 0 until the first.
    version: u64,
}

impl StockBody {
    pub(crate) fn of(product_id: ProductId, level: Level) -> Self {
        let Level { on_hand, reserved, version } = level;
        Self { product_id, on_hand, reserved, available: level.available(), version }
    }
}

/// What an adjustment led to.
#[derive(Serialize, ToSchema)]
#[schema(as = Adjusted)]
struct AdjustedBody {
    #[serde(flatten)]
    stock: StockBody,
    delta: i64,
}

/// The stock of a product
///
/// From MySQL, always current. A product whose stock was never counted has none, at version 0.
#[utoipa::path(
    get, path = "/v1/products/{id}/stock", operation_id = "getStock", tag = "stock", params(Id, Known),
    responses(
        (status = 200, description = "The stock.", body = StockBody,
            headers(("ETag" = String, description = "Strong; the version, as `If-Match` takes it.")),
            example = json!({"product_id": 1, "on_hand": 120, "reserved": 2, "available": 118, "version": 1})),
        (status = 304, description = "The client has what would be answered.", headers(("ETag" = String, description = "The tag that matched."))),
        (status = 404, description = "`unknown-product`"),
    ),
)]
pub(crate) async fn read(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let level = state.read(state.ready()?.stock.stock().level(id)).await?;
    let level = level.map_err(stock_of(id))?.ok_or(ApiError::UnknownProduct(id))?;
    let tag = prices::tag(level.version);
    let mut response = if conditions::none_match(&request, &tag) {
        HttpResponse::NotModified().finish()
    } else {
        HttpResponse::Ok().json(StockBody::of(id, level))
    };
    response.headers_mut().insert(ETAG, HeaderValue::try_from(tag).expect("digits and quotes"));
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    Ok(response)
}

/// Count the stock
///
/// Says how many pieces are there, reserved ones included, over the stock that `If-Match` names. A count that finds what the
/// books say changes nothing. Fewer than are reserved cannot be there.
#[utoipa::path(
    put, path = "/v1/products/{id}/stock", operation_id = "countStock", tag = "stock", params(Id, Counted, super::schemas::Repeatable),
    request_body(content = NewCount, example = json!({"on_hand": 119, "reason": "stocktaking"})),
    responses(
        (status = 200, description = "The stock as it is now.", body = StockBody, headers(
            ("ETag" = String, description = "Strong; the version."),
            ("Idempotent-Replayed" = String, description = "`true`: it was done before, and this was answered."),
        ), example = json!({"product_id": 1, "on_hand": 119, "reserved": 2, "available": 117, "version": 2})),
        (status = 404, description = "`unknown-product`"),
        (status = 409, description = "`below-reserved`, with the stock as it is"),
        (status = 412, description = "`precondition-failed`, with the stock as it is"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, `idempotency-key-reused`"),
        (status = 428, description = "`precondition-required`"),
    ),
)]
pub(crate) async fn count(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let expected = match conditions::if_match(&request)?.ok_or(ApiError::PreconditionRequired)? {
        Match::Anything => Expected::Anything,
        Match::Version(versions) => Expected::Version(versions),
    };
    conditions::refuse_if_none_match(&request, "If-None-Match is for reads; If-Match counts only over the version that it names")?;
    let body = body::json_bytes(&request, payload, state.time_limit).await?;
    let (on_hand, note) = noted(Json::parse(&body)?, |reader| reader.required("on_hand", fields::whole_number(0..=MOST_COUNTED)))?;
    let key = idempotency::key(&request, "PUT /v1/products/{id}/stock", &body)?;
    let once = key.map(|key| Once { key, answer: counted });
    let change = Change::Count { product: id, on_hand, expected, note };
    let done = state.write(state.ready()?.stock.change(Ask { change, actor: access::caller(&request), once })).await?;
    Ok(answers::of(done.map_err(stock_of(id))?, counted))
}

/// Adjust the stock
///
/// Pieces came (a delivery, a return) or went (a loss). Of what is reserved none can go.
#[utoipa::path(
    post, path = "/v1/products/{id}/stock/adjustments", operation_id = "adjustStock", tag = "stock", params(Id, RepeatableOnce),
    request_body(content = NewAdjustment, example = json!({"delta": 3, "reason": "delivery", "reference": "PO-4711"})),
    responses(
        (status = 201, description = "The stock as it is now, and by how much it changed.", body = AdjustedBody, headers(
            ("ETag" = String, description = "Strong; the version."),
            ("Idempotent-Replayed" = String, description = "`true`: it was done before, and this was answered."),
        ), example = json!({"product_id": 1, "on_hand": 122, "reserved": 2, "available": 120, "version": 3, "delta": 3})),
        (status = 404, description = "`unknown-product`"),
        (status = 409, description = "`insufficient-stock`"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn adjust(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    conditions::refuse_if_match(&request, "If-Match is for counts; an adjustment is the same whatever is there")?;
    let body = body::json_bytes(&request, payload, state.time_limit).await?;
    let key = idempotency::required_key(&request, "POST /v1/products/{id}/stock/adjustments", &body)?;
    let (delta, note) = noted(Json::parse(&body)?, |reader| reader.required("delta", fields::change_by(MOST_COUNTED)))?;
    let once = Some(Once { key, answer: adjusted });
    let change = Change::Adjust { product: id, delta, note };
    let done = state.write(state.ready()?.stock.change(Ask { change, actor: access::caller(&request), once })).await?;
    Ok(answers::of(done.map_err(stock_of(id))?, adjusted))
}

fn counted(changed: &Changed) -> Answer {
    let Changed::Level { product, level, .. } = changed else { unreachable!("a count changes a level") };
    of_level(200, level.version, &StockBody::of(*product, *level))
}

fn adjusted(changed: &Changed) -> Answer {
    let Changed::Level { product, level, delta } = changed else { unreachable!("an adjustment changes a level") };
    of_level(201, level.version, &AdjustedBody { stock: StockBody::of(*product, *level), delta: *delta })
}

fn of_level(status: u16, version: u64, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("a struct of numbers always serialises");
    Answer { status, etag: Some(prices::tag(version)), location: None, body }
}

/// A number, and what people write beside it.
fn noted<T>(body: Json, number: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<(T, Note), ApiError> {
    let mut faults = Faults::default();
    let noted = Reader::new(body, String::new(), &mut faults).and_then(|mut reader| {
        let number = number(&mut reader);
        let reason = reader.nullable("reason", fields::text_that(prices::reason));
        let reference = reader.nullable("reference", fields::text_that(prices::reason));
        reader.finish();
        Some((number?, Note { reason, reference }))
    });
    faults.into_result(noted)
}

/// A change of a product's stock.
#[derive(Serialize, ToSchema)]
#[schema(as = Movement)]
struct Entry {
    id: u64,
    /// `count`, `adjustment`, `reserve`, `commit`, `release` or `expire`.
    kind: String,
    /// By how much the quantity on hand changed.
    delta: i64,
    /// By how much the quantity reserved changed.
    reserved_delta: i64,
    /// After the change.
    on_hand: u64,
    /// After the change.
    reserved: u64,
    #[schema(required)]
    reason: Option<String>,
    #[schema(required)]
    reference: Option<String>,
    /// The name of the token that it came with, where there was one; `inventoryctl` of what an import changed.
    #[schema(required)]
    actor: Option<String>,
    #[schema(required, format = "uuid")]
    reservation_id: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A page of the ledger.
#[derive(Serialize, ToSchema)]
#[schema(as = Movements)]
pub(crate) struct MovementsBody {
    data: Vec<Entry>,
    /// Null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The ledger of a product's stock, the newest change first
///
/// Every change has an entry; the sum of `delta` is what is on hand and that of `reserved_delta` what is reserved.
#[utoipa::path(
    get, path = "/v1/products/{id}/stock/movements", operation_id = "getStockMovements", tag = "stock", params(Id, MovementsPage),
    responses(
        (status = 200, description = "A page of changes.", body = MovementsBody, example = json!({
            "data": [{
                "id": 2, "kind": "adjustment", "delta": 3, "reserved_delta": 0, "on_hand": 122, "reserved": 2, "reason": "delivery",
                "reference": "PO-4711", "actor": null, "reservation_id": null, "created_at": "2011-01-04T10:05:00.000000Z"
            }, {
                "id": 1, "kind": "count", "delta": -1, "reserved_delta": 0, "on_hand": 119, "reserved": 2, "reason": "stocktaking",
                "reference": null, "actor": null, "reservation_id": null, "created_at": "2011-01-04T10:00:00.000000Z"
            }],
            "next_cursor": null
        })),
        (status = 404, description = "`unknown-product`"),
    ),
)]
pub(crate) async fn movements(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    let [limit, cursor] = query::parameters(&request, ["limit", "cursor"])?;
    let limit = pages::limit(limit)?;
    let before = cursor.map_or(Ok(u64::MAX), |text| pages::row(&text))?;
    let stock = state.ready()?.stock.stock();
    let mut rows = state.read(stock.movements(id, before, limit + 1)).await?.map_err(stock_of(id))?;
    if rows.is_empty() && state.read(stock.level(id)).await?.map_err(stock_of(id))?.is_none() {
        return Err(ApiError::UnknownProduct(id));
    }
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(|last| pages::cursor_to_row(last.id));
    Ok(HttpResponse::Ok().json(MovementsBody { data: rows.into_iter().map(entry).collect(), next_cursor }))
}

fn entry(row: LedgerRow) -> Entry {
    let LedgerRow { id, kind, delta, reserved_delta, on_hand, reserved, reason, reference, actor, reservation, created_at } = row;
    let created_at = time_text(created_at);
    Entry { id, kind, delta, reserved_delta, on_hand, reserved, reason, reference, actor, reservation_id: reservation, created_at }
}
