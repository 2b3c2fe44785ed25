//! The operator's hold on the drain: exact from the moment it is told, kept by MySQL, and harmless to what waits.

use harness::{Crowd, Program, SOON, Shop, ShopOptions, eventually, seed};
use serde_json::{Value, json};
use storage::Kind;
use storage::mysql::pause as store;

const PRODUCTS: u64 = 20;

async fn pause(shop: &Shop) -> Value {
    shop.ctl(None, &["queue", "pause", "--reason", "a new disk", "-o", "json"]).await.json(0)
}

async fn resume(shop: &Shop) -> Value {
    shop.ctl(None, &["queue", "resume", "-o", "json"]).await.json(0)
}

async fn says_paused(program: &Program, paused: bool) {
    let value = f64::from(u8::from(paused));
    eventually("the metric tells the hold", SOON, async || (program.metric("inventory_queue_paused").await == value).then_some(())).await;
    let fact = program.get_ops("/readyz?verbose").await.json()["facts"]["queue"].clone();
    assert_eq!(fact.as_str().unwrap().starts_with("paused since "), paused, "{fact}");
    assert_eq!(fact.as_str().unwrap().ends_with(": a new disk"), paused, "{fact}");
}

/// Views of all products, and what the shards say of them.
async fn in_mysql(shop: &Shop) -> (u64, u64) {
    (shop.all_views().await, shop.number("SELECT CAST(SUM(persisted) AS UNSIGNED) FROM view_shards").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reaches_mysql_between_pause_and_resume_whatever_is_posted_killed_or_started() {
    let mut shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let mut workers = [shop.worker().await, shop.worker().await];
    let crowd = Crowd::start(std::slice::from_ref(&api.url), PRODUCTS, 4, seed());
    crowd.accepts(100).await;
    assert_eq!(pause(&shop).await["changed"], true);
    let before = in_mysql(&shop).await;
    assert_eq!(before.0, before.1);
    crowd.accepts(100).await;
    for worker in &mut workers {
        worker.kill();
        crowd.accepts(20).await;
        worker.restart().await;
        says_paused(worker, true).await;
    }
    says_paused(&api, true).await;
    for worker in &workers {
        assert_eq!(worker.metric("inventory_drain_batches_total{result=\"retried\"}").await, 0.0, "waiting is no failure");
    }
    // A loss of Redis's process does not end it.
    shop.redis.kill();
    shop.redis.restart().unwrap();
    crowd.accepts(100).await;
    assert_eq!(in_mysql(&shop).await, before);
    let (account, _) = eventually("the account is read", SOON, async || books.account().await).await;
    assert_eq!((account.persisted, account.drift()), (before.0, 0));

    assert_eq!(resume(&shop).await["changed"], true);
    let told = crowd.stop().await;
    let account = books.at_rest().await;
    told.check(&shop).await;
    assert_eq!((account.persisted, account.dead, account.lost, account.drift()), (account.accepted, 0, 0, 0));
    assert!(account.persisted >= before.0 + 300);
    says_paused(&api, false).await;
    says_paused(&workers[0], false).await;
}

#[tokio::test]
async fn a_pause_waits_for_the_batch_that_is_being_applied() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (api, books) = (shop.api().await, shop.books().await);
    shop.run("INSERT INTO product_views (product_id, views) VALUES (2, 0)").await;
    let lock = shop.lock("product_views WHERE product_id = 2").await;
    shop.view(&api, 2).await;
    let _worker = shop.worker().await;
    shop.worker_meets_the_lock().await;
    let paused = pause(&shop);
    let release = async {
        let waits = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND user = 'inventory_api' AND info LIKE '%view_shards%FOR UPDATE'",
            shop.database()
        );
        eventually("the pause meets the shard's lock", SOON, async || (shop.number(&waits).await > 0).then_some(())).await;
        assert_eq!(shop.number("SELECT COUNT(*) FROM view_shards WHERE paused_at IS NOT NULL").await, 0);
        lock.release().await;
    };
    let (paused, ()) = tokio::join!(paused, release);
    assert_eq!(paused["changed"], true);
    // Whether the batch came before the pause or not, the pause stands between it and what follows.
    let before = shop.views(2).await;
    shop.view(&api, 2).await;
    eventually("a worker is refused", SOON, async || {
        let (_, depth) = books.account().await?;
        (depth.in_flight > 0).then_some(())
    })
    .await;
    assert_eq!(shop.views(2).await, before);
    resume(&shop).await;
    assert_eq!(books.at_rest().await.persisted, 2);
}

