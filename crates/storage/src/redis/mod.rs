//! Redis: fast and forgetful. Nothing here is the truth; what must survive Redis is settled in MySQL.
//!
//! A [`Node`] is one server. It hands out a [`Session`]: a connection together with the `run_id` of the
//! server behind it, as one value. All steps of an operation use the same session; when its connection
//! breaks, the rest of the operation is dropped and a later one gets a new session, which may speak to a
//! server with older data and therefore names its cache keys differently. The self-reconnecting clients of
//! the `redis` crate cannot promise that, so the multiplexed connection is used, which never reconnects.

mod errors;
pub mod event_ids;
mod greeting;
mod info;
pub mod inspect;
mod invalidate;
pub mod keys;
pub mod merge;
mod node;
pub mod product_cache;
mod scripts;
pub mod server;
pub mod shown_views;
pub mod view_queue;
pub(crate) mod view_writers;
pub mod workers;

use crate::settings::StoreArgs;
use info::Identity;
use keys::Keys;
use std::sync::Arc;
use std::time::Duration;
use telemetry::metrics::StoreMetrics;

pub use info::{Info, Link, Roles};
pub use node::{Node, Session};

/// Both roles of Redis as one process uses them: the queue, and the cache, which may be the same server.
#[derive(Clone)]
pub struct Redis {
    pub queue: Node,
    pub cache: Node,
    pub keys: Keys,
    pub(crate) cache_ttl: Duration,
    pub(crate) negative_ttl: Duration,
}

impl Redis {
    /// Starts connecting; see [`Node::wait`].
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(args: &StoreArgs, deployment: &crate::mysql::Deployment, metrics: &Arc<StoreMetrics>) -> Result<Self, String> {
        let node = |url: String, roles| {
            let identity = Identity { roles, prefix: args.key_prefix.clone(), deployment: deployment.id.clone() };
            Node::new(&url, identity, metrics.clone())
        };
        let (queue, cache) = match args.cache_redis_url()? {
            None => {
                let both = node(args.redis_url()?, Roles::Both)?;
                (both.clone(), both)
            }
            Some(cache) => (node(args.redis_url()?, Roles::Queue)?, node(cache, Roles::Cache)?),
        };
        let keys = Keys::new(&args.key_prefix, deployment.shards);
        Ok(Self { queue, cache, keys, cache_ttl: args.cache_ttl, negative_ttl: args.cache_negative_ttl })
    }

    /// The same servers, with connections of their own on the runtime that uses them: a thread that waits for its own replies
    /// only is neither woken by another's nor wakes it.
    #[must_use]
    pub fn here(&self) -> Self {
        let queue = self.queue.here();
        let cache = if self.is_one() { queue.clone() } else { self.cache.here() };
        Self { queue, cache, ..self.clone() }
    }

    /// Whether queue and cache are one server, so that one round trip reads both.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.queue.is(&self.cache)
    }

    /// The servers, each once.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let cache = (!self.is_one()).then_some(&self.cache);
        std::iter::once(&self.queue).chain(cache)
    }
}
