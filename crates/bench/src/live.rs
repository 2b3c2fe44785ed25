//! Under full load, and under next to none: how long an acknowledged view takes to be in MySQL; and how many rows it costs there.
//!
//! Measured from outside: probe views of products that nobody else views, and a SELECT of those every two milliseconds.

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::load::{self, End, histogram};
use crate::report::Mark::{AtMost, Below};
use crate::report::{Line, Unit};
use crate::requests::{PRODUCTS, Popularity, Requests, view_of};
use crate::rows::Plan;
use crate::stack::{PROBES, Stack};
use crate::versus::SEED;
use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use mysql_async::Pool;
use mysql_async::prelude::Queryable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;

const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// How long a probed view may take to be in MySQL: thirty times the mark, so that a slow worker is measured and a stuck one is not
/// waited for.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

const ROWS_PER_VIEW: f64 = 0.25;
const DELAY_MILLIS: f64 = 1_000.0;

/// At a few requests a second.
const IDLE_DELAY_MILLIS: f64 = 100.0;

/// How long each of the probes waits then, on average, from a view's COMMIT to its next view: five views a second of all together.
const IDLE_PAUSE: Duration = Duration::from_millis(200 * PROBES as u64);

/// Views of the probed products that are in MySQL.
type Totals = [u64; PROBES];

/// # Errors
/// An error answer, or a lost or doubled view.
pub(crate) async fn run(stack: &mut Stack, plan: &Plan) -> anyhow::Result<Vec<Line>> {
    const ROWS: &str = "inventory_drain_batch_rows_sum";
    const VIEWS: &str = "inventory_views_persisted_total";
    stack.set_appendfsync("everysec").await?;
    let before = (stack.worker_metric(ROWS).await?, stack.worker_metric(VIEWS).await?);
    let requests = Arc::new(Requests::views(Popularity::Zipf, SEED));
    let load = load::run(stack.api(), &requests, CLIENTS, End::After { warm: plan.warm, measured: plan.live });
    let until = Instant::now() + plan.warm + plan.live;
    let probes = probe(stack.api(), stack.sql.clone(), Probes { pause: Duration::ZERO, until });
    let (load, delays) = tokio::try_join!(load, probes)?;
    stack.accepted += load.answered + delays.len();
    stack.wait_drained().await?;
    let rows = (stack.worker_metric(ROWS).await? - before.0) / (stack.worker_metric(VIEWS).await? - before.1);
    let millis = |quantile| delays.value_at_quantile(quantile) as f64 / 1e6;
    let delay = Line::figure("live", "202 to COMMIT under full load, p99", Unit::Milliseconds, millis(0.99), Some(Below(DELAY_MILLIS)));
    let note = format!("{} probes while {} views a second were accepted", delays.len(), crate::figures::grouped(load.per_second()));
    let rows = Line::figure("live", "rows written for each view under full load", Unit::RowsPerView, rows, Some(AtMost(ROWS_PER_VIEW)));
    Ok(vec![Line { delay_millis: Some([millis(0.5), millis(0.99)]), ..delay }.note(note), rows])
}

/// # Errors
/// An error answer, or a lost or doubled view.
pub(crate) async fn idle(stack: &mut Stack, plan: &Plan) -> anyhow::Result<Line> {
    stack.set_appendfsync("everysec").await?;
    let probes = Probes { pause: IDLE_PAUSE, until: Instant::now() + plan.idle };
    let delays = probe(stack.api(), stack.sql.clone(), probes).await?;
    stack.accepted += delays.len();
    stack.wait_drained().await?;
    let millis = |quantile| delays.value_at_quantile(quantile) as f64 / 1e6;
    let title = "202 to COMMIT at a few requests a second, p99";
    let line = Line::figure("idle", title, Unit::Milliseconds, millis(0.99), Some(AtMost(IDLE_DELAY_MILLIS)));
    let line = Line { delay_millis: Some([millis(0.5), millis(0.99)]), ..line };
    Ok(line.note(format!("{} views in {:.0} s, so that p99 is the longest", delays.len(), plan.idle.as_secs_f64())))
}

