//! The key under which a write is done once.

use crate::access;
use crate::error::ApiError;
use actix_web::HttpRequest;
use catalog::Key;
use sha2::{Digest, Sha256};

/// What the column holds.
const MAX_KEY_CHARS: usize = 255;

/// The `Idempotency-Key` of a request, if it has one. `route` is its method and template, within which a token's keys are
/// told apart. The same request again is the same method, path, query and body, byte by byte; conditions do not belong to
/// it, because a repeated write is not judged again.
///
/// # Errors
/// [`ApiError::InvalidHeader`]
pub(crate) fn key(request: &HttpRequest, route: &'static str, body: &[u8]) -> Result<Option<Key>, ApiError> {
    let mut given = request.headers().get_all("idempotency-key");
    let Some(key) = given.next() else { return Ok(None) };
    let key = key.to_str().unwrap_or_default();
    let fits = (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits || given.next().is_some() {
        return Err(ApiError::InvalidHeader("Idempotency-Key must be there once, with 1 to 255 visible ASCII characters and no spaces"));
    }
    let token = access::caller(request).map(|name| name.to_string()).unwrap_or_default();
    Ok(Some(Key { token, route, key: key.to_owned(), request: digest(request, body) }))
}

/// The same where a request may not come without: done twice it would be something else than done once.
///
/// # Errors
/// [`ApiError::MissingKey`]; otherwise as [`key`].
pub(crate) fn required_key(request: &HttpRequest, route: &'static str, body: &[u8]) -> Result<Key, ApiError> {
    key(request, route, body)?.ok_or(ApiError::MissingKey)
}

/// Each part with its length, so that none can pass for the end of another.
fn digest(request: &HttpRequest, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [request.method().as_str().as_bytes(), request.path().as_bytes(), request.query_string().as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn read(keys: &[&str]) -> Result<Option<Key>, ApiError> {
        let request = keys.iter().fold(TestRequest::put(), |request, key| request.append_header(("Idempotency-Key", *key)));
        key(&request.to_http_request(), "PUT /", b"")
    }

    #[test]
    fn a_key_is_visible_ascii_and_given_once() {
        assert_eq!(read(&[]).unwrap(), None);
        for good in ["k", "\"8e03978e-40d5\"", "~!", &"x".repeat(255)] {
            assert_eq!(read(&[good]).unwrap().unwrap().key, good);
        }
        for bad in [&["a b"][..], &["\u{e9}"], &["a\tb"], &[""], &["a", "a"], &[&"x".repeat(256)]] {
            assert!(matches!(read(bad), Err(ApiError::InvalidHeader(_))), "{bad:?}");
        }
    }

    #[test]
    fn requests_are_the_same_if_method_path_query_and_body_are() {
        let of = |request: TestRequest, body: &[u8]| digest(&request.to_http_request(), body);
        let put = |uri: &str| TestRequest::put().uri(uri);
        let first = of(put("/v1/a?b"), b"c");
        assert_eq!(first, of(put("/v1/a?b").insert_header(("If-Match", "*")), b"c"));
        for (request, body) in [
            (TestRequest::post().uri("/v1/a?b"), "c"),
            (put("/v1/ab"), "c"),
            (put("/v1/a?"), "bc"),
            (put("/v1/a?bc"), ""),
            (put("/v1/a?b"), "c "),
        ] {
            assert_ne!(first, of(request, body.as_bytes()), "{body}");
        }
    }
}
