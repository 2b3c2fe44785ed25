//! When a batch is closed, each reason alone with the others out of reach, and how many a worker applies at once.

use harness::{Books, Crowd, PausePoints, Program, Proxy, SOON, Shop, eventually, seed};
use std::time::{Duration, Instant};
use telemetry::pause_point::PausePoint;

/// Product of shard 2.
const PRODUCT: u64 = 2;

const NEVER: &str = "1h";

/// Views of the first batch: more than would make the worker look for the next ones soon.
const FIRST: u64 = 100;

/// A shop whose worker has settled a batch of [`FIRST`] views and has had the ticket of one view that came meanwhile, so that shard
/// 2 is not idle and nothing but the setting that is meant closes the next batch.
async fn busy_shop(views: &str, interval: &str) -> (Shop, Program, Program, Books) {
    let (shop, points) = (Shop::start().await, PausePoints::listen().await);
    shop.products(8).await;
    let settings = [points.setting(), ("INVENTORY_BATCH_VIEWS", views.to_owned()), ("INVENTORY_FLUSH_INTERVAL", interval.to_owned())];
    let (api, books) = (shop.api_with(&settings).await, shop.books().await);
    let claimed = points.hold(PausePoint::AfterClaim);
    let worker = shop.worker_with(&settings).await;
    let first = shop.client.post(format!("{}/v1/products/{PRODUCT}/views", api.url)).json(&serde_json::json!({ "count": FIRST }));
    assert_eq!(first.send().await.unwrap().status(), 202);
    let held = claimed.held().await;
    shop.view(&api, PRODUCT).await;
    let mut redis = shop.redis_connection().await;
    eventually("the ticket is taken", SOON, async || {
        let tickets: u64 = redis::cmd("EXISTS").arg("inventory:{2}:ready").query_async(&mut redis).await.ok()?;
        (tickets == 0).then_some(())
    })
    .await;
    // It answers behind what it did with the ticket.
    worker.metrics().await;
    held.release();
    eventually("the first batch is counted", SOON, async || (shop.views(PRODUCT).await >= FIRST).then_some(())).await;
    (shop, api, worker, books)
}

/// Batches that were applied, and their views.
async fn drained(worker: &Program) -> (f64, f64) {
    let text = worker.metrics().await;
    let metric = |name| harness::metric_in(&text, name).unwrap();
    (metric("inventory_drain_batch_views_count"), metric("inventory_drain_batch_views_sum"))
}

async fn drains(worker: &Program, expected: (f64, f64)) {
    eventually(&format!("{expected:?} batches and views"), SOON, async || (drained(worker).await == expected).then_some(())).await;
}

#[tokio::test]
async fn a_batch_is_closed_by_its_number_of_views_alone() {
    let (shop, api, worker, books) = busy_shop("10", NEVER).await;
    for _ in 2..10 {
        shop.view(&api, PRODUCT).await;
    }
    // A shard that is idle is drained meanwhile, and this one is not.
    shop.view(&api, 3).await;
    drains(&worker, (2.0, FIRST as f64 + 1.0)).await;
    assert_eq!(shop.views(PRODUCT).await, FIRST, "nine views do not close a batch of ten");
    shop.view(&api, PRODUCT).await;
    drains(&worker, (3.0, FIRST as f64 + 11.0)).await;
    assert_eq!(books.at_rest().await.persisted, FIRST + 11);
}

#[tokio::test]
async fn a_batch_is_closed_by_its_age_alone() {
    let (shop, api, worker, books) = busy_shop("10000000", "700ms").await;
    for _ in 2..5 {
        shop.view(&api, PRODUCT).await;
    }
    assert_eq!(books.at_rest().await.persisted, FIRST + 4);
    drains(&worker, (2.0, FIRST as f64 + 4.0)).await;
}

#[tokio::test]
async fn a_shard_that_was_left_empty_is_drained_at_once() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let settings = [("INVENTORY_BATCH_VIEWS", "10000000".to_owned()), ("INVENTORY_FLUSH_INTERVAL", NEVER.to_owned())];
    let (api, worker, books) = (shop.api_with(&settings).await, shop.worker_with(&settings).await, shop.books().await);
    for round in 1..=4 {
        shop.view(&api, PRODUCT).await;
        assert_eq!(books.at_rest().await.persisted, round);
        drains(&worker, (round as f64, round as f64)).await;
        // Idle is what was left empty 50 ms ago.
        let settled = Instant::now();
        eventually("the shard is idle", SOON, async || (settled.elapsed() > Duration::from_millis(200)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_slow_mysql_is_given_one_transaction_of_a_worker_at_a_time() {
    const FREE: &str = "SELECT shard FROM view_shards FOR UPDATE SKIP LOCKED";
    let shop = Shop::start().await;
    shop.products(16).await;
    let (api, books, proxy) = (shop.api().await, shop.books().await, Proxy::to(shop.mysql_port()).await);
    // A transaction of some ten statements then takes about half a second instead of a few milliseconds.
    proxy.delay(Duration::from_millis(40));
    let url = shop.mysql_url_at("inventory_worker", proxy.port());
    let worker = shop.worker_with(&[("INVENTORY_MYSQL_URL", url), ("INVENTORY_FLUSH_INTERVAL", "20ms".to_owned())]).await;
    let crowd = Crowd::start(std::slice::from_ref(&api.url), 16, 4, seed());
    let mut most = (0, 0.0);
    eventually("twenty batches are applied", SOON, async || {
        let free: Vec<u16> = shop.rows(FREE).await;
        let text = worker.metrics().await;
        let metric = |name| harness::metric_in(&text, name).unwrap();
        let applied = metric("inventory_drain_batches_total{result=\"applied\"}");
        // What was begun before it was known that MySQL is slow is over by then.
        if applied >= 8.0 {
            most = (4_usize.saturating_sub(free.len()).max(most.0), metric("inventory_drain_applying").max(most.1));
        }
        (applied >= 20.0).then_some(())
    })
    .await;
    assert_eq!(most, (1, 1.0), "transactions that hold a shard's row in MySQL, and those that the worker tells");
    proxy.delay(Duration::ZERO);
    let told = crowd.stop().await;
    let account = books.at_rest().await;
    assert_eq!((account.drift(), account.dead, account.lost), (0, 0, 0), "{told:?}");
    eventually("nothing is under way", SOON, async || (worker.metric("inventory_drain_applying").await == 0.0).then_some(())).await;
}
