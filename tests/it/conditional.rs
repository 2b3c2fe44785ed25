//! Prices that are set only if the product is as their writer saw it: `If-Match`.

use harness::{Program, Reply, Shop};
use serde_json::{Value, json};

/// Sets a price of product 1 under a condition.
async fn put(api: &Program, if_match: &str, amount: &str) -> Reply {
    let request = api.request("PUT", "/v1/products/1/price").header("if-match", if_match);
    let body = json!({"amount": amount, "currency": "GBP"}).to_string();
    Reply::to(request.header("content-type", "application/json").body(body)).await
}

async fn changes(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM price_history").await
}

#[tokio::test]
async fn a_price_is_set_over_the_version_that_was_seen_and_over_no_other() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let set = put(&api, "\"1\"", "2.00").await;
    assert_eq!((set.status, set.header("etag")), (200, "\"2\""));
    let entry = shop.entry(1).await;
    for stale in ["\"1\"", "W/\"2\"", "\"1\", \"3\"", "\"02\"", "\"2.0.0\""] {
        let refused = put(&api, stale, "9.00").await.problem(412, "precondition-failed");
        assert_eq!(refused["current"], json!({"version": 2, "price": {"amount": "2.00", "currency": "GBP"}}), "{stale}");
    }
    assert_eq!((shop.price(1).await, changes(&shop).await), ((2, "2.00".into()), 1), "what was refused left nothing");
    assert_eq!(shop.entry(1).await, entry, "and announced nothing");
    assert_eq!(put(&api, "\"1\", \"2\"", "3.00").await.json()["version"], 3);
    assert_eq!(put(&api, "*", "4.00").await.json()["version"], 4);
    let same = put(&api, "\"4\"", "4.00").await;
    assert_eq!((same.status, same.header("etag")), (200, "\"4\""), "the price that is there");
    put(&api, "\"3\"", "4.00").await.problem(412, "precondition-failed");
}

#[tokio::test]
async fn a_first_price_is_set_over_a_version_but_not_over_any_price() {
    let shop = Shop::start().await;
    shop.run("INSERT INTO products (id, sku) VALUES (1, 'bare')").await;
    let api = shop.api().await;
    let refused = put(&api, "*", "2.00").await.problem(412, "precondition-failed");
    assert_eq!(refused["current"], json!({"version": 1, "price": null}));
    assert_eq!(put(&api, "\"1\"", "2.00").await.json()["version"], 2);
}

#[tokio::test]
async fn what_is_no_list_of_tags_is_refused_and_an_unknown_product_is_told_before_a_stale_tag() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for malformed in ["7", "\"7", "*, \"1\"", "", "\"1\" \"2\""] {
        put(&api, malformed, "2.00").await.problem(400, "invalid-header");
    }
    shop.run("UPDATE products SET deleted_at = NOW(6)").await;
    put(&api, "\"7\"", "2.00").await.problem(404, "unknown-product");
    assert_eq!(changes(&shop).await, 0);
}

/// Clients of two instances read a price and set it one higher: every one that was told 200 is in the sum.
#[tokio::test]
async fn a_stale_condition_never_writes_under_load() {
    const CLIENTS: usize = 8;
    const RAISES: u64 = 5;
    let shop = Shop::start().await;
    shop.products(1).await;
    let apis = [shop.api().await, shop.api().await];
    let raise = async |api: &Program| {
        let (mut raised, mut refused) = (0, 0);
        while raised < RAISES {
            let seen = api.get("/v1/products/1").await.json();
            let pounds: u64 = seen["price"]["amount"].as_str().and_then(|amount| amount.strip_suffix(".00")?.parse().ok()).unwrap();
            let answer = put(api, &format!("\"{}\"", seen["version"]), &format!("{}.00", pounds + 1)).await;
            match answer.status {
                200 => raised += 1,
                412 => {
                    refused += 1;
                    let current: Value = answer.json()["current"].clone();
                    assert!(current["version"].as_u64() > seen["version"].as_u64(), "{seen} was refused for {current}");
                }
                status => panic!("{status}: {answer:?}"),
            }
        }
        refused
    };
    let clients = (0..CLIENTS).map(|client| raise(&apis[client % 2]));
    let refused: u64 = futures_util::future::join_all(clients).await.into_iter().sum();
    let all = CLIENTS as u64 * RAISES;
    assert_eq!(shop.price(1).await, (1 + all, format!("{}.00", 1 + all)));
    assert_eq!(changes(&shop).await, all);
    assert!(refused > 0, "clients never met, so nothing was shown");
}
