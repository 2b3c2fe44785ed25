//! `soak`: the same servers under moderate mixed load for minutes or hours.
//!
//! Every read must show the last price that was acknowledged before it was sent, or a newer one; every view must be
//! counted once; memory must not grow. An error answer ends it.

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::figures::{grouped, slope};
use crate::load::{self, End, histogram};
use crate::requests::{PRODUCTS, Requests, Zipf, put_price, view_of};
use crate::stack::{Account, Stack};
use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A week.
pub(crate) const MOST_MINUTES: u64 = 7 * 24 * 60;

const CLIENTS: u32 = 16;

/// Requests of all clients together.
const PER_SECOND: u32 = 1_000;

/// Of a hundred requests so many are reads, and so many of the others prices; the rest are views.
const READS: u32 = 60;
const PRICES: u32 = 5;

const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How long after the end the clients may take to end: more than the last answer may.
const CLIENTS_LIMIT: Duration = Duration::from_secs(2 * ANSWER_LIMIT.as_secs());

/// Growth that passes, by the straight line through what was seen after the first fifth: so much an hour. In a short time that
/// line is steep by chance, hence what always passes; in a long one even a small leak is a leak, hence what is the most, a
/// quarter of what API or worker may hold.
const MIB_AN_HOUR: f64 = 8.0;
const NOISE_MIB: f64 = 3.0;
const MOST_MIB: f64 = 16.0;

/// Share of the time that is looked at so: what comes before fills caches and pools.
const SETTLED: f64 = 0.8;

/// What the clients share.
struct Shared {
    zipf: Zipf,
    /// Highest version of each product that a PUT was acknowledged with.
    versions: Vec<AtomicU64>,
    views: AtomicU64,
    answered: AtomicU64,
    latency: Mutex<Histogram<u64>>,
    until: Instant,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// Memory at a moment, MiB.
struct Sample {
    hours: f64,
    of: [f64; 3],
}

const MEMORIES: [&str; 3] = ["API", "worker", "Redis"];

/// # Errors
/// A verdict that is not good, an error answer, or something died.
pub(crate) async fn run(stack: &mut Stack, minutes: u64, seed: u64) -> anyhow::Result<()> {
    let api = stack.api();
    load::run(api, &Arc::new(Requests::each_once()), CLIENTS as usize, End::Answered(PRODUCTS as u64)).await?;
    let began = Instant::now();
    let shared = Arc::new(Shared {
        zipf: Zipf::new(PRODUCTS),
        versions: (0..PRODUCTS).map(|_| AtomicU64::new(0)).collect(),
        views: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        latency: Mutex::new(histogram()),
        until: began + Duration::from_secs(60 * minutes),
    });
    println!("soak: {minutes} min, {PER_SECOND} requests a second over {CLIENTS} connections, seed {seed}");
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(shared.clone(), api, seed, number));
    }
    let mut samples = Vec::new();
    let mut looks = tokio::time::interval_at((began + LOOK_INTERVAL).into(), LOOK_INTERVAL);
    loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(ended) => ended.context("a client panicked")??,
                None => break,
            },
            () = tokio::time::sleep_until((shared.until + CLIENTS_LIMIT).into()) => {
                bail!("{} clients have not ended {CLIENTS_LIMIT:?} after the soak's end", clients.len())
            }
            _ = looks.tick() => samples.push(look(stack, &shared, began).await?),
        }
    }
    stack.accepted = shared.views.load(Ordering::Relaxed);
    stack.wait_drained().await?;
    verdict(&shared, stack.account().await?, &samples)
}

