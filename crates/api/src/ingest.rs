//! Views on their way in: written behind.
//!
//! A request waits in memory for its thread's next push. Each HTTP thread is a writer of its own and has one push under way:
//! one pipeline with a script for each shard that has views, each of which stores one record. When Redis has answered, every
//! request that waited is answered. Pushes therefore grow with the load by themselves: no timer, no latency added when
//! idle, and nobody on another thread to wake. One pipeline and not one push a shard: that one takes twice the views and costs
//! both sides one turn instead of four (measured: a view cost Redis a third more).
//!
//! A record whose answer is lost is sent again, under its sequence number, until its requests are out of time, while the
//! other shards go on. It is then given up and its number is not used again: it was stored once, or never, and a late
//! arrival is refused by the push that follows.

use catalog::Catalog;
use domain::ProductId;
use domain::view::{Record, Writer};
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::redis::Session;
use storage::redis::event_ids::{Event, Fate};
use storage::redis::view_queue::{self, Pushed};
use storage::status::Depth;
use storage::watch::now_ms;
use storage::writers::WRITERS_KEPT_DAYS;
use storage::{Error, Kind, Redis};
use telemetry::metrics::{IngestMetrics, ViewOutcome};
use telemetry::pause_point::{self, PausePoint};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Requests answered by one record. With at most 1,000 views a request no product passes a million views in a record.
const MOST_REQUESTS: usize = 1_000;

/// Requests of one thread that may wait in one shard; past it they are refused.
const MOST_WAITING: usize = 16_384;

/// Pause between two sendings of a push that was not answered.
const RESEND_PAUSE: Duration = Duration::from_millis(20);

/// A lane that pushed nothing for so long goes on under a new name: both stores forget writers that are long gone, and the
/// running total of one that came back would be accepted a second time.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

// Queues that are held and clocks that are wrong have days of room.
const _: () = assert!(LONGEST_REST.as_secs() <= WRITERS_KEPT_DAYS as u64 * 24 * 3600 / 4);

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
    requests: mpsc::Sender<Waiting>,
    entries: Arc<[AtomicU64]>,
    shards: domain::Shards,
    capacity: u64,
    metrics: Arc<IngestMetrics>,
}

/// A request that waits for its push.
struct Waiting {
    shard: u16,
    product: u64,
    views: u64,
    /// Under which it counts once.
    event: Option<Uuid>,
    since: Instant,
    answer: oneshot::Sender<Result<Fate, Refused>>,
}

impl Intake {
    /// The second part yields each task that pushes; one that ends while its thread serves has panicked.
    pub(crate) fn new(redis: Redis, settings: Settings, metrics: Arc<IngestMetrics>) -> (Self, mpsc::UnboundedReceiver<JoinHandle<()>>) {
        let entries = redis.keys.shards().all().map(|_| AtomicU64::new(0)).collect();
        let (tasks, started) = mpsc::unbounded_channel();
        (Self { redis, settings, entries, metrics, tasks }, started)
    }

    /// Starts the task that pushes the views of the thread that calls it. The task ends with the ingest.
    pub(crate) fn here(&self, catalog: &Catalog) -> Ingest {
        let shards = self.redis.keys.shards();
        let most_waiting = usize::from(shards.count()) * MOST_WAITING;
        self.metrics.waiting_limit.add(most_waiting as i64);
        let (requests, arrived) = mpsc::channel(most_waiting);
        let means =
            Means { redis: self.redis.here(), settings: self.settings, entries: self.entries.clone(), metrics: self.metrics.clone() };
        let writer = Writer::new(Uuid::new_v4());
        let lane = |shard| Lane { shard, writer, seq: 0, accepted: 0, pushed_at_ms: now_ms() };
        let shard = |shard| Shard { lane: Some(lane(shard)), waiting: VecDeque::new() };
        let pusher = Pusher { means: Arc::new(means), shards: shards.all().map(shard).collect() };
        // Nobody listens any more while the process stops.
        let _ = self.tasks.send(tokio::spawn(pusher.run(arrived)));
        let (entries, capacity, metrics) = (self.entries.clone(), self.settings.capacity, self.metrics.clone());
        Ingest { catalog: catalog.clone(), requests, entries, shards, capacity, metrics }
    }

