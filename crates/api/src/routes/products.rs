//! Products: one, several, a page of all, a new one.
//!
//! A record leaves as the bytes that the cache holds; only views and availability, which change without the
//! row, are added behind them. On a hit nothing is parsed and nothing is serialised.

use super::schemas::{self, Id, Known, Named, Repeatable};
use super::{NO_CACHE, answers, pages, path_id};
use crate::access;
use crate::error::ApiError;
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, conditions, idempotency, query};
use crate::state::State;
use actix_web::http::header::{CACHE_CONTROL, CACHE_STATUS, ETAG, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use catalog::{Answer, Once, Record, Shown, Source, Views};
use domain::{NewProduct, Product, ProductId, Sku};
use std::collections::HashSet;
use std::hash::Hash;
use std::io::Write;

/// Most products of one call.
pub(super) const MANY_LIMIT: usize = 100;

/// Room for `,"availability":{"available":…},"views":…}` with two numbers of 20 digits.
const TAIL_ROOM: usize = 96;

/// One product
///
/// Answered from the cache where it can be, and never older than a write that was acknowledged before.
#[utoipa::path(
    get, path = "/v1/products/{id}", operation_id = "getProduct", tag = "products",
    params(Id, Known),
    responses(
        (status = 200, description = "The product.", body = schemas::Product, headers(
            ("ETag" = String, description = "Weak; changes with all that the body shows."),
            ("Cache-Status" = String, description = "`inventory; hit`, `inventory; fwd=uri-miss` or `inventory; fwd=bypass` (RFC 9211)."),
        ), example = json!({
            "id": 1, "sku": "85123A", "name": "WHITE HANGING HEART T-LIGHT HOLDER", "description": null, "active": true,
            "price": {"amount": "2.55", "currency": "GBP"}, "version": 1, "updated_at": "2011-01-04T10:00:00.000000Z",
            "availability": {"available": 118}, "views": 12
        })),
        (status = 304, description = "The client has what would be answered.", headers(("ETag" = String, description = "The tag that matched."))),
        (status = 404, description = "`unknown-product`"),
    ),
)]
pub(crate) async fn read(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    query::none(&request)?;
    let shown = state.read(state.ready()?.catalog.product(id)).await??;
    let mut response = match &shown.record {
        Some(record) => found(&request, &shown, record),
        None => ApiError::UnknownProduct(id).error_response(),
    };
    response.headers_mut().insert(CACHE_STATUS, HeaderValue::from_static(cache_status(shown.source)));
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    Ok(response)
}

fn found(request: &HttpRequest, shown: &Shown, record: &Record) -> HttpResponse {
    let tag = tag(record.version, shown.available, views(shown));
    let mut response = if conditions::none_match(request, &tag) {
        HttpResponse::NotModified().finish()
    } else {
        let mut body = Vec::with_capacity(record.json.len() + TAIL_ROOM);
        extend(&mut body, &record.json, shown.available, views(shown));
        HttpResponse::Ok().content_type(super::JSON).body(body)
    };
    response.headers_mut().insert(ETAG, header(tag));
    response
}

fn views(shown: &Shown) -> Option<u64> {
    shown.views.map(Views::total)
}

