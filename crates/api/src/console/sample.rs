//! One second of the shop in figures, as the console plots them.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use storage::redis::workers::Worker;
use storage::status::Account;
use storage::watch::{Look, now_ms};
use telemetry::metrics::{Answered, CacheMetrics, CacheResult, HttpMetrics, QueueMetrics};

/// Rates, the hit ratio and quantiles are those of the last so many seconds: fewer make the plots jump, more hide what began.
pub(super) const WINDOW: usize = 10;

/// The figures of one second. `None` is what nobody knows at the time.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    /// Seconds since 1970 UTC.
    pub(crate) at: f64,
    /// All views ever, and where they are; see [`Account`].
    pub(crate) accepted: Option<u64>,
    pub(crate) persisted: Option<u64>,
    pub(crate) pending: Option<u64>,
    pub(crate) dead: Option<u64>,
    pub(crate) lost: Option<u64>,
    pub(crate) drift: Option<i64>,
    /// Entries in the queue, and most that may wait.
    pub(crate) depth: Option<u64>,
    pub(crate) capacity: u64,
    /// Views in sealed batches.
    pub(crate) in_flight: Option<u64>,
    /// Seconds; 0 when nothing waits.
    pub(crate) oldest_age: Option<f64>,
    /// Letters that were neither replayed nor dropped.
    pub(crate) dead_letters: u64,
    /// 0 to 1.
    pub(crate) hit_ratio: Option<f64>,
    /// Seconds.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Answered a second, and of these with 500 or above.
    pub(crate) requests: f64,
    pub(crate) errors: f64,
    /// Bytes; a limit of 0 is none.
    pub(crate) redis_used: Option<u64>,
    pub(crate) redis_limit: Option<u64>,
    pub(crate) mysql_up: bool,
    pub(crate) redis_up: bool,
    pub(crate) paused: bool,
    /// Connected to Redis; `None` where Redis does not tell.
    pub(crate) workers: Option<usize>,
    /// Of these, those that hang.
    pub(crate) workers_hung: Option<usize>,
}

/// What the process has counted until one moment.
struct Counts {
    at: Instant,
    answered: Answered,
    hits: u64,
    reads: u64,
}

/// Where the figures come from.
pub(crate) struct Sources {
    pub(crate) http: Arc<HttpMetrics>,
    pub(crate) cache: Arc<CacheMetrics>,
    pub(crate) queue: Arc<QueueMetrics>,
    /// What the last look at the stores found.
    pub(crate) look: Arc<Mutex<Look>>,
}

impl Sources {
    fn counts(&self) -> Counts {
        let of = |results: &[CacheResult]| results.iter().map(|result| self.cache.requests[*result].get()).sum::<u64>();
        let hits = of(&[CacheResult::Hit, CacheResult::NegativeHit]);
        let misses = of(&[CacheResult::Miss, CacheResult::Bypass]);
        Counts { at: Instant::now(), answered: self.http.answered(), hits, reads: hits + misses }
    }

    pub(crate) fn look(&self) -> Look {
        self.look.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes samples, one after another.
pub(crate) struct Sampler {
    pub(crate) sources: Sources,
    counts: VecDeque<Counts>,
    /// The account when it was last known.
    known: Option<Account>,
}

impl Sampler {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources, counts: VecDeque::with_capacity(WINDOW + 1), known: None }
    }

    pub(crate) fn take(&mut self, look: &Look, workers: Option<&[Worker]>) -> Sample {
        let now = self.sources.counts();
        let mut sample = self.of_stores(look);
        let queue = &self.sources.queue;
        sample.at = now_ms() as f64 / 1000.0;
        sample.capacity = u64::try_from(queue.capacity.get()).unwrap_or_default();
        sample.dead_letters = u64::try_from(queue.dead_letters.get()).unwrap_or_default();
        sample.workers = workers.map(<[Worker]>::len);
        sample.workers_hung = workers.map(|workers| workers.iter().filter(|worker| worker.hangs()).count());
        if let Some(first) = self.counts.front() {
            let seconds = now.at.duration_since(first.at).as_secs_f64();
            let answered = now.answered.seconds.since(&first.answered.seconds);
            sample.requests = answered.total() as f64 / seconds;
            sample.errors = (now.answered.failed - first.answered.failed) as f64 / seconds;
            (sample.p50, sample.p99) = (answered.quantile(0.5), answered.quantile(0.99));
            let reads = now.reads - first.reads;
            sample.hit_ratio = (reads > 0).then(|| (now.hits - first.hits) as f64 / reads as f64);
        }
        if self.counts.len() == WINDOW {
            self.counts.pop_front();
        }
        self.counts.push_back(now);
        sample
    }

    fn of_stores(&mut self, look: &Look) -> Sample {
        let account = look.account.or_else(|| without_mysql(self.known?, look));
        self.known = look.account.or(self.known);
        let (depth, queue) = (look.depth.as_ref(), look.queue.as_ref());
        Sample {
            accepted: account.map(|account| account.accepted),
            persisted: account.map(|account| account.persisted),
            pending: account.map(|account| account.pending).or(depth.map(|depth| depth.views)),
            dead: account.map(|account| account.dead),
            lost: account.map(|account| account.lost),
            drift: look.account.map(|account| account.drift()),
            depth: depth.map(|depth| depth.entries),
            in_flight: depth.map(|depth| depth.in_flight),
            oldest_age: depth.map(|depth| depth.oldest_age_seconds(now_ms())),
            redis_used: queue.map(|info| info.memory_used),
            redis_limit: queue.map(|info| info.memory_limit),
            mysql_up: look.mysql_up,
            redis_up: look.redis_up,
            paused: look.paused.is_some(),
            ..Sample::default()
        }
    }
}

