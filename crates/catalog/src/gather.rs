//! Joins concurrent loads into few statements, without ever answering from one that was already sent.
//!
//! A load joins the next flight, and a flight takes what waits when it starts; so whatever a load returns was
//! read after the load began. That is what a plain single-flight breaks: a statement on the wire may be older
//! than a write that was acknowledged meanwhile. A key is in one flight at a time: those who ask while it flies share the one
//! after it. At most [`FLIGHTS`] flights of [`MOST_KEYS`] keys are under way, and at most [`MOST_WAITING`] loads wait: MySQL
//! sees a bounded number of statements however many miss. What may be
//! a little late can be paced: then flights also keep a distance, and a busy time asks no more often than a quiet one.

use futures_util::future::BoxFuture;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use storage::{Error, Kind};
use tokio::sync::oneshot;

/// Statements of one kind under way in one process.
pub const FLIGHTS: usize = 4;

/// Keys of one statement.
pub const MOST_KEYS: usize = 100;

/// Loads waiting in one process; beyond it they are refused.
pub const MOST_WAITING: usize = 20_000;

/// Rounds in which a thread reads what has arrived before it asks a store for what waits, and how much may wait by then.
const MOST_ROUNDS: usize = 16;
const ENOUGH: usize = 64;

/// Lets this thread first read what has arrived, so that one round trip serves all of it: under load a call of a store costs more
/// than a request. No timer: it ends with the first round that brings nothing, at once in a thread that has nothing else to do.
pub async fn arrivals(waiting: impl Fn() -> usize) {
    let mut before = waiting();
    for _ in 0..MOST_ROUNDS {
        // Others that are ready run first, and sockets are looked at.
        tokio::task::yield_now().await;
        let now = waiting();
        if now == before || now >= ENOUGH {
            return;
        }
        before = now;
    }
}

type Flight<K, V> = Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, Error>> + Send + Sync>;

/// Keys, and who waits for each.
type Loads<K, V> = Vec<(K, Vec<oneshot::Sender<Result<V, Error>>>)>;

/// Loads values by key, many at a time.
pub(crate) struct Gather<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    flight: Flight<K, V>,
    flights: usize,
    pace: Duration,
    /// Flights are of one thread, and wait for its [`arrivals`].
    here: bool,
    waiting: Mutex<Waiting<K, V>>,
    runtime: tokio::runtime::Handle,
}

struct Waiting<K, V> {
    loads: HashMap<K, Vec<oneshot::Sender<Result<V, Error>>>>,
    /// Keys of loads that may fly now.
    order: VecDeque<K>,
    /// Keys under way; loads of these wait for them to land.
    flying: HashSet<K>,
    count: usize,
    flights: usize,
}

