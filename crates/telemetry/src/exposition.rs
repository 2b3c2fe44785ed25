//! The text that `/metrics` answers: each series' name and labels are written once, when it is declared, by Prometheus's own encoder.
//!
//! A scrape copies them and writes the values between. Encoding everything anew each time was nine tenths of what a scrape of the API
//! cost; shops scrape every few seconds, and customers' requests wait on the same two cores.

use prometheus::core::{Collector, Metric};
use prometheus::{IntCounter, IntGauge, TextEncoder};
use std::collections::BTreeMap;
use std::fmt::Write;

const ENCODED: &str = "a metric whose name and labels are valid can be written";

/// All series of one process, families in the order of their names and series in that of their labels' values.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    /// The lines of `# HELP` and `# TYPE`.
    head: String,
    series: BTreeMap<Vec<String>, Series>,
}

#[derive(Debug)]
struct Series {
    /// All of each line that comes before its value.
    lines: Box<[String]>,
    value: Value,
}

/// Where the values of a series are read: one of a counter or gauge; of a histogram each bucket, the sum and the count.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Counter(IntCounter),
    Gauge(IntGauge),
    Seconds(prometheus::Gauge),
    Histogram(prometheus::Histogram),
}

impl Exposition {
    /// Takes a series in. Panics if it is there already, or its family with another help or type.
    pub(crate) fn declare(&mut self, value: Value) {
        let collected = value.collector().collect();
        let [family] = &*collected else { unreachable!("an instrument is one family") };
        let [metric] = family.get_metric() else { unreachable!("an instrument is one series") };
        let text = TextEncoder::new().encode_to_string(&collected).expect(ENCODED);
        let (head, lines): (Vec<_>, Vec<_>) = text.split_inclusive('\n').partition(|line| line.starts_with('#'));
        let lines = lines.into_iter().filter_map(|line| Some(format!("{} ", line.rsplit_once(' ')?.0))).collect();

        let declared = self.families.entry(family.name().to_owned());
        let declared = declared.or_insert_with(|| Family { head: head.concat(), series: BTreeMap::new() });
        assert_eq!(declared.head, head.concat(), "a family has one help and one type");
        let labels: Vec<_> = metric.get_label().iter().map(|label| label.value().to_owned()).collect();
        let before = declared.series.insert(labels, Series { lines, value });
        assert!(before.is_none(), "a series is declared once: {text}");
    }

    /// Appends the series and their values of now, in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, text: &mut String) {
        for family in self.families.values() {
            text.push_str(&family.head);
            family.series.values().for_each(|series| series.render(text));
        }
    }
}

impl Series {
    fn render(&self, text: &mut String) {
        match &self.value {
            Value::Counter(counter) => whole(text, &self.lines[0], counter.get()),
            Value::Gauge(gauge) => whole(text, &self.lines[0], gauge.get()),
            Value::Seconds(gauge) => fraction(text, &self.lines[0], gauge.get()),
            Value::Histogram(histogram) => {
                let read = histogram.metric();
                let read = read.get_histogram();
                let [buckets @ .., rest, sum, count] = &*self.lines else { unreachable!("a histogram has at least three lines") };
                buckets.iter().zip(read.get_bucket()).for_each(|(line, bucket)| whole(text, line, bucket.cumulative_count()));
                whole(text, rest, read.get_sample_count());
                fraction(text, sum, read.get_sample_sum());
                whole(text, count, read.get_sample_count());
            }
        }
    }
}

fn whole(text: &mut String, line: &str, value: impl itoa::Integer) {
    text.push_str(line);
    text.push_str(itoa::Buffer::new().format(value));
    text.push('\n');
}

fn fraction(text: &mut String, line: &str, value: f64) {
    writeln!(text, "{line}{value}").expect("a string takes any text");
}

impl Value {
    fn collector(&self) -> Box<dyn Collector> {
        match self.clone() {
            Self::Counter(counter) => Box::new(counter),
            Self::Gauge(gauge) => Box::new(gauge),
            Self::Seconds(gauge) => Box::new(gauge),
            Self::Histogram(histogram) => Box::new(histogram),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruments::{self, Labels};
    use prometheus::{Histogram, HistogramOpts, Opts};

    fn opts(name: &str, labels: &Labels<'_>) -> Opts {
        instruments::opts(name, labels, "A \\ and\na second line")
    }

    fn counter(name: &str, labels: &Labels<'_>, count: u64) -> Value {
        let counter = IntCounter::with_opts(opts(name, labels)).unwrap();
        counter.inc_by(count);
        Value::Counter(counter)
    }

    fn seconds(name: &str, value: f64) -> Value {
        let gauge = prometheus::Gauge::with_opts(opts(name, &[])).unwrap();
        gauge.set(value);
        Value::Seconds(gauge)
    }

    fn histogram(name: &str, labels: &Labels<'_>, observed: &[f64]) -> Value {
        let opts = HistogramOpts::from(opts(name, labels)).buckets(vec![0.0005, 1.0, 2.5, 1e6]);
        let histogram = Histogram::with_opts(opts).unwrap();
        observed.iter().for_each(|value| histogram.observe(*value));
        Value::Histogram(histogram)
    }

    fn declared(values: impl IntoIterator<Item = Value>) -> Exposition {
        let mut exposition = Exposition::default();
        values.into_iter().for_each(|value| exposition.declare(value));
        exposition
    }

    #[test]
    fn the_text_is_that_of_prometheus_own_registry_and_encoder() {
        let gauge = IntGauge::with_opts(opts("stock", &[])).unwrap();
        gauge.set(-3);
        let values = [
            counter("views", &[("route", "b"), ("kind", "a \"quoted\" \\ and\nbroken one")], 1 << 53),
            counter("views", &[("route", "a"), ("kind", "z")], 0),
            counter("views", &[("route", "a 1"), ("kind", "z")], 7),
            Value::Gauge(gauge),
            seconds("small", 1e-9),
            seconds("large", 1.5e20),
            seconds("unknown", f64::NAN),
            histogram("took", &[("route", "b")], &[]),
            histogram("took", &[("route", "a")], &[0.0001, 0.3, 2.5, 1e9]),
            histogram("alone", &[], &[0.1, 0.2]),
        ];
        let reference = prometheus::Registry::new();
        values.iter().for_each(|value| reference.register(value.collector()).unwrap());
        let mut text = String::new();
        declared(values).render(&mut text);
        assert_eq!(text, TextEncoder::new().encode_to_string(&reference.gather()).unwrap());
    }

    #[test]
    fn a_whole_number_beyond_those_of_a_float_is_written_as_it_is() {
        let mut text = String::new();
        declared([counter("views", &[], u64::MAX)]).render(&mut text);
        assert!(text.ends_with("\nviews 18446744073709551615\n"), "{text}");
    }

    #[test]
    #[should_panic(expected = "a series is declared once")]
    fn a_series_declared_twice_is_a_mistake() {
        declared([counter("views", &[("kind", "a")], 0), counter("views", &[("kind", "a")], 0)]);
    }

    #[test]
    #[should_panic(expected = "a family has one help and one type")]
    fn a_family_of_two_types_is_a_mistake() {
        declared([counter("views", &[("kind", "a")], 0), histogram("views", &[("kind", "b")], &[])]);
    }
}
