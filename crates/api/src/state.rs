//! What the request handlers of one thread share.
//!
//! Handlers ask it for the stores, which may not have been reached yet, and for time limits.

use crate::error::ApiError;
use crate::ingest::{Ingest, Intake};
use catalog::Catalog;
use std::cell::OnceCell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stock::Combiner;
use storage::{MySql, Redis};
use telemetry::metrics::IngestMetrics;

/// What exists once the stores were reached.
pub(crate) struct Stores {
    pub(crate) catalog: Catalog,
    pub(crate) intake: Intake,
    pub(crate) stock: Combiner,
    /// For the admin routes, which use no other part of it.
    pub(crate) mysql: MySql,
    pub(crate) redis: Redis,
}

/// The stores as one HTTP thread uses them: its requests share round trips with each other and wake no other thread.
pub(crate) struct Ready {
    pub(crate) catalog: Catalog,
    pub(crate) ingest: Ingest,
    /// Shared by all threads: the more wait for one transaction, the less each costs.
    pub(crate) stock: Combiner,
}

/// What the operator allows a request.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time_limit: Duration,
    pub(crate) reservation_ttl: (Duration, Duration),
}

/// Of one HTTP thread.
pub(crate) struct State {
    stores: Arc<OnceLock<Stores>>,
    ready: OnceCell<Ready>,
    /// How long the body of a request may take to arrive, and then the work on it.
    pub(crate) time_limit: Duration,
    pub(crate) views: Arc<IngestMetrics>,
    /// How long a reservation is held: where the request does not say, and at most.
    pub(crate) reservation_ttl: (Duration, Duration),
}

impl State {
    /// `stores` is set once, when they were reached for the first time.
    pub(crate) fn new(stores: Arc<OnceLock<Stores>>, limits: Limits, views: Arc<IngestMetrics>) -> Self {
        let Limits { time_limit, reservation_ttl } = limits;
        Self { stores, ready: OnceCell::new(), time_limit, views, reservation_ttl }
    }

    /// # Errors
    /// [`ApiError::Starting`]
    pub(crate) fn stores(&self) -> Result<&Stores, ApiError> {
        self.stores.get().ok_or(ApiError::Starting)
    }

    /// # Errors
    /// [`ApiError::Starting`]
    pub(crate) fn ready(&self) -> Result<&Ready, ApiError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let stores = self.stores()?;
        Ok(self.ready.get_or_init(|| {
            let catalog = stores.catalog.here();
            Ready { ingest: stores.intake.here(&catalog), catalog, stock: stores.stock.clone() }
        }))
    }

    /// Waits for a read, which is dropped at the time limit.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`]
    pub(crate) async fn read<T>(&self, read: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::time::timeout(self.time_limit, read).await.map_err(|_| ApiError::TimedOut)
    }

    /// Waits for a write. Past the limit only the waiting ends: writes of the catalogue and pushes of views
    /// run as tasks of their own, because a COMMIT that is cut off has an outcome that nobody knows.
    ///
    /// # Errors
    /// [`ApiError::OutcomeUnknown`]
    pub(crate) async fn write<T>(&self, write: impl Future<Output = T>) -> Result<T, ApiError> {
        let late = |_| ApiError::OutcomeUnknown(format!("no answer within {:?}; the write goes on", self.time_limit).into());
        tokio::time::timeout(self.time_limit, write).await.map_err(late)
    }
}
