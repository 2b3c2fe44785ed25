//! Writers that are long gone are forgotten by both stores, step by step, and no step changes the account of views.

use domain::view::{Record, Writer};
use harness::{Books, Program, SOON, Shop, eventually, record, text};
use std::time::Duration;
use storage::status::Account;
use storage::writers;
use uuid::Uuid;

/// All products here are of shard 1.
const SHARD: u16 = 1;
const WSEQ: &str = "inventory:{1}:wseq";

/// 2100: nobody deletes its hours.
const AT_MS: u64 = 4_102_444_800_000;

/// A shop with `views` views of one writer, in MySQL and settled, and its watermark.
async fn shop_with(views: u64) -> (Shop, Books, Writer) {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, Writer::new(Uuid::new_v4()));
    books.push(&of(writer, 1, 0, views)).await;
    let mut worker = shop.worker().await;
    books.at_rest().await;
    worker.kill();
    (shop, books, writer)
}

/// Push `seq` of a writer that knows of `known` views before it.
fn of(writer: Writer, seq: u64, known: u64, views: u64) -> Record {
    Record { accepted: known, ..record(writer, seq, AT_MS, &[(5, views)]) }
}

async fn days_pass(shop: &Shop, days: u32) {
    shop.run(&format!("UPDATE view_marks SET used_at = used_at - INTERVAL {days} DAY")).await;
}

/// What Redis remembers of writers.
async fn remembered(shop: &Shop) -> usize {
    let mut redis = shop.redis_connection().await;
    redis::cmd("HLEN").arg(WSEQ).query_async(&mut redis).await.unwrap()
}

async fn marks(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM view_marks").await
}

async fn retired(shop: &Shop) -> (u64, u64) {
    shop.rows("SELECT retired_accepted, retired_arrived FROM view_shards WHERE shard = 1").await[0]
}

async fn round(books: &Books) -> u64 {
    writers::retire(&books.mysql, &books.redis, SHARD).await.unwrap().retired
}

/// Accepted, persisted, lost and drift.
async fn account(books: &Books) -> (u64, u64, u64, i64) {
    let (account, _): (Account, _) = books.account().await.unwrap();
    (account.accepted, account.persisted, account.lost, account.drift())
}

#[tokio::test]
async fn redis_forgets_a_writer_after_a_week_and_mysql_after_another_and_the_account_stays_even() {
    let (shop, books, _) = shop_with(7).await;
    days_pass(&shop, 6).await;
    assert_eq!((round(&books).await, remembered(&shop).await, marks(&shop).await), (0, 1, 1));
    days_pass(&shop, 1).await;
    assert_eq!((round(&books).await, remembered(&shop).await, marks(&shop).await), (0, 0, 1));
    assert_eq!(account(&books).await, (7, 7, 0, 0));
    assert_eq!((round(&books).await, marks(&shop).await), (0, 1), "the watermark's time began anew");
    days_pass(&shop, 7).await;
    assert_eq!((round(&books).await, marks(&shop).await, retired(&shop).await), (1, 0, (7, 7)));
    assert_eq!(account(&books).await, (7, 7, 0, 0));
    assert_eq!((round(&books).await, retired(&shop).await), (0, (7, 7)));
}

#[tokio::test]
async fn what_redis_lost_of_a_writer_is_lost_also_when_the_writer_is_forgotten() {
    let (shop, books, writer) = shop_with(7).await;
    // It knows of three views that Redis had before it came back empty.
    books.push(&of(writer, 3, 10, 2)).await;
    let mut worker = shop.worker().await;
    books.at_rest().await;
    worker.kill();
    assert_eq!(account(&books).await, (12, 9, 3, 0));
    for _ in 0..2 {
        days_pass(&shop, 8).await;
        round(&books).await;
        assert_eq!(account(&books).await, (12, 9, 3, 0));
    }
    assert_eq!((marks(&shop).await, retired(&shop).await), (0, (12, 9)));
}

#[tokio::test]
async fn a_writer_is_kept_while_anything_of_it_waits_or_is_sealed_and_counts_once() {
    let (shop, books, writer) = shop_with(7).await;
    days_pass(&shop, 30).await;
    books.push(&of(writer, 2, 7, 2)).await;
    assert_eq!((round(&books).await, remembered(&shop).await, marks(&shop).await), (0, 1, 1));

    // The same record was applied, and its worker died before it settled: the watermark is all that keeps it from counting again.
    let waiting = vec![text(&of(writer, 2, 9, 2))];
    books.apply(SHARD, &Uuid::new_v4().to_string(), waiting).await.unwrap();
    let mut redis = shop.redis_connection().await;
    redis::cmd("HDEL").arg(WSEQ).arg(writer.to_string()).exec_async(&mut redis).await.unwrap();
    days_pass(&shop, 30).await;
    assert_eq!((round(&books).await, marks(&shop).await), (0, 1));
    let _: () = redis::cmd("RENAME").arg("inventory:{1}:open").arg("inventory:{1}:batch").query_async(&mut redis).await.unwrap();
    redis::cmd("SET").arg("inventory:{1}:batch_id").arg(Uuid::new_v4().to_string()).exec_async(&mut redis).await.unwrap();
    assert_eq!((round(&books).await, marks(&shop).await), (0, 1));

    let _worker = shop.worker().await;
    eventually("the batch is settled", SOON, async || (shop.views(5).await == 9 && books.account().await?.1.in_flight == 0).then_some(()))
        .await;
    assert_eq!(shop.views(5).await, 9);
}

