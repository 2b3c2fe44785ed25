//! Forms of requests, parameters and records as the OpenAPI document shows them.
//!
//! Nothing is parsed or written with these types: `input/` reads requests by hand to list every fault at once, and a
//! product leaves as the bytes that the cache holds. The tests of `openapi.rs` hold the limits below against those that
//! are enforced, and other tests send the server what the document allows and what it does not.

#![allow(dead_code, reason = "the fields are read by the macros alone")]

use utoipa::{IntoParams, ToSchema};

/// A product's number.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Id {
    /// The number that MySQL gave the product.
    #[param(minimum = 1, maximum = 9007199254740991_i64, example = 1)]
    id: u64,
}

/// What the client has.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Known {
    /// Tags of answers that the client has, or `*`.
    #[param(rename = "If-None-Match", value_type = String, required = false)]
    tags: Option<String>,
}

/// What the client expects to be there.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Expected {
    /// Set the price only if the product has one of these versions, written as the `ETag` of a price is, or, for `*`, only
    /// if it has a price. Weak tags never match.
    #[param(rename = "If-Match", value_type = String, required = false, pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#)]
    versions: Option<String>,
}

/// A request that may be sent again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Repeatable {
    /// Done once: the same request with the same key is answered as the first was for 24 hours, with `Idempotent-Replayed`,
    /// whatever `If-Match` says by then. Kept for each token and route; what was refused is not kept.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: Option<String>,
}

/// Which products to read.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Named {
    /// Ids of up to 100 products.
    #[param(style = Form, explode = false, min_items = 1, max_items = 100, example = json!([1, 99]))]
    ids: Option<Vec<ListedId>>,
    /// SKUs of up to 100 products, without commas.
    #[param(style = Form, explode = false, min_items = 1, max_items = 100)]
    skus: Option<Vec<ListedSku>>,
    /// Most products of a page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before, as it was answered.
    #[param(pattern = "^(i[0-9a-f]{1,16}|u[0-9a-f]{1,16}-[0-9a-f]{1,16})$")]
    cursor: Option<String>,
    /// RFC 3339: those that were changed at that time or later, in the order of their changes.
    #[param(format = DateTime)]
    updated_since: Option<String>,
}

#[derive(ToSchema)]
#[schema(minimum = 1, maximum = 9007199254740991_i64)]
pub(crate) struct ListedId(u64);

/// 1 to 64 bytes of UTF-8 without commas, control characters, and white space at its ends.
#[derive(ToSchema)]
#[schema(
    format = "sku",
    min_length = 1,
    max_length = 64,
    pattern = r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000,]([^\u0000-\u001f\u007f-\u009f,]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000,])?$"
)]
pub(crate) struct ListedSku(String);

/// Which prices to answer.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryPage {
    /// Most prices of a page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before, as it was answered.
    #[param(pattern = "^h([1-9a-f][0-9a-f]{0,15}|0)$")]
    cursor: Option<String>,
}

/// Which buckets to answer.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// RFC 3339.
    #[param(format = DateTime, example = "2011-01-04T00:00:00Z")]
    from: Option<String>,
    /// RFC 3339, after `from`.
    #[param(format = DateTime, example = "2011-01-07T00:00:00Z")]
    to: Option<String>,
    /// The size of a bucket.
    #[param(inline, example = "day")]
    interval: Option<Interval>,
    /// Where days begin: an offset from UTC. Whole hours for days, because views are kept by the hour.
    #[param(pattern = r"^(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$", example = "Z")]
    tz: Option<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
enum Interval {
    Hour,
    Day,
}

/// A shop's own name of a product, 1 to 64 bytes of UTF-8; upper and lower case differ. No control characters, no white
/// space at its ends.
#[derive(ToSchema)]
#[schema(
    format = "sku",
    min_length = 1,
    max_length = 64,
    pattern = r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000])?$"
)]
struct Sku(String);

/// A product to be made.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProduct {
    sku: Sku,
    /// No control characters.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    name: String,
    /// At most 65536 bytes of UTF-8 without null characters.
    #[schema(format = "utf-8-64k", max_length = 65536)]
    description: Option<String>,
    /// Whether it is sold; true if it is not given.
    #[schema(default = true, nullable = false)]
    active: Option<bool>,
    price: Option<NewMoney>,
}

/// Money of a currency in use, with at most as many digits after the point as the currency has.
#[derive(ToSchema)]
#[schema(as = NewMoney)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMoney {
    /// A decimal string, never a JSON number: at most 15 digits before the point.
    #[schema(pattern = r"^0*[0-9]{1,15}(\.[0-9]{1,4})?$")]
    amount: String,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
}

/// A price to be set.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrice {
    /// A decimal string, never a JSON number: at most 15 digits before the point, and after it as many as the currency has.
    #[schema(pattern = r"^0*[0-9]{1,15}(\.[0-9]{1,4})?$")]
    amount: String,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// Kept in the price history; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reason: Option<String>,
}

/// How a batch of prices is taken.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BatchQuery {
    /// What rows that cannot be applied do to the others.
    #[param(inline)]
    on_error: Option<OnError>,
    /// Judge all and change nothing.
    dry_run: Option<bool>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum OnError {
    RejectAll,
    SkipFailed,
}

/// Prices to be set together.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrices {
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<NewBatchPrice>,
    /// Of the rows that have none of their own; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reason: Option<String>,
}

