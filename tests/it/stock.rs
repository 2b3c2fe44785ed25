//! Stock and reservations over HTTP: what a shop does with them on an ordinary day.

use harness::{Program, Reply, Shop};
use serde_json::{Value, json};

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
