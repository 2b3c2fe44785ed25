//! Servers and workers killed under load: no accepted view is lost or doubled, and what is shown never falls.

use harness::{Crowd, SOON, Shop, ShopOptions, eventually, seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PRODUCTS: u64 = 50;
const CLIENTS: u64 = 8;

/// Stops the crowd and compares what it was told with what MySQL, the API and the metrics say at rest.
async fn check(shop: &Shop, crowd: Crowd, apis: &[harness::Program]) {
    let books = shop.books().await;
    let told = crowd.stop().await;
    let account = books.at_rest().await;
    told.check(shop).await;
    let all = shop.all_views().await;
    assert_eq!((account.accepted, account.persisted), (all, all));
    assert_eq!((account.dead, account.lost, account.drift()), (0, 0, 0));
    assert!((told.total_accepted()..=told.total_accepted() + told.total_unknown()).contains(&all));
    let rows: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM product_views").await;
    for (id, views) in rows {
        assert_eq!(shop.shown(&apis[0], id).await, views, "product {id}");
    }
    for api in apis {
        eventually("the drift is 0", SOON, async || (api.metric("inventory_views_conservation_drift").await == 0.0).then_some(())).await;
        assert_eq!(api.metric("inventory_views_lost_total").await, 0.0);
    }
    assert_eq!(shop.number("SELECT CAST(SUM(views) AS UNSIGNED) FROM view_hours").await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_under_load_loses_no_accepted_view_and_doubles_none() {
    let mut shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let apis = [shop.api().await, shop.api().await];
    let _workers = [shop.worker().await, shop.worker().await];
    let crowd = Crowd::start(&apis.each_ref().map(|api| api.url.clone()), PRODUCTS, CLIENTS, seed());
    for _ in 0..4 {
        crowd.accepts(150).await;
        shop.redis.kill();
        shop.redis.restart().unwrap();
    }
    crowd.accepts(150).await;
    check(&shop, crowd, &apis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_killed_and_restarted_under_load_loses_no_accepted_view_and_doubles_none() {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let apis = [shop.api().await];
    let _workers = [shop.worker().await, shop.worker().await];
    let crowd = Crowd::start(&[apis[0].url.clone()], PRODUCTS, CLIENTS, seed());
    let mysql = shop.mysql.as_mut().expect("a MySQL of its own");
    for _ in 0..2 {
        crowd.accepts(150).await;
        mysql.kill();
        // Views are accepted while it is away.
        crowd.accepts(150).await;
        mysql.restart().unwrap();
    }
    crowd.accepts(150).await;
    check(&shop, crowd, &apis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_under_load_lose_no_accepted_view_and_double_none() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let apis = [shop.api().await];
    let mut workers = [shop.worker().await, shop.worker().await];
    let seed = seed();
    let crowd = Crowd::start(&[apis[0].url.clone()], PRODUCTS, CLIENTS, seed);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..6 {
        crowd.accepts(random.u64(20..200)).await;
        let worker = &mut workers[round % 2];
        worker.kill();
        worker.restart().await;
    }
    check(&shop, crowd, &apis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shown_total_never_falls_while_views_come_and_are_drained_and_is_exact_at_rest() {
    const HOT: u64 = 4;
    let shop = Arc::new(Shop::start().await);
    shop.products(HOT).await;
    let apis = [shop.api().await, shop.api().await];
    let (_workers, seed) = ([shop.worker().await, shop.worker().await], seed());
    let crowd = Crowd::start(&apis.each_ref().map(|api| api.url.clone()), HOT, 4, seed);
    let done = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (1..=HOT)
        .map(|id| {
            let (shop, done, url) = (shop.clone(), done.clone(), apis[id as usize % 2].url.clone());
            tokio::spawn(async move { watch(&shop, &url, id, seed, &done).await })
        })
        .collect();
    for _ in 0..10 {
        crowd.accepts(100).await;
    }
    let told = crowd.stop().await;
    shop.books().await.at_rest().await;
    done.store(true, Ordering::Relaxed);
    for watcher in watchers {
        assert!(watcher.await.expect("the total never fell") > 100);
    }
    for id in 1..=HOT {
        let accepted = told.accepted.get(&id).copied().unwrap_or(0);
        assert_eq!((shop.views(id).await, shop.shown(&apis[0], id).await), (accepted, accepted));
    }
}

/// Reads one product over and over, evicts its cached total at random, and fails when its views fall. Returns the reads.
async fn watch(shop: &Shop, url: &str, id: u64, seed: u64, done: &AtomicBool) -> u64 {
    let mut redis = shop.redis_connection().await;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("INFO has a run_id");
    let total = format!("inventory:{{{}}}:t:{}:{id}", id % 4, &run_id[..8]);
    let mut random = fastrand::Rng::with_seed(seed ^ id);
    let (mut last, mut reads) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        if random.u8(..4) == 0 {
            let _: u64 = redis::cmd("DEL").arg(&total).query_async(&mut redis).await.unwrap();
        }
        let answer = shop.client.get(format!("{url}/v1/products/{id}")).send().await.unwrap();
        let product: serde_json::Value = answer.json().await.unwrap();
        if let Some(views) = product["views"].as_u64() {
            assert!(views >= last, "product {id}: {views} views after {last}");
            (last, reads) = (views, reads + 1);
        }
    }
    reads
}
