//! The stock of a product over HTTP: an ordinary day, counts, adjustments and the ledger; and that nothing that is refused changes it.

use crate::bad_input::{JSON, state};
use harness::{Program, Reply, Shop, pointers};
use serde_json::{Value, json};

const STOCK: &str = "/v1/products/1/stock";
const ADJUSTMENTS: &str = "/v1/products/1/stock/adjustments";

/// A product with so many pieces on hand.
async fn product(shop: &Shop, api: &Program, id: u64, on_hand: u64) {
    shop.run(&format!("INSERT INTO products (id, sku, name) VALUES ({id}, 'S{id}', 'N{id}')")).await;
    let count = api.request("PUT", &format!("/v1/products/{id}/stock")).header("if-match", "\"0\"");
    let counted = Reply::to(count.json(&json!({"on_hand": on_hand}))).await;
    assert_eq!(counted.status, 200, "{}", counted.text);
}

async fn reserve(api: &Program, key: &str, items: Value) -> Reply {
    let body = json!({"items": items, "reference": "cart"});
    Reply::to(api.request("POST", "/v1/reservations").header("idempotency-key", key).json(&body)).await
}

async fn stock(api: &Program, id: u64) -> Value {
    api.get(&format!("/v1/products/{id}/stock")).await.json()
}

#[tokio::test]
async fn pieces_are_reserved_sold_and_given_back_and_the_ledger_says_so() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    product(&shop, &api, 1, 10).await;
    product(&shop, &api, 2, 3).await;

    let made = reserve(&api, "k1", json!([{"product_id": 2, "quantity": 3}, {"product_id": 1, "quantity": 4}])).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = made.header("location").to_owned();
    assert_eq!(stock(&api, 1).await, json!({"product_id": 1, "on_hand": 10, "reserved": 4, "available": 6, "version": 2}));

    let short = reserve(&api, "k2", json!([{"product_id": 1, "quantity": 1}, {"product_id": 2, "quantity": 1}])).await;
    assert_eq!(short.problem(409, "insufficient-stock")["shortages"], json!([{"product_id": 2, "requested": 1, "available": 0}]));

    let again = reserve(&api, "k1", json!([{"product_id": 2, "quantity": 3}, {"product_id": 1, "quantity": 4}])).await;
    assert_eq!((again.status, again.header("idempotent-replayed"), &again.text), (201, "true", &made.text));

    let committed = api.send("POST", &format!("{path}/commit"), "").await;
    assert_eq!((committed.status, committed.json()["state"].as_str()), (200, Some("committed")), "{}", committed.text);
    assert_eq!(api.send("POST", &format!("{path}/commit"), "").await.text, committed.text);
    let released = api.send("POST", &format!("{path}/release"), "").await;
    assert_eq!((released.status, released.json()["state"].as_str()), (409, Some("committed")), "{}", released.text);
    assert_eq!(stock(&api, 2).await, json!({"product_id": 2, "on_hand": 0, "reserved": 0, "available": 0, "version": 3}));

    let adjust = |delta: i64, key: &'static str| {
        let adjustment = api.request("POST", "/v1/products/2/stock/adjustments").header("idempotency-key", key);
        Reply::to(adjustment.json(&json!({"delta": delta, "reason": "return"})))
    };
    let back = adjust(1, "a1").await;
    assert_eq!((back.status, back.json()["available"].as_u64()), (201, Some(1)), "{}", back.text);
    adjust(-2, "a2").await.problem(409, "insufficient-stock");

    let ledger = api.get("/v1/products/2/stock/movements?limit=3").await.json();
    let kinds: Vec<_> = ledger["data"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["adjustment", "commit", "reserve"]);
    assert!(ledger["next_cursor"].is_string());
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock s WHERE on_hand <> (SELECT SUM(delta) FROM stock_movements m WHERE m.product_id = s.product_id) OR reserved <> (SELECT SUM(reserved_delta) FROM stock_movements m WHERE m.product_id = s.product_id)").await, 0);
}

/// A shop with three products, of which the first was counted once, and an API.
async fn counted(on_hand: i64) -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    assert_eq!(count(&api, "\"0\"", json!({"on_hand": on_hand})).await.status, 200);
    (shop, api)
}

fn level(on_hand: i64, reserved: i64, version: u64) -> Value {
    json!({"product_id": 1, "on_hand": on_hand, "reserved": reserved, "available": on_hand - reserved, "version": version})
}

