//! How fast a worker drains what piled up while none ran, and what came while MySQL was away.
//!
//! The backlog is real traffic: single views over 64 connections, so that its records are those of full load.

use crate::figures::{Spread, grouped};
use crate::load::{self, End};
use crate::report::Mark::{AtLeast, AtMost};
use crate::report::{Line, Unit};
use crate::requests::{Popularity, Requests};
use crate::rows::Plan;
use crate::stack::Stack;
use crate::versus::SEED;
use anyhow::ensure;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;

/// How often faster than the API accepts.
const FASTER: f64 = 5.0;

const ROWS_PER_VIEW: f64 = 0.04;

/// From the return of MySQL until it has what came while it was away, milliseconds.
const RECOVERY_MILLIS: f64 = 10_000.0;

/// What the progress bar reckons with.
const USUAL_PER_SECOND: u64 = 40_000;

pub(crate) fn planned(plan: &Plan) -> Duration {
    Duration::from_secs(plan.backlog / USUAL_PER_SECOND + 3)
}

/// `accepts` is what the API accepts a second beside a worker, where that was measured; else what it did here, without one.
///
/// # Errors
/// An error answer, or a lost or doubled view.
pub(crate) async fn run(stack: &mut Stack, plan: &Plan, accepts: Option<f64>) -> anyhow::Result<Vec<Line>> {
    stack.set_appendfsync("everysec").await?;
    stack.stop_worker()?;
    let requests = Arc::new(Requests::views(Popularity::Zipf, SEED));
    let posted = load::run(stack.api(), &requests, CLIENTS, End::Answered(plan.backlog)).await?;
    stack.accepted += posted.answered;
    let from = Instant::now();
    stack.start_worker()?;
    stack.wait_drained().await?;
    let seconds = from.elapsed().as_secs_f64();
    // This worker is new, so its figures are those of the backlog.
    let drained = stack.worker_metric("inventory_views_persisted_total").await?;
    let rows = stack.worker_metric("inventory_drain_batch_rows_sum").await?;
    ensure!(drained == plan.backlog as f64, "{drained} views were drained of a backlog of {}", plan.backlog);
    let per_second = drained / seconds;
    let accepts = accepts.unwrap_or(posted.per_second());
    let ratio = per_second / accepts;
    let views = grouped(drained);
    let title = format!("drain of {views} views : what the API accepts, 64");
    let speed = Line::figure("drain", title, Unit::PerSecond, per_second, None);
    let speed = speed.against(accepts, Spread::of(&[ratio]), Some(AtLeast(FASTER)));
    let note = format!(
        "{seconds:.2} s from the start of the worker's process to the last COMMIT; posted one by one at {}/s; \
         nothing else ran meanwhile; one run",
        grouped(posted.per_second())
    );
    let rows = Line::figure("drain", "rows written for each view drained", Unit::RowsPerView, rows / drained, Some(AtMost(ROWS_PER_VIEW)));
    Ok(vec![Line { worker: Some(stack.worker_memory()?), ..speed }.note(note), rows])
}

/// Views that come while MySQL is killed and away, the worker and its merging beside them; from its return to the last COMMIT.
///
/// # Errors
/// An error answer, or a lost or doubled view.
pub(crate) async fn outage(stack: &mut Stack, plan: &Plan) -> anyhow::Result<Line> {
    stack.set_appendfsync("everysec").await?;
    stack.kill_mysql();
    let requests = Arc::new(Requests::views(Popularity::Zipf, SEED));
    let posted = load::run(stack.api(), &requests, CLIENTS, End::Answered(plan.backlog)).await?;
    stack.accepted += posted.answered;
    let memory = stack.redis_used_memory().await? as f64 / f64::from(1 << 20);
    stack.return_mysql()?;
    let from = Instant::now();
    stack.wait_drained().await?;
    let millis = from.elapsed().as_secs_f64() * 1_000.0;
    let title = format!("{} views accepted while MySQL is away : from its return to the last COMMIT", grouped(plan.backlog as f64));
    let line = Line::figure("outage", title, Unit::Milliseconds, millis, Some(AtMost(RECOVERY_MILLIS)));
    Ok(line.note(format!("posted one by one at {}/s; Redis then held {memory:.0} MiB; one run", grouped(posted.per_second()))))
}
