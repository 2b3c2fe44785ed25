//! Views at an even rate from clients that outlive their server, with an account by product of what was answered.
//!
//! The load generator beside it measures; this one remembers. What was sent and not answered 202 may have been counted or not,
//! unless the server had not started yet: that answer says that nothing was.

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::requests::{PRODUCTS, Zipf, view_of};
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

const CLIENTS: u32 = 16;

/// How long a client waits before it tries again to reach a server that is away.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The type of the problem that an API answers before it has reached its stores.
const STARTING: &[u8] = b"/problems/starting";

/// Views by product: at 0 those of product 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Answered 202.
    pub(crate) acknowledged: Vec<u64>,
    /// Sent, and not answered, or answered with an error that says nothing of them.
    pub(crate) unknown: Vec<u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { acknowledged: vec![0; PRODUCTS], unknown: vec![0; PRODUCTS] }
    }

    /// Of all products: acknowledged, and unknown.
    pub(crate) fn sums(&self) -> (u64, u64) {
        (self.acknowledged.iter().sum(), self.unknown.iter().sum())
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.acknowledged, &other.acknowledged), (&mut self.unknown, &other.unknown)] {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

/// Views that flow until [`Self::end`]; dropping it ends them too.
pub(crate) struct Paced {
    shared: Arc<Shared>,
    clients: JoinSet<Ledger>,
}

struct Shared {
    address: SocketAddr,
    zipf: Zipf,
    acknowledged: AtomicU64,
    ends: AtomicBool,
}

impl Paced {
    /// All clients together send `per_second` views a second, as far as they are answered.
    pub(crate) fn start(address: SocketAddr, per_second: u32, seed: u64) -> Self {
        let (acknowledged, ends) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { address, zipf: Zipf::new(PRODUCTS), acknowledged, ends });
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(shared.clone(), Duration::from_secs(1) * CLIENTS / per_second, seeds.fork()));
        }
        Self { shared, clients }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets every client get its last answer.
    ///
    /// # Errors
    /// A client panicked.
    pub(crate) async fn end(mut self) -> anyhow::Result<Ledger> {
        self.shared.ends.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::new();
        while let Some(ended) = self.clients.join_next().await {
            ledger.add(&ended.context("a client panicked")?);
        }
        Ok(ledger)
    }
}

async fn client(shared: Arc<Shared>, interval: Duration, mut random: fastrand::Rng) -> Ledger {
    let (mut ledger, mut kept) = (Ledger::new(), None);
    let mut ticks = tokio::time::interval(interval);
    // After a server was away there is no burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        let connection = match kept.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(shared.address).await,
        };
        let Ok(mut connection) = connection else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let product = shared.zipf.rank(random.f64());
        let answer = connection.exchange_within(ANSWER_LIMIT, &view_of(product as u64 + 1)).await;
        match answer {
            Ok(answer) if answer.status == 202 => {
                ledger.acknowledged[product] += 1;
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                kept = Some(connection);
            }
            Ok(answer) if answer.body.windows(STARTING.len()).any(|part| part == STARTING) => tokio::time::sleep(RETRY_PAUSE).await,
            _ => ledger.unknown[product] += 1,
        }
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    const NOT_YET: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 29\r\n\r\n{\"type\":\"/problems/starting\"}";

    /// Gives these answers on one connection and closes it; an empty one is none.
    fn serve(listener: &std::net::TcpListener, answers: &[&str]) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 512];
        for answer in answers {
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer.as_bytes());
        }
    }

    async fn ledger_of(connections: u32, answers: &'static [&'static str]) -> (u64, u64) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || (0..connections).for_each(|_| serve(&listener, answers)));
        let paced = Paced::start(address, 100 * CLIENTS, 7);
        while !server.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let acknowledged = paced.acknowledged();
        let ledger = paced.end().await.unwrap();
        assert_eq!(ledger.sums().0, acknowledged);
        ledger.sums()
    }

    #[tokio::test]
    async fn every_view_is_in_the_ledger_as_acknowledged_or_as_unknown() {
        let (acknowledged, unknown) = ledger_of(CLIENTS, &[ACCEPTED, ""]).await;
        assert_eq!(acknowledged, u64::from(CLIENTS));
        // Those that had connected again when the listener went are unknown, too.
        assert!(unknown >= u64::from(CLIENTS));
    }

    #[tokio::test]
    async fn what_a_server_refuses_while_it_starts_was_certainly_not_counted() {
        let (acknowledged, unknown) = ledger_of(4 * CLIENTS, &[NOT_YET]).await;
        assert_eq!(acknowledged, 0);
        // Only what the listener had taken when it went.
        assert!(unknown <= u64::from(CLIENTS), "{unknown}");
    }
}
