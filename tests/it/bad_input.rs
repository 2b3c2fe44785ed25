//! Bad input: each request gets its problem document, and none changes anything in MySQL or Redis.

use harness::{Program, Reply, Shop, pointers};
use redis::AsyncCommands;
use serde_json::json;

pub(crate) const JSON: &str = "application/json";

/// All that a request could have changed: a checksum of every table, and every key of the queue with its value.
pub(crate) async fn state(shop: &Shop) -> Vec<String> {
    let tables: Vec<String> = shop.rows("SHOW TABLES").await;
    let sums: Vec<(String, u64)> = shop.rows(&format!("CHECKSUM TABLE {}", tables.join(", "))).await;
    let mut redis = shop.redis_connection().await;
    let mut keys: Vec<String> = redis.keys("*").await.unwrap();
    // What readers cache may come and go.
    keys.retain(|key| !key.contains(":c:") && !key.contains(":t:"));
    keys.sort();
    let mut state: Vec<_> = sums.into_iter().map(|(table, sum)| format!("{table} {sum}")).collect();
    for key in keys {
        let value: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        state.push(format!("{key} {value:?}"));
    }
    state
}

/// A shop with three products, a price that was set and a view that waits, so that there is something to spoil.
pub(crate) async fn stocked() -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let set = api.send("PUT", "/v1/products/1/price", r#"{"amount":"2.25","currency":"GBP"}"#).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(Reply::to(api.request("POST", "/v1/products/2/views")).await.status, 202);
    (shop, api)
}

