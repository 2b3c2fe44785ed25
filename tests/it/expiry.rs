//! Reservations whose time is over are released by the worker, whoever else asks for them.

use harness::{Reply, SOON, Shop, ShopOptions, eventually};
use serde_json::json;

/// Reservations of one of each of these products, made in plain SQL with all that belongs to them, whose time is over in so many
/// seconds.
async fn reserved_of(shop: &Shop, products: &[u64], count: usize, seconds: i64) {
    let ids: Vec<String> = (0..count).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    let rows = |row: &dyn Fn(&str) -> String| ids.iter().map(|id| row(id)).collect::<Vec<_>>().join(",");
    let lines = |row: &dyn Fn(&str, u64) -> String| {
        ids.iter().flat_map(|id| products.iter().map(|product| row(id, *product))).collect::<Vec<_>>().join(",")
    };
    let of = rows(&|id| format!("('{id}', UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"));
    shop.run(&format!("INSERT INTO reservations (id, expires_at) VALUES {of}")).await;
    let of = lines(&|id, product| format!("('{id}', {product}, 1)"));
    shop.run(&format!("INSERT INTO reservation_items VALUES {of}")).await;
    let of = lines(&|id, product| format!("({product}, 'reserve', 0, 1, 1000, 0, '{id}')"));
    let columns = "product_id, kind, delta, reserved_delta, on_hand, reserved, reservation_id";
    shop.run(&format!("INSERT INTO stock_movements ({columns}) VALUES {of}")).await;
    for product in products {
        shop.run(&format!("UPDATE stock SET reserved = reserved + {count} WHERE product_id = {product}")).await;
    }
}

async fn reserved(shop: &Shop, count: usize, seconds: i64) {
    reserved_of(shop, &[1, 2], count, seconds).await;
}

/// Stock of two products, a thousand of each.
async fn stocked(options: ShopOptions) -> Shop {
    let shop = Shop::with(options).await;
    shop.products(2).await;
    for id in 1..=2 {
        shop.run(&format!("INSERT INTO stock (product_id, on_hand) VALUES ({id}, 1000)")).await;
        shop.run(&format!(
            "INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved) VALUES ({id}, 'count', 1000, 1000, 0)"
        ))
        .await;
    }
    shop
}

/// Waits until no more than `left` are active.
async fn released(shop: &Shop, left: u64) {
    let active = "SELECT COUNT(*) FROM reservations WHERE state = 'active'";
    eventually("they are released", SOON, async || (shop.number(active).await == left).then_some(())).await;
}

#[tokio::test]
async fn several_workers_release_each_reservation_whose_time_is_over_once_and_no_other() {
    let shop = stocked(ShopOptions::default()).await;
    reserved(&shop, 7, 3600).await;
    reserved(&shop, 250, -60).await;
    let workers = [shop.worker().await, shop.worker().await, shop.worker().await];
    released(&shop, 7).await;
    let levels: Vec<(i64, i64)> = shop.rows("SELECT on_hand, reserved FROM stock").await;
    assert_eq!(levels, [(1000, 7); 2]);
    let moved: Vec<(u64, u64, i64, i64)> =
        shop.rows("SELECT COUNT(*), COUNT(DISTINCT reservation_id, product_id), CAST(SUM(delta) AS SIGNED), CAST(SUM(reserved_delta) AS SIGNED) FROM stock_movements WHERE kind = 'expire'").await;
    assert_eq!(moved, [(500, 500, 0, -500)]);
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservations WHERE state = 'expired'").await, 250);
    for worker in &workers {
        let overdue = async || (worker.metric("inventory_reservations_overdue_seconds").await == 0.0).then_some(());
        eventually("none is overdue", SOON, overdue).await;
        let active = async || (worker.metric("inventory_reservations_active").await == 7.0).then_some(());
        eventually("the active ones are counted", SOON, active).await;
        for kind in ["on_hand", "reserved", "items", "oversold"] {
            assert_eq!(worker.metric(&format!("inventory_invariant_violations_total{{kind=\"{kind}\"}}")).await, 0.0, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_worker_that_may_not_release_says_so_once_and_how_long_they_wait() {
    let shop = stocked(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    let database = shop.database();
    shop.run(&format!("REVOKE UPDATE ON {database}.stock FROM inventory_worker")).await;
    reserved(&shop, 3, -60).await;
    let worker = shop.worker().await;
    let overdue = async || (worker.metric("inventory_reservations_overdue_seconds").await >= 62.0).then_some(());
    eventually("they are overdue for more than two rounds", SOON, overdue).await;
    let told = worker.log().lines().filter(|line| line.contains("cannot be released")).count();
    assert_eq!(told, 1, "{}", worker.log());
    shop.run(&format!("GRANT UPDATE ON {database}.stock TO inventory_worker")).await;
    released(&shop, 0).await;
}

#[tokio::test]
async fn what_expires_while_mysql_is_away_is_released_when_it_is_back() {
    let mut shop = stocked(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    reserved(&shop, 3, 2).await;
    let worker = shop.worker().await;
    shop.mysql.as_mut().unwrap().kill();
    let away = async || (worker.metric("inventory_mysql_up").await == 0.0).then_some(());
    eventually("the worker knows", SOON, away).await;
    shop.mysql.as_mut().unwrap().restart().unwrap();
    released(&shop, 0).await;
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock_movements WHERE kind = 'expire'").await, 6);
    assert!(!worker.log().contains("cannot be released"), "{}", worker.log());
}

/// Somebody set the quantity reserved to 0 by hand: what holds it cannot be given back any more.
async fn uncovered(shop: &Shop, count: usize) {
    reserved_of(shop, &[1], count, -60).await;
    shop.run("UPDATE stock SET reserved = 0 WHERE product_id = 1").await;
}

#[tokio::test]
async fn more_reservations_than_a_transaction_takes_that_stock_does_not_cover_keep_no_other_waiting() {
    let shop = stocked(ShopOptions::default()).await;
    uncovered(&shop, 250).await;
    reserved_of(&shop, &[2], 150, -30).await;
    let _worker = shop.worker().await;
    released(&shop, 250).await;
    let levels: Vec<(i64, i64)> = shop.rows("SELECT on_hand, reserved FROM stock ORDER BY product_id").await;
    assert_eq!(levels, [(1000, 0), (1000, 0)]);
    // Those that expire later are behind them again.
    reserved_of(&shop, &[2], 1, -1).await;
    released(&shop, 250).await;
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock_movements WHERE kind = 'expire' AND product_id = 2").await, 151);
}

#[tokio::test]
async fn a_buyer_of_too_much_is_told_so_beside_more_than_a_transaction_takes_that_cannot_be_released() {
    let shop = stocked(ShopOptions::default()).await;
    uncovered(&shop, 250).await;
    let api = shop.api().await;
    let request = api.request("POST", "/v1/reservations").header("content-type", "application/json").header("idempotency-key", "much");
    let body = json!({"items": [{"product_id": 1, "quantity": 1001}]});
    Reply::to(request.body(body.to_string())).await.problem(409, "insufficient-stock");
}
