//! Turns of writes, taken in memory before MySQL is asked for anything.
//!
//! Writes of one product go one after another, in the order in which they came: a crowd that waits for one row's lock would
//! hold a connection each, and readers of that product would find none. All writes together hold at most half of the
//! connections, so that rows which another system has locked do not stop the reads. Across processes the row's lock decides.

use domain::ProductId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use storage::{Error, Kind};
use telemetry::metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Writes that wait in one process; beyond it they are refused.
const MOST_WAITING: i64 = 10_000;

/// The turns of one process.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    products: Mutex<HashMap<ProductId, Queue>>,
    waiting: Gauge,
}

/// Writes of one product: the one that has its turn, and those behind it.
struct Queue {
    turn: Arc<Semaphore>,
    members: usize,
}

/// A write's turn, given back when it is dropped.
pub(crate) struct Turn {
    _place: Place,
    _connection: OwnedSemaphorePermit,
}

/// A place in a product's queue, and the turn once it came; a queue ends with its last member.
struct Place {
    of: Option<(Arc<Turns>, ProductId)>,
    turn: Option<OwnedSemaphorePermit>,
}

/// Counts one that waits for as long as it exists.
struct Waiting<'a>(&'a Gauge);

impl<'a> Waiting<'a> {
    fn start(gauge: &'a Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Turns {
    /// `connections` are those that the process may have; `waiting` counts the writes that wait for a turn.
    pub(crate) fn new(connections: u16, waiting: Gauge) -> Self {
        let most = usize::from(connections / 2).max(1);
        Self { all: Arc::new(Semaphore::new(most)), products: Mutex::default(), waiting }
    }

    /// Waits for the turn of a write of this product, or of one that is of no product yet.
    ///
    /// # Errors
    /// `Unavailable` where it did not come until `latest`, or too many wait.
    pub(crate) async fn take(self: &Arc<Self>, id: Option<ProductId>, latest: Instant) -> Result<Turn, Error> {
        if self.waiting.get() >= MOST_WAITING {
            return Err(Error::new(Kind::Unavailable, "too many writes wait for their turn"));
        }
        let _waiting = Waiting::start(&self.waiting);
        let turn = async {
            let mut place = Place { of: None, turn: None };
            if let Some(id) = id {
                let turn = self.join(id);
                place.of = Some((self.clone(), id));
                place.turn = turn.acquire_owned().await.ok();
            }
            let connection = self.all.clone().acquire_owned().await.ok();
            connection.map(|connection| Turn { _place: place, _connection: connection })
        };
        let late = || Error::new(Kind::Unavailable, "other writes were in the way for too long, and this one was not begun");
        tokio::time::timeout_at(latest.into(), turn).await.ok().flatten().ok_or_else(late)
    }

    fn join(&self, id: ProductId) -> Arc<Semaphore> {
        let mut products = self.products();
        let queue = products.entry(id).or_insert_with(|| Queue { turn: Arc::new(Semaphore::new(1)), members: 0 });
        queue.members += 1;
        queue.turn.clone()
    }

    fn products(&self) -> MutexGuard<'_, HashMap<ProductId, Queue>> {
        self.products.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The next one's turn comes first, so that a queue which goes on is found as it is.
        drop(self.turn.take());
        let Some((turns, id)) = self.of.take() else { return };
        let mut products = turns.products();
        if let Some(queue) = products.get_mut(&id) {
            queue.members -= 1;
            if queue.members == 0 {
                products.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use telemetry::metrics::{PriceMetrics, Registry};

    fn turns(connections: u16) -> Arc<Turns> {
        let metrics = PriceMetrics::new(&Registry::new("test"));
        Arc::new(Turns::new(connections, metrics.waiting))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn product(id: u64) -> Option<ProductId> {
        Some(ProductId::new(id).unwrap())
    }

    #[tokio::test]
    async fn writes_of_one_product_come_in_their_order_and_others_pass_them() {
        let (turns, order) = (turns(8), Arc::new(Mutex::new(Vec::new())));
        let first = turns.take(product(1), soon()).await.unwrap();
        let mut behind = Vec::new();
        for n in 0..20 {
            let (its_turn, order, before) = (turns.clone(), order.clone(), turns.waiting.get());
            behind.push(tokio::spawn(async move {
                let _turn = its_turn.take(product(1), soon()).await.unwrap();
                order.lock().unwrap().push(n);
            }));
            while turns.waiting.get() == before {
                tokio::task::yield_now().await;
            }
        }
        drop(turns.take(product(2), soon()).await.unwrap());
        assert_eq!(turns.waiting.get(), 20);
        drop(first);
        for write in behind {
            write.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(turns.products().is_empty() && turns.waiting.get() == 0);
    }

    #[tokio::test]
    async fn writes_leave_half_of_the_connections_and_give_up_in_time() {
        let turns = turns(4);
        let held = [turns.take(product(1), soon()).await.unwrap(), turns.take(None, soon()).await.unwrap()];
        let soon = Instant::now() + Duration::from_millis(20);
        for id in [product(1), product(2), None] {
            let Err(late) = turns.take(id, soon).await else { panic!("a third write got a turn") };
            assert_eq!(late.kind(), Kind::Unavailable);
        }
        drop(held);
        assert!(turns.products().is_empty() && turns.waiting.get() == 0);
    }
}
