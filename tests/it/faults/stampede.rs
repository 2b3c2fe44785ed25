//! Many readers and nothing cached: what MySQL is asked stays bounded.

use harness::{Program, Proxy, SOON, Shop, ShopOptions, eventually, metric_in, seed};
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Statements by which one process reads what reads share: records, availability and views fly apart.
const MOST_READS_IN_FLIGHT: u64 = 3 * catalog::FLIGHTS as u64;
/// It also looks at its stores once a second, one statement at a time.
const MOST_IN_FLIGHT: u64 = MOST_READS_IN_FLIGHT + 1;

/// SELECTs of product records so far.
async fn selects(api: &Program) -> f64 {
    let metrics = api.metrics().await;
    let of = |op: &str| metric_in(&metrics, &format!("inventory_mysql_query_duration_seconds_count{{op=\"{op}\"}}")).unwrap();
    of("fill") + of("products")
}

/// Reads that did not find data in the cache.
async fn uncached(api: &Program) -> f64 {
    let metrics = api.metrics().await;
    let of = |result: &str| metric_in(&metrics, &format!("inventory_cache_requests_total{{result=\"{result}\"}}")).unwrap();
    of("miss") + of("bypass")
}

/// SELECTs of product records that MySQL itself has met since its log was emptied.
async fn logged_selects(shop: &Shop) -> u64 {
    let argument = "CONVERT(argument USING utf8mb4)";
    shop.number(&format!("SELECT COUNT(*) FROM mysql.general_log WHERE {argument} LIKE 'SELECT id, sku,%FROM products WHERE id IN (%'"))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reads_that_miss_or_meet_a_marker_cost_each_process_at_most_four_selects() {
    const READS: usize = 1_000;
    const MOST: u64 = 4;
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(2).await;
    let proxies = [Proxy::to(shop.mysql_port()).await, Proxy::to(shop.mysql_port()).await];
    let apis = [shop.api_behind(Some(&proxies[0]), None).await, shop.api_behind(Some(&proxies[1]), None).await];
    shop.run("SET GLOBAL log_output = 'TABLE'").await;
    shop.run("SET GLOBAL general_log = 1").await;
    shop.set_entry(2, "W2:somebody").await;
    for (id, met) in [(1, "nothing"), (2, "a marker")] {
        shop.run("TRUNCATE mysql.general_log").await;
        let mut before = Vec::new();
        for api in &apis {
            before.push((selects(api).await, uncached(api).await));
        }
        // So that none is answered before all have asked.
        proxies.iter().for_each(Proxy::hold_replies);
        let ask = |api: &Program| tokio::spawn(api.request("GET", &format!("/v1/products/{id}")).send());
        let reads: Vec<_> = (0..READS).map(|n| ask(&apis[n % 2])).collect();
        for (api, (_, uncached_before)) in apis.iter().zip(&before) {
            let half = (READS / 2) as f64;
            eventually("all have asked", SOON, async || (uncached(api).await - uncached_before >= half).then_some(())).await;
        }
        proxies.iter().for_each(Proxy::release);
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap().status(), 200);
        }
        let logged = logged_selects(&shop).await;
        println!("{READS} reads through two processes met {met}: MySQL met {logged} SELECTs");
        assert!((1..=2 * MOST).contains(&logged), "{READS} reads met {met}: {logged} SELECTs");
        for (api, (selects_before, _)) in apis.iter().zip(&before) {
            // One for the first, one for all who came while it was under way, and again for those who had counted and not yet joined.
            let selects = selects(api).await - selects_before;
            assert!(selects <= MOST as f64, "{READS} reads met {met}: {selects} SELECTs of one process");
        }
    }
}

/// Readers of a product whose row another system has locked, and writers that queue for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_queue_for_a_locked_row_leave_connections_to_reads_and_to_other_products() {
    const WRITERS: usize = 40;
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api_with(&[("INVENTORY_MYSQL_CONNECTIONS", "8".to_owned())]).await;
    let lock = shop.lock("products WHERE id = 1").await;
    let put = |id: u64, amount: String| {
        let body = serde_json::json!({"amount": amount, "currency": "GBP"}).to_string();
        let request = api.request("PUT", &format!("/v1/products/{id}/price"));
        tokio::spawn(request.header("content-type", "application/json").body(body).send())
    };
    let writers: Vec<_> = (0..WRITERS).map(|n| put(1, format!("{}.00", n + 2))).collect();
    let waiting = async || metric_in(&api.metrics().await, "inventory_catalog_writes_waiting").unwrap();
    eventually("all but one wait in memory", SOON, async || (waiting().await == (WRITERS - 1) as f64).then_some(())).await;
    assert_eq!(api.get("/v1/products/1").await.json()["price"]["amount"], "1.00");
    assert_eq!(put(2, "9.00".to_owned()).await.unwrap().unwrap().status(), 200);
    assert_eq!(waiting().await, (WRITERS - 1) as f64, "somebody was let in");
    lock.release().await;
    let mut written = 0;
    for writer in writers {
        // On a slow machine the lock may last longer than one of them waits for it.
        match writer.await.unwrap().unwrap().status().as_u16() {
            200 => written += 1,
            status => assert_eq!(status, 503),
        }
    }
    assert!(written > WRITERS as u64 / 2, "{written} of {WRITERS} were written");
    assert_eq!(shop.number("SELECT version FROM products WHERE id = 1").await, written + 1);
}

