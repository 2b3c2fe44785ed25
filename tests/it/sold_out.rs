//! `product list --sold-out`: what visitors look at and nobody can buy.

use harness::Shop;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_sold_out_is_listed_by_its_views_without_api_and_redis() {
    let mut shop = Shop::start().await;
    shop.products(8).await;
    for sql in [
        "INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 0, 0), (2, 5, 5), (3, 5, 4), (5, 0, 0), (6, 0, 0)",
        "UPDATE products SET active = FALSE WHERE id = 5",
        "UPDATE products SET deleted_at = NOW(6) WHERE id = 6",
        "INSERT INTO product_views (product_id, views) VALUES (1, 7), (2, 90), (3, 500), (4, 7), (5, 1000), (6, 1000)",
        "INSERT INTO view_hours (product_id, hour, views) VALUES (2, UTC_TIMESTAMP() - INTERVAL 30 HOUR, 50), \
         (2, UTC_TIMESTAMP() - INTERVAL 3 HOUR, 30), (2, UTC_TIMESTAMP() - INTERVAL 1 HOUR, 10)",
        "INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved, created_at) VALUES \
         (2, 'count', 5, 5, 0, '2011-01-04 09:00:00'), (2, 'reserve', 0, 5, 5, '2011-01-04 10:00:00.5')",
    ] {
        shop.run(sql).await;
    }
    shop.redis.kill();
    let list = async |more: &[&str]| shop.ctl(None, &[&["product", "list", "--sold-out"], more].concat()).await;
    let all = list(&["-o", "json"]).await;
    let rows = all.json(0);
    let skus = |rows: &Value| rows.as_array().unwrap().iter().map(|row| row["sku"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((skus(&rows), all.stderr.as_str()), (["P2", "P1", "P4", "P7", "P8"].map(str::to_owned).to_vec(), ""));
    assert_eq!(
        rows[0],
        json!({"id": 2, "sku": "P2", "name": "Product 2", "available": 0, "reserved": 5, "views": 90, "views_24h": 40,
               "last_movement": {"kind": "reserve", "created_at": "2011-01-04T10:00:00.500000Z"}})
    );
    assert_eq!((&rows[4]["views"], &rows[4]["last_movement"]), (&json!(0), &json!(null)));
    let two = list(&["--sort", "views", "--limit", "2", "-o", "json"]).await;
    assert_eq!(skus(&two.json(0)), ["P2", "P1"]);
    assert!(two.stderr.contains("there are more"), "{two:?}");
    let table = list(&["--limit", "1"]).await.stdout;
    assert_eq!(
        table,
        "SKU  NAME       AVAILABLE  RESERVED  VIEWS  VIEWS_24H  LAST_MOVEMENT\n\
         P2   Product 2  0          5         90     40         reserve 2011-01-04T10:00:00Z\n"
    );
    for (words, told) in [
        (&["product", "list", "--sort", "views"][..], "--sold-out"),
        (&["product", "list", "--sold-out", "--sort", "price"], "views"),
        (&["product", "list", "--sold-out", "--limit", "0"], "--limit"),
        (&["product", "list", "--sold-out", "--limit", "1000"], "at most 999"),
        (&["product", "list", "--sold-out", "--updated-since", "2011-01-04T10:00:00Z"], "--updated-since"),
    ] {
        let refused = shop.ctl(None, words).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(told), "{told:?} in {refused:?}");
    }
}

/// Ids that lie in several pieces of what is looked at.
#[tokio::test]
async fn the_most_viewed_of_a_large_catalogue_are_found_wherever_they_stand() {
    let shop = Shop::start().await;
    let mut conn = shop.sql_connection().await;
    for from in (0..45_000).step_by(5_000) {
        let rows: Vec<_> = (from + 1..=from + 5_000).map(|id| format!("({}, 'P{id}', 'N')", id * 3)).collect();
        conn.query_drop(format!("INSERT INTO products (id, sku, name) VALUES {}", rows.join(","))).await.unwrap();
    }
    shop.run("INSERT INTO product_views (product_id, views) VALUES (6, 5), (90000, 9), (135000, 7), (134997, 1)").await;
    let found = shop.ctl(None, &["product", "list", "--sold-out", "--limit", "3", "-o", "json"]).await.json(0);
    let ids: Vec<_> = found.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [90_000, 135_000, 6]);
}
