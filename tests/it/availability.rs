//! What may still be sold: read from MySQL before anybody has to wait for it, and never older than two seconds.

use harness::{Program, SOON, Shop, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How old a shown availability may be.
const LIFE: Duration = Duration::from_secs(2);
/// Most that the age of what a loaded machine shows may exceed that: the change and the answer travel, too.
const TRAVEL: Duration = Duration::from_secs(1);

/// SELECTs of availability so far.
async fn selects(api: &Program) -> u64 {
    api.metric("inventory_mysql_query_duration_seconds_count{op=\"availability\"}").await as u64
}

async fn available(api: &Program, id: u64) -> Option<i64> {
    api.get(&format!("/v1/products/{id}")).await.json()["availability"]["available"].as_i64()
}

#[tokio::test]
async fn products_that_are_read_steadily_are_never_read_with_selects_of_their_own() {
    const PRODUCTS: u64 = 100;
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let api = shop.api().await;
    let all: Vec<String> = (1..=PRODUCTS).map(|id| id.to_string()).collect();
    assert_eq!(api.get(&format!("/v1/products?ids={}", all.join(","))).await.status, 200);
    let (before, began, mut rounds) = (selects(&api).await, Instant::now(), 0);
    // One after another: each that had lapsed would be a statement.
    while began.elapsed() < 4 * LIFE {
        for id in 1..=PRODUCTS {
            assert_eq!(available(&api, id).await, Some(0));
        }
        rounds += 1;
    }
    let selects = selects(&api).await - before;
    println!("{PRODUCTS} products read {rounds} times in {:?}: {selects} SELECTs", began.elapsed());
    assert!(selects >= 3, "what is shown is at most two seconds old: {selects} SELECTs");
    assert!(selects < PRODUCTS, "{selects} SELECTs, and each product would have lapsed several times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_stock_is_shown_within_two_seconds_to_readers_that_never_pause() {
    const READERS: u64 = 8;
    const CHANGES: i64 = 6;
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = Arc::new(shop.api().await);
    let reads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (api, reads) = (api.clone(), reads.clone());
            tokio::spawn(async move {
                loop {
                    available(&api, 1).await.expect("MySQL is there");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 0, 0)").await;
    let mut slowest = Duration::ZERO;
    for on_hand in 1..=CHANGES {
        shop.run(&format!("UPDATE stock SET on_hand = {on_hand}")).await;
        let changed = Instant::now();
        eventually("the change is shown", LIFE + TRAVEL, async || (available(&api, 1).await == Some(on_hand)).then_some(())).await;
        slowest = slowest.max(changed.elapsed());
    }
    println!("{CHANGES} changes were shown within {slowest:?} beside {} reads", reads.load(Ordering::Relaxed));
    for reader in readers {
        assert!(!reader.is_finished(), "a reader failed");
        reader.abort();
    }
}

#[tokio::test]
async fn a_product_that_nobody_asks_for_any_more_is_no_longer_read() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    for id in [1, 1, 2] {
        assert_eq!(available(&api, id).await, Some(0));
    }
    // Longer than any distance at which it would be read again.
    let quiet = 2 * LIFE;
    let (mut last, mut since) = (selects(&api).await, Instant::now());
    eventually("nothing is read", SOON, async || {
        let now = selects(&api).await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= quiet).then_some(())
    })
    .await;
    println!("{last} SELECTs until nothing was read");
    assert!(last > 2, "the one that was asked for twice was read again");
    assert_eq!(available(&api, 1).await, Some(0));
    assert_eq!(selects(&api).await, last + 1, "it had lapsed");
}
