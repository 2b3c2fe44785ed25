//! Whether what is cached is what MySQL has: the worker's sample of it, and `inventoryctl check` with its repair.

use checks::products::Places;
use domain::ProductId;
use harness::{Program, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const COMPARED: &str = "inventory_checks_compared_total";

async fn mismatches(worker: &Program, field: &str) -> f64 {
    worker.metric(&format!("inventory_checks_mismatches_total{{field=\"{field}\"}}")).await
}

async fn all_mismatches(worker: &Program) -> f64 {
    let text = worker.metrics().await;
    let series: Vec<_> = text.lines().filter(|line| line.starts_with("inventory_checks_mismatches_total{")).collect();
    assert_eq!(series.len(), 9, "{text}");
    series.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until the worker has begun and ended one more comparison.
async fn compared_again(worker: &Program) {
    let before = worker.metric(COMPARED).await;
    eventually("the worker compares", SOON, async || (worker.metric(COMPARED).await > before).then_some(())).await;
}

/// Changes the entry of a product that is cached.
async fn tamper(shop: &Shop, id: u64, from: &str, to: &str) {
    let entry = shop.entry(id).await.unwrap();
    assert!(entry.contains(from), "{from} in {entry}");
    shop.set_entry(id, &entry.replace(from, to)).await;
}

async fn cache(api: &Program, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        assert_eq!(api.see(id).await.status, 200, "product {id}");
    }
}

#[tokio::test]
async fn the_worker_counts_a_wrong_entry_by_its_fields_and_deletes_it_and_nothing_else() {
    let shop = Shop::start().await;
    shop.products(40).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    cache(&api, 1..=40).await;
    compared_again(&worker).await;
    assert_eq!(all_mismatches(&worker).await, 0.0);
    let (marker, lease) = ("W7:00ff", "L00ff");
    shop.set_entry(3, marker).await;
    shop.set_entry(4, lease).await;
    tamper(&shop, 31, "1.00", "9.99").await;
    assert_eq!(api.see(31).await.amount, "9.99", "a hit is believed");
    eventually("the entry is deleted", SOON, async || (api.see(31).await.amount == "1.00").then_some(())).await;
    eventually("its price is counted", SOON, async || (mismatches(&worker, "price").await == 1.0).then_some(())).await;
    tamper(&shop, 32, "Product 32", "Product 33").await;
    shop.set_entry(33, "D0|").await;
    for field in ["name", "presence"] {
        eventually(&format!("{field} is counted"), SOON, async || (mismatches(&worker, field).await == 1.0).then_some(())).await;
    }
    assert_eq!(all_mismatches(&worker).await, 3.0);
    let log = worker.log();
    let told: Vec<Value> =
        log.lines().filter(|line| line.contains("was deleted")).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told.len() <= 3 && told.iter().all(|line| line["level"] == "WARN"), "{log}");
    assert_eq!((&told[0]["product"], &told[0]["differs"]), (&json!(31), &json!("price")));
    for (id, value) in [(3, marker), (4, lease)] {
        assert_eq!(shop.entry(id).await.as_deref(), Some(value), "who is at work on an entry is left alone");
    }
    for id in 5..=30 {
        assert!(shop.entry(id).await.is_some_and(|entry| entry.starts_with("D1|")), "product {id}");
    }
}

/// Nobody follows the binlog here: the end of the entry comes of the test.
#[tokio::test]
async fn a_change_by_plain_sql_that_is_shown_in_time_is_no_mismatch_and_one_that_is_not_is() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(1).await;
    shop.run("REVOKE REPLICATION SLAVE, REPLICATION CLIENT ON *.* FROM inventory_worker").await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    cache(&api, 1..=1).await;
    compared_again(&worker).await;
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    compared_again(&worker).await;
    shop.drop_entry(1).await;
    assert_eq!(api.see(1).await.amount, "2.00");
    compared_again(&worker).await;
    compared_again(&worker).await;
    assert_eq!(all_mismatches(&worker).await, 0.0);
    tamper(&shop, 1, "2.00", "1.00").await;
    eventually("what stays wrong is counted", SOON, async || (mismatches(&worker, "price").await == 1.0).then_some(())).await;
    assert_eq!(api.see(1).await.amount, "2.00");
}

#[tokio::test]
async fn a_check_tells_each_wrong_entry_and_its_repair_leaves_none() {
    let shop = Shop::start().await;
    shop.products(5).await;
    let api = shop.api().await;
    cache(&api, 1..=5).await;
    tamper(&shop, 2, "1.00", "9.99").await;
    shop.set_entry(3, "D0|").await;
    tamper(&shop, 4, ",\"sku\"", ", \"sku\"").await;
    // Of products that MySQL does not have.
    for id in [77, 78] {
        let ghost = shop.entry(5).await.unwrap().replace("\"id\":5", &format!("\"id\":{id}"));
        shop.set_entry(id, &ghost).await;
    }
    let mut redis = shop.redis_connection().await;
    let earlier = ["inventory:{0}:c:ffffffff:p:4", "inventory:{1}:t:ffffffff:1"];
    for key in earlier {
        redis::cmd("SET").arg(key).arg("1").exec_async(&mut redis).await.unwrap();
    }
    redis::cmd("SET").arg("barn:{1}:t:ffffffff:1").arg("1").exec_async(&mut redis).await.unwrap();

    let check = async |more: &[&str]| shop.ctl(Some(&api), &[&["check", "--full", "-o", "json"], more].concat()).await;
    let report = |mismatches: u64, repaired: u64, earlier: u64| json!({"products_compared": 5, "found_in_redis": 5, "mismatches": mismatches, "repaired": repaired, "earlier_keys": earlier, "account_faults": 0, "stock_faults": 0, "stock_repaired": 0});
    let found = check(&[]).await;
    assert_eq!(found.json(5), report(5, 0, 2));
    assert_eq!(shop.entry(3).await.as_deref(), Some("D0|"), "without --repair nothing is changed");
    let mended = check(&["--repair"]).await;
    assert_eq!(mended.json(0), report(5, 5, 2));
    for told in [
        "product 2: price: MySQL 1.00 GBP, Redis 9.99 GBP, API 9.99 GBP → entry deleted → price: MySQL 1.00 GBP, Redis 1.00 GBP, API 1.00 GBP",
        "product 77: id: MySQL -, Redis 77, API 77",
        "product 4: the fields are the same, but the bytes",
        "→ entry deleted → the bytes are the same",
        "removed 2 keys",
    ] {
        assert!(mended.stderr.contains(told), "{told} in {mended:?}");
    }
    assert_eq!(check(&[]).await.json(0), report(0, 0, 0));
    for (key, there) in [(earlier[0], 0), (earlier[1], 0), ("barn:{1}:t:ffffffff:1", 1)] {
        assert_eq!(redis::cmd("EXISTS").arg(key).query_async::<u64>(&mut redis).await.unwrap(), there, "{key}");
    }
    assert!(api.see(2).await.is(1, "1.00"));
    assert_eq!((api.see(77).await.status, api.see(78).await.status), (404, 404));
}

