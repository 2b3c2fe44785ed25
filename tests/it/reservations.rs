//! Reservations over HTTP: made whole or not at all, committed or released once; and that nothing that is refused changes stock.

use crate::bad_input::{JSON, state};
use harness::{Program, Reply, SOON, Shop, eventually, pointers};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const RESERVATIONS: &str = "/v1/reservations";

/// A shop with four products, ten of each of the first three and none of the last, and an API.
async fn stocked() -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(4).await;
    let api = shop.api().await;
    for (id, on_hand) in [(1, 10), (2, 10), (3, 10), (4, 0)] {
        let request = api.request("PUT", &format!("/v1/products/{id}/stock")).header("if-match", "\"0\"").header("content-type", JSON);
        assert_eq!(Reply::to(request.body(json!({"on_hand": on_hand}).to_string())).await.status, 200);
    }
    (shop, api)
}

fn items(items: &[(u64, u64)]) -> Value {
    items.iter().map(|(product, quantity)| json!({"product_id": product, "quantity": quantity})).collect()
}

async fn sent(api: &Program, key: &str, body: impl ToString) -> Reply {
    let request = api.request("POST", RESERVATIONS).header("idempotency-key", key).header("content-type", JSON);
    Reply::to(request.body(body.to_string())).await
}

async fn reserve(api: &Program, key: &str, of: &[(u64, u64)]) -> Reply {
    sent(api, key, json!({"items": items(of)})).await
}

/// A reservation that was made, as it was answered.
async fn made(api: &Program, key: &str, of: &[(u64, u64)]) -> (String, Value) {
    let made = reserve(api, key, of).await;
    assert_eq!(made.status, 201, "{made:?}");
    (format!("{RESERVATIONS}/{}", made.json()["id"].as_str().unwrap()), made.json())
}

async fn end(api: &Program, place: &str, how: &str) -> Reply {
    Reply::to(api.request("POST", &format!("{place}/{how}"))).await
}

/// On hand and reserved by product.
async fn levels(shop: &Shop) -> BTreeMap<u64, (i64, i64)> {
    let rows: Vec<(u64, i64, i64)> = shop.rows("SELECT product_id, on_hand, reserved FROM stock WHERE version > 0").await;
    rows.into_iter().map(|(id, on_hand, reserved)| (id, (on_hand, reserved))).collect()
}

/// Kind, product, change of on hand and of reserved of each movement of a reservation: how it was made, then how it ended.
async fn movements(shop: &Shop, id: &Value) -> Vec<(String, u64, i64, i64)> {
    let id = id.as_str().unwrap();
    let sql = format!(
        "SELECT kind, product_id, delta, reserved_delta FROM stock_movements WHERE reservation_id = '{id}' ORDER BY kind = 'reserve' DESC, product_id"
    );
    shop.rows(&sql).await
}

