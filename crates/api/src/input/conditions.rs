//! Entity tags and the headers that make a request conditional.

use crate::error::ApiError;
use actix_web::HttpRequest;
use actix_web::http::header::{IF_MATCH, IF_NONE_MATCH};

/// Whether `If-None-Match` names the tag, so that 304 is the answer. `tag` is quoted, with or without `W/`:
/// the header is compared weakly (RFC 9110 §13.1.2).
pub(crate) fn none_match(request: &HttpRequest, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let mut given = request.headers().get_all(IF_NONE_MATCH).peekable();
    if given.peek().is_none() {
        return false;
    }
    let tag = opaque(tag);
    given.any(|header| {
        // Our tags have no comma, so a tag that is cut at one cannot equal ours.
        let list = header.to_str().unwrap_or_default();
        list.split(',').map(str::trim).any(|candidate| candidate == "*" || opaque(candidate) == tag)
    })
}

/// Refuses the headers whose promise this version does not keep. Were they ignored, a client that asked
/// for "only if unchanged" or "only once" would be told 200 for something else.
///
/// # Errors
/// [`ApiError::NotSupported`] for `If-Match` and `Idempotency-Key`.
pub(crate) fn refuse_unsupported(request: &HttpRequest) -> Result<(), ApiError> {
    if request.headers().contains_key(IF_MATCH) {
        return Err(ApiError::NotSupported("If-Match is not supported on this route yet"));
    }
    refuse_idempotency_key(
        request,
        "Idempotency-Key is not supported yet; setting the same price again changes nothing, a second product needs another SKU",
    )
}

/// # Errors
/// [`ApiError::NotSupported`] with that detail if the request has a key.
pub(crate) fn refuse_idempotency_key(request: &HttpRequest, detail: &'static str) -> Result<(), ApiError> {
    if request.headers().contains_key("idempotency-key") {
        return Err(ApiError::NotSupported(detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn matches(header: &str) -> bool {
        let request = TestRequest::get().insert_header((IF_NONE_MATCH, header)).to_http_request();
        none_match(&request, "W/\"7.118.10342\"")
    }

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        for header in ["W/\"7.118.10342\"", "\"7.118.10342\"", "*", "\"x\", W/\"7.118.10342\"", "\"a,b\",W/\"7.118.10342\" "] {
            assert!(matches(header), "{header}");
        }
        for header in ["", "W/\"7.118.10343\"", "7.118.10342", "w/\"7.118.10342\"", "\"7\""] {
            assert!(!matches(header), "{header}");
        }
        assert!(!none_match(&TestRequest::get().to_http_request(), "\"7\""));
    }
}
