//! Makes groups of the changes that wait, so that the one product that everybody wants does not cost one COMMIT for each buyer.
//!
//! One transaction of a process is under way at a time, and what comes meanwhile goes into the next: groups grow with the load
//! by themselves, without a timer. Asks are taken in the order in which they came. Two things take an ask out of its order: a
//! group that failed for one of its own is applied one by one, so that the others do not suffer; and products whose rows another
//! system keeps locked are set apart until the rows are free, so that those who want something else do not wait for them.

use crate::{Ask, Change, Error, Outcome, Stock, lost};
use domain::ProductId;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::mysql::{reservations, stock};
use storage::{Error as StoreError, Kind};
use telemetry::metrics::Gauge;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Most changes of one group.
pub const MOST_CHANGES: usize = 128;

/// Most lines of one group. A single ask has at most 100.
pub const MOST_LINES_AT_ONCE: usize = 500;

/// Changes that wait in one process; beyond it they are refused. At 5,000 a second they wait for two seconds.
pub const MOST_WAITING: usize = 10_000;

/// How long a change waits at most before it is begun; then its caller would soon give up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Those who were answered together come back together, one by one: a group that began with the first of them would be a whole
/// transaction for a few (groups of 5 and of 60 in turn, with 64 buyers). So after a group of at least so many as many are waited
/// for, and no longer than this: with 64 buyers of one product and all servers on one core that was 5,900 reservations a second
/// instead of 5,100, at the same p99.
const CROWD: usize = 8;
const LINGER: Duration = Duration::from_millis(2);

/// How often rows that another system holds are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where changes go in. Clones share one queue.
#[derive(Clone)]
pub struct Combiner {
    sender: mpsc::Sender<Waiting>,
    stock: Stock,
}

/// An ask, and who waits for what comes of it.
struct Waiting {
    ask: Ask,
    answer: oneshot::Sender<Outcome>,
    since: Instant,
    place: Place,
    /// Of the reservation that is to end; looked up only while somebody holds rows.
    lines: Vec<ProductId>,
}

/// One that waits or is being applied, counted for as long as it exists.
struct Place {
    gauge: Gauge,
    number: i64,
}

impl Place {
    fn take(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self { gauge: gauge.clone(), number: gauge.get() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.add(-1);
    }
}

/// The queue of a process, and who works on it.
struct Queue {
    stock: Stock,
    receiver: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    /// Size of the last group.
    last: usize,
    /// Products whose rows somebody held for longer than the lock wait; looked at again at that time.
    held: BTreeSet<ProductId>,
    look_again: Instant,
}

impl Combiner {
    /// Must be called on the runtime that is to do the I/O. The task ends with the last clone.
    #[must_use]
    pub fn start(stock: Stock) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let (waiting, held) = (VecDeque::new(), BTreeSet::new());
        let queue = Queue { stock: stock.clone(), receiver, waiting, last: 0, held, look_again: Instant::now() };
        stock.metrics.stock.waiting_limit.set_count(MOST_WAITING as u64);
        (Self { sender, stock }, tokio::spawn(queue.run()))
    }

    /// Makes a change together with others that wait. It is made, once, whether or not its caller still waits when its group begins.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn change(&self, ask: Ask) -> Outcome {
        let ((answer, outcome), since) = (oneshot::channel(), Instant::now());
        let place = Place::take(&self.stock.metrics.stock.waiting);
        let waiting = Waiting { ask, answer, since, place, lines: Vec::new() };
        if waiting.place.number > MOST_WAITING as i64 || self.sender.try_send(waiting).is_err() {
            return Err(Error::Unavailable(StoreError::new(Kind::Unavailable, "too many changes of stock wait for their turn")));
        }
        // Whoever dropped it was in the middle of something.
        outcome.await.unwrap_or_else(|_| Err(Error::Unknown(StoreError::new(Kind::Unknown, "the task that changes stock has ended"))))
    }

    /// For reads.
    #[must_use]
    pub fn stock(&self) -> &Stock {
        &self.stock
    }
}

impl Queue {
    async fn run(mut self) {
        while self.fill().await {
            self.look_at_held().await;
            let group = self.group();
            if group.is_empty() {
                // All that waits is for rows that somebody holds.
                tokio::select! {
                    () = tokio::time::sleep_until(self.look_again.into()) => {}
                    Some(next) = self.receiver.recv() => self.waiting.push_back(next),
                }
            } else {
                self.apply(group).await;
            }
        }
    }

    /// Takes in what has come; waits where there is nothing. False when nobody is left who could ask.
    async fn fill(&mut self) -> bool {
        if self.waiting.is_empty() {
            let Some(first) = self.receiver.recv().await else { return false };
            self.waiting.push_back(first);
        }
        let until = Instant::now() + LINGER;
        while self.last >= CROWD
            && self.waiting.len() < self.last
            && let Ok(Some(next)) = tokio::time::timeout_at(until.into(), self.receiver.recv()).await
        {
            self.waiting.push_back(next);
        }
        while self.waiting.len() < MOST_WAITING
            && let Ok(next) = self.receiver.try_recv()
        {
            self.waiting.push_back(next);
        }
        true
    }