    /// Takes over what the queue holds: over capacity nothing is pushed, so no push would tell that there is room again.
    pub(crate) fn note_depth(&self, depth: &Depth) {
        for (known, shard) in self.entries.iter().zip(&depth.shards) {
            known.store(shard.entries, Ordering::Relaxed);
        }
    }

    /// Most (product, hour) entries that may wait.
    pub(crate) fn capacity(&self) -> u64 {
        self.settings.capacity
    }
}

impl Ingest {
    /// Takes `views` (1 to 1,000) of a product in; returns when they are in Redis. With the id of an `event` that was counted before
    /// they are there already.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) async fn view(&self, id: ProductId, views: u64, event: Option<Uuid>) -> Result<(), Refused> {
        let result = self.enqueue(id, views, event).await;
        let outcome = match result {
            Ok(Fate::New | Fate::Unremembered) => ViewOutcome::Accepted,
            Ok(Fate::Repeated) => ViewOutcome::Repeated,
            Err(Refused::NotFound) => ViewOutcome::NotFound,
            Err(Refused::OverCapacity) => ViewOutcome::OverCapacity,
            Err(Refused::Unavailable) => ViewOutcome::Unavailable,
            Err(Refused::Unknown) => ViewOutcome::Unknown,
        };
        self.metrics.received[outcome].add(views);
        result.map(drop)
    }

    async fn enqueue(&self, id: ProductId, views: u64, event: Option<Uuid>) -> Result<Fate, Refused> {
        if self.catalog.is_absent(id).await {
            return Err(Refused::NotFound);
        }
        if self.entries.iter().map(|entries| entries.load(Ordering::Relaxed)).sum::<u64>() >= self.capacity {
            return Err(Refused::OverCapacity);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { shard: self.shards.of(id), product: id.get(), views, event, since: Instant::now(), answer };
        self.requests.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => Refused::OverCapacity,
            TrySendError::Closed(_) => Refused::Unavailable,
        })?;
        self.metrics.waiting_requests.add(1);
        answered.await.unwrap_or(Err(Refused::Unknown))
    }
}

/// The pushes of one thread, one after another.
struct Pusher {
    means: Arc<Means>,
    shards: Vec<Shard>,
}

/// What a push needs beside its lane.
struct Means {
    redis: Redis,
    settings: Settings,
    entries: Arc<[AtomicU64]>,
    metrics: Arc<IngestMetrics>,
}

struct Shard {
    /// `None` while a record of it is in doubt.
    lane: Option<Lane>,
    /// Requests for its next record.
    waiting: VecDeque<Waiting>,
}

/// What a thread knows of its own records in one shard.
struct Lane {
    shard: u16,
    writer: Writer,
    /// Number of the last record that was sent.
    seq: u64,
    /// Views of this writer that are known to be stored.
    accepted: u64,
    /// When it began to push last, by the clock that goes on while the machine sleeps.
    pushed_at_ms: u64,
}

/// A record on its way, and the requests that are answered with what becomes of it.
struct Push {
    lane: Lane,
    record: Record,
    /// What is counted beside the record, in the order of the requests.
    events: Vec<Event>,
    requests: Vec<Waiting>,
}

impl Pusher {
    async fn run(mut self, mut requests: mpsc::Receiver<Waiting>) {
        let (mut arrived, mut in_doubt) = (Vec::new(), FuturesUnordered::new());
        loop {
            if !self.may_push() {
                tokio::select! {
                    count = requests.recv_many(&mut arrived, MOST_REQUESTS) => if count == 0 { break },
                    Some(lane) = in_doubt.next() => self.give_back(lane),
                }
            }
            while let Some(Some(lane)) = in_doubt.next().now_or_never() {
                self.give_back(lane);
            }
            catalog::arrivals(|| requests.len()).await;
            while let Ok(request) = requests.try_recv() {
                arrived.push(request);
            }
            arrived.drain(..).for_each(|request| self.sort_in(request));
            for (push, why) in self.push().await {
                in_doubt.push(self.means.clone().deliver(push, why));
            }
        }
        while in_doubt.next().await.is_some() {}
    }

