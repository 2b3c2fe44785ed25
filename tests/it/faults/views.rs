//! Workers that die, stop or stand in the middle of a batch: each view is counted once, and what is shown is exact.

use domain::view::Writer;
use harness::{Books, Program, Proxy, SOON, Shop, eventually, record};
use std::time::Duration;
use storage::watch::now_ms;
use uuid::Uuid;

/// Product of shard 2 with views in MySQL already, so that its row can be locked.
const PRODUCT: u64 = 2;

/// A shop whose worker is gone, with one view in MySQL and `waiting` more in the queue.
async fn shop_with_views(waiting: u64) -> (Shop, Program, Books) {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let mut worker = shop.worker().await;
    shop.view(&api, PRODUCT).await;
    books.at_rest().await;
    worker.kill();
    for _ in 0..waiting {
        shop.view(&api, PRODUCT).await;
    }
    (shop, api, books)
}

async fn exists(shop: &Shop, key: &str) -> bool {
    let mut redis = shop.redis_connection().await;
    redis::cmd("EXISTS").arg(key).query_async(&mut redis).await.expect("Redis answers")
}

async fn get(shop: &Shop, key: &str) -> String {
    let mut redis = shop.redis_connection().await;
    redis::cmd("GET").arg(key).query_async(&mut redis).await.expect("the key is there")
}

/// Nothing is left, MySQL and the API agree on `views`, and the account is even.
async fn assert_counted_once(shop: &Shop, api: &Program, books: &Books, views: u64) {
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted), (views, views));
    assert_eq!((account.drift(), account.dead, account.lost), (0, 0, 0));
    assert_eq!(shop.views(PRODUCT).await, views);
    assert_eq!(shop.shown(api, PRODUCT).await, views);
}

#[tokio::test]
async fn a_view_counts_once_when_its_worker_dies_before_commit() {
    let (shop, api, books) = shop_with_views(5).await;
    // Before anything was read, and with everything written but the COMMIT.
    for rows in ["view_shards WHERE shard = 2", "product_views WHERE product_id = 2"] {
        let lock = shop.lock(rows).await;
        let mut worker = shop.worker().await;
        shop.worker_meets_the_lock().await;
        worker.kill();
        assert!(exists(&shop, "inventory:{2}:batch_id").await);
        assert_eq!(shop.shown(&api, PRODUCT).await, 6);
        lock.release().await;
        assert_eq!(shop.views(PRODUCT).await, 1);
    }
    let _next = shop.worker().await;
    assert_counted_once(&shop, &api, &books, 6).await;
}

/// A worker that stands before its COMMIT until the second proxy lets it go on; it reaches Redis through the first.
async fn worker_before_commit(shop: &Shop) -> (Program, Proxy, Proxy) {
    let (redis, mysql) = (Proxy::to(shop.redis.port()).await, Proxy::to(shop.mysql_port()).await);
    mysql.hold_commit();
    let settings = [
        ("INVENTORY_REDIS_URL", format!("redis://127.0.0.1:{}/0", redis.port())),
        ("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_worker", mysql.port())),
    ];
    let worker = shop.worker_starting(&settings).await;
    mysql.caught().await;
    (worker, redis, mysql)
}

/// A batch whose worker was killed after its COMMIT; its settle stands in the proxy and arrives when that lets it go on.
async fn killed_before_settle(shop: &Shop) -> (String, Proxy) {
    let (mut worker, proxy, mysql) = worker_before_commit(shop).await;
    let batch = get(shop, "inventory:{2}:batch_id").await;
    proxy.hold_request_with(&batch);
    mysql.release();
    proxy.caught().await;
    worker.kill();
    (batch, proxy)
}