/// Several products, or a page of all
///
/// With `ids` or `skus`, which exclude each other and all else: those products, and which of them are missing. Values are
/// split at commas, so a SKU that has one is asked for by its id. Without: a page of all products and the cursor of the
/// next. There is no snapshot across products: each is as it was at a moment of its own.
#[utoipa::path(
    get, path = "/v1/products", operation_id = "getProducts", tag = "products", params(Named),
    responses((status = 200, description = "Those that exist, in the order of the request, each once; or a page.", body = schemas::Several, headers(
        ("Cache-Status" = String, description = "`inventory; hit` only if all were."),
    ), example = json!({
        "data": [{
            "id": 1, "sku": "85123A", "name": "WHITE HANGING HEART T-LIGHT HOLDER", "description": null, "active": true,
            "price": {"amount": "2.25", "currency": "GBP"}, "version": 2, "updated_at": "2011-01-04T10:05:00.000000Z",
            "availability": {"available": 118}, "views": 20
        }],
        "missing": [99]
    }))),
)]
pub(crate) async fn read_many(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let parameters = query::parameters(&request, ["ids", "skus", "limit", "cursor", "updated_since"])?;
    let [ids, skus, limit, cursor, since] = parameters;
    let paged = limit.is_some() || cursor.is_some() || since.is_some();
    match (ids, skus) {
        (Some(_), Some(_)) => Err(ApiError::InvalidQuery("give ids or skus, not both".into())),
        (None, None) => read_page(&state, pages::parse(limit, cursor, since)?).await,
        _ if paged => Err(ApiError::InvalidQuery("ids and skus name products; limit, cursor and updated_since page through all".into())),
        (Some(ids), None) => read_by_ids(&state, &ids).await,
        (None, Some(skus)) => read_by_skus(&state, &skus).await,
    }
}

async fn read_page(state: &State, asked: pages::Asked) -> Result<HttpResponse, ApiError> {
    let page = state.read(state.ready()?.catalog.page(asked.after, asked.limit)).await??;
    let next = page.next.map(pages::cursor);
    Ok(several_found(&page.shown, "next_cursor", &serde_json::json!(next)))
}

async fn read_by_ids(state: &State, ids: &str) -> Result<HttpResponse, ApiError> {
    let ids = several("ids", ids, |text| ProductId::parse(text).map_err(|error| error.to_string()))?;
    let shown = state.read(state.ready()?.catalog.products(&ids)).await??;
    let missing: Vec<_> = shown.iter().filter(|shown| shown.record.is_none()).map(|shown| shown.id).collect();
    Ok(several_found(&shown, "missing", &serde_json::json!(missing)))
}

async fn read_by_skus(state: &State, skus: &str) -> Result<HttpResponse, ApiError> {
    let skus = several("skus", skus, |text| Sku::parse(text).map_err(|error| error.to_string()))?;
    let catalog = &state.ready()?.catalog;
    let shown = async {
        let ids = catalog.ids_of(&skus).await?;
        let (known, mut missing): (Vec<_>, Vec<_>) = skus.iter().partition(|sku| ids.contains_key(*sku));
        let wanted: Vec<_> = known.iter().map(|sku| ids[*sku]).collect();
        let shown = catalog.products(&wanted).await?;
        // Deleted since its id was looked up.
        missing.extend(known.iter().zip(&shown).filter(|(_, shown)| shown.record.is_none()).map(|(sku, _)| *sku));
        Ok::<_, catalog::Error>((shown, serde_json::json!(missing)))
    };
    let (shown, missing) = state.read(shown).await??;
    Ok(several_found(&shown, "missing", &missing))
}

/// The values of a comma-separated parameter in their order, each once.
fn several<T: Eq + Hash + Clone>(name: &str, list: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ApiError> {
    if list.split(',').count() > MANY_LIMIT {
        return Err(ApiError::InvalidQuery(format!("{name} names more than {MANY_LIMIT} products")));
    }
    let mut seen = HashSet::new();
    let mut values = Vec::new();
    for text in list.split(',') {
        let value = parse(text).map_err(|detail| ApiError::InvalidQuery(format!("{name}: {text:?} {detail}")))?;
        if seen.insert(value.clone()) {
            values.push(value);
        }
    }
    Ok(values)
}

/// `{"data":[…]}` with one field behind it.
fn several_found(shown: &[Shown], field: &str, value: &serde_json::Value) -> HttpResponse {
    let found = || shown.iter().filter_map(|shown| shown.record.as_ref().map(|record| (shown, record)));
    let length: usize = found().map(|(_, record)| record.json.len() + TAIL_ROOM).sum();
    let mut body = Vec::with_capacity(length + TAIL_ROOM);
    body.extend_from_slice(b"{\"data\":[");
    for (n, (shown, record)) in found().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        extend(&mut body, &record.json, shown.available, views(shown));
    }
    write!(body, "],\"{field}\":{value}}}").expect("a Vec takes every write");
    let mut response = HttpResponse::Ok().content_type(super::JSON).body(body);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    response.headers_mut().insert(CACHE_STATUS, HeaderValue::from_static(cache_status(worst(shown))));
    response
}

