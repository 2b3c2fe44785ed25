//! Views on their way out: drained from the queue into MySQL.
//!
//! [`step`](Drain::step) is one round of one shard: claim → tally → apply → settle. It may be stopped, killed or
//! repeated at any point: until settle the batch is in Redis, and the watermarks in MySQL decide what counts.
//! [`run`](Drain::run) is the loop around it: when to claim and how long to wait is said by `pace.rs`.
//! It never gives up: MySQL away, a deadlock or a full table are waited out; only what can never be counted, and what
//! MySQL refuses for its data time after time, is set aside, in the transaction of its batch.

use crate::config::DrainArgs;
use crate::merge::Held;
use crate::pace::{Pace, Turn, Turns};
use anyhow::{Context, ensure};
use domain::view::{PartlyCounted, SetAside, Tally, parse_records};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use storage::mysql::pause;
use storage::mysql::view_counts::{self, Applied, OnRefusal};
use storage::redis::view_queue::{self, Claim, Claimed, Tickets};
use storage::redis::{Redis, Session};
use storage::watch::now_ms;
use storage::{Error, Kind, MySql};
use telemetry::metrics::{BatchResult, DrainMetrics, DrainStage, MysqlOp};
use telemetry::pause_point::{self, PausePoint};
use telemetry::stop::Shutdown;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use uuid::Uuid;

/// How long one apply is waited for. Its transaction goes on unheard; the next one waits for the shard's row.
const APPLY_LIMIT: Duration = Duration::from_secs(10);

/// How long one BLPOP waits. It returns at once when a view comes.
const TICKET_WAIT: Duration = Duration::from_secs(1);

const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The drain of all shards by one worker.
pub(crate) struct Drain {
    mysql: MySql,
    redis: Redis,
    args: DrainArgs,
    worker: String,
    held: Arc<Held>,
    /// The batches that were last found void; one a shard at most.
    void: Mutex<BTreeSet<String>>,
    metrics: Arc<DrainMetrics>,
    report: Report,
    turns: Turns,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing waits.
    Empty,
    /// Another worker has the batch.
    Busy,
    /// An operator holds the drain; the batch stays sealed.
    Paused,
    /// A batch was settled, of which this worker counted `views`; `more` waits behind it.
    Settled { more: bool, views: u64 },
}

/// The batch that MySQL refused last for its data. Another worker, or the next process, begins to count anew.
#[derive(Debug, Default)]
struct Refused {
    batch: String,
    tries: u32,
}

impl Refused {
    fn add(&mut self, batch: &str) {
        if self.batch != batch {
            *self = Self { batch: batch.to_owned(), tries: 0 };
        }
        self.tries = self.tries.saturating_add(1);
    }

    fn tries_of(&self, batch: &str) -> u32 {
        if self.batch == batch { self.tries } else { 0 }
    }
}

/// A transaction that may be under way, also when nobody waits for it any more.
struct Applying(Arc<DrainMetrics>);

impl Applying {
    fn new(metrics: &Arc<DrainMetrics>) -> Self {
        metrics.applying.add(1);
        Self(metrics.clone())
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        self.0.applying.add(-1);
    }
}

/// What the worker did since its last line in the log.
#[derive(Debug, Default)]
struct Report {
    batches: AtomicU64,
    views: AtomicU64,
    set_aside: AtomicU64,
    failures: AtomicU64,
}

impl Drain {
    pub(crate) fn new(mysql: MySql, redis: Redis, args: DrainArgs, held: Arc<Held>, metrics: Arc<DrainMetrics>) -> Self {
        let worker = Uuid::new_v4().simple().to_string();
        Self { mysql, redis, args, worker, held, void: Mutex::default(), metrics, report: Report::default(), turns: Turns::new() }
    }

    /// Drains until the process is asked to stop; then finishes the batches in hand and returns.
    ///
    /// # Errors
    /// A task panicked: what it had in hand is taken up by the next process.
    pub(crate) async fn run(self: Arc<Self>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let wakes: Arc<[Notify]> = self.redis.keys.shards().all().map(|_| Notify::new()).collect();
        let mut shards = JoinSet::new();
        for shard in self.redis.keys.shards().all() {
            let (drain, wakes, shutdown) = (self.clone(), wakes.clone(), shutdown.clone());
            shards.spawn(async move { drain.run_shard(shard, &wakes[usize::from(shard)], &shutdown).await });
        }
        tokio::select! {
            _ = self.listen(&wakes) => {}
            _ = self.report() => {}
            () = shutdown.requested() => {}
            Some(ended) = shards.join_next() => {
                ended.context("the drain of a shard ended")?;
                // Idle shards end when the end is requested, and may hear of it before this task does.
                ensure!(shutdown.is_requested(), "the drain of a shard ended");
            }
        }
        while let Some(ended) = shards.join_next().await {
            ended.context("the drain of a shard ended")?;
        }
        Ok(())
    }

