//! The behaviour of the API that needs no store: what is refused, how a refusal looks, what every answer carries.

use crate::application::{Shared, app};
use crate::problem;
use crate::state::Limits;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode, header};
use actix_web::test::{self, TestRequest};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use telemetry::metrics::{IngestMetrics, Registry};

const JSON: &str = "application/json";

struct Server {
    shared: Shared,
    registry: Registry,
}

/// One that has not reached its stores.
fn server() -> Server {
    let registry = Registry::new("inventory-api");
    let views = Arc::new(IngestMetrics::new(&registry));
    let limits = Limits { time_limit: Duration::from_millis(200), reservation_ttl: (Duration::from_secs(60), Duration::from_secs(600)) };
    Server { shared: Shared::new(&registry, limits, views, None, None), registry }
}

impl Server {
    async fn send(&self, request: TestRequest) -> ServiceResponse<BoxBody> {
        let app = test::init_service(app(&self.shared)).await;
        test::call_service(&app, request.to_request()).await
    }
}

async fn send(request: TestRequest) -> ServiceResponse<BoxBody> {
    server().send(request).await
}

fn request(method: &str, path: &str) -> TestRequest {
    TestRequest::with_uri(path).method(Method::from_bytes(method.as_bytes()).unwrap())
}

fn with_body(method: &str, path: &str, content_type: &'static str, body: impl Into<actix_web::web::Bytes>) -> TestRequest {
    let body = body.into();
    request(method, path)
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_LENGTH, body.len()))
        .set_payload(body)
}

