//! The alerts about prices, stock, HTTP, Redis' memory and MySQL, each in the state that it is about where that can be made.

use super::book::ROOT;
use super::stage::Stage;
use super::walk::Walk;
use harness::{SOON, eventually};

fn walk(name: &str, stage: &Stage) -> Walk {
    Walk::new(name, &stage.shop, &stage.api, &stage.worker)
}

/// A step is to cure by itself, and not one behind it.
async fn is_mended(stage: &Stage, wrong: &str) {
    let entry = stage.shop.entry(1).await;
    assert!(!entry.as_ref().is_some_and(|entry| entry.contains(wrong)), "{entry:?}");
}

/// Changes the entry of the first product.
async fn tamper(stage: &Stage, from: &str, to: &str) {
    stage.warm(1).await;
    let entry = stage.shop.entry(1).await.unwrap();
    assert!(entry.contains(from), "{from} in {entry}");
    stage.shop.set_entry(1, &entry.replace(from, to)).await;
}

#[tokio::test]
async fn a_stale_price() {
    let mut stage = Stage::with_own_mysql().await;
    // Its sample would mend it.
    stage.worker.kill();
    tamper(&stage, "1.00", "9.99").await;
    let mut walk = walk("InventoryStalePrice", &stage);
    walk.run_before("inventoryctl cache invalidate").await;
    is_mended(&stage, "9.99").await;
    tamper(&stage, "1.00", "9.99").await;
    walk.run_before("inventoryctl doctor").await;
    is_mended(&stage, "9.99").await;
    assert_eq!(stage.api.see(1).await.amount, "1.00");
    stage.worker.restart().await;
    stage.is_followed().await;
    walk.run().await;
    walk.end();
}

#[tokio::test]
async fn another_field_that_differs() {
    let mut stage = Stage::set().await;
    let mut walk = walk("InventoryCacheMismatch", &stage);
    walk.run_before("inventoryctl check --full # exits 5").await;
    stage.worker.kill();
    tamper(&stage, "Product 1", "Product 2").await;
    walk.run_before("ops /version").await;
    is_mended(&stage, "Product 2").await;
    stage.worker.restart().await;
    walk.run().await;
    walk.end();
}

#[tokio::test]
async fn stock_that_plain_sql_changed() {
    let stage = Stage::set().await;
    assert_eq!(stage.shop.ctl(Some(&stage.api), &["stock", "set", "P1", "10"]).await.code, Some(0));
    stage.shop.run("UPDATE stock SET on_hand = on_hand + 3 WHERE product_id = 1").await;
    let mut walk = walk("InventoryStockInvariantBroken", &stage);
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.number("SELECT on_hand FROM stock WHERE product_id = 1").await, 12);
}

#[tokio::test]
async fn reservations_that_cannot_be_released_and_stock_that_waits() {
    let stage = Stage::with_own_mysql().await;
    let ctl = async |words: &[&str]| assert_eq!(stage.shop.ctl(Some(&stage.api), words).await.code, Some(0), "{words:?}");
    ctl(&["stock", "set", "P1", "10"]).await;
    ctl(&["reservation", "create", "P1=2", "--ttl", "1s"]).await;
    let overdue = async |is: bool| {
        let metric = "inventory_reservations_overdue_seconds";
        eventually(metric, SOON, async || ((stage.worker.metric(metric).await > 0.0) == is).then_some(())).await;
    };
    for name in ["InventoryReservationsOverdue", "InventoryStockQueueFull"] {
        let _left_open = stage.shop.lock("stock WHERE product_id = 1").await;
        if name == "InventoryReservationsOverdue" {
            overdue(true).await;
        }
        let mut walk = walk(name, &stage);
        walk.set("ID", stage.oldest_transaction().await);
        walk.run().await;
        walk.end();
        overdue(false).await;
    }
    assert_eq!(stage.shop.number("SELECT reserved FROM stock WHERE product_id = 1").await, 0);
}

#[tokio::test]
async fn requests_that_fail_or_take_long() {
    let mut stage = Stage::set().await;
    stage.shop.redis.kill();
    for _ in 0..3 {
        assert_eq!(stage.api.send("POST", "/v1/products/2/views", "").await.status, 503);
    }
    stage.shop.redis.restart().unwrap();
    stage.both_say("inventory_redis_up", 1.0).await;
    for name in ["InventoryErrorBudgetBurn", "InventoryLatencyBudgetBurn"] {
        let mut walk = walk(name, &stage);
        walk.run().await;
        walk.end();
    }
}

#[tokio::test]
async fn the_memory_of_redis() {
    let stage = Stage::with_own_mysql().await;
    let set = async |name: &str, value: &str| {
        let mut redis = stage.shop.redis_connection().await;
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut redis).await.unwrap();
    };
    for name in ["InventoryRedisMemoryHigh", "InventoryRedisEvictions", "InventoryRedisPolicyWrong"] {
        let (setting, value) = if name.ends_with("Wrong") { ("maxmemory-policy", "allkeys-lru") } else { ("maxmemory", "4mb") };
        set(setting, value).await;
        let mut walk = walk(name, &stage);
        walk.run().await;
        walk.end();
    }
}

#[tokio::test]
async fn a_binlog_that_cannot_be_followed() {
    let mut stage = Stage::with_own_mysql().await;
    stage.shop.run("SET GLOBAL binlog_format = 'MIXED'").await;
    stage.restart_worker_with(&[]).await;
    stage.both_say("inventory_tail_up", 0.0).await;
    let is_told = async || stage.api.get_ops("/readyz?verbose").await.text.contains("binlog_format is MIXED").then_some(());
    eventually("the reason is told", SOON, is_told).await;
    let mut walk = walk("InventoryTailLate", &stage);
    walk.run().await;
    walk.end();
    stage.both_say("inventory_tail_up", 1.0).await;
}

#[tokio::test]
async fn connections_and_restarts() {
    let mut stage = Stage::with_own_mysql().await;
    let mut pool = walk("InventoryMysqlPoolSaturated", &stage);
    pool.run().await;
    pool.by_hand(&["systemctl restart inventory-api"]);
    stage.restart_api_with(&[("INVENTORY_MYSQL_CONNECTIONS", "64".into())]).await;
    pool.run().await;
    pool.end();
    let mut restarting = walk("InventoryRestarting", &stage);
    restarting.run().await;
    restarting.end();
}

/// A right is missing, as after a release whose `grants.sql` nobody ran.
#[tokio::test]
async fn changes_that_fail_for_lack_of_a_right() {
    let stage = Stage::with_own_mysql().await;
    let database = stage.shop.database();
    stage.shop.run(&format!("REVOKE INSERT ON {database}.price_history FROM inventory_api@'%'")).await;
    let set = async |amount: &str| {
        let price = serde_json::json!({"amount": amount, "currency": "GBP"});
        stage.api.send("PUT", "/v1/products/1/price", price.to_string()).await.status
    };
    for amount in ["7.01", "7.02", "7.03"] {
        assert_eq!(set(amount).await, 500);
    }
    let mut fails = walk("InventoryChangesFail", &stage);
    fails.run().await;
    fails.end();
    let grants = stage.shop.dir().join("grants.sql");
    let text = std::fs::read_to_string(format!("{ROOT}/deploy/grants.sql")).unwrap();
    std::fs::write(&grants, text.replace(" inventory.", &format!(" {database}."))).unwrap();
    let mut refuses = walk("InventoryStoreRefuses", &stage);
    refuses.set("GRANTS", grants.to_str().unwrap());
    refuses.run().await;
    refuses.end();
    assert_eq!(set("7.04").await, 200);
}
