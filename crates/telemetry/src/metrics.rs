//! Every metric of the three programs, declared in this one file.
//!
//! Base units, `_total` on counters, closed label sets, and every series at 0 from the start. A struct is
//! made once per process from its [`Registry`]; making it twice on one registry panics. Recording costs a few
//! atomic additions and never fails. No label ever carries an id or a path as it was sent.

pub use crate::distribution::Distribution;
pub use crate::http_metrics::{Answered, COMMON_STATUSES, HttpMetrics, RouteMetrics, RouteSpec};
pub use crate::instruments::{ByLabel, ByPair, Counter, Gauge, Histogram, Registry, SecondsGauge};
pub use crate::labels::{
    BatchResult, CacheResult, CheckField, DrainStage, Emptied, ErrorKind, IdempotencyResult, Invariant, KeptTable, Label, MysqlOp,
    PoolState, PriceResult, PriceStage, RedisOp, RedisRole, ReservationResult, StockKind, StockResult, TailEvent, ViewOutcome,
};

use crate::Build;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds; a call to Redis takes 0.05 ms alone and 1 ms behind others.
const REDIS_SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Seconds; a point read takes 0.2 ms, the lock wait limit is 2 s.
const MYSQL_SECONDS: &[f64] = &[0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds; from a hit in Redis to the request time limit of 5 s.
const HTTP_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds; from a batch claimed at once to a MySQL that was away for a day.
const DELAY_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0];
/// Views or rows of one push or batch.
const SIZES: &[f64] = &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

/// No eviction count was read yet.
const NOT_READ: u64 = u64::MAX;

impl Registry {
    /// A registry that already holds `process_*` and which build of which program this is.
    #[must_use]
    pub fn new(binary: &'static str) -> Self {
        let build = Build::of(binary);
        let registry = Self::empty(build);
        registry.process();
        let labels = [("version", build.version), ("commit", build.commit), ("binary", build.binary)];
        registry.gauge_with("inventory_build_info", &labels, "Version and commit of this build of a program; always 1").set(1);
        registry
    }
}

impl HttpMetrics {
    #[must_use]
    pub fn new(registry: &Registry, routes: &[RouteSpec]) -> Self {
        let answered = |spec: &RouteSpec, status: &str| {
            let labels = [("method", spec.method), ("route", spec.route), ("status", status)];
            registry.counter_with("inventory_http_requests_total", &labels, "Requests answered, by route template and status")
        };
        let seconds = |spec: &RouteSpec| {
            let labels = [("method", spec.method), ("route", spec.route)];
            let help = "Time that requests took, seconds";
            registry.histogram_with("inventory_http_request_duration_seconds", &labels, HTTP_SECONDS, help)
        };
        Self::of_routes(routes, answered, seconds)
    }
}

/// Both stores as one process meets them. Share it in an `Arc`.
#[derive(Debug)]
pub struct StoreMetrics {
    redis_seconds: ByLabel<RedisOp, Histogram>,
    redis_errors: ByPair<RedisOp, ErrorKind, Counter>,
    redis_up: Gauge,
    redis_policy_ok: ByLabel<RedisRole, Gauge>,
    redis_memory_used: ByLabel<RedisRole, Gauge>,
    redis_memory_limit: ByLabel<RedisRole, Gauge>,
    redis_evicted: ByLabel<RedisRole, Counter>,
    /// What each server said last, to count differences.
    redis_evicted_last: [AtomicU64; 2],
    mysql_seconds: ByLabel<MysqlOp, Histogram>,
    mysql_errors: ByPair<MysqlOp, ErrorKind, Counter>,
    mysql_up: Gauge,
    mysql_pool: ByLabel<PoolState, Gauge>,
    tail_up: Gauge,
    tail_lag: SecondsGauge,
}

