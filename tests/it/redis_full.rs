//! A queue at its capacity and a Redis at `maxmemory`: views are refused, everything else goes on, and the drain makes room.

use harness::{Program, SOON, Shop, ShopOptions, eventually};
use reqwest::Response;
use serde_json::{Value, json};
use servers::RedisOptions;

async fn post_view(shop: &Shop, api: &Program, id: u64) -> Response {
    shop.client.post(format!("{}/v1/products/{id}/views", api.url)).send().await.unwrap()
}

/// 503 with the problem that says so, and when to come back.
async fn assert_over_capacity(answer: Response) {
    assert_eq!(answer.status(), 503);
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&json!("/problems/over-capacity"), &json!(503)));
}

async fn accepted_again(shop: &Shop, api: &Program, id: u64) {
    eventually("views are accepted again", SOON, async || (post_view(shop, api, id).await.status() == 202).then_some(())).await;
}

#[tokio::test]
async fn a_queue_at_its_capacity_refuses_views_until_it_is_drained() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let books = shop.books().await;
    let api = shop.api_with(&[("INVENTORY_QUEUE_CAPACITY", "5".to_owned())]).await;
    // The bound is soft: what the queue held when it was last looked at may be a few pushes old.
    let mut accepted = 0;
    let refused = loop {
        let answer = post_view(&shop, &api, 1 + accepted % 8).await;
        if answer.status() != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 15, "the capacity is 5");
    };
    assert_over_capacity(refused).await;
    assert!(accepted >= 5);
    // Refused for as long as nobody drains, also after the queue was looked at again.
    let looked_at = books.account().await.unwrap().1.entries as f64;
    eventually("the queue was looked at", SOON, async || (api.metric("inventory_queue_depth").await == looked_at).then_some(())).await;
    let events = json!({"events": [{"product_id": 1}, {"product_id": 2}]});
    assert_over_capacity(shop.client.post(format!("{}/v1/views", api.url)).json(&events).send().await.unwrap()).await;
    assert_eq!(api.metric("inventory_views_received_total{outcome=\"over_capacity\"}").await, 3.0);
    assert_eq!(api.metric("inventory_queue_capacity").await, 5.0);

    let _worker = shop.worker().await;
    accepted_again(&shop, &api, 6).await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.drift()), (accepted + 1, 0));
}

#[tokio::test]
async fn an_api_that_starts_at_a_full_queue_refuses_views_within_a_second() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let first = shop.api().await;
    for id in 1..=5 {
        shop.view(&first, id).await;
    }
    let api = shop.api_with(&[("INVENTORY_QUEUE_CAPACITY", "5".to_owned())]).await;
    eventually("the new API knows that the queue is full", SOON, async || (post_view(&shop, &api, 6).await.status() == 503).then_some(()))
        .await;
}

/// Enough products for the queue to fill a megabyte quickly.
const PRODUCTS: u64 = 2_000;

async fn config_set(shop: &Shop, key: &str, value: &str) {
    let mut redis = shop.redis_connection().await;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg(key)
        .arg(value)
        .exec_async(&mut redis)
        .await
        .unwrap_or_else(|error| panic!("{key} {value}: {error}"));
}

async fn used_memory(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok()).expect("INFO has used_memory")
}

/// Sends 500 views of 500 products at once; returns how many were accepted.
async fn post_many(shop: &Shop, api: &Program, from: u64) -> u64 {
    let events: Vec<Value> = (0..500).map(|n| json!({"product_id": 1 + (from + n) % PRODUCTS})).collect();
    let url = format!("{}/v1/views", api.url);
    let answer = shop.client.post(url).json(&json!({"events": events})).send().await.unwrap();
    match answer.status().as_u16() {
        202 => answer.json::<Value>().await.unwrap()["accepted"].as_u64().unwrap(),
        503 => 0,
        status => panic!("{status}"),
    }
}

