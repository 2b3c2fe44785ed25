//! The outermost layer: what is true of every answer, whichever route or refusal it came from.
//!
//! It gives each answer its request id and caching header, writes the body of every refusal, counts, and
//! logs what is slow or ours to mend. It does no I/O but logging, and no line is logged for what went well:
//! a line per request was measured to take half the throughput.

use crate::access;
use crate::cors;
use crate::problem::{Problem, ProblemType};
use crate::request_id::RequestIds;
use crate::routes::TemplateMetrics;
use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use telemetry::metrics::{HttpMetrics, RouteMetrics};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// Lines a second about failed or slow requests. While a store is away every request fails.
const MAX_LINES_PER_SECOND: u32 = 20;

/// One instance a thread.
pub(crate) struct Edge {
    ids: RequestIds,
    unmatched: Arc<RouteMetrics>,
    /// Only where CORS is on.
    preflight: Option<Arc<RouteMetrics>>,
    log_budget: Arc<LogBudget>,
}

impl Edge {
    pub(crate) fn new(metrics: &HttpMetrics, log_budget: Arc<LogBudget>) -> Self {
        let preflight = metrics.route(cors::PREFLIGHT.method, cors::PREFLIGHT.route);
        Self { ids: RequestIds::new(), unmatched: metrics.unmatched(), preflight, log_budget }
    }

    pub(crate) fn finish(&self, response: ServiceResponse, took: Duration) -> ServiceResponse {
        let status = response.status();
        let id = self.ids.of(response.request());
        let mut response = if status.is_client_error() || status.is_server_error() {
            self.refuse(response, status, &id, took)
        } else {
            if took > SLOW {
                self.log(response.request(), status, &id, took, None);
            }
            response
        };
        self.count(response.request(), status, took);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, NO_STORE);
        }
        response
    }

    fn refuse(&self, mut response: ServiceResponse, status: StatusCode, id: &HeaderValue, took: Duration) -> ServiceResponse {
        let attached = response.response_mut().extensions_mut().remove::<Problem>();
        let problem = attached.unwrap_or_else(|| Problem::of_type(ProblemType::for_status(status)));
        if status.is_server_error() || took > SLOW {
            self.log(response.request(), status, id, took, Some(&problem));
        }
        let body = problem.body(response.request(), status, id.to_str().unwrap_or_default());
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response.map_body(|_, _| BoxBody::new(body))
    }

    fn count(&self, request: &HttpRequest, status: StatusCode, took: Duration) {
        let template = request.app_data::<TemplateMetrics>();
        let metrics = template.and_then(|template| template.of(request.method())).unwrap_or_else(|| self.of_no_route(request));
        metrics.observe(status.as_u16(), took);
    }

    fn of_no_route(&self, request: &HttpRequest) -> &RouteMetrics {
        self.preflight.as_ref().filter(|_| cors::is_preflight(request)).unwrap_or(&self.unmatched)
    }

    /// The query is left out: it may carry a key.
    fn log(&self, request: &HttpRequest, status: StatusCode, id: &HeaderValue, took: Duration, problem: Option<&Problem>) {
        let Some(suppressed) = self.log_budget.take(status) else { return };
        let request_id = id.to_str().unwrap_or_default();
        let token = access::caller(request);
        let token = token.as_deref();
        let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
        let (method, path, status) = (request.method().as_str(), request.path(), status.as_u16());
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let slug = problem.map(|problem| problem.kind.slug);
        let source = problem.and_then(|problem| problem.source.as_deref());
        let suppressed = (suppressed > 0).then_some(suppressed);
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    request_id,
                    traceparent,
                    token,
                    method,
                    path,
                    status,
                    took_ms,
                    problem = slug,
                    source,
                    suppressed,
                    $message
                )
            };
        }
        match status {
            503 => line!(warn, "request could not be served"),
            500.. => line!(error, "request failed"),
            _ => line!(info, "request was slow"),
        }
    }
}

/// Bounds the lines about requests, and counts what it kept back. Faults of ours have a budget of their own,
/// so that they are not lost among the refusals while a store is away.
pub(crate) struct LogBudget {
    faults: Mutex<Window>,
    others: Mutex<Window>,
}

struct Window {
    began: Instant,
    lines: u32,
    suppressed: u64,
}

impl LogBudget {
    pub(crate) fn new() -> Self {
        let window = || Mutex::new(Window { began: Instant::now(), lines: 0, suppressed: 0 });
        Self { faults: window(), others: window() }
    }

    /// `None`: keep quiet. Otherwise how many lines were kept back since the last one.
    fn take(&self, status: StatusCode) -> Option<u64> {
        let window = if status == StatusCode::INTERNAL_SERVER_ERROR { &self.faults } else { &self.others };
        window.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Window {
    fn take(&mut self) -> Option<u64> {
        if self.began.elapsed() >= Duration::from_secs(1) {
            self.began = Instant::now();
            self.lines = 0;
        }
        if self.lines == MAX_LINES_PER_SECOND {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_what_was_kept_back_is_counted() {
        let budget = LogBudget::new();
        let take = || budget.take(StatusCode::SERVICE_UNAVAILABLE);
        for _ in 0..MAX_LINES_PER_SECOND {
            assert_eq!(take(), Some(0));
        }
        assert_eq!([take(), take()], [None, None]);
        assert_eq!(budget.take(StatusCode::INTERNAL_SERVER_ERROR), Some(0));
        budget.others.lock().unwrap().began -= Duration::from_secs(1);
        assert_eq!([take(), take()], [Some(2), Some(0)]);
    }
}
