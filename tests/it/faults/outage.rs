//! A day without MySQL, in the time that its pairs take.
//!
//! 10,000 views/s for a day are 864,000,000 views. Over 100,000 products by Zipf's law each product has some 30 of them or more in
//! every hour, so all 2,400,000 (product, hour) pairs occur. What waits is as long as its pairs and not as its views: further views
//! of a pair make its count a digit longer at most every tenth time. So this day has every pair once, and half a million views by
//! Zipf's law on top; the other 861 million would have to be pushed, which takes hours, and would add two or three digits to a pair.

use crate::merging::Pusher;
use harness::{Books, Proxy, Shop, ShopOptions, eventually};
use servers::{AppendFsync, RedisOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::status::depth;
use tokio::task::JoinSet;

const PRODUCTS: u64 = 100_000;
const SHARDS: u16 = 32;
const HOURS: u64 = 24;
const HOUR_MS: u64 = 3_600_000;
/// The hour in which the day begins, since 1970.
const FIRST_HOUR: u64 = 472_222;
/// Views an hour beyond one of each product.
const MORE: u64 = 21_000;
/// Views of a push; each of another product.
const PUSH: usize = 100;

const MOST_MEMORY: u64 = 256 * 1024 * 1024;
/// `INVENTORY_QUEUE_CAPACITY` as it is by default.
const CAPACITY: u64 = 5_000_000;

/// Far above what a busy machine takes.
const LONG: Duration = Duration::from_secs(600);

/// One shard's pushes, and what it pushed of each product.
async fn push_day(books: Arc<Books>, shard: u16) -> BTreeMap<u64, u64> {
    let (mut pusher, mut random) = (Pusher::new(), fastrand::Rng::with_seed(u64::from(shard)));
    let mut pushed = BTreeMap::<u64, u64>::new();
    let shards = u64::from(SHARDS);
    for hour in FIRST_HOUR..FIRST_HOUR + HOURS {
        let mut ids: Vec<u64> = (1..=PRODUCTS).filter(|id| id % shards == u64::from(shard)).collect();
        random.shuffle(&mut ids);
        // By Zipf's law, of this shard's products.
        let by_rank = |random: &mut fastrand::Rng| (PRODUCTS as f64).powf(random.f64()) as u64 / shards * shards + u64::from(shard);
        ids.extend((0..MORE / shards).map(|_| by_rank(&mut random)).filter(|id| (1..=PRODUCTS).contains(id)));
        for ids in ids.chunks(PUSH) {
            let mut counts = BTreeMap::<u64, u64>::new();
            for id in ids {
                *counts.entry(*id).or_default() += 1;
                *pushed.entry(*id).or_default() += 1;
            }
            let counts: Vec<_> = counts.into_iter().collect();
            pusher.push(&books, hour * HOUR_MS, &counts).await;
        }
    }
    pushed
}

/// `used_memory` and entries; `None` while a busy machine does not answer in time.
async fn sample(shop: &Shop, books: &Books) -> Option<(u64, u64)> {
    let mut redis = shop.redis_connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.ok()?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).and_then(|used| used.trim().parse().ok());
    Some((used.expect("INFO has used_memory"), depth(&books.redis).await.ok()?.entries))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_views_without_mysql_fits_into_256_mib_and_is_exact_when_mysql_is_back() {
    let redis = RedisOptions { append_fsync: AppendFsync::EverySec, ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, shards: Some(SHARDS), ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (proxy, books) = (Proxy::to(shop.mysql_port()).await, Arc::new(shop.books().await));
    let worker = shop.worker_with(&[("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_worker", proxy.port()))]).await;
    proxy.refuse();
    proxy.cut();

    let started = Instant::now();
    let mut shards: JoinSet<_> = (0..SHARDS).map(|shard| push_day(books.clone(), shard)).collect();
    let (mut expected, mut most_memory, mut most_entries) = (BTreeMap::new(), 0, 0);
    while !shards.is_empty() {
        if let Ok(Some(pushed)) = tokio::time::timeout(Duration::from_millis(200), shards.join_next()).await {
            expected.append(&mut pushed.unwrap());
        }
        if let Some((memory, entries)) = sample(&shop, &books).await {
            (most_memory, most_entries) = (most_memory.max(memory), most_entries.max(entries));
        }
    }
    let (views, pairs, pushing) = (expected.values().sum::<u64>(), PRODUCTS * HOURS, started.elapsed());
    // Of each shard up to 255 records wait for more, and some 300 were claimed at the first failure.
    let rest = u64::from(SHARDS) * (256 + 300) * PUSH as u64;
    let (memory, entries) = eventually("what waits is merged", LONG, async || {
        let (memory, entries) = sample(&shop, &books).await?;
        (most_memory, most_entries) = (most_memory.max(memory), most_entries.max(entries));
        (worker.metric("inventory_queue_merged_records_total").await * PUSH as f64 > views as f64 - rest as f64)
            .then_some((memory, entries))
    })
    .await;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!(
        "{views} views of {pairs} pairs pushed in {pushing:.1?}, merged in {:.1?}: at most {:.1} MiB and {most_entries} entries, then {:.1} MiB and {entries}",
        started.elapsed(),
        mib(most_memory),
        mib(memory)
    );
    assert!(most_memory <= MOST_MEMORY && most_entries <= CAPACITY);
    assert!(entries < pairs * 11 / 10 + rest, "{entries} entries for {pairs} pairs");
    let (account, _) = eventually("the account is read", LONG, async || books.account().await).await;
    assert_eq!((account.accepted, account.pending, account.persisted), (views, views, 0));

    proxy.accept();
    let drained = Instant::now();
    eventually("all is in MySQL", LONG, async || (depth(&books.redis).await.ok()?.entries == 0).then_some(())).await;
    println!("drained in {:.1?}", drained.elapsed());
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.dead, account.lost, account.drift()), (views, views, 0, 0, 0));
    let rows: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM product_views").await;
    assert!(rows.into_iter().collect::<BTreeMap<_, _>>() == expected, "each product has its views");
    let hours: Vec<(u64, u64)> = shop.rows("SELECT COUNT(*), CAST(SUM(views) AS UNSIGNED) FROM view_hours").await;
    assert_eq!(hours, [(pairs, views)]);
}
