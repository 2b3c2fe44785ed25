//! Prices beyond single writes: a batch beside as many single writes, and readers of a product whose writers queue.

use crate::connection::{ANSWER_LIMIT, Answer, Connection};
use crate::figures::{Spread, paired};
use crate::load::{self, End, Slice};
use crate::report::Mark::{AtLeast, AtMost};
use crate::report::{Line, Unit};
use crate::requests::{Popularity, Requests, post_batch, put_price};
use crate::rows::Plan;
use crate::stack::Stack;
use crate::versus::SEED;
use anyhow::{Context, ensure};
use mysql_async::TxOpts;
use mysql_async::prelude::Queryable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Prices of one batch: the most that the API takes.
const BATCH: usize = 1_000;

/// How often faster a batch is than as many single writes of one client.
const BATCH_FASTER: f64 = 20.0;

/// Readers of one product, and writers that queue for it.
const READERS: usize = 200;
const WRITERS: usize = 50;

/// The product that everybody wants: the one of [`Popularity::OneHot`].
const HOT: u64 = 1;

/// How long another system holds the row, so that every writer waits for longer than half a second.
const HELD: Duration = Duration::from_millis(600);

/// Of the readers' p99 beside the writers to that of the same readers alone.
const SLOWER: f64 = 3.0;

/// What the progress bar reckons with.
pub(crate) fn batch_planned(plan: &Plan) -> Duration {
    plan.rounds * Duration::from_millis(2_000)
}

pub(crate) fn hot_planned(plan: &Plan) -> Duration {
    plan.rounds * (plan.warm + 3 * HELD)
}

/// # Errors
/// An error answer.
pub(crate) async fn batch(stack: &Stack, plan: &Plan) -> anyhow::Result<Line> {
    let mut connection = Connection::open(stack.api()).await?;
    let (mut singles, mut batches) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        // Every price changes, whatever was measured before: these are of this row alone, and each time others.
        let pounds = |n: u32| 1_000_000 + 2 * round + n;
        let began = Instant::now();
        for id in 1..=BATCH {
            answered(connection.exchange_within(ANSWER_LIMIT, &put_price(id as u64, &price(pounds(0)))).await?)?;
        }
        singles.push(began.elapsed());
        let request = post_batch((1..=BATCH as u64).map(|id| (id, pounds(1))));
        let began = Instant::now();
        answered(connection.exchange_within(ANSWER_LIMIT, &request).await?)?;
        batches.push(began.elapsed());
    }
    let rates = |times: &[Duration]| times.iter().map(|time| BATCH as f64 / time.as_secs_f64()).collect::<Vec<_>>();
    let (singles, batches) = (rates(&singles), rates(&batches));
    let median = |of: &[f64]| Spread::of(of).map_or(f64::NAN, |spread| spread.median);
    let ratios = paired(&batches.iter().copied().zip(singles.iter().copied()).collect::<Vec<_>>());
    let line = Line::figure("batch", "prices in one batch of 1,000 : 1,000 PUTs, 1 client", Unit::PerSecond, median(&batches), None);
    Ok(line.against(median(&singles), Spread::of(&ratios), Some(AtLeast(BATCH_FASTER))))
}

/// Readers of a product that is not cached, alone and while another system holds its row and writers queue behind it.
///
/// # Errors
/// An error answer, a writer that did not wait, or a deadlock.
pub(crate) async fn hot(stack: &mut Stack, plan: &Plan) -> anyhow::Result<Line> {
    let readers = Arc::new(Requests::gets(Popularity::OneHot, SEED));
    let (mut pairs, mut shortest) = (Vec::new(), Duration::MAX);
    for round in 0..plan.rounds {
        stack.drop_entry(HOT).await?;
        let alone = read(stack.api(), &readers, plan.warm).await?;
        stack.drop_entry(HOT).await?;
        let (beside, waited) = tokio::try_join!(read(stack.api(), &readers, plan.warm), queue(stack, plan.warm, round))?;
        shortest = shortest.min(waited);
        pairs.push((beside.millis(0.99), alone.millis(0.99)));
    }
    ensure!(shortest >= HELD - Duration::from_millis(100), "a writer waited for {shortest:?} only");
    let status: Option<(String, String, String)> = stack.sql.get_conn().await?.query_first("SHOW ENGINE INNODB STATUS").await?;
    let status = status.context("InnoDB has no status")?.2;
    ensure!(!status.contains("LATEST DETECTED DEADLOCK"), "InnoDB met a deadlock: {status}");
    let median = |of: fn(&(f64, f64)) -> f64| Spread::of(&pairs.iter().map(of).collect::<Vec<_>>()).map_or(f64::NAN, |all| all.median);
    let title = format!("GET p99, {READERS} readers of a cold product beside {WRITERS} queued writers : alone");
    let line = Line::figure("hot", title, Unit::Milliseconds, median(|pair| pair.0), None);
    let line = line.against(median(|pair| pair.1), Spread::of(&paired(&pairs)), Some(AtMost(SLOWER)));
    Ok(line.note(format!("each writer waited for {} ms or longer; no deadlock", shortest.as_millis())))
}

async fn read(api: SocketAddr, requests: &Arc<Requests>, warm: Duration) -> anyhow::Result<Slice> {
    load::run(api, requests, READERS, End::After { warm, measured: HELD }).await
}

/// Holds the hot row for as long as readers are measured and lets writers queue for it; returns the shortest wait of a writer.
async fn queue(stack: &Stack, warm: Duration, round: u32) -> anyhow::Result<Duration> {
    let mut connection = stack.sql.get_conn().await?;
    let mut holder = connection.start_transaction(TxOpts::default()).await?;
    holder.query_drop(format!("SELECT 1 FROM products WHERE id = {HOT} FOR UPDATE")).await?;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS as u32 {
        let request = put_price(HOT, &price(2_000_000 + round * WRITERS as u32 + writer));
        writers.spawn(write(stack.api(), request));
    }
    tokio::time::sleep(warm + HELD).await;
    holder.rollback().await?;
    let mut shortest = Duration::MAX;
    while let Some(waited) = writers.join_next().await {
        shortest = shortest.min(waited.context("a writer panicked")??);
    }
    Ok(shortest)
}

async fn write(api: SocketAddr, request: Vec<u8>) -> anyhow::Result<Duration> {
    let mut connection = Connection::open(api).await?;
    let began = Instant::now();
    answered(connection.exchange_within(ANSWER_LIMIT, &request).await?)?;
    Ok(began.elapsed())
}

fn answered(answer: Answer<'_>) -> anyhow::Result<()> {
    ensure!(answer.is_success(), "a price was answered with {}: {}", answer.status, String::from_utf8_lossy(answer.body));
    Ok(())
}

fn price(pounds: u32) -> String {
    format!(r#"{{"amount":"{pounds}.00","currency":"GBP"}}"#)
}
