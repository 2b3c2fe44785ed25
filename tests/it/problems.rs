//! Every type of problem, met where it arises, and its page.

use harness::{Program, Proxy, Reply, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the tests of this folder meet; held against the index that the API serves.
const MET: [&str; 39] = [
    "bad-request",
    "below-reserved",
    "body-too-large",
    "check-running",
    "duplicate-sku",
    "idempotency-key-reused",
    "incomplete-body",
    "insufficient-stock",
    "internal-error",
    "invalid-header",
    "invalid-id",
    "invalid-query",
    "invalid-token",
    "malformed-json",
    "method-not-allowed",
    "missing-idempotency-key",
    "missing-scope",
    "missing-token",
    "no-price",
    "not-flushed",
    "not-supported",
    "outcome-unknown",
    "over-capacity",
    "precondition-failed",
    "precondition-required",
    "queue-paused",
    "request-in-progress",
    "reservation-not-active",
    "slow-body",
    "starting",
    "timed-out",
    "too-many-streams",
    "unavailable",
    "unknown-product",
    "unknown-reservation",
    "unknown-route",
    "unready",
    "unsupported-media-type",
    "validation-failed",
];

/// What only admin routes of the ops listener say.
const NOT_MET: [&str; 2] = ["foreign-origin", "wrong-host"];

fn price() -> Value {
    json!({"amount": "2.25", "currency": "GBP"})
}

async fn put_price(api: &Program, id: u64) -> Reply {
    api.send("PUT", &format!("/v1/products/{id}/price"), price().to_string()).await
}

#[tokio::test]
async fn every_type_has_a_page_that_gives_cause_and_remedy() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let index = api.get("/problems").await;
    assert_eq!((index.status, index.header("content-type")), (200, "text/html; charset=utf-8"));
    let links = index.text.split("href=\"/problems/").skip(1);
    let slugs: BTreeSet<_> = links.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(slugs, MET.into_iter().chain(NOT_MET).collect());
    for slug in slugs {
        let page = api.get(&format!("/problems/{slug}")).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"), "{slug}");
        assert!(["<h2>Cause</h2>", "<h2>Remedy</h2>", slug].iter().all(|text| page.text.contains(text)));
    }
    api.get("/problems/nothing").await.problem(404, "unknown-route");
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_told_which_it_has() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    for (path, allow) in [
        ("/v1/products", "GET, HEAD, POST"),
        ("/v1/products/1", "GET, HEAD"),
        ("/v1/products/1/price", "GET, HEAD, PUT"),
        ("/v1/products/1/price-history", "GET, HEAD"),
        ("/v1/products/1/views", "GET, HEAD, POST"),
        ("/v1/prices/batch", "POST"),
        ("/v1/views", "POST"),
        ("/problems", "GET, HEAD"),
        ("/problems/starting", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/docs/nothing", "GET, HEAD"),
    ] {
        for method in ["DELETE", "PATCH", "OPTIONS", "BREW"] {
            let refused = Reply::to(api.request(method, path)).await;
            refused.problem(405, "method-not-allowed");
            assert_eq!(refused.header("allow"), allow, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn before_the_stores_were_reached_the_answer_is_starting() {
    let shop = Shop::start().await;
    let nobody = servers::free_port().unwrap();
    let api = shop.api_starting(&[("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_api", nobody))]).await;
    eventually("the ops listener answers", SOON, async || shop.client.get(format!("{}/livez", api.ops)).send().await.ok()).await;
    let read = api.get("/v1/products/1").await;
    read.problem(503, "starting");
    assert_eq!(read.header("retry-after"), "1");
    put_price(&api, 1).await.problem(503, "starting");
    api.send("POST", "/v1/views", r#"{"events":[{"product_id":1}]}"#).await.problem(503, "starting");
    assert_eq!(api.get_ops("/readyz").await.status, 503);
}

/// While Redis is awaited at start, MySQL is already there.
#[tokio::test]
async fn an_api_that_says_it_is_ready_serves() {
    let mut shop = Shop::start().await;
    shop.products(1).await;
    shop.redis.kill();
    let api = shop.api().await;
    let read = api.get("/v1/products/1").await;
    assert_eq!(read.status, 200, "{read:?}");
}

#[tokio::test]
async fn without_redis_products_are_read_and_what_needs_it_is_refused() {
    let mut shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    assert_eq!(Reply::to(api.request("POST", "/v1/products/1/views")).await.status, 202);
    shop.redis.kill();
    let refused = put_price(&api, 1).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    let read = api.get("/v1/products/1").await;
    assert_eq!((read.status, read.header("cache-status")), (200, "inventory; fwd=bypass"));
    assert_eq!((&read.json()["price"]["amount"], &read.json()["views"]), (&json!("1.00"), &json!(null)));
    assert_eq!(read.header("etag"), "W/\"1.0.-\"");
    let view = Reply::to(api.request("POST", "/v1/products/1/views")).await;
    view.problem(503, "unavailable");
    assert_eq!(view.header("retry-after"), "1");
    let views = api.send("POST", "/v1/views", r#"{"events":[{"product_id":1},{"product_id":2}]}"#).await;
    views.problem(503, "unavailable");
    assert_eq!(shop.number("SELECT COUNT(*) FROM price_history").await, 0);
}

#[tokio::test]
async fn past_the_capacity_of_the_queue_views_are_refused_and_the_rest_goes_on() {
    let shop = Shop::with(ShopOptions { environment: vec![("INVENTORY_QUEUE_CAPACITY", "1".into())], ..ShopOptions::default() }).await;
    shop.products(2).await;
    let api = shop.api().await;
    assert_eq!(Reply::to(api.request("POST", "/v1/products/1/views")).await.status, 202);
    // A look at the queue that began before the push may hide it until the next look, a second later.
    let looked = async || (api.metric("inventory_queue_depth").await >= 1.0).then_some(());
    eventually("the API has looked at the queue since", SOON, looked).await;
    let full = eventually("the API knows that the queue is full", SOON, async || {
        let answer = Reply::to(api.request("POST", "/v1/products/2/views")).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    full.problem(503, "over-capacity");
    assert_eq!(full.header("retry-after"), "2");
    let none = api.send("POST", "/v1/views", r#"{"events":[{"product_id":1},{"product_id":99}]}"#).await;
    none.problem(503, "over-capacity");
    assert_eq!(put_price(&api, 2).await.status, 200);
    assert_eq!(api.get("/v1/products?ids=1,2").await.json()["data"][0]["views"], 1);
    let _worker = shop.worker().await;
    eventually("there is room again", SOON, async || {
        (Reply::to(api.request("POST", "/v1/products/2/views")).await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_takes_too_long_is_refused_and_a_write_says_that_its_outcome_is_unknown() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    let api = shop.api_with(&[("INVENTORY_MYSQL_URL", url), ("INVENTORY_REQUEST_TIMEOUT", "1s".into())]).await;
    assert_eq!(api.get("/v1/products/1").await.status, 200);
    proxy.hold_replies();
    let read = api.get("/v1/products/2").await;
    read.problem(503, "timed-out");
    assert_eq!(read.header("retry-after"), "1");
    let write = put_price(&api, 3).await;
    write.problem(503, "outcome-unknown");
    assert_eq!(write.header("retry-after"), "1");
    proxy.release();

    let slow = b"PUT /v1/products/1/price HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\r\n{";
    Reply::to_bytes_held_open(&api.url, slow).await.unwrap().problem(408, "slow-body");
}

#[tokio::test]
async fn a_fault_of_ours_is_told_without_its_cause_and_logged_with_it() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    shop.run("RENAME TABLE products TO elsewhere").await;
    let failed = Reply::to(api.request("GET", "/v1/products/1?").header("x-request-id", "find-me")).await;
    let problem = failed.problem(500, "internal-error");
    assert_eq!(problem["request_id"], "find-me");
    for private in ["1146", "elsewhere", "SELECT", shop.database(), "127.0.0.1"] {
        assert!(!failed.text.contains(private), "{private} in {failed:?}");
    }
    let log = api.log();
    let lines: Vec<Value> = log.lines().filter(|line| line.contains("find-me")).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(
        (&lines[0]["level"], &lines[0]["request_id"], &lines[0]["problem"], &lines[0]["status"]),
        (&json!("ERROR"), &json!("find-me"), &json!("internal-error"), &json!(500))
    );
    assert!(lines[0]["source"].as_str().unwrap().contains("1146"), "{}", lines[0]);
}
