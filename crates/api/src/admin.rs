//! The admin routes of the ops listener: the queue, dead letters, the cache, and stock. What `inventoryctl` does, over HTTP.
//!
//! Both use the same functions of `storage`. All stand in one scope, so that who may use them is asked in one place.

mod checks;
mod lookup;
mod queue;
mod stock;
mod system;

use crate::console::{self, history::History};
use crate::error::ApiError;
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, query};
use crate::problem::Problem;
use crate::state::State;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Resource, Route, guard};
use domain::ProductId;
use domain::product::time_text;
use domain::view::Reason;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use storage::letters::{self, Outcome, Stopped};
use storage::mysql::dead_letters::{self, Group, Selection};
use storage::mysql::pause::{self, MOST_CHARS, Paused};
use storage::status::Account;
use storage::{Kind, flush};
use telemetry::config::parse_duration;
use telemetry::tokens::Caller;

pub(crate) use checks::Checks;
pub(crate) use system::Process;

/// How long a flush is waited for, unless the request says so, and at most.
const FLUSH_WAIT: Duration = Duration::from_secs(10);
const LONGEST_FLUSH_WAIT: Duration = Duration::from_secs(60);

/// How long a pause, a replay or a drop is waited for.
const OPERATION_LIMIT: Duration = Duration::from_secs(60);

/// Lines of a listing, unless the request says so, and at most.
const LISTED: u64 = 100;
const MOST_LISTED: u64 = 1_000;

/// Most ids of one request.
const MOST_IDS: usize = 10_000;

/// Puts the routes into the router of the ops listener.
pub(crate) fn configure(
    config: &mut ServiceConfig,
    state: Data<State>,
    process: Data<Process>,
    checks: Data<Checks>,
    history: Data<History>,
) {
    let scope = web::scope("/v1/admin")
        .app_data(state)
        .app_data(process)
        .app_data(checks)
        .app_data(history)
        .service(only(Method::GET, "/stream", web::to(console::stream)))
        .service(only(Method::GET, "/queue", web::to(queue::show)))
        .service(only(Method::POST, "/queue/pause", web::to(pause_queue)))
        .service(only(Method::POST, "/queue/resume", web::to(resume_queue)))
        .service(only(Method::POST, "/queue/flush", web::to(flush_queue)))
        .service(only(Method::GET, "/dead-letters", web::to(list_letters)))
        .service(only(Method::POST, "/dead-letters/replay", web::to(replay_letters)))
        .service(only(Method::POST, "/dead-letters/drop", web::to(drop_letters)))
        .service(only(Method::POST, "/cache/invalidate", web::to(invalidate_cache)))
        .service(only(Method::GET, "/products/lookup", web::to(lookup::lookup)))
        .service(checks::resource())
        .service(only(Method::GET, "/system", web::to(system::system)))
        .service(only(Method::GET, "/doctor", web::to(system::doctor)))
        .service(only(Method::GET, "/stock", web::to(stock::lowest)))
        .service(only(Method::GET, "/reservations", web::to(stock::reservations)))
        .default_service(web::to(async || Err::<HttpResponse, _>(ApiError::UnknownRoute)))
        .wrap(from_fn(write_refusals))
        .wrap(from_fn(telemetry::ops::admin));
    config.service(scope);
}

/// A resource with one method; GET answers HEAD too.
fn only(method: Method, path: &str, handler: Route) -> Resource {
    let (route, allow) = match method {
        Method::GET => (handler.guard(guard::Any(guard::Get()).or(guard::Head())), "GET, HEAD"),
        _ => (handler.guard(guard::Post()), "POST"),
    };
    let refuse = move || async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow: HeaderValue::from_static(allow) }) };
    web::resource(path).route(route).default_service(web::to(refuse))
}

