//! `queue flush`: it returns when MySQL has what was accepted before, or says why not.

use harness::{Crowd, Outcome, Proxy, SOON, Shop, eventually, seed};

/// So long that nothing is claimed by its end: only tickets make a worker claim.
const NEVER: (&str, &str) = ("INVENTORY_FLUSH_INTERVAL", "1h");

async fn flush(shop: &Shop, more: &[&str]) -> Outcome {
    shop.ctl(None, &[&["queue", "flush", "-o", "json"], more].concat()).await
}

/// Waits until a flush has left its tickets.
async fn tickets_are_left(shop: &Shop) {
    let mut redis = shop.redis_connection().await;
    eventually("a flush has left tickets", SOON, async || {
        let tickets: Vec<String> = redis::cmd("LRANGE").arg("inventory:{3}:ready").arg(0).arg(-1).query_async(&mut redis).await.ok()?;
        tickets.contains(&"flush".to_owned()).then_some(())
    })
    .await;
}

fn not_flushed(outcome: &Outcome, code: i32, told: &[&str]) {
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{outcome:?}");
    for told in told {
        assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_a_flush_is_in_mysql_when_it_returns_while_views_go_on() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    assert_eq!(flush(&shop, &["--wait", "1ms"]).await.json(0)["flushed"], true, "nothing waits, so no worker is needed");
    let settings = [(NEVER.0, NEVER.1.to_owned())];
    let _workers = [shop.worker_with(&settings).await, shop.worker_with(&settings).await];
    // Products 1 to 4 by the crowd, 5 to 8 counted here.
    let crowd = Crowd::start(std::slice::from_ref(&api.url), 4, 4, seed());
    for round in 1..=10 {
        for id in 5..=8 {
            shop.view(&api, id).await;
        }
        flush(&shop, &[]).await.json(0);
        for id in 5..=8 {
            assert_eq!(shop.views(id).await, round, "product {id}");
        }
    }
    let told = crowd.stop().await;
    flush(&shop, &[]).await.json(0);
    for id in 1..=4 {
        assert_eq!(shop.views(id).await, told.accepted.get(&id).copied().unwrap_or(0));
    }
    assert_eq!(books.at_rest().await.drift(), 0);
}

#[tokio::test]
async fn a_flush_that_ends_early_says_why_and_how_much_is_left() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let api = shop.api().await;
    for _ in 0..5 {
        shop.view(&api, 2).await;
    }
    not_flushed(&flush(&shop, &["--wait", "300ms"]).await, 1, &["within 300ms", "no worker seems to run", "5 views wait, the oldest for "]);

    shop.ctl(None, &["queue", "pause", "--reason", "a new disk", "-o", "json"]).await.json(0);
    let paused = ["paused since", ": a new disk", "waiting for `inventoryctl queue resume`", "resume it first", "5 views wait"];
    not_flushed(&flush(&shop, &["--wait", "300ms"]).await, 5, &paused);
    let _worker = shop.worker().await;
    not_flushed(&flush(&shop, &["--wait", "300ms"]).await, 5, &paused);

    // Resumed while somebody waits.
    let resume = async {
        tickets_are_left(&shop).await;
        shop.ctl(None, &["queue", "resume", "-o", "json"]).await.json(0);
    };
    let (flushed, ()) = tokio::join!(flush(&shop, &["--wait", "30s"]), resume);
    assert_eq!(flushed.json(0)["flushed"], true);
    assert_eq!(shop.views(2).await, 5);
    for wrong in ["2h", "soon", "-1s"] {
        assert_eq!(flush(&shop, &["--wait", wrong]).await.code, Some(2), "{wrong}");
    }
}

#[tokio::test]
async fn a_flush_waits_for_the_batch_in_hand_whoever_finishes_it() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let api = shop.api().await;
    shop.run("INSERT INTO product_views (product_id, views) VALUES (2, 0)").await;
    let lock = shop.lock("product_views WHERE product_id = 2").await;
    shop.view(&api, 2).await;
    let mut worker = shop.worker().await;
    shop.worker_meets_the_lock().await;
    not_flushed(&flush(&shop, &["--wait", "300ms"]).await, 1, &["1 views wait"]);
    let finish = async {
        tickets_are_left(&shop).await;
        worker.kill();
        lock.release().await;
        let next = shop.worker().await;
        eventually("the next worker takes it up", SOON, async || (shop.views(2).await == 1).then_some(())).await;
        next
    };
    let (flushed, _next) = tokio::join!(flush(&shop, &["--wait", "30s"]), finish);
    assert_eq!(flushed.json(0)["flushed"], true);
    assert_eq!(shop.views(2).await, 1);
}

#[tokio::test]
async fn a_flush_whose_store_goes_away_names_it() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let api = shop.api().await;
    shop.view(&api, 2).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    let cut = async {
        tickets_are_left(&shop).await;
        proxy.refuse();
        proxy.cut();
    };
    let arguments = ["--wait", "3s", "--mysql-url", &url];
    let (outcome, ()) = tokio::join!(flush(&shop, &arguments), cut);
    not_flushed(&outcome, 7, &["MySQL is away", "1 views wait"]);

    let mut redis = shop.redis_connection().await;
    let _: u64 = redis::cmd("DEL").arg("inventory:{3}:ready").query_async(&mut redis).await.unwrap();
    let redis = Proxy::to(shop.redis.port()).await;
    let url = format!("redis://127.0.0.1:{}/0", redis.port());
    let cut = async {
        tickets_are_left(&shop).await;
        redis.refuse();
        redis.cut();
    };
    let arguments = ["--wait", "3s", "--redis-url", &url];
    let (outcome, ()) = tokio::join!(flush(&shop, &arguments), cut);
    not_flushed(&outcome, 7, &["Redis is away", "1 views wait"]);
}
