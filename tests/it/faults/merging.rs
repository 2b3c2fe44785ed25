//! Merging under faults: MySQL away, workers killed, a Redis that falls back to before a merge or is put back to one that was
//! given up. No view counts twice, and what is lost is said.

use crate::merging::Pusher;
use harness::{Books, PausePoints, Program, Proxy, SOON, Shop, eventually};
use std::path::PathBuf;
use telemetry::pause_point::PausePoint;

const MERGED: &str = "inventory_queue_merged_records_total";
const HOUR_MS: u64 = 3_600_000;

async fn entries(books: &Books) -> u64 {
    eventually("the depth is read", SOON, async || storage::status::depth(&books.redis).await.ok()).await.entries
}

/// Records in one of the lists of shard 2.
async fn length(shop: &Shop, list: &str) -> u64 {
    redis::cmd("LLEN").arg(format!("inventory:{{2}}:{list}")).query_async(&mut shop.redis_connection().await).await.unwrap()
}

async fn hold(shop: &Shop) {
    shop.ctl(None, &["queue", "pause", "--reason", "a test", "-o", "json"]).await.json(0);
}

async fn resume(shop: &Shop) {
    shop.ctl(None, &["queue", "resume", "-o", "json"]).await.json(0);
}

/// Waits until a worker that is held has merged all but a rest of shard 2.
async fn is_merged(shop: &Shop) {
    eventually("what waits is merged", SOON, async || (length(shop, "open").await < 256 && length(shop, "merged").await > 0).then_some(()))
        .await;
}

/// Keeps Redis's log under a name of its own.
fn keep_log(shop: &Shop, name: &str) -> PathBuf {
    let kept = shop.dir().join(name);
    std::fs::rename(shop.keep_redis_log(), &kept).unwrap();
    kept
}

#[tokio::test]
async fn while_mysql_is_away_the_queue_grows_with_products_and_hours_and_not_with_views() {
    let shop = Shop::start().await;
    shop.products(40).await;
    let (proxy, books) = (Proxy::to(shop.mysql_port()).await, shop.books().await);
    let through = |user| [("INVENTORY_MYSQL_URL", shop.mysql_url_at(user, proxy.port()))];
    let capacity = ("INVENTORY_QUEUE_CAPACITY", "3000".to_owned());
    let api = shop.api_with(&[through("inventory_api"), [capacity]].concat()).await;
    let worker = shop.worker_with(&through("inventory_worker")).await;
    shop.view(&api, 1).await;
    books.at_rest().await;
    proxy.refuse();
    proxy.cut();

    let mut pushers: Vec<Pusher> = (0..4).map(|_| Pusher::new()).collect();
    for push in 0..20_000_u64 {
        let shard = push % 4;
        pushers[shard as usize].push(&books, push / 10_000 * HOUR_MS, &[(1 + shard + 4 * (push / 4 % 9), 1)]).await;
    }
    // A rest of each shard's records is not worth it; forty products in two hours are, at most, and one batch is sealed.
    eventually("the queue is short", SOON, async || (entries(&books).await < 4 * 256 + 80 + 4 * 300).then_some(())).await;
    eventually("the API goes on accepting", SOON, async || {
        let answer = harness::view(&shop.client, &api.url, 7).await;
        (answer == harness::Answer::Accepted).then_some(())
    })
    .await;
    assert!(worker.metric(MERGED).await >= 17_000.0);
    assert!(worker.metric("inventory_queue_merged_entries_total").await >= 16_000.0);
    assert_eq!(shop.all_views().await, 1);

    proxy.accept();
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (20_002, 20_002, 0, 0));
    assert_eq!((shop.views(1).await, shop.shown(&api, 2).await), (557, 556));
    let hours = shop.rows::<(u64, u64)>("SELECT COUNT(*), CAST(SUM(views) AS UNSIGNED) FROM view_hours WHERE hour < '2000-01-01'").await;
    assert_eq!(hours, [(72, 20_000)]);
}

#[tokio::test]
async fn workers_that_are_killed_while_two_of_them_merge_lose_nothing_and_double_nothing() {
    let shop = Shop::start().await;
    shop.products(40).await;
    let (books, mut pusher) = (shop.books().await, Pusher::new());
    hold(&shop).await;
    let mut workers = [shop.worker().await, shop.worker().await];
    let merged = async |workers: &[Program; 2]| workers[0].metric(MERGED).await + workers[1].metric(MERGED).await;
    for round in 0..6_u64 {
        let before = merged(&workers).await;
        for push in 0..2_000 {
            pusher.push(&books, push * HOUR_MS / 500, &[(2 + 4 * (push % 10), 1)]).await;
        }
        eventually("they merge", SOON, async || (merged(&workers).await > before).then_some(())).await;
        let killed = &mut workers[round as usize % 2];
        killed.kill();
        killed.restart().await;
    }
    is_merged(&shop).await;
    resume(&shop).await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (12_000, 12_000, 0, 0));
    assert_eq!(shop.all_views().await, 12_000);
}

