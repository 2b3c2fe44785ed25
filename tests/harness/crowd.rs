//! Visitors of the shop: clients that view random products as fast as they are answered, and remember what they
//! were told, so that a test can compare it with what MySQL holds in the end.

use crate::{SOON, Shop, eventually};
use reqwest::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between a refusal and the next try, as a polite client would.
const AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// What was answered to one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 202: it counts.
    Accepted,
    /// 503 of another type than `outcome-unknown`, or no connection: it does not count.
    Refused,
    /// No answer, or `outcome-unknown`: it counts once or not at all.
    Unknown,
}

/// What the clients were told, in views per product.
#[derive(Debug, Default)]
pub struct Told {
    pub accepted: BTreeMap<u64, u64>,
    pub unknown: BTreeMap<u64, u64>,
}

impl Told {
    pub fn note(&mut self, id: u64, answer: Answer) {
        let views = match answer {
            Answer::Accepted => &mut self.accepted,
            Answer::Unknown => &mut self.unknown,
            Answer::Refused => return,
        };
        *views.entry(id).or_default() += 1;
    }

    /// Fails unless each product has in MySQL what was accepted, and at most what is unknown beside it.
    pub async fn check(&self, shop: &Shop) {
        let rows: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM product_views").await;
        let counted: BTreeMap<u64, u64> = rows.into_iter().collect();
        let of = |views: &BTreeMap<u64, u64>, id: &u64| views.get(id).copied().unwrap_or(0);
        for id in self.accepted.keys().chain(self.unknown.keys()).chain(counted.keys()) {
            let (accepted, unknown, counted) = (of(&self.accepted, id), of(&self.unknown, id), of(&counted, id));
            assert!(
                (accepted..=accepted + unknown).contains(&counted),
                "product {id}: {counted} views in MySQL, {accepted} accepted, {unknown} unknown"
            );
        }
    }

    #[must_use]
    pub fn total_accepted(&self) -> u64 {
        self.accepted.values().sum()
    }

    #[must_use]
    pub fn total_unknown(&self) -> u64 {
        self.unknown.values().sum()
    }
}

/// Views a product once.
pub async fn view(client: &reqwest::Client, url: &str, id: u64) -> Answer {
    let answer = match client.post(format!("{url}/v1/products/{id}/views")).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Answer::Refused,
        Err(_) => return Answer::Unknown,
    };
    match answer.status() {
        StatusCode::ACCEPTED => Answer::Accepted,
        StatusCode::SERVICE_UNAVAILABLE => {
            let problem: Value = answer.json().await.unwrap_or_default();
            let known = problem["type"].as_str().is_some_and(|kind| kind != "/problems/outcome-unknown");
            if known { Answer::Refused } else { Answer::Unknown }
        }
        status => panic!("a view of product {id} was answered {status}"),
    }
}

/// Clients at work.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Told>>,
}

impl Crowd {
    /// Starts `clients` that view the products 1 to `products` through all the APIs at `urls`.
    #[must_use]
    pub fn start(urls: &[String], products: u64, clients: u64, seed: u64) -> Self {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |number| {
            let (stop, accepted, urls) = (stop.clone(), accepted.clone(), urls.to_vec());
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
            tokio::spawn(async move {
                let (http, mut told) = (reqwest::Client::new(), Told::default());
                while !stop.load(Ordering::Relaxed) {
                    let id = random.u64(1..=products);
                    let answer = view(&http, &urls[random.usize(..urls.len())], id).await;
                    told.note(id, answer);
                    match answer {
                        Answer::Accepted => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                        Answer::Refused | Answer::Unknown => tokio::time::sleep(AFTER_REFUSAL).await,
                    }
                }
                told
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, accepted, clients }
    }

    /// Waits until this many more views were accepted.
    pub async fn accepts(&self, more: u64) {
        let goal = self.accepted.load(Ordering::Relaxed) + more;
        eventually("views are accepted", SOON, async || (self.accepted.load(Ordering::Relaxed) >= goal).then_some(())).await;
    }

    /// Lets the views in flight end, and says what was answered.
    pub async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for client in self.clients {
            let told = client.await.expect("a client ends");
            for (sum, part) in [(&mut all.accepted, told.accepted), (&mut all.unknown, told.unknown)] {
                for (id, views) in part {
                    *sum.entry(id).or_default() += views;
                }
            }
        }
        all
    }
}