    async fn run_shard(&self, shard: u16, wake: &Notify, shutdown: &Shutdown) {
        let mut pace = Pace::new(self.args.flush_interval);
        let (mut paused, mut refused) = (false, Refused::default());
        while !shutdown.is_requested() {
            tokio::select! {
                () = shutdown.requested() => break,
                () = tokio::time::sleep_until(pace.due.into()) => {}
                () = wake.notified() => {
                    if !pace.view_came() && !self.batch_waits(shard).await {
                        continue;
                    }
                }
            }
            let mut turn = self.turns.take(pace.is_behind()).await;
            if shutdown.is_requested() {
                break;
            }
            // Not part of the select: a step is never cancelled.
            let step = self.step_unless_paused(shard, paused, &mut refused, &mut turn).await;
            self.held.note(shard, matches!(step, Err(_) | Ok(Step::Paused)));
            match step {
                Ok(step) => {
                    self.note_pause(shard, &mut paused, step);
                    pace.after(step);
                }
                Err(error) => {
                    // What is refused even in pieces is no batch's fault, and waits like any other failure.
                    let counts = error.is_refusal_of_data() && refused.tries <= self.args.retry_limit;
                    let pause = if counts { pace.after_refusal() } else { pace.after_failure() };
                    self.alert(shard, &error, pause);
                }
            }
            turn.end(shutdown).await;
        }
    }

    /// While the drain is held one small read tells whether it still is, instead of a claim and a transaction.
    async fn step_unless_paused(&self, shard: u16, paused: bool, refused: &mut Refused, turn: &mut Turn<'_>) -> Result<Step, Error> {
        if paused && pause::state(&self.mysql).await?.is_some() { Ok(Step::Paused) } else { self.step(shard, refused, turn).await }
    }

    /// One round of one shard.
    ///
    /// # Errors
    /// A store is away, or MySQL refuses the batch. Nothing is lost; try again.
    async fn step(&self, shard: u16, refused: &mut Refused, turn: &mut Turn<'_>) -> Result<Step, Error> {
        let session = self.redis.queue.session()?;
        let started = Instant::now();
        let new_id = Uuid::new_v4().to_string();
        let claim = Claim { new_id: &new_id, worker: &self.worker, deadline: self.args.batch_deadline, most_views: self.args.batch_views };
        let claiming = self.held.turn.lock().await;
        let claimed = view_queue::claim(&session, &self.redis.keys, shard, &claim).await?;
        drop(claiming);
        let (batch, records, more) = match claimed {
            Claimed::Nothing => return Ok(Step::Empty),
            Claimed::Busy => return Ok(Step::Busy),
            Claimed::Batch { id, records, more } => (id, records, more),
        };
        let records = parse_records(records);
        let ids: BTreeSet<u64> = records.iter().flatten().flat_map(|record| record.counts.iter().map(|count| count.product_id)).collect();
        self.metrics.duration[DrainStage::Read].observe(started.elapsed());
        pause_point::reached(PausePoint::AfterClaim, shard).await;

        let started = Instant::now();
        let on_refusal = if refused.tries_of(&batch) < self.args.retry_limit { OnRefusal::Fail } else { OnRefusal::SetAside };
        let (mysql, applied, partly) = (self.mysql.clone(), batch.clone(), self.partly_counted(&batch));
        let applying = Applying::new(&self.metrics);
        let apply = async move {
            let _until_its_end = applying;
            view_counts::apply(&mysql, shard, &applied, records, partly, on_refusal).await
        };
        let result = self.mysql.detached(MysqlOp::Apply, Kind::Unknown, APPLY_LIMIT, apply).await;
        if result.as_ref().map_or_else(|error| error.kind() == Kind::Unknown, |_| true) {
            turn.took(started.elapsed());
        }
        let tally = match result {
            Ok(Applied::Counted(tally)) => tally,
            Ok(Applied::Paused) => return Ok(Step::Paused),
            Ok(Applied::Void) => return Err(self.found_void(batch)),
            Err(error) => {
                if error.is_refusal_of_data() {
                    refused.add(&batch);
                }
                return Err(error);
            }
        };
        self.metrics.duration[DrainStage::Mysql].observe(started.elapsed());
        self.note(shard, &batch, &tally);
        pause_point::reached(PausePoint::AfterApply, shard).await;

        let started = Instant::now();
        self.settle(&session, shard, &batch, &tally, &ids).await?;
        self.metrics.duration[DrainStage::Settle].observe(started.elapsed());
        pause_point::reached(PausePoint::AfterSettle, shard).await;
        Ok(Step::Settled { more, views: tally.persisted() })
    }

    /// A batch that was void, and is there again, is Redis's own: somebody brought back a past that was given up.
    fn partly_counted(&self, batch: &str) -> PartlyCounted {
        let was_void = self.void.lock().unwrap_or_else(PoisonError::into_inner).remove(batch);
        if was_void { PartlyCounted::IsSetAside } else { PartlyCounted::Voids }
    }