/// A price to be set; the product is named by `sku` or by `product_id`, not by both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBatchPrice {
    #[schema(nullable = false)]
    sku: Option<Sku>,
    #[schema(minimum = 1, maximum = 9007199254740991_i64, nullable = false)]
    product_id: Option<u64>,
    /// A decimal string, never a JSON number: at most 15 digits before the point, and after it as many as the currency has.
    #[schema(pattern = r"^0*[0-9]{1,15}(\.[0-9]{1,4})?$")]
    amount: String,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// Only if the product has this version.
    #[schema(minimum = 1, maximum = 9007199254740991_i64)]
    if_version: Option<u64>,
    /// Kept in the price history; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reason: Option<String>,
}

/// A header and 1 to 1,000 lines.
#[derive(ToSchema)]
#[schema(format = "prices-csv")]
pub(crate) struct PricesCsv(String);

/// A request that must not be done twice.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct RepeatableOnce {
    /// Done once: the same request with the same key is answered as the first was for 24 hours, with `Idempotent-Replayed`.
    /// Kept for each token and route; what was refused is not kept.
    #[param(rename = "Idempotency-Key", value_type = String, required = true, min_length = 1, max_length = 255, pattern = "^[!-~]+$", example = "8e03978e-40d5-43dd-bc93-6894a57f9324")]
    key: String,
}

/// Which stock a count replaces.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Counted {
    /// Count only over one of these versions, written as the `ETag` of the stock is, or, for `*`, over whatever is there. Weak
    /// tags never match.
    #[param(rename = "If-Match", value_type = String, required = true, pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#, example = "\"1\"")]
    versions: String,
}

/// Which changes to answer.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MovementsPage {
    /// Most changes of a page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before, as it was answered.
    #[param(pattern = "^h([1-9a-f][0-9a-f]{0,15}|0)$")]
    cursor: Option<String>,
}

/// A reservation's id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ReservationId {
    /// As it was answered when the reservation was made.
    #[param(format = "uuid")]
    id: String,
}

/// A count of a product's stock.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCount {
    /// Pieces that are there, reserved ones included.
    #[schema(minimum = 0, maximum = 1000000000)]
    on_hand: u64,
    /// Kept in the ledger; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reason: Option<String>,
    /// Kept in the ledger; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reference: Option<String>,
}

/// A change of a product's stock.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAdjustment {
    /// Pieces that came, or below 0 went; not 0.
    #[schema(minimum = -1000000000, maximum = 1000000000, value_type = i64)]
    delta: i64,
    /// Kept in the ledger; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reason: Option<String>,
    /// Kept in the ledger; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reference: Option<String>,
}

/// What is to be held for a basket.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReservation {
    /// Each product once.
    #[schema(min_items = 1, max_items = 100)]
    items: Vec<Line>,
    /// How long it is held; 15 minutes if it is not given. The operator may have set another limit, and another default.
    #[schema(minimum = 1, maximum = 14400, nullable = false)]
    ttl_seconds: Option<u64>,
    /// Such as the number of the basket; no control characters.
    #[schema(max_length = 255, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    reference: Option<String>,
}

/// So many pieces of a product.
#[derive(ToSchema)]
#[schema(as = ReservationItem)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    #[schema(minimum = 1, maximum = 9007199254740991_i64)]
    product_id: u64,
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u64,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReservationState {
    Active,
    Committed,
    Released,
    Expired,
}

/// Views of one product.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Viewed {
    /// How often it was viewed.
    #[schema(minimum = 1, maximum = 1000, default = 1, nullable = false)]
    count: Option<u64>,
    /// Made by the client, and the same when it sends the event again: under one id a product's views count once. It is
    /// remembered for 10 to 20 minutes.
    #[schema(format = "uuid", nullable = false)]
    id: Option<String>,
}

/// Views of several products.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewViews {
    #[schema(max_items = 500)]
    events: Vec<Event>,
}

/// A product and how often it was viewed.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct Event {
    #[schema(minimum = 1, maximum = 9007199254740991_i64)]
    product_id: u64,
    #[schema(minimum = 1, maximum = 1000, default = 1, nullable = false)]
    count: Option<u64>,
    /// Made by the client, and the same when it sends the event again: under one id a product's views count once.
    /// Under another product it is another event. It is remembered for 10 to 20 minutes.
    #[schema(format = "uuid", nullable = false)]
    id: Option<String>,
}

/// The view was accepted.
#[derive(ToSchema)]
pub(crate) struct OneAccepted {
    #[schema(minimum = 1, maximum = 1)]
    accepted: u64,
}

/// A product as every read shows it.
#[derive(ToSchema)]
pub(crate) struct Product {
    id: u64,
    sku: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    active: bool,
    /// Null until one was set.
    #[schema(required)]
    price: Option<Price>,
    /// Rises with every change of catalogue data or price, not with views or stock.
    version: u64,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Advisory, at most two seconds old; null while MySQL is away.
    #[schema(required)]
    availability: Option<Availability>,
    /// All that were accepted, also those on their way to MySQL; null while a store is away.
    #[schema(required)]
    views: Option<u64>,
}

/// What stands in the catalogue.
#[derive(ToSchema)]
pub(crate) struct Price {
    /// A decimal string with the digits of its currency.
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]+)?$")]
    amount: String,
    /// ISO 4217.
    currency: String,
}

/// On hand and not reserved.
#[derive(ToSchema)]
struct Availability {
    available: i64,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Several {
    Named(Products),
    Page(Page),
}

/// A page of all products.
#[derive(ToSchema)]
#[schema(as = ProductPage)]
pub(crate) struct Page {
    data: Vec<Product>,
    /// Null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Several products.
#[derive(ToSchema)]
pub(crate) struct Products {
    data: Vec<Product>,
    /// Ids or SKUs, as they were asked for, of which there is no product.
    missing: Vec<Missing>,
}

#[derive(ToSchema)]
#[serde(untagged)]
enum Missing {
    Id(u64),
    Sku(String),
}
