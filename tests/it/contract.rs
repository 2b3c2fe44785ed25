//! The contract of products, prices and views: every route's happy paths, with their exact bodies and headers.

use harness::{Program, Reply, SOON, Shop, eventually, pointers};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// `updated_at` of a product as the API writes it, read with plain SQL.
async fn updated_at(shop: &Shop, id: u64) -> String {
    let sql = format!("SELECT DATE_FORMAT(updated_at, '%Y-%m-%dT%H:%i:%s.%fZ') FROM products WHERE id = {id}");
    shop.rows(&sql).await.remove(0)
}

/// A product made by [`Shop::products`], with what changes.
async fn product(shop: &Shop, id: u64, amount: &str, version: u64, views: u64) -> Value {
    json!({
        "id": id, "sku": format!("P{id}"), "name": format!("Product {id}"), "description": null, "active": true,
        "price": {"amount": amount, "currency": "GBP"}, "version": version, "updated_at": updated_at(shop, id).await,
        "availability": {"available": 0}, "views": views,
    })
}

/// Rows of the price history of a product: version, price, currency, reason.
async fn history(shop: &Shop, id: u64) -> Vec<(u64, String, String, Option<String>)> {
    let sql = format!("SELECT version, CAST(price AS CHAR), currency, reason FROM price_history WHERE product_id = {id} ORDER BY id");
    shop.rows(&sql).await
}

async fn put_price(api: &Program, id: u64, body: &Value) -> Reply {
    api.send("PUT", &format!("/v1/products/{id}/price"), body.to_string()).await
}

#[tokio::test]
async fn a_new_product_is_answered_with_its_place_and_read_from_the_cache() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let body =
        json!({"sku": "85123A", "name": "HEART", "description": "a\nb", "active": false, "price": {"amount": "2.1", "currency": "GBP"}});
    let made = api.send("POST", "/v1/products", body.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_u64().unwrap();
    let expected = json!({
        "id": id, "sku": "85123A", "name": "HEART", "description": "a\nb", "active": false,
        "price": {"amount": "2.10", "currency": "GBP"}, "version": 1, "updated_at": updated_at(&shop, id).await,
        "availability": {"available": 0}, "views": 0,
    });
    assert_eq!(made.json(), expected);
    assert_eq!(made.header("location"), format!("/v1/products/{id}"));
    assert_eq!(made.header("etag"), "W/\"1.0.0\"");
    assert_eq!(made.header("content-type"), "application/json");
    assert_eq!(made.header("cache-control"), "no-store");
    let history = history(&shop, id).await;
    assert_eq!(history, [(1, "2.1000".into(), "GBP".into(), None)]);

    let read = api.get(made.header("location")).await;
    assert_eq!((read.status, read.json()), (200, expected));
    assert_eq!(read.header("cache-status"), "inventory; hit");

    let bare = api.send("POST", "/v1/products", r#"{"sku":"x","name":"y"}"#).await.json();
    assert_eq!((&bare["price"], &bare["description"], &bare["active"]), (&json!(null), &json!(null), &json!(true)));
}

#[tokio::test]
async fn skus_differ_by_case_and_belong_to_one_product() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let make = async |sku: &str| api.send("POST", "/v1/products", json!({"sku": sku, "name": "X"}).to_string()).await;
    let (upper, lower) = (make("85123A").await, make("85123a").await);
    assert_eq!((upper.status, lower.status), (201, 201));
    assert_ne!(upper.json()["id"], lower.json()["id"]);
    let problem = make("85123A").await.problem(409, "duplicate-sku");
    assert!(problem["detail"].as_str().unwrap().contains("85123A"));
    assert_eq!(shop.number("SELECT COUNT(*) FROM products").await, 2);

    let found = api.get("/v1/products?skus=85123a").await.json();
    assert_eq!((&found["data"][0]["id"], &found["missing"]), (&lower.json()["id"], &json!([])));
    let longest = "é".repeat(32);
    assert_eq!(make(&longest).await.status, 201);
    make(&format!("{longest}x")).await.problem(422, "validation-failed");
}

