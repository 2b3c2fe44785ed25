//! `/docs`: the OpenAPI document as a page in which requests can be tried, without any network but this API's own.
//!
//! The files are built in, see `assets/README.md`. The page's policy lets it load and ask nothing but this server; the
//! bundle sets style attributes, so styles may be inline, and scripts may not.

use super::schemas::Known;
use crate::error::ApiError;
use crate::input::query;
use crate::stored::Stored;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse};
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::LazyLock;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For names that stand for one content for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub(super) const BUNDLE: &str = "rapidoc-9.3.8.min.js";

static PAGE: LazyLock<Stored> = LazyLock::new(|| Stored::new("text/html; charset=utf-8", include_str!("../../assets/docs.html")));

/// The bundle as it lies in the repository, a quarter of its length.
static PACKED: LazyLock<Stored> = LazyLock::new(|| Stored::new(JAVASCRIPT, PACKED_BUNDLE));

/// For clients that do not read gzip, unpacked when the first of them asks.
static PLAIN: LazyLock<Stored> = LazyLock::new(|| {
    let mut plain = Vec::new();
    GzDecoder::new(PACKED_BUNDLE).read_to_end(&mut plain).expect("a test unpacks the bundle");
    Stored::new(JAVASCRIPT, plain)
});

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
static PACKED_BUNDLE: &[u8] = include_bytes!("../../assets/rapidoc-9.3.8.min.js.gz");

/// The page
///
/// Shows this document, and lets one try requests. It loads nothing from elsewhere.
#[utoipa::path(
    get, path = "/docs", operation_id = "getDocs", tag = "documentation",
    params(Known),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html", headers(("ETag" = String))),
        (status = 304, description = "The client has it.", headers(("ETag" = String))),
    ),
)]
pub(crate) async fn page(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let mut response = PAGE.answer(&request, "no-cache");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// The script of the page
///
/// A name never changes its content, so an answer may be kept for a year.
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "getDocsFile", tag = "documentation",
    params(
        ("file" = String, Path, pattern = r"^rapidoc-[0-9]+\.[0-9]+\.[0-9]+\.min\.js$", example = "rapidoc-9.3.8.min.js"),
        Known,
    ),
    responses(
        (status = 200, description = "The script, packed for who accepts gzip.", body = String, content_type = "text/javascript",
            headers(("ETag" = String))),
        (status = 304, description = "The client has it.", headers(("ETag" = String))),
        (status = 404, description = "`unknown-route`"),
    ),
)]
pub(crate) async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    if super::part(&request, 2) != BUNDLE {
        return Err(ApiError::UnknownRoute);
    }
    let packed = accepts_gzip(&request);
    let mut response = if packed { &PACKED } else { &PLAIN }.answer(&request, FOR_EVER);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether gzip is named and not with a quality of zero. Who names nothing gets the script as it is.
fn accepts_gzip(request: &HttpRequest) -> bool {
    let given = request.headers().get_all(ACCEPT_ENCODING).filter_map(|header| header.to_str().ok());
    given.flat_map(|list| list.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|quality| quality.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_bundle_is_packed_for_who_accepts_it_and_can_be_unpacked() {
        for (header, packed) in [
            ("gzip, deflate, br", true),
            ("GZIP;q=0.5", true),
            ("gzip; q=0", false),
            ("gzip;q=0.000", false),
            ("identity", false),
            ("", false),
            ("xgzip", false),
        ] {
            let request = TestRequest::get().insert_header((ACCEPT_ENCODING, header)).to_http_request();
            assert_eq!(accepts_gzip(&request), packed, "{header}");
        }
        assert!(!accepts_gzip(&TestRequest::get().to_http_request()));
        assert!(PLAIN.len() > 3 * PACKED.len());
    }
}
