//! Views on their way in: written behind.
//!
//! A request waits in memory for the next push of its product's shard. Each HTTP thread is a writer of its own and has
//! one push a shard under way; it is one script that stores one record, and when Redis has it, every request of the
//! thread that waited is answered. Pushes therefore grow with the load by themselves: no timer, no latency added when
//! idle, and nobody on another thread to wake.
//!
//! A push whose answer is lost is sent again, under its sequence number, until its requests are out of time.
//! It is then given up and its number is not used again: it was stored once, or never, and a late arrival is
//! refused by the push that follows.

use catalog::Catalog;
use domain::ProductId;
use domain::view::{Record, Writer};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::redis::{Session, view_queue};
use storage::status::Depth;
use storage::watch::now_ms;
use storage::{Error, Kind, Redis};
use telemetry::metrics::{IngestMetrics, ViewOutcome};
use telemetry::pause_point::{self, PausePoint};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Requests answered by one push. With at most 1,000 views a request no product passes a million views in a record.
const MOST_REQUESTS: usize = 1_000;

/// Requests of one thread that may wait in one shard; past it they are refused.
const MOST_WAITING: usize = 16_384;

/// Pause between two sendings of a push that was not answered.
const RESEND_PAUSE: Duration = Duration::from_millis(20);

/// Why a view was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The product is known not to exist.
    NotFound,
    /// The queue is at its capacity, Redis is full, or too many requests wait for their push.
    OverCapacity,
    /// Redis is away. The view was not stored.
    Unavailable,
    /// Redis did not answer in time. The view was stored once or not at all.
    Unknown,
}

/// How the ingest is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Entries waiting in Redis over all shards; at this many, views are refused.
    pub(crate) capacity: u64,
    /// Views waiting in a shard that wake a worker.
    pub(crate) batch_views: u64,
    /// How long after its oldest request came a push is sent again.
    pub(crate) push_limit: Duration,
}

/// What all threads' ingests have in common.
pub(crate) struct Intake {
    redis: Redis,
    settings: Settings,
    entries: Arc<[AtomicU64]>,
    metrics: Arc<IngestMetrics>,
    tasks: mpsc::UnboundedSender<JoinHandle<()>>,
}

/// Takes the views of one thread in.
pub(crate) struct Ingest {
    catalog: Catalog,
    lanes: Box<[mpsc::Sender<Waiting>]>,
    entries: Arc<[AtomicU64]>,
    shards: domain::Shards,
    capacity: u64,
    metrics: Arc<IngestMetrics>,
}

/// A request that waits for its push.
struct Waiting {
    product: u64,
    views: u64,
    since: Instant,
    answer: oneshot::Sender<Result<(), Refused>>,
}

impl Intake {
    /// The second part yields each task that pushes; one that ends while its thread serves has panicked.
    pub(crate) fn new(redis: Redis, settings: Settings, metrics: Arc<IngestMetrics>) -> (Self, mpsc::UnboundedReceiver<JoinHandle<()>>) {
        let entries = redis.keys.shards().all().map(|_| AtomicU64::new(0)).collect();
        let (tasks, started) = mpsc::unbounded_channel();
        (Self { redis, settings, entries, metrics, tasks }, started)
    }

    /// Starts one task a shard on the thread that calls it. The tasks end with the ingest.
    pub(crate) fn here(&self, catalog: &Catalog) -> Ingest {
        let (redis, shards) = (self.redis.here(), self.redis.keys.shards());
        let writer = Writer::new(Uuid::new_v4());
        self.metrics.waiting_limit.add(i64::from(shards.count()) * MOST_WAITING as i64);
        let lane = |shard| {
            let (sender, waiting) = mpsc::channel(MOST_WAITING);
            let (redis, entries, metrics) = (redis.clone(), self.entries.clone(), self.metrics.clone());
            let lane = Lane { redis, shard, writer, seq: 0, accepted: 0, entries, settings: self.settings, metrics };
            // Nobody listens any more while the process stops.
            let _ = self.tasks.send(tokio::spawn(lane.run(waiting)));
            sender
        };
        let lanes = shards.all().map(lane).collect();
        let (entries, capacity, metrics) = (self.entries.clone(), self.settings.capacity, self.metrics.clone());
        Ingest { catalog: catalog.clone(), lanes, entries, shards, capacity, metrics }
    }

    /// Takes over what the queue holds: over capacity nothing is pushed, so no push would tell that there is room again.
    pub(crate) fn note_depth(&self, depth: &Depth) {
        for (known, entries) in self.entries.iter().zip(&depth.shard_entries) {
            known.store(*entries, Ordering::Relaxed);
        }
    }
}

