//! Reaching the stores, while the listener already answers 503 `starting`, and looking after them from then on.

use crate::config::Settings;
use crate::console::sample::Sources;
use crate::ingest::{self, Intake};
use crate::state::Stores;
use catalog::Catalog;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use stock::{Combiner, Stock};
use storage::watch::{self, Look, Watched};
use telemetry::health::Health;
use telemetry::metrics::{
    CacheMetrics, HttpMetrics, IdempotencyMetrics, IngestMetrics, PriceMetrics, QueueMetrics, Registry, StockMetrics, StoreMetrics,
};
use telemetry::stop::Shutdown;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// All metrics of the API but those of HTTP. Declared at once, so that each series exists from the start.
#[derive(Clone)]
pub(crate) struct Metrics {
    stores: Arc<StoreMetrics>,
    cache: Arc<CacheMetrics>,
    prices: Arc<PriceMetrics>,
    idempotency: Arc<IdempotencyMetrics>,
    stock: Arc<StockMetrics>,
    pub(crate) ingest: Arc<IngestMetrics>,
    queue: Arc<QueueMetrics>,
    /// What the last look at the stores found, for the console.
    look: Arc<Mutex<Look>>,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            stores: Arc::new(StoreMetrics::new(registry)),
            cache: Arc::new(CacheMetrics::new(registry)),
            prices: Arc::new(PriceMetrics::new(registry)),
            idempotency: Arc::new(IdempotencyMetrics::new(registry)),
            stock: Arc::new(StockMetrics::new(registry)),
            ingest: Arc::new(IngestMetrics::new(registry)),
            queue: Arc::new(QueueMetrics::new(registry)),
            look: Arc::default(),
        }
    }

    /// What the console plots.
    pub(crate) fn sources(&self, http: Arc<HttpMetrics>) -> Sources {
        Sources { http, cache: self.cache.clone(), queue: self.queue.clone(), look: self.look.clone() }
    }
}

/// Waits for the stores, hands them to the HTTP threads, and watches both until the process stops.
///
/// # Errors
/// The stores refuse this process for a reason that waiting does not mend.
pub(crate) async fn bring_up(
    settings: Settings,
    stores: Arc<OnceLock<Stores>>,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), String> {
    let Some((mysql, redis)) = watch::reach(&settings.stores, &metrics.stores, &health, &shutdown).await? else {
        return Ok(());
    };
    let catalog_metrics = catalog::Metrics { cache: metrics.cache, prices: metrics.prices, idempotency: metrics.idempotency.clone() };
    let catalog = Catalog::new(mysql.clone(), redis.clone(), catalog_metrics);
    metrics.queue.capacity.set_count(settings.queue_capacity);
    let (intake, started) = Intake::new(redis.clone(), of_ingest(&settings), metrics.ingest);
    let stock = Stock::new(mysql.clone(), stock::Metrics { stock: metrics.stock, idempotency: metrics.idempotency });
    let (stock, combining) = Combiner::start(stock);
    let reached = stores.set(Stores { catalog, intake, stock, mysql: mysql.clone(), redis: redis.clone() }).is_ok();
    debug_assert!(reached, "the stores are brought up once");
    let note = |look: &Look| {
        stores.get().zip(look.depth.as_ref()).into_iter().for_each(|(stores, depth)| stores.intake.note_depth(depth));
        metrics.look.lock().unwrap_or_else(PoisonError::into_inner).clone_from(look);
    };
    let watched = Watched { mysql, redis, health, stores: metrics.stores, queue: metrics.queue };
    tokio::select! {
        biased;
        () = watch::watch(watched, note, shutdown) => Ok(()),
        why = first_to_end(started) => Err(why),
        ended = combining => Err(format!("the task that changes stock ended: {ended:?}")),
    }
}

/// Waits until one of the tasks that push views has ended, of whatever thread.
async fn first_to_end(mut started: mpsc::UnboundedReceiver<JoinHandle<()>>) -> String {
    let mut lanes = JoinSet::new();
    loop {
        tokio::select! {
            Some(lane) = started.recv() => drop(lanes.spawn(lane)),
            Some(ended) = lanes.join_next() => return format!("a task that pushes views ended: {ended:?}"),
            else => return "nobody takes views in".to_owned(),
        }
    }
}

fn of_ingest(settings: &Settings) -> ingest::Settings {
    ingest::Settings {
        capacity: settings.queue_capacity,
        batch_views: settings.batch_views,
        // Leaves the last sending time to be answered, so that a request hears what became of its push.
        push_limit: settings.request_timeout * 3 / 5,
    }
}