/// Reads and prices as they must go on, whatever Redis has room for.
async fn read_and_set_prices(shop: &Shop, api: &Program, amounts: [&str; 2]) {
    for amount in amounts {
        let url = format!("{}/v1/products/7", api.url);
        let price = json!({"amount": amount, "currency": "GBP"});
        let set = shop.client.put(format!("{url}/price")).json(&price).send().await.unwrap();
        assert_eq!(set.status(), 200, "{}", set.text().await.unwrap());
        let read = shop.client.get(&url).send().await.unwrap();
        assert_eq!(read.status(), 200);
        let product: Value = read.json().await.unwrap();
        assert_eq!(product["price"]["amount"], amount);
        assert!(product["views"].is_u64(), "{product}");
    }
}

async fn a_full_redis_refuses_views_until_the_drain_has_made_room(policy: &str) {
    let redis = RedisOptions { maxmemory_policy: Some(policy.to_owned()), ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (api, books) = (shop.api().await, shop.books().await);
    shop.view(&api, 7).await;
    read_and_set_prices(&shop, &api, ["2.00", "3.00"]).await;

    // Room for the queue to grow, and for nothing else.
    let room = 1024 * 1024;
    config_set(&shop, "maxmemory", &(used_memory(&shop).await + room).to_string()).await;
    let (mut accepted, mut refused) = (1, 0);
    for round in 0..400 {
        let taken = post_many(&shop, &api, 500 * round).await;
        accepted += taken;
        refused += 500 - taken;
        if taken == 0 {
            break;
        }
    }
    assert!(accepted > 2_000, "the queue had room for {accepted}");
    // Less room than is used already: a single view would else still find some.
    config_set(&shop, "maxmemory", &(used_memory(&shop).await - 64 * 1024).to_string()).await;
    assert_over_capacity(post_view(&shop, &api, 7).await).await;
    assert!(refused > 0);
    read_and_set_prices(&shop, &api, ["4.00", "5.00"]).await;
    assert_eq!(books.account().await.unwrap().0.pending, accepted);

    // A worker that starts now can connect, claim and settle.
    let worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted), (accepted, accepted));
    assert_eq!((account.dead, account.lost, account.drift()), (0, 0, 0));
    assert_eq!(worker.metric("inventory_redis_errors_total{kind=\"full\",op=\"claim\"}").await, 0.0);
    assert_eq!(worker.metric("inventory_redis_errors_total{kind=\"full\",op=\"settle\"}").await, 0.0);
    accepted_again(&shop, &api, 7).await;
    assert_eq!(books.at_rest().await.persisted, accepted + 1);
    read_and_set_prices(&shop, &api, ["6.00", "7.00"]).await;
}

#[tokio::test]
async fn a_full_redis_under_noeviction_refuses_views_until_the_drain_has_made_room() {
    a_full_redis_refuses_views_until_the_drain_has_made_room("noeviction").await;
}

#[tokio::test]
async fn a_full_redis_under_volatile_lfu_refuses_views_until_the_drain_has_made_room() {
    a_full_redis_refuses_views_until_the_drain_has_made_room("volatile-lfu").await;
}

#[tokio::test]
async fn a_full_redis_under_volatile_lru_refuses_views_until_the_drain_has_made_room() {
    a_full_redis_refuses_views_until_the_drain_has_made_room("volatile-lru").await;
}

#[tokio::test]
async fn a_redis_that_would_evict_the_queue_is_refused_at_the_start() {
    let shop = Shop::start().await;
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        config_set(&shop, "maxmemory-policy", policy).await;
        for mut program in [shop.api_starting(&[]).await, shop.worker_starting(&[]).await] {
            let status = eventually("the program ends", SOON, async || program.exited()).await;
            assert!(!status.success());
            let log = program.log();
            assert!(log.contains(policy) && log.contains("volatile-lfu"), "{log}");
        }
    }
}
