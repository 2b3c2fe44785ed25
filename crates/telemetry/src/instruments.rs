//! Counters, gauges and histograms, resolved once when they are declared, and the registry that exports them.
//!
//! A recording is a few atomic additions: no lock, no map and no text. Declaring is for the start of a
//! process and panics on a mistake in a name; nothing here can fail later.

use crate::Build;
use crate::distribution::Distribution;
use crate::labels::Label;
use prometheus::core::{Collector, Metric};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder};
use std::marker::PhantomData;
use std::ops::Index;
use std::time::Duration;

const DECLARED_ONCE: &str = "each metric has a valid name and is declared once per registry";

/// Whole numbers that only rise.
#[derive(Debug, Clone)]
pub struct Counter(prometheus::IntCounter);

impl Counter {
    pub(crate) fn child(family: &IntCounterVec, labels: &[&str]) -> Self {
        Self(family.with_label_values(labels))
    }

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
    pub(crate) fn child(family: &HistogramVec, labels: &[&str]) -> Self {
        Self(family.with_label_values(labels))
    }

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
    inner: prometheus::Registry,
    build: Build,
}

impl Registry {
    pub(crate) fn empty(build: Build) -> Self {
        Self { inner: prometheus::Registry::new(), build }
    }

    #[must_use]
    pub fn build(&self) -> Build {
        self.build
    }

    /// All metrics in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.inner.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be rendered");
        }
        text
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Counter {
        Counter(self.declare(prometheus::IntCounter::new(name, help)))
    }

    pub(crate) fn counters<L: Label>(&self, name: &str, label: &str, help: &str) -> ByLabel<L, Counter> {
        let family = self.counter_family(name, &[label], help);
        ByLabel::new(|value: &L| Counter::child(&family, &[value.as_str()]))
    }

    pub(crate) fn counter_pairs<A: Label, B: Label>(&self, name: &str, labels: [&str; 2], help: &str) -> ByPair<A, B, Counter> {
        let family = self.counter_family(name, &labels, help);
        let row = |a: &A| ByLabel::new(|b: &B| Counter::child(&family, &[a.as_str(), b.as_str()]));
        ByPair { rows: ByLabel::new(row) }
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Gauge {
        Gauge(self.declare(prometheus::IntGauge::new(name, help)))
    }

    pub(crate) fn gauges<L: Label>(&self, name: &str, label: &str, help: &str) -> ByLabel<L, Gauge> {
        let family = self.declare(IntGaugeVec::new(Opts::new(name, help), &[label]));
        ByLabel::new(|value: &L| Gauge(family.with_label_values(&[value.as_str()])))
    }

    pub(crate) fn seconds(&self, name: &str, help: &str) -> SecondsGauge {
        SecondsGauge(self.declare(prometheus::Gauge::new(name, help)))
    }

    pub(crate) fn histogram(&self, name: &str, buckets: &[f64], help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        Histogram(self.declare(prometheus::Histogram::with_opts(opts)))
    }

    pub(crate) fn histograms<L: Label>(&self, name: &str, label: &str, buckets: &[f64], help: &str) -> ByLabel<L, Histogram> {
        let family = self.histogram_family(name, &[label], buckets, help);
        ByLabel::new(|value: &L| Histogram::child(&family, &[value.as_str()]))
    }

    /// For label sets that are a table and not an enum; children come of [`Counter::child`].
    pub(crate) fn counter_family(&self, name: &str, labels: &[&str], help: &str) -> IntCounterVec {
        self.declare(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(crate) fn histogram_family(&self, name: &str, labels: &[&str], buckets: &[f64], help: &str) -> HistogramVec {
        self.declare(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    /// CPU, memory, threads and open files of this process, read at each rendering.
    pub(crate) fn process(&self) {
        #[cfg(target_os = "linux")]
        self.inner.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).expect(DECLARED_ONCE);
    }

    /// A gauge that is always 1 and says what it says in its labels.
    pub(crate) fn info(&self, name: &str, labels: &[(&str, &str)], help: &str) {
        let (names, values): (Vec<_>, Vec<_>) = labels.iter().copied().unzip();
        self.declare(IntGaugeVec::new(Opts::new(name, help), &names)).with_label_values(&values).set(1);
    }

    fn declare<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect(DECLARED_ONCE);
        self.inner.register(Box::new(metric.clone())).expect(DECLARED_ONCE);
        metric
    }
}