#[tokio::test]
async fn a_reservation_is_answered_with_its_place_and_takes_what_is_available() {
    let (shop, api) = stocked().await;
    let body = json!({"items": items(&[(3, 1), (1, 2)]), "ttl_seconds": 60, "reference": "cart_9"});
    let first = sent(&api, "k", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let reservation = first.json();
    let id = reservation["id"].as_str().unwrap();
    assert_eq!(first.header("location"), format!("{RESERVATIONS}/{id}"));
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    let times = "SELECT DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%fZ'), DATE_FORMAT(updated_at, '%Y-%m-%dT%H:%i:%s.%fZ'), \
                 DATE_FORMAT(expires_at, '%Y-%m-%dT%H:%i:%s.%fZ') FROM reservations";
    let (created, updated, expires): (String, String, String) = shop.rows(times).await.remove(0);
    let expected = json!({
        "id": id, "state": "active", "items": items(&[(1, 2), (3, 1)]), "reference": "cart_9",
        "expires_at": expires, "created_at": created, "updated_at": updated,
    });
    assert_eq!(reservation, expected, "items are in the order of their products");
    assert_eq!(shop.number("SELECT TIMESTAMPDIFF(SECOND, created_at, expires_at) FROM reservations").await, 60);
    assert_eq!(api.get(first.header("location")).await.json(), reservation);
    assert_eq!(levels(&shop).await, [(1, (10, 2)), (2, (10, 0)), (3, (10, 1))].into());
    let kept = movements(&shop, &reservation["id"]).await;
    assert_eq!(kept, [("reserve".into(), 1, 0, 2), ("reserve".into(), 3, 0, 1)]);

    let again = sent(&api, "k", &body).await;
    assert_eq!((again.status, &again.text, again.header("location")), (201, &first.text, first.header("location")));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservations").await, 1);
    let (_, plain) = made(&api, "k2", &[(2, 10)]).await;
    assert_eq!(plain["reference"], json!(null));
    let ttl =
        format!("SELECT TIMESTAMPDIFF(SECOND, created_at, expires_at) FROM reservations WHERE id = '{}'", plain["id"].as_str().unwrap());
    assert_eq!(shop.number(&ttl).await, 900);
}

#[tokio::test]
async fn a_commit_takes_the_goods_away_once() {
    let (shop, api) = stocked().await;
    let (place, reservation) = made(&api, "k", &[(1, 2), (2, 3)]).await;
    let committed = end(&api, &place, "commit").await;
    assert_eq!((committed.status, &committed.json()["state"], &committed.json()["id"]), (200, &json!("committed"), &reservation["id"]));
    assert_eq!(levels(&shop).await, [(1, (8, 0)), (2, (7, 0)), (3, (10, 0))].into());
    let kept = movements(&shop, &reservation["id"]).await;
    assert_eq!(kept[2..], [("commit".into(), 1, -2, -2), ("commit".into(), 2, -3, -3)]);
    let before = state(&shop).await;
    for _ in 0..2 {
        let again = end(&api, &place, "commit").await;
        assert_eq!((again.status, &again.text), (200, &committed.text));
    }
    assert_eq!(end(&api, &place, "release").await.problem(409, "reservation-not-active")["state"], "committed");
    assert_eq!(api.get(&place).await.text, committed.text);
    assert_eq!(state(&shop).await, before);
    assert_eq!(reserve(&api, "k", &[(1, 2), (2, 3)]).await.json()["state"], "active", "as it was answered first");
    assert_eq!(levels(&shop).await[&1], (8, 0));
}

#[tokio::test]
async fn a_release_gives_the_goods_back_once() {
    let (shop, api) = stocked().await;
    let (place, reservation) = made(&api, "k", &[(1, 10)]).await;
    let released = end(&api, &place, "release").await;
    assert_eq!((released.status, &released.json()["state"]), (200, &json!("released")));
    assert_eq!(levels(&shop).await[&1], (10, 0));
    assert_eq!(movements(&shop, &reservation["id"]).await[1..], [("release".into(), 1, 0, -10)]);
    let before = state(&shop).await;
    assert_eq!(end(&api, &place, "release").await.text, released.text);
    assert_eq!(end(&api, &place, "commit").await.problem(409, "reservation-not-active")["state"], "released");
    assert_eq!(state(&shop).await, before);
    made(&api, "k2", &[(1, 10)]).await;
}

#[tokio::test]
async fn a_commit_with_a_key_is_answered_again_as_it_was() {
    let (shop, api) = stocked().await;
    let (place, _) = made(&api, "k", &[(1, 1)]).await;
    let (other, _) = made(&api, "k2", &[(1, 1)]).await;
    let commit = async |place: &str| Reply::to(api.request("POST", &format!("{place}/commit")).header("idempotency-key", "c")).await;
    let first = commit(&place).await;
    let again = commit(&place).await;
    assert_eq!((first.status, again.status, &again.text), (200, 200, &first.text));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    commit(&other).await.problem(422, "idempotency-key-reused");
    assert_eq!(levels(&shop).await[&1], (9, 1));
}

#[tokio::test]
async fn a_basket_is_reserved_whole_or_not_at_all_and_every_shortage_is_named() {
    let (shop, api) = stocked().await;
    made(&api, "k", &[(2, 4)]).await;
    let before = state(&shop).await;
    let refused = reserve(&api, "k2", &[(1, 1), (2, 7), (4, 2)]).await;
    let shortages = json!([
        {"product_id": 2, "requested": 7, "available": 6},
        {"product_id": 4, "requested": 2, "available": 0},
    ]);
    assert_eq!(refused.problem(409, "insufficient-stock")["shortages"], shortages);
    assert_eq!(state(&shop).await, before);
    assert_eq!(reserve(&api, "k2", &[(1, 1), (2, 6)]).await.status, 201, "a key that was refused is judged afresh");
}

/// No worker runs: the database's clock decides, whoever asks.
#[tokio::test]
async fn what_has_expired_is_neither_committed_nor_released_and_is_available_again() {
    let (shop, api) = stocked().await;
    let made = sent(&api, "k", json!({"items": items(&[(1, 10)]), "ttl_seconds": 1})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let place = made.header("location");
    let over = async || (api.get(place).await.json()["state"] == "expired").then_some(());
    eventually("its time is over", SOON, over).await;
    for how in ["commit", "release"] {
        assert_eq!(end(&api, place, how).await.problem(409, "reservation-not-active")["state"], "expired", "{how}");
    }
    assert_eq!(levels(&shop).await[&1].0, 10);
    assert_eq!(reserve(&api, "k2", &[(1, 10)]).await.status, 201);
    assert_eq!(levels(&shop).await[&1], (10, 10));
    let kept = movements(&shop, &made.json()["id"]).await;
    assert_eq!(kept, [("reserve".into(), 1, 0, 10), ("expire".into(), 1, 0, -10)]);
    assert_eq!(end(&api, place, "commit").await.problem(409, "reservation-not-active")["state"], "expired");
}

#[tokio::test]
async fn products_that_are_none_are_all_named() {
    let (shop, api) = stocked().await;
    shop.run("UPDATE products SET deleted_at = NOW(6) WHERE id = 3").await;
    let before = state(&shop).await;
    let problem = reserve(&api, "k", &[(98, 1), (1, 1), (3, 1), (99, 1)]).await.problem(404, "unknown-product");
    assert_eq!(pointers(&problem), ["/items/0/product_id", "/items/2/product_id", "/items/3/product_id"]);
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("98"), "{problem}");
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn what_is_no_basket_is_refused_with_every_place() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let many: Vec<_> = (1..=101).map(|id| (id, 1)).collect();
    let one = items(&[(1, 1)]);
    let quantity = |quantity: &str| format!(r#"{{"items":[{{"product_id":1,"quantity":{quantity}}}]}}"#);
    let ttl = |ttl: &str| format!(r#"{{"items":{one},"ttl_seconds":{ttl}}}"#);
    for (body, expected) in [
        (quantity("0"), &["/items/0/quantity"][..]),
        (quantity("-1"), &["/items/0/quantity"]),
        (quantity("1.5"), &["/items/0/quantity"]),
        (quantity("1000001"), &["/items/0/quantity"]),
        (quantity("99999999999999999999"), &["/items/0/quantity"]),
        (quantity("\"1\""), &["/items/0/quantity"]),
        (quantity("null"), &["/items/0/quantity"]),
        (r#"{"items":[{"product_id":1}]}"#.to_owned(), &["/items/0/quantity"]),
        (r#"{"items":[{"quantity":1}]}"#.to_owned(), &["/items/0/product_id"]),
        (r#"{"items":[{"product_id":0,"quantity":1}]}"#.to_owned(), &["/items/0/product_id"]),
        (r#"{"items":[{"product_id":"1","quantity":1}]}"#.to_owned(), &["/items/0/product_id"]),
        (r#"{"items":[{"product_id":-1,"quantity":0}]}"#.to_owned(), &["/items/0/product_id", "/items/0/quantity"]),
        (r#"{"items":[{"product_id":1,"quantity":1,"sku":"P1"}]}"#.to_owned(), &["/items/0/sku"]),
        (r#"{"items":[7]}"#.to_owned(), &["/items/0"]),
        (json!({"items": items(&[(1, 1), (2, 1), (1, 2)])}).to_string(), &["/items/2/product_id"]),
        (r#"{"items":[]}"#.to_owned(), &["/items"]),
        (json!({"items": items(&many)}).to_string(), &["/items"]),
        (r#"{"items":{}}"#.to_owned(), &["/items"]),
        ("{}".to_owned(), &["/items"]),
        (ttl("0"), &["/ttl_seconds"]),
        (ttl("-5"), &["/ttl_seconds"]),
        (ttl("0.5"), &["/ttl_seconds"]),
        (ttl("14401"), &["/ttl_seconds"]),
        (ttl("\"900\""), &["/ttl_seconds"]),
        (json!({"items": one, "reference": "x".repeat(256)}).to_string(), &["/reference"]),
        (json!({"items": one, "quantity": 2}).to_string(), &["/quantity"]),
        ("[]".to_owned(), &[""]),
    ] {
        let problem = sent(&api, "k", &body).await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), expected, "{body}");
        assert!(problem["errors"][0]["detail"].as_str().is_some_and(|detail| detail.len() > 8), "{problem}");
    }
    for body in ["{", "", "{\"items\":[],\"items\":[]}"] {
        sent(&api, "k", body).await.problem(400, "malformed-json");
    }
    assert_eq!(state(&shop).await, before);
    assert_eq!(sent(&api, "k", ttl("14400")).await.status, 201, "the longest time");
}

#[tokio::test]
async fn a_reservation_needs_a_key_that_belongs_to_it() {
    let (shop, api) = stocked().await;
    made(&api, "k", &[(1, 1)]).await;
    let before = state(&shop).await;
    let body = json!({"items": items(&[(1, 1)])}).to_string();
    api.send("POST", RESERVATIONS, body).await.problem(400, "missing-idempotency-key");
    reserve(&api, "k", &[(1, 2)]).await.problem(422, "idempotency-key-reused");
    for malformed in ["", "a b", &"x".repeat(256)] {
        reserve(&api, malformed, &[(1, 1)]).await.problem(400, "invalid-header");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn a_reservation_that_nobody_made_is_unknown_and_what_is_no_id_is_refused() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let unknown = format!("{RESERVATIONS}/{}", uuid::Uuid::now_v7());
    for (id, status, slug) in [(unknown.as_str(), 404, "unknown-reservation"), ("/v1/reservations/7", 400, "invalid-id")] {
        api.get(id).await.problem(status, slug);
        for how in ["commit", "release"] {
            end(&api, id, how).await.problem(status, slug);
        }
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn the_time_to_live_has_a_limit_that_is_set() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let settings = [("INVENTORY_RESERVATION_TTL", "20s".to_owned()), ("INVENTORY_RESERVATION_TTL_LIMIT", "30s".to_owned())];
    let api = shop.api_with(&settings).await;
    let request = api.request("PUT", "/v1/products/1/stock").header("if-match", "*").header("content-type", JSON);
    assert_eq!(Reply::to(request.body(r#"{"on_hand":10}"#)).await.status, 200);
    let one = items(&[(1, 1)]);
    let problem = sent(&api, "k", json!({"items": one, "ttl_seconds": 31})).await.problem(422, "validation-failed");
    assert_eq!(pointers(&problem), ["/ttl_seconds"]);
    assert_eq!(sent(&api, "k", json!({"items": one})).await.status, 201);
    assert_eq!(sent(&api, "k2", json!({"items": one, "ttl_seconds": 30})).await.status, 201);
    let kept: Vec<i64> = shop.rows("SELECT TIMESTAMPDIFF(SECOND, created_at, expires_at) FROM reservations ORDER BY id").await;
    assert_eq!(kept, [20, 30]);
}