/// A hit only if all were.
fn worst(shown: &[Shown]) -> Source {
    let rank = |source: &Source| match source {
        Source::Hit => 0,
        Source::Miss => 1,
        Source::Bypass => 2,
    };
    shown.iter().map(|shown| shown.source).max_by_key(rank).unwrap_or(Source::Bypass)
}

/// Make a product
///
/// MySQL gives the id. The first price may come with it or be set later. With an `Idempotency-Key` a repeated request makes
/// nothing and is answered as the first was.
#[utoipa::path(
    post, path = "/v1/products", operation_id = "createProduct", tag = "products", params(Repeatable),
    request_body(content = schemas::NewProduct, example = json!({
        "sku": "22423", "name": "REGENCY CAKESTAND 3 TIER", "description": "Three tiers.", "price": {"amount": "12.75", "currency": "GBP"}
    })),
    responses(
        (status = 201, description = "The product as a read shows it.", body = schemas::Product, links(
            ("read" = (operation_id = "getProduct", parameters(("id" = "$response.body#/id")))),
            ("price" = (operation_id = "setPrice", parameters(("id" = "$response.body#/id")))),
            ("current_price" = (operation_id = "getPrice", parameters(("id" = "$response.body#/id")))),
            ("price_history" = (operation_id = "getPriceHistory", parameters(("id" = "$response.body#/id")))),
            ("view" = (operation_id = "recordView", parameters(("id" = "$response.body#/id")))),
            ("views" = (operation_id = "getViews", parameters(("id" = "$response.body#/id"))))
        ), headers(
            ("Location" = String, description = "Where it is read."), ("ETag" = String, description = "As a read answers it."),
            ("Idempotent-Replayed" = String, description = "`true`: it was made before, and this was answered."),
        ), example = json!({
            "id": 2, "sku": "22423", "name": "REGENCY CAKESTAND 3 TIER", "description": "Three tiers.", "active": true,
            "price": {"amount": "12.75", "currency": "GBP"}, "version": 1, "updated_at": "2011-01-04T10:00:00.000000Z",
            "availability": {"available": 0}, "views": 0
        })),
        (status = 409, description = "`duplicate-sku`, `request-in-progress`"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, `idempotency-key-reused`"),
    ),
)]
pub(crate) async fn create(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    conditions::refuse_if_match(&request, "If-Match has no meaning on this route, which makes what was not there")?;
    let body = body::json_bytes(&request, payload, state.time_limit).await?;
    let product = new_product(Json::parse(&body)?)?;
    let once = idempotency::key(&request, "POST /v1/products", &body)?.map(|key| Once::new(key, created));
    let made = state.write(state.ready()?.catalog.create(product, access::caller(&request), once)).await??;
    Ok(answers::of(made, created))
}

/// The same form as a read shows. Nobody knew the id before this answer, so there is neither stock nor a view.
fn created(product: &Product) -> Answer {
    let (available, views) = (Some(0), Some(0));
    let record = serde_json::to_vec(product).expect("a product always serialises");
    let mut body = Vec::with_capacity(record.len() + TAIL_ROOM);
    extend(&mut body, &record, available, views);
    let location = Some(format!("/v1/products/{}", product.id));
    Answer { status: 201, etag: Some(tag(product.version, available, views)), location, body }
}