impl StoreMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            redis_seconds: registry.histograms(
                "inventory_redis_op_duration_seconds",
                "op",
                REDIS_SECONDS,
                "Duration of calls to Redis in seconds, failed ones included; for op=ticket with the wait for a ticket",
            ),
            redis_errors: registry.counter_pairs(
                "inventory_redis_errors_total",
                ["op", "kind"],
                "Failed calls to Redis, by what the caller could do about it",
            ),
            redis_up: registry.gauge("inventory_redis_up", "1 if every Redis answered when last asked, else 0"),
            redis_policy_ok: registry.gauges(
                "inventory_redis_policy_ok",
                "role",
                "1 if the eviction policy fits what this Redis is used for, else 0 (also before it was read)",
            ),
            redis_memory_used: registry.gauges("inventory_redis_memory_used_bytes", "role", "Memory that Redis uses (used_memory), bytes"),
            redis_memory_limit: registry.gauges(
                "inventory_redis_memory_limit_bytes",
                "role",
                "Memory that Redis may use (maxmemory), bytes; 0 is no limit",
            ),
            redis_evicted: registry.counters(
                "inventory_redis_evicted_keys_total",
                "role",
                "Keys that Redis evicted for lack of memory since this process first looked",
            ),
            redis_evicted_last: [const { AtomicU64::new(NOT_READ) }; 2],
            mysql_seconds: registry.histograms(
                "inventory_mysql_query_duration_seconds",
                "op",
                MYSQL_SECONDS,
                "Duration of statements or whole transactions in seconds, with the wait for a connection, failed ones included",
            ),
            mysql_errors: registry.counter_pairs(
                "inventory_mysql_errors_total",
                ["op", "kind"],
                "Failed statements or transactions, by what the caller could do about it",
            ),
            mysql_up: registry.gauge("inventory_mysql_up", "1 if MySQL answered when last asked, else 0"),
            mysql_pool: registry.gauges(
                "inventory_mysql_pool_connections",
                "state",
                "Connections to MySQL that are idle or in use, callers waiting for one, and the limit of the pool",
            ),
            tail_up: registry.gauge("inventory_tail_up", "1 while a worker, any of them, keeps up with MySQL's binlog, else 0"),
            tail_lag: registry.seconds(
                "inventory_tail_lag_seconds",
                "How late plain SQL of others is shown, seconds; 0 while a worker keeps up with the binlog; it rises while none follows it",
            ),
        }
    }

    pub fn observe_redis(&self, op: RedisOp, time: Duration) {
        self.redis_seconds[op].observe(time);
    }

    pub fn redis_error(&self, op: RedisOp, kind: ErrorKind) {
        self.redis_errors[(op, kind)].inc();
    }

    pub fn redis_up(&self, up: bool) {
        self.redis_up.set_bool(up);
    }

    pub fn redis_policy_ok(&self, role: RedisRole, ok: bool) {
        self.redis_policy_ok[role].set_bool(ok);
    }

    /// Bytes; a limit of 0 is none.
    pub fn redis_memory(&self, role: RedisRole, used: u64, limit: u64) {
        self.redis_memory_used[role].set_count(used);
        self.redis_memory_limit[role].set_count(limit);
    }

    /// `evicted_keys` of `INFO`. The first reading is where counting starts; one that fell is of a restarted
    /// server and counts whole.
    pub fn redis_evicted(&self, role: RedisRole, evicted_keys: u64) {
        let last = self.redis_evicted_last[role.index()].swap(evicted_keys, Ordering::Relaxed);
        let new = if last == NOT_READ { 0 } else { evicted_keys.checked_sub(last).unwrap_or(evicted_keys) };
        self.redis_evicted[role].add(new);
    }

    pub fn observe_mysql(&self, op: MysqlOp, time: Duration) {
        self.mysql_seconds[op].observe(time);
    }

    pub fn mysql_error(&self, op: MysqlOp, kind: ErrorKind) {
        self.mysql_errors[(op, kind)].inc();
    }

    pub fn mysql_up(&self, up: bool) {
        self.mysql_up.set_bool(up);
    }

    /// What the pool holds now.
    pub fn mysql_pool(&self, idle: i64, in_use: i64) {
        self.mysql_pool[PoolState::Idle].set(idle);
        self.mysql_pool[PoolState::InUse].set(in_use);
    }

    /// Callers that wait for a connection.
    #[must_use]
    pub fn mysql_waiting(&self) -> &Gauge {
        &self.mysql_pool[PoolState::Waiting]
    }

    /// Whether the binlog is followed closely, and how late it is if not.
    pub fn tail(&self, up: bool, lag: Duration) {
        self.tail_up.set_bool(up);
        self.tail_lag.set(lag);
    }

    pub fn mysql_pool_limit(&self, connections: u16) {
        self.mysql_pool[PoolState::Limit].set(i64::from(connections));
    }
}