async fn count(api: &Program, if_match: &str, body: Value) -> Reply {
    let request = api.request("PUT", STOCK).header("if-match", if_match).header("content-type", JSON);
    Reply::to(request.body(body.to_string())).await
}

async fn adjust(api: &Program, key: &str, body: Value) -> Reply {
    let request = api.request("POST", ADJUSTMENTS).header("idempotency-key", key).header("content-type", JSON);
    Reply::to(request.body(body.to_string())).await
}

async fn movements(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM stock_movements").await
}

#[tokio::test]
async fn a_product_that_was_never_counted_has_none_and_is_counted_from_version_0() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let none = api.get(STOCK).await;
    assert_eq!((none.status, none.json(), none.header("etag")), (200, level(0, 0, 0), "\"0\""));
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock").await, 0);
    let counted = count(&api, "\"0\"", json!({"on_hand": 120, "reason": "first count", "reference": "sheet 7"})).await;
    assert_eq!((counted.status, counted.json(), counted.header("etag")), (200, level(120, 0, 1), "\"1\""));
    let read = api.get(STOCK).await;
    assert_eq!((read.status, read.json(), read.header("etag")), (200, level(120, 0, 1), "\"1\""));
    let same = Reply::to(api.request("GET", STOCK).header("if-none-match", "\"1\"")).await;
    assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", "\"1\""));
    let other = Reply::to(api.request("GET", STOCK).header("if-none-match", "\"0\"")).await;
    assert_eq!(other.status, 200);
    type Row = (String, i64, i64, i64, i64, Option<String>, Option<String>);
    let rows: Vec<Row> = shop.rows("SELECT kind, delta, reserved_delta, on_hand, reserved, reason, reference FROM stock_movements").await;
    assert_eq!(rows, [("count".into(), 120, 0, 120, 0, Some("first count".into()), Some("sheet 7".into()))]);
}