#[tokio::test]
async fn a_view_counts_once_when_its_worker_dies_between_commit_and_settle() {
    let (shop, api, books) = shop_with_views(5).await;
    let (batch, proxy) = killed_before_settle(&shop).await;
    assert_eq!(get(&shop, "inventory:{2}:batch_id").await, batch);
    assert_eq!(shop.views(PRODUCT).await, 6);
    let (account, _) = books.account().await.unwrap();
    assert_eq!((account.persisted, account.pending, account.drift()), (6, 0, 0));

    let mut next = shop.worker().await;
    assert_counted_once(&shop, &api, &books, 6).await;
    assert_eq!(next.metric("inventory_drain_batches_total{result=\"already_applied\"}").await, 1.0);
    assert_eq!(next.metric("inventory_views_persisted_total").await, 0.0);

    // What the dead worker had sent arrives after all, while another batch is in hand.
    next.kill();
    for _ in 0..3 {
        shop.view(&api, PRODUCT).await;
    }
    let lock = shop.lock("product_views WHERE product_id = 2").await;
    next.restart().await;
    shop.worker_meets_the_lock().await;
    let moves = get(&shop, "inventory:{2}:sv").await;
    proxy.release();
    eventually("the late settle arrives", SOON, async || (get(&shop, "inventory:{2}:sv").await != moves).then_some(())).await;
    assert!(exists(&shop, "inventory:{2}:batch_id").await);
    assert_eq!(shop.shown(&api, PRODUCT).await, 9);
    lock.release().await;
    assert_counted_once(&shop, &api, &books, 9).await;
}

#[tokio::test]
async fn what_is_shown_is_exact_before_commit_and_between_commit_and_settle() {
    let (shop, api, books) = shop_with_views(5).await;
    let (_worker, proxy, mysql) = worker_before_commit(&shop).await;
    // The batch is sealed and not in the total; nobody has cached the total.
    forget_totals(&shop).await;
    assert_eq!(shop.shown(&api, PRODUCT).await, 6);
    forget_totals(&shop).await;
    proxy.hold_requests();
    mysql.release();
    eventually("the batch is committed", SOON, async || (shop.views(PRODUCT).await == 6).then_some(())).await;
    // Now it is in the total, and still sealed.
    assert!(exists(&shop, "inventory:{2}:batch_id").await);
    assert_eq!(shop.shown(&api, PRODUCT).await, 6);
    shop.view(&api, PRODUCT).await;
    assert_eq!(shop.shown(&api, PRODUCT).await, 7);
    proxy.release();
    assert_counted_once(&shop, &api, &books, 7).await;
}

/// Evicts the cached totals.
async fn forget_totals(shop: &Shop) {
    let mut redis = shop.redis_connection().await;
    let totals: Vec<String> = redis::cmd("KEYS").arg("inventory:{*}:t:*").query_async(&mut redis).await.unwrap();
    if !totals.is_empty() {
        let _: u64 = redis::cmd("DEL").arg(totals).query_async(&mut redis).await.unwrap();
    }
}

#[tokio::test]
async fn a_view_counts_once_when_its_worker_stops_in_mid_transaction_and_goes_on_after_another_drained() {
    let (shop, api, books) = shop_with_views(5).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    // What the INSERT into product_views is given: its answer, and all that follows, is kept from the worker.
    proxy.hold_reply_to("[[2,5]]");
    let mut stopped = shop.worker_starting(&[("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_worker", proxy.port()))]).await;
    proxy.caught().await;
    stopped.signal("STOP");
    assert!(shop.is_locked("view_shards WHERE shard = 2").await);
    proxy.release();

    // It holds the shard's row until MySQL closes its session, which was silent for `wait_timeout`.
    let _next = shop.worker().await;
    for _ in 0..2 {
        shop.view(&api, PRODUCT).await;
    }
    assert_eq!(shop.shown(&api, PRODUCT).await, 8);
    assert_counted_once(&shop, &api, &books, 8).await;

    stopped.signal("CONT");
    eventually("the stopped worker goes on", SOON, async || {
        (stopped.metric("inventory_drain_batches_total{result=\"retried\"}").await >= 1.0).then_some(())
    })
    .await;
    shop.view(&api, PRODUCT).await;
    assert_counted_once(&shop, &api, &books, 9).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_settles_the_batch_in_hand() {
    let (shop, api, books) = shop_with_views(5).await;
    let (mut worker, _redis, mysql) = worker_before_commit(&shop).await;
    worker.signal("TERM");
    eventually("the worker says that it is not ready", SOON, async || {
        let answer = shop.client.get(format!("{}/readyz?verbose", worker.ops)).send().await.ok()?;
        (answer.status() == 503 && answer.text().await.ok()?.contains("\"draining\":true")).then_some(())
    })
    .await;
    assert!(worker.exited().is_none());
    mysql.release();
    let status = eventually("the worker ends", SOON, async || worker.exited()).await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    assert!(!exists(&shop, "inventory:{2}:batch_id").await);
    assert_counted_once(&shop, &api, &books, 6).await;
}

