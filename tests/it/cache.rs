//! What the cache answers, and what is answered without it or without MySQL.

use harness::{Program, Proxy, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};
use servers::RedisOptions;
use std::time::{Duration, Instant};

/// Availability is at most two seconds old; the rest is for a busy machine.
const AVAILABILITY_AGE: Duration = Duration::from_secs(4);

/// The readiness that `/readyz` tells and the status with which it does.
async fn readiness(api: &Program) -> (u16, Value) {
    let answer = api.get_ops("/readyz?verbose").await;
    (answer.status, answer.json()["readiness"].clone())
}

async fn until_ready_as(api: &Program, wanted: &str) {
    eventually(&format!("the API is {wanted}"), SOON, async || (readiness(api).await.1 == wanted).then_some(())).await;
}

#[tokio::test]
async fn a_read_misses_then_hits_and_is_the_same() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let miss = api.get("/v1/products/1").await;
    let hit = api.get("/v1/products/1").await;
    assert_eq!((miss.header("cache-status"), hit.header("cache-status")), ("inventory; fwd=uri-miss", "inventory; hit"));
    assert_eq!((miss.json(), miss.header("etag")), (hit.json(), hit.header("etag")));
    let both = api.get("/v1/products?ids=1,2").await;
    assert_eq!(both.header("cache-status"), "inventory; fwd=uri-miss", "a hit only if all were");
    assert_eq!(api.get("/v1/products?ids=2,1").await.header("cache-status"), "inventory; hit");
    let unchanged = api.request("GET", "/v1/products/1").header("if-none-match", hit.header("etag")).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    assert_eq!(api.put_price(1, "2.00").await.status, 200);
    assert_eq!(api.see(1).await.cache, "hit", "a write publishes what it wrote");
    let changed = api.request("GET", "/v1/products/1").header("if-none-match", hit.header("etag")).send().await.unwrap();
    assert_eq!(changed.status(), 200);
}

#[tokio::test]
async fn each_store_may_be_away_and_what_does_not_need_it_goes_on() {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(3).await;
    let api = shop.api().await;
    assert_eq!(api.put_price(1, "1.50").await.status, 200);
    assert_eq!(api.get("/v1/products/1").await.json()["views"], 0);

    shop.redis.kill();
    for id in [1, 2] {
        let answer = api.get(&format!("/v1/products/{id}")).await;
        assert_eq!((answer.status, answer.header("cache-status")), (200, "inventory; fwd=bypass"));
        let product = answer.json();
        let amount = if id == 1 { "1.50" } else { "1.00" };
        assert_eq!((&product["price"]["amount"], &product["views"]), (&json!(amount), &Value::Null));
        assert_eq!(product["availability"]["available"], 0, "stock lives in MySQL");
    }
    let refused = api.put_price(1, "9.99").await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(shop.price(1).await, (2, "1.50".into()));
    assert_eq!(api.see(4).await.status, 404);
    until_ready_as(&api, "degraded").await;
    assert_eq!(readiness(&api).await.0, 200);

    shop.redis.restart().unwrap();
    let back = Instant::now();
    eventually("Redis is used within a second", Duration::from_secs(1), async || (api.see(1).await.cache != "fwd=bypass").then_some(()))
        .await;
    println!("Redis was used again after {:?}", back.elapsed());
    assert_eq!(api.put_price(1, "1.75").await.status, 200);
    assert_eq!(api.see(2).await.status, 200);
    until_ready_as(&api, "ready").await;

    shop.mysql.as_mut().unwrap().kill();
    let cached = async || {
        let answer = api.get("/v1/products/1").await;
        assert_eq!((answer.status, answer.header("cache-status")), (200, "inventory; hit"), "{answer:?}");
        answer.json()
    };
    assert_eq!(cached().await["price"]["amount"], "1.75");
    eventually("an availability that is two seconds old is not shown", AVAILABILITY_AGE, async || {
        cached().await["availability"].is_null().then_some(())
    })
    .await;
    let refused = api.put_price(1, "9.99").await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    api.get("/v1/products/3").await.problem(503, "unavailable");
    until_ready_as(&api, "degraded").await;

    shop.redis.kill();
    until_ready_as(&api, "unready").await;
    assert_eq!(readiness(&api).await.0, 503);
    api.get("/v1/products/1").await.problem(503, "unavailable");
    assert_eq!(api.get_ops("/livez").await.status, 200);

    shop.mysql.as_mut().unwrap().restart().unwrap();
    shop.redis.restart().unwrap();
    until_ready_as(&api, "ready").await;
    assert!(api.see(1).await.is(3, "1.75"), "nothing that was refused was applied");
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_no_read_for_long() {
    /// A call to Redis is given up after a second, what is shown beside a record too.
    const AT_MOST: Duration = Duration::from_secs(4);
    let shop = Shop::start().await;
    shop.products(1).await;
    let (mysql, redis) = (Proxy::to(shop.mysql_port()).await, Proxy::to(shop.redis.port()).await);
    let api = shop.api_behind(Some(&mysql), Some(&redis)).await;
    assert!(api.see(1).await.is(1, "1.00"));
    let read = async || {
        let started = Instant::now();
        let answer = api.get("/v1/products/1").await;
        assert!(answer.status == 200 && started.elapsed() < AT_MOST, "{answer:?} after {:?}", started.elapsed());
        answer
    };
    redis.hold_replies();
    let answer = read().await;
    assert_eq!((answer.header("cache-status"), &answer.json()["views"]), ("inventory; fwd=bypass", &Value::Null));
    redis.release();
    eventually("Redis is used again", SOON, async || (read().await.header("cache-status") == "inventory; hit").then_some(())).await;
    mysql.hold_replies();
    eventually("availability is given up", SOON, async || read().await.json()["availability"].is_null().then_some(())).await;
    assert_eq!(read().await.header("cache-status"), "inventory; hit");
    mysql.release();
    eventually("MySQL is used again", SOON, async || (read().await.json()["availability"]["available"] == 0).then_some(())).await;
}

#[tokio::test]
async fn an_unknown_id_is_cached_briefly_and_a_new_product_shows_at_once() {
    // Longer than usual, so that a busy machine looks at it in time.
    let environment = vec![("INVENTORY_CACHE_NEGATIVE_TTL", "3s".to_owned())];
    let shop = Shop::with(ShopOptions { environment, ..ShopOptions::default() }).await;
    shop.products(1).await;
    let (api, other) = (shop.api().await, shop.api().await);
    let body = |sku: &str| json!({"sku": sku, "name": sku, "price": {"amount": "5.00", "currency": "GBP"}}).to_string();
    let first = api.send("POST", "/v1/products", body("first")).await.json()["id"].as_u64().unwrap();
    let next = first + 1;
    let unknown = api.get(&format!("/v1/products/{next}")).await;
    unknown.problem(404, "unknown-product");
    assert_eq!(unknown.header("cache-status"), "inventory; fwd=uri-miss");
    assert_eq!(shop.entry(next).await.as_deref(), Some("D0|"));
    assert_eq!(other.see(next).await, harness::Seen { cache: "hit".into(), ..api.see(next).await });
    let made = api.send("POST", "/v1/products", body("second")).await;
    assert_eq!((made.status, made.json()["id"].as_u64()), (201, Some(next)));
    for api in [&api, &other] {
        let seen = api.see(next).await;
        assert!(seen.is(1, "5.00"), "{seen:?}");
    }
    // The entry of another unknown id goes by itself.
    assert_eq!(api.see(next + 1).await.status, 404);
    eventually("absence is forgotten", Duration::from_secs(5), async || shop.entry(next + 1).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn a_deleted_product_is_not_found_and_cannot_be_priced() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    assert_eq!(api.see(1).await.status, 200);
    shop.run("UPDATE products SET deleted_at = NOW(6), version = version + 1 WHERE id = 1").await;
    shop.drop_entry(1).await;
    for cache in ["fwd=uri-miss", "hit"] {
        let seen = api.see(1).await;
        assert_eq!((seen.status, seen.cache.as_str()), (404, cache));
    }
    assert_eq!(shop.entry(1).await.as_deref(), Some("D2|"));
    assert_eq!(api.get("/v1/products?ids=1,2").await.json()["missing"], json!([1]));
    api.put_price(1, "2.00").await.problem(404, "unknown-product");
    assert_eq!(shop.price(1).await, (2, "1.00".into()));
}

#[tokio::test]
async fn availability_follows_the_stock_table_within_two_seconds() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let available = async |id: u64| api.get(&format!("/v1/products/{id}")).await.json()["availability"]["available"].as_i64();
    assert_eq!(available(1).await, Some(0), "no row is no stock");
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 10, 3)").await;
    eventually("the stock is shown", AVAILABILITY_AGE, async || (available(1).await == Some(7)).then_some(())).await;
    shop.run("UPDATE stock SET reserved = 10").await;
    eventually("the reservation is shown", AVAILABILITY_AGE, async || (available(1).await == Some(0)).then_some(())).await;
    shop.run("DELETE FROM stock").await;
    assert_eq!(available(2).await, Some(0));
}