#[tokio::test]
async fn a_count_replaces_only_the_version_that_it_names() {
    let (shop, api) = counted(10).await;
    let before = state(&shop).await;
    let without = api.send("PUT", STOCK, r#"{"on_hand":12}"#).await;
    without.problem(428, "precondition-required");
    for stale in ["\"0\"", "\"2\"", "\"0\", \"7\"", "W/\"1\""] {
        let refused = count(&api, stale, json!({"on_hand": 12})).await;
        assert_eq!(refused.problem(412, "precondition-failed")["current"], level(10, 0, 1), "{stale}");
    }
    for malformed in ["1", "\"1", ""] {
        assert_eq!(count(&api, malformed, json!({"on_hand": 12})).await.status, 400, "{malformed}");
    }
    assert_eq!(state(&shop).await, before);
    for (matching, on_hand, version) in [("\"1\"", 12, 2), ("\"0\", \"2\"", 9, 3), ("*", 0, 4)] {
        let counted = count(&api, matching, json!({"on_hand": on_hand})).await;
        assert_eq!((counted.status, counted.json()), (200, level(on_hand, 0, version)), "{matching}");
    }
    let deltas: Vec<i64> = shop.rows("SELECT delta FROM stock_movements ORDER BY id").await;
    assert_eq!(deltas, [10, 2, -3, -9]);
}

#[tokio::test]
async fn a_count_of_what_is_there_has_the_same_version_and_no_movement() {
    let (shop, api) = counted(10).await;
    for matching in ["\"1\"", "*"] {
        let same = count(&api, matching, json!({"on_hand": 10})).await;
        assert_eq!((same.status, same.json(), same.header("etag")), (200, level(10, 0, 1), "\"1\""));
    }
    assert_eq!(movements(&shop).await, 1);
    let none =
        Reply::to(api.request("PUT", "/v1/products/2/stock").header("if-match", "*").header("content-type", JSON).body(r#"{"on_hand":0}"#));
    assert_eq!(none.await.json()["version"], 0);
    assert_eq!(movements(&shop).await, 1);
}

#[tokio::test]
async fn less_than_is_reserved_cannot_be_counted_or_taken_away() {
    let (shop, api) = counted(10).await;
    assert_eq!(reserve(&api, "r", json!([{"product_id": 1, "quantity": 4}])).await.status, 201);
    let before = state(&shop).await;
    let refused = count(&api, "*", json!({"on_hand": 3})).await;
    assert_eq!(refused.problem(409, "below-reserved")["current"], level(10, 4, 2));
    let refused = adjust(&api, "a", json!({"delta": -7})).await;
    let shortages = json!([{"product_id": 1, "requested": 7, "available": 6}]);
    assert_eq!(refused.problem(409, "insufficient-stock")["shortages"], shortages);
    assert_eq!(state(&shop).await, before);
    assert_eq!(adjust(&api, "a", json!({"delta": -6})).await.status, 201, "a key that was refused is judged afresh");
    assert_eq!(count(&api, "*", json!({"on_hand": 4})).await.json(), level(4, 4, 3));
}

#[tokio::test]
async fn an_adjustment_is_made_once_for_its_key() {
    let (shop, api) = counted(120).await;
    let body = json!({"delta": -3, "reason": "damaged", "reference": "ticket 9"});
    let first = adjust(&api, "k", body.clone()).await;
    let mut expected = level(117, 0, 2);
    expected["delta"] = json!(-3);
    assert_eq!((first.status, first.json(), first.header("etag")), (201, expected, "\"2\""));
    assert_eq!(adjust(&api, "k2", json!({"delta": 1})).await.json()["on_hand"], 118);
    let again = adjust(&api, "k", body).await;
    assert_eq!((again.status, &again.text, again.header("etag")), (201, &first.text, "\"2\""));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    let before = state(&shop).await;
    adjust(&api, "k", json!({"delta": -4, "reason": "damaged", "reference": "ticket 9"})).await.problem(422, "idempotency-key-reused");
    api.send("POST", ADJUSTMENTS, r#"{"delta":1}"#).await.problem(400, "missing-idempotency-key");
    for malformed in ["", "a b", &"x".repeat(256)] {
        adjust(&api, malformed, json!({"delta": 1})).await.problem(400, "invalid-header");
    }
    assert_eq!(state(&shop).await, before);
    let other = api.request("POST", "/v1/products/2/stock/adjustments").header("idempotency-key", "k").header("content-type", JSON);
    Reply::to(other.body(r#"{"delta":1}"#)).await.problem(422, "idempotency-key-reused");
    assert_eq!(movements(&shop).await, 3);
}

#[tokio::test]
async fn a_count_with_a_key_is_answered_again_as_it_was() {
    let (shop, api) = counted(10).await;
    let request = || api.request("PUT", STOCK).header("if-match", "\"1\"").header("idempotency-key", "k").header("content-type", JSON);
    let first = Reply::to(request().body(r#"{"on_hand":12}"#)).await;
    assert_eq!(first.json(), level(12, 0, 2));
    assert_eq!(count(&api, "*", json!({"on_hand": 20})).await.status, 200);
    let again = Reply::to(request().body(r#"{"on_hand":12}"#)).await;
    assert_eq!((again.status, &again.text, again.header("idempotent-replayed")), (200, &first.text, "true"));
    Reply::to(request().body(r#"{"on_hand":13}"#)).await.problem(422, "idempotency-key-reused");
    assert_eq!(api.get(STOCK).await.json(), level(20, 0, 3));
    assert_eq!(movements(&shop).await, 3);
}

#[tokio::test]
async fn the_ledger_is_read_page_by_page_with_the_newest_first() {
    let (shop, api) = counted(100).await;
    for number in 1..=6 {
        let body = json!({"delta": -number, "reason": format!("r{number}")});
        assert_eq!(adjust(&api, &format!("k{number}"), body).await.status, 201);
    }
    let ledger = format!("{STOCK}/movements");
    let whole = api.get(&ledger).await;
    assert_eq!(whole.status, 200);
    let whole = whole.json();
    let rows = whole["data"].as_array().unwrap();
    assert_eq!((rows.len(), &whole["next_cursor"]), (7, &json!(null)));
    let created: String = shop.rows("SELECT DATE_FORMAT(MAX(created_at), '%Y-%m-%dT%H:%i:%s.%fZ') FROM stock_movements").await.remove(0);
    let newest = json!({
        "id": shop.number("SELECT MAX(id) FROM stock_movements").await, "kind": "adjustment", "delta": -6, "reserved_delta": 0,
        "on_hand": 79, "reserved": 0, "reason": "r6", "reference": null, "actor": null, "reservation_id": null, "created_at": created,
    });
    assert_eq!((&rows[0], &rows[6]["kind"], &rows[6]["delta"]), (&newest, &json!("count"), &json!(100)));

    let (mut walked, mut place) = (Vec::new(), String::new());
    for _ in 0..4 {
        let page = api.get(&format!("{ledger}?limit=2{place}")).await.json();
        walked.extend(page["data"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => place = format!("&cursor={cursor}"),
            None => place.clear(),
        }
    }
    assert_eq!((&walked, place.as_str()), (rows, ""));
    assert_eq!(api.get("/v1/products/2/stock/movements").await.json(), json!({"data": [], "next_cursor": null}));
    for bad in ["limit=0", "limit=x", "limit=100000", "cursor=x", "cursor=", "page=2"] {
        let answer = api.get(&format!("{ledger}?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn a_product_that_is_none_has_no_stock() {
    let (shop, api) = counted(10).await;
    shop.run("UPDATE products SET deleted_at = NOW(6) WHERE id = 3").await;
    let before = state(&shop).await;
    for id in ["99", "3", "9007199254740991"] {
        for path in [format!("/v1/products/{id}/stock"), format!("/v1/products/{id}/stock/movements")] {
            api.get(&path).await.problem(404, "unknown-product");
        }
        let put = api.request("PUT", &format!("/v1/products/{id}/stock")).header("if-match", "*").header("content-type", JSON);
        Reply::to(put.body(r#"{"on_hand":1}"#)).await.problem(404, "unknown-product");
        let post = api.request("POST", &format!("/v1/products/{id}/stock/adjustments")).header("idempotency-key", "k");
        Reply::to(post.header("content-type", JSON).body(r#"{"delta":1}"#)).await.problem(404, "unknown-product");
    }
    for id in ["0", "x", "-1", "1.0", "9007199254740992"] {
        api.get(&format!("/v1/products/{id}/stock")).await.problem(400, "invalid-id");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn what_is_no_quantity_is_refused_with_its_place() {
    let (shop, api) = counted(10).await;
    let before = state(&shop).await;
    let long = "x".repeat(256);
    for (body, pointer) in [
        (r#"{"on_hand":-1}"#, "/on_hand"),
        (r#"{"on_hand":1.5}"#, "/on_hand"),
        (r#"{"on_hand":"12"}"#, "/on_hand"),
        (r#"{"on_hand":null}"#, "/on_hand"),
        (r#"{"on_hand":99999999999999999999}"#, "/on_hand"),
        (r#"{"on_hand":9223372036854775807}"#, "/on_hand"),
        (r#"{}"#, "/on_hand"),
        (r#"{"on_hand":1,"quantity":2}"#, "/quantity"),
        (r#"{"on_hand":1,"reason":7}"#, "/reason"),
        (&format!(r#"{{"on_hand":1,"reason":"{long}"}}"#), "/reason"),
        (&format!(r#"{{"on_hand":1,"reference":"{long}"}}"#), "/reference"),
        (r#"[]"#, ""),
    ] {
        let request = api.request("PUT", STOCK).header("if-match", "*").header("content-type", JSON).body(body.to_owned());
        let problem = Reply::to(request).await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), [pointer], "{body}");
        assert!(problem["errors"][0]["detail"].as_str().is_some_and(|detail| detail.len() > 8), "{problem}");
    }
    for (body, pointer) in [
        (r#"{"delta":0}"#, "/delta"),
        (r#"{"delta":-0}"#, "/delta"),
        (r#"{"delta":0.5}"#, "/delta"),
        (r#"{"delta":"3"}"#, "/delta"),
        (r#"{"delta":1000000001}"#, "/delta"),
        (r#"{"delta":-1000000001}"#, "/delta"),
        (r#"{"delta":-99999999999999999999}"#, "/delta"),
        (r#"{"delta":true}"#, "/delta"),
        (r#"{}"#, "/delta"),
        (r#"{"delta":1,"on_hand":2}"#, "/on_hand"),
        (&format!(r#"{{"delta":1,"reason":"{long}"}}"#), "/reason"),
        (r#"7"#, ""),
    ] {
        let request = api.request("POST", ADJUSTMENTS).header("idempotency-key", "k").header("content-type", JSON).body(body.to_owned());
        let problem = Reply::to(request).await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), [pointer], "{body}");
    }
    for body in ["{", "", "{\"delta\":1,\"delta\":2}", "{\"on_hand\":01}"] {
        let request = api.request("POST", ADJUSTMENTS).header("idempotency-key", "k").header("content-type", JSON).body(body);
        Reply::to(request).await.problem(400, "malformed-json");
        let request = api.request("PUT", STOCK).header("if-match", "*").header("content-type", JSON).body(body);
        Reply::to(request).await.problem(400, "malformed-json");
    }
    assert_eq!(state(&shop).await, before);
    let most = adjust(&api, "most", json!({"delta": 1_000_000_000})).await;
    assert_eq!((most.status, &most.json()["on_hand"]), (201, &json!(1_000_000_010)));
}