/// Writes the body of a refusal, and logs once what is ours or a store's to mend. The public listener has its own layer.
async fn write_refusals(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = next.call(request).await?.map_into_boxed_body();
    let attached = response.response_mut().extensions_mut().remove::<Problem>();
    let Some(Problem { kind, detail, faults, more: _, source }) = attached else { return Ok(response) };
    if response.status().is_server_error() {
        tracing::warn!(path = response.request().path(), problem = kind.slug, source, "an admin request could not be served: {detail}");
    }
    // Who may see this listener may see the cause: the doctor tells it too.
    let detail = match source {
        Some(cause) if response.status() == StatusCode::SERVICE_UNAVAILABLE => format!("{detail} ({cause})"),
        _ => detail.into_owned(),
    };
    let members = if faults.is_empty() { json!({}) } else { json!({ "errors": faults }) };
    let problem = telemetry::problem::Problem { slug: kind.slug, title: kind.title, status: response.status(), detail };
    let mut answer = problem.answer(response.request(), members);
    for (name, value) in response.headers().iter().filter(|(name, _)| **name != CONTENT_TYPE) {
        answer.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(response.into_response(answer))
}

/// POST `/v1/admin/queue/pause`: once it is answered, no view is written to MySQL until the resume.
async fn pause_queue(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let reason = read_optional(body::optional_json(&request, payload, state.time_limit).await?, |reader| {
        reader.nullable("reason", fields::text_that(short_text))
    })?;
    let mysql = &state.stores()?.mysql;
    let (hold, changed) = within_limit(pause::pause(mysql, &caller(&request), reason.as_deref())).await?.map_err(of_store)?;
    Ok(HttpResponse::Ok().json(json!({"paused": hold_json(hold), "changed": changed})))
}

/// POST `/v1/admin/queue/resume`
async fn resume_queue(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    read_optional(body::optional_json(&request, payload, state.time_limit).await?, |_| None::<()>)?;
    let ended = within_limit(pause::resume(&state.stores()?.mysql)).await?.map_err(of_store)?;
    Ok(HttpResponse::Ok().json(json!({"paused": null, "changed": ended.is_some()})))
}

/// POST `/v1/admin/queue/flush?wait=10s`: 200 when all that was accepted before is in MySQL.
async fn flush_queue(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [wait] = query::parameters(&request, ["wait"])?;
    read_optional(body::optional_json(&request, payload, state.time_limit).await?, |_| None::<()>)?;
    let wait =
        wait.map_or(Ok(FLUSH_WAIT), |text| parse_duration(&text)).map_err(|fault| ApiError::InvalidQuery(format!("wait: {fault}")))?;
    if wait > LONGEST_FLUSH_WAIT {
        return Err(ApiError::InvalidQuery(format!("wait: must be at most {} s", LONGEST_FLUSH_WAIT.as_secs())));
    }
    let stores = state.stores()?;
    let took =
        flush::flush(&stores.mysql, &stores.redis, wait, |_| {}).await.map_err(|unfinished| ApiError::NotFlushed(Box::new(unfinished)))?;
    Ok(HttpResponse::Ok().json(json!({"flushed": true, "took_seconds": took.as_secs_f64()})))
}

/// GET `/v1/admin/dead-letters`: by reason and product, those with the most views first.
async fn list_letters(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [reason, product_id, limit, all] = query::parameters(&request, ["reason", "product_id", "limit", "all"])?;
    let invalid = ApiError::InvalidQuery;
    let limit = listed(limit, LISTED)?;
    let all = flag("all", all, false)?;
    let reason = reason.map(|text| letter_reason(&text).map_err(|fault| invalid(format!("reason {fault}")))).transpose()?;
    let whole = |text: String| text.parse().map_err(|_| invalid(format!("product_id must be a whole number from 0 to {}", u64::MAX)));
    let product_id = product_id.map(whole).transpose()?;
    let selection = Selection { ids: None, reason, product_id };
    let mysql = &state.stores()?.mysql;
    let mut groups = state.read(dead_letters::groups(mysql, &selection, all, limit + 1)).await?.map_err(of_read)?;
    let more = groups.len() as u64 > limit;
    groups.truncate(limit as usize);
    let data: Vec<Value> = groups.into_iter().map(group_json).collect();
    Ok(HttpResponse::Ok().json(json!({"data": data, "more": more})))
}

/// POST `/v1/admin/dead-letters/replay`: a repeat counts nothing twice.
async fn replay_letters(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let (selection, dry_run) = selection(body::json(&request, payload, state.time_limit).await?, true)?;
    let stores = state.stores()?;
    let outcome = within_limit(letters::replay(&stores.mysql, &stores.redis, &selection, dry_run, |_| {})).await?;
    answer(outcome, dry_run)
}

/// POST `/v1/admin/dead-letters/drop`: they stay in the account as dead.
async fn drop_letters(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let (selection, _) = selection(body::json(&request, payload, state.time_limit).await?, false)?;
    let outcome = within_limit(letters::drop_all(&state.stores()?.mysql, &selection)).await?;
    answer(outcome, false)
}

/// POST `/v1/admin/cache/invalidate`: the next read of each product asks MySQL. The cure after a restored backup, and safe at
/// any time: see `storage/src/redis/invalidate.rs`.
async fn invalidate_cache(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let which = cached(body::json(&request, payload, state.time_limit).await?)?;
    let redis = &state.stores()?.redis;
    let dropped = match &which {
        Some(ids) => within_limit(redis.drop_entries(&redis.cache.session().map_err(of_read)?, ids)).await?,
        None => within_limit(redis.drop_all_entries()).await?,
    };
    // Some may be dropped, whatever came then.
    let unknown = |error: storage::Error| match error.kind() {
        Kind::Unavailable => ApiError::OutcomeUnknown(Box::new(error)),
        _ => of_store(error),
    };
    Ok(HttpResponse::Ok().json(json!({"dropped": dropped.map_err(unknown)?})))
}

/// Past the limit only the waiting ends: a transaction in hand is never cancelled.
async fn within_limit<T>(work: impl Future<Output = T>) -> Result<T, ApiError> {
    let late = |_| ApiError::OutcomeUnknown(format!("no answer within {OPERATION_LIMIT:?}").into());
    tokio::time::timeout(OPERATION_LIMIT, work).await.map_err(late)
}

fn answer(outcome: Outcome, dry_run: bool) -> Result<HttpResponse, ApiError> {
    match outcome.stopped {
        Some(Stopped::Paused(hold)) => {
            return Err(ApiError::QueuePaused { hold, replayed: if dry_run { 0 } else { outcome.done } });
        }
        // What was done before stays done, so "nothing was changed" would be wrong.
        Some(Stopped::Store(error)) if outcome.done > 0 => return Err(ApiError::OutcomeUnknown(Box::new(error))),
        Some(Stopped::Store(error)) => return Err(of_store(error)),
        None => {}
    }
    let told: Vec<Value> = outcome.told.into_iter().map(|(id, why)| json!({"id": id, "detail": why})).collect();
    Ok(HttpResponse::Ok().json(json!({
        "done": outcome.done,
        "views": outcome.views,
        "already": outcome.already,
        "refused": outcome.refused,
        "missing": outcome.missing,
        "dry_run": dry_run,
        "told": told,
    })))
}

fn of_store(error: storage::Error) -> ApiError {
    catalog::Error::from(error).into()
}

/// A read whose answer was lost changed nothing.
fn of_read(error: storage::Error) -> ApiError {
    match error.kind() {
        Kind::Unknown => ApiError::Unavailable(Box::new(error)),
        _ => of_store(error),
    }
}

/// The same of a read through the catalogue.
fn of_catalog(error: catalog::Error) -> ApiError {
    match error {
        catalog::Error::Unknown(error) => ApiError::Unavailable(Box::new(error)),
        error => error.into(),
    }
}

/// Reads that take longer than a request may: they are dropped at the limit.
async fn within<T>(limit: Duration, read: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(limit, read).await.map_err(|_| ApiError::TimedOut)
}

fn account_json(account: Account) -> Value {
    json!({
        "accepted": account.accepted,
        "persisted": account.persisted,
        "pending": account.pending,
        "dead": account.dead,
        "lost": account.lost,
        "twice": account.twice(),
    })
}

pub(crate) fn hold_json(hold: Paused) -> Value {
    json!({"since": time_text(hold.since), "by": hold.by, "reason": hold.reason})
}

fn group_json(group: Group) -> Value {
    json!({
        "state": group.state,
        "reason": group.reason,
        "product_id": group.product_id,
        "product_exists": group.product_exists,
        "letters": group.letters,
        "views": group.views,
        "oldest": time_text(group.oldest),
        "newest": time_text(group.newest),
    })
}

/// Who calls, as far as the listener knows.
fn caller(request: &HttpRequest) -> String {
    let named = request.extensions().get::<Caller>().map(|caller| caller.0.to_string());
    let peer = || request.peer_addr().map_or_else(|| "somebody".to_owned(), |peer| peer.ip().to_string());
    let name: String = named.unwrap_or_else(peer).chars().take(MOST_CHARS / 2).collect();
    format!("{name} through the admin API")
}

/// The fields of a body that may be left out.
fn read_optional<T>(body: Option<Json>, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<Option<T>, ApiError> {
    let Some(body) = body else { return Ok(None) };
    let mut faults = Faults::default();
    let found = Reader::new(body, String::new(), &mut faults).map(|mut reader| {
        let found = read(&mut reader);
        reader.finish();
        found
    });
    faults.into_result(found)
}

/// Which letters a body means: `ids`, or `all`, or `reason` and `product_id`; and `dry_run` where it is known.
fn selection(body: Json, with_dry_run: bool) -> Result<(Selection, bool), ApiError> {
    let mut faults = Faults::default();
    let read = Reader::new(body, String::new(), &mut faults).map(|mut reader| {
        let ids = reader.optional_list("ids", MOST_IDS, fields::whole_number(1..=u64::MAX)).map(BTreeSet::from_iter);
        let all = reader.optional("all", fields::flag).unwrap_or(false);
        let reason = reader.optional("reason", |value| letter_reason(&fields::text(value)?));
        let product_id = reader.optional("product_id", fields::whole_number(0..=u64::MAX));
        let dry_run = if with_dry_run { reader.optional("dry_run", fields::flag) } else { None };
        reader.finish();
        (Selection { ids, reason, product_id }, all, dry_run.unwrap_or(false))
    });
    let (selection, all, dry_run) = faults.into_result(read)?;
    let ways = [selection.ids.is_some(), all, selection.reason.is_some() || selection.product_id.is_some()];
    if ways.iter().filter(|way| **way).count() == 1 {
        return Ok((selection, dry_run));
    }
    let mut faults = Faults::default();
    faults.add("", "must say which letters: either ids, or all, or reason and product_id");
    faults.into_result(None)
}

/// Whose entries a body means: `product_ids`, or `all` (`None`).
fn cached(body: Json) -> Result<Option<Vec<ProductId>>, ApiError> {
    let mut faults = Faults::default();
    let read = Reader::new(body, String::new(), &mut faults).map(|mut reader| {
        let ids: Option<BTreeSet<ProductId>> = reader.optional_list("product_ids", MOST_IDS, fields::product_id).map(BTreeSet::from_iter);
        let all = reader.optional("all", fields::flag).unwrap_or(false);
        reader.finish();
        (ids.map(Vec::from_iter), all)
    });
    let (ids, all) = faults.into_result(read)?;
    if ids.is_some() != all {
        return Ok(ids);
    }
    let mut faults = Faults::default();
    faults.add("", "must say which products: either product_ids, or all");
    faults.into_result(None)
}

/// How many lines a listing is to have.
fn listed(limit: Option<String>, default: u64) -> Result<u64, ApiError> {
    let Some(text) = limit else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST_LISTED).contains(limit));
    limit.ok_or_else(|| ApiError::InvalidQuery(format!("limit must be a whole number from 1 to {MOST_LISTED}")))
}

