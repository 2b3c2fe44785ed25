//! Clients that read and write a few hot products through two instances of the API as fast as they are answered, and keep
//! what they were told.

use super::connection::{Answer, Connection};
use super::history::{Call, Outcome, amount};
use crate::Program;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The instances of the API.
pub(super) const INSTANCES: usize = 2;

/// Clients that only read, and clients that also write. Apart, because a write waits for seconds for a store that is away,
/// and reads from the cache go on.
pub(super) const READERS: usize = 8;
pub(super) const WRITERS: usize = 4;

/// Of a writer's ten calls.
const WRITES: u8 = 7;

/// A writer pauses up to this after each call: two instances under fsync would else do nothing but write.
const WRITER_PAUSE_MS: u64 = 10;

/// Of ten reads so many are of single products; the others ask for up to [`MOST_LISTED`] at once.
const SINGLE: u8 = 9;
const MOST_LISTED: usize = 4;

/// Nor does a reader come back at once that had to wait for MySQL: most reads are to be hits, also where Redis is away for
/// a good part of the time.
const READER_PAUSE: Duration = Duration::from_millis(10);

/// A client that is told to come back does not come back at once.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// Calls that one client keeps of a round, 56 bytes each; then it ends.
const MOST_CALLS: usize = 400_000;

/// An entry is thrown out each time that there were so many reads, so that reads fill and writes publish beside each other.
/// By reads and not by time: the share of hits is then the same on a busy machine.
const EVICTION_READS: std::ops::Range<u64> = 20..100;
const EVICTION_LOOK: Duration = Duration::from_millis(2);

/// Prices of products when a round begins, in hundredths, and the first that a client sets.
pub(super) const FIRST_PRICE: u64 = 100;
const FIRST_SET: u64 = 1_000;

/// What clients were told, since the run began.
#[derive(Debug)]
pub struct Counters {
    /// A list is one request and a read of each of its products.
    pub requests: AtomicU64,
    pub reads: AtomicU64,
    /// Reads that the cache answered, by `Cache-Status`; all of a list, or none.
    pub hits: AtomicU64,
    pub written: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    /// Reads that were refused or broke off: they say nothing.
    pub failed_reads: AtomicU64,
    /// The next price, in hundredths: no two writes of a run have the same.
    prices: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let (requests, reads, hits, written) = (zero(), zero(), zero(), zero());
        Self { requests, reads, hits, written, refused: zero(), unknown: zero(), failed_reads: zero(), prices: AtomicU64::new(FIRST_SET) }
    }
}

