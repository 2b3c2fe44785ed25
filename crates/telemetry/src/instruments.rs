//! Counters, gauges and histograms, resolved once when they are declared, and the registry that exports them.
//!
//! A recording is a few atomic additions: no lock, no map and no text. Declaring is for the start of a
//! process and panics on a mistake in a name; nothing here can fail later.

use crate::Build;
use crate::distribution::Distribution;
use crate::exposition::{Exposition, Value};
use crate::labels::Label;
use prometheus::core::Metric;
use prometheus::{HistogramOpts, Opts, TextEncoder};
use std::marker::PhantomData;
use std::ops::Index;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const VALID: &str = "the name and the labels of a metric are valid";

/// Whole numbers that only rise.
#[derive(Debug, Clone)]
pub struct Counter(prometheus::IntCounter);

impl Counter {
    pub fn inc(&self) {
        self.0.inc();
    }

    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// For a total that is kept elsewhere: rises to `total`, never falls. One caller at a time.
    pub fn advance_to(&self, total: u64) {
        self.0.inc_by(total.saturating_sub(self.0.get()));
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A whole number that rises and falls.
#[derive(Debug, Clone)]
pub struct Gauge(prometheus::IntGauge);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    pub fn set_count(&self, count: u64) {
        self.0.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// 1 or 0.
    pub fn set_bool(&self, yes: bool) {
        self.0.set(i64::from(yes));
    }

    pub fn add(&self, change: i64) {
        self.0.add(change);
    }

    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// A time or an age, in seconds with fractions.
#[derive(Debug, Clone)]
pub struct SecondsGauge(prometheus::Gauge);

impl SecondsGauge {
    /// A time stamp is given as the time since 1970 UTC.
    pub fn set(&self, time: Duration) {
        self.0.set(time.as_secs_f64());
    }

    #[must_use]
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// How values are distributed over fixed buckets.
#[derive(Debug, Clone)]
pub struct Histogram(prometheus::Histogram);

impl Histogram {
    /// A duration, exported in seconds.
    pub fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }

    /// A size; exact up to 2^53.
    pub fn observe_count(&self, count: u64) {
        self.0.observe(count as f64);
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.get_sample_count()
    }

    /// All observations until now. Some microseconds, so once a second and not for each request.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let read = self.0.metric();
        let read = read.get_histogram();
        let cumulative = read.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
        Distribution::new(cumulative, read.get_sample_count())
    }
}

/// One instrument for each value of a label: `requests[CacheResult::Hit].inc()`.
#[derive(Debug)]
pub struct ByLabel<L, M> {
    children: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> ByLabel<L, M> {
    fn new(child: impl FnMut(&L) -> M) -> Self {
        Self { children: L::ALL.iter().map(child).collect(), label: PhantomData }
    }
}

impl<L: Label, M> Index<L> for ByLabel<L, M> {
    type Output = M;

    fn index(&self, label: L) -> &M {
        &self.children[label.index()]
    }
}

/// One instrument for each pair of values of two labels: `errors[(op, kind)].inc()`.
#[derive(Debug)]
pub struct ByPair<A, B, M> {
    rows: ByLabel<A, ByLabel<B, M>>,
}

impl<A: Label, B: Label, M> Index<(A, B)> for ByPair<A, B, M> {
    type Output = M;

    fn index(&self, (a, b): (A, B)) -> &M {
        &self.rows[a][b]
    }
}

/// All metrics of one process, with `process_*` and `inventory_build_info`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    exposition: Arc<Mutex<Exposition>>,
    process: prometheus::Registry,
    build: Build,
}

/// Names and values of the labels of one series.
pub(crate) type Labels<'a> = [(&'a str, &'a str)];

impl Registry {
    pub(crate) fn empty(build: Build) -> Self {
        Self { exposition: Arc::default(), process: prometheus::Registry::new(), build }
    }

    #[must_use]
    pub fn build(&self) -> Build {
        self.build
    }

    /// All metrics in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(128 * 1024);
        self.exposition().render(&mut text);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.process.gather(), &mut text) {
            tracing::error!(%error, "metrics of the process could not be rendered");
        }
        text
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Counter {
        self.counter_with(name, &[], help)
    }

    pub(crate) fn counters<L: Label>(&self, name: &str, label: &str, help: &str) -> ByLabel<L, Counter> {
        ByLabel::new(|value: &L| self.counter_with(name, &[(label, value.as_str())], help))
    }

    pub(crate) fn counter_pairs<A: Label, B: Label>(&self, name: &str, labels: [&str; 2], help: &str) -> ByPair<A, B, Counter> {
        let child = |a: &A, b: &B| self.counter_with(name, &[(labels[0], a.as_str()), (labels[1], b.as_str())], help);
        ByPair { rows: ByLabel::new(|a| ByLabel::new(|b| child(a, b))) }
    }

    pub(crate) fn counter_with(&self, name: &str, labels: &Labels<'_>, help: &str) -> Counter {
        let counter = prometheus::IntCounter::with_opts(opts(name, labels, help)).expect(VALID);
        self.exposition().declare(Value::Counter(counter.clone()));
        Counter(counter)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauge_with(name, &[], help)
    }

    pub(crate) fn gauges<L: Label>(&self, name: &str, label: &str, help: &str) -> ByLabel<L, Gauge> {
        ByLabel::new(|value: &L| self.gauge_with(name, &[(label, value.as_str())], help))
    }

    pub(crate) fn gauge_with(&self, name: &str, labels: &Labels<'_>, help: &str) -> Gauge {
        let gauge = prometheus::IntGauge::with_opts(opts(name, labels, help)).expect(VALID);
        self.exposition().declare(Value::Gauge(gauge.clone()));
        Gauge(gauge)
    }

    pub(crate) fn seconds(&self, name: &str, help: &str) -> SecondsGauge {
        let gauge = prometheus::Gauge::new(name, help).expect(VALID);
        self.exposition().declare(Value::Seconds(gauge.clone()));
        SecondsGauge(gauge)
    }

    pub(crate) fn histogram(&self, name: &str, buckets: &[f64], help: &str) -> Histogram {
        self.histogram_with(name, &[], buckets, help)
    }

    pub(crate) fn histograms<L: Label>(&self, name: &str, label: &str, buckets: &[f64], help: &str) -> ByLabel<L, Histogram> {
        ByLabel::new(|value: &L| self.histogram_with(name, &[(label, value.as_str())], buckets, help))
    }

    pub(crate) fn histogram_with(&self, name: &str, labels: &Labels<'_>, buckets: &[f64], help: &str) -> Histogram {
        let opts = HistogramOpts::from(opts(name, labels, help)).buckets(buckets.to_vec());
        let histogram = prometheus::Histogram::with_opts(opts).expect(VALID);
        self.exposition().declare(Value::Histogram(histogram.clone()));
        Histogram(histogram)
    }

    /// CPU, memory, threads and open files of this process, read at each rendering.
    pub(crate) fn process(&self) {
        #[cfg(target_os = "linux")]
        self.process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).expect(VALID);
    }

    fn exposition(&self) -> MutexGuard<'_, Exposition> {
        self.exposition.lock().expect("nothing panics while it declares or renders")
    }
}

pub(crate) fn opts(name: &str, labels: &Labels<'_>, help: &str) -> Opts {
    Opts::new(name, help).const_labels(labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect())
}