#[tokio::test]
async fn the_cache_may_have_a_redis_of_its_own() {
    let options = ShopOptions {
        // Such a Redis may throw out whatever it likes.
        cache_redis: Some(RedisOptions { maxmemory_policy: Some("allkeys-lru".into()), ..RedisOptions::default() }),
        redis: RedisOptions { maxmemory_policy: Some("noeviction".into()), ..RedisOptions::default() },
        ..ShopOptions::default()
    };
    let mut shop = Shop::with(options).await;
    shop.products(2).await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    assert_eq!(api.see(1).await.cache, "fwd=uri-miss");
    assert_eq!(api.put_price(1, "2.00").await.status, 200);
    assert_eq!(api.send("POST", "/v1/products/1/views", "").await.status, 202);
    let product = api.get("/v1/products/1").await;
    assert_eq!((product.header("cache-status"), &product.json()["views"]), ("inventory; hit", &json!(1)));
    let mut queue = shop.redis_connection().await;
    let cached: Vec<String> = redis::cmd("KEYS").arg("*:c:*").query_async(&mut queue).await.unwrap();
    assert_eq!(cached, Vec::<String>::new(), "the queue's Redis holds nothing of the cache");
    eventually("the view is in MySQL", SOON, async || (shop.views(1).await == 1).then_some(())).await;

    // Each goes away without the other's work being touched.
    shop.cache_redis.as_mut().unwrap().kill();
    let product = api.get("/v1/products/1").await;
    assert_eq!((product.header("cache-status"), &product.json()["views"]), ("inventory; fwd=bypass", &json!(1)));
    api.put_price(1, "3.00").await.problem(503, "unavailable");
    assert_eq!(api.send("POST", "/v1/products/1/views", "").await.status, 202);
    shop.cache_redis.as_mut().unwrap().restart().unwrap();
    eventually("prices can be written again", SOON, async || (api.put_price(1, "3.00").await.status == 200).then_some(())).await;
    shop.redis.kill();
    assert_eq!(api.put_price(1, "4.00").await.status, 200, "prices do not need the queue");
    let product = api.get("/v1/products/1").await;
    assert_eq!((product.header("cache-status"), &product.json()["views"]), ("inventory; hit", &Value::Null));
    assert_eq!(api.send("POST", "/v1/products/1/views", "").await.status, 503);
}
