//! The tail of the binlog: what other systems write into `products` with plain SQL loses its cache entry, within two seconds.
//!
//! One worker of a deployment follows, the one that has the named lock; the others try for it once a second. It reads from the
//! position that was kept, drops what each event shows to be old, and then keeps the new position: an event may be acted upon
//! twice and is never left out. Dropping is always safe, so whatever is doubtful drops: a row whose version did not rise or
//! that cannot be read, and, all entries at once, a statement about the table, a position that is lost, another server.
//!
//! Entries are dropped *after* the change is committed, so this alone would not keep a reader from storing an old row just
//! afterwards. The shared row lock of every fill does (`mysql::products::find_for_fill`): also where an event comes before
//! the row is visible (<https://bugs.mysql.com/bug.php?id=120471>).
//!
//! What no binlog shows is not followed: what is written under `sql_log_bin=0`, and rows that a foreign key changes with their
//! parents (InnoDB's cascades; ours has none into `products`). That is shown when the cache's TTL ends, or by
//! `inventoryctl cache invalidate`. A session that logs statements instead of rows costs all entries each time.
//!
//! No promise of the API's own writes rests on this; without it plain SQL is shown when the cache's TTL ends.

mod place;

use domain::ProductId;
use place::{Attempts, MOST_LOSSES, Place, Progress};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storage::mysql::binlog::{self, Binlog, Change, Position, What};
use storage::mysql::server::is_denied;
use storage::mysql::tail::{self, Hold, Source};
use storage::redis::product_cache::DROPPED_AT_ONCE;
use storage::{Error, Kind, MySql, Redis};
use telemetry::metrics::{Emptied, TailEvent, TailMetrics};
use telemetry::stop::Shutdown;

/// Between attempts to become the one that follows.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);

/// Between looks at a binlog that cannot be followed until somebody mends it.
const OFF_INTERVAL: Duration = Duration::from_secs(5);

/// How long a change waits for others while the stream brings more without a pause.
const GATHER_LIMIT: Duration = Duration::from_millis(20);

/// Pause after entries were dropped, in which the next changes gather in the connection: while prices are written all the time
/// each of them would cost this worker, Redis and MySQL a turn of their own. A change after a quiet time is acted upon at once.
const PACE: Duration = Duration::from_millis(50);

/// Pause before Redis is asked again to drop entries: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Later than this is told to everybody, seconds. Times of events are whole seconds, so that 1 may be nothing.
const LATE_SECONDS: u64 = 2;

/// By how much the time at which a server was started may differ between two looks, seconds.
const CLOCK_SLACK_SECONDS: u64 = 2;

/// The tail of one worker.
pub(crate) struct Tail {
    mysql: MySql,
    redis: Redis,
    metrics: TailMetrics,
    /// Redis refused to drop entries the last time, which was told.
    refused: AtomicBool,
}