/// Sends each body to each path, and holds that it is refused so and that nothing was changed.
async fn refused(routes: &[(&str, &str)], content_type: &str, bodies: &[&[u8]], status: u16, slug: &str) {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    for (method, path) in routes {
        for body in bodies {
            println!("{method} {path} {content_type} {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
            let request = api.request(method, path).header("content-type", content_type).body(body.to_vec());
            let problem = Reply::to(request).await.problem(status, slug);
            assert_eq!(problem["errors"].is_array(), status == 422, "{problem}");
        }
    }
    assert_eq!(state(&shop).await, before);
}

pub(crate) const WITH_BODY: [(&str, &str); 4] =
    [("PUT", "/v1/products/1/price"), ("POST", "/v1/products"), ("POST", "/v1/products/1/views"), ("POST", "/v1/views")];

#[tokio::test]
async fn malformed_json_is_refused() {
    let deep = "[".repeat(10_000);
    let bodies: &[&[u8]] = &[
        b"{",
        b" ",
        b"{}x",
        b"{'amount':'1'}",
        b"{\"amount\":\"1\",}",
        b"NaN",
        b"{\"amount\":01}",
        b"{\"amount\":1e999}",
        // A byte order mark, a null byte, half of a surrogate pair escaped and raw, bytes that are no UTF-8, UTF-16.
        b"\xef\xbb\xbf{}",
        b"{\"sku\":\"a\0b\"}",
        b"{\"sku\":\"\\ud800\"}",
        b"{\"sku\":\"\\udc00\\ud800\"}",
        b"{\"sku\":\"\xed\xa0\x80\"}",
        b"{\"sku\":\"\xff\"}",
        b"\xff\xfe{\0}\0",
        // A key twice, also where one is escaped.
        b"{\"amount\":\"1\",\"amount\":\"2\",\"currency\":\"GBP\"}",
        b"{\"count\":1,\"c\\u006funt\":2}",
        deep.as_bytes(),
    ];
    refused(&WITH_BODY, JSON, bodies, 400, "malformed-json").await;
}

#[tokio::test]
async fn an_empty_body_is_a_view_and_nothing_else() {
    let routes = [WITH_BODY[0], WITH_BODY[1], WITH_BODY[3]];
    refused(&routes, JSON, &[b""], 400, "malformed-json").await;
}

#[tokio::test]
async fn json_of_another_form_is_refused() {
    let bodies: &[&[u8]] = &[b"null", b"[]", b"1", b"\"x\"", b"true", b"{\"unknown\":1}", b"[{\"product_id\":1}]"];
    refused(&WITH_BODY, JSON, bodies, 422, "validation-failed").await;
}

#[tokio::test]
async fn every_amount_that_is_no_plain_decimal_is_refused_with_how_to_write_it() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let ten_to_30 = "1".to_owned() + &"0".repeat(30);
    let (text, number) = (json!(ten_to_30), format!("1{}", "0".repeat(30)));
    let amounts = [
        "\"-1\"",
        "\"+1\"",
        "\"1e3\"",
        "\"12.999\"",
        "\"NaN\"",
        "\"Infinity\"",
        "\"\"",
        "\" 1\"",
        "\"1.\"",
        "\".5\"",
        "\"1,5\"",
        "\"1_0\"",
        "\"0x10\"",
        "\"١\"",
        "\"1.0\\u0000\"",
        "\"1000000000000000\"",
        "12.99",
        "1",
        "-1",
        "1e3",
        "null",
        "true",
        "[]",
        "{}",
        "[\"1\"]",
        &text.to_string(),
        &number,
    ];
    for amount in amounts {
        let price = format!(r#"{{"amount":{amount},"currency":"GBP"}}"#);
        let set = api.send("PUT", "/v1/products/1/price", price.clone()).await;
        let problem = set.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), ["/amount"], "{amount}");
        assert!(problem["errors"][0]["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
        let product = format!(r#"{{"sku":"n","name":"n","price":{price}}}"#);
        let made = api.send("POST", "/v1/products", product).await;
        assert_eq!(pointers(&made.problem(422, "validation-failed")), ["/price/amount"], "{amount}");
    }
    let number = api.send("PUT", "/v1/products/1/price", r#"{"amount":12.99,"currency":"GBP"}"#).await;
    assert!(number.text.contains("\\\"12.99\\\""), "it says how to write it: {}", number.text);
    for (amount, currency) in
        [("1.5", "JPY"), ("1.0001", "BHD"), ("1", "gbp"), ("1", "XXX"), ("1", "XAU"), ("1", "DEM"), ("1", ""), ("1", "GBP ")]
    {
        let body = json!({"amount": amount, "currency": currency}).to_string();
        let set = api.send("PUT", "/v1/products/1/price", body).await;
        assert_eq!(pointers(&set.problem(422, "validation-failed")).len(), 1, "{amount} {currency}");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn every_fault_of_a_body_is_listed() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let long = "x".repeat(256);
    for (method, path, body, faults) in [
        ("POST", "/v1/products", json!({}), vec!["/sku", "/name"]),
        (
            "POST",
            "/v1/products",
            json!({"sku": " a", "name": "", "description": 1, "active": "yes", "price": 1, "id": 7, "a/b~c": 1}),
            vec!["/sku", "/name", "/description", "/active", "/price", "/id", "/a~1b~0c"],
        ),
        ("POST", "/v1/products", json!({"sku": "a\0", "name": "a\0b", "description": "\0"}), vec!["/sku", "/name", "/description"]),
        ("POST", "/v1/products", json!({"sku": "é".repeat(33), "name": long}), vec!["/sku", "/name"]),
        ("POST", "/v1/products", json!({"sku": "n", "name": "n", "description": "x".repeat(65 * 1024)}), vec!["/description"]),
        ("PUT", "/v1/products/1/price", json!({}), vec!["/amount", "/currency"]),
        (
            "PUT",
            "/v1/products/1/price",
            json!({"amount": "1", "currency": "GBP", "reason": long, "if_version": 1}),
            vec!["/reason", "/if_version"],
        ),
        ("PUT", "/v1/products/1/price", json!({"amount": "1", "currency": "GBP", "reason": "a\0b"}), vec!["/reason"]),
        ("POST", "/v1/products/1/views", json!({"count": 0, "product_id": 1}), vec!["/count", "/product_id"]),
        ("POST", "/v1/products/1/views", json!({"count": 1001}), vec!["/count"]),
        ("POST", "/v1/products/1/views", json!({"count": 1.5, "id": null}), vec!["/count", "/id"]),
        (
            "POST",
            "/v1/views",
            json!({"events": [{"product_id": 1}, {"product_id": "1"}, {"product_id": 0}, {"product_id": 1u64 << 53}, 7, {"count": -1}]}),
            vec![
                "/events/1/product_id",
                "/events/2/product_id",
                "/events/3/product_id",
                "/events/4",
                "/events/5/product_id",
                "/events/5/count",
            ],
        ),
        ("POST", "/v1/views", json!({"events": {"product_id": 1}}), vec!["/events"]),
        ("POST", "/v1/views", json!({"events": vec![json!({"product_id": 1}); 501]}), vec!["/events"]),
    ] {
        let problem = api.send(method, path, body.to_string()).await.problem(422, "validation-failed");
        let mut found = pointers(&problem);
        found.sort_unstable();
        let mut faults = faults;
        faults.sort_unstable();
        assert_eq!(found, faults, "{method} {path} {body}");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn an_id_that_no_product_can_have_is_refused() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    for id in [
        "0",
        "00",
        "01",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "abc",
        "P1",
        "9007199254740992",
        "18446744073709551616",
        "%00",
        "1%00",
        "1%2F2",
        "%31x",
        "%ff",
        "%ED%A0%80",
    ] {
        api.get(&format!("/v1/products/{id}")).await.problem(400, "invalid-id");
        let set = api.send("PUT", &format!("/v1/products/{id}/price"), r#"{"amount":"1","currency":"GBP"}"#).await;
        set.problem(400, "invalid-id");
        api.get(&format!("/v1/products/{id}/views")).await.problem(400, "invalid-id");
        let viewed = Reply::to(api.request("POST", &format!("/v1/products/{id}/views"))).await;
        viewed.problem(400, "invalid-id");
        api.get(&format!("/v1/products?ids=1,{id}")).await.problem(400, "invalid-query");
    }
    api.get("/v1/products/9007199254740991").await.problem(404, "unknown-product");
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn unknown_paths_and_parameters_are_refused() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/products/",
        "/v1/products/1/",
        "/v1/products/1/price/x",
        "/V1/products/1",
        "/v2/products/1",
        "//v1/products/1",
        "/metrics",
        "/%00",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            Reply::to(api.request(method, path)).await.problem(404, "unknown-route");
        }
    }
    let list = "/v1/products";
    let many = vec!["1"; 101].join(",");
    for query in [
        "ids=1&x=1",
        "ids=1&ids=2",
        "ids=1&skus=P1",
        "IDS=1",
        "ids=",
        "ids=1,",
        "ids=1;2",
        "skus=",
        "skus=%20a",
        "skus=%ff",
        "skus=a%00",
        "ids[]=1",
        "x",
        &format!("ids={many}"),
    ] {
        api.get(&format!("{list}?{query}")).await.problem(400, "invalid-query");
    }
    let from = "from=2011-01-04T10:00:00Z";
    for query in
        ["interval=week", "from=yesterday", "to=2011-01-04", "tz=Europe/London", "tz=%2B1", "tz=%2B25:00", "from=2011-13-01T00:00:00Z"]
    {
        api.get(&format!("/v1/products/1/views?{query}")).await.problem(400, "invalid-query");
    }
    for to in ["2011-01-04T10:00:00Z", "2010-01-01T00:00:00Z", "2011-12-31T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z"] {
        api.get(&format!("/v1/products/1/views?{from}&to={to}")).await.problem(400, "invalid-query");
    }
    let halves = api.get("/v1/products/1/views?interval=day&tz=%2B05:30").await;
    assert_eq!(pointers(&halves.problem(422, "validation-failed")), ["/tz"]);
    api.get("/v1/products/1?verbose").await.problem(400, "invalid-query");
    api.get("/problems?x=1").await.problem(400, "invalid-query");
    for (method, path) in WITH_BODY {
        api.send(method, &format!("{path}?dry_run=true"), "{}").await.problem(400, "invalid-query");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn headers_whose_promise_is_not_kept_are_refused() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let price = r#"{"amount":"7","currency":"GBP"}"#;
    for (method, path, header) in [
        ("POST", "/v1/products", "if-match"),
        ("POST", "/v1/products/1/views", "idempotency-key"),
        ("POST", "/v1/views", "idempotency-key"),
    ] {
        let request = api.request(method, path).header(header, "\"1\"").header("content-type", JSON);
        Reply::to(request.body(price)).await.problem(400, "not-supported");
    }
    for (method, path) in WITH_BODY {
        for (name, value) in [
            ("content-type", "application/xml"),
            ("content-type", "application/json; charset=latin1"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-type", ""),
            ("content-encoding", "gzip"),
        ] {
            let mut request = api.request(method, path).header(name, value).body("{\"count\":1}");
            if name == "content-encoding" {
                request = request.header("content-type", JSON);
            }
            Reply::to(request).await.problem(415, "unsupported-media-type");
        }
    }
    let text = api.request("PUT", "/v1/products/1/price").header("content-type", "text/plain").body(price);
    Reply::to(text).await.problem(415, "unsupported-media-type");
    assert_eq!(state(&shop).await, before);
}