    fn found_void(&self, batch: String) -> Error {
        let error = Error::new(Kind::Corrupt, format!("batch {batch} is in MySQL in part: it is of a past that Redis has lost"));
        let mut void = self.void.lock().unwrap_or_else(PoisonError::into_inner);
        if void.len() >= usize::from(self.redis.keys.shards().count()) {
            // Those that did not come again.
            void.clear();
        }
        void.insert(batch);
        error
    }

    async fn settle(&self, session: &Session, shard: u16, batch: &str, tally: &Tally, ids: &BTreeSet<u64>) -> Result<(), Error> {
        if !session.is_current() {
            // Redis may have come back with an older past: what is sealed there now is claimed anew.
            return Err(Error::new(Kind::Unavailable, "Redis was lost while the batch was applied"));
        }
        let exact = tally.is_exact();
        let settled = view_queue::settle(session, &self.redis.keys, shard, batch, exact, &self.worker, ids).await?;
        if !settled {
            tracing::info!(shard, batch, "the batch was settled by another worker");
        }
        Ok(())
    }

    fn note_pause(&self, shard: u16, paused: &mut bool, step: Step) {
        match (std::mem::replace(paused, step == Step::Paused), *paused) {
            (false, true) => tracing::info!(shard, "an operator holds the drain; what is accepted waits in Redis"),
            (true, false) => tracing::info!(shard, "the drain goes on"),
            _ => {}
        }
    }

    fn note(&self, shard: u16, batch: &str, tally: &Tally) {
        let result = if tally.counted_records == 0 { BatchResult::AlreadyApplied } else { BatchResult::Applied };
        self.metrics.batches[result].inc();
        self.report.batches.fetch_add(1, Ordering::Relaxed);
        self.report.views.fetch_add(tally.persisted(), Ordering::Relaxed);
        self.metrics.views_persisted.add(tally.persisted());
        let now = now_ms();
        self.metrics.last_success.set(Duration::from_millis(now));
        if tally.counted_records > 0 {
            self.metrics.batch_views.observe_count(tally.persisted());
            self.metrics.batch_rows.observe_count(tally.hours.len() as u64);
        }
        if let Some(oldest) = tally.oldest_at_ms {
            self.metrics.delay.observe(Duration::from_millis(now.saturating_sub(oldest)));
        }
        if tally.halvings > 0 {
            self.metrics.batches[BatchResult::Split].inc();
        }
        let refused = tally.set_aside.iter().filter_map(|letter| if let SetAside::Refused { why, .. } = letter { Some(why) } else { None });
        if let Some(why) = refused.clone().next() {
            let (letters, halvings) = (refused.count(), tally.halvings);
            tracing::error!(shard, batch, letters, halvings, "set aside what MySQL refuses for its data, product by hour: {why}");
        }
        if !tally.set_aside.is_empty() {
            self.metrics.batches[BatchResult::Dead].inc();
            self.report.set_aside.fetch_add(tally.set_aside.len() as u64, Ordering::Relaxed);
            tracing::warn!(shard, batch, letters = tally.set_aside.len(), views = tally.dead(), "set aside what cannot be counted");
        }
    }

    fn alert(&self, shard: u16, error: &Error, pause: Duration) {
        self.metrics.batches[BatchResult::Retried].inc();
        self.report.failures.fetch_add(1, Ordering::Relaxed);
        match error.kind() {
            Kind::Corrupt | Kind::Bug => tracing::error!(shard, ?pause, "the batch is refused and tried again: {error}"),
            _ => tracing::warn!(shard, ?pause, "the batch waits: {error}"),
        }
    }

    async fn batch_waits(&self, shard: u16) -> bool {
        let Ok(session) = self.redis.queue.session() else { return false };
        view_queue::views_waiting(&session, &self.redis.keys, shard).await.is_ok_and(|views| views >= self.args.batch_views)
    }

    /// Wakes the shards whose tickets come, for as long as it is polled.
    async fn listen(&self, wakes: &[Notify]) -> ! {
        loop {
            if let Ok(mut tickets) = Tickets::open(&self.redis.queue, &self.redis.keys).await {
                while let Ok(ticket) = tickets.next(TICKET_WAIT).await {
                    if let Some(wake) = ticket.and_then(|shard| wakes.get(usize::from(shard))) {
                        wake.notify_one();
                    }
                }
            }
            // Redis is away; until it is back the intervals of the shards make up for tickets.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One line a minute of what the worker did.
    async fn report(&self) -> ! {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
            let (batches, views) = (take(&self.report.batches), take(&self.report.views));
            let (set_aside, failures) = (take(&self.report.set_aside), take(&self.report.failures));
            tracing::info!(batches, views, set_aside, failures, "drained in the last minute");
        }
    }
}