#[tokio::test]
async fn a_product_is_read_through_and_a_known_tag_is_answered_304() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api_with(&[("INVENTORY_CACHE_NEGATIVE_TTL", "1m".into())]).await;
    let first = api.get("/v1/products/1").await;
    assert_eq!((first.status, first.json()), (200, product(&shop, 1, "1.00", 1, 0).await));
    for (name, value) in [
        ("cache-status", "inventory; fwd=uri-miss"),
        ("cache-control", "no-cache"),
        ("content-type", "application/json"),
        ("etag", "W/\"1.0.0\""),
    ] {
        assert_eq!(first.header(name), value, "{name}");
    }
    let second = api.get("/v1/products/1").await;
    assert_eq!((second.header("cache-status"), &second.text), ("inventory; hit", &first.text), "a hit shows what the miss showed");

    for tag in ["W/\"1.0.0\"", "\"1.0.0\"", "\"x\", W/\"1.0.0\"", "*"] {
        let known = Reply::to(api.request("GET", "/v1/products/1").header("if-none-match", tag)).await;
        assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", "W/\"1.0.0\""), "{tag}");
    }
    assert_eq!(put_price(&api, 1, &json!({"amount": "3", "currency": "GBP"})).await.status, 200);
    let changed = Reply::to(api.request("GET", "/v1/products/1").header("if-none-match", first.header("etag"))).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "W/\"2.0.0\""));

    let head = Reply::to(api.request("HEAD", "/v1/products/1")).await;
    assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", "W/\"2.0.0\""));
    let absent = api.get("/v1/products/99").await;
    absent.problem(404, "unknown-product");
    assert_eq!(absent.header("cache-status"), "inventory; fwd=uri-miss");
    assert_eq!(api.get("/v1/products/99").await.header("cache-status"), "inventory; hit", "absence is cached too");
}

#[tokio::test]
async fn a_read_while_the_row_is_being_written_goes_past_the_cache() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let mut writer = shop.sql_connection().await;
    writer.query_drop("BEGIN").await.unwrap();
    writer.query_drop("UPDATE products SET price = 9 WHERE id = 1").await.unwrap();
    for status in ["inventory; fwd=uri-miss", "inventory; fwd=bypass"] {
        let read = api.get("/v1/products/1").await;
        assert_eq!(read.header("cache-status"), status);
        assert_eq!(read.json()["price"]["amount"], "1.00", "what is not committed is not shown");
    }
    writer.query_drop("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn availability_is_what_stock_says() {
    let shop = Shop::start().await;
    shop.products(2).await;
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 120, 2)").await;
    let api = shop.api().await;
    let read = api.get("/v1/products/1").await;
    assert_eq!(read.json()["availability"], json!({"available": 118}));
    assert_eq!(read.header("etag"), "W/\"1.118.0\"");
    assert_eq!(api.get("/v1/products/2").await.json()["availability"], json!({"available": 0}));
}

#[tokio::test]
async fn several_products_are_read_at_once_and_what_is_missing_is_said() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    assert_eq!(api.get("/v1/products/2").await.status, 200);
    let mixed = api.get("/v1/products?ids=3,99,2,3,77").await;
    let (three, two) = (product(&shop, 3, "1.00", 1, 0).await, product(&shop, 2, "1.00", 1, 0).await);
    assert_eq!(mixed.json(), json!({"data": [three, two], "missing": [99, 77]}));
    assert_eq!(mixed.header("cache-status"), "inventory; fwd=uri-miss", "a hit only if all were");
    assert_eq!(mixed.header("cache-control"), "no-cache");
    let again = api.get("/v1/products?ids=3,2").await;
    assert_eq!((again.json()["data"][0].clone(), again.header("cache-status")), (three, "inventory; hit"));

    let by_sku = api.get("/v1/products?skus=P2,p2,P%2C").await;
    by_sku.problem(400, "invalid-query");
    let by_sku = api.get("/v1/products?skus=P2,p2,none").await;
    assert_eq!(by_sku.json(), json!({"data": [two], "missing": ["p2", "none"]}));
    let hundred: Vec<_> = (1..=100).map(|id: u32| id.to_string()).collect();
    let found = api.get(&format!("/v1/products?ids={}", hundred.join(","))).await.json();
    assert_eq!((found["data"].as_array().unwrap().len(), found["missing"].as_array().unwrap().len()), (3, 97));
}