/// The product cache as readers meet it.
#[derive(Debug)]
pub struct CacheMetrics {
    pub requests: ByLabel<CacheResult, Counter>,
    pub coalesced: Counter,
}

impl CacheMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters("inventory_cache_requests_total", "result", "Product records asked for, by how they were served"),
            coalesced: registry
                .counter("inventory_cache_coalesced_total", "Product records served by a SELECT that another request had asked for too"),
        }
    }
}

/// Price writes, the write-through path.
#[derive(Debug)]
pub struct PriceMetrics {
    pub writes: ByLabel<PriceResult, Counter>,
    pub duration: ByLabel<PriceStage, Histogram>,
    pub waiting: Gauge,
}

impl PriceMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            writes: registry.counters("inventory_price_writes_total", "result", "Price writes, by how they ended"),
            duration: registry.histograms(
                "inventory_price_write_duration_seconds",
                "stage",
                MYSQL_SECONDS,
                "Duration of price writes in seconds: until COMMIT was answered, the calls to Redis, and all of it",
            ),
            waiting: registry.gauge("inventory_catalog_writes_waiting", "Writes of products and prices that wait in memory for their turn"),
        }
    }
}

/// Stock and reservations, as the process that changes them sees it.
#[derive(Debug)]
pub struct StockMetrics {
    pub changes: ByPair<StockKind, StockResult, Counter>,
    pub reservations: ByLabel<ReservationResult, Counter>,
    /// Whole transactions that ran again after a deadlock.
    pub retries: Counter,
    pub group_changes: Histogram,
    /// Changes applied alone because their group failed.
    pub singles: Counter,
    pub waiting: Gauge,
    pub waiting_limit: Gauge,
}

impl StockMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            changes: registry.counter_pairs(
                "inventory_stock_changes_total",
                ["kind", "result"],
                "Changes of stock that were asked for, by why and by how they ended",
            ),
            reservations: registry.counters(
                "inventory_reservations_total",
                "result",
                "Reservations, by what became of them, and requests for them that were refused",
            ),
            retries: registry.counter("inventory_stock_retries_total", "Transactions of stock that ran again because they lost a deadlock"),
            group_changes: registry.histogram("inventory_stock_group_changes", SIZES, "Changes of stock that went into one transaction"),
            singles: registry
                .counter("inventory_stock_singles_total", "Changes of stock that were applied alone because their group failed"),
            waiting: registry.gauge("inventory_stock_waiting", "Changes of stock that wait in memory or are being applied"),
            waiting_limit: registry.gauge(
                "inventory_stock_waiting_limit",
                "Most changes of stock that may wait in this process; past it they are answered 503",
            ),
        }
    }
}

/// Writes that came with a key.
#[derive(Debug)]
pub struct IdempotencyMetrics {
    pub results: ByLabel<IdempotencyResult, Counter>,
}

impl IdempotencyMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let about = "Writes that came with an Idempotency-Key, by what became of them; those that were refused or failed are not counted";
        Self { results: registry.counters("inventory_idempotency_total", "result", about) }
    }
}

/// Old rows that a worker deletes.
#[derive(Debug)]
pub struct RetentionMetrics {
    pub deleted: ByLabel<KeptTable, Counter>,
}

impl RetentionMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let about = "Rows that this worker deleted because they had served their time";
        Self { deleted: registry.counters("inventory_retention_deleted_rows_total", "table", about) }
    }
}

/// The write-behind path on its way in: what the API was sent and how it pushes.
#[derive(Debug)]
pub struct IngestMetrics {
    /// In views, not requests.
    pub received: ByLabel<ViewOutcome, Counter>,
    pub unremembered: Counter,
    pub push_views: Histogram,
    pub push_requests: Histogram,
    pub waiting_requests: Gauge,
    pub waiting_limit: Gauge,
}

