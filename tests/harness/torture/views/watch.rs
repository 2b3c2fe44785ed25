//! Those who look on: the totals that both APIs show may not fall, whatever dies, unless Redis lost data.

use super::judge::{Rule, Violation};
use super::workload::{Clients, INSTANCES, parsed};
use crate::torture::connection::{Answer, Connection};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Products that are looked at: the first are viewed most.
const WATCHED: u64 = 8;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(8);

/// A cached total is thrown out this often, so that totals are read from MySQL while batches come and go.
const EVICTION: Duration = Duration::from_millis(15);
const AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Listed {
    data: Vec<Product>,
}

#[derive(Deserialize)]
pub(super) struct Product {
    pub(super) id: u64,
    /// None while a store is away.
    pub(super) views: Option<u64>,
}

/// Reads products through both APIs in turn until the clients are stopped; each read begins after the last one ended.
pub(super) async fn watch(clients: Arc<Clients>, mut random: fastrand::Rng) -> Vec<Violation> {
    let mut connections = clients.addresses.map(Connection::to);
    let (mut highest, mut found, mut of) = (BTreeMap::<u64, u64>::new(), Vec::new(), clients.losses());
    while !clients.are_stopped() {
        tokio::time::sleep(PAUSE).await;
        let instance = random.usize(..INSTANCES);
        let ids: Vec<u64> = if random.bool() { vec![random.u64(1..=WATCHED)] } else { (1..=WATCHED).collect() };
        let before = clients.losses();
        let products = look(&mut connections[instance], &ids).await;
        let after = clients.losses();
        if (before, after) != (of, of) || of % 2 == 1 {
            // What Redis lost is not shown any more.
            of = after;
            highest.clear();
            continue;
        }
        for (id, views) in products.into_iter().filter_map(|product| Some((product.id, product.views?))) {
            clients.counters.shown.fetch_add(1, Ordering::Relaxed);
            let last = highest.entry(id).or_default();
            if views < *last {
                let detail = format!("product {id}: {views} through API {instance} after {last}, at {} ms", clients.now_ms());
                found.push(Violation { product: Some(id), ..Violation::of(Rule::Fell, detail) });
            }
            *last = views;
        }
    }
    found
}

/// Products as an API shows them; none while it does not answer.
pub(super) async fn look(connection: &mut Connection, ids: &[u64]) -> Vec<Product> {
    let list = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let path = if ids.len() == 1 { format!("/v1/products/{list}") } else { format!("/v1/products?ids={list}") };
    match connection.exchange(&format!("GET {path} HTTP/1.1\r\nHost: torture\r\n\r\n")).await {
        Answer::Whole { status: 200, body, .. } if ids.len() == 1 => vec![parsed(body)],
        Answer::Whole { status: 200, body, .. } => parsed::<Listed>(body).data,
        Answer::Whole { status: 503, .. } | Answer::Unsent | Answer::Broken => Vec::new(),
        Answer::Whole { status, body, .. } => panic!("GET {path}: {status}: {}", String::from_utf8_lossy(body)),
    }
}

/// Throws cached totals out until the clients are stopped.
pub(super) async fn evict(url: String, clients: Arc<Clients>, mut random: fastrand::Rng) {
    let client = redis::Client::open(url).expect("the URL is well formed");
    while !clients.are_stopped() {
        let evicted = async {
            let mut redis = client.get_multiplexed_async_connection().await?;
            while !clients.are_stopped() {
                tokio::time::sleep(EVICTION).await;
                let product = random.u64(1..=WATCHED);
                let keys: Vec<String> = redis::cmd("KEYS").arg(format!("inventory:*:t:*:{product}")).query_async(&mut redis).await?;
                if !keys.is_empty() {
                    redis::cmd("DEL").arg(keys).exec_async(&mut redis).await?;
                }
            }
            Ok(())
        };
        // Redis may be away, as everything here.
        let ended: redis::RedisResult<()> = evicted.await;
        if ended.is_err() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}
