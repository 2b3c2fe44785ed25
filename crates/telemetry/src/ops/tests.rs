//! The ops listener as a client meets it.

use super::*;
use crate::health::{Role, State};
use crate::tokens::{Caller, Digest};
use actix_web::HttpMessage;
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
    start_on("127.0.0.1:0", role, None)
}

fn start_on(address: &str, role: Role, tokens: Option<Tokens>) -> (SocketAddr, Health) {
    let listener = TcpListener::bind(address).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let health = Health::new(role);
    let ops = Ops { registry: Registry::new("test"), health: health.clone(), tokens };
    let more = |config: &mut web::ServiceConfig| {
        let changed = async |request: HttpRequest| request.extensions().get::<Caller>().map_or("nobody".into(), |by| by.0.to_string());
        let admin = web::scope("/v1/admin").wrap(from_fn(admin)).route("/change", web::post().to(changed));
        config.route("/more", web::get().to(async || "more")).service(admin);
    };
    tokio::spawn(serve_ops(listener, ops, more).unwrap());
    (address, health)
}

async fn ask(address: SocketAddr, method: &str, target: &str) -> Answer {
    ask_with(address, method, target, "host: test").await
}

async fn ask_with(address: SocketAddr, method: &str, target: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n");
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

/// Tokens whose secrets are `inv_scraper` and `inv_boss`.
fn tokens(test: &str) -> Tokens {
    let entry = |name: &str, scope: &str| {
        let hash = Digest::of(format!("inv_{name}").as_bytes()).hex();
        format!("[[token]]\nname = \"{name}\"\nscopes = [\"{scope}\"]\nsha256 = \"{hash}\"\n")
    };
    let file = std::env::temp_dir().join(format!("telemetry-ops-{test}-{}", std::process::id()));
    std::fs::write(&file, entry("scraper", "metrics:read") + &entry("boss", "admin")).unwrap();
    let tokens = Tokens::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn metrics_are_open_on_loopback_and_elsewhere_for_those_who_may_read_them() {
    let (open, _) = start_on("127.0.0.1:0", Role::Api, Some(tokens("open")));
    assert_eq!(ask(open, "GET", "/metrics").await.status, 200);
    let (address, _) = start_on("0.0.0.0:0", Role::Api, Some(tokens("metrics")));
    let missing = ask(address, "GET", "/metrics").await;
    assert!(missing.head.contains("www-authenticate: bearer realm=\"inventory\"\r\n"), "{}", missing.head);
    missing.problem("missing-token");
    let with = async |secret: &str| ask_with(address, "GET", "/metrics", &format!("host: x\r\nauthorization: Bearer {secret}")).await;
    assert_eq!(with("inv_scraper").await.status, 200);
    let unknown = with("inv_nobody").await;
    assert!(unknown.head.contains("error=\"invalid_token\""), "{}", unknown.head);
    assert_eq!((unknown.status, with("inv_boss").await.status), (401, 403));
    with("inv_boss").await.problem("missing-scope");
    for path in ["/livez", "/version"] {
        assert_eq!(ask(address, "GET", path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn admin_routes_are_for_admins_alone() {
    let (address, _) = start_on("127.0.0.1:0", Role::Api, Some(tokens("admin")));
    let change = async |headers: &str| ask_with(address, "POST", "/v1/admin/change", &format!("host: {address}{headers}")).await;
    assert_eq!(change("\r\nauthorization: Bearer inv_boss").await.body, "boss");
    for (headers, status, slug) in [
        ("", 401, "missing-token"),
        ("\r\nauthorization: Bearer inv_nobody", 401, "invalid-token"),
        ("\r\nauthorization: Bearer inv_scraper", 403, "missing-scope"),
        ("\r\nauthorization: Bearer inv_boss\r\norigin: http://shop.example", 403, "foreign-origin"),
    ] {
        let refused = change(headers).await;
        assert_eq!(refused.status, status, "{headers}");
        refused.problem(slug);
    }
    assert_eq!(ask_with(address, "POST", "/v1/admin/none", &format!("host: {address}")).await.status, 401, "nothing is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_tokens_admin_routes_are_kept_from_web_pages() {
    let (address, _) = start(Role::Api);
    let port = address.port();
    let change = async |headers: String| ask_with(address, "POST", "/v1/admin/change", &headers).await;
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        assert_eq!(change(format!("host: {host}")).await.body, "nobody", "{host}");
        assert_eq!(change(format!("host: {host}\r\norigin: http://{host}")).await.status, 200, "{host}");
    }
    for host in [format!("shop.example:{port}"), "localhost:1".into(), "localhost".into(), "test".into()] {
        let refused = change(format!("host: {host}")).await;
        assert_eq!(refused.status, 421, "{host}");
        refused.problem("wrong-host");
    }
    for origin in ["http://shop.example", "null", "http://localhost:1", &format!("https://127.0.0.1:{port}"), ""] {
        let refused = change(format!("host: 127.0.0.1:{port}\r\norigin: {origin}")).await;
        assert_eq!(refused.status, 403, "{origin}");
        refused.problem("foreign-origin");
    }
}
