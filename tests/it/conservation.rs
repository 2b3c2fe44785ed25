//! `inventoryctl check` over the account of views: it says what is off, and nothing while all is even.

use harness::{Program, SOON, Shop, eventually};

async fn check(shop: &Shop, api: &Program, words: &[&str]) -> (Option<i32>, String) {
    let checked = shop.ctl(Some(api), &[&["check"], words].concat()).await;
    (checked.code, checked.stderr)
}

#[tokio::test]
async fn a_check_says_which_views_are_not_where_the_account_has_them() {
    let shop = Shop::start().await;
    shop.products(205).await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    for id in [1, 2, 205] {
        shop.view(&api, id).await;
    }
    shop.books().await.at_rest().await;
    assert_eq!(check(&shop, &api, &["--full"]).await, (Some(0), String::new()));
    // A product without views, whose hours may be gone because they are old.
    shop.run("UPDATE products SET created_at = '2011-01-04' WHERE id = 2").await;
    shop.run("DELETE FROM view_hours WHERE product_id = 2").await;
    assert_eq!(check(&shop, &api, &["--full"]).await.0, Some(0));

    for (wrong, full, told, right) in [
        (
            "UPDATE view_shards SET dead = dead + 2 WHERE shard = 1",
            false,
            vec![
                "shard 1: 2 views were accepted, but 2 are in MySQL, 0 pending, 2 set aside, 0 lost",
                "shard 1: 2 views came to MySQL by its watermarks, 4 were added or set aside",
            ],
            "UPDATE view_shards SET dead = 0 WHERE shard = 1",
        ),
        (
            "UPDATE view_marks SET accepted = accepted - 1, arrived = arrived + 1 WHERE shard = 2",
            false,
            vec![": 2 views came to MySQL, but 0 were accepted", "shard 2: 2 views came to MySQL by its watermarks, 1 were"],
            "UPDATE view_marks SET accepted = accepted + 1, arrived = arrived - 1 WHERE shard = 2",
        ),
        (
            "UPDATE view_shards SET retired_arrived = 1, persisted = persisted + 1 WHERE shard = 3",
            false,
            vec!["shard 3, retired writers: 1 views came to MySQL, but 0 were accepted"],
            "UPDATE view_shards SET retired_arrived = 0, persisted = persisted - 1 WHERE shard = 3",
        ),
        (
            "UPDATE product_views SET views = views + 5 WHERE product_id = 205",
            true,
            vec![
                "product_views has 8 views, but the shards added 3",
                "product 205: product_views has 6 views, but its hours in view_hours 1",
            ],
            "UPDATE product_views SET views = 1 WHERE product_id = 205",
        ),
        (
            "INSERT INTO view_hours VALUES (300, '2100-01-01', 2)",
            true,
            vec!["product 300: product_views has 0 views, but its hours in view_hours 2"],
            "DELETE FROM view_hours WHERE product_id = 300",
        ),
    ] {
        shop.run(wrong).await;
        let (code, said) = check(&shop, &api, &["--full"]).await;
        assert_eq!(code, Some(5), "{wrong}: {said}");
        for told in told {
            assert!(said.contains(told), "{told} in {said}");
        }
        let (code, said) = check(&shop, &api, &[]).await;
        assert_eq!(code, Some(if full { 0 } else { 5 }), "{wrong}: {said}");
        shop.run(right).await;
    }
    assert_eq!(check(&shop, &api, &["--full"]).await, (Some(0), String::new()));
}

#[tokio::test]
async fn views_that_wait_are_sealed_set_aside_or_replayed_are_no_fault() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let api = shop.api().await;
    shop.view(&api, 1).await;
    assert_eq!(check(&shop, &api, &["--full"]).await, (Some(0), String::new()));
    let mut worker = shop.worker().await;
    shop.books().await.at_rest().await;
    shop.run("DELETE FROM products WHERE id = 2").await;
    let record = "1 0123456789abcdef0123456789abcdef 1 3 00000000 4102444800000 2 3";
    let mut redis = shop.redis_connection().await;
    redis::cmd("RPUSH").arg("inventory:{2}:open").arg(record).exec_async(&mut redis).await.unwrap();
    eventually("they are set aside", SOON, async || {
        (shop.number("SELECT CAST(SUM(dead) AS UNSIGNED) FROM view_shards").await == 3).then_some(())
    })
    .await;
    shop.books().await.at_rest().await;
    worker.kill();
    assert_eq!(check(&shop, &api, &["--full"]).await, (Some(0), String::new()));
    shop.run("INSERT INTO products (id, sku, price, currency) VALUES (2, 'LATE', 1, 'GBP')").await;
    assert_eq!(shop.ctl(None, &["dead-letters", "replay", "--all"]).await.code, Some(0));
    assert_eq!(check(&shop, &api, &["--full"]).await, (Some(0), String::new()));
    assert_eq!(shop.views(2).await, 3);
}
