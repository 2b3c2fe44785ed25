//! The textbook's way, under the same torture: a view is an element of a list, and a worker pops up to ten, adds them up and writes
//! them in one transaction, which it repeats until COMMIT is answered. What was popped dies with its worker, and a COMMIT whose
//! answer is lost is done twice; a judge that does not say so would not see it in ours either.

use super::faults::Fault;
use super::judge::{Outcome, Request, booked, judge};
use super::report::Totals;
use super::run::{Round, Verdict, last_views, shown};
use super::workload::{CLIENTS, Clients, Counters, PRODUCTS};
use crate::{Proxy, SOON, Shop, ShopOptions, eventually};
use mysql_async::prelude::Queryable;
use redis::AsyncCommands;
use servers::Process;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

const LIST: &str = "textbook:queue";

/// Elements of a batch.
const BATCH: usize = 10;

const WORKERS: usize = 2;

/// Between two tries, and between two views of a client.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MS: u64 = 6;

/// Between two kills.
const PEACE_MS: std::ops::Range<u64> = 100..500;

/// Works until it is killed; waits for a store that is away.
pub async fn worker(mysql_url: &str, redis_url: &str) {
    let pool = mysql_async::Pool::new(mysql_url);
    loop {
        // Redis may be away.
        let _ = work(&pool, redis_url).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn work(pool: &mysql_async::Pool, redis_url: &str) -> redis::RedisResult<()> {
    let waiting = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut redis = redis::Client::open(redis_url)?.get_multiplexed_async_connection_with_config(&waiting).await?;
    loop {
        let (_, first): (String, u64) = redis.blpop(LIST, 0.0).await?;
        // What is popped is kept, whatever becomes of Redis now.
        let rest: Vec<u64> = redis.lpop::<_, Option<_>>(LIST, std::num::NonZero::new(BATCH - 1)).await.ok().flatten().unwrap_or_default();
        let mut sums = BTreeMap::<u64, u64>::new();
        for product in rest.into_iter().chain([first]) {
            *sums.entry(product).or_default() += 1;
        }
        while add(pool, &sums).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn add(pool: &mysql_async::Pool, sums: &BTreeMap<u64, u64>) -> mysql_async::Result<()> {
    let mut tx = pool.start_transaction(mysql_async::TxOpts::default()).await?;
    for (product, views) in sums {
        tx.exec_drop("UPDATE product_views SET views = views + ? WHERE product_id = ?", (views, product)).await?;
    }
    tx.commit().await
}

/// The faults of ours that mean something here.
fn strikes(fault: Fault) -> Option<Fault> {
    match fault {
        Fault::KillRedis | Fault::KillRedisInBatch => Some(Fault::KillRedis),
        Fault::KillMysql | Fault::KillMysqlInBatch => Some(Fault::KillMysql),
        Fault::LoseCommit | Fault::LoseCommitReply | Fault::KillConnections => Some(Fault::KillConnections),
        fault => (fault.point().is_some() && !fault.kills_api() || fault == Fault::KillWorker).then_some(Fault::KillWorker),
    }
}

/// Runs one round; `program` is this binary, whose `textbook-worker` is killed.
pub async fn round(round: &Round, program: &Path, counters: &Arc<Counters>) -> Verdict {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    shop.run("INSERT INTO product_views (product_id, views) SELECT id, 0 FROM products").await;
    let mut random = fastrand::Rng::with_seed(round.seed);
    let mysql = Proxy::to(shop.mysql_port()).await;
    let urls = [shop.mysql_url_at("inventory_worker", mysql.port()), shop.redis.url()];
    let start = |number: usize| {
        let mut command = Command::new(program);
        command.arg("textbook-worker").args(&urls);
        Process::spawn("textbook-worker", command, &shop.dir().join(format!("textbook-{number}.log"))).expect("it can be started")
    };
    let mut workers: Vec<Process> = (0..WORKERS).map(start).collect();
    let logs: Vec<_> = (0..WORKERS).map(|number| shop.dir().join(format!("textbook-{number}.log"))).collect();
    // Its clients ask Redis and no API.
    let clients = Clients::at([([127, 0, 0, 1], shop.redis.port()).into(); 2], counters);
    let working: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(push(shop.redis.url(), clients.clone(), random.fork()))).collect();

    let (mut verdict, mut log) = (Verdict::default(), String::new());
    for fault in round.faults.iter().filter_map(|fault| strikes(*fault)) {
        tokio::time::sleep(Duration::from_millis(random.u64(PEACE_MS))).await;
        if Instant::now() >= round.until {
            break;
        }
        verdict.struck.entry(fault).or_default().note(clients.in_flight());
        log.push_str(&format!("{:>7} ms  {}\n", clients.now_ms(), fault.name()));
        match fault {
            Fault::KillRedis => block_in_place(|| shop.redis.restart()).expect("Redis starts again"),
            Fault::KillMysql => block_in_place(|| shop.mysql.as_mut().expect("a MySQL of its own").restart()).expect("MySQL starts again"),
            Fault::KillConnections => mysql.cut(),
            _ => {
                let number = random.usize(..WORKERS);
                let mut command = Command::new(program);
                command.arg("textbook-worker").args(&urls);
                workers[number].kill();
                workers[number] = Process::spawn("textbook-worker", command, &logs[number]).expect("it can be started");
            }
        }
    }
    last_views(&clients).await;
    clients.stop();
    let mut requests = Vec::new();
    for client in working {
        requests.extend(client.await.expect("a client ends"));
    }
    drained(&shop).await;
    let rows: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM product_views WHERE views > 0").await;
    let counted: BTreeMap<u64, u64> = rows.into_iter().collect();
    verdict.violations = judge(&booked(&requests), &counted, &BTreeMap::new());
    verdict.totals = Totals { persisted: counted.values().sum(), ..Totals::default() };
    verdict.shown = shown(&verdict.violations, &requests, &log);
    verdict
}

/// Pushes views until the clients are stopped.
async fn push(url: String, clients: Arc<Clients>, mut random: fastrand::Rng) -> Vec<Request> {
    let client = redis::Client::open(url).expect("the URL is well formed");
    let (mut requests, mut connection) = (Vec::new(), None);
    while !clients.are_stopped() {
        if connection.is_none() {
            connection = client.get_multiplexed_async_connection().await.ok();
        }
        let Some(redis) = &mut connection else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let product = clients.product(&mut random);
        let count = random.u64(1..=3);
        let elements = vec![product; count as usize];
        let pushed: redis::RedisResult<u64> = clients.waits(redis.rpush(LIST, elements)).await;
        let outcome = if pushed.is_ok() { Outcome::Accepted } else { Outcome::Doubtful };
        if pushed.is_err() {
            connection = None;
        }
        let request = Request { product, count, outcome, instance: 0, at_ms: clients.now_ms() };
        clients.counters.note(&request);
        requests.push(request);
        tokio::time::sleep(Duration::from_millis(random.u64(..=PAUSE_MS))).await;
    }
    requests
}

/// Waits until the list is empty and MySQL has counted nothing more for a while: what was popped is in no place that can be asked.
async fn drained(shop: &Shop) {
    const QUIET: Duration = Duration::from_secs(2);
    let (mut last, mut since) = (0, Instant::now());
    eventually("the textbook's list is drained", 4 * SOON, async || {
        let left: u64 = shop.redis_connection().await.llen(LIST).await.ok()?;
        let counted = shop.all_views().await;
        if left > 0 || counted != last {
            (last, since) = (counted, Instant::now());
        }
        (since.elapsed() > QUIET).then_some(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn whatever_kills_a_worker_of_ours_kills_one_of_the_textbook() {
        let strikes: BTreeMap<Fault, Option<Fault>> = Fault::value_variants().iter().map(|fault| (*fault, strikes(*fault))).collect();
        assert_eq!(strikes[&Fault::KillAfterClaim], Some(Fault::KillWorker));
        assert_eq!(strikes[&Fault::KillMysqlInBatch], Some(Fault::KillMysql));
        assert_eq!(strikes[&Fault::KillAfterPush], None);
        assert_eq!(strikes[&Fault::CutTail], None);
    }
}
