//! Samples the product cache: some entries a second are compared with their rows (`catalog::check` says how, and why that is
//! fair), counted where they are wrong, told, and deleted.
//!
//! The sample walks over the keys of Redis, a few dozen a second, and begins again behind the last. A walk meets every entry,
//! those that are read seldom and would stay wrong for long as well as the others; a random key would mostly meet other keys of
//! a server that serves the queue too. It costs Redis some microseconds a second. Nothing relies on it: it is there to find
//! faults of ours, and settings that break what the cache rests on.

use catalog::check::{Checker, Compared, PATIENCE, Place};
use domain::ProductId;
use std::time::Duration;
use storage::redis::product_cache::Cached;
use storage::{Error, Kind, MySql, Redis};
use telemetry::metrics::{CheckMetrics, Label};
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(1);

/// Entries compared in one round.
const SAMPLE: usize = 10;

/// Keys that one step of the walk looks at, and steps of one round: enough to find a sample where one key in ten is an entry.
const STEP: u32 = 10;
const MOST_STEPS: u32 = 10;

struct Sampler {
    checker: Checker,
    metrics: CheckMetrics,
    place: Place,
    /// Met by the walk and not yet compared; less than a sample and what one step returns.
    met: Vec<ProductId>,
}

/// Samples until the process is asked to stop. A store that is away is waited for; its absence is told elsewhere. What else
/// fails is told once, until a round succeeds again.
pub(crate) async fn run(mysql: MySql, redis: Redis, metrics: CheckMetrics, shutdown: Shutdown) {
    let checker = Checker::new(mysql, redis);
    let mut sampler = Sampler { checker, metrics, place: Place::default(), met: Vec::new() };
    let mut told = false;
    while !shutdown.is_requested() {
        match sampler.round(&shutdown).await {
            Ok(()) => told = false,
            Err(error) if told || matches!(error.kind(), Kind::Unavailable) => tracing::debug!("the cache is not sampled: {error}"),
            Err(error) => {
                told = true;
                tracing::warn!("the cache cannot be compared with MySQL; tried again each second: {error}");
            }
        }
        shutdown.sleep(INTERVAL).await;
    }
}

impl Sampler {
    async fn round(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let sample = self.sample().await?;
        let first = self.checker.compare(&sample).await?;
        self.metrics.compared.add(first.iter().filter(|compared| compared.has_verdict()).count() as u64);
        let suspects: Vec<_> = first.into_iter().filter(Compared::differs).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        shutdown.sleep(PATIENCE).await;
        if shutdown.is_requested() {
            return Ok(());
        }
        let ids: Vec<_> = suspects.iter().map(|suspect| suspect.id).collect();
        let again = self.checker.compare(&ids).await?;
        let wrong: Vec<_> = suspects.iter().zip(again).filter(|(first, again)| first.stays(again)).map(|(_, again)| again).collect();
        for compared in &wrong {
            compared.fields().iter().for_each(|field| self.metrics.mismatches[*field].inc());
            self.checker.discard(compared).await?;
        }
        tell(&wrong);
        Ok(())
    }

    /// The next products of the walk; fewer where few are cached, none twice.
    async fn sample(&mut self) -> Result<Vec<ProductId>, Error> {
        for _ in 0..MOST_STEPS {
            if self.met.len() >= SAMPLE {
                break;
            }
            self.met.extend(self.checker.walk(&mut self.place, STEP).await?);
            if self.place.is_start() {
                break;
            }
        }
        // Redis may name a key twice in one walk.
        self.met.sort_unstable();
        self.met.dedup();
        Ok(self.met.drain(..self.met.len().min(SAMPLE)).collect())
    }
}

/// One line a round, and a round that finds something takes as long as its patience: a cache that is all wrong fills no disk.
fn tell(wrong: &[Compared]) {
    let Some(compared) = wrong.first() else { return };
    let fields: Vec<_> = compared.fields().iter().map(|field| field.as_str()).collect();
    let version = |cached: Option<&Cached>| cached.map_or(0, |cached| cached.version);
    tracing::warn!(
        product = compared.id.get(),
        differs = fields.join(", "),
        cached = version(compared.cached()),
        mysql = version(compared.row()),
        others = wrong.len() - 1,
        "a cached product differed from its row; its entry was deleted"
    );
}