/// Why the tail is not followed any more.
enum Ended {
    /// Another worker follows.
    Elsewhere,
    /// It passes: MySQL is away, the right to follow was lost.
    Lost(Error),
    /// Somebody has to mend it.
    Off(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

/// Entries that are to be dropped.
#[derive(Clone, Copy)]
enum Entries<'a> {
    All,
    /// With the version that each row rose to; none: whatever is there.
    These(&'a [(ProductId, Option<u64>)]),
}

/// What was read and not acted upon yet.
#[derive(Default)]
struct Pending {
    /// To what the version rose; none: whatever is there goes.
    changes: BTreeMap<ProductId, Option<u64>>,
    empty: Option<Emptied>,
    since: Option<Instant>,
}

impl Tail {
    pub(crate) fn new(mysql: MySql, redis: Redis, metrics: TailMetrics) -> Self {
        Self { mysql, redis, metrics, refused: AtomicBool::new(false) }
    }

    /// Follows, or tries to, until the process is asked to stop. What keeps it from following is told once, until it follows
    /// again or something else does.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut attempts = Attempts::default();
        while !shutdown.is_requested() {
            let ended = tokio::select! {
                ended = self.hold(&mut attempts) => ended,
                () = shutdown.requested() => break,
            };
            self.metrics.holder.set_bool(false);
            let pause = match ended {
                Ended::Elsewhere => ATTEMPT_INTERVAL,
                Ended::Lost(error) => {
                    attempts.tell(&error.to_string(), "the binlog is taken up again");
                    ATTEMPT_INTERVAL
                }
                Ended::Off(why) => {
                    attempts.tell(&why, "the binlog is not followed, so plain SQL of others is shown when the cache's TTL ends");
                    // Where that cannot be written, the others learn that nobody follows.
                    let _ = tail::note_off(&self.mysql, &why).await;
                    OFF_INTERVAL
                }
            };
            shutdown.sleep(pause).await;
        }
    }

    /// Follows for as long as this worker has the lock. Cancelling it at any point leaves out nothing: the next holder goes on
    /// from the position that was kept.
    async fn hold(&self, attempts: &mut Attempts) -> Ended {
        let mut hold = match Hold::take(&self.mysql).await {
            Ok(Some(hold)) => hold,
            Ok(None) => return Ended::Elsewhere,
            Err(error) => return Ended::Lost(error),
        };
        let progress = Progress::default();
        let ended = tokio::select! {
            Err(ended) = self.begin_and_follow(&progress, attempts) => ended,
            Err(ended) = self.keep(&mut hold, &progress) => ended,
        };
        hold.release().await;
        ended
    }

    /// Tells the server once a second that this worker lives, and everybody when it falls behind or has caught up.
    async fn keep(&self, hold: &mut Hold, progress: &Progress) -> Result<Infallible, Ended> {
        let mut late = true;
        loop {
            progress.now.store(hold.ping().await?, Ordering::Relaxed);
            let done = progress.done.load(Ordering::Relaxed);
            let is_late = progress.now.load(Ordering::Relaxed).saturating_sub(done) > LATE_SECONDS;
            if done > 0 && is_late != late {
                tail::note_following(&self.mysql, is_late.then_some(done)).await?;
                late = is_late;
            }
            tokio::time::sleep(tail::PING_INTERVAL).await;
        }
    }

    async fn begin_and_follow(&self, progress: &Progress, attempts: &mut Attempts) -> Result<Infallible, Ended> {
        let source = tail::source(&self.mysql).await?;
        if let Some(why) = source.blocked {
            return Err(Ended::Off(why));
        }
        let mut place = match self.begin(&source, progress).await {
            Err(error) if is_denied(&error) => return Err(Ended::Off(tail::missing_right(&self.mysql, &error).await?)),
            place => place?,
        };
        let from = place.position.clone();
        match self.follow(&source, &mut place, progress, attempts).await {
            Err(Ended::Lost(error)) if is_denied(&error) => Err(Ended::Off(tail::missing_right(&self.mysql, &error).await?)),
            Err(Ended::Lost(error)) if binlog::is_position_lost(&error) => {
                tracing::warn!("the binlog has no place {} {} any more: {error}", from.file, from.offset);
                self.begin_anew(Emptied::PositionLost).await?;
                Err(Ended::Lost(error))
            }
            Err(Ended::Lost(error)) if attempts.is_stuck(&place) => {
                let Position { file, offset, .. } = place.reached();
                tracing::warn!(
                    file,
                    offset,
                    "the binlog was lost {MOST_LOSSES} times behind this place, and is left out up to its end: {error}"
                );
                self.begin_anew(Emptied::Unreadable).await?;
                Err(Ended::Lost(error))
            }
            ended => ended,
        }
    }

    /// Where to go on from. Everything is dropped first unless all changes since then are known to come.
    async fn begin(&self, source: &Source, progress: &Progress) -> Result<Place, Error> {
        let Some(saved) = tail::saved(&self.mysql).await? else {
            tail::note_following(&self.mysql, Some(source.now)).await?;
            return self.begin_anew(Emptied::NoPosition).await;
        };
        progress.done.store(saved.acted_until, Ordering::Relaxed);
        tail::note_following(&self.mysql, Some(saved.acted_until)).await?;
        if saved.server != source.server {
            return self.begin_anew(Emptied::ServerChanged).await;
        }
        // A server that was started again may have lost what was committed and cached, if it is not set to keep it.
        if saved.started.abs_diff(source.started) > CLOCK_SLACK_SECONDS {
            self.empty(Emptied::ServerChanged).await;
        }
        Ok(Place::new(saved.position, saved.acted_until))
    }

    /// Drops everything and begins where the binlog ends now. In this order: what is written in between is dropped twice.
    async fn begin_anew(&self, reason: Emptied) -> Result<Place, Error> {
        let source = tail::source(&self.mysql).await?;
        let end = binlog::end(&self.mysql).await?;
        self.empty(reason).await;
        tail::save(&self.mysql, &end, &source, source.now).await?;
        Ok(Place::new(end, source.now))
    }

    async fn follow(&self, source: &Source, place: &mut Place, progress: &Progress, attempts: &mut Attempts) -> Result<Infallible, Ended> {
        let from = place.position.clone();
        let mut binlog = Binlog::open(&self.mysql, &from).await?;
        let mut pending = Pending::default();
        place.behind = true;
        loop {
            let ready = if pending.is_due() { None } else { binlog.ready().await };
            let read = match ready {
                Some(read) => read?,
                None => {
                    let acted = self.act(&mut pending).await?;
                    progress.advance(place.at);
                    place.keep(&self.mysql, source, progress.done.load(Ordering::Relaxed)).await;
                    if acted {
                        tokio::time::sleep(PACE).await;
                    }
                    binlog.next().await?
                }
            };
            if place.is_of_another_file(binlog.file()) {
                tracing::warn!(file = from.file, "the binlog was begun anew");
                self.begin_anew(Emptied::PositionLost).await?;
                return Err(Error::new(Kind::Unavailable, "MySQL: the binlog was begun anew").into());
            }
            if !self.metrics.holder.get().is_positive() {
                self.metrics.holder.set_bool(true);
                attempts.told.clear();
                tracing::info!(file = from.file, offset = from.offset, "following the binlog");
            }
            self.note(&read.what, &mut pending, place);
            if read.what == What::Idle {
                place.behind = false;
                progress.caught_up();
            }
            place.at = place.at.max(read.at.map_or(0, u64::from));
            place.passed = read.passed.or(place.passed.take());
        }
    }

    /// Counts what was read, and puts it among what is to be dropped.
    fn note(&self, what: &What, pending: &mut Pending, place: &mut Place) {
        match what {
            What::Other | What::Idle => return,
            What::Rows(changes) => {
                for change in changes {
                    self.metrics.events[change.kind].inc();
                    pending.add(change);
                }
            }
            What::Statement => {
                self.metrics.events[TailEvent::Statement].inc();
                pending.empty(Emptied::Statement);
            }
            What::Unreadable(what) => {
                self.metrics.events[TailEvent::Unreadable].inc();
                tracing::warn!("the binlog has what cannot be read, so all product entries are dropped: {what}");
                pending.empty(Emptied::Unreadable);
            }
        }
        place.unsaved = true;
    }

    /// Drops what is pending; returns when it is dropped, however long Redis is away. Whether there was anything.
    async fn act(&self, pending: &mut Pending) -> Result<bool, Ended> {
        let Pending { changes, empty, .. } = std::mem::take(pending);
        if let Some(reason) = empty {
            self.empty(reason).await;
            // Compressed events and statements are no use to go on with; somebody may have switched the server to them.
            let logged_otherwise = matches!(reason, Emptied::Unreadable | Emptied::Statement);
            let blocked = if logged_otherwise { tail::source(&self.mysql).await?.blocked } else { None };
            return blocked.map_or(Ok(true), |why| Err(Ended::Off(why)));
        }
        let changes: Vec<_> = changes.into_iter().collect();
        for chunk in changes.chunks(DROPPED_AT_ONCE) {
            self.until_dropped(Entries::These(chunk)).await;
        }
        Ok(!changes.is_empty())
    }

    async fn empty(&self, reason: Emptied) {
        let dropped = self.until_dropped(Entries::All).await;
        self.metrics.emptied[reason].inc();
        tracing::info!(?reason, dropped, "all product entries were dropped");
    }

    /// Drops entries, again for as long as Redis is away or refuses. Returns how many were there.
    async fn until_dropped(&self, entries: Entries<'_>) -> u64 {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.dropped(entries).await {
                Ok(dropped) => {
                    self.metrics.deleted.add(dropped);
                    return dropped;
                }
                Err(error) => {
                    tracing::debug!(?pause, "product entries wait to be dropped: {error}");
                    self.told_if_refused(&error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn dropped(&self, entries: Entries<'_>) -> Result<u64, Error> {
        match entries {
            Entries::All => {
                let dropped = self.redis.drop_all_entries().await?;
                self.refused.store(false, Ordering::Relaxed);
                Ok(dropped)
            }
            Entries::These(changes) => {
                let session = self.redis.cache.session()?;
                match self.redis.drop_overtaken(&session, changes).await {
                    // The script cannot judge what is there, or may not run: whatever is there goes.
                    Err(error) if self.told_if_refused(&error) => {
                        let ids: Vec<_> = changes.iter().map(|(id, _)| *id).collect();
                        self.redis.drop_entries(&session, &ids).await
                    }
                    dropped => {
                        self.refused.fetch_and(dropped.is_err(), Ordering::Relaxed);
                        dropped
                    }
                }
            }
        }
    }

    /// Whether Redis refused, which does not pass by itself; tells it once until Redis obeys again.
    fn told_if_refused(&self, error: &Error) -> bool {
        let refused = !matches!(error.kind(), Kind::Unavailable | Kind::Unknown);
        if refused && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!("Redis refuses what the tail asks of product entries; they are dropped whole, as soon as they can be: {error}");
        }
        refused
    }
}

impl Pending {
    fn add(&mut self, change: &Change) {
        self.since.get_or_insert_with(Instant::now);
        let version = self.changes.entry(change.id).or_insert(change.version);
        // Of several changes the last version counts, unless one of them takes whatever is there.
        *version = version.zip(change.version).map(|(one, other)| one.max(other));
    }

    fn empty(&mut self, reason: Emptied) {
        self.since.get_or_insert_with(Instant::now);
        self.empty = Some(reason);
        self.changes.clear();
    }

    fn is_due(&self) -> bool {
        self.changes.len() >= DROPPED_AT_ONCE || self.since.is_some_and(|since| since.elapsed() >= GATHER_LIMIT)
    }
}