    /// Whether requests wait in a shard of which no record is in doubt.
    fn may_push(&self) -> bool {
        self.shards.iter().any(|shard| shard.lane.is_some() && !shard.waiting.is_empty())
    }

    fn sort_in(&mut self, request: Waiting) {
        let waiting = &mut self.shards[usize::from(request.shard)].waiting;
        if waiting.len() < MOST_WAITING {
            waiting.push_back(request);
        } else {
            self.means.answer(vec![request], Err(Refused::OverCapacity));
        }
    }

    fn give_back(&mut self, lane: Lane) {
        let shard = usize::from(lane.shard);
        self.shards[shard].lane = Some(lane);
    }

    /// Sends a record of each shard that may have one; returns those whose outcome is in doubt, and why.
    async fn push(&mut self) -> Vec<(Push, Error)> {
        let means = self.means.clone();
        let session = means.redis.queue.session();
        let mut pushes = Vec::with_capacity(self.shards.len());
        for shard in &mut self.shards {
            let Some(lane) = shard.lane.take_if(|_| !shard.waiting.is_empty()) else { continue };
            let requests: Vec<Waiting> = shard.waiting.drain(..shard.waiting.len().min(MOST_REQUESTS)).collect();
            match &session {
                Ok(session) => pushes.push(means.record(lane, requests, session.run8())),
                Err(_) => {
                    means.answer(requests, Err(Refused::Unavailable));
                    shard.lane = Some(lane);
                }
            }
        }
        let Ok(session) = session else { return Vec::new() };
        let sent = means.send(&session, &pushes).await;
        let mut doubtful = Vec::new();
        for (mut push, sent) in pushes.into_iter().zip(sent) {
            match means.outcome(&mut push, sent, false) {
                Ok(result) => {
                    means.answer(push.requests, result);
                    self.give_back(push.lane);
                }
                Err(why) => doubtful.push((push, why)),
            }
        }
        doubtful
    }
}

impl Lane {
    /// A clock that was set, forwards or back, gives a new name as well, which is harmless.
    fn begin(&mut self, now_ms: u64) {
        if Duration::from_millis(now_ms.abs_diff(self.pushed_at_ms)) >= LONGEST_REST {
            (self.writer, self.seq, self.accepted) = (Writer::new(Uuid::new_v4()), 0, 0);
        }
        self.pushed_at_ms = now_ms;
    }
}

impl Means {
    fn record(&self, mut lane: Lane, requests: Vec<Waiting>, run8: &str) -> Push {
        let (mut sums, mut events) = (Vec::with_capacity(requests.len()), Vec::new());
        for &Waiting { product, views, event, .. } in &requests {
            match event {
                None => sums.push((product, views)),
                Some(id) => events.push(Event { product, views, id }),
            }
        }
        sums.sort_unstable_by_key(|(product, _)| *product);
        sums.dedup_by(|(product, views), (before, sum)| {
            let same = product == before;
            *sum += if same { *views } else { 0 };
            same
        });
        lane.begin(now_ms());
        let Lane { writer, seq, accepted, pushed_at_ms: at_ms, .. } = lane;
        let record = Record { writer, seq: seq + 1, accepted, run8: run8.to_owned(), at_ms, counts: sums };
        self.metrics.push_requests.observe_count(requests.len() as u64);
        self.metrics.push_views.observe_count(requests.iter().map(|request| request.views).sum());
        Push { lane, record, events, requests }
    }

    async fn send(&self, session: &Session, pushes: &[Push]) -> Vec<Result<Pushed, Error>> {
        for push in pushes {
            pause_point::reached(PausePoint::BeforePush, push.lane.shard).await;
        }
        let sending = |push| {
            let Push { lane, record, events, .. }: &Push = push;
            view_queue::Push { shard: lane.shard, record, events }
        };
        let sending: Vec<_> = pushes.iter().map(sending).collect();
        let sent = view_queue::push_each(session, &self.redis.keys, &sending, self.settings.batch_views).await;
        for push in pushes {
            pause_point::reached(PausePoint::AfterPush, push.lane.shard).await;
        }
        sent.unwrap_or_else(|error| pushes.iter().map(|_| Err(error.clone())).collect())
    }

