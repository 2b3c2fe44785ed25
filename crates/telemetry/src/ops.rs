//! The ops listener of a long-running program: `/livez`, `/readyz`, `/version` and `/metrics`.
//!
//! It answers from memory in milliseconds, asks no store, and has one thread and few connections of its own, so that
//! it goes on answering while the program is busy. Programs hang further routes on it, and wrap in [`admin`] those that
//! change something.

mod access;

use crate::health::{Health, Verdict};
use crate::instruments::Registry;
use crate::problem::{Problem, mark_answers};
use crate::scope::Scope;
use crate::tokens::Tokens;
use access::Site;
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, Route, guard, web};
use serde_json::{Value, json};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

pub use access::admin;

/// Open connections; scrapers, probes and operators are few.
const CONNECTIONS: usize = 128;
/// Longest wait for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes of a request body, unless a further route sets its own limit.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// A graceful stop waits this long for open requests.
const STOP_LIMIT_SECONDS: u64 = 1;

/// What the listener shows, and to whom.
#[derive(Clone)]
pub struct Ops {
    pub registry: Registry,
    pub health: Health,
    /// Asked for by admin routes, and by `/metrics` unless the listener is loopback; `None`: nobody is asked.
    pub tokens: Option<Tokens>,
}

/// Starts serving on `listener`; `more` adds routes. Call it inside a runtime, and spawn or await what it returns: the
/// server runs while that is polled, and ends at once when it is dropped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_ops(listener: TcpListener, ops: Ops, more: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> io::Result<Server> {
    let site = web::Data::new(Site { address: listener.local_addr()?, tokens: ops.tokens.clone() });
    let app = move || {
        App::new()
            .app_data(web::Data::new(ops.clone()))
            .app_data(site.clone())
            .app_data(web::PayloadConfig::new(BODY_LIMIT_BYTES))
            .wrap(from_fn(mark_answers))
            .configure(routes)
            .configure(&more)
            .default_service(web::to(unknown_route))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .worker_max_blocking_threads(1)
        .max_connections(CONNECTIONS)
        .client_request_timeout(HEAD_LIMIT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(STOP_LIMIT_SECONDS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(readable("/livez", web::to(livez)))
        .service(readable("/readyz", web::to(readyz)))
        .service(readable("/version", web::to(version)))
        .service(readable("/metrics", web::to(metrics)));
}

/// A resource that can only be read; other methods are told so.
fn readable(path: &str, handler: Route) -> Resource {
    let read = handler.guard(guard::Any(guard::Get()).or(guard::Head()));
    web::resource(path).route(read).default_service(web::to(method_not_allowed))
}

/// Alive is who can answer at all.
async fn livez(request: HttpRequest) -> HttpResponse {
    match flags(&request, &[]) {
        Ok(_) => text("ok"),
        Err(detail) => invalid_query(&request, detail),
    }
}

async fn readyz(request: HttpRequest, ops: web::Data<Ops>) -> HttpResponse {
    let verbose = match flags(&request, &["verbose"]) {
        Ok(set) => set.contains(&"verbose"),
        Err(detail) => return invalid_query(&request, detail),
    };
    let readiness = ops.health.readiness();
    let report = if verbose { json!(ops.health.report()) } else { json!({}) };
    match readiness.verdict {
        Verdict::Unready => unready(&request, readiness.why, report),
        _ if verbose => HttpResponse::Ok().json(report),
        verdict => text(verdict.as_str()),
    }
}

async fn version(request: HttpRequest, ops: web::Data<Ops>) -> HttpResponse {
    match flags(&request, &[]) {
        Ok(_) => HttpResponse::Ok().json(ops.registry.build()),
        Err(detail) => invalid_query(&request, detail),
    }
}

async fn metrics(request: HttpRequest, ops: web::Data<Ops>, site: web::Data<Site>) -> HttpResponse {
    if !site.is_loopback()
        && let Err(refused) = site.check(&request, Scope::MetricsRead)
    {
        return refused.answer(&request);
    }
    match flags(&request, &[]) {
        Ok(_) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(ops.registry.render()),
        Err(detail) => invalid_query(&request, detail),
    }
}

fn text(line: &str) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(format!("{line}\n"))
}

/// Which of the `known` parameters are set, each at most once and either bare or as a truth value.
///
/// # Errors
/// Any other parameter or value; says which.
fn flags(request: &HttpRequest, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let mut seen = Vec::new();
    let mut set = Vec::new();
    for parameter in request.query_string().split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = known.iter().copied().find(|known| *known == name);
        let name = name.ok_or_else(|| format!("unknown query parameter {parameter:?}; {}", knows(known)))?;
        if seen.contains(&name) {
            return Err(format!("the query parameter {name} is given twice"));
        }
        seen.push(name);
        match value {
            "" | "true" | "1" => set.push(name),
            "false" | "0" => {}
            _ => return Err(format!("the query parameter {name} takes true or false")),
        }
    }
    Ok(set)
}

fn knows(known: &[&str]) -> String {
    match known {
        [] => "this path takes none".to_owned(),
        known => format!("this path takes {}", known.join(", ")),
    }
}

fn invalid_query(request: &HttpRequest, detail: String) -> HttpResponse {
    let problem = Problem { slug: "invalid-query", title: "The query string is not valid", status: StatusCode::BAD_REQUEST, detail };
    problem.answer(request, json!({}))
}

fn unready(request: &HttpRequest, detail: String, report: Value) -> HttpResponse {
    let problem = Problem { slug: "unready", title: "Not ready", status: StatusCode::SERVICE_UNAVAILABLE, detail };
    let mut answer = problem.answer(request, report);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

async fn unknown_route(request: HttpRequest) -> HttpResponse {
    let detail = "there is nothing at this path".to_owned();
    let problem = Problem { slug: "unknown-route", title: "There is nothing at this path", status: StatusCode::NOT_FOUND, detail };
    problem.answer(&request, json!({}))
}

async fn method_not_allowed(request: HttpRequest) -> HttpResponse {
    let problem = Problem {
        slug: "method-not-allowed",
        title: "This path does not have that method",
        status: StatusCode::METHOD_NOT_ALLOWED,
        detail: "this path has only GET, HEAD".to_owned(),
    };
    let mut answer = problem.answer(&request, json!({}));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

#[cfg(test)]
mod tests;