fn new_product(body: Json) -> Result<NewProduct, ApiError> {
    let mut faults = Faults::default();
    let product = Reader::new(body, String::new(), &mut faults).and_then(|mut reader| {
        let sku = reader.required("sku", fields::text_that(|text| Sku::parse(&text)));
        let name = reader.required("name", fields::text_that(|text| NewProduct::check_name(&text).map(|()| text)));
        let description = reader.nullable("description", fields::text_that(|text| NewProduct::check_description(&text).map(|()| text)));
        let active = reader.optional("active", fields::flag).unwrap_or(true);
        let price = reader.nullable_object("price", |mut price| {
            let money = price.money();
            price.finish();
            money
        });
        reader.finish();
        Some(NewProduct { sku: sku?, name: name?, description, active, price })
    });
    faults.into_result(product)
}

/// Appends a record with what changes without it: `}` is replaced by the two fields and a new one.
fn extend(body: &mut Vec<u8>, record: &[u8], available: Option<i64>, views: Option<u64>) {
    debug_assert_eq!(record.last(), Some(&b'}'), "a record is a JSON object");
    body.extend_from_slice(&record[..record.len().saturating_sub(1)]);
    let mut digits = itoa::Buffer::new();
    match available {
        Some(available) => {
            body.extend_from_slice(b",\"availability\":{\"available\":");
            body.extend_from_slice(digits.format(available).as_bytes());
            body.extend_from_slice(b"},\"views\":");
        }
        None => body.extend_from_slice(b",\"availability\":null,\"views\":"),
    }
    body.extend_from_slice(views.map_or("null", |views| digits.format(views)).as_bytes());
    body.push(b'}');
}

/// Changes with all that the body shows; weak, because the order of equal content is not promised.
fn tag(version: u64, available: Option<i64>, views: Option<u64>) -> String {
    let mut digits = itoa::Buffer::new();
    let mut tag = String::with_capacity(TAIL_ROOM);
    tag.push_str("W/\"");
    tag.push_str(digits.format(version));
    tag.push('.');
    tag.push_str(available.map_or("-", |available| digits.format(available)));
    tag.push('.');
    tag.push_str(views.map_or("-", |views| digits.format(views)));
    tag.push('"');
    tag
}

pub(super) fn cache_status(source: Source) -> &'static str {
    match source {
        Source::Hit => "inventory; hit",
        Source::Miss => "inventory; fwd=uri-miss",
        Source::Bypass => "inventory; fwd=bypass",
    }
}

fn header(ascii: String) -> HeaderValue {
    HeaderValue::try_from(ascii).expect("made of digits and punctuation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_extended_in_place_of_its_last_brace() {
        let extended = |available, views| {
            let mut body = Vec::new();
            extend(&mut body, b"{\"id\":42}", available, views);
            String::from_utf8(body).unwrap()
        };
        assert_eq!(extended(Some(118), Some(10342)), r#"{"id":42,"availability":{"available":118},"views":10342}"#);
        assert_eq!(extended(None, None), r#"{"id":42,"availability":null,"views":null}"#);
        assert!(extended(Some(i64::MIN), Some(u64::MAX)).len() <= b"{\"id\":42}".len() + TAIL_ROOM);
    }

    #[test]
    fn the_tag_changes_with_all_that_the_body_shows() {
        assert_eq!(tag(7, Some(118), Some(10342)), "W/\"7.118.10342\"");
        assert_eq!(tag(7, None, Some(10342)), "W/\"7.-.10342\"");
        assert_eq!(tag(7, Some(-1), None), "W/\"7.-1.-\"");
    }

    #[test]
    fn several_are_read_in_their_order_and_each_once() {
        let ids =
            |list: &str| several("ids", list, |text| text.parse::<u32>().map_err(|error| error.to_string())).map_err(|e| e.to_string());
        assert_eq!(ids("3,1,3,2"), Ok(vec![3, 1, 2]));
        assert!(ids("").is_err());
        assert!(ids("1,,2").is_err());
        assert!(ids("1,x").unwrap_err().contains("\"x\""));
        assert_eq!(ids(&["7"; 100].join(",")), Ok(vec![7]));
        assert!(ids(&["7"; 101].join(",")).is_err());
    }
}
