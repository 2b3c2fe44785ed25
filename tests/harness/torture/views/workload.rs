//! Clients that send views through two APIs as fast as a visitor or two, and keep what they were told of each.

use super::judge::{Outcome, Request};
use crate::Program;
use crate::torture::connection::{Answer, Connection};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The instances of the API, and of the worker.
pub(super) const INSTANCES: usize = 2;

pub(super) const CLIENTS: usize = 8;

/// Products that are there, viewed by Zipf's law: the first as often as the second and third together.
pub(super) const PRODUCTS: u64 = 300;

/// Products behind those that MySQL does not have. Their views are refused, or accepted and set aside.
const ABSENT: u64 = 4;

/// Of a hundred requests: of one hot product, of one that is absent, several at once; the others are of one by Zipf's law.
/// Events of several are of an absent one as often.
const HOT: u8 = 25;
const OF_ABSENT: u8 = 2;
const SEVERAL: u8 = 15;

/// Events of a request for several.
const EVENTS: std::ops::RangeInclusive<usize> = 2..=20;

/// Views of a request or an event that has a count; every other one has none, and is one view.
const COUNT: std::ops::RangeInclusive<u64> = 1..=20;

/// A client pauses up to this after each request: the servers on the same cores have their work to do too.
const PAUSE_MS: u64 = 6;

/// A client that is told to come back does not come back at once.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// A product of each shard, and how often a client tries in the end to view one of each.
const SHARDS: u64 = 4;
const FAREWELLS: u64 = 200;

/// Requests that one client keeps of a round, 40 bytes each; then it ends.
const MOST_REQUESTS: usize = 400_000;

/// What clients were told since the run began.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    /// Views by what was said of them.
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub doubtful: AtomicU64,
    /// Answers that showed a total.
    pub shown: AtomicU64,
}

impl Counters {
    pub(super) fn note(&self, request: &Request) {
        let views = match request.outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Refused => &self.refused,
            Outcome::Doubtful => &self.doubtful,
        };
        views.fetch_add(request.count, Ordering::Relaxed);
    }
}

/// What the clients of one round share.
pub(super) struct Clients {
    pub(super) addresses: [SocketAddr; INSTANCES],
    /// Sums of the weights of the products up to each.
    weights: Vec<f64>,
    began: Instant,
    in_flight: AtomicUsize,
    stop: AtomicBool,
    /// Odd from before Redis loses data until nothing of it is offered again, and higher by two afterwards.
    losses: AtomicU64,
    pub(super) counters: Arc<Counters>,
}

impl Clients {
    pub(super) fn new(apis: [&Program; INSTANCES], counters: &Arc<Counters>) -> Arc<Self> {
        let address = |api: &Program| api.url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Self::at(apis.map(|api| address(api).expect("an API is at an address")), counters)
    }

