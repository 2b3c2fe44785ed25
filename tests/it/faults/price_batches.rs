//! Batches of prices beside reads, single prices and each other, and with the faults that would show an old price put
//! between their steps.

use harness::torture::{Call, Outcome, violations};
use harness::{Program, Proxy, Reply, SOON, Shop, ShopOptions, eventually, seed};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PATH: &str = "/v1/prices/batch";

/// So many acknowledged batches judge something.
const BATCHES: u64 = 150;

fn batch(ids: impl Iterator<Item = u64>, amount: &str) -> Value {
    let rows: Vec<_> = ids.map(|id| json!({"product_id": id, "amount": amount, "currency": "GBP"})).collect();
    json!({"items": rows})
}

fn request(api: &Program, body: &Value) -> reqwest::RequestBuilder {
    api.request("POST", PATH).header("content-type", "application/json").body(body.to_string())
}

/// Deadlocks that the server has met; MySQL does not count them here.
async fn deadlocks(shop: &Shop) -> u64 {
    let rows: Vec<(String, String)> = shop.rows("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").await;
    rows.first().map_or(0, |(_, count)| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_opposite_orders_and_single_prices_wait_for_each_other_and_never_deadlock() {
    const PRODUCTS: u64 = 60;
    const ROUNDS: u64 = 25;
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (api, other) = (shop.api().await, shop.api().await);
    let forwards = async {
        for round in 0..ROUNDS {
            let set = Reply::to(request(&api, &batch(1..=PRODUCTS, &format!("2.{round:02}")))).await;
            assert_eq!(set.status, 200, "{set:?}");
        }
    };
    let backwards = async {
        for round in 0..ROUNDS {
            let set = Reply::to(request(&other, &batch((1..=PRODUCTS).rev(), &format!("3.{round:02}")))).await;
            assert_eq!(set.status, 200, "{set:?}");
        }
    };
    let single = async {
        for round in 0..ROUNDS {
            for id in [PRODUCTS, 1, PRODUCTS / 2] {
                let set = api.put_price(id, &format!("4.{round:02}")).await;
                assert_eq!(set.status, 200, "{set:?}");
            }
        }
    };
    tokio::join!(forwards, backwards, single);
    assert_eq!(deadlocks(&shop).await, 0);
    assert_eq!(shop.number("SELECT COUNT(DISTINCT batch) FROM price_history").await, 2 * ROUNDS);
}

#[tokio::test]
async fn a_batch_shows_nothing_before_its_commit_and_nothing_old_after_it() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    for id in [1, 2] {
        assert!(api.see(id).await.is(1, "1.00"));
    }
    // The second keeps its price, and another system has set what the cache does not know.
    shop.run("UPDATE products SET price = 2.00 WHERE id = 2").await;
    mysql.hold_commit();
    let sent = tokio::spawn(Reply::to(request(&writing, &batch(1..=2, "2.00"))));
    mysql.caught().await;
    for _ in 0..2 {
        assert!(api.see(1).await.is(1, "1.00"), "not committed yet");
        assert!(api.see(2).await.is(1, "2.00"));
        for id in [1, 2] {
            let entry = shop.entry(id).await;
            assert!(!entry.as_ref().is_some_and(|entry| entry.starts_with('D')), "{entry:?} was filled beside a writer");
        }
    }
    mysql.release();
    let set = sent.await.unwrap();
    assert_eq!((set.status, &set.json()["counts"]), (200, &json!({"changed": 1, "unchanged": 1, "failed": 0})));
    for reading in [&api, &writing, &api] {
        assert!(reading.see(1).await.is(2, "2.00") && reading.see(2).await.is(1, "2.00"));
    }
}

#[tokio::test]
async fn a_batch_whose_commit_is_not_answered_is_reported_as_unknown_and_reads_agree() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    for (lost_before, version, amount) in [(true, 1, "1.00"), (false, 2, "2.00")] {
        for id in 1..=3 {
            assert!(api.see(id).await.is(1, "1.00"));
        }
        if lost_before {
            mysql.hold_commit();
        } else {
            mysql.hold_reply_to_commit();
        }
        let sent = tokio::spawn(Reply::to(request(&writing, &batch(1..=3, "2.00"))));
        mysql.caught().await;
        if !lost_before {
            eventually("the COMMIT took effect", SOON, async || (shop.price(3).await.0 == 2).then_some(())).await;
        }
        mysql.cut();
        sent.await.unwrap().problem(503, "outcome-unknown");
        mysql.release();
        for id in 1..=3 {
            eventually("the row is free", SOON, async || api.see(id).await.is(version, amount).then_some(())).await;
        }
    }
}

