//! Requests by route template: one handle a route, resolved once, so that a request costs a few atomic additions.
//!
//! The table of routes is the closed label set: what matches none of them is counted as one route, `unmatched`,
//! and a status that the table does not name as `other`.

use crate::distribution::Distribution;
use crate::instruments::{Counter, Histogram};
use std::sync::Arc;
use std::time::Duration;

/// `route` of requests that no route of the table took; their `method` is [`ANY`].
pub(crate) const UNMATCHED: &str = "unmatched";
/// `method` of requests that no route of the table took.
pub(crate) const ANY: &str = "any";
/// `status` of answers that the table does not name.
pub(crate) const OTHER: &str = "other";

/// Answers that any route may give: access control, extractors, limits and faults come before and around handlers.
pub const COMMON_STATUSES: &[u16] = &[400, 401, 403, 408, 413, 500, 503];
const UNMATCHED_STATUSES: &[u16] = &[404, 405, 414, 431];

/// One route of the table.
#[derive(Debug, Clone, Copy)]
pub struct RouteSpec {
    pub method: &'static str,
    /// The template, such as `/v1/products/{id}`.
    pub route: &'static str,
    /// What it answers, the most frequent first, beyond 400, 401, 403, 408, 413, 500 and 503, which every route may.
    pub statuses: &'static [u16],
}

/// All routes of one listener. Declared in `metrics.rs`.
#[derive(Debug)]
pub struct HttpMetrics {
    routes: Box<[(RouteSpec, Arc<RouteMetrics>)]>,
    unmatched: Arc<RouteMetrics>,
}

impl HttpMetrics {
    /// `answered` declares the counter of one route and status, `seconds` the histogram of one route.
    pub(crate) fn of_routes(
        routes: &[RouteSpec],
        answered: impl Fn(&RouteSpec, &str) -> Counter,
        seconds: impl Fn(&RouteSpec) -> Histogram,
    ) -> Self {
        let resolve = |spec: &RouteSpec| {
            Arc::new(RouteMetrics {
                statuses: statuses_of(spec).into_iter().map(|status| (status, answered(spec, &status.to_string()))).collect(),
                other: answered(spec, OTHER),
                seconds: seconds(spec),
            })
        };
        let unmatched = RouteSpec { method: ANY, route: UNMATCHED, statuses: UNMATCHED_STATUSES };
        Self { routes: routes.iter().map(|spec| (*spec, resolve(spec))).collect(), unmatched: resolve(&unmatched) }
    }

    /// The handle of a route of the table. For configuring routes, not for each request.
    #[must_use]
    pub fn route(&self, method: &str, route: &str) -> Option<Arc<RouteMetrics>> {
        let found = self.routes.iter().find(|(spec, _)| spec.method == method && spec.route == route);
        found.map(|(_, metrics)| Arc::clone(metrics))
    }

    /// All requests until now, whatever their route.
    #[must_use]
    pub fn answered(&self) -> Answered {
        let mut all = Answered::default();
        for metrics in self.routes.iter().map(|(_, metrics)| metrics).chain([&self.unmatched]) {
            all.failed += metrics.statuses.iter().filter(|(status, _)| *status >= 500).map(|(_, counter)| counter.get()).sum::<u64>();
            all.seconds.add(&metrics.seconds.distribution());
        }
        all
    }

    /// The handle for requests that no route took.
    #[must_use]
    pub fn unmatched(&self) -> Arc<RouteMetrics> {
        Arc::clone(&self.unmatched)
    }
}

/// Those of the table first, since they are found first and answered most.
fn statuses_of(spec: &RouteSpec) -> Vec<u16> {
    let mut statuses = Vec::new();
    for status in spec.statuses.iter().chain(COMMON_STATUSES) {
        if !statuses.contains(status) {
            statuses.push(*status);
        }
    }
    statuses
}

/// What was answered until one moment.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// With 500 or above.
    pub failed: u64,
    /// How long all of them took, seconds.
    pub seconds: Distribution,
}

/// One route's counters and histogram.
#[derive(Debug)]
pub struct RouteMetrics {
    statuses: Box<[(u16, Counter)]>,
    other: Counter,
    seconds: Histogram,
}

impl RouteMetrics {
    pub fn observe(&self, status: u16, time: Duration) {
        let known = self.statuses.iter().find(|(known, _)| *known == status);
        known.map_or(&self.other, |(_, counter)| counter).inc();
        self.seconds.observe(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    const ROUTES: &[RouteSpec] = &[
        RouteSpec { method: "GET", route: "/v1/products/{id}", statuses: &[200, 304, 404] },
        RouteSpec { method: "PUT", route: "/v1/products/{id}/price", statuses: &[200, 404, 422, 503] },
    ];

    fn has(registry: &Registry, line: &str) {
        let text = registry.render();
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn each_route_counts_its_own_statuses_and_all_others_as_one() {
        let registry = Registry::new("test");
        let http = HttpMetrics::new(&registry, ROUTES);
        let get = http.route("GET", "/v1/products/{id}").unwrap();
        for status in [200, 200, 304, 500, 418, 599] {
            get.observe(status, Duration::from_millis(1));
        }
        http.unmatched().observe(404, Duration::ZERO);
        let series = |route: &str, status: &str| format!("inventory_http_requests_total{{{route},status=\"{status}\"}}");
        let product = "method=\"GET\",route=\"/v1/products/{id}\"";
        for (status, count) in [("200", 2), ("304", 1), ("404", 0), ("500", 1), ("other", 2)] {
            has(&registry, &format!("{} {count}", series(product, status)));
        }
        has(&registry, &format!("{} 1", series("method=\"any\",route=\"unmatched\"", "404")));
        has(&registry, &format!("{} 0", series("method=\"PUT\",route=\"/v1/products/{id}/price\"", "503")));
        has(&registry, &format!("inventory_http_request_duration_seconds_count{{{product}}} 6"));
        assert!(http.route("GET", "/v1/products/42").is_none());
        let all = http.answered();
        assert_eq!((all.failed, all.seconds.total()), (1, 7));
    }
}