#[tokio::test]
async fn a_second_signal_stops_a_worker_at_once_and_loses_nothing() {
    let (shop, api, books) = shop_with_views(5).await;
    let lock = shop.lock("product_views WHERE product_id = 2").await;
    let mut worker = shop.worker().await;
    shop.worker_meets_the_lock().await;
    worker.signal("TERM");
    eventually("the first signal was heard", SOON, async || worker.log().contains("a second signal ends at once").then_some(())).await;
    worker.signal("TERM");
    let status = eventually("the worker ends", Duration::from_secs(5), async || worker.exited()).await;
    assert_eq!(status.code(), Some(130));
    assert!(exists(&shop, "inventory:{2}:batch_id").await);
    lock.release().await;
    let _next = shop.worker().await;
    assert_counted_once(&shop, &api, &books, 6).await;
}

#[tokio::test]
async fn views_of_a_product_are_applied_while_its_price_is_locked() {
    let (shop, api, books) = shop_with_views(5).await;
    let price = shop.lock("products WHERE id = 2").await;
    let _worker = shop.worker().await;
    assert_counted_once(&shop, &api, &books, 6).await;
    price.release().await;
}

#[tokio::test]
async fn a_batch_that_is_settled_in_part_is_shown_right_and_the_next_worker_settles_the_rest() {
    const PRODUCTS: u64 = 700;
    let shop = Shop::start().await;
    shop.products(4 * PRODUCTS).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let ids: Vec<u64> = (0..PRODUCTS).map(|n| 2 + 4 * n).collect();
    // Of every third product the total is cached.
    for id in ids.iter().step_by(3) {
        assert_eq!(shop.shown(&api, *id).await, 0);
    }
    let counts: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
    books.push(&record(Writer::new(Uuid::new_v4()), 1, now_ms(), &counts)).await;
    let (batch, _proxy) = killed_before_settle(&shop).await;

    let prefix = format!("inventory:{{2}}:t:{}:", books.redis.queue.session().unwrap().run8());
    let script = redis::Script::new(include_str!("../../../crates/storage/src/redis/lua/settle.lua"));
    let mut call = script.prepare_invoke();
    for key in ["batch", "batch_id", "sums", "pend", "entries", "sv", "claimant"] {
        call.key(format!("inventory:{{2}}:{key}"));
    }
    call.arg(&batch).arg(1).arg(prefix).arg("a worker").arg(500);
    let mut redis = shop.redis_connection().await;
    assert_eq!(call.invoke_async::<u64>(&mut redis).await.unwrap(), 2);
    let left: u64 = redis::cmd("HLEN").arg("inventory:{2}:sums").query_async(&mut redis).await.unwrap();
    assert!((2..PRODUCTS).contains(&left), "{left} of {PRODUCTS} products are left");
    for id in &ids {
        assert_eq!(shop.shown(&api, *id).await, 1, "product {id}");
    }

    let _next = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (PRODUCTS, PRODUCTS, 0));
    assert!(!exists(&shop, "inventory:{2}:sums").await && !exists(&shop, "inventory:{2}:pend").await);
    for id in &ids {
        assert_eq!(shop.shown(&api, *id).await, 1, "product {id}");
    }
}