/// Nobody follows the binlog here: the ends of the entry come of the test, just before it is looked at for the last time.
#[tokio::test]
async fn a_product_that_plain_sql_changes_again_and_again_is_no_mismatch() {
    /// One for the first look, two for the second.
    const BEFORE_THE_LAST: u32 = 3;
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    cache(&api, 1..=1).await;
    let price = async |amount: &str| shop.run(&format!("UPDATE products SET price = {amount}, version = version + 1 WHERE id = 1")).await;
    price("2.00").await;
    let calls = AtomicU32::new(0);
    let answers = async |_: &[ProductId]| {
        if calls.fetch_add(1, Ordering::Relaxed) == BEFORE_THE_LAST {
            price("3.00").await;
            shop.drop_entry(1).await;
            assert_eq!(api.see(1).await.amount, "3.00");
            price("4.00").await;
        }
        Ok::<_, storage::Error>(vec![api.get("/v1/products/1").await.json()])
    };
    let places = Places { checker: shop.books().await.checker(), api: answers };
    let found = places.settled(&[ProductId::new(1).unwrap()]).await.unwrap().remove(0);
    assert_eq!(calls.load(Ordering::Relaxed), 5, "it differed at each look");
    assert!(!found.differs() && found.is_compared(), "{}", found.in_words());
    let stays = places.settled(&[ProductId::new(1).unwrap()]).await.unwrap().remove(0);
    assert_eq!(stays.in_words().split("; ").next(), Some("price: MySQL 4.00 GBP, Redis 3.00 GBP, API 3.00 GBP"));
}

#[tokio::test]
async fn an_entry_that_was_written_since_it_was_compared_is_not_deleted() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    cache(&api, 1..=1).await;
    tamper(&shop, 1, "1.00", "9.99").await;
    let checker = shop.books().await.checker();
    let compare = async || checker.compare(&[ProductId::new(1).unwrap()]).await.unwrap().remove(0);
    let wrong = compare().await;
    assert!(wrong.differs());
    assert_eq!(api.put_price(1, "3.00").await.status, 200);
    assert!(!wrong.stays(&compare().await), "a mismatch is one that stays");
    assert!(!checker.discard(&wrong).await.unwrap());
    assert!(shop.entry(1).await.unwrap().contains("3.00"));
    let row = shop.lock("products WHERE id = 1").await;
    assert!(!compare().await.has_verdict(), "a row that is being written gives none");
    row.release().await;
    let even = compare().await;
    assert!(even.has_verdict() && !even.differs());
}

/// Every product is written many times a second while the sample and a check look at it.
#[tokio::test]
async fn a_busy_shop_has_no_mismatch() {
    const WRITERS: u64 = 8;
    const BUSY: Duration = Duration::from_secs(5);
    let shop = Shop::start().await;
    shop.products(WRITERS / 2 + 20).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    // Those that are written hardly ever stand still for a comparison; the others are for the sample to be at work.
    cache(&api, 1..=WRITERS / 2 + 20).await;
    let checker = shop.books().await.checker();
    let ids: Vec<_> = (1..=WRITERS / 2).map(|id| ProductId::new(id).unwrap()).collect();
    let until = Instant::now() + BUSY;
    let writer = async |number: u64| {
        let mut written = 0;
        while Instant::now() < until {
            written += u64::from(api.put_price(1 + number / 2, &format!("{}.{:02}", number + 1, written % 100)).await.status == 200);
            api.see(1 + number / 2).await;
        }
        written
    };
    let writers = futures_util::future::join_all((0..WRITERS).map(writer));
    let looks = async {
        let (mut verdicts, mut wrong) = (0, 0);
        while Instant::now() < until {
            for compared in checker.compare(&ids).await.unwrap() {
                verdicts += u64::from(compared.has_verdict());
                wrong += u64::from(compared.differs());
            }
        }
        (verdicts, wrong)
    };
    let check = async || shop.ctl(Some(&api), &["check", "--full", "-o", "json"]).await.json(0);
    let (written, (verdicts, wrong), report) = tokio::join!(writers, looks, check());
    let written: u64 = written.iter().sum();
    println!("{written} writes, {verdicts} verdicts");
    assert!(written > 100 && verdicts > 10, "{written} writes, {verdicts} verdicts");
    assert_eq!((wrong, &report["mismatches"]), (0, &json!(0)));
    compared_again(&worker).await;
    assert_eq!(all_mismatches(&worker).await, 0.0);
}