impl<K, V> Gather<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// `flight` answers every key that it can; one that it leaves out is an error of kind `Bug`. Must be called on the runtime
    /// that is to run the flights.
    pub(crate) fn new<F>(flight: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, Error>> + Send + 'static,
    {
        Self::with(flight, FLIGHTS, Duration::ZERO, false)
    }

    /// For loads of one thread, on which it must be called: one flight at a time, which takes all that the thread has read.
    pub(crate) fn here<F>(flight: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, Error>> + Send + 'static,
    {
        Self::with(flight, 1, Duration::ZERO, true)
    }

    /// One flight at a time, which then waits for `pace` unless the next one is full already. A load that comes after a quiet
    /// time flies at once.
    pub(crate) fn paced<F>(pace: Duration, flight: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, Error>> + Send + 'static,
    {
        Self::with(flight, 1, pace, false)
    }

    fn with<F>(flight: impl Fn(Vec<K>) -> F + Send + Sync + 'static, flights: usize, pace: Duration, here: bool) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, Error>> + Send + 'static,
    {
        let waiting = Waiting { loads: HashMap::new(), order: VecDeque::new(), flying: HashSet::new(), count: 0, flights: 0 };
        let flight: Flight<K, V> = Box::new(move |keys| Box::pin(flight(keys)));
        let runtime = tokio::runtime::Handle::current();
        Self { inner: Arc::new(Inner { flight, flights, pace, here, waiting: Mutex::new(waiting), runtime }) }
    }

    /// Loads one key. `joined` tells whether the load shares the key of another that was waiting.
    ///
    /// # Errors
    /// Those of the flight; `Unavailable` when too many loads wait.
    pub(crate) async fn load(&self, key: K) -> (Result<V, Error>, bool) {
        let (answer, answered) = oneshot::channel();
        let joined = match self.inner.join(key, answer) {
            Ok(joined) => joined,
            Err(error) => return (Err(error), false),
        };
        let gone = |_| Err(Error::new(Kind::Bug, "a load was dropped unanswered"));
        (answered.await.unwrap_or_else(gone), joined)
    }
}

impl<K, V> Inner<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    fn join(self: &Arc<Self>, key: K, answer: oneshot::Sender<Result<V, Error>>) -> Result<bool, Error> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.count >= MOST_WAITING {
            return Err(Error::new(Kind::Unavailable, "too many reads wait for MySQL"));
        }
        waiting.count += 1;
        let Waiting { loads, order, flying, flights, .. } = &mut *waiting;
        let sharing = loads.entry(key).or_default();
        let joined = !sharing.is_empty();
        sharing.push(answer);
        if !joined && !flying.contains(&key) {
            order.push_back(key);
        }
        if !order.is_empty() && *flights < self.flights {
            *flights += 1;
            self.runtime.spawn(self.clone().fly());
        }
        Ok(joined)
    }

    /// Takes off with what waits, again and again, until nothing does.
    async fn fly(self: Arc<Self>) {
        while let Some(loads) = self.next().await {
            let keys: Vec<K> = loads.iter().map(|(key, _)| *key).collect();
            // A task of its own, so that a panic in a flight costs its loads and not the place it flew in.
            let result = match self.runtime.spawn((self.flight)(keys.clone())).await {
                Ok(result) => result,
                Err(join) => Err(Error::new(Kind::Bug, format!("a flight stopped: {join}"))),
            };
            for (key, answers) in loads {
                let missing = || Error::new(Kind::Bug, "a flight left a key out");
                let value = result.as_ref().map_err(Error::clone).and_then(|values| values.get(&key).cloned().ok_or_else(missing));
                for answer in answers {
                    // Whoever asked may be gone.
                    let _ = answer.send(value.clone());
                }
            }
            self.land(&keys);
            if !self.pace.is_zero() && !self.next_is_full() {
                tokio::time::sleep(self.pace).await;
            }
        }
    }

    async fn next(&self) -> Option<Loads<K, V>> {
        if self.here {
            arrivals(|| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).count).await;
        }
        self.take()
    }

    /// Those who asked for these keys meanwhile may fly next.
    fn land(&self, keys: &[K]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { loads, order, flying, .. } = &mut *waiting;
        for key in keys {
            flying.remove(key);
            if loads.contains_key(key) {
                order.push_back(*key);
            }
        }
    }

    fn next_is_full(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).order.len() >= MOST_KEYS
    }

    fn take(&self) -> Option<Loads<K, V>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { loads, order, flying, count, flights } = &mut *waiting;
        let most = order.len().min(MOST_KEYS);
        let taken: Vec<_> = order.drain(..most).filter_map(|key| loads.remove_entry(&key)).collect();
        flying.extend(taken.iter().map(|(key, _)| *key));
        *count -= taken.iter().map(|(_, answers)| answers.len()).sum::<usize>();
        if taken.is_empty() {
            *flights -= 1;
            return None;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    struct Gate {
        started: AtomicUsize,
        keys: AtomicUsize,
        go: Semaphore,
    }

    fn gated() -> (Arc<Gate>, Arc<Gather<u64, usize>>) {
        let gate = Arc::new(Gate { started: AtomicUsize::new(0), keys: AtomicUsize::new(0), go: Semaphore::new(0) });
        let inner = gate.clone();
        let gather = Gather::new(move |keys: Vec<u64>| {
            let gate = inner.clone();
            async move {
                let flight = gate.started.fetch_add(1, Ordering::SeqCst);
                gate.keys.fetch_add(keys.len(), Ordering::SeqCst);
                gate.go.acquire().await.unwrap().forget();
                Ok(keys.into_iter().map(|key| (key, flight)).collect())
            }
        });
        (gate, Arc::new(gather))
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nobody_joins_a_statement_that_was_already_sent_and_all_who_came_since_share_the_next() {
        let (gate, gather) = gated();
        let load = |key| {
            let gather = gather.clone();
            tokio::spawn(async move { gather.load(key).await.0.unwrap() })
        };
        let first = load(1);
        until(|| gate.started.load(Ordering::SeqCst) == 1).await;
        let later: Vec<_> = (0..100).map(|_| load(1)).collect();
        until(|| gather.inner.waiting.lock().unwrap().count == later.len()).await;
        // Another key does not wait for it.
        let other = load(2);
        until(|| gate.started.load(Ordering::SeqCst) == 2).await;
        gate.go.add_permits(3);
        assert_eq!((first.await.unwrap(), other.await.unwrap()), (0, 1));
        for load in later {
            assert_eq!(load.await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_thousand_loads_of_one_key_share_a_handful_of_statements() {
        let (gate, gather) = gated();
        let loads: Vec<_> = (0..1000)
            .map(|_| {
                let gather = gather.clone();
                tokio::spawn(async move { gather.load(7).await.0.unwrap() })
            })
            .collect();
        until(|| gate.started.load(Ordering::SeqCst) >= 1).await;
        gate.go.add_permits(1000);
        for load in loads {
            load.await.unwrap();
        }
        assert!(gate.started.load(Ordering::SeqCst) <= 2, "{} statements", gate.started.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn paced_flights_keep_their_distance_and_carry_what_came_meanwhile() {
        let (pace, flights) = (Duration::from_millis(20), Arc::new(AtomicUsize::new(0)));
        let counted = flights.clone();
        let gather = Gather::paced(pace, move |keys: Vec<u64>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) }
        });
        gather.load(0).await.0.unwrap();
        let after_the_first = std::time::Instant::now();
        futures_util::future::join_all((1..50).map(|key| gather.load(key))).await;
        assert!(after_the_first.elapsed() >= pace / 2, "{:?}", after_the_first.elapsed());
        assert_eq!(flights.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn many_keys_fly_together_and_few_flights_are_under_way() {
        let (gate, gather) = gated();
        let loads: Vec<_> = (0..1000)
            .map(|key| {
                let gather = gather.clone();
                tokio::spawn(async move { gather.load(key).await.0.unwrap() })
            })
            .collect();
        until(|| gate.started.load(Ordering::SeqCst) == FLIGHTS).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.started.load(Ordering::SeqCst), FLIGHTS);
        gate.go.add_permits(1000);
        for load in loads {
            load.await.unwrap();
        }
        assert_eq!(gate.keys.load(Ordering::SeqCst), 1000);
        assert!(gate.started.load(Ordering::SeqCst) < 50);
    }
}
