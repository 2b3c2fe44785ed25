//! Reaching the stores, while the listener already answers 503 `starting`, and looking after them from then on.

use crate::config::Settings;
use crate::ingest::{self, Ingest};
use crate::state::{Ready, State};
use catalog::Catalog;
use std::sync::Arc;
use storage::watch::{self, Watched};
use telemetry::health::Health;
use telemetry::metrics::{CacheMetrics, IngestMetrics, PriceMetrics, QueueMetrics, Registry, StoreMetrics};
use telemetry::stop::Shutdown;

/// All metrics of the API but those of HTTP. Declared at once, so that each series exists from the start.
#[derive(Clone)]
pub(crate) struct Metrics {
    stores: Arc<StoreMetrics>,
    cache: Arc<CacheMetrics>,
    prices: Arc<PriceMetrics>,
    pub(crate) ingest: Arc<IngestMetrics>,
    queue: Arc<QueueMetrics>,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            stores: Arc::new(StoreMetrics::new(registry)),
            cache: Arc::new(CacheMetrics::new(registry)),
            prices: Arc::new(PriceMetrics::new(registry)),
            ingest: Arc::new(IngestMetrics::new(registry)),
            queue: Arc::new(QueueMetrics::new(registry)),
        }
    }
}

/// Waits for the stores, makes the state ready, and watches both until the process stops.
///
/// # Errors
/// The stores refuse this process for a reason that waiting does not mend.
pub(crate) async fn bring_up(
    settings: Settings,
    state: Arc<State>,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), String> {
    let Some((mysql, redis)) = watch::reach(&settings.stores, &metrics.stores, &health, &shutdown).await? else {
        return Ok(());
    };
    let catalog_metrics = catalog::Metrics { cache: metrics.cache, prices: metrics.prices };
    let catalog = Catalog::new(mysql.clone(), redis.clone(), catalog_metrics);
    metrics.queue.capacity.set_count(settings.queue_capacity);
    let (ingest, mut lanes) = Ingest::start(catalog.clone(), &redis, of_ingest(&settings), metrics.ingest);
    state.set_ready(Ready { catalog, ingest: ingest.clone() });
    let watched = Watched { mysql, redis, health, stores: metrics.stores, queue: metrics.queue };
    tokio::select! {
        () = watch::watch(watched, |depth| ingest.note_depth(depth), shutdown) => {
            // Requests in hand still wait for their pushes: the tasks end with the last clone of the ingest.
            lanes.detach_all();
            Ok(())
        }
        ended = lanes.join_next() => Err(format!("a task that pushes views ended: {ended:?}")),
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
