//! Queues that are longer than usual, and servers that refuse for a while.

use domain::view::Writer;
use harness::{SOON, Shop, eventually, record, text};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longer than a claim may take at once, so that it takes several.
const RECORDS: u64 = 20_000;

#[tokio::test]
async fn a_long_queue_of_single_views_is_drained_in_bounded_batches() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let books = shop.books().await;
    let writer = Writer::new(Uuid::new_v4());
    let session = books.redis.queue.session().unwrap();
    for seq in 1..=RECORDS {
        let record = record(writer, seq, 0, &[(4 + 4 * (seq % 2), 1)]);
        storage::redis::view_queue::push(&session, &books.redis.keys, 0, &record, &[], u64::MAX).await.unwrap();
    }
    let worker = shop.worker().await;
    eventually("all are in MySQL", SOON, async || (shop.all_views().await == RECORDS).then_some(())).await;
    // Counted after the COMMIT that shows the views.
    let batches = async || worker.metric("inventory_drain_batches_total{result=\"applied\"}").await;
    eventually("at least three batches", SOON, async || (batches().await >= 3.0).then_some(())).await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (RECORDS, RECORDS, 0));
}

#[tokio::test]
async fn text_that_is_almost_a_record_leaves_nothing_behind_it() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let books = shop.books().await;
    let (api, writer) = (shop.api().await, Writer::new(Uuid::new_v4()));
    let good = String::from_utf8(text(&record(writer, 1, 0, &[(4, 3)]))).unwrap();
    let mut redis = shop.redis_connection().await;
    let other_format = good.replacen('1', "2", 1);
    for bad in [format!("{good} 8"), format!("{good} 8 x"), format!("{good}  8 1"), format!("{good} 8 9007199254740992"), other_format] {
        redis::cmd("RPUSH").arg("inventory:{0}:open").arg(bad).exec_async(&mut redis).await.unwrap();
    }
    let lock = shop.lock("view_shards WHERE shard = 0").await;
    let mut worker = shop.worker_with(&[("INVENTORY_FLUSH_INTERVAL", "1h".to_owned())]).await;
    shop.worker_meets_the_lock().await;
    for _ in 0..3 {
        assert_eq!(api.send("POST", "/v1/products/4/views", "").await.status, 202);
    }
    lock.release().await;
    eventually("the text is set aside", SOON, async || (shop.number("SELECT COUNT(*) FROM dead_letters").await == 5).then_some(())).await;
    assert_eq!(worker.stop(SOON), Some(0), "it settles the batch in hand");
    assert_eq!(api.get("/v1/products/4").await.json()["views"], 3, "the text's batch took nothing from the views behind it");
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.pending, account.drift()), (3, 3, 0, 0));
    assert_eq!(shop.views(4).await, 3);
}

#[tokio::test]
async fn a_redis_that_cannot_write_now_refuses_views_for_certain_and_at_once() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let replicas = async |count: u8| {
        let mut redis = shop.redis_connection().await;
        redis::cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(count).exec_async(&mut redis).await.unwrap();
    };
    replicas(1).await;
    let asked = Instant::now();
    let refused = api.send("POST", "/v1/products/1/views", "").await;
    refused.problem(503, "unavailable");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(api.get("/v1/products/1").await.status, 200, "reads go on");
    replicas(0).await;
    eventually("views are accepted again", SOON, async || (api.send("POST", "/v1/products/1/views", "").await.status == 202).then_some(()))
        .await;
    assert_eq!(shop.books().await.account().await.unwrap().0.accepted, 1, "what was refused was not stored");
}

#[tokio::test]
async fn setting_the_price_that_another_system_has_set_shows_it() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (one, other) = (shop.api().await, shop.api().await);
    assert_eq!(one.see(1).await.amount, "1.00");
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    assert_eq!(other.see(1).await.amount, "1.00", "nothing follows plain SQL yet");
    assert_eq!(one.put_price(1, "2.00").await.status, 200);
    assert_eq!(other.see(1).await.amount, "2.00", "what was acknowledged is shown");
}