#[tokio::test]
async fn a_worker_that_dies_while_the_queue_is_paused_leaves_its_batch_to_the_next() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (api, books) = (shop.api().await, shop.books().await);
    pause(&shop).await;
    let mut worker = shop.worker().await;
    shop.view(&api, 2).await;
    let sealed = async || {
        let (_, depth) = books.account().await?;
        (depth.in_flight == 1).then_some(())
    };
    eventually("a batch is sealed", SOON, sealed).await;
    eventually("the worker meets the hold", SOON, async || worker.log().contains("an operator holds the drain").then_some(())).await;
    worker.kill();
    shop.view(&api, 2).await;
    resume(&shop).await;
    assert_eq!((shop.views(2).await, shop.shown(&api, 2).await), (0, 2));
    let _next = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (2, 2, 0));
    assert_eq!((shop.views(2).await, shop.shown(&api, 2).await), (2, 2));
}

#[tokio::test]
async fn a_pause_and_a_resume_may_be_repeated_and_the_first_word_stands() {
    let shop = Shop::start().await;
    let first = pause(&shop).await;
    assert_eq!((&first["paused"], &first["changed"], &first["pause_reason"]), (&json!(true), &json!(true), &json!("a new disk")));
    assert!(!first["paused_by"].as_str().unwrap().is_empty(), "{first}");
    let again = shop.ctl(None, &["queue", "pause", "--reason", "another", "-o", "json"]).await;
    assert!(again.stderr.contains("already paused since") && again.stderr.contains("a new disk"), "{again:?}");
    let again = again.json(0);
    for field in ["paused_since", "paused_by", "pause_reason"] {
        assert_eq!(again[field], first[field]);
    }
    assert_eq!(again["changed"], false);

    let status = shop.ctl(None, &["queue", "status"]).await;
    let line = format!("paused since {} by {}: a new disk", first["paused_since"].as_str().unwrap(), first["paused_by"].as_str().unwrap());
    assert_eq!((status.code, status.stdout.lines().next()), (Some(0), Some(line.as_str())));
    let status = shop.ctl(None, &["queue", "status", "-o", "json"]).await.json(0);
    assert_eq!((&status["paused_since"], &status["accepted"]), (&first["paused_since"], &json!(0)));

    assert_eq!(
        resume(&shop).await,
        json!({"paused": false, "changed": true, "paused_since": null, "paused_by": null, "pause_reason": null})
    );
    let again = shop.ctl(None, &["queue", "resume", "-o", "json"]).await;
    assert!(again.stderr.contains("was not paused"), "{again:?}");
    assert_eq!(again.json(0)["changed"], false);
    assert_eq!(shop.ctl(None, &["queue", "status", "-o", "json"]).await.json(0)["paused_since"], json!(null));
    for reason in ["", "two\nlines", &"x".repeat(256)] {
        let refused = shop.ctl(None, &["queue", "pause", "--reason", reason]).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    assert_eq!(shop.number("SELECT COUNT(*) FROM view_shards WHERE paused_at IS NOT NULL").await, 0);
}

#[tokio::test]
async fn a_pause_or_resume_that_was_given_up_does_not_come_later_and_undo_what_was_told_meanwhile() {
    const HELD: &str = "SELECT COUNT(*) FROM view_shards WHERE paused_at IS NOT NULL";
    let late_pause = async {
        let shop = Shop::start().await;
        let hung = shop.hung_mysql().await;
        let given_up = store::pause(&hung.mysql, "late", None).await.unwrap_err();
        assert_eq!(given_up.kind(), Kind::Unknown, "{given_up}");
        assert_eq!(resume(&shop).await["paused"], false);
        hung.rolls_back().await;
        assert_eq!(shop.number(HELD).await, 0);
    };
    let late_resume = async {
        let shop = Shop::start().await;
        let (hung, shards) = (shop.hung_mysql().await, shop.number("SELECT COUNT(*) FROM view_shards").await);
        pause(&shop).await;
        let given_up = store::resume(&hung.mysql).await.unwrap_err();
        assert_eq!(given_up.kind(), Kind::Unknown, "{given_up}");
        assert_eq!(pause(&shop).await["paused"], true);
        hung.rolls_back().await;
        assert_eq!(shop.number(HELD).await, shards);
    };
    tokio::join!(late_pause, late_resume);
}

#[tokio::test]
async fn a_paused_queue_takes_views_up_to_its_capacity_and_can_be_resumed_without_redis() {
    let environment = vec![("INVENTORY_QUEUE_CAPACITY", "2".to_owned())];
    let mut shop = Shop::with(ShopOptions { environment, ..ShopOptions::default() }).await;
    shop.products(4).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let _worker = shop.worker().await;
    pause(&shop).await;
    let full = async || {
        let answer = harness::Reply::to(api.request("POST", "/v1/products/1/views")).await;
        (answer.status != 202).then_some(answer)
    };
    eventually("the queue is full", SOON, full).await.problem(503, "over-capacity");
    assert_eq!(shop.all_views().await, 0);
    shop.redis.kill();
    assert_eq!(resume(&shop).await["changed"], true);
    shop.redis.restart().unwrap();
    let account = books.at_rest().await;
    assert!(account.persisted >= 2 && account.persisted == account.accepted, "{account:?}");
}
