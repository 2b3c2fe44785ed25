//! The alerts about stores, programs and the queue, each in the state that it is about.

use super::stage::Stage;
use super::walk::Walk;
use harness::{SOON, ShopOptions, eventually, record, text};
use uuid::Uuid;

fn walk(name: &str, stage: &Stage) -> Walk {
    Walk::new(name, &stage.shop, &stage.api, &stage.worker)
}

#[tokio::test]
async fn api_absent() {
    let mut stage = Stage::set().await;
    stage.api.kill();
    let mut walk = walk("InventoryApiAbsent", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl start inventory-api"]);
    stage.api.restart().await;
    walk.run().await;
    walk.end();
}

#[tokio::test]
async fn worker_absent_and_one_target_down() {
    let mut stage = Stage::set().await;
    for name in ["InventoryWorkerAbsent", "InventoryTargetDown"] {
        stage.worker.kill();
        stage.views(2, 5).await;
        let mut walk = walk(name, &stage);
        walk.run().await;
        walk.by_hand(&["systemctl start inventory-worker"]);
        stage.worker.restart().await;
        walk.run().await;
        walk.end();
    }
    assert_eq!(stage.shop.views(2).await, 10);
}

#[tokio::test]
async fn mysql_away() {
    let mut stage = Stage::with_own_mysql().await;
    stage.shop.mysql.as_mut().unwrap().kill();
    stage.both_say("inventory_mysql_up", 0.0).await;
    stage.views(2, 5).await;
    let mut walk = walk("InventoryMysqlAway", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl start mariadb"]);
    stage.shop.mysql.as_mut().unwrap().restart().unwrap();
    stage.both_say("inventory_mysql_up", 1.0).await;
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 5);
}

#[tokio::test]
async fn redis_away() {
    let mut stage = Stage::set().await;
    stage.worker.kill();
    stage.views(2, 5).await;
    stage.shop.redis.kill();
    stage.worker = stage.shop.worker_starting(&[]).await;
    eventually("the API knows", SOON, async || (stage.api.metric("inventory_redis_up").await == 0.0).then_some(())).await;
    let mut walk = walk("InventoryRedisAway", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl start redis-server"]);
    stage.shop.redis.restart().unwrap();
    stage.worker.ready().await;
    stage.both_say("inventory_redis_up", 1.0).await;
    let printed = walk.run().await;
    assert!(printed.concat().contains("lost                0"), "{printed:?}");
    walk.end();
    assert_eq!(stage.shop.views(2).await, 5);
}

#[tokio::test]
async fn drain_stopped_by_a_transaction_that_was_left_open() {
    let stage = Stage::with_own_mysql().await;
    let _left_open = stage.shop.lock("view_shards").await;
    stage.views(2, 5).await;
    let mut walk = walk("InventoryDrainStopped", &stage);
    walk.set("ID", stage.oldest_transaction().await);
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 5);
}

#[tokio::test]
async fn drain_retrying_on_a_mysql_that_is_read_only() {
    let stage = Stage::with_own_mysql().await;
    stage.shop.run("SET GLOBAL read_only = ON").await;
    stage.views(2, 5).await;
    let retried = "inventory_drain_batches_total{result=\"retried\"}";
    eventually("a batch is retried", SOON, async || (stage.worker.metric(retried).await > 0.0).then_some(())).await;
    let mut walk = walk("InventoryDrainRetrying", &stage);
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 5);
}

#[tokio::test]
async fn views_late() {
    let stage = Stage::set().await;
    stage.views(2, 5).await;
    let mut walk = walk("InventoryViewsLate", &stage);
    walk.run().await;
    walk.end();
}

#[tokio::test]
async fn queue_paused() {
    let stage = Stage::set().await;
    let pause = "USER=anna HOSTNAME=shop1 \"$0\" queue pause --reason 'a new disk'";
    assert_eq!(stage.shop.ctl_in_shell(None, pause).await.code, Some(0));
    stage.views(2, 5).await;
    let mut walk = walk("InventoryQueuePaused", &stage);
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 5);
}

fn small(capacity: u64) -> ShopOptions {
    ShopOptions { environment: vec![("INVENTORY_QUEUE_CAPACITY", capacity.to_string())], ..ShopOptions::default() }
}

#[tokio::test]
async fn queue_near_its_capacity() {
    let mut stage = Stage::with(small(10)).await;
    stage.worker.kill();
    stage.views(2, 9).await;
    let mut walk = walk("InventoryQueueNearCapacity", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl restart inventory-api"]);
    stage.restart_api_with(&[("INVENTORY_QUEUE_CAPACITY", "1000".into())]).await;
    stage.views(2, 9).await;
    stage.worker.restart().await;
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 18);
}

#[tokio::test]
async fn views_refused() {
    let mut stage = Stage::with(small(2)).await;
    stage.worker.kill();
    stage.views(2, 2).await;
    for _ in 0..3 {
        assert_eq!(stage.api.send("POST", "/v1/products/2/views", "").await.status, 503);
    }
    stage.worker.restart().await;
    eventually("there is room", SOON, async || (stage.api.send("POST", "/v1/products/2/views", "").await.status == 202).then_some(()))
        .await;
    let mut walk = walk("InventoryViewsRefused", &stage);
    walk.run().await;
    walk.end();
}

#[tokio::test]
async fn dead_letters() {
    let stage = Stage::set().await;
    let writer = domain::view::Writer::new(Uuid::from_u128(7));
    let unknown = text(&domain::view::Record { accepted: 3, ..record(writer, 1, storage::watch::now_ms(), &[(4_000_000, 3)]) });
    let push = redis::cmd("RPUSH").arg("inventory:{0}:open").arg("no view").arg(unknown).to_owned();
    push.exec_async(&mut stage.shop.redis_connection().await).await.unwrap();
    let letters = "SELECT COUNT(*) FROM dead_letters";
    eventually("they are set aside", SOON, async || (stage.shop.number(letters).await == 2).then_some(())).await;
    stage.shop.run("INSERT INTO products (id, sku, name) VALUES (4000000, 'LATE', 'Late')").await;
    let mut walk = walk("InventoryDeadLetters", &stage);
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(4_000_000).await, 3);
}

/// Views that were accepted vanish from Redis, and nobody knows.
#[tokio::test]
async fn a_drift_of_the_account_and_then_views_that_are_known_to_be_lost() {
    let mut stage = Stage::with_own_mysql().await;
    stage.views(2, 4).await;
    stage.at_rest().await;
    stage.worker.kill();
    stage.views(2, 5).await;
    let keys = ["open", "waiting", "entries", "pend"].map(|key| format!("inventory:{{2}}:{key}"));
    redis::cmd("DEL").arg(&keys).exec_async(&mut stage.shop.redis_connection().await).await.unwrap();
    let mut drift = walk("InventoryConservationDrift", &stage);
    drift.run_before("inventoryctl queue flush").await;
    // What the same writer sends next tells that they are gone.
    stage.views(2, 1).await;
    stage.worker.restart().await;
    drift.run().await;
    drift.end();
    let mut lost = walk("InventoryViewsLost", &stage);
    let printed = lost.run().await;
    assert!(printed[0].contains("lost                5"), "{printed:?}");
    lost.end();
}
