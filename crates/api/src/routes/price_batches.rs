//! Many prices at once, in one transaction.
//!
//! Rows are judged apart, first for what they say and then, under the locks of their products, for what is there; every
//! fault of every row is told. Whether the other rows are applied is the caller's to say.

use super::answers;
use super::price_rows::{Asked, of_csv, of_json};
use super::schemas::{self, BatchQuery, NewPrices, Repeatable};
use crate::access;
use crate::error::ApiError;
use crate::input::body::Bulk;
use crate::input::fields::Fault;
use crate::input::{body, conditions, idempotency, query};
use crate::problem;
use crate::state::State;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use catalog::{Batch, BatchSet, Done, Judged, OnError, Once, RowFault, Verdict};
use domain::{Money, Move, PriceRow, ProductId, Sku, moves};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a batch did, or would do.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceBatch)]
pub(crate) struct Answer {
    /// Names it in the price history, and to `inventoryctl price undo`; null where nothing was changed, so for a dry run.
    #[schema(required, format = "uuid")]
    batch: Option<String>,
    dry_run: bool,
    counts: Counts,
    /// One for each of the request, in its order.
    items: Vec<Item>,
    /// Up to ten changed prices: those of which the change cannot be measured, then the largest changes, then first prices.
    #[schema(max_items = 10)]
    biggest_moves: Vec<Moved>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PriceBatchCounts)]
struct Counts {
    changed: usize,
    unchanged: usize,
    failed: usize,
}

/// What became of one row.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceBatchItem)]
struct Item {
    /// Null where the row could not be read, and where it has a SKU that no product has.
    #[schema(required, value_type = Option<u64>)]
    product_id: Option<ProductId>,
    /// Null where the row could not be read, and where it has an id that no product has.
    #[schema(required, value_type = Option<String>)]
    sku: Option<Sku>,
    /// The price before; null where there was none, and where the row could not be read or no product was found.
    #[schema(required, value_type = Option<schemas::Price>)]
    from: Option<Money>,
    /// Null where the row could not be read.
    #[schema(required, value_type = Option<schemas::Price>)]
    to: Option<Money>,
    /// Of the product, after the change; null where the row could not be read or no product was found.
    #[schema(required)]
    version: Option<u64>,
    #[schema(inline)]
    status: Status,
    /// Of a row that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<ItemProblem>,
}

#[derive(Serialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Changed,
    Unchanged,
    Failed,
}

/// Why a row failed.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceBatchProblem)]
struct ItemProblem {
    #[schema(value_type = String, format = "uri-reference")]
    r#type: String,
    errors: Vec<Fault>,
}

/// How far a price moved.
#[derive(Serialize, ToSchema)]
#[schema(as = PriceMove)]
struct Moved {
    #[schema(value_type = u64)]
    product_id: ProductId,
    #[schema(value_type = String)]
    sku: Sku,
    #[schema(required, value_type = Option<schemas::Price>)]
    from: Option<Money>,
    #[schema(value_type = schemas::Price)]
    to: Money,
    /// `percent`, or why there is none: `currency` (another than before), `from_zero`, `first_price`.
    kind: &'static str,
    /// Of the price before, with a sign and two digits after the point, such as `-11.76`.
    #[schema(required)]
    percent: Option<String>,
}