    /// What became of a record that was sent, or why that is in doubt. `again`: an earlier sending is.
    fn outcome(&self, push: &mut Push, sent: Result<Pushed, Error>, again: bool) -> Result<Result<Vec<Fate>, Refused>, Error> {
        let Push { lane, record, .. } = push;
        match sent {
            Ok(pushed) => {
                // Not stored now means that an earlier sending was.
                lane.seq = record.seq;
                lane.accepted = lane.accepted.max(pushed.accepted);
                self.entries[usize::from(lane.shard)].store(pushed.entries, Ordering::Relaxed);
                Ok(Ok(pushed.fates))
            }
            // Nothing was stored by this sending; if none before it is in doubt, the number is free again.
            Err(error) if error.kind() == Kind::Full && !again => Ok(Err(Refused::OverCapacity)),
            Err(error) if error.kind() == Kind::Unavailable && !again => Ok(Err(Refused::Unavailable)),
            Err(error) => {
                lane.seq = record.seq;
                Err(error)
            }
        }
    }

    /// Sends a record until it is known to be stored, or until its requests are out of time.
    async fn deliver(self: Arc<Self>, mut push: Push, mut why: Error) -> Lane {
        let oldest = push.requests.iter().map(|request| request.since).min().unwrap_or_else(Instant::now);
        let result = loop {
            let Some(session) = self.next_session(oldest).await else {
                let Lane { shard, seq, .. } = push.lane;
                tracing::warn!(shard, seq, "a push was given up, its outcome is unknown: {why}");
                break Err(Refused::Unknown);
            };
            let sent = self.send(&session, std::slice::from_ref(&push)).await.pop().unwrap_or_else(|| Err(why.clone()));
            match self.outcome(&mut push, sent, true) {
                Ok(result) => break result,
                Err(error) => why = error,
            }
        };
        self.answer(push.requests, result);
        push.lane
    }

    /// Waits for a session to send a push again; `None` when its requests are out of time.
    async fn next_session(&self, oldest: Instant) -> Option<Session> {
        while oldest.elapsed() < self.settings.push_limit {
            tokio::time::sleep(RESEND_PAUSE).await;
            if let Ok(session) = self.redis.queue.session() {
                return Some(session);
            }
        }
        None
    }

    /// Answers requests with what became of their push: the fates of its events, in the order of the requests.
    fn answer(&self, requests: Vec<Waiting>, result: Result<Vec<Fate>, Refused>) {
        self.metrics.waiting_requests.add(-(requests.len() as i64));
        let (refused, fates) = result.map_or_else(|refused| (Some(refused), Vec::new()), |fates| (None, fates));
        let mut fates = fates.into_iter();
        for request in requests {
            // Nothing is told of events that an earlier sending of the push has stored.
            let fate = request.event.and_then(|_| fates.next()).unwrap_or(Fate::New);
            if fate == Fate::Unremembered {
                self.metrics.unremembered.add(request.views);
            }
            // Whoever asked may be gone; the view counts all the same.
            let _ = request.answer.send(refused.map_or(Ok(fate), Err));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_rested_for_a_day_has_a_new_name() {
        let (pushed, day) = (1_294_135_200_000, 24 * 3_600_000);
        let writer = Writer::new(Uuid::from_u128(1));
        let after = |now_ms| {
            let mut lane = Lane { shard: 0, writer, seq: 7, accepted: 9, pushed_at_ms: pushed };
            lane.begin(now_ms);
            (lane.writer == writer, lane.seq, lane.accepted)
        };
        assert_eq!([after(pushed), after(pushed + day - 1)], [(true, 7, 9); 2]);
        assert_eq!([after(pushed + day), after(pushed - 2 * day)], [(false, 0, 0); 2]);
    }
}
