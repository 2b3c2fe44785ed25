//! Eight clients write and read four hot products through two APIs while everything under them is killed, cut and
//! emptied; what they saw must be the history of four registers.

use super::register::{Call, Outcome, faults};
use harness::{Program, Proxy, SOON, Shop, ShopOptions, eventually, seed};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PRODUCTS: u64 = 4;
const CLIENTS: u64 = 8;

/// So many acknowledged writes judge something.
const WRITES: u64 = 300;

/// Clients run between faults for between these two.
const PEACE_MS: std::ops::Range<u64> = 250..700;
/// How long a proxy holds what it got: within the time limits of a call to Redis, and beyond all of them.
const HOLD_MS: std::ops::Range<u64> = 100..1_500;

/// How often an entry is thrown out.
const EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillApi(usize),
    KillRedis,
    EmptyRedis,
    KillMysql,
    Flush,
    DropEntries,
    CutRedis(usize),
    HoldRedis(usize),
    CutMysql(usize),
    /// The next COMMIT through this proxy gets no reply, and then its connection is cut.
    LoseCommit(usize),
}

const FAULTS: [Fault; 14] = [
    Fault::KillApi(0),
    Fault::KillApi(1),
    Fault::KillRedis,
    Fault::EmptyRedis,
    Fault::KillMysql,
    Fault::Flush,
    Fault::DropEntries,
    Fault::CutRedis(0),
    Fault::HoldRedis(0),
    Fault::HoldRedis(1),
    Fault::CutMysql(0),
    Fault::CutMysql(1),
    Fault::LoseCommit(0),
    Fault::LoseCommit(1),
];

/// One API and the proxies before it.
struct Instance {
    api: Program,
    mysql: Proxy,
    redis: Proxy,
}

/// What all clients share.
struct Clients {
    urls: [String; 2],
    /// Gives the times and the prices of calls.
    clock: AtomicU64,
    /// Writes that were acknowledged; reads are more than twice as many.
    written: AtomicU64,
    stop: AtomicBool,
}

impl Clients {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn run(self: Arc<Self>, mut random: fastrand::Rng) -> Vec<Call> {
        // Above the time limit of a request and shorter than the test's patience.
        let client = reqwest::Client::builder().timeout(Duration::from_secs(8)).build().unwrap();
        let mut calls = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let (product, url) = (random.u64(1..=PRODUCTS), &self.urls[random.usize(..2)]);
            let url = format!("{url}/v1/products/{product}");
            let call = if random.u8(..10) < 3 { self.write(&client, product, &url).await } else { self.read(&client, product, &url).await };
            let failed = matches!(call.outcome, Outcome::Refused | Outcome::Unknown);
            if let Outcome::Written { .. } = call.outcome {
                self.written.fetch_add(1, Ordering::SeqCst);
            }
            calls.push(call);
            if failed {
                // A client that is told to come back does not come back at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        calls
    }

    async fn read(&self, client: &reqwest::Client, product: u64, url: &str) -> Call {
        let began = self.now();
        let answer = answer(client.get(url)).await;
        let ended = self.now();
        let seen = answer.filter(|(status, _)| *status == 200);
        let (value, outcome) = match seen {
            Some((_, seen)) => {
                let value = seen["price"]["amount"].as_str().unwrap().to_owned();
                (value, Outcome::Read { version: seen["version"].as_u64().unwrap() })
            }
            None => (String::new(), Outcome::Unknown),
        };
        Call { product, began, ended, value, outcome }
    }

