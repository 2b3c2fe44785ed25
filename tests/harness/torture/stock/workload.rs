//! What the clients of a round share, and what they were told since the run began.

use crate::Program;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The instances of the API.
pub(super) const INSTANCES: usize = 2;

pub(super) const CLIENTS: usize = 24;

/// Few, so that baskets cross.
pub(super) const PRODUCTS: u64 = 12;

/// Reservations of all clients that are closed and read by others, and looked for in snapshots.
const RECENT: usize = 64;

/// What clients were told since the run began.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub reserved: AtomicU64,
    /// Of any kind, with a 409 or a 412.
    pub refused: AtomicU64,
    /// Adjustments and counts that were acknowledged.
    pub changed: AtomicU64,
    /// Commits and releases that were acknowledged.
    pub closed: AtomicU64,
    /// Requests of which nobody knew what became of them until they were sent again.
    pub resolved: AtomicU64,
    /// Requests that were done, sent again and answered as before.
    pub repeated: AtomicU64,
    /// Consistent snapshots that were judged while clients traded.
    pub snapshots: AtomicU64,
}

/// What the clients of one round share.
pub(super) struct Clients {
    pub(super) addresses: [SocketAddr; INSTANCES],
    began: Instant,
    /// Gives the times of calls.
    clock: AtomicU64,
    in_flight: AtomicUsize,
    stop: AtomicBool,
    /// By product, the highest version of its stock that was answered.
    versions: Vec<AtomicU64>,
    recent: Mutex<VecDeque<String>>,
    pub(super) counters: Arc<Counters>,
}

impl Clients {
    pub(super) fn new(apis: [&Program; INSTANCES], counters: &Arc<Counters>) -> Arc<Self> {
        let address = |api: &Program| api.url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Arc::new(Self {
            addresses: apis.map(|api| address(api).expect("an API is at an address")),
            began: Instant::now(),
            clock: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            versions: (0..=PRODUCTS).map(|_| AtomicU64::new(0)).collect(),
            recent: Mutex::default(),
            counters: counters.clone(),
        })
    }

    /// Requests that are not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// While a request waits for its answer.
    pub(super) async fn waits<T>(&self, answer: impl Future<Output = T>) -> T {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let answer = answer.await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn are_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Since the round began.
    pub(super) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The time of a call; no two are the same.
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// The highest version of this product's stock that was answered; what is asked for from now on is not older.
    pub(super) fn version(&self, product: u64) -> u64 {
        self.versions[product as usize].load(Ordering::SeqCst)
    }

    pub(super) fn note_version(&self, product: u64, version: u64) {
        self.versions[product as usize].fetch_max(version, Ordering::SeqCst);
    }

    /// Reservations that were acknowledged of late.
    pub(super) fn recent(&self) -> Vec<String> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn note_recent(&self, id: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(id.to_owned());
    }
}
