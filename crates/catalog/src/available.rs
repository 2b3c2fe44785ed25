//! What may still be sold of a product, kept in the process: a read of it asks nobody.
//!
//! It is advisory and at most [`LIFE`] old, counted from before its SELECT was sent; what is older is never answered, and who meets
//! that waits for a SELECT. So that nobody has to, what is asked for is read again before it lapses, by one task of the process:
//! it begins with the first load, rests while nothing is due, and ends when nothing is left. It reads what was asked for since its
//! last load, or a little longer ago ([`CREDIT`]); the rest lapses. A product that is read once, as by a walk over all of them, is not
//! read again. What fails or comes late lapses too.

use crate::gather::{FLIGHTS, Gather};
use domain::ProductId;
use quick_cache::sync::Cache;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use storage::mysql::stock;
use storage::{Error, Kind, MySql};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How old a shown availability may be, and of how many products it is kept, about 150 bytes each.
const LIFE: Duration = Duration::from_secs(2);
const MOST_KEPT: usize = 100_000;

/// Distance of a thread's reads of what lapsed: a busy thread asks no more often than this, whatever it is asked.
const PACE: Duration = Duration::from_millis(5);

/// The age at which it is read again. What is left of its life is for a statement that waits, and for those before it.
const DUE: Duration = Duration::from_millis(1500);

/// Distance of these reads, and products of each, which is one statement: 10,000 products a second. What comes beyond lapses.
const WAKE: Duration = Duration::from_millis(50);
const MOST_REFRESHED: usize = 500;

/// How often a product that nobody asks for is read again after it was asked for twice within a life: for some eight seconds in all.
/// A row more in a statement of 500 cost MariaDB 10.11 3 µs, and a statement of its own, for which somebody waits, 34 µs.
const CREDIT: u8 = 4;

/// Availability of products, one of a process.
pub(crate) struct Availability {
    kept: Cache<ProductId, Arc<Kept>>,
    again: Mutex<Again>,
    /// Statements of the whole process, so that these leave connections to the rest.
    turns: Semaphore,
    mysql: MySql,
    /// Where MySQL is spoken to.
    runtime: Handle,
}

struct Kept {
    available: i64,
    /// When its reading began.
    since: Instant,
    /// Whether it was since then.
    asked: AtomicBool,
    /// How often it may be read again without that.
    credit: u8,
}

/// What one statement read; a product that it did not find has none.
struct Stock {
    /// Before it was sent.
    since: Instant,
    by_product: HashMap<u64, i64>,
}

/// What is to be read again.
#[derive(Default)]
struct Again {
    /// Loads, nearly in the order in which they began; at most [`MOST_KEPT`].
    loads: VecDeque<(ProductId, Instant)>,
    /// The task is there.
    running: bool,
}

impl Availability {
    /// Must be called on the runtime that is to speak to MySQL.
    pub(crate) fn new(mysql: &MySql) -> Self {
        let (kept, turns) = (Cache::new(MOST_KEPT), Semaphore::new(FLIGHTS));
        Self { kept, again: Mutex::default(), turns, mysql: mysql.clone(), runtime: Handle::current() }
    }

    /// What is kept and not too old.
    pub(crate) fn shown(&self, id: ProductId) -> Option<i64> {
        self.kept.get(&id).filter(|kept| kept.since.elapsed() < LIFE).map(|kept| {
            // Threads that only read it do not take it from each other.
            if !kept.asked.load(Ordering::Relaxed) {
                kept.asked.store(true, Ordering::Relaxed);
            }
            kept.available
        })
    }

    /// Loads what is not, for the thread on which this is called.
    pub(crate) fn gather(self: &Arc<Self>) -> Gather<ProductId, i64> {
        let this = self.clone();
        Gather::paced(PACE, move |ids| {
            let load = this.runtime.spawn(this.clone().load(ids));
            async { load.await.unwrap_or_else(|join| Err(Error::new(Kind::Bug, format!("a load stopped: {join}")))) }
        })
    }

