//! What all request handlers share.
//!
//! Handlers ask it for the stores, which may not have been reached yet, and for time limits.

use crate::error::ApiError;
use crate::ingest::Ingest;
use catalog::Catalog;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use telemetry::metrics::IngestMetrics;

/// What exists once the stores were reached.
pub(crate) struct Ready {
    pub(crate) catalog: Catalog,
    pub(crate) ingest: Ingest,
}

pub(crate) struct State {
    ready: OnceLock<Ready>,
    /// How long the body of a request may take to arrive, and then the work on it.
    pub(crate) time_limit: Duration,
    pub(crate) views: Arc<IngestMetrics>,
}

impl State {
    pub(crate) fn new(time_limit: Duration, views: Arc<IngestMetrics>) -> Self {
        Self { ready: OnceLock::new(), time_limit, views }
    }

    /// Called once, when the stores were reached for the first time.
    pub(crate) fn set_ready(&self, ready: Ready) {
        let first = self.ready.set(ready).is_ok();
        debug_assert!(first, "the stores are brought up once");
    }

    /// # Errors
    /// [`ApiError::Starting`]
    pub(crate) fn ready(&self) -> Result<&Ready, ApiError> {
        self.ready.get().ok_or(ApiError::Starting)
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