impl IngestMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            received: registry.counters("inventory_views_received_total", "outcome", "Views sent to this API, by how they were answered"),
            unremembered: registry.counter(
                "inventory_views_unremembered_total",
                "Views accepted with an id that was not remembered, because the window was full; sent again they are counted again",
            ),
            push_views: registry.histogram("inventory_push_views", SIZES, "Views carried by one push into the queue"),
            push_requests: registry.histogram("inventory_push_requests", SIZES, "Requests answered by one push into the queue"),
            waiting_requests: registry
                .gauge("inventory_push_waiting_requests", "View requests held in memory until their push is confirmed"),
            waiting_limit: registry.gauge(
                "inventory_push_waiting_requests_limit",
                "Most view requests that this process holds; past it they are answered 503",
            ),
        }
    }
}

/// The view queue as it stands in Redis and MySQL; the API and the worker both export it.
#[derive(Debug)]
pub struct QueueMetrics {
    pub depth: Gauge,
    pub capacity: Gauge,
    pub views_pending: Gauge,
    pub in_flight: Gauge,
    /// Zero while nothing waits.
    pub oldest_age: SecondsGauge,
    pub dead_letters: Gauge,
    pub paused: Gauge,
    /// Negative when MySQL holds more than was accepted.
    pub conservation_drift: Gauge,
    /// Kept in MySQL: use [`Counter::advance_to`].
    pub views_lost: Counter,
}

impl QueueMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            depth: registry.gauge("inventory_queue_depth", "(Product, hour) entries waiting in Redis, all shards"),
            capacity: registry
                .gauge("inventory_queue_capacity", "Most (product, hour) entries that may wait; past it views are answered 503"),
            views_pending: registry.gauge("inventory_views_pending", "Views accepted and not yet in MySQL"),
            in_flight: registry.gauge("inventory_queue_in_flight", "Views in batches that are claimed and not yet settled"),
            oldest_age: registry
                .seconds("inventory_queue_oldest_age_seconds", "Age of the oldest view that is not in MySQL, seconds; 0 while none waits"),
            dead_letters: registry.gauge("inventory_queue_dead_letters", "Dead letters that were neither replayed nor dropped"),
            paused: registry.gauge("inventory_queue_paused", "1 while an operator holds the drain, else 0"),
            conservation_drift: registry
                .gauge("inventory_views_conservation_drift", "Views accepted - persisted - pending - dead - lost; must be 0 at rest"),
            views_lost: registry
                .counter("inventory_views_lost_total", "Views that a loss of Redis took, from the writers' running totals in MySQL"),
        }
    }
}

/// The write-behind path on its way out: what this worker applied.
#[derive(Debug)]
pub struct DrainMetrics {
    pub views_persisted: Counter,
    pub batches: ByLabel<BatchResult, Counter>,
    /// Records that were merged while they waited, and entries that the queue had less by it.
    pub merged_records: Counter,
    pub merged_entries: Counter,
    pub batch_views: Histogram,
    pub batch_rows: Histogram,
    pub applying: Gauge,
    pub duration: ByLabel<DrainStage, Histogram>,
    pub delay: Histogram,
    /// Since 1970 UTC by this machine's clock.
    pub last_success: SecondsGauge,
}

impl DrainMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            views_persisted: registry.counter("inventory_views_persisted_total", "Views that this worker added to MySQL"),
            batches: registry.counters("inventory_drain_batches_total", "result", "Batches and attempts on them, by what became of them"),
            merged_records: registry.counter(
                "inventory_queue_merged_records_total",
                "Records that this worker merged into larger ones while MySQL was away, the drain was held, or far behind",
            ),
            merged_entries: registry
                .counter("inventory_queue_merged_entries_total", "(Product, hour) entries by which merging made the queue shorter"),
            batch_views: registry.histogram("inventory_drain_batch_views", SIZES, "Views of one applied batch"),
            batch_rows: registry.histogram("inventory_drain_batch_rows", SIZES, "(Product, hour) rows of one applied batch"),
            applying: registry.gauge("inventory_drain_applying", "Transactions of this worker that add batches to MySQL, at this moment"),
            duration: registry.histograms(
                "inventory_drain_duration_seconds",
                "stage",
                MYSQL_SECONDS,
                "Duration of the parts of one drain step, seconds",
            ),
            delay: registry.histogram(
                "inventory_drain_delay_seconds",
                DELAY_SECONDS,
                "Age of the oldest view of a batch when the batch was committed, seconds",
            ),
            last_success: registry.seconds(
                "inventory_drain_last_success_timestamp_seconds",
                "When this worker last committed a batch, seconds since 1970 UTC; 0 before the first",
            ),
        }
    }
}