impl Counters {
    fn note(&self, outcome: Outcome) {
        let counted = match outcome {
            Outcome::Read { hit, .. } => {
                self.hits.fetch_add(u64::from(hit), Ordering::Relaxed);
                &self.reads
            }
            Outcome::Written { .. } => &self.written,
            Outcome::Refused => &self.refused,
            Outcome::Unknown => &self.unknown,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that are in a history.
    #[must_use]
    pub fn operations(&self) -> u64 {
        [&self.reads, &self.written, &self.refused, &self.unknown].map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }
}

/// What the clients of one round share.
pub(super) struct Clients {
    addresses: [SocketAddr; INSTANCES],
    products: u64,
    /// Gives the times of calls.
    clock: AtomicU64,
    in_flight: AtomicUsize,
    stop: AtomicBool,
    counters: Arc<Counters>,
}

/// A product as far as it is looked at.
#[derive(Deserialize)]
struct Product {
    id: u64,
    version: u64,
    price: Money,
}

#[derive(Deserialize)]
struct Money {
    amount: String,
}

#[derive(Deserialize)]
struct Listed {
    data: Vec<Product>,
}

#[derive(Deserialize)]
struct Set {
    version: u64,
}

#[derive(Deserialize)]
struct Problem {
    r#type: String,
}

/// One client: it has one instance, so that one that is stopped holds up no more than its own.
pub(super) struct Client {
    shared: Arc<Clients>,
    instance: usize,
    connection: Connection,
}

/// What is in an answer to us.
enum Told<T> {
    Done { hit: bool, body: T },
    Unavailable(Problem),
    Unsent,
    Broken,
}

impl Clients {
    pub(super) fn new(apis: [&Program; INSTANCES], products: u64, counters: Arc<Counters>) -> Arc<Self> {
        let address = |api: &Program| api.url.strip_prefix("http://").and_then(|address| address.parse().ok());
        let addresses = apis.map(|api| address(api).expect("an API is at an address"));
        let (clock, in_flight, stop) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { addresses, products, clock, in_flight, stop, counters })
    }

    /// Requests that are not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

impl Client {
    pub(super) fn of(shared: &Arc<Clients>, instance: usize) -> Self {
        Self { shared: shared.clone(), instance, connection: Connection::to(shared.addresses[instance]) }
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self, writer: bool, mut random: fastrand::Rng) -> Vec<Call> {
        let mut calls = Vec::new();
        while !self.shared.stop.load(Ordering::SeqCst) && calls.len() < MOST_CALLS {
            let before = calls.len();
            if writer && random.u8(..10) < WRITES {
                calls.push(self.write(random.u64(1..=self.shared.products)).await);
            } else {
                self.read(&mut random, &mut calls).await;
            }
            let answered = calls[before..].iter().any(|call| !matches!(call.outcome, Outcome::Refused | Outcome::Unknown));
            let hit = |call: &Call| matches!(call.outcome, Outcome::Read { hit: true, .. });
            match (answered, writer) {
                (false, _) => tokio::time::sleep(AFTER_REFUSAL).await,
                (true, true) => tokio::time::sleep(Duration::from_millis(random.u64(..=WRITER_PAUSE_MS))).await,
                (true, false) if !calls[before..].iter().all(hit) => tokio::time::sleep(READER_PAUSE).await,
                (true, false) => {}
            }
        }
        calls
    }

    async fn read(&mut self, random: &mut fastrand::Rng, calls: &mut Vec<Call>) {
        if random.u8(..10) < SINGLE {
            self.see(random.u64(1..=self.shared.products), calls).await;
        } else {
            let mut ids: Vec<u64> = (1..=self.shared.products).collect();
            random.shuffle(&mut ids);
            ids.truncate(random.usize(2..=MOST_LISTED));
            self.see_several(&ids, calls).await;
        }
    }

    /// Reads one product; nothing is added to `calls` when that was not answered.
    pub(super) async fn see(&mut self, id: u64, calls: &mut Vec<Call>) {
        let began = self.shared.now();
        let told = self.ask::<Product>("GET", &format!("/v1/products/{id}"), "").await;
        self.seen(began, told, |product| vec![product], calls);
    }

    /// Reads several in one request, each of which is a call of its own.
    async fn see_several(&mut self, ids: &[u64], calls: &mut Vec<Call>) {
        let names: Vec<String> = ids.iter().map(u64::to_string).collect();
        let began = self.shared.now();
        let told = self.ask::<Listed>("GET", &format!("/v1/products?ids={}", names.join(",")), "").await;
        let before = calls.len();
        self.seen(began, told, |listed| listed.data, calls);
        assert!([0, ids.len()].contains(&(calls.len() - before)), "products {ids:?} were asked for: {:?}", &calls[before..]);
    }

    fn seen<T>(&self, began: u64, told: Told<T>, products: impl FnOnce(T) -> Vec<Product>, calls: &mut Vec<Call>) {
        let (ended, counters) = (self.shared.now(), &self.shared.counters);
        let Told::Done { hit, body } = told else {
            counters.failed_reads.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for Product { id: product, version, price } in products(body) {
            let (value, outcome) = (hundredths(&price.amount), Outcome::Read { version, hit });
            counters.note(outcome);
            calls.push(Call { product, instance: self.instance, began, ended, value, outcome });
        }
    }

    async fn write(&mut self, product: u64) -> Call {
        let began = self.shared.now();
        let value = self.shared.counters.prices.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"amount":"{}","currency":"GBP"}}"#, amount(value));
        let told = self.ask::<Set>("PUT", &format!("/v1/products/{product}/price"), &body).await;
        let ended = self.shared.now();
        let outcome = match told {
            Told::Done { body, .. } => Outcome::Written { version: body.version },
            Told::Unavailable(problem) if problem.r#type == "/problems/outcome-unknown" => Outcome::Unknown,
            Told::Unavailable(_) | Told::Unsent => Outcome::Refused,
            Told::Broken => Outcome::Unknown,
        };
        self.shared.counters.note(outcome);
        Call { product, instance: self.instance, began, ended, value, outcome }
    }

    /// An API may refuse for want of a store, and for nothing else.
    async fn ask<T: DeserializeOwned>(&mut self, method: &str, path: &str, body: &str) -> Told<T> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: torture\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.shared.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.shared.in_flight.fetch_add(1, Ordering::SeqCst);
        let answer = self.connection.exchange(&request).await;
        self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Answer::Whole { status: 200, hit, body, .. } => Told::Done { hit, body: parsed(body) },
            Answer::Whole { status: 503, body, .. } => Told::Unavailable(parsed(body)),
            Answer::Whole { status, body, .. } => panic!("{method} {path}: {status}: {}", String::from_utf8_lossy(body)),
            Answer::Unsent => Told::Unsent,
            Answer::Broken => Told::Broken,
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(body)))
}

/// Of an amount with two digits behind the point.
pub(super) fn hundredths(amount: &str) -> u64 {
    let digits: String = amount.chars().filter(|letter| *letter != '.').collect();
    digits.parse().unwrap_or_else(|error| panic!("{amount}: {error}"))
}

/// Throws entries out, now and then, until the clients are stopped.
pub(super) async fn evict(url: String, clients: Arc<Clients>, mut random: fastrand::Rng) {
    let client = redis::Client::open(url).expect("the URL is well formed");
    while !clients.stop.load(Ordering::SeqCst) {
        let evicted = async {
            let mut redis = client.get_multiplexed_async_connection().await?;
            let (reads, mut next) = (|| clients.counters.reads.load(Ordering::Relaxed), 0);
            while !clients.stop.load(Ordering::SeqCst) {
                tokio::time::sleep(EVICTION_LOOK).await;
                if reads() < next {
                    continue;
                }
                next = reads() + random.u64(EVICTION_READS);
                let keys: Vec<String> = redis::cmd("KEYS").arg("*:p:*").query_async(&mut redis).await?;
                if let Some(key) = random.choice(keys) {
                    redis::cmd("DEL").arg(key).exec_async(&mut redis).await?;
                }
            }
            Ok(())
        };
        // Redis may be away, as everything here.
        let ended: redis::RedisResult<()> = evicted.await;
        if ended.is_err() {
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }
}