/// Checks the form that every problem has, and returns status, slug and body.
async fn problem(response: ServiceResponse<BoxBody>) -> (u16, String, Value) {
    let status = response.status();
    let head = response.headers().clone();
    assert_eq!(head.get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
    let path = response.request().path().to_owned();
    let body: Value = test::read_body_json(response).await;
    assert_eq!(body["status"], status.as_u16(), "{body}");
    assert_eq!(body["instance"], path, "{body}");
    assert_eq!(body["request_id"], head.get("x-request-id").unwrap().to_str().unwrap(), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    assert_eq!(head.contains_key(header::RETRY_AFTER), status == StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let slug = body["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned();
    let kind = problem::ALL.iter().find(|kind| kind.slug == slug).unwrap();
    assert_eq!(body["title"], kind.title);
    assert_eq!(kind.status, status.as_u16());
    (status.as_u16(), slug, body)
}

async fn refused(request: TestRequest) -> (u16, String) {
    let (status, slug, _) = problem(send(request).await).await;
    (status, slug)
}

fn is(status: u16, slug: &str) -> (u16, String) {
    (status, slug.to_owned())
}

#[tokio::test]
async fn unknown_paths_are_problems() {
    for path in
        ["/", "/v1", "/v1/", "/v1/products/", "/v1/products/1/", "/V1/products/1", "/v1/products/1/nothing", "/problems/nothing", "//"]
    {
        assert_eq!(refused(request("GET", path)).await, is(404, "unknown-route"), "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_which_ones_there_are() {
    for (method, path, allow) in [
        ("POST", "/v1/products/1", "GET, HEAD"),
        ("OPTIONS", "/v1/products/1", "GET, HEAD"),
        ("PUT", "/v1/products/1/views", "GET, HEAD, POST"),
        ("POST", "/v1/products/1/price", "GET, HEAD, PUT"),
        ("HEAD", "/v1/views", "POST"),
        ("DELETE", "/v1/products", "GET, HEAD, POST"),
        ("BREW", "/problems/starting", "GET, HEAD"),
    ] {
        let response = send(request(method, path)).await;
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), allow, "{method} {path}");
        assert_eq!(problem(response).await.0, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn an_id_that_no_product_can_have_is_refused() {
    let ids = "0 -1 abc 1.0 9007199254740992 18446744073709551616 %00 %ff 1%20 %D9%A3";
    for id in ids.split_whitespace() {
        for (method, rest) in [("GET", ""), ("PUT", "/price"), ("POST", "/views")] {
            let path = format!("/v1/products/{id}{rest}");
            assert_eq!(refused(request(method, &path)).await, is(400, "invalid-id"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn query_parameters_are_a_closed_set() {
    let too_many = format!("/v1/products?ids={}", vec!["1"; 101].join(","));
    let paths = "/v1/products/1?verbose /v1/products?ids=1&x=2 /v1/products?ids=1&skus=a /v1/products?ids= /v1/products?ids=0 \
                 /v1/products?ids=1,,2 /v1/products?skus=%20a /v1/products?skus=%ff /v1/products?ids=1&ids=2 /v1/products?limit=0 \
                 /v1/products?cursor=x /v1/products?ids=1&cursor=i1 /v1/products?updated_since=today /problems?x=1";
    for path in paths.split_whitespace().chain([too_many.as_str()]) {
        assert_eq!(refused(request("GET", path)).await, is(400, "invalid-query"), "{path}");
    }
    assert_eq!(refused(request("POST", "/v1/views?x=1")).await, is(400, "invalid-query"));
}

#[tokio::test]
async fn a_body_must_be_json_that_can_be_read() {
    for path in [("PUT", "/v1/products/1/price"), ("POST", "/v1/products"), ("POST", "/v1/views"), ("POST", "/v1/products/1/views")] {
        for body in [&b"{"[..], b"{}{}", b"\xff", b"{\"amount\":\"\\ud800\"}", b"{\"amount\":\"1\",\"amount\":\"2\"}", b"nul", b" "] {
            assert_eq!(refused(with_body(path.0, path.1, JSON, body)).await, is(400, "malformed-json"), "{path:?} {body:?}");
        }
        for content_type in ["application/xml", "application/x-www-form-urlencoded", "application/json; charset=utf-16", ""] {
            assert_eq!(
                refused(with_body(path.0, path.1, content_type, "{}")).await,
                is(415, "unsupported-media-type"),
                "{path:?} {content_type}"
            );
        }
        let compressed = with_body(path.0, path.1, JSON, "{}").insert_header((header::CONTENT_ENCODING, "gzip"));
        assert_eq!(refused(compressed).await, is(415, "unsupported-media-type"), "{path:?}");
        let untyped = request(path.0, path.1).set_payload("{}");
        assert_eq!(refused(untyped).await, is(415, "unsupported-media-type"), "{path:?}");
    }
    assert_eq!(refused(with_body("PUT", "/v1/products/1/price", JSON, "")).await, is(400, "malformed-json"));
    assert_eq!(refused(request("POST", "/v1/views")).await, is(400, "malformed-json"));
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused() {
    for (method, path, limit) in
        [("PUT", "/v1/products/1/price", 1 << 20), ("POST", "/v1/products", 1 << 20), ("POST", "/v1/views", 1 << 16)]
    {
        let body = |length| " ".repeat(length);
        assert_eq!(refused(with_body(method, path, JSON, body(limit + 1))).await, is(413, "body-too-large"), "{path}");
        assert_eq!(refused(with_body(method, path, JSON, body(limit))).await, is(400, "malformed-json"), "{path}");
    }
    let announced = request("POST", "/v1/products/1/views").insert_header((header::CONTENT_LENGTH, 1u64 << 40));
    assert_eq!(refused(announced).await, is(413, "body-too-large"));
}

#[tokio::test]
async fn every_fault_of_a_body_is_listed() {
    let body = r#"{"sku":" a","name":"","description":"\u0000","active":1,"price":{"amount":12.5,"currency":"gbp","x":1},"id":7}"#;
    let (status, slug, body) = problem(send(with_body("POST", "/v1/products", JSON, body)).await).await;
    assert_eq!((status, slug.as_str()), (422, "validation-failed"));
    let pointers: Vec<_> = body["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/sku", "/name", "/description", "/active", "/price/amount", "/price/currency", "/price/x", "/id"]);

    for (path, body) in [
        (("PUT", "/v1/products/1/price"), "[]"),
        (("PUT", "/v1/products/1/price"), r#"{"amount":"12.999","currency":"GBP"}"#),
        (("PUT", "/v1/products/1/price"), r#"{"amount":"1","currency":"GBP","if_version":7}"#),
        (("POST", "/v1/products/1/views"), r#"{"count":0}"#),
        (("POST", "/v1/products/1/views"), r#"{"id":"{00000000-0000-0000-0000-000000000000}"}"#),
        (("POST", "/v1/views"), r#"{"events":[{"product_id":1,"id":"x"}]}"#),
        (("POST", "/v1/views"), "{}"),
    ] {
        assert_eq!(refused(with_body(path.0, path.1, JSON, body)).await, is(422, "validation-failed"), "{path:?} {body}");
    }
}

#[tokio::test]
async fn what_is_valid_waits_for_the_stores() {
    let price = r#"{"amount":"2.25","currency":"GBP","reason":"january sale"}"#;
    let product = r#"{"sku":"85123A","name":"Heart","description":null,"price":null}"#;
    for request in [
        request("GET", "/v1/products/1"),
        request("HEAD", "/v1/products/1"),
        request("GET", "/v1/products/1/price"),
        request("GET", "/v1/products/1/price-history?limit=1&cursor=h2a"),
        request("GET", "/v1/products?ids=1,2"),
        request("GET", "/v1/products?skus=85123A,85123a"),
        with_body("PUT", "/v1/products/1/price", JSON, price),
        with_body("POST", "/v1/products", "application/json; charset=utf-8", product),
        request("POST", "/v1/products/1/views"),
        with_body("POST", "/v1/products/1/views?k=key", "image/png", ""),
        with_body("POST", "/v1/products/1/views", "text/plain;charset=UTF-8", r#"{"count":3}"#),
        with_body("POST", "/v1/products/1/views", JSON, r#"{"id":"00000000-0000-0000-0000-000000000000"}"#),
        with_body("POST", "/v1/views", "text/plain", r#"{"events":[{"product_id":42,"count":1},{"product_id":42}]}"#),
    ] {
        assert_eq!(refused(request).await, is(503, "starting"));
    }
}

#[tokio::test]
async fn headers_whose_promise_is_not_kept_are_refused() {
    let price = || with_body("PUT", "/v1/products/1/price", JSON, r#"{"amount":"1","currency":"GBP"}"#);
    let product = with_body("POST", "/v1/products", JSON, r#"{"sku":"a","name":"n"}"#);
    assert_eq!(refused(product.insert_header((header::IF_MATCH, "\"7\""))).await, is(400, "not-supported"));
    assert_eq!(refused(price().insert_header((header::IF_MATCH, "7"))).await, is(400, "invalid-header"));
    assert_eq!(refused(price().insert_header((header::IF_MATCH, "\"7\""))).await, is(503, "starting"));
    assert_eq!(refused(price().insert_header(("Idempotency-Key", "a b"))).await, is(400, "invalid-header"));
    assert_eq!(refused(price().insert_header(("Idempotency-Key", "k"))).await, is(503, "starting"));
    assert_eq!(refused(request("POST", "/v1/products/1/views").insert_header(("Idempotency-Key", "k"))).await, is(400, "not-supported"));
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let response = send(request("GET", "/problems").insert_header(("X-Request-Id", "cart-9"))).await;
    assert_eq!(response.headers().get("x-request-id").unwrap(), "cart-9");
    let (_, _, body) = problem(send(request("GET", "/nothing").insert_header(("X-Request-Id", "cart-9"))).await).await;
    assert_eq!(body["request_id"], "cart-9");
    let response = send(request("GET", "/problems")).await;
    assert!(response.headers().get("x-request-id").unwrap().len() > 16);
}

#[tokio::test]
async fn every_problem_has_a_page_and_no_answer_is_stored() {
    for kind in problem::ALL {
        let response = send(request("GET", &problem::path(kind))).await;
        assert_eq!(response.status(), 200, "{}", kind.slug);
        assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
        let page = test::read_body(response).await;
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains(kind.cause) && page.contains(kind.remedy), "{}", kind.slug);
    }
    let index = test::read_body(send(request("GET", "/problems")).await).await;
    assert!(problem::ALL.iter().all(|kind| String::from_utf8_lossy(&index).contains(&problem::path(kind))));
}

#[tokio::test]
async fn the_documentation_needs_no_store() {
    for path in ["/openapi.json", "/docs"] {
        let response = send(request("GET", path)).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.headers().contains_key(header::ETAG) && response.headers().contains_key("x-request-id"), "{path}");
        assert_eq!(refused(request("GET", &format!("{path}?x=1"))).await, is(400, "invalid-query"), "{path}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_template_and_never_by_path() {
    let server = server();
    for (method, path) in
        [("GET", "/v1/products/7"), ("HEAD", "/v1/products/8"), ("GET", "/v1/products/x"), ("DELETE", "/v1/products/7"), ("GET", "/etc")]
    {
        server.send(request(method, path)).await;
    }
    let metrics = server.registry.render();
    for line in [
        r#"inventory_http_requests_total{method="GET",route="/v1/products/{id}",status="503"} 2"#,
        r#"inventory_http_requests_total{method="GET",route="/v1/products/{id}",status="400"} 1"#,
        r#"inventory_http_requests_total{method="GET",route="/v1/products/{id}",status="200"} 0"#,
        r#"inventory_http_requests_total{method="PUT",route="/v1/products/{id}/price",status="200"} 0"#,
        r#"inventory_http_requests_total{method="any",route="unmatched",status="404"} 1"#,
        r#"inventory_http_requests_total{method="any",route="unmatched",status="405"} 1"#,
        r#"inventory_http_request_duration_seconds_count{method="GET",route="/v1/products/{id}"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("/etc") && !metrics.contains("products/7"));
}
