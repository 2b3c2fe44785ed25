//! Every key in Redis. `<prefix>` is `INVENTORY_KEY_PREFIX`; the shard in braces is the cluster's hash tag, so that
//! one script touches one slot; `<run8>` is the first 8 characters of the `run_id` of the server that holds the key,
//! so that a server which came back with older data is not believed.
//!
//! | key | type | written by | read by | lifetime |
//! |---|---|---|---|---|
//! | `<prefix>:owner` | string: deployment id | the first process | every process that connects | for ever |
//! | `<prefix>:{<shard>}:c:<run8>:p:<id>` | string: product entry, see `product_cache.rs` | catalog; deleted by tail, check, operators too | catalog, check | `INVENTORY_CACHE_TTL` ± 10 % |
//! | `<prefix>:{<shard>}:t:<run8>:<id>` | string: views in MySQL, a bare number because settle adds to it | catalog, settle | catalog | `INVENTORY_CACHE_TTL` ± 10 % |
//! | `<prefix>:{<shard>}:open` | list of records as they were pushed | push, merge | claim, merge | until claimed |
//! | `<prefix>:{<shard>}:merged` | list of records that stand before those of `open`: joined ones, and what cannot be joined | merge, claim | claim, merge | until claimed |
//! | `<prefix>:{<shard>}:batch`, `:batch_id`, `:sums` | the one sealed batch: records, its UUID, hash id → views (`#` entries, `=` views) | claim | worker | until settled |
//! | `<prefix>:{<shard>}:pend` | hash id → views accepted and not settled | push, settle | catalog | until settled |
//! | `<prefix>:{<shard>}:wseq` | hash writer → `<seq> <accepted>` | push; a worker forgets | push, status, flush | 7 days after the writer's last view came to MySQL |
//! | `<prefix>:{<shard>}:ids:<window>` | set: id of an event and its product, see `event_ids.rs` | push | push | 21 minutes |
//! | `<prefix>:{<shard>}:waiting` | number: views in `open` and `merged` | push, claim | push, worker, status | for ever |
//! | `<prefix>:{<shard>}:entries` | number: (product, hour, record) entries in `open`, `merged` and `batch`, which the capacity bounds | push, merge, claim, settle | API, status | for ever |
//! | `<prefix>:{<shard>}:sv` | number: claims and settles so far | claim, settle | catalog, status | for ever |
//! | `<prefix>:{<shard>}:ready` | list of tickets | push, flush | worker (BLPOP) | until claimed |
//! | `<prefix>:{<shard>}:claimant` | string: the worker that has the batch to itself | claim, settle | claim | `INVENTORY_BATCH_DEADLINE` |
//!
//! `owner` stands on both servers, `c:` keys on the cache's, all others on the queue's. Only `c:`, `t:`, `ids:` and `claimant`
//! may be evicted.

use domain::{ProductId, Shards};
use std::sync::Arc;

/// Key names of one deployment.
#[derive(Clone)]
pub struct Keys {
    shards: Shards,
    /// What the names of the keys of any shard match.
    all: Arc<str>,
    queues: Arc<[Queue]>,
}