    async fn load(self: Arc<Self>, ids: Vec<ProductId>) -> Result<HashMap<ProductId, i64>, Error> {
        let read = self.read(&ids).await?;
        for id in &ids {
            self.kept.insert(*id, Arc::new(read.kept(*id, 0)));
        }
        self.keep_fresh(&ids, read.since);
        Ok(ids.into_iter().map(|id| (id, read.available(id))).collect())
    }

    async fn read(&self, ids: &[ProductId]) -> Result<Stock, Error> {
        let _turn = self.turns.acquire().await;
        let since = Instant::now();
        Ok(Stock { since, by_product: stock::available(&self.mysql, ids).await? })
    }

    /// Notes when these were loaded, and sees to it that somebody looks after them.
    fn keep_fresh(self: &Arc<Self>, ids: &[ProductId], since: Instant) {
        let mut again = self.again();
        let room = MOST_KEPT.saturating_sub(again.loads.len());
        again.loads.extend(ids.iter().take(room).map(|id| (*id, since)));
        if !again.running {
            again.running = true;
            self.runtime.spawn(self.clone().refresh());
        }
    }

    async fn refresh(self: Arc<Self>) {
        while let Some(rest) = self.rest() {
            tokio::time::sleep(rest).await;
            let due = self.due(Instant::now());
            if due.is_empty() {
                continue;
            }
            let ids: Vec<ProductId> = due.iter().map(|(id, _)| *id).collect();
            let Ok(read) = self.read(&ids).await else { continue };
            for (id, old) in due {
                self.renew(id, &old, read.kept(id, old.credit_left()));
            }
            self.keep_fresh(&ids, read.since);
        }
    }

    /// How long there is nothing to do; `None` when nothing is left: then the task must end.
    fn rest(&self) -> Option<Duration> {
        let mut again = self.again();
        let rest = again.loads.front().map(|(_, since)| DUE.saturating_sub(since.elapsed()).max(WAKE));
        again.running = rest.is_some();
        rest
    }

    /// Takes what is to be read now, and forgets what nobody asks for.
    fn due(&self, now: Instant) -> Vec<(ProductId, Arc<Kept>)> {
        let (mut again, mut due) = (self.again(), Vec::new());
        while due.len() < MOST_REFRESHED
            && let Some(&(id, since)) = again.loads.front()
            && now.duration_since(since) >= DUE
        {
            again.loads.pop_front();
            // What was loaded anew meanwhile stands there once more.
            let kept = self.kept.peek(&id).filter(|kept| kept.since == since && now.duration_since(since) < LIFE && kept.is_wanted());
            due.extend(kept.map(|kept| (id, kept)));
        }
        due
    }

    /// Nothing that was loaded anew meanwhile is replaced by what may be older, and nothing that was evicted comes back.
    fn renew(&self, id: ProductId, old: &Arc<Kept>, new: Kept) {
        if self.kept.peek(&id).is_some_and(|kept| Arc::ptr_eq(&kept, old)) {
            let _ = self.kept.replace(id, Arc::new(new), true);
        }
    }

    fn again(&self) -> MutexGuard<'_, Again> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_wanted(&self) -> bool {
        self.credit > 0 || self.asked.load(Ordering::Relaxed)
    }

    fn credit_left(&self) -> u8 {
        if self.asked.load(Ordering::Relaxed) { CREDIT } else { self.credit.saturating_sub(1) }
    }
}

impl Stock {
    fn available(&self, id: ProductId) -> i64 {
        self.by_product.get(&id.get()).copied().unwrap_or(0)
    }