    async fn write(&self, client: &reqwest::Client, product: u64, url: &str) -> Call {
        let began = self.now();
        let value = format!("{}.50", began + 10);
        let body = format!(r#"{{"amount":"{value}","currency":"GBP"}}"#);
        let request = client.put(format!("{url}/price")).header("content-type", "application/json").body(body);
        let answer = answer(request).await;
        let ended = self.now();
        let outcome = match answer {
            Some((200, set)) => Outcome::Written { version: set["version"].as_u64().unwrap() },
            Some((_, problem)) if problem["type"] == "/problems/outcome-unknown" => Outcome::Unknown,
            Some(_) => Outcome::Refused,
            None => Outcome::Unknown,
        };
        Call { product, began, ended, value, outcome }
    }
}

/// Status and body; `None` where the connection broke. An API may refuse for want of a store, and for nothing else.
async fn answer(request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
    let response = request.send().await.ok()?;
    let (status, body) = (response.status().as_u16(), response.json().await.ok()?);
    assert!(matches!(status, 200 | 503), "{status}: {body}");
    Some((status, body))
}

/// Throws entries out all the time, so that reads fill and writes publish beside each other.
async fn evict(url: String, clients: Arc<Clients>, mut random: fastrand::Rng) {
    let client = redis::Client::open(url).unwrap();
    while !clients.stop.load(Ordering::SeqCst) {
        let evicted = async {
            let mut redis = client.get_multiplexed_async_connection().await?;
            let keys: Vec<String> = redis::cmd("KEYS").arg("*:p:*").query_async(&mut redis).await?;
            let Some(key) = random.choice(keys) else { return Ok(()) };
            redis::cmd("DEL").arg(key).exec_async(&mut redis).await
        };
        // Redis may be away, as everything here.
        let _: redis::RedisResult<()> = evicted.await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn strike(fault: Fault, shop: &mut Shop, instances: &mut [Instance; 2], random: &mut fastrand::Rng) {
    let hold = Duration::from_millis(random.u64(HOLD_MS));
    match fault {
        Fault::KillApi(n) => instances[n].api.restart().await,
        Fault::KillRedis => shop.redis.restart().unwrap(),
        Fault::EmptyRedis => {
            shop.redis.kill();
            std::fs::remove_dir_all(shop.redis.dir().join("appendonlydir")).unwrap();
            shop.redis.restart().unwrap();
        }
        Fault::KillMysql => shop.mysql.as_mut().unwrap().restart().unwrap(),
        Fault::Flush => redis::cmd("FLUSHALL").exec_async(&mut shop.redis_connection().await).await.unwrap(),
        Fault::DropEntries => shop.drop_cache().await,
        Fault::CutRedis(n) => instances[n].redis.cut(),
        Fault::HoldRedis(n) => {
            instances[n].redis.hold_replies();
            tokio::time::sleep(hold).await;
            if random.bool() {
                instances[n].redis.cut();
            }
            instances[n].redis.release();
        }
        Fault::CutMysql(n) => instances[n].mysql.cut(),
        Fault::LoseCommit(n) => {
            if random.bool() {
                instances[n].mysql.hold_commit()
            } else {
                instances[n].mysql.hold_reply_to_commit()
            }
            // Nothing may come while a store is away.
            let _ = tokio::time::timeout(Duration::from_secs(1), instances[n].mysql.caught()).await;
            if random.bool() {
                instances[n].mysql.cut();
            }
            instances[n].mysql.release();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_price_is_lost_or_stale_whatever_dies() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let mut instances = Vec::new();
    for _ in 0..2 {
        let (mysql, redis) = (Proxy::to(shop.mysql_port()).await, Proxy::to(shop.redis.port()).await);
        let api = shop.api_behind(Some(&mysql), Some(&redis)).await;
        instances.push(Instance { api, mysql, redis });
    }
    let mut instances: [Instance; 2] = instances.try_into().unwrap_or_else(|_| panic!("two instances"));
    let clients = Arc::new(Clients {
        urls: [0, 1].map(|n: usize| instances[n].api.url.clone()),
        clock: AtomicU64::new(0),
        written: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let running: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(clients.clone().run(random.fork()))).collect();
    let evicting = tokio::spawn(evict(shop.redis.url(), clients.clone(), random.fork()));

    let (mut plan, started) = (FAULTS, Instant::now());
    random.shuffle(&mut plan);
    for fault in plan {
        tokio::time::sleep(Duration::from_millis(random.u64(PEACE_MS))).await;
        println!("{:>6} ms {fault:?}", started.elapsed().as_millis());
        strike(fault, &mut shop, &mut instances, &mut random).await;
    }
    eventually("there is enough to judge", SOON, async || (clients.written.load(Ordering::SeqCst) >= WRITES).then_some(())).await;
    clients.stop.store(true, Ordering::SeqCst);
    let mut calls = Vec::new();
    for client in running {
        calls.extend(client.await.unwrap());
    }
    evicting.await.unwrap();

    let count = |kind: fn(&Outcome) -> bool| calls.iter().filter(|call| kind(&call.outcome)).count();
    let reads = count(|outcome| matches!(outcome, Outcome::Read { .. }));
    let writes = count(|outcome| matches!(outcome, Outcome::Written { .. }));
    let (refused, unknown) = (count(|outcome| *outcome == Outcome::Refused), count(|outcome| *outcome == Outcome::Unknown));
    println!("{reads} reads, {writes} writes, {refused} refused, {unknown} without an answer, in {:?}", started.elapsed());
    // The last reads are part of the history: nothing acknowledged is lost at rest.
    for product in 1..=PRODUCTS {
        for instance in &instances {
            let began = clients.now();
            let seen = eventually("a product is read again", SOON, async || {
                let seen = instance.api.see(product).await;
                (seen.status == 200).then_some(seen)
            })
            .await;
            assert_eq!((seen.version, seen.amount.clone()), shop.price(product).await, "product {product} at rest");
            let outcome = Outcome::Read { version: seen.version };
            calls.push(Call { product, began, ended: clients.now(), value: seen.amount, outcome });
        }
    }
    let faults = faults(&calls, "1.00");
    assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(5)]);
}