    /// Takes the next group out of the queue. What has waited for too long is refused; what wants rows that somebody holds stays.
    fn group(&mut self) -> Vec<Waiting> {
        let (mut group, mut lines, mut left) = (Vec::new(), 0, VecDeque::new());
        while group.len() < MOST_CHANGES
            && let Some(next) = self.waiting.pop_front()
        {
            if next.is_late() {
                self.fail(next, &late());
                continue;
            }
            if next.wants(&self.held) {
                left.push_back(next);
                continue;
            }
            let more = next.ask.lines();
            if lines + more > MOST_LINES_AT_ONCE && !group.is_empty() {
                left.push_back(next);
                break;
            }
            lines += more;
            group.push(next);
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        group
    }

    async fn apply(&mut self, group: Vec<Waiting>) {
        let asks: Arc<[Ask]> = group.iter().map(|waiting| waiting.ask.clone()).collect();
        self.last = asks.len();
        self.stock.metrics.stock.group_changes.observe_count(asks.len() as u64);
        let error = match self.stock.apply(asks.clone()).await {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                group.into_iter().for_each(|waiting| waiting.end(outcomes.next().unwrap_or_else(|| Err(lost().into()))));
                return;
            }
            Err(error) => error,
        };
        match error.kind() {
            Kind::Conflict if error.is_lock_wait() => self.set_apart(group, &error).await,
            Kind::Conflict | Kind::Corrupt | Kind::Bug if group.len() > 1 => self.one_by_one(group).await,
            _ => group.into_iter().for_each(|waiting| self.fail(waiting, &error)),
        }
    }

    /// One of the group failed for itself: the others go on without it.
    async fn one_by_one(&mut self, group: Vec<Waiting>) {
        for waiting in group {
            if waiting.is_late() {
                self.fail(waiting, &late());
                continue;
            }
            self.stock.metrics.stock.singles.inc();
            let outcome = self.stock.change(waiting.ask.clone()).await;
            waiting.end(outcome);
        }
    }

    /// Somebody held a row for as long as a session waits. Those who want it have waited long enough; the others go first in the
    /// next group, and later ones for it wait until it is free.
    async fn set_apart(&mut self, mut group: Vec<Waiting>, error: &StoreError) {
        self.look_up_lines(group.iter_mut()).await;
        let wanted: BTreeSet<_> = group.iter().flat_map(Waiting::products).collect();
        self.held.extend(self.still_held(&wanted).await);
        self.look_again = Instant::now() + LOOK_AGAIN;
        let (late, others): (Vec<_>, Vec<_>) = group.into_iter().partition(|it| it.wants(&self.held));
        late.into_iter().for_each(|it| self.fail(it, error));
        // All of them where it is free by now: they are tried for as long as they are patient.
        others.into_iter().rev().for_each(|it| self.waiting.push_front(it));
    }

    /// While rows are held it must be known who wants them before a group waits for them once more. Where MySQL does not say, the
    /// group will tell.
    async fn look_up_lines(&self, waiting: impl Iterator<Item = &mut Waiting>) {
        let mut ending: Vec<_> = waiting.filter_map(|it| Some((it.ask.reservation().filter(|_| it.lines.is_empty())?, it))).collect();
        if ending.is_empty() {
            return;
        }
        let ids: Vec<_> = ending.iter().map(|(id, _)| *id).collect();
        let lines = reservations::products_of(&self.stock.mysql, &ids).await.unwrap_or_default();
        for (id, it) in &mut ending {
            it.lines = lines.get(id).cloned().unwrap_or_default();
        }
    }

    async fn look_at_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        if Instant::now() >= self.look_again {
            self.held = self.still_held(&self.held).await;
            self.look_again = Instant::now() + LOOK_AGAIN;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        self.look_up_lines(waiting.iter_mut().take(MOST_CHANGES)).await;
        self.waiting = waiting;
    }

    /// None where MySQL does not say: the next group will tell.
    async fn still_held(&self, products: &BTreeSet<ProductId>) -> BTreeSet<ProductId> {
        if products.is_empty() {
            return BTreeSet::new();
        }
        stock::held_by_others(&self.stock.mysql, products).await.unwrap_or_default()
    }

    fn fail(&self, waiting: Waiting, error: &StoreError) {
        self.stock.count_failure(&waiting.ask, error);
        waiting.end(Err(error.clone().into()));
    }
}

impl Waiting {
    fn is_late(&self) -> bool {
        self.since.elapsed() > PATIENCE
    }

    fn products(&self) -> impl Iterator<Item = ProductId> {
        self.ask.products().chain(self.lines.iter().copied())
    }

    fn wants(&self, products: &BTreeSet<ProductId>) -> bool {
        self.products().any(|id| products.contains(&id))
    }

    fn end(self, outcome: Outcome) {
        // Whoever asked may have gone.
        let _ = self.answer.send(outcome);
    }
}

fn late() -> StoreError {
    StoreError::new(Kind::Unavailable, "others were in the way for too long, and this change was not begun")
}

/// Lines of a reservation that is to end, which are not known before it is locked: what baskets mostly have.
const LINES_OF_A_BASKET: usize = 4;

impl Ask {
    fn lines(&self) -> usize {
        match &self.change {
            Change::Count { .. } | Change::Adjust { .. } => 1,
            Change::Reserve { lines, .. } => lines.len(),
            Change::Commit(_) | Change::Release(_) | Change::Expire(_) => LINES_OF_A_BASKET,
        }
    }
}