#[tokio::test]
async fn records_that_redis_offers_again_after_they_were_merged_count_once() {
    let mut shop = Shop::start().await;
    shop.products(8).await;
    let (books, mut pusher) = (shop.books().await, Pusher::new());
    hold(&shop).await;
    let mut worker = shop.worker().await;
    pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    eventually("a batch is sealed", SOON, async || (length(&shop, "batch").await == 1).then_some(())).await;
    worker.kill();
    for _ in 0..299 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    }
    let log = shop.keep_redis_log();
    worker.restart().await;
    is_merged(&shop).await;
    shop.restart_redis_with(Some(&log));
    // They stand unmerged again, and may have been applied for all that this Redis knows: they move as they are.
    entries(&books).await;
    for _ in 0..300 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    }
    eventually("the later ones are merged", SOON, async || {
        // Behind those of the earlier run stands one record.
        (length(&shop, "open").await < 256 && length(&shop, "merged").await == 299 + 1).then_some(())
    })
    .await;
    resume(&shop).await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (600, 600, 0, 0));
    assert_eq!(shop.views(2).await, 600);
}

#[tokio::test]
async fn a_merged_batch_of_a_past_that_redis_lost_is_void_as_a_whole() {
    let mut shop = Shop::start().await;
    shop.products(8).await;
    let (books, points, mut pusher) = (shop.books().await, PausePoints::listen().await, Pusher::new());
    hold(&shop).await;
    for _ in 0..100 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    }
    let log = shop.keep_redis_log();
    for _ in 0..200 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    }
    for _ in 0..3 {
        storage::redis::merge::merge(&books.redis.queue.session().unwrap(), &books.redis.keys, 2).await.unwrap();
    }
    assert_eq!(length(&shop, "merged").await, 1);
    resume(&shop).await;
    let claimed = points.hold(PausePoint::AfterClaim);
    let worker = shop.worker_with(&[points.setting()]).await;
    let held = claimed.held().await;
    // Redis has the first hundred as they were pushed; another worker applies those.
    shop.restart_redis_with(Some(&log));
    let mut other = shop.worker().await;
    entries(&books).await;
    assert_eq!(books.at_rest().await.persisted, 100);
    other.kill();
    held.release();
    eventually("the worker says so", SOON, async || worker.log().contains("is in MySQL in part").then_some(())).await;
    assert_eq!(shop.views(2).await, 100);
    pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (301, 101, 200, 0));
    assert_eq!((shop.views(2).await, shop.number("SELECT COUNT(*) FROM dead_letters").await), (101, 0));
}

#[tokio::test]
async fn a_merged_record_that_redis_is_put_back_to_in_part_is_set_aside_and_its_rest_is_said_to_be_lost() {
    let mut shop = Shop::start().await;
    shop.products(8).await;
    let (books, mut pusher, mut other) = (shop.books().await, Pusher::new(), Pusher::new());
    hold(&shop).await;
    for _ in 0..5 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
    }
    let before = keep_log(&shop, "before");
    for _ in 0..4 {
        pusher.push(&books, HOUR_MS, &[(2, 1)]).await;
        other.push(&books, HOUR_MS, &[(6, 1)]).await;
    }
    storage::redis::merge::merge(&books.redis.queue.session().unwrap(), &books.redis.keys, 2).await.unwrap();
    let after = keep_log(&shop, "after");
    shop.restart_redis_with(Some(&before));
    resume(&shop).await;
    let mut worker = shop.worker().await;
    entries(&books).await;
    assert_eq!(books.at_rest().await.persisted, 5);
    worker.kill();

    // The past that was given up, with five of its thirteen views in MySQL.
    shop.restart_redis_with(Some(&after));
    entries(&books).await;
    other.push(&books, HOUR_MS, &[(6, 16)]).await;
    worker.restart().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.dead, account.lost, account.drift()), (29, 21, 0, 8, 0));
    assert_eq!((shop.views(2).await, shop.views(6).await), (5, 16));
    let letters: Vec<(String, String)> = shop.rows("SELECT detail, CAST(payload AS CHAR) FROM dead_letters").await;
    let [(detail, payload)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(detail, "is in MySQL in part, after a loss of Redis");
    assert!(payload.contains(&format!("{} 1 9 9 9", pusher.writer)) && payload.contains(&format!("{} 1 4 4 4", other.writer)), "{payload}");
}
