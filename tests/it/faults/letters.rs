//! Replays of dead letters that race each other, the drain and readers, or die in the middle: each letter counts once,
//! the account is even at every moment, and what is shown is exact.

use domain::view::Writer;
use harness::{Books, Crowd, Proxy, SOON, Shop, ShopOptions, eventually, record, seed};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

/// Hours of 2100-01-01 UTC, which nobody deletes.
const HOURS_MS: [u64; 3] = [4_102_448_400_000, 4_102_452_000_000, 4_102_455_600_000];

/// Products of all four shards that do not exist at first, and the views of each that were set aside.
const FIRST: u64 = 1_000;
const LATE: u64 = 400;
const VIEWS_EACH: u64 = 6;

/// A shop with 8 products, and letters of views of [`LATE`] others, three each, whose products exist by now.
async fn shop_with_letters(options: ShopOptions) -> (Shop, Books) {
    let shop = Shop::with(options).await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, Writer::new(Uuid::new_v4()));
    for (seq, at_ms) in (1..).zip(HOURS_MS) {
        for shard in 0..4 {
            let counts: Vec<(u64, u64)> = (FIRST..FIRST + LATE).filter(|id| id % 4 == shard).map(|id| (id, seq)).collect();
            books.push(&record(writer, seq, at_ms, &counts)).await;
        }
    }
    let mut worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, LATE * VIEWS_EACH);
    worker.kill();
    let rows: Vec<String> = (FIRST..FIRST + LATE).map(|id| format!("({id}, 'P{id}')")).collect();
    shop.run(&format!("INSERT INTO products (id, sku) VALUES {}", rows.join(","))).await;
    (shop, books)
}

const REPLAY: [&str; 5] = ["dead-letters", "replay", "--all", "-o", "json"];

fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap()
}