/// The keys of one shard of the view queue.
pub(crate) struct Queue {
    /// What the names of the shard's keys begin with.
    prefix: String,
    pub(crate) open: String,
    pub(crate) merged: String,
    pub(crate) batch: String,
    pub(crate) batch_id: String,
    pub(crate) sums: String,
    pub(crate) pend: String,
    pub(crate) wseq: String,
    pub(crate) waiting: String,
    pub(crate) entries: String,
    pub(crate) sv: String,
    pub(crate) ready: String,
    pub(crate) claimant: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, shards: Shards) -> Self {
        let queue = |shard: u16| {
            let key = |name: &str| format!("{prefix}:{{{shard}}}:{name}");
            Queue {
                prefix: key(""),
                open: key("open"),
                merged: key("merged"),
                batch: key("batch"),
                batch_id: key("batch_id"),
                sums: key("sums"),
                pend: key("pend"),
                wseq: key("wseq"),
                waiting: key("waiting"),
                entries: key("entries"),
                sv: key("sv"),
                ready: key("ready"),
                claimant: key("claimant"),
            }
        };
        Self { shards, all: format!("{prefix}:{{*}}:").into(), queues: shards.all().map(queue).collect() }
    }

    #[must_use]
    pub fn shards(&self) -> Shards {
        self.shards
    }

    pub(crate) fn owner(prefix: &str) -> String {
        format!("{prefix}:owner")
    }

    pub(crate) fn queue(&self, shard: u16) -> &Queue {
        &self.queues[usize::from(shard)]
    }

    /// Joined by hand: every read of a product makes this name, and `format!` was a twentieth of its cost.
    pub(crate) fn entry(&self, run8: &str, id: ProductId) -> String {
        let prefix = &self.queue(self.shards.of(id)).prefix;
        let mut digits = itoa::Buffer::new();
        [prefix, "c:", run8, ":p:", digits.format(id.get())].concat()
    }

    /// Matches the entries of all products, of every run of the server and every shard, however many those were.
    pub(crate) fn all_entries(&self) -> String {
        [&self.all, "c:*:p:*"].concat()
    }

    /// What stands before the id in the key of a cached total.
    pub(crate) fn total_prefix(&self, run8: &str, shard: u16) -> String {
        [&self.queue(shard).prefix, "t:", run8, ":"].concat()
    }

    /// The ids of events that a window has seen.
    pub(crate) fn event_ids(&self, shard: u16, window: u64) -> String {
        let mut digits = itoa::Buffer::new();
        [&self.queue(shard).prefix, "ids:", digits.format(window)].concat()
    }

    /// The product whose entry has this name under this run.
    pub(crate) fn product_of(&self, run8: &str, key: &str) -> Option<ProductId> {
        let id = ProductId::new(key.rsplit(':').next()?.parse().ok()?).ok()?;
        (self.entry(run8, id) == key).then_some(id)
    }

    /// Whether this names something cached under another run than this one.
    pub(crate) fn is_of_earlier_run(&self, run8: &str, key: &str) -> bool {
        let rest = self.queues.iter().find_map(|queue| key.strip_prefix(&queue.prefix));
        let cached = rest.and_then(|rest| rest.strip_prefix("c:").or_else(|| rest.strip_prefix("t:")));
        cached.and_then(|cached| cached.split_once(':')).is_some_and(|(run, _)| run != run8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_table() {
        let (keys, id) = (Keys::new("shop", Shards::new(1).unwrap()), ProductId::new(42).unwrap());
        assert_eq!(keys.entry("0a1b2c3d", id), "shop:{0}:c:0a1b2c3d:p:42");
        assert_eq!(keys.total_prefix("0a1b2c3d", 0), "shop:{0}:t:0a1b2c3d:");
        assert_eq!(keys.queue(0).open, "shop:{0}:open");
        assert_eq!(keys.event_ids(0, 2_160_000), "shop:{0}:ids:2160000");
        assert_eq!(keys.all_entries(), "shop:{*}:c:*:p:*");
    }

    #[test]
    fn names_are_read_back_and_those_of_others_are_not_ours() {
        let (keys, run) = (Keys::new("shop", Shards::new(4).unwrap()), "0a1b2c3d");
        assert_eq!(keys.product_of(run, "shop:{2}:c:0a1b2c3d:p:42"), ProductId::new(42).ok());
        for other in
            ["shop:{1}:c:0a1b2c3d:p:42", "shop:{2}:c:ffffffff:p:42", "barn:{2}:c:0a1b2c3d:p:42", "shop:{2}:c:0a1b2c3d:p:x", "", "a"]
        {
            assert_eq!(keys.product_of(run, other), None, "{other}");
        }
        for earlier in ["shop:{2}:c:ffffffff:p:42", "shop:{3}:t:ffffffff:7"] {
            assert!(keys.is_of_earlier_run(run, earlier), "{earlier}");
        }
        for other in
            ["shop:{2}:c:0a1b2c3d:p:42", "shop:{2}:t:0a1b2c3d:42", "barn:{2}:c:ffffffff:p:42", "shop:{2}:open", "shop:{9}:c:ffffffff:p:1"]
        {
            assert!(!keys.is_of_earlier_run(run, other), "{other}");
        }
    }
}