    /// Those of the textbook ask no API.
    pub(super) fn at(addresses: [SocketAddr; INSTANCES], counters: &Arc<Counters>) -> Arc<Self> {
        let weight = |sum: &mut f64, rank: u64| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        };
        let weights = (1..=PRODUCTS).scan(0.0, weight).collect();
        let (began, in_flight, stop, losses) = (Instant::now(), AtomicUsize::new(0), AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { addresses, weights, began, in_flight, stop, losses, counters: counters.clone() })
    }

    /// Requests that are not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn are_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// Redis is about to lose data, or has lost it and offers nothing any more that MySQL has counted.
    pub(super) fn loss_begins_or_ends(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    /// Since the round began.
    pub(super) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// While a request of a client waits for its answer.
    pub(super) async fn waits<T>(&self, answer: impl Future<Output = T>) -> T {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let answer = answer.await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// A product that is there.
    pub(super) fn product(&self, random: &mut fastrand::Rng) -> u64 {
        let place = random.f64() * self.weights.last().expect("there are products");
        self.weights.partition_point(|sum| *sum < place) as u64 + 1
    }
}

#[derive(Deserialize)]
struct Problem {
    r#type: String,
}

#[derive(Deserialize)]
struct Several {
    accepted: usize,
    rejected: Vec<Rejected>,
}

#[derive(Deserialize)]
struct Rejected {
    index: usize,
    r#type: String,
}

/// One client: it has one instance, so that one that is held holds up no more than its own.
pub(super) struct Client {
    shared: Arc<Clients>,
    instance: usize,
    connection: Connection,
}

/// Product and views of each event of a request.
type Events = Vec<(u64, u64)>;

impl Client {
    pub(super) fn of(shared: &Arc<Clients>, instance: usize) -> Self {
        Self { shared: shared.clone(), instance, connection: Connection::to(shared.addresses[instance]) }
    }

    /// Sends views until it is stopped.
    pub(super) async fn run(mut self, mut random: fastrand::Rng) -> Vec<Request> {
        let mut requests = Vec::new();
        while !self.shared.are_stopped() && requests.len() < MOST_REQUESTS {
            let before = requests.len();
            let (path, events) = self.next(&mut random);
            self.send(&path, events, &mut requests).await;
            let accepted = requests[before..].iter().any(|request| request.outcome == Outcome::Accepted);
            let pause = if accepted { Duration::from_millis(random.u64(..=PAUSE_MS)) } else { AFTER_REFUSAL };
            tokio::time::sleep(pause).await;
        }
        self.say_farewell(&mut requests).await;
        requests
    }

    /// One more view of each shard, so that the API's thread tells Redis what it knows, also where Redis had lost it.
    async fn say_farewell(&mut self, requests: &mut Vec<Request>) {
        for _ in 0..FAREWELLS {
            let events: Events = (1..=SHARDS).map(|product| (product, 1)).collect();
            let before = requests.len();
            self.send("/v1/views", events, requests).await;
            if requests[before..].iter().all(|request| request.outcome == Outcome::Accepted) {
                return;
            }
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }

    fn next(&self, random: &mut fastrand::Rng) -> (String, Events) {
        let kind = random.u8(..100);
        let count = |random: &mut fastrand::Rng| if random.bool() { random.u64(COUNT) } else { 1 };
        let absent = PRODUCTS + random.u64(1..=ABSENT);
        if kind < SEVERAL {
            let length = random.usize(EVENTS);
            let event = |_| (if random.u8(..100) < OF_ABSENT { absent } else { self.shared.product(random) }, count(random));
            ("/v1/views".to_owned(), (0..length).map(event).collect())
        } else {
            let product = match kind - SEVERAL {
                ..HOT => 1,
                kind if kind < HOT + OF_ABSENT => absent,
                _ => self.shared.product(random),
            };
            (format!("/v1/products/{product}/views"), vec![(product, count(random))])
        }
    }

    async fn send(&mut self, path: &str, events: Events, requests: &mut Vec<Request>) {
        let outcomes = self.ask(path, &events).await;
        let at_ms = self.shared.now_ms();
        for ((product, count), outcome) in events.into_iter().zip(outcomes) {
            let request = Request { product, count, outcome, instance: self.instance, at_ms };
            self.shared.counters.note(&request);
            requests.push(request);
        }
    }

    /// What became of each event. An API may refuse for want of a product or of Redis, and for nothing else.
    async fn ask(&mut self, path: &str, events: &Events) -> Vec<Outcome> {
        let body = body(path, events);
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: torture\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let all = |outcome| vec![outcome; events.len()];
        match self.shared.waits(self.connection.exchange(&request)).await {
            Answer::Whole { status: 202, body, .. } if path == "/v1/views" => {
                let Several { accepted, rejected } = parsed(body);
                assert_eq!(accepted + rejected.len(), events.len(), "each event is accepted or rejected");
                let mut outcomes = all(Outcome::Accepted);
                for Rejected { index, r#type } in rejected {
                    outcomes[index] = outcome(&r#type);
                }
                outcomes
            }
            Answer::Whole { status: 202, .. } => all(Outcome::Accepted),
            Answer::Whole { status: 404 | 503, body, .. } => all(outcome(&parsed::<Problem>(body).r#type)),
            Answer::Whole { status, body, .. } => panic!("POST {path}: {status}: {}", String::from_utf8_lossy(body)),
            Answer::Unsent => all(Outcome::Refused),
            Answer::Broken => all(Outcome::Doubtful),
        }
    }
}

fn body(path: &str, events: &Events) -> String {
    if path == "/v1/views" {
        let event = |(product, count): &(u64, u64)| format!(r#"{{"product_id":{product},"count":{count}}}"#);
        return format!(r#"{{"events":[{}]}}"#, events.iter().map(event).collect::<Vec<_>>().join(","));
    }
    match events.as_slice() {
        [(_, 1)] | [] => String::new(),
        [(_, count), ..] => format!(r#"{{"count":{count}}}"#),
    }
}

fn outcome(problem: &str) -> Outcome {
    if problem == "/problems/outcome-unknown" { Outcome::Doubtful } else { Outcome::Refused }
}

pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(body)))
}
