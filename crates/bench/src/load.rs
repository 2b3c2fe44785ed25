//! The load generator: N connections, each sends its next request when the last one was answered (closed loop).
//!
//! Runs on one core, all connections on the runtime of the caller. Any answer but the expected ends the whole run: a server
//! that refuses is not fast.

use crate::connection::{ANSWER_LIMIT, Answer, Connection};
use crate::requests::Requests;
use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Latencies are recorded in nanoseconds up to this, to three digits.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a given number of requests may take.
const COUNT_LIMIT: Duration = Duration::from_secs(300);

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Counts for `measured`, after `warm` that is not counted.
    After { warm: Duration, measured: Duration },
    /// When this many requests were answered; all are counted.
    Answered(u64),
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// All answers, also those before the clock ran.
    pub(crate) answered: u64,
    /// Answers that came while it ran.
    pub(crate) counted: u64,
    pub(crate) time: Duration,
    /// Of the counted ones, nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Slice {
    pub(crate) fn per_second(&self) -> f64 {
        self.counted as f64 / self.time.as_secs_f64()
    }

    /// A latency in milliseconds; `quantile` from 0 to 1.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST.as_nanos() as u64, 3).expect("bounds and digits are in range")
}

struct Shared {
    requests: Arc<Requests>,
    from: Instant,
    until: Option<Instant>,
    /// Requests that may still be sent.
    left: Option<AtomicU64>,
    seen: Mutex<Seen>,
}

struct Seen {
    answered: u64,
    latency: Histogram<u64>,
}

/// Sends `requests` over `clients` connections.
///
/// # Errors
/// An answer that is not expected (2xx but for what is sold out), a broken connection, or no answer.
pub(crate) async fn run(address: SocketAddr, requests: &Arc<Requests>, clients: usize, end: End) -> anyhow::Result<Slice> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(Connection::open(address).await?);
    }
    let (from, until, left) = match end {
        End::After { warm, measured } => (Instant::now() + warm, Some(Instant::now() + warm + measured), None),
        End::Answered(count) => (Instant::now(), None, Some(AtomicU64::new(count))),
    };
    let seen = Mutex::new(Seen { answered: 0, latency: histogram() });
    let shared = Arc::new(Shared { requests: requests.clone(), from, until, left, seen });
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(client(shared.clone(), connection));
    }
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a client panicked")??;
        }
        anyhow::Ok(())
    };
    // One limit for all: a timer for each request would be felt.
    let limit = until.unwrap_or(from + COUNT_LIMIT) + ANSWER_LIMIT;
    let in_time = tokio::time::timeout_at(limit.into(), ended).await;
    in_time.with_context(|| format!("{} of {clients} clients had no answer from {address} within {ANSWER_LIMIT:?}", tasks.len()))??;
    let seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let time = until.map_or_else(|| from.elapsed(), |until| until - from);
    Ok(Slice { answered: seen.answered, counted: seen.latency.len(), time, latency: seen.latency.clone() })
}

async fn client(shared: Arc<Shared>, mut connection: Connection) -> anyhow::Result<()> {
    let (mut began, mut buffer) = (Instant::now(), Vec::new());
    while shared.goes_on(began) {
        let request = shared.requests.next(&mut buffer);
        let answer = connection.exchange(request).await?;
        if !shared.requests.expects(&answer) {
            bail!(unexpected(request, &answer));
        }
        if let Some(request) = shared.requests.next_after(&answer)? {
            let answer = connection.exchange(&request).await?;
            if !answer.is_success() {
                bail!(unexpected(&request, &answer));
            }
        }
        let ended = Instant::now();
        shared.note(began, ended);
        began = ended;
    }
    Ok(())
}

fn unexpected(request: &[u8], answer: &Answer<'_>) -> String {
    let request = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
    format!("{request} was answered with {}: {}", answer.status, String::from_utf8_lossy(answer.body))
}

impl Shared {
    fn goes_on(&self, now: Instant) -> bool {
        let one_left = |left: &AtomicU64| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        self.until.is_none_or(|until| now < until) && self.left.as_ref().is_none_or(one_left)
    }

    fn note(&self, began: Instant, ended: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answered += 1;
        if ended >= self.from && self.until.is_none_or(|until| ended <= until) {
            seen.latency.saturating_record((ended - began).as_nanos() as u64);
        }
    }
}