#[derive(Debug, Clone, Copy)]
struct Probes {
    /// Before each view, anything from nothing to twice this: visitors know nothing of each other.
    pause: Duration,
    until: Instant,
}

/// Probes every product of the probes one view at a time; returns the delays in nanoseconds.
async fn probe(api: SocketAddr, sql: Pool, settings: Probes) -> anyhow::Result<Histogram<u64>> {
    let start = totals(&mut sql.get_conn().await?).await?;
    let (sender, seen) = watch::channel(start);
    let mut probes = JoinSet::new();
    for (place, views) in start.into_iter().enumerate() {
        probes.spawn(probe_one(api, place, views, seen.clone(), settings));
    }
    let finish = async {
        let mut delays = histogram();
        while let Some(ended) = probes.join_next().await {
            delays.add(ended.context("a probe panicked")??).context("all histograms have the same bounds")?;
        }
        Ok(delays)
    };
    tokio::select! {
        delays = finish => delays,
        error = look(&sql, &sender) => error.and_then(|()| bail!("nobody looks any more")),
    }
}

async fn probe_one(
    api: SocketAddr,
    place: usize,
    mut expected: u64,
    mut seen: watch::Receiver<Totals>,
    settings: Probes,
) -> anyhow::Result<Histogram<u64>> {
    let request = view_of((PRODUCTS + 1 + place) as u64);
    let (mut delays, mut random) = (histogram(), fastrand::Rng::with_seed(SEED + place as u64));
    loop {
        let next = Instant::now() + settings.pause.mul_f64(2.0 * random.f64());
        tokio::time::sleep_until(next.min(settings.until).into()).await;
        if Instant::now() >= settings.until {
            return Ok(delays);
        }
        // A new one for each: the API answers 408 where a connection's first request does not come for five seconds.
        let mut connection = Connection::open(api).await?;
        let answer = connection.exchange_within(ANSWER_LIMIT, &request).await?;
        let accepted = Instant::now();
        ensure!(answer.status == 202, "a probe was answered with {}", answer.status);
        expected += 1;
        let views = wait_seen(&mut seen, place, expected, SEEN_LIMIT).await?;
        ensure!(views == expected, "a probed product has {views} views after {expected}");
        delays.saturating_record(accepted.elapsed().as_nanos() as u64);
    }
}

/// Waits until a probed product has `expected` views in MySQL; returns how many it has.
async fn wait_seen(seen: &mut watch::Receiver<Totals>, place: usize, expected: u64, limit: Duration) -> anyhow::Result<u64> {
    let waited = tokio::time::timeout(limit, seen.wait_for(|totals| totals[place] >= expected)).await;
    let totals = waited.with_context(|| format!("a probed view is not in MySQL after {limit:?}"))?;
    Ok(totals.context("nobody looks any more")?[place])
}

/// Looks again and again and tells what it sees.
async fn look(sql: &Pool, seen: &watch::Sender<Totals>) -> anyhow::Result<()> {
    let mut connection = sql.get_conn().await?;
    loop {
        seen.send_replace(totals(&mut connection).await?);
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn totals(connection: &mut mysql_async::Conn) -> anyhow::Result<Totals> {
    let sql = "SELECT product_id, views FROM product_views WHERE product_id > ?";
    let rows: Vec<(u64, u64)> = connection.exec(sql, (PRODUCTS,)).await?;
    let mut totals = [0; PROBES];
    for (id, views) in rows {
        totals[id as usize - PRODUCTS - 1] = views;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_that_never_comes_is_an_error() {
        let (sender, mut seen) = watch::channel([0; PROBES]);
        let lost = wait_seen(&mut seen, 3, 1, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(lost.to_string(), "a probed view is not in MySQL after 20ms");
        sender.send_modify(|totals| totals[3] = 1);
        assert_eq!(wait_seen(&mut seen, 3, 1, SEEN_LIMIT).await.unwrap(), 1);
    }
}