fn hundredths(amount: &str) -> u64 {
    amount.replace('.', "").parse().unwrap()
}

/// What all clients share.
struct Clients {
    urls: [String; 2],
    /// Gives the times and the prices of calls.
    clock: AtomicU64,
    set: AtomicU64,
    stop: AtomicBool,
}

const PRODUCTS: u64 = 4;

impl Clients {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn read(&self, client: &reqwest::Client, product: u64, instance: usize) -> Vec<Call> {
        let began = self.now();
        let url = format!("{}/v1/products/{product}", self.urls[instance]);
        let seen: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        let (ended, value) = (self.now(), hundredths(seen["price"]["amount"].as_str().unwrap()));
        let outcome = Outcome::Read { version: seen["version"].as_u64().unwrap(), hit: false };
        vec![Call { product, instance, began, ended, value, outcome }]
    }

    /// One call for each product of the batch.
    async fn write(&self, client: &reqwest::Client, instance: usize) -> Vec<Call> {
        let began = self.now();
        let value = format!("{}.50", began + 10);
        let body = batch(1..=PRODUCTS, &value).to_string();
        let url = format!("{}{PATH}", self.urls[instance]);
        let answer = client.post(url).header("content-type", "application/json").body(body).send().await.unwrap();
        let (status, set): (_, Value) = (answer.status(), answer.json().await.unwrap());
        let ended = self.now();
        assert_eq!(status, 200, "{set}");
        self.set.fetch_add(1, Ordering::SeqCst);
        let call = |item: &Value| {
            let outcome = Outcome::Written { version: item["version"].as_u64().unwrap() };
            let (product, value) = (item["product_id"].as_u64().unwrap(), hundredths(&value));
            Call { product, instance, began, ended, value, outcome }
        };
        set["items"].as_array().unwrap().iter().map(call).collect()
    }

    async fn run(self: Arc<Self>, mut random: fastrand::Rng) -> Vec<Call> {
        let (client, mut calls) = (reqwest::Client::new(), Vec::new());
        while !self.stop.load(Ordering::SeqCst) {
            let (instance, writes) = (random.usize(..2), random.u8(..10) < 2);
            let product = random.u64(1..=PRODUCTS);
            calls.extend(if writes { self.write(&client, instance).await } else { self.read(&client, product, instance).await });
        }
        calls
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_beside_batches_is_never_older_than_one_that_was_acknowledged() {
    let mut random = fastrand::Rng::with_seed(seed());
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let (api, other) = (shop.api().await, shop.api().await);
    let urls = [api.url.clone(), other.url.clone()];
    let (clock, set, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let clients = Arc::new(Clients { urls, clock, set, stop });
    let running: Vec<_> = (0..8).map(|_| tokio::spawn(clients.clone().run(random.fork()))).collect();
    eventually("there is enough to judge", SOON, async || (clients.set.load(Ordering::SeqCst) >= BATCHES).then_some(())).await;
    clients.stop.store(true, Ordering::SeqCst);
    let mut calls = Vec::new();
    for client in running {
        calls.extend(client.await.unwrap());
    }
    let reads = calls.iter().filter(|call| matches!(call.outcome, Outcome::Read { .. })).count();
    println!("{reads} reads beside {} batches", clients.set.load(Ordering::SeqCst));
    let violations = violations(&calls, 100);
    assert!(violations.is_empty(), "{} violations, the first: {:#?}", violations.len(), &violations[..violations.len().min(5)]);
}