impl Ingest {
    /// Takes `views` (1 to 1,000) of a product in; returns when they are in Redis.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) async fn view(&self, id: ProductId, views: u64) -> Result<(), Refused> {
        let result = self.enqueue(id, views).await;
        let outcome = match result {
            Ok(()) => ViewOutcome::Accepted,
            Err(Refused::NotFound) => ViewOutcome::NotFound,
            Err(Refused::OverCapacity) => ViewOutcome::OverCapacity,
            Err(Refused::Unavailable) => ViewOutcome::Unavailable,
            Err(Refused::Unknown) => ViewOutcome::Unknown,
        };
        self.metrics.received[outcome].add(views);
        result
    }

    async fn enqueue(&self, id: ProductId, views: u64) -> Result<(), Refused> {
        if self.catalog.is_absent(id).await {
            return Err(Refused::NotFound);
        }
        if self.entries.iter().map(|entries| entries.load(Ordering::Relaxed)).sum::<u64>() >= self.capacity {
            return Err(Refused::OverCapacity);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { product: id.get(), views, since: Instant::now(), answer };
        let lane = &self.lanes[usize::from(self.shards.of(id))];
        lane.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => Refused::OverCapacity,
            TrySendError::Closed(_) => Refused::Unavailable,
        })?;
        self.metrics.waiting_requests.add(1);
        answered.await.unwrap_or(Err(Refused::Unknown))
    }
}

/// One shard's pushes, one after another.
struct Lane {
    redis: Redis,
    shard: u16,
    writer: Writer,
    /// Number of the last push that was sent.
    seq: u64,
    /// Views of this writer that are known to be stored in this shard.
    accepted: u64,
    entries: Arc<[AtomicU64]>,
    settings: Settings,
    metrics: Arc<IngestMetrics>,
}

impl Lane {
    async fn run(mut self, mut lane: mpsc::Receiver<Waiting>) {
        let mut requests = Vec::with_capacity(MOST_REQUESTS);
        while lane.recv_many(&mut requests, MOST_REQUESTS).await > 0 {
            let result = self.push(&requests).await;
            self.metrics.waiting_requests.add(-(requests.len() as i64));
            for request in requests.drain(..) {
                // Whoever asked may be gone; the view counts all the same.
                let _ = request.answer.send(result);
            }
        }
    }

    async fn push(&mut self, requests: &[Waiting]) -> Result<(), Refused> {
        let session = self.redis.queue.session().map_err(|_| Refused::Unavailable)?;
        let mut sums = HashMap::<u64, u64>::with_capacity(requests.len());
        for request in requests {
            *sums.entry(request.product).or_default() += request.views;
        }
        let record = Record {
            writer: self.writer,
            seq: self.seq + 1,
            accepted: self.accepted,
            run8: session.run8().to_string(),
            at_ms: now_ms(),
            counts: sums.into_iter().collect(),
        };
        self.metrics.push_requests.observe_count(requests.len() as u64);
        self.metrics.push_views.observe_count(record.views());
        let oldest = requests.iter().map(|request| request.since).min().unwrap_or_else(Instant::now);
        self.deliver(session, &record, oldest).await
    }

    /// Sends a record until it is known to be stored or refused, or until its requests are out of time.
    async fn deliver(&mut self, mut session: Session, record: &Record, oldest: Instant) -> Result<(), Refused> {
        let mut doubtful = false;
        loop {
            pause_point::reached(PausePoint::BeforePush, self.shard).await;
            let pushed = view_queue::push(&session, &self.redis.keys, self.shard, record, self.settings.batch_views).await;
            pause_point::reached(PausePoint::AfterPush, self.shard).await;
            match pushed {
                Ok(pushed) => {
                    // Not stored now means that an earlier sending was.
                    self.seq = record.seq;
                    self.accepted = self.accepted.max(pushed.accepted);
                    self.entries[usize::from(self.shard)].store(pushed.entries, Ordering::Relaxed);
                    return Ok(());
                }
                // Nothing was stored by this sending; if none before it is in doubt, the number is free again.
                Err(error) if error.kind() == Kind::Full && !doubtful => return Err(Refused::OverCapacity),
                Err(error) if error.kind() == Kind::Unavailable && !doubtful => return Err(Refused::Unavailable),
                Err(error) => {
                    doubtful = true;
                    self.seq = record.seq;
                    match self.next_session(oldest, &error).await {
                        Some(next) => session = next,
                        None => return Err(Refused::Unknown),
                    }
                }
            }
        }
    }

    /// Waits for a session to send a push again; `None` when its requests are out of time.
    async fn next_session(&self, oldest: Instant, why: &Error) -> Option<Session> {
        while oldest.elapsed() < self.settings.push_limit {
            tokio::time::sleep(RESEND_PAUSE).await;
            if let Ok(session) = self.redis.queue.session() {
                return Some(session);
            }
        }
        tracing::warn!(shard = self.shard, seq = self.seq, "a push was given up, its outcome is unknown: {why}");
        None
    }
}