    fn kept(&self, id: ProductId, credit: u8) -> Kept {
        Kept { available: self.available(id), since: self.since, asked: AtomicBool::new(false), credit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::metrics::{Registry, StoreMetrics};

    /// What can be judged without a MySQL: nothing is spoken to it.
    fn availability() -> Arc<Availability> {
        let metrics = Arc::new(StoreMetrics::new(&Registry::new("test")));
        Arc::new(Availability::new(&MySql::new("mysql://nobody@127.0.0.1:1/nothing", 1, metrics).unwrap()))
    }

    fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<ProductId> {
        ids.into_iter().map(|id| ProductId::new(id).unwrap()).collect()
    }

    fn before(age: Duration) -> Instant {
        Instant::now().checked_sub(age).unwrap()
    }

    impl Availability {
        /// As a load that began at that time leaves it.
        fn loaded(self: &Arc<Self>, ids: &[ProductId], since: Instant) {
            let read = Stock { since, by_product: ids.iter().map(|id| (id.get(), 7)).collect() };
            ids.iter().for_each(|id| self.kept.insert(*id, Arc::new(read.kept(*id, 0))));
            self.keep_fresh(ids, since);
        }

        fn due_ids(&self, now: Instant) -> Vec<ProductId> {
            self.due(now).into_iter().map(|(id, _)| id).collect()
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_is_read_again_before_it_lapses_and_nothing_else_is() {
        let (availability, all) = (availability(), ids(1..=4));
        let since = Instant::now();
        availability.loaded(&all, since);
        assert_eq!(availability.shown(all[0]), Some(7));
        assert_eq!(availability.shown(all[1]), Some(7));
        assert_eq!(availability.due_ids(since + DUE - Duration::from_millis(1)), [], "too early");
        // This one was loaded anew by somebody who met it lapsed.
        let anew = since + Duration::from_millis(1);
        availability.loaded(&all[1..2], anew);
        assert_eq!(availability.shown(all[1]), Some(7));
        assert_eq!(availability.due_ids(since + DUE), all[..1], "asked for, and not loaded since");
        assert_eq!(availability.due_ids(anew + LIFE), [], "too late: whoever asks next reads it");
        assert!(availability.rest().is_none() && !availability.again().running, "nothing is left");
    }

    #[tokio::test]
    async fn what_is_older_than_two_seconds_is_not_shown() {
        let (availability, all) = (availability(), ids(1..=2));
        availability.loaded(&all[..1], before(LIFE));
        availability.loaded(&all[1..], before(DUE));
        assert_eq!((availability.shown(all[0]), availability.shown(all[1])), (None, Some(7)));
    }

    #[tokio::test]
    async fn a_statement_is_bounded_and_so_is_what_is_remembered() {
        let (availability, since) = (availability(), Instant::now());
        let all = ids(1..=2 * MOST_REFRESHED as u64 + 200);
        availability.loaded(&all, since);
        assert!(all.iter().all(|id| availability.shown(*id).is_some()));
        for most in [MOST_REFRESHED, MOST_REFRESHED, 200, 0] {
            assert_eq!(availability.due(since + DUE).len(), most);
        }
        availability.keep_fresh(&ids(1..=MOST_KEPT as u64 + 1), since);
        assert_eq!(availability.again().loads.len(), MOST_KEPT);
    }

    #[tokio::test]
    async fn what_was_asked_for_twice_outlasts_a_few_quiet_seconds() {
        let (availability, id) = (availability(), ids([1])[0]);
        let mut since = Instant::now();
        availability.loaded(&[id], since);
        assert_eq!(availability.shown(id), Some(7));
        let mut reads = 0;
        while let Some((_, old)) = availability.due(since + DUE).pop() {
            since += DUE;
            let read = Stock { since, by_product: HashMap::from([(1, 8)]) };
            availability.renew(id, &old, read.kept(id, old.credit_left()));
            availability.keep_fresh(&[id], since);
            reads += 1;
        }
        assert_eq!(reads, 1 + CREDIT, "once since it was asked for, and then on credit");
        assert_eq!(availability.shown(id), Some(8));
    }

    #[tokio::test]
    async fn a_refresh_replaces_only_what_it_was_to_renew() {
        let (availability, id, since) = (availability(), ids([1])[0], Instant::now());
        availability.loaded(&[id], since);
        let old = availability.kept.get(&id).unwrap();
        let late = Stock { since, by_product: HashMap::from([(1, 6)]) };
        availability.loaded(&[id], since + Duration::from_millis(1));
        availability.renew(id, &old, late.kept(id, 0));
        assert_eq!(availability.shown(id), Some(7), "what was loaded meanwhile is newer");
        availability.kept.remove(&id);
        availability.renew(id, &old, late.kept(id, 0));
        assert_eq!(availability.shown(id), None, "what was evicted stays away");
    }
}
