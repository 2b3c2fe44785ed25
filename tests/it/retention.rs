//! Rows that have served their time are deleted by the worker, in small pieces.

use harness::{SOON, Shop, eventually};

#[tokio::test]
async fn keys_older_than_a_day_are_deleted_in_pieces_and_younger_ones_stay() {
    let shop = Shop::start().await;
    let old = |hours: u32, from: u32, to: u32| {
        let rows =
            (from..to).map(|n| format!("('', 'PUT /', 'k{n}', REPEAT('x', 32), 200, '{{}}', UTC_TIMESTAMP(6) - INTERVAL {hours} HOUR)"));
        let rows: Vec<_> = rows.collect();
        format!("INSERT INTO idempotency (token, route, idempotency_key, request, status, body, created_at) VALUES {}", rows.join(","))
    };
    shop.run(&old(25, 0, 2_500)).await;
    shop.run(&old(23, 2_500, 2_510)).await;
    let worker = shop.worker().await;
    let count = "SELECT COUNT(*) FROM idempotency";
    eventually("the old ones are gone", SOON, async || (shop.number(count).await == 10).then_some(())).await;
    let deleted = "inventory_retention_deleted_rows_total{table=\"idempotency\"}";
    eventually("what was deleted is counted", SOON, async || (worker.metric(deleted).await == 2_500.0).then_some(())).await;
    let pieces = "inventory_mysql_query_duration_seconds_count{op=\"retention\"}";
    // Of keys; beside them one look at hours, letters and reservations each, and one at the watermarks of each shard.
    eventually("pieces of 1,000", SOON, async || (worker.metric(pieces).await == 3.0 + 7.0).then_some(())).await;
    assert_eq!(shop.number(count).await, 10);
}

#[tokio::test]
async fn old_hours_and_letters_that_are_done_with_are_deleted_and_totals_and_dead_letters_stay() {
    let shop = Shop::start().await;
    let hours: Vec<_> = (0..2_500).map(|n| format!("(1, UTC_TIMESTAMP() - INTERVAL {} HOUR, 1)", 401 * 24 + n)).collect();
    shop.run(&format!("INSERT INTO view_hours VALUES {}", hours.join(","))).await;
    shop.run("INSERT INTO view_hours VALUES (1, UTC_TIMESTAMP() - INTERVAL 399 DAY, 4)").await;
    shop.run("INSERT INTO product_views VALUES (1, 2504)").await;
    for (state, days, letters) in
        [("replayed", 91, 3), ("dropped", 91, 4), ("replayed", 89, 1), ("dropped", 89, 1), ("dead", 500, 1), ("counted", 91, 1)]
    {
        let row = format!("(0, 'b', 40, 1, 'unknown_product', '{state}', UTC_TIMESTAMP(6) - INTERVAL {days} DAY)");
        let rows = vec![row; letters].join(",");
        shop.run(&format!("INSERT INTO dead_letters (shard, batch, product_id, views, reason, state, updated_at) VALUES {rows}")).await;
    }
    let worker = shop.worker().await;
    for (table, deleted) in [("view_hours", 2_500.0), ("dead_letters", 7.0)] {
        let series = format!("inventory_retention_deleted_rows_total{{table=\"{table}\"}}");
        eventually("what was deleted is counted", SOON, async || (worker.metric(&series).await == deleted).then_some(())).await;
    }
    assert_eq!(shop.rows::<u64>("SELECT views FROM view_hours").await, [4]);
    assert_eq!(shop.views(1).await, 2_504);
    // What was counted becomes replayed meanwhile, and is kept from then on.
    assert_eq!(shop.number("SELECT COUNT(*) FROM dead_letters").await, 4);
    assert_eq!(shop.number("SELECT COUNT(*) FROM dead_letters WHERE state = 'dead'").await, 1);
}

#[tokio::test]
async fn reservations_that_ended_long_ago_are_deleted_with_their_items_and_their_movements_stay() {
    let shop = Shop::start().await;
    // An id begins with the time at which it was made.
    let id = |days: u64, number: usize| {
        let made = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 - days * 86_400_000;
        format!("{:08x}-{:04x}-7000-8000-{number:012x}", made >> 16, made & 0xffff)
    };
    let mut number = 0;
    for (state, made, ended, count) in [
        ("committed", 91, 91, 150),
        ("released", 500, 91, 50),
        ("expired", 92, 91, 50),
        ("committed", 91, 89, 3),
        ("released", 89, 89, 2),
        ("active", 500, 500, 1),
    ] {
        let ids: Vec<_> = (0..count).map(|one| id(made, number + one)).collect();
        number += count;
        let rows = |row: &dyn Fn(&str) -> String| ids.iter().map(|id| row(id)).collect::<Vec<_>>().join(",");
        let of = rows(&|id| format!("('{id}', '{state}', UTC_TIMESTAMP(6) + INTERVAL 1 DAY, UTC_TIMESTAMP(6) - INTERVAL {ended} DAY)"));
        shop.run(&format!("INSERT INTO reservations (id, state, expires_at, updated_at) VALUES {of}")).await;
        shop.run(&format!("INSERT INTO reservation_items VALUES {}", rows(&|id| format!("('{id}', 1, 1), ('{id}', 2, 1)")))).await;
        let of = rows(&|id| format!("(1, '{state}', 0, 0, 0, '{id}')"));
        shop.run(&format!("INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved, reservation_id) VALUES {of}")).await;
    }
    let worker = shop.worker().await;
    let deleted = "inventory_retention_deleted_rows_total{table=\"reservations\"}";
    eventually("what was deleted is counted", SOON, async || (worker.metric(deleted).await == 250.0).then_some(())).await;
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservations").await, 6);
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservation_items").await, 12);
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservation_items i JOIN reservations r ON r.id = i.reservation_id").await, 12);
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock_movements").await, 256);
}