/// Prints a line and returns what was seen.
async fn look(stack: &mut Stack, shared: &Shared, began: Instant) -> anyhow::Result<Sample> {
    let latency = std::mem::replace(&mut *shared.latency.lock().unwrap_or_else(PoisonError::into_inner), histogram());
    let account = stack.account().await?;
    let (api, worker, redis) = (stack.api_memory()?, stack.worker_memory()?, stack.redis_memory()?);
    let used_mib = stack.redis_used_memory().await? as f64 / 1_048_576.0;
    let elapsed = began.elapsed();
    println!(
        "{:>6} s  {:>6}/s  p99 {:>6.2} ms  MiB: API {:.1}, worker {:.1}, Redis {:.1} (used {:.1})  pending {}  oldest {:.1} s  drift {}",
        elapsed.as_secs(),
        grouped(latency.len() as f64 / LOOK_INTERVAL.as_secs_f64()),
        latency.value_at_quantile(0.99) as f64 / 1e6,
        api.resident_mib,
        worker.resident_mib,
        redis.resident_mib,
        used_mib,
        grouped(account.pending as f64),
        account.oldest_age_seconds,
        account.drift(),
    );
    Ok(Sample { hours: elapsed.as_secs_f64() / 3_600.0, of: [api.resident_mib, worker.resident_mib, used_mib] })
}

/// Stale prices and error answers have ended the soak before.
fn verdict(shared: &Shared, account: Account, samples: &[Sample]) -> anyhow::Result<()> {
    let views = shared.views.load(Ordering::Relaxed);
    println!("requests {}, all answered; no price older than acknowledged", grouped(shared.answered.load(Ordering::Relaxed) as f64));
    println!(
        "views {} answered 202, {} in MySQL, lost {}, drift {}",
        grouped(views as f64),
        grouped(account.persisted as f64),
        account.lost,
        account.drift()
    );
    let mut faults = Vec::new();
    if account.drift() != 0 || account.lost != 0 || account.accepted != views || account.persisted != views {
        faults.push(format!("the views do not add up: {account:?}"));
    }
    for (name, growth) in MEMORIES.iter().zip(growth(samples)) {
        let (gained, passes) = (growth.gained(), passing_mib(growth.hours));
        println!(
            "memory of {name}: {:+.2} MiB an hour, {gained:+.1} MiB in {:.2} h; up to {passes:.1} MiB passes",
            growth.an_hour, growth.hours
        );
        if gained > passes {
            faults.push(format!("the memory of {name} grew by {gained:.1} MiB, more than {passes:.1}"));
        }
    }
    if faults.is_empty() {
        println!("verdict: good");
        return Ok(());
    }
    bail!("verdict: {}", faults.join("; "))
}

/// What `--help` says of it.
pub(crate) fn growth_help() -> String {
    format!(
        "Memory of API, worker and Redis passes while the straight line through what was seen after the first fifth \
         rises by at most {MIB_AN_HOUR} MiB an hour; {NOISE_MIB} MiB always pass, more than {MOST_MIB} MiB never, however long it takes: \
         that is {:.1} MiB an hour in a day and {:.1} in a week.",
        MOST_MIB / (SETTLED * 24.0),
        MOST_MIB / (SETTLED * 7.0 * 24.0),
    )
}

/// MiB that a memory may gain in this time.
fn passing_mib(hours: f64) -> f64 {
    (MIB_AN_HOUR * hours).clamp(NOISE_MIB, MOST_MIB)
}

/// MiB, by the straight line through what was seen in these hours.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Growth {
    an_hour: f64,
    hours: f64,
}

impl Growth {
    fn gained(self) -> f64 {
        self.an_hour * self.hours
    }
}

/// Of the three memories, after the first fifth, in which caches and pools fill.
fn growth(samples: &[Sample]) -> [Growth; 3] {
    let settled = &samples[((1.0 - SETTLED) * samples.len() as f64).round() as usize..];
    let hours = settled.last().map_or(0.0, |last| last.hours - settled[0].hours);
    [0, 1, 2].map(|which| {
        let points: Vec<(f64, f64)> = settled.iter().map(|sample| (sample.hours, sample.of[which])).collect();
        let an_hour = slope(&points).unwrap_or_default();
        Growth { an_hour, hours }
    })
}