#[tokio::test]
async fn what_a_snapshot_brings_back_of_a_forgotten_writer_is_not_accepted_twice() {
    let (shop, books, writer) = shop_with(7).await;
    days_pass(&shop, 7).await;
    round(&books).await;
    assert_eq!(remembered(&shop).await, 0);
    days_pass(&shop, 6).await;
    let mut redis = shop.redis_connection().await;
    redis::cmd("HSET").arg(WSEQ).arg(writer.to_string()).arg("1 7").exec_async(&mut redis).await.unwrap();
    assert_eq!(account(&books).await, (7, 7, 0, 0));
    days_pass(&shop, 1).await;
    assert_eq!(
        (round(&books).await, remembered(&shop).await, marks(&shop).await),
        (0, 0, 1),
        "it is forgotten again, and waited for again"
    );
    days_pass(&shop, 7).await;
    assert_eq!((round(&books).await, account(&books).await), (1, (7, 7, 0, 0)));
}

#[tokio::test]
async fn a_writer_of_whom_views_are_missing_is_kept_so_that_the_drift_stays() {
    let (shop, books, writer) = shop_with(7).await;
    books.push(&of(writer, 2, 7, 5)).await;
    let mut redis = shop.redis_connection().await;
    for key in ["open", "waiting", "entries"] {
        redis::cmd("DEL").arg(format!("inventory:{{1}}:{key}")).exec_async(&mut redis).await.unwrap();
    }
    days_pass(&shop, 30).await;
    assert_eq!((round(&books).await, remembered(&shop).await, marks(&shop).await), (0, 1, 1));
    assert_eq!(account(&books).await, (12, 7, 0, 5));
}

#[tokio::test]
async fn nothing_is_retired_while_an_operator_holds_the_drain() {
    let (shop, books, _) = shop_with(7).await;
    for days in [7, 14] {
        days_pass(&shop, days).await;
        if days == 14 {
            shop.ctl(None, &["queue", "pause", "--reason", "moving MySQL"]).await;
        }
        round(&books).await;
    }
    assert_eq!((marks(&shop).await, retired(&shop).await), (1, (0, 0)));
    shop.ctl(None, &["queue", "resume"]).await;
    assert_eq!((round(&books).await, retired(&shop).await), (1, (7, 7)));
}

/// Watermarks of thousands of writers go while views come: the account is even at each look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_forgets_in_pieces_while_views_come_and_the_account_is_even_at_every_moment() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let writers = |from: u32, to: u32| (from..to).map(|n| format!("{n:032x}")).collect::<Vec<_>>();
    let rows: Vec<_> = writers(0, 2_500).iter().map(|writer| format!("(1, '{writer}', 1, 3, 2, '2020-01-01')")).collect();
    shop.run(&format!("INSERT INTO view_marks (shard, writer, seq, accepted, arrived, used_at) VALUES {}", rows.join(","))).await;
    shop.run("UPDATE view_shards SET persisted = 5000 WHERE shard = 1").await;
    let mut redis = shop.redis_connection().await;
    let fields: Vec<_> = writers(0, 1_200).into_iter().flat_map(|writer| [writer, "1 3".to_owned()]).collect();
    redis::cmd("HSET").arg(WSEQ).arg(fields).exec_async(&mut redis).await.unwrap();
    let (api, books) = (shop.api().await, shop.books().await);
    assert_eq!(account(&books).await, (7_500, 5_000, 2_500, 0));
    let worker: Program = shop.worker().await;
    let done = async {
        eventually("those that Redis did not know are retired, the others forgotten", SOON, async || {
            (marks(&shop).await <= 1_202 && remembered(&shop).await < 100).then_some(())
        })
        .await;
    };
    tokio::pin!(done);
    let mut looks = 0;
    loop {
        tokio::select! {
            () = &mut done => break,
            () = async {
                shop.view(&api, 5).await;
                if let Some((account, _)) = books.account().await {
                    assert_eq!((account.drift(), account.lost), (0, 2_500));
                    looks += 1;
                }
            } => {}
        }
    }
    assert!(looks > 0);
    let account = books.at_rest().await;
    assert_eq!((account.drift(), account.lost), (0, 2_500));
    let series = "inventory_retention_deleted_rows_total{table=\"view_marks\"}";
    eventually("what was retired is counted", Duration::from_secs(5), async || (worker.metric(series).await == 1_300.0).then_some(()))
        .await;
    assert_eq!(retired(&shop).await, (3 * 1_300, 2 * 1_300));
}
