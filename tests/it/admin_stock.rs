//! What operators see of stock: of what there is least, and what is held until when.

use harness::{Program, Reply, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};

async fn listed(api: &Program, path: &str) -> Vec<Value> {
    let reply = api.get_ops(&format!("/v1/admin{path}")).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    let mut body = reply.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    serde_json::from_value(body["data"].take()).unwrap()
}

fn numbers(rows: &[Value], field: &str) -> Vec<u64> {
    rows.iter().map(|row| row[field].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_is_least_available_of_what_is_sold_is_listed_first_without_redis() {
    let mut shop = Shop::start().await;
    shop.products(8).await;
    for sql in [
        "INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 5, 5), (2, 3, 0), (3, 10, 9), (5, 0, 0), (6, 0, 0), (7, 1, 0)",
        "UPDATE products SET active = FALSE WHERE id = 5",
        "UPDATE products SET deleted_at = NOW(6) WHERE id = 6",
        "INSERT INTO stock (product_id, on_hand, reserved) VALUES (999, 0, 0)",
    ] {
        shop.run(sql).await;
    }
    let api = shop.api().await;
    shop.redis.kill();
    let all = listed(&api, "/stock").await;
    assert_eq!((numbers(&all, "product_id"), numbers(&all, "available")), (vec![1, 3, 7, 2], vec![0, 1, 1, 3]));
    assert_eq!(all[1], json!({"product_id": 3, "sku": "P3", "name": "Product 3", "on_hand": 10, "reserved": 9, "available": 1}));
    assert_eq!(listed(&api, "/stock?limit=2").await, all[..2]);
    assert_eq!(listed(&api, "/stock?limit=1000").await, all);
}

/// Three reservations, of which each was to be had for so many seconds; their ids.
async fn reserved(api: &Program) -> Vec<String> {
    let mut ids = Vec::new();
    for (key, seconds, items) in [("late", 900, vec![(3, 1)]), ("soon", 60, vec![(2, 4), (1, 2)]), ("sold", 30, vec![(1, 1)])] {
        let items: Vec<Value> = items.iter().map(|(product, quantity)| json!({"product_id": product, "quantity": quantity})).collect();
        let body = json!({"items": items, "ttl_seconds": seconds, "reference": (key == "soon").then_some("cart_9")});
        let request = api.request("POST", "/v1/reservations").header("idempotency-key", key).header("content-type", "application/json");
        let made = Reply::to(request.body(body.to_string())).await;
        assert_eq!(made.status, 201, "{made:?}");
        ids.push(made.json()["id"].as_str().unwrap().to_owned());
    }
    ids
}

#[tokio::test]
async fn active_reservations_are_listed_by_when_they_expire_and_overdue_ones_stay_until_they_are_released() {
    let mut shop = Shop::start().await;
    shop.products(3).await;
    shop.run("INSERT INTO stock (product_id, on_hand) VALUES (1, 10), (2, 10), (3, 10)").await;
    let api = shop.api().await;
    let ids = reserved(&api).await;
    let sold = Reply::to(api.request("POST", &format!("/v1/reservations/{}/commit", ids[2]))).await;
    assert_eq!(sold.status, 200, "{sold:?}");
    shop.run("DELETE FROM products WHERE id = 2").await;
    shop.redis.kill();

    let mut rows = listed(&api, "/reservations").await;
    let left = rows[0].as_object_mut().unwrap().remove("expires_in_seconds").unwrap().as_f64().unwrap();
    assert!((0.0..=60.0).contains(&left), "{left}");
    let shown = api.get(&format!("/v1/reservations/{}", ids[1])).await.json();
    let item = |product: u64, sku: Option<&str>, quantity: u64| json!({"product_id": product, "sku": sku, "quantity": quantity});
    let soon = json!({
        "id": ids[1], "reference": "cart_9", "created_at": shown["created_at"], "expires_at": shown["expires_at"],
        "items": [item(1, Some("P1"), 2), item(2, None, 4)]
    });
    assert_eq!(rows[0], soon, "a product that is gone has no SKU");
    assert_eq!((rows.len(), &rows[1]["id"], &rows[1]["reference"]), (2, &json!(ids[0]), &json!(null)));
    assert_eq!(rows[1]["items"], json!([item(3, Some("P3"), 1)]));
    assert_eq!(listed(&api, "/reservations?limit=1").await[0]["id"], ids[1], "which was made later");

    shop.run(&format!("UPDATE reservations SET expires_at = expires_at - INTERVAL 1000 SECOND WHERE id = '{}'", ids[0])).await;
    let overdue = listed(&api, "/reservations?limit=1").await;
    let left = overdue[0]["expires_in_seconds"].as_f64().unwrap();
    assert!(overdue.len() == 1 && overdue[0]["id"] == json!(ids[0]) && (-1000.0..-100.0 + 0.001).contains(&left), "{overdue:?}");
}

#[tokio::test]
async fn what_mysql_does_not_tell_is_503() {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    let api = shop.api().await;
    assert_eq!((listed(&api, "/stock").await, listed(&api, "/reservations").await), (vec![], vec![]));
    shop.mysql.as_mut().unwrap().kill();
    for path in ["/v1/admin/stock", "/v1/admin/reservations"] {
        let away = eventually("MySQL is away", SOON, async || {
            let reply = api.get_ops(path).await;
            (reply.status == 503).then_some(reply)
        })
        .await;
        away.problem(503, "unavailable");
        assert_eq!(away.header("retry-after"), "1");
    }
}