async fn client(shared: Arc<Shared>, api: SocketAddr, seed: u64, number: u32) -> anyhow::Result<()> {
    let mut connection = Connection::open(api).await?;
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(u64::from(number)));
    let interval = Duration::from_secs(1) * CLIENTS / PER_SECOND;
    let mut next = Instant::now() + interval * number / CLIENTS;
    loop {
        tokio::time::sleep_until(next.into()).await;
        // A stall is not made up for: the load stays moderate.
        next = (next + interval).max(Instant::now());
        let began = Instant::now();
        if began >= shared.until {
            return Ok(());
        }
        let place = shared.zipf.rank(random.f64());
        match random.u32(0..100) {
            draw if draw < READS => read(&shared, &mut connection, place).await?,
            draw if draw < READS + PRICES => set_price(&shared, &mut connection, place, random.u32(100..100_000)).await?,
            _ => view(&shared, &mut connection, place).await?,
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        let mut latency = shared.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.saturating_record(began.elapsed().as_nanos() as u64);
    }
}

async fn read(shared: &Shared, connection: &mut Connection, place: usize) -> anyhow::Result<()> {
    let acknowledged = shared.versions[place].load(Ordering::Relaxed);
    let request = format!("GET /v1/products/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", place + 1);
    let shown = version(connection, request.as_bytes()).await?;
    ensure!(shown >= acknowledged, "product {} was shown with version {shown} after {acknowledged} was acknowledged", place + 1);
    Ok(())
}

async fn set_price(shared: &Shared, connection: &mut Connection, place: usize, pence: u32) -> anyhow::Result<()> {
    let body = format!("{{\"amount\":\"{}.{:02}\",\"currency\":\"GBP\"}}", pence / 100, pence % 100);
    let acknowledged = version(connection, &put_price(place as u64 + 1, &body)).await?;
    shared.versions[place].fetch_max(acknowledged, Ordering::Relaxed);
    Ok(())
}

async fn view(shared: &Shared, connection: &mut Connection, place: usize) -> anyhow::Result<()> {
    let answer = connection.exchange_within(ANSWER_LIMIT, &view_of(place as u64 + 1)).await?;
    ensure!(answer.status == 202, "a view was answered with {}: {}", answer.status, String::from_utf8_lossy(answer.body));
    shared.views.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn version(connection: &mut Connection, request: &[u8]) -> anyhow::Result<u64> {
    let answer = connection.exchange_within(ANSWER_LIMIT, request).await?;
    let text = || String::from_utf8_lossy(answer.body).into_owned();
    ensure!(answer.is_success(), "a request was answered with {}: {}", answer.status, text());
    let versioned: Versioned = serde_json::from_slice(answer.body).with_context(text)?;
    Ok(versioned.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..100).map(|second| Sample { hours: f64::from(second) / 100.0, of: [of(f64::from(second)), 10.0, 20.0] }).collect()
    }

    #[test]
    fn memory_that_fills_at_the_start_does_not_grow() {
        let filling = growth(&samples(|second| 10.0 + second.min(20.0)));
        assert!(filling[0].an_hour.abs() < 1e-6, "{filling:?}");
        assert!((growth(&samples(|second| second / 10.0))[0].an_hour - 10.0).abs() < 1e-6);
        assert_eq!(growth(&[]), [Growth::default(); 3]);
    }

    #[test]
    fn a_leak_passes_neither_by_being_quick_nor_by_being_slow() {
        let passes = |an_hour: f64, hours: f64| Growth { an_hour, hours }.gained() <= passing_mib(hours);
        // Noise of a run of some minutes, then what an hour and what a week may bring.
        assert!(passes(60.0, 0.04) && !passes(60.0, 0.06));
        assert!(passes(7.9, 1.0) && !passes(8.1, 1.0));
        assert!(passes(0.1, 134.0) && !passes(0.2, 134.0));
    }

    #[test]
    fn help_says_what_growth_passes() {
        let help = growth_help();
        for figure in ["at most 8 MiB an hour", "3 MiB always", "more than 16 MiB never", "0.8 MiB an hour in a day", "0.1 in a week"] {
            assert!(help.contains(figure), "{figure}: {help}");
        }
    }
}