#[tokio::test]
async fn a_price_is_written_through_with_one_row_of_history() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (api, other) = (shop.api().await, shop.api().await);
    let body = json!({"amount": "2.1", "currency": "GBP", "reason": "january sale"});
    let set = put_price(&api, 1, &body).await;
    let committed_at = updated_at(&shop, 1).await;
    let expected = json!({"product_id": 1, "amount": "2.10", "currency": "GBP", "version": 2, "committed_at": committed_at});
    assert_eq!((set.status, set.json()), (200, expected));
    assert_eq!((set.header("etag"), set.header("cache-control")), ("\"2\"", "no-store"));
    let row = (2, "2.1000".to_owned(), "GBP".to_owned(), Some("january sale".to_owned()));
    assert_eq!(history(&shop, 1).await, std::slice::from_ref(&row));
    for api in [&api, &other] {
        let read = api.get("/v1/products/1").await;
        assert_eq!(read.json(), product(&shop, 1, "2.10", 2, 0).await);
        assert_eq!(read.header("cache-status"), "inventory; hit", "the price was published");
    }

    for amount in ["2.1", "2.10", "02.1"] {
        let same = put_price(&other, 1, &json!({"amount": amount, "currency": "GBP", "reason": "again"})).await;
        assert_eq!((same.status, same.json()), (200, set.json()), "the price it has, written {amount}");
        assert_eq!(same.header("etag"), "\"2\"");
    }
    assert_eq!(history(&shop, 1).await, std::slice::from_ref(&row));

    let next = put_price(&other, 1, &json!({"amount": "2.10", "currency": "EUR", "reason": null})).await;
    assert_eq!((&next.json()["version"], &next.json()["currency"]), (&json!(3), &json!("EUR")));
    assert_eq!(history(&shop, 1).await, [row, (3, "2.1000".into(), "EUR".into(), None)]);
    put_price(&api, 9, &body).await.problem(404, "unknown-product");
}

#[tokio::test]
async fn amounts_are_answered_with_the_digits_of_their_currency() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for (amount, currency, answered) in [
        ("0", "GBP", "0.00"),
        ("999999999999999.99", "GBP", "999999999999999.99"),
        ("120", "JPY", "120"),
        ("1.5", "BHD", "1.500"),
        ("0.0001", "CLF", "0.0001"),
        ("7.5", "GBP", "7.50"),
    ] {
        let set = put_price(&api, 1, &json!({"amount": amount, "currency": currency})).await;
        assert_eq!(set.json()["amount"], answered, "{set:?}");
        let price = api.get("/v1/products/1").await.json()["price"].clone();
        assert_eq!(price, json!({"amount": answered, "currency": currency}));
    }
}