/// Products drawn by Zipf's law: the n-th as often as 1/n of the first.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(products: u64) -> Self {
        let sums = (1..=products).scan(0.0, |sum, n| {
            *sum += 1.0 / n as f64;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let at = random.f64() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|sum| *sum < at) as u64 + 1
    }
}

/// Clients that read without a pause until they are stopped.
struct Crowd {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Crowd {
    const CLIENTS: usize = 128;
    const PRODUCTS: u64 = 10_000;

    fn start(api: &Program, random: &mut fastrand::Rng) -> Self {
        let (answered, stop, zipf) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(Zipf::new(Self::PRODUCTS)));
        let client = |mut random: fastrand::Rng| {
            let (answered, stop, zipf, http) = (answered.clone(), stop.clone(), zipf.clone(), reqwest::Client::new());
            let url = api.url.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.get(format!("{url}/v1/products/{}", zipf.draw(&mut random))).send().await.unwrap();
                    assert_eq!(answer.status(), 200, "reads go on whatever happens to the cache");
                    answer.bytes().await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..Self::CLIENTS).map(|_| client(random.fork())).collect();
        Self { answered, stop, clients }
    }

    /// Reads answered a second, measured over `time` from now.
    async fn rate(&self, time: Duration) -> f64 {
        let (before, started) = (self.answered.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(time).await;
        (self.answered.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64()
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

/// Statements of the API that MySQL has in hand now.
async fn in_flight(sampler: &mut mysql_async::Conn, database: &str) -> u64 {
    let sql =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'inventory_api' AND DB = ? AND COMMAND IN ('Query', 'Execute')";
    sampler.exec_first(sql, (database,)).await.unwrap().unwrap()
}

/// The most statements in hand while the tables that reads need are locked, so that all that the API sends piles up.
async fn pile_up(shop: &Shop) -> u64 {
    const SAMPLES: u32 = 50;
    let (mut locker, mut sampler) = (shop.sql_connection().await, shop.sql_connection().await);
    locker.query_drop("LOCK TABLES products WRITE, stock WRITE, product_views WRITE, view_shards WRITE").await.unwrap();
    let mut most = 0;
    eventually("reads reach MySQL", SOON, async || {
        most = in_flight(&mut sampler, shop.database()).await;
        (most >= catalog::FLIGHTS as u64).then_some(())
    })
    .await;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..SAMPLES {
        tick.tick().await;
        most = most.max(in_flight(&mut sampler, shop.database()).await);
    }
    locker.query_drop("UNLOCK TABLES").await.unwrap();
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_cache_does_not_let_the_crowd_through_to_mysql() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut shop = Shop::start().await;
    shop.products(Crowd::PRODUCTS).await;
    let api = shop.api().await;
    let crowd = Crowd::start(&api, &mut random);
    eventually("the cache is warm", SOON, async || (crowd.answered.load(Ordering::Relaxed) > 10_000).then_some(())).await;
    for emptied in ["FLUSHALL", "a restart of Redis"] {
        let usual = crowd.rate(Duration::from_secs(1)).await;
        let started = Instant::now();
        if emptied == "FLUSHALL" {
            redis::cmd("FLUSHALL").exec_async(&mut shop.redis_connection().await).await.unwrap();
        } else {
            shop.redis.restart().unwrap();
        }
        let (mut most, mut sampler) = (0, shop.sql_connection().await);
        // Not asserted: how fast depends on the machine.
        let back = loop {
            let rate = crowd.rate(Duration::from_millis(100)).await;
            most = most.max(in_flight(&mut sampler, shop.database()).await);
            if rate >= 0.9 * usual || started.elapsed() > SOON {
                break started.elapsed();
            }
        };
        // Once more with MySQL stopped short, when the most is asked of it.
        shop.drop_cache().await;
        most = most.max(pile_up(&shop).await);
        println!("after {emptied}: 0.9 of {usual:.0} reads/s again after {back:.1?}; at most {most} statements in flight");
        assert!(most <= MOST_IN_FLIGHT, "{most} statements in flight after {emptied}");
    }
    crowd.end().await;
}
