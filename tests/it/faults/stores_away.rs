//! MySQL away, read-only, or refusing a batch: views are accepted, wait, and count when it mends. Nothing is set aside.

use harness::{Proxy, SOON, Shop, ShopOptions, eventually};

async fn retried(worker: &harness::Program) -> f64 {
    worker.metric("inventory_drain_batches_total{result=\"retried\"}").await
}

async fn dead_letters(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM dead_letters").await
}

#[tokio::test]
async fn views_are_accepted_while_mysql_is_away_and_count_when_it_is_back() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (proxy, books) = (Proxy::to(shop.mysql_port()).await, shop.books().await);
    let through = |user| [("INVENTORY_MYSQL_URL", shop.mysql_url_at(user, proxy.port()))];
    let api = shop.api_with(&through("inventory_api")).await;
    let worker = shop.worker_with(&through("inventory_worker")).await;
    for id in 1..=4 {
        shop.view(&api, id).await;
    }
    books.at_rest().await;

    proxy.refuse();
    proxy.cut();
    // Known products, products that this API has not met, and one that does not exist: nobody can tell.
    for id in [1, 2, 3, 4, 5, 6, 7, 8, 99] {
        shop.view(&api, id).await;
    }
    eventually("the worker has tried and failed", SOON, async || (retried(&worker).await >= 4.0).then_some(())).await;
    assert_eq!((shop.all_views().await, dead_letters(&shop).await), (4, 0));
    assert_eq!(books.account().await.unwrap().0.pending, 9);

    proxy.accept();
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.lost, account.drift()), (12, 1, 0, 0));
    let letters: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM dead_letters").await;
    assert_eq!(letters, [(99, 1)]);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (proxy, books, api) = (Proxy::to(shop.mysql_port()).await, shop.books().await, shop.api().await);
    for _ in 0..5 {
        shop.view(&api, 2).await;
    }
    proxy.hold_reply_to_commit();
    let worker = shop.worker_starting(&[("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_worker", proxy.port()))]).await;
    eventually("the batch is committed", SOON, async || (shop.views(2).await == 5).then_some(())).await;
    assert_eq!(shop.shown(&api, 2).await, 5);
    proxy.cut();
    proxy.release();
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (5, 5, 0));
    assert_eq!((shop.views(2).await, shop.shown(&api, 2).await), (5, 5));
    assert!(retried(&worker).await >= 1.0);
    assert_eq!(worker.metric("inventory_drain_batches_total{result=\"already_applied\"}").await, 1.0);
}

#[tokio::test]
async fn a_read_only_mysql_makes_no_dead_letter() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let worker = shop.worker().await;
    shop.run("SET GLOBAL read_only = 1").await;
    for id in 1..=8 {
        shop.view(&api, id).await;
    }
    // Far beyond the tries after which a batch that is refused for its data would be split.
    eventually("the worker has tried and failed", SOON, async || (retried(&worker).await >= 12.0).then_some(())).await;
    assert_eq!((shop.all_views().await, dead_letters(&shop).await), (0, 0));
    shop.run("SET GLOBAL read_only = 0").await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.drift()), (8, 0, 0));
}

#[tokio::test]
async fn a_batch_that_mysql_refuses_for_its_data_is_tried_again_with_an_alert_until_it_is_taken() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    shop.run(
        "CREATE TRIGGER no_views_of_two BEFORE INSERT ON product_views FOR EACH ROW \
         BEGIN IF NEW.product_id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'two is refused'; END IF; END",
    )
    .await;
    for id in 1..=8 {
        shop.view(&api, id).await;
    }
    let worker = shop.worker().await;
    eventually("the batch was tried again", SOON, async || (retried(&worker).await >= 4.0).then_some(())).await;
    assert!(
        worker.log().lines().any(|line| line.contains("ERROR") && line.contains("the batch is refused") && line.contains("two is refused")),
        "{}",
        worker.log()
    );
    // The other shards go on; the batch is whole or not there.
    eventually("the other shards are drained", SOON, async || (shop.all_views().await == 6).then_some(())).await;
    assert_eq!((shop.views(2).await, shop.views(6).await, dead_letters(&shop).await), (0, 0, 0));
    assert_eq!((shop.shown(&api, 2).await, shop.shown(&api, 6).await), (1, 1));

    shop.run("DROP TRIGGER no_views_of_two").await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.lost, account.drift()), (8, 0, 0, 0));
    assert_eq!(shop.all_views().await, 8);
}