/// What this worker's sample of the product cache found.
#[derive(Debug)]
pub struct CheckMetrics {
    pub compared: Counter,
    /// Once for each field that differs.
    pub mismatches: ByLabel<CheckField, Counter>,
}

impl CheckMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            compared: registry.counter("inventory_checks_compared_total", "Cached products that this worker compared with their rows"),
            mismatches: registry.counters(
                "inventory_checks_mismatches_total",
                "field",
                "Fields in which a cached product differed from its row and stayed so for longer than a change by plain SQL takes to show",
            ),
        }
    }
}

/// What this worker's walk over the stock of all products found.
#[derive(Debug)]
pub struct StockCheckMetrics {
    pub violations: ByLabel<Invariant, Counter>,
    pub active: Gauge,
}

impl StockCheckMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            violations: registry.counters(
                "inventory_invariant_violations_total",
                "kind",
                "Times that this worker met a product whose stock was not what its movements or reservations say, or was oversold",
            ),
            active: registry.gauge("inventory_reservations_active", "Reservations that are active, counted every 10 s"),
        }
    }
}

/// Reservations whose time is over.
#[derive(Debug)]
pub struct ExpiryMetrics {
    /// Zero while none waits to be released.
    pub overdue: SecondsGauge,
}

impl ExpiryMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let about = "How long ago the oldest reservation expired that is still to be released, seconds; 0 where there is none";
        Self { overdue: registry.seconds("inventory_reservations_overdue_seconds", about) }
    }
}

/// The binlog as this worker follows it, if it is the one that does.
#[derive(Debug)]
pub struct TailMetrics {
    pub holder: Gauge,
    pub events: ByLabel<TailEvent, Counter>,
    pub deleted: Counter,
    pub emptied: ByLabel<Emptied, Counter>,
}

impl TailMetrics {
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            holder: registry.gauge("inventory_tail_holder", "1 while this worker is the one that follows the binlog, else 0"),
            events: registry.counters(
                "inventory_tail_events_total",
                "kind",
                "Rows of products written and statements about them that this worker read in the binlog, our own writes included",
            ),
            deleted: registry
                .counter("inventory_tail_entries_deleted_total", "Product entries that this worker dropped because the binlog said so"),
            emptied: registry.counters(
                "inventory_tail_emptied_total",
                "reason",
                "Times that this worker dropped all product entries, by the reason",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Everything that one process could export, though none exports all.
    fn rendered() -> (Registry, String) {
        let registry = Registry::new("test");
        let routes = &[RouteSpec { method: "GET", route: "/v1/products/{id}", statuses: &[200] }];
        let _ = (StoreMetrics::new(&registry), CacheMetrics::new(&registry), PriceMetrics::new(&registry));
        let _ = (IngestMetrics::new(&registry), QueueMetrics::new(&registry), DrainMetrics::new(&registry));
        let _ = (CheckMetrics::new(&registry), TailMetrics::new(&registry));
        let _ = (StockCheckMetrics::new(&registry), ExpiryMetrics::new(&registry));
        let _ = (IdempotencyMetrics::new(&registry), RetentionMetrics::new(&registry));
        let _ = HttpMetrics::new(&registry, routes);
        let text = registry.render();
        (registry, text)
    }

    /// (name, type) of each family.
    fn families(text: &str) -> BTreeMap<&str, &str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        lines.collect()
    }

