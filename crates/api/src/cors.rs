//! Which web pages of other origins may read answers (CORS). Off unless `INVENTORY_CORS_ORIGINS` is set.
//!
//! No credentials of the browser are allowed: a page sends its token itself, or the key of its beacon in the URL.

use crate::routes;
use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use actix_web::{HttpRequest, middleware::Condition};
use telemetry::metrics::RouteSpec;

const MAX_ORIGINS: usize = 32;

/// How long a browser may remember that it was allowed. The longest that all of them accept.
const MAX_AGE_SECONDS: usize = 600;

/// What a page may send beyond what every page may.
const REQUEST_HEADERS: [&str; 6] = ["authorization", "content-type", "if-none-match", "if-match", "idempotency-key", "x-request-id"];

/// What a page may read beyond what every page may.
const EXPOSED_HEADERS: [&str; 6] = ["etag", "location", "retry-after", "x-request-id", "cache-status", "idempotent-replayed"];

/// Browsers ask before they send: `OPTIONS` to any path, counted as one route, while CORS is on.
pub(crate) const PREFLIGHT: RouteSpec = RouteSpec { method: "OPTIONS", route: "preflight", statuses: &[200] };

/// The origins whose pages may read answers; `None` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins(Option<Vec<String>>);

impl Origins {
    /// Reads a comma-separated list of exact origins, or `*` alone.
    ///
    /// # Errors
    /// One that no browser would send; says how it would be written.
    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        if list.trim() == "*" {
            return Ok(Self(None));
        }
        let origins: Vec<String> = list.split(',').map(|text| origin(text.trim())).collect::<Result<_, _>>()?;
        match origins.len() {
            0..=MAX_ORIGINS => Ok(Self(Some(origins))),
            count => Err(format!("has {count} origins, at most {MAX_ORIGINS} are taken")),
        }
    }
}

/// Browsers send scheme, host and port in one spelling only; any other would never match.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("* allows all origins, so it stands alone".to_owned());
    }
    let url = url::Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let sent = url.map(|url| url.origin().ascii_serialization());
    match sent {
        Some(sent) if sent == text => Ok(sent),
        Some(sent) => Err(format!("browsers do not send {text:?} as an origin; write {sent}")),
        None => Err(format!("{text:?} is no origin; write scheme, host and perhaps a port: https://shop.example")),
    }
}

/// The layer around the router, which does nothing without origins.
pub(crate) fn layer(origins: Option<&Origins>) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods(routes::methods())
        .allowed_headers(REQUEST_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
        .max_age(MAX_AGE_SECONDS);
    let cors = match origins {
        Some(Origins(Some(origins))) => origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin)),
        Some(Origins(None)) => cors.allow_any_origin().send_wildcard(),
        None => cors,
    };
    Condition::new(origins.is_some(), cors)
}

/// Whether the layer answers in place of a route.
pub(crate) fn is_preflight(request: &HttpRequest) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(list: &str) -> String {
        Origins::parse(list).unwrap_err()
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        let read = Origins::parse("https://shop.example, http://localhost:3000,https://xn--bcher-kva.example").unwrap();
        assert_eq!(read.0.unwrap(), ["https://shop.example", "http://localhost:3000", "https://xn--bcher-kva.example"]);
        for (wrong, meant) in [
            ("https://shop.example/", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("https://Shop.example", "https://shop.example"),
            ("https://shop.example/cart?x#y", "https://shop.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            assert!(refused(wrong).ends_with(&format!("write {meant}")), "{wrong}: {}", refused(wrong));
        }
        for wrong in ["", "shop.example", "null", "ftp://shop.example", "https://", "https://a.example,", "https://*.shop.example:x"] {
            assert!(refused(wrong).contains("is no origin"), "{wrong}: {}", refused(wrong));
        }
    }

    #[test]
    fn all_origins_are_allowed_by_a_star_alone() {
        assert_eq!(Origins::parse("*"), Ok(Origins(None)));
        assert!(refused("https://shop.example,*").contains("stands alone"));
        let many = |count: usize| (0..count).map(|n| format!("https://shop-{n}.example")).collect::<Vec<_>>().join(",");
        assert!(Origins::parse(&many(MAX_ORIGINS)).is_ok());
        assert!(refused(&many(MAX_ORIGINS + 1)).contains("at most 32"));
    }
}