/// While MySQL is away nothing is added to it, so that what waits in Redis now tells what was accepted since.
fn without_mysql(known: Account, look: &Look) -> Option<Account> {
    let depth = look.depth.as_ref().filter(|_| !look.mysql_up)?;
    let pending = depth.views.max(known.pending);
    Some(Account { accepted: known.accepted + (pending - known.pending), pending, ..known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use storage::mysql::pause::Paused;
    use storage::redis::Info;
    use storage::status::Depth;
    use telemetry::metrics::{Registry, RouteSpec};

    fn worker(silent_seconds: u64) -> Worker {
        Worker { name: "inventory-worker:7".into(), address: "127.0.0.1:50000".into(), connected_seconds: 60, silent_seconds }
    }

    fn sampler(registry: &Registry) -> Sampler {
        let spec = RouteSpec { method: "GET", route: "/x", statuses: &[200] };
        Sampler::new(Sources {
            http: Arc::new(HttpMetrics::new(registry, &[spec])),
            cache: Arc::new(CacheMetrics::new(registry)),
            queue: Arc::new(QueueMetrics::new(registry)),
            look: Arc::default(),
        })
    }

    #[test]
    fn rates_and_quantiles_are_those_of_the_last_seconds() {
        let mut sampler = sampler(&Registry::new("test"));
        let outer = Instant::now();
        assert_eq!(sampler.take(&Look::default(), None).p99, None);
        let inner = Instant::now();
        let route = sampler.sources.http.route("GET", "/x").unwrap();
        for _ in 0..99 {
            route.observe(200, Duration::from_millis(2));
        }
        route.observe(503, Duration::from_secs(2));
        let cache = &sampler.sources.cache;
        cache.requests[CacheResult::Hit].add(3);
        cache.requests[CacheResult::Bypass].add(1);
        let least = inner.elapsed().as_secs_f64();
        let sample = sampler.take(&Look::default(), Some(&[worker(1), worker(44)]));
        let seconds = 100.0 / sample.requests;
        assert!(least <= seconds && seconds <= outer.elapsed().as_secs_f64(), "{seconds} s between the two");
        assert!((sample.errors * 100.0 - sample.requests).abs() < 1e-6, "{sample:?}");
        assert_eq!((sample.hit_ratio, sample.workers, sample.workers_hung), (Some(0.75), Some(2), Some(1)));
        assert_eq!(sample.p99, Some(0.0025), "the upper end of its bucket");
        assert!(sample.p50 < sample.p99 && sample.p50 > Some(0.001), "{sample:?}");
        // One of the window was taken.
        let told = (1..=2 * WINDOW).take_while(|_| sampler.take(&Look::default(), None).p99.is_some()).count();
        assert_eq!(told, WINDOW - 1);
        let later = sampler.take(&Look::default(), None);
        assert_eq!((later.requests, later.p99, later.hit_ratio), (0.0, None, None));
    }

    #[test]
    fn a_sample_tells_each_figure_that_was_looked_at_under_its_name() {
        let mut sampler = sampler(&Registry::new("test"));
        sampler.sources.queue.capacity.set_count(90);
        sampler.sources.queue.dead_letters.set_count(8);
        let now = now_ms();
        let look = Look {
            mysql_up: true,
            redis_up: false,
            paused: Some(Paused { since: chrono::Utc::now(), by: "ann".into(), reason: None }),
            depth: Some(Depth { entries: 5, views: 99, in_flight: 3, oldest_at_ms: Some(now - 60_000), shards: Vec::new() }),
            account: Some(Account { accepted: 110, persisted: 70, pending: 20, dead: 11, lost: 7 }),
            queue: Some(Info { memory_used: 1_000, memory_limit: 2_000, ..Info::default() }),
        };
        let mut told = serde_json::to_value(sampler.take(&look, None)).unwrap();
        let mut number = |name: &str| told[name].take().as_f64().unwrap();
        assert!(number("at") * 1000.0 >= now as f64 && (60.0..90.0).contains(&number("oldest_age")));
        let expected = serde_json::json!({
            "at": null, "oldest_age": null, "accepted": 110, "persisted": 70, "pending": 20, "dead": 11, "lost": 7, "drift": 2, "depth": 5,
            "capacity": 90, "in_flight": 3, "dead_letters": 8, "hit_ratio": null, "p50": null, "p99": null, "requests": 0.0, "errors": 0.0,
            "redis_used": 1_000, "redis_limit": 2_000, "mysql_up": true, "redis_up": false, "paused": true, "workers": null,
            "workers_hung": null
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn while_mysql_is_away_accepted_views_grow_by_what_waits_in_redis() {
        let mut sampler = sampler(&Registry::new("test"));
        let look = |mysql_up, views, account| Look {
            mysql_up,
            redis_up: true,
            depth: Some(Depth { views, ..Depth::default() }),
            account,
            ..Look::default()
        };
        let taken = |sample: &Sample| (sample.accepted, sample.persisted, sample.pending, sample.drift);
        assert_eq!(taken(&sampler.take(&look(false, 7, None), None)), (None, None, Some(7), None), "nothing was known before");
        let known = Account { accepted: 100, persisted: 90, pending: 10, dead: 0, lost: 0 };
        assert_eq!(taken(&sampler.take(&look(true, 10, Some(known)), None)), (Some(100), Some(90), Some(10), Some(0)));
        assert_eq!(taken(&sampler.take(&look(false, 35, None), None)), (Some(125), Some(90), Some(35), None));
        assert_eq!(taken(&sampler.take(&look(true, 35, None), None)), (None, None, Some(35), None), "one that could not be read");
    }
}
