//! `inventoryctl check` over HTTP: a sample of products, the account of views, and the stock of that sample.
//!
//! Promises to change nothing, and that a process runs one check at a time.

use super::{account_json, of_catalog, of_read, read_optional, within};
use crate::error::ApiError;
use crate::input::{body, fields, query};
use crate::state::{State, Stores};
use actix_web::http::header::HeaderValue;
use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse, Resource, guard};
use catalog::check::Checker;
use catalog::{Catalog, Shown};
use checks::products::{Found, Places};
use checks::{MOST_TOLD, account, pieces, stock};
use chrono::Utc;
use domain::ProductId;
use domain::product::time_text;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use storage::conservation::Fault;
use storage::mysql::product_sample;
use storage::mysql::stock_checks::Figures;
use storage::status;

/// Products of one check, unless the request says so, and at most.
const SAMPLE: u32 = 200;
const MOST_SAMPLED: u64 = 1_000;

/// How long a check may take. Where everything differs, products and account are looked at for four seconds each; the rest is for
/// stores that are slow.
const RUN_LIMIT: Duration = Duration::from_secs(90);

/// Faults of views, and products with faults of stock, that are told in words; differences of products take what is left.
const MOST_FAULTS_TOLD: usize = 5;

/// The checks of this process.
#[derive(Default)]
pub(crate) struct Checks {
    /// Locked while one runs.
    running: tokio::sync::Mutex<()>,
    last: Mutex<Option<Report>>,
}

impl Checks {
    fn last(&self) -> MutexGuard<'_, Option<Report>> {
        // It is replaced as a whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
struct Report {
    /// When it began.
    at: String,
    took_seconds: f64,
    products_compared: u64,
    found_in_redis: u64,
    mismatches: u64,
    earlier_keys: u64,
    account_faults: u64,
    stock_faults: u64,
    /// The first of them, in words.
    told: Vec<String>,
}

/// What was found by the last check, and a check that is to be run.
pub(super) fn resource() -> Resource {
    let refuse = async || Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow: HeaderValue::from_static("GET, HEAD, POST") });
    web::resource("/checks")
        .route(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(last))
        .route(web::post().to(run))
        .default_service(web::to(refuse))
}

/// GET `/v1/admin/checks`
async fn last(request: HttpRequest, state: Data<State>, checks: Data<Checks>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let stores = state.stores()?;
    let (account, _) = state.read(status::account(&stores.mysql, &stores.redis)).await?.map_err(of_read)?;
    let mut told = account_json(account);
    told["drift"] = json!(account.drift());
    Ok(HttpResponse::Ok().json(json!({"account": told, "last": *checks.last()})))
}

/// POST `/v1/admin/checks`: runs one, and answers what it found.
async fn run(request: HttpRequest, payload: Payload, state: Data<State>, checks: Data<Checks>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let body = body::optional_json(&request, payload, state.time_limit).await?;
    let sample = read_optional(body, |reader| reader.optional("sample", fields::whole_number(1..=MOST_SAMPLED)))?;
    let sample = sample.and_then(|sample| u32::try_from(sample).ok()).unwrap_or(SAMPLE);
    let stores = state.stores()?;
    let _running = checks.running.try_lock().map_err(|_| ApiError::CheckRunning)?;
    let report = within(RUN_LIMIT, check(stores, sample)).await?.map_err(of_catalog)?;
    *checks.last() = Some(report.clone());
    Ok(HttpResponse::Ok().json(report))
}

async fn check(stores: &Stores, sample: u32) -> Result<Report, catalog::Error> {
    let (at, started) = (time_text(Utc::now()), Instant::now());
    let ids = product_sample::sample(&stores.mysql, sample).await?;
    let places = places(stores);
    let found = places.settled(&ids).await?;
    let count = |is: fn(&Found) -> bool| found.iter().filter(|found| is(found)).count() as u64;
    let differing = found.iter().filter(|found| found.differs()).map(|found| format!("product {}: {}", found.id, found.in_words()));
    let differing: Vec<_> = differing.collect();
    let earlier_keys = places.checker.earlier_keys(false).await?;
    let of_views = account::faults(&stores.mysql, &stores.redis, false).await?;
    let look = stock::Look::begin(&stores.mysql, false).await?;
    let mut of_stock = Vec::new();
    for piece in pieces(&ids) {
        of_stock.extend(look.uneven(&piece).await?);
    }
    Ok(Report {
        at,
        took_seconds: started.elapsed().as_secs_f64(),
        products_compared: count(Found::is_compared),
        found_in_redis: count(|found| found.sides.is_cached()),
        mismatches: differing.len() as u64,
        earlier_keys,
        account_faults: of_views.len() as u64,
        stock_faults: of_stock.len() as u64,
        told: told(&of_views, &of_stock, differing),
    })
}

/// At most [`MOST_TOLD`] lines: faults are rarer than differences, and weigh more.
fn told(of_views: &[Fault], of_stock: &[Figures], differing: Vec<String>) -> Vec<String> {
    let views = of_views.iter().take(MOST_FAULTS_TOLD).map(ToString::to_string);
    let figures = of_stock.iter().take(MOST_FAULTS_TOLD).map(ToString::to_string);
    let cures: BTreeSet<_> = of_stock.iter().flat_map(Figures::violated).map(stock::cure).collect();
    views.chain(figures).chain(cures.into_iter().map(str::to_owned)).chain(differing).take(MOST_TOLD).collect()
}

/// MySQL, Redis and the API, which is asked as a request asks it, but for HTTP.
pub(super) fn places(stores: &Stores) -> Places<impl AsyncFn(&[ProductId]) -> Result<Vec<Value>, catalog::Error>> {
    let checker = Checker::new(stores.mysql.clone(), stores.redis.clone());
    Places { checker, api: async |ids: &[ProductId]| answers(&stores.catalog, ids).await }
}

async fn answers(catalog: &Catalog, ids: &[ProductId]) -> Result<Vec<Value>, catalog::Error> {
    // A record that cannot be read is one without fields.
    let answer = |Shown { id, record, .. }| {
        let record = record?;
        Some(serde_json::from_slice(&record.json).unwrap_or_else(|_| json!({ "id": id })))
    };
    Ok(catalog.products(ids).await?.into_iter().filter_map(answer).collect())
}