    #[test]
    fn names_follow_the_rules() {
        let (_, text) = rendered();
        for (name, kind) in families(&text) {
            assert!(name.starts_with("inventory_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            for unit in ["milli", "micro", "_ms", "_kb", "_mb", "percent"] {
                assert!(!name.contains(unit), "{name} is not in a base unit");
            }
            let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
            assert!(help.is_some_and(|help| help.len() > 15), "{name}: {help:?}");
        }
    }

    #[test]
    fn every_series_is_there_once_and_at_zero_from_the_start() {
        let (_, text) = rendered();
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("inventory_")) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "{series} is there twice");
            assert_eq!(value == "1", series.starts_with("inventory_build_info"), "{line}");
            assert!(matches!(value, "0" | "1"), "{line}");
        }
        for (name, values) in [
            ("inventory_redis_errors_total", RedisOp::ALL.len() * ErrorKind::ALL.len()),
            ("inventory_mysql_errors_total", MysqlOp::ALL.len() * ErrorKind::ALL.len()),
            ("inventory_views_received_total", ViewOutcome::ALL.len()),
            ("inventory_mysql_pool_connections", PoolState::ALL.len()),
            ("inventory_redis_policy_ok", RedisRole::ALL.len()),
            ("inventory_redis_op_duration_seconds_count", RedisOp::ALL.len()),
        ] {
            let found = seen.iter().filter(|series| series.starts_with(&format!("{name}{{"))).count();
            assert_eq!(found, values, "{name}");
        }
    }

    #[test]
    fn the_contract_is_kept_by_name() {
        let contract = "
            http_requests_total http_request_duration_seconds cache_requests_total cache_coalesced_total
            price_writes_total price_write_duration_seconds catalog_writes_waiting views_received_total views_unremembered_total views_persisted_total
            views_conservation_drift views_lost_total queue_depth views_pending queue_in_flight
            queue_oldest_age_seconds queue_dead_letters queue_paused drain_batches_total drain_batch_views
            drain_batch_rows drain_duration_seconds drain_delay_seconds drain_last_success_timestamp_seconds
            redis_up mysql_up redis_policy_ok redis_memory_used_bytes redis_memory_limit_bytes
            redis_evicted_keys_total redis_op_duration_seconds redis_errors_total mysql_query_duration_seconds
            mysql_errors_total mysql_pool_connections checks_mismatches_total checks_compared_total idempotency_total build_info";
        let (_, text) = rendered();
        let families = families(&text);
        for name in contract.split_whitespace() {
            assert!(families.contains_key(format!("inventory_{name}").as_str()), "inventory_{name} is missing");
        }
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
            assert!(families.contains_key(name), "{name} is missing");
        }
    }

    #[test]
    fn what_is_recorded_is_shown() {
        let registry = Registry::new("test");
        let (stores, queue) = (StoreMetrics::new(&registry), QueueMetrics::new(&registry));
        stores.observe_redis(RedisOp::ShownStore, Duration::from_millis(2));
        stores.mysql_error(MysqlOp::Apply, ErrorKind::Conflict);
        stores.redis_memory(RedisRole::Cache, 10, u64::MAX);
        queue.conservation_drift.set(-3);
        queue.oldest_age.set(Duration::from_millis(1_500));
        let text = registry.render();
        for line in [
            "inventory_redis_op_duration_seconds_bucket{op=\"shown_store\",le=\"0.0025\"} 1",
            "inventory_redis_op_duration_seconds_bucket{op=\"shown_store\",le=\"0.001\"} 0",
            "inventory_mysql_errors_total{kind=\"conflict\",op=\"apply\"} 1",
            "inventory_redis_memory_limit_bytes{role=\"cache\"} 9223372036854775807",
            "inventory_views_conservation_drift -3",
            "inventory_queue_oldest_age_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn evictions_are_counted_from_the_first_look_and_over_restarts_of_redis() {
        let stores = StoreMetrics::new(&Registry::new("test"));
        let mut counted = Vec::new();
        for evicted_keys in [70, 75, 75, 4, 6] {
            stores.redis_evicted(RedisRole::Cache, evicted_keys);
            counted.push(stores.redis_evicted[RedisRole::Cache].get());
        }
        assert_eq!(counted, [0, 5, 5, 9, 11]);
        assert_eq!(stores.redis_evicted[RedisRole::Queue].get(), 0);
    }

    #[test]
    fn a_total_kept_elsewhere_never_falls() {
        let queue = QueueMetrics::new(&Registry::new("test"));
        for total in [0, 7, 5, 9] {
            queue.views_lost.advance_to(total);
        }
        assert_eq!(queue.views_lost.get(), 9);
    }
}