/// A parameter that is `true` or `false`.
fn flag(name: &str, text: Option<String>, default: bool) -> Result<bool, ApiError> {
    match text.as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(ApiError::InvalidQuery(format!("{name} must be true or false"))),
    }
}

fn letter_reason(text: &str) -> Result<Reason, String> {
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
    reason.ok_or_else(|| format!("must be one of {}", Reason::ALL.map(Reason::as_str).join(", ")))
}

fn short_text(text: String) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > MOST_CHARS || text.chars().any(char::is_control) {
        return Err(format!("must have 1 to {MOST_CHARS} characters and no control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Selection, bool), Vec<String>> {
        selection(Json::parse(body.as_bytes()).unwrap(), true).map_err(|error| match error {
            ApiError::Invalid(faults) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_body_says_in_one_way_which_letters_are_meant() {
        assert_eq!(read(r#"{"all":true}"#), Ok((Selection::default(), false)));
        let ids = Selection { ids: Some(BTreeSet::from([1, 7])), ..Selection::default() };
        assert_eq!(read(r#"{"ids":[7,1,7],"dry_run":true}"#), Ok((ids, true)));
        let both = Selection { ids: None, reason: Some(Reason::OutOfRange), product_id: Some(0) };
        assert_eq!(read(r#"{"reason":"out_of_range","product_id":0}"#), Ok((both, false)));
        for nothing in ["{}", r#"{"all":false}"#, r#"{"all":true,"ids":[1]}"#, r#"{"all":true,"product_id":1}"#, "{\"dry_run\":true}"] {
            assert_eq!(read(nothing), Err(vec![String::new()]), "{nothing}");
        }
        for (body, pointer) in [
            (r#"{"ids":[]}"#, "/ids"),
            (r#"{"ids":[1,"1"]}"#, "/ids/1"),
            (r#"{"ids":1}"#, "/ids"),
            (r#"{"reason":"bad"}"#, "/reason"),
            (r#"{"all":1}"#, "/all"),
            (r#"{"all":true,"yes":true}"#, "/yes"),
        ] {
            assert_eq!(read(body), Err(vec![pointer.to_owned()]), "{body}");
        }
    }
}
