//! The ops listener of a long-running program: `/livez`, `/readyz`, `/version` and `/metrics`.
//!
//! It answers from memory in milliseconds, asks no store, and has one thread and few connections of its own, so that
//! it goes on answering while the program is busy. Programs hang further routes on it.

use crate::health::{Health, Verdict};
use crate::instruments::Registry;
use crate::problem::{Problem, mark_answers};
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, Route, guard, web};
use serde_json::{Value, json};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// Open connections; scrapers, probes and operators are few.
const CONNECTIONS: usize = 128;
/// Longest wait for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes of a request body, unless a further route sets its own limit.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// A graceful stop waits this long for open requests.
const STOP_LIMIT_SECONDS: u64 = 1;

/// What the listener shows.
#[derive(Debug, Clone)]
pub struct Ops {
    pub registry: Registry,
    pub health: Health,
}

/// Starts serving on `listener`; `more` adds routes. Call it inside a runtime, and spawn or await what it returns: the
/// server runs while that is polled, and ends at once when it is dropped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_ops(listener: TcpListener, ops: Ops, more: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> io::Result<Server> {
    let app = move || {
        App::new()
            .app_data(web::Data::new(ops.clone()))
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

async fn metrics(request: HttpRequest, ops: web::Data<Ops>) -> HttpResponse {
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
mod tests {
    use super::*;
    use crate::health::{Role, State};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    struct Answer {
        status: u16,
        head: String,
        body: String,
    }

    impl Answer {
        fn json(&self) -> Value {
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
        }

        /// Checks the form that every refusal has.
        fn problem(&self, slug: &str) -> Value {
            assert!(self.head.contains("content-type: application/problem+json\r\n"), "{}", self.head);
            let problem = self.json();
            assert_eq!((&problem["type"], &problem["status"]), (&json!(format!("/problems/{slug}")), &json!(self.status)));
            assert!(self.head.contains(&format!("x-request-id: {}\r\n", problem["request_id"].as_str().unwrap())), "{}", self.head);
            problem
        }
    }

    fn start(role: Role) -> (SocketAddr, Health) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::new(role);
        let ops = Ops { registry: Registry::new("test"), health: health.clone() };
        let more = |config: &mut web::ServiceConfig| {
            config.route("/more", web::get().to(async || "more"));
        };
        tokio::spawn(serve_ops(listener, ops, more).unwrap());
        (address, health)
    }

    async fn ask(address: SocketAddr, method: &str, target: &str) -> Answer {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { status: head[9..12].parse().unwrap(), head: format!("{}\r\n", head.to_lowercase()), body: body.to_owned() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_api_tells_its_readiness_as_its_stores_come_and_go() {
        let (address, health) = start(Role::Api);
        let answer = ask(address, "GET", "/readyz").await;
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("retry-after: 1\r\n"));
        assert_eq!(answer.problem("unready")["detail"], "mysql is awaited: the first contact; redis is awaited: the first contact");
        health.mysql(State::Up);
        assert_eq!(ask(address, "GET", "/readyz").await.body, "degraded\n");
        health.redis(State::Up);
        let answer = ask(address, "GET", "/readyz").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
        health.set_draining();
        let answer = ask(address, "GET", "/readyz?verbose").await;
        assert_eq!((answer.status, answer.problem("unready")["draining"].clone()), (503, json!(true)));
        assert_eq!(ask(address, "GET", "/livez").await.body, "ok\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_verbose_readiness_shows_each_store_and_the_facts() {
        let (address, health) = start(Role::Worker);
        health.mysql(State::Up);
        health.redis(State::Up);
        health.fact("plain SQL", "binlog tail off");
        let answer = ask(address, "GET", "/readyz?verbose").await;
        assert_eq!(answer.status, 200);
        let report = answer.json();
        assert_eq!((&report["readiness"], &report["facts"]["plain SQL"]), (&json!("ready"), &json!("binlog tail off")));
        assert_eq!(report["components"]["redis"]["state"], "up");
        assert_eq!(ask(address, "GET", "/readyz?verbose=false").await.body, "ready\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn metrics_and_version_are_shown_and_never_stored() {
        let (address, _) = start(Role::Worker);
        let metrics = ask(address, "GET", "/metrics").await;
        assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
        assert!(metrics.head.contains("cache-control: no-store\r\n"), "{}", metrics.head);
        assert!(metrics.body.contains("binary=\"test\""), "{}", metrics.body);
        let version = ask(address, "GET", "/version").await.json();
        assert_eq!((&version["version"], &version["binary"]), (&json!(env!("CARGO_PKG_VERSION")), &json!("test")));
        assert!(version["commit"].is_string());
        let head = ask(address, "HEAD", "/livez").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(ask(address, "GET", "/more").await.body, "more");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_not_there_is_refused_as_a_problem() {
        let (address, _) = start(Role::Worker);
        let missing = ask(address, "GET", "/metricz?x=1").await;
        assert_eq!((missing.status, &missing.problem("unknown-route")["instance"]), (404, &json!("/metricz")));
        let wrong = ask(address, "POST", "/metrics").await;
        assert!(wrong.head.contains("allow: get, head\r\n"), "{}", wrong.head);
        assert_eq!(wrong.status, 405);
        wrong.problem("method-not-allowed");
        for target in
            ["/readyz?verbos", "/readyz?verbose&verbose", "/readyz?verbose=maybe", "/livez?x", "/version?verbose", "/metrics?name=%22"]
        {
            let answer = ask(address, "GET", target).await;
            assert_eq!(answer.status, 400, "{target}");
            answer.problem("invalid-query");
        }
    }
}