/// Everything that was set aside is in MySQL, once, and the account is even.
async fn assert_counted_once(shop: &Shop, books: &Books) {
    let account = books.at_rest().await;
    assert_eq!((account.dead, account.lost, account.drift()), (0, 0, 0));
    assert_eq!(account.persisted, shop.all_views().await);
    assert_eq!(shop.number("SELECT CAST(SUM(views) AS UNSIGNED) FROM view_hours").await, account.persisted);
    let wrong = format!("SELECT COUNT(*) FROM product_views WHERE product_id >= {FIRST} AND views <> {VIEWS_EACH}");
    assert_eq!(shop.number(&wrong).await, 0);
    assert_eq!(shop.number(&format!("SELECT COUNT(*) FROM product_views WHERE product_id >= {FIRST}")).await, LATE);
    assert_eq!(shop.number("SELECT COUNT(*) FROM dead_letters WHERE state <> 'replayed'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_at_the_same_time_count_each_letter_once_and_the_account_is_even_at_every_moment() {
    let (shop, books) = shop_with_letters(ShopOptions::default()).await;
    let apis = [shop.api().await, shop.api().await];
    let _workers = [shop.worker().await, shop.worker().await];
    let crowd = Crowd::start(&apis.each_ref().map(|api| api.url.clone()), 8, 4, seed());
    crowd.accepts(50).await;
    let done = AtomicBool::new(false);
    let sample = async {
        let mut samples = 0;
        while !done.load(Ordering::Relaxed) {
            if let Some((account, _)) = books.account().await {
                assert_eq!((account.drift(), account.lost), (0, 0), "{account:?}");
                assert!(account.dead <= LATE * VIEWS_EACH);
                samples += 1;
            }
        }
        samples
    };
    let shown = async {
        // Another product each time, half of them with a cached total, through both APIs.
        let (mut reads, mut random) = (0, fastrand::Rng::with_seed(seed()));
        let mut last = std::collections::BTreeMap::<u64, u64>::new();
        while !done.load(Ordering::Relaxed) {
            let id = FIRST + random.u64(..LATE / 20);
            let views = shop.shown(&apis[random.usize(..2)], id).await;
            let before = last.insert(id, views).unwrap_or(0);
            assert!(views >= before && views <= VIEWS_EACH, "product {id}: {views} after {before}");
            reads += 1;
        }
        reads
    };
    let replays = async {
        let all = tokio::join!(shop.ctl(None, &REPLAY), shop.ctl(None, &REPLAY), shop.ctl(None, &REPLAY));
        done.store(true, Ordering::Relaxed);
        [all.0, all.1, all.2].map(|outcome| outcome.json(0))
    };
    let (reports, samples, reads) = tokio::join!(replays, sample, shown);
    println!("{samples} samples of the account, {reads} reads");
    assert!(samples > 0 && reads > 0);
    assert_eq!(reports.iter().map(|report| count(report, "done")).sum::<u64>(), LATE * 3);
    assert_eq!(reports.iter().map(|report| count(report, "views")).sum::<u64>(), LATE * VIEWS_EACH);
    crowd.accepts(50).await;
    let told = crowd.stop().await;
    assert_counted_once(&shop, &books).await;
    for id in 1..=8 {
        assert_eq!(shop.views(id).await, told.accepted.get(&id).copied().unwrap_or(0));
    }
    for id in [FIRST, FIRST + 1, FIRST + LATE - 1] {
        for api in &apis {
            assert_eq!(shop.shown(api, id).await, VIEWS_EACH);
        }
    }
}

#[tokio::test]
async fn a_replay_that_is_killed_before_its_commit_changes_nothing_and_the_next_does_all() {
    let (shop, books) = shop_with_letters(ShopOptions::default()).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    proxy.hold_commit();
    let arguments = [&REPLAY[..], &["--mysql-url", &url]].concat();
    tokio::select! {
        outcome = shop.ctl(None, &arguments) => panic!("{outcome:?}"),
        // Leaving the select kills it with SIGKILL.
        () = proxy.caught() => {}
    }
    proxy.cut();
    eventually("MySQL has rolled back", SOON, async || (!shop.is_locked("dead_letters").await).then_some(())).await;
    assert_eq!(books.account().await.unwrap().0.dead, LATE * VIEWS_EACH);
    assert_eq!(count(&shop.ctl(None, &REPLAY).await.json(0), "done"), LATE * 3);
    assert_counted_once(&shop, &books).await;
}

#[tokio::test]
async fn a_replay_that_is_killed_after_a_commit_is_finished_by_a_worker_and_completed_by_the_next() {
    let (shop, books) = shop_with_letters(ShopOptions::default()).await;
    let api = shop.api().await;
    let cached = FIRST..FIRST + 4;
    for id in cached.clone() {
        assert_eq!(shop.shown(&api, id).await, 0);
    }
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    proxy.hold_reply_to_commit();
    let arguments = [&REPLAY[..], &["--mysql-url", &url]].concat();
    tokio::select! {
        outcome = shop.ctl(None, &arguments) => panic!("{outcome:?}"),
        () = async {
            proxy.caught().await;
            let committed = "SELECT COUNT(*) FROM dead_letters WHERE state = 'counted'";
            eventually("the first piece is in MySQL", SOON, async || (shop.number(committed).await > 0).then_some(())).await;
        } => {}
    }
    proxy.cut();
    let (account, _) = books.account().await.unwrap();
    assert_eq!((account.persisted + account.dead, account.drift()), (LATE * VIEWS_EACH, 0));
    let persisted = account.persisted;
    assert!(persisted > 0 && persisted < LATE * VIEWS_EACH, "{account:?}");

    // Redis was not told, so the totals that it caches are those from before; the sweep of a worker mends that.
    let _worker = shop.worker().await;
    let counted: Vec<u64> =
        shop.rows(&format!("SELECT product_id FROM product_views WHERE product_id < {} AND product_id >= {FIRST}", cached.end)).await;
    assert!(!counted.is_empty());
    for id in counted {
        let views = shop.views(id).await;
        eventually("what was counted is shown", SOON, async || (shop.shown(&api, id).await == views).then_some(())).await;
    }
    let report = shop.ctl(None, &REPLAY).await.json(0);
    assert_eq!(count(&report, "views"), LATE * VIEWS_EACH - persisted);
    assert_counted_once(&shop, &books).await;
    for id in cached {
        assert_eq!(shop.shown(&api, id).await, VIEWS_EACH);
    }
}

#[tokio::test]
async fn a_replay_whose_commit_is_not_answered_says_so_and_may_be_repeated() {
    let (mut shop, books) = shop_with_letters(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    // Once MySQL dies with the COMMIT on its way, once its answer is lost.
    for kills in [true, false] {
        if kills {
            proxy.hold_commit()
        } else {
            proxy.hold_reply_to_commit()
        }
        let mut mysql = shop.mysql.take().expect("a MySQL of its own");
        let arguments = [&REPLAY[..], &["--mysql-url", &url]].concat();
        let (outcome, ()) = tokio::join!(shop.ctl(None, &arguments), async {
            proxy.caught().await;
            if kills {
                mysql.kill();
            } else {
                let committed = "SELECT COUNT(*) FROM dead_letters WHERE state = 'counted'";
                eventually("the piece is in MySQL", SOON, async || (shop.number(committed).await > 0).then_some(())).await;
            }
            proxy.cut();
            proxy.release();
        });
        if kills {
            mysql.restart().unwrap();
        }
        shop.mysql = Some(mysql);
        assert_eq!(outcome.code, Some(7), "{outcome:?}");
        for told in ["the outcome of the last piece is unknown", "nothing counts twice"] {
            assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
        }
        let (account, _) = eventually("the account is read", SOON, async || books.account().await).await;
        assert_eq!((account.persisted + account.dead, account.drift()), (LATE * VIEWS_EACH, 0));
        assert_eq!(account.persisted > 0, !kills, "{account:?}");
    }
    shop.ctl(None, &REPLAY).await.json(0);
    assert_counted_once(&shop, &books).await;
}