/// Set many prices
///
/// One transaction: a read after the answer shows every price that was changed. Rows that cannot be applied refuse all, or
/// with `on_error=skip_failed` themselves alone. A product may stand in one row only. With `dry_run=true` everything is
/// judged as it would be and nothing is changed. A price that is there already is `unchanged`, also where `if_version` is
/// another. As CSV: the header `sku,amount,currency` or `product_id,amount,currency`, and `if_version` and `reason` where
/// they are wanted.
#[utoipa::path(
    post, path = "/v1/prices/batch", operation_id = "setPrices", tag = "prices", params(BatchQuery, Repeatable),
    request_body(content(
        (NewPrices = "application/json", example = json!({
            "items": [{"sku": "85123A", "amount": "1.95", "currency": "GBP", "reason": "last pieces"}], "reason": "january sale"
        })),
        (schemas::PricesCsv = "text/csv", example = "sku,amount,currency\n85123A,1.95,GBP\n"),
    )),
    responses(
        (status = 200, description = "All rows are applied, or would be.", body = Answer),
        (status = 207, description = "Some are, with `on_error=skip_failed`.", body = Answer),
        (status = 409, description = "`request-in-progress`", headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`, with every fault of every row, or `idempotency-key-reused`; nothing was changed"),
    ),
)]
pub(crate) async fn set(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [on_error, dry_run] = query::parameters(&request, ["on_error", "dry_run"])?;
    let (on_error, dry_run) = (parse_on_error(on_error)?, parse_flag("dry_run", dry_run)?);
    conditions::refuse_if_match(&request, "If-Match is of one product; give if_version with each row")?;
    let (bytes, bulk) = body::bulk(&request, payload, state.time_limit).await?;
    let asked = match bulk {
        Bulk::Json(json) => of_json(json)?,
        Bulk::Csv(text) => of_csv(&text)?,
    };
    let key = idempotency::key(&request, "POST /v1/prices/batch", &bytes)?;
    // A row that cannot be read refuses all, but what is wrong with the others is told with it.
    let refused = on_error == OnError::RejectAll && asked.rows.iter().any(Result::is_err);
    let batch = Batch {
        id: Uuid::new_v4(),
        rows: asked.sound(),
        reason: asked.reason.clone(),
        actor: access::caller(&request),
        on_error,
        max_change: None,
        dry_run: dry_run || refused,
    };
    let request = Arc::new(BatchRequest { id: batch.id, asked, on_error, dry_run });
    let done = if batch.rows.is_empty() {
        Done::Now(BatchSet { rows: Vec::new(), applied: false })
    } else {
        let request = request.clone();
        let answer = move |set: &BatchSet| request.answer(set).expect("what was applied is not refused");
        let once = key.map(|key| Once::new(key, answer));
        state.write(state.ready()?.catalog.set_prices(batch, once)).await??
    };
    let done = match done {
        Done::Now(set) => Done::Now(request.answer(&set)?),
        Done::Before(answer) => Done::Before(answer),
    };
    Ok(answers::of(done, Clone::clone))
}

/// A batch as it was asked for.
struct BatchRequest {
    id: Uuid,
    asked: Asked,
    on_error: OnError,
    dry_run: bool,
}

impl BatchRequest {
    /// # Errors
    /// [`ApiError::Invalid`] where nothing was to be applied, with all faults.
    fn answer(&self, set: &BatchSet) -> Result<catalog::Answer, ApiError> {
        let items = items(&self.asked, set.rows.clone());
        let count = |status| items.iter().filter(|item| item.status == status).count();
        let counts = Counts { changed: count(Status::Changed), unchanged: count(Status::Unchanged), failed: count(Status::Failed) };
        if counts.failed > 0 && (self.on_error == OnError::RejectAll || counts.failed == items.len()) {
            let faults = items.into_iter().filter_map(|item| item.problem).flat_map(|problem| problem.errors);
            return Err(ApiError::Invalid(faults.collect()));
        }
        let status = if counts.failed > 0 { StatusCode::MULTI_STATUS } else { StatusCode::OK };
        let batch = Some(self.id.to_string()).filter(|_| set.applied && counts.changed > 0);
        let body = Answer { batch, dry_run: self.dry_run, counts, items, biggest_moves: biggest_moves(&set.rows) };
        let body = serde_json::to_vec(&body).expect("a struct of texts and numbers always serialises");
        Ok(catalog::Answer { status: status.as_u16(), etag: None, location: None, body })
    }
}

fn parse_on_error(given: Option<String>) -> Result<OnError, ApiError> {
    match given.as_deref() {
        None | Some("reject_all") => Ok(OnError::RejectAll),
        Some("skip_failed") => Ok(OnError::SkipFailed),
        Some(other) => Err(ApiError::InvalidQuery(format!("on_error is {other:?}: write reject_all or skip_failed"))),
    }
}

fn parse_flag(name: &str, given: Option<String>) -> Result<bool, ApiError> {
    let wrong = |other: String| ApiError::InvalidQuery(format!("{name} is {other:?}: write true or false"));
    given.map_or(Ok(false), |text| text.parse().map_err(|_| wrong(text)))
}

/// One for each row of the request; `judged` has those that could be read.
fn items(asked: &Asked, judged: Vec<Judged>) -> Vec<Item> {
    let sound = asked.rows.iter().enumerate().filter(|(_, row)| row.is_ok()).map(|(place, _)| place).collect::<Vec<_>>();
    let mut judged = VecDeque::from(judged);
    let mut item = |(place, row): (usize, &Result<PriceRow, Vec<Fault>>)| match row {
        Ok(row) => {
            let judged = judged.pop_front().expect("every sound row was judged");
            let fault = fault(asked, place, row, &judged.verdict, &sound);
            item(judged, fault)
        }
        Err(faults) => unread(faults.clone()),
    };
    asked.rows.iter().enumerate().map(&mut item).collect()
}

fn item(judged: Judged, fault: Option<ItemProblem>) -> Item {
    let status = match judged.verdict {
        Verdict::Changed => Status::Changed,
        Verdict::Unchanged => Status::Unchanged,
        Verdict::Failed(_) => Status::Failed,
    };
    let Judged { product_id, sku, from, to, version, .. } = judged;
    Item { product_id, sku, from, to: Some(to), version, status, problem: fault }
}

fn unread(errors: Vec<Fault>) -> Item {
    let problem = ItemProblem { r#type: problem::path(&problem::VALIDATION_FAILED), errors };
    Item { product_id: None, sku: None, from: None, to: None, version: None, status: Status::Failed, problem: Some(problem) }
}

/// `sound` gives the place in the request of each row that was judged.
fn fault(asked: &Asked, place: usize, row: &PriceRow, verdict: &Verdict, sound: &[usize]) -> Option<ItemProblem> {
    let Verdict::Failed(fault) = verdict else { return None };
    let (named, kind) = (asked.name_of_product(place), &problem::VALIDATION_FAILED);
    let (field, detail, kind) = match fault {
        RowFault::Unknown => (named, row.product.unknown(), &problem::UNKNOWN_PRODUCT),
        RowFault::Twice(other) => (named, format!("is the product of {} too", asked.place(sound[*other])), kind),
        RowFault::Version(version) => ("if_version", format!("is another: the product has version {version}"), kind),
        RowFault::TooFar(change) => ("amount", format!("moves the price too far: {change}"), kind),
    };
    Some(ItemProblem { r#type: problem::path(kind), errors: vec![asked.fault(place, field, detail)] })
}

fn biggest_moves(rows: &[Judged]) -> Vec<Moved> {
    let changed = rows.iter().filter(|row| row.verdict == Verdict::Changed);
    let moves: Vec<_> = changed.map(|row| (Move::between(row.from, row.to), row)).collect();
    let moved = |(change, row): (Move, &Judged)| {
        let (product_id, sku) = (row.product_id?, row.sku.clone()?);
        Some(Moved { product_id, sku, from: row.from, to: row.to, kind: change.kind(), percent: change.percent_text() })
    };
    moves::biggest(moves, |(change, _)| *change).into_iter().filter_map(moved).collect()
}
