//! Walks over the stock of all products, some each second, and tells where it does not hold what must hold of it
//! (`storage::mysql::stock_checks` says what, and why traffic makes no false alarm).
//!
//! Changes nothing: whatever differs, `inventoryctl check` says what to do about it. Nothing relies on the walk: it is there to
//! find faults of ours, and plain SQL that changed stock without a movement. Each time that it meets a product of which
//! something does not hold it counts it again, so that an alert stays until it is mended.

use std::time::Duration;
use storage::mysql::stock_checks::{self, Active, Among, Base, Figures};
use storage::{Error, Kind, MySql};
use telemetry::metrics::StockCheckMetrics;
use telemetry::stop::Shutdown;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

/// Products of one round: 10,000 take less than ten minutes.
const PRODUCTS: u32 = 20;

/// How often the active reservations are counted, which reads an index entry of each.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

struct Walk {
    mysql: MySql,
    metrics: StockCheckMetrics,
    /// Everything up to this product was looked at.
    after: u64,
    active: Option<(Active, Instant)>,
}

/// Walks until the process is asked to stop. MySQL that is away is waited for; its absence is told elsewhere. What else fails
/// is told once, until a round succeeds again.
pub(crate) async fn run(mysql: MySql, metrics: StockCheckMetrics, shutdown: Shutdown) {
    let mut walk = Walk { mysql, metrics, after: 0, active: None };
    let mut told = false;
    while !shutdown.is_requested() {
        match walk.round().await {
            Ok(()) => told = false,
            Err(error) if told || matches!(error.kind(), Kind::Unavailable) => tracing::debug!("stock is not checked: {error}"),
            Err(error) => {
                told = true;
                tracing::warn!("stock cannot be compared with its movements and reservations; tried again each second: {error}");
            }
        }
        shutdown.sleep(INTERVAL).await;
    }
}

impl Walk {
    async fn round(&mut self) -> Result<(), Error> {
        let active = self.active().await?;
        let products = stock_checks::next_products(&self.mysql, self.after, PRODUCTS).await?;
        // What has movements or reservations but no row is looked at with its neighbours.
        let is_end = products.len() < PRODUCTS as usize;
        let last = products.last().copied().filter(|_| !is_end).unwrap_or(u64::MAX);
        let among = Among::Range { after: self.after, last };
        // Before the look: one that takes too long must not keep the walk where it is.
        self.after = if is_end { 0 } else { last };
        let uneven = stock_checks::uneven(&self.mysql, &among, &active, Base::KeepingSubtotals).await?;
        uneven.iter().flat_map(Figures::violated).for_each(|invariant| self.metrics.violations[invariant].inc());
        tell(&uneven);
        Ok(())
    }

    async fn active(&mut self) -> Result<Active, Error> {
        if let Some((active, counted)) = &self.active
            && counted.elapsed() < COUNT_INTERVAL
        {
            return Ok(active.clone());
        }
        let active = stock_checks::active(&self.mysql).await?;
        self.metrics.active.set_count(active.reservations);
        self.active = Some((active.clone(), Instant::now()));
        Ok(active)
    }
}

/// One line a round: stock that is all wrong fills no disk.
fn tell(uneven: &[Figures]) {
    let Some(figures) = uneven.first() else { return };
    tracing::warn!(
        product = figures.product_id,
        others = uneven.len() - 1,
        "what must hold of stock does not: {figures}; `inventoryctl check --full` lists all and says what to do"
    );
}