#[tokio::test]
async fn a_view_is_accepted_from_a_beacon_and_shown_at_once() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let view = |query: &str| api.request("POST", &format!("/v1/products/2/views{query}"));
    for (request, views) in [
        (view(""), 1),
        (view("?k=publishable"), 2),
        (view("").header("content-type", "text/plain;charset=UTF-8").body("{}"), 3),
        (view("").header("content-type", "text/plain").body(r#"{"count":3}"#), 6),
        (view("").header("content-type", "application/json").body(r#"{"count":1000}"#), 1006),
        (view("").header("content-type", "text/plain").body(""), 1007),
    ] {
        let accepted = Reply::to(request).await;
        assert_eq!((accepted.status, accepted.text.as_str()), (202, "{\"accepted\":1}"), "{accepted:?}");
        assert_eq!(accepted.header("cache-control"), "no-store");
        let read = api.get("/v1/products/2").await;
        assert_eq!(read.json()["views"], views);
        assert_eq!(read.header("etag"), format!("W/\"1.0.{views}\""));
    }
    let answer = api.get("/v1/products/2").await.json();
    assert_eq!(answer, product(&shop, 2, "1.00", 1, 1007).await, "a view changes neither version nor row");
    let unknown = Reply::to(api.request("POST", "/v1/products/99/views")).await;
    unknown.problem(404, "unknown-product");
}

#[tokio::test]
async fn several_views_are_accepted_each_for_itself() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let events = json!({"events": [{"product_id": 1}, {"product_id": 98}, {"product_id": 3, "count": 5}, {"product_id": 1, "count": 2}]});
    let some = Reply::to(api.request("POST", "/v1/views?k=x").header("content-type", "text/plain").body(events.to_string())).await;
    let rejected = json!([{"index": 1, "status": 404, "type": "/problems/unknown-product", "detail": "there is no product 98"}]);
    assert_eq!((some.status, some.json()), (202, json!({"accepted": 3, "rejected": rejected})));
    let none = api.send("POST", "/v1/views", r#"{"events":[]}"#).await;
    assert_eq!((none.status, none.json()), (202, json!({"accepted": 0, "rejected": []})));
    let most = json!({"events": vec![json!({"product_id": 2}); 500]});
    assert_eq!(api.send("POST", "/v1/views", most.to_string()).await.json()["accepted"], 500);
    let shown = api.get("/v1/products?ids=1,2,3").await.json();
    let views: Vec<_> = (0..3).map(|n| shown["data"][n]["views"].as_u64().unwrap()).collect();
    assert_eq!(views, [3, 500, 5]);

    let bad_id = r#"{"events":[{"product_id":1},{"product_id":1,"id":"d9b0b1d295a14d708a0b3b1c5a3f7c11"}]}"#;
    let problem = api.send("POST", "/v1/views", bad_id).await.problem(422, "validation-failed");
    assert_eq!(pointers(&problem), ["/events/1/id"]);
    let one = api.send("POST", "/v1/products/1/views", r#"{"count":3,"id":"x"}"#).await;
    assert_eq!(pointers(&one.problem(422, "validation-failed")), ["/id"]);
    assert_eq!(api.get("/v1/products/1").await.json()["views"], 3, "an event that is refused takes all with it");
}

#[tokio::test]
async fn the_views_of_a_product_are_told_by_the_hour_and_the_day() {
    let shop = Shop::start().await;
    shop.products(2).await;
    shop.run("INSERT INTO product_views VALUES (1, 12)").await;
    shop.run("INSERT INTO view_hours VALUES (1, '2011-01-04 10:00:00', 3), (1, '2011-01-04 23:00:00', 4), (1, '2011-01-06 00:00:00', 5)")
        .await;
    let api = shop.api().await;
    assert_eq!(api.send("POST", "/v1/products/1/views", r#"{"count":2}"#).await.status, 202);
    let hours = api.get("/v1/products/1/views?from=2011-01-04T10:20:00Z&to=2011-01-04T11:00:01Z").await;
    let bucket = |start: &str, views: u64| json!({"start": format!("2011-01-0{start}:00:00.000000Z"), "views": views});
    let expected = json!({
        "product_id": 1, "from": "2011-01-04T10:00:00.000000Z", "to": "2011-01-04T12:00:00.000000Z",
        "data": [bucket("4T10", 3), bucket("4T11", 0)], "total": 14, "persisted": 12, "pending": 2,
    });
    assert_eq!((hours.status, hours.json(), hours.header("cache-control")), (200, expected, "no-store"));
    let days = "interval=day&tz=%2B02:00&from=2011-01-04T00:00:00%2B02:00&to=2011-01-07T00:00:00%2B02:00";
    let days = api.get(&format!("/v1/products/1/views?{days}")).await.json();
    assert_eq!(days["data"], json!([bucket("3T22", 3), bucket("4T22", 4), bucket("5T22", 5)]));

    let _worker = shop.worker().await;
    let drained = eventually("nothing is on its way", SOON, async || {
        let views = api.get("/v1/products/1/views").await.json();
        (views["pending"] == 0).then_some(views)
    })
    .await;
    assert_eq!((&drained["total"], &drained["persisted"]), (&json!(14), &json!(14)));
    let buckets = drained["data"].as_array().unwrap();
    let views: u64 = buckets.iter().map(|bucket| bucket["views"].as_u64().unwrap()).sum();
    assert_eq!((buckets.len(), views), (24, 2), "the last day by the hour");
    assert_eq!(api.get("/v1/products/2/views").await.json()["total"], 0);
    api.get("/v1/products/99/views").await.problem(404, "unknown-product");
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for path in ["/v1/products/1", "/v1/products/9", "/nothing"] {
        let echoed = Reply::to(api.request("GET", path).header("x-request-id", "cart-7:a")).await;
        assert_eq!(echoed.header("x-request-id"), "cart-7:a", "{path}");
        let (first, second) = (api.get(path).await, api.get(path).await);
        assert!(first.header("x-request-id").len() >= 16, "{first:?}");
        assert_ne!(first.header("x-request-id"), second.header("x-request-id"), "{path}");
        let unusable = Reply::to(api.request("GET", path).header("x-request-id", "a b")).await;
        assert_ne!(unusable.header("x-request-id"), "a b");
    }
}
