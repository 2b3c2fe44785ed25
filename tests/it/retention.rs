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
    assert_eq!(worker.metric(pieces).await, 3.0, "pieces of 1,000");
    assert_eq!(shop.number(count).await, 10);
}
