//! Request bodies: media type, length, time limit.
//!
//! Read by hand instead of with the framework's extractors, so that every refusal is one of ours and an
//! empty body costs nothing.

use super::json::Json;
use crate::error::ApiError;
use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{Stream, StreamExt};
use std::time::Duration;

/// Longest body of an ordinary request.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// Longest body of a view request: what browsers let `navigator.sendBeacon` carry.
pub(crate) const BEACON_LIMIT: usize = 64 * 1024;

/// Longest body of a request that writes many things at once.
pub(crate) const BULK_LIMIT: usize = 8 * 1024 * 1024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const CSV: &str = "text/csv";

/// A body of either form.
pub(crate) enum Bulk {
    Json(Json),
    Csv(Bytes),
}

/// A body that must be there: one JSON value as `application/json`.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(crate) async fn json(request: &HttpRequest, payload: Payload, time_limit: Duration) -> Result<Json, ApiError> {
    Json::parse(&json_bytes(request, payload, time_limit).await?)
}

/// The same before it is parsed, for requests whose bytes are compared.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(crate) async fn json_bytes(request: &HttpRequest, payload: Payload, time_limit: Duration) -> Result<Bytes, ApiError> {
    check_media_type(request, &[JSON])?;
    read(request, payload, BODY_LIMIT, time_limit).await
}

/// A body that must be there: one JSON value, or CSV as `text/csv`; up to [`BULK_LIMIT`]. And its bytes, which may be compared.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(crate) async fn bulk(request: &HttpRequest, payload: Payload, time_limit: Duration) -> Result<(Bytes, Bulk), ApiError> {
    check_media_type(request, &[JSON, CSV])?;
    let body = read(request, payload, BULK_LIMIT, time_limit).await?;
    let is_csv = check_media_type(request, &[CSV]).is_ok();
    let bulk = if is_csv { Bulk::Csv(body.clone()) } else { Bulk::Json(Json::parse(&body)?) };
    Ok((body, bulk))
}

/// A body as a browser's beacon sends it: JSON, also under the name `text/plain`, which needs no preflight.
/// `None` if it is empty, whatever its type is said to be.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(crate) async fn beacon(request: &HttpRequest, payload: Payload, time_limit: Duration) -> Result<Option<Json>, ApiError> {
    let body = read(request, payload, BEACON_LIMIT, time_limit).await?;
    if body.is_empty() {
        return Ok(None);
    }
    check_media_type(request, &[JSON, TEXT])?;
    Json::parse(&body).map(Some)
}

/// A body that may be left out: JSON as [`json`] reads it, or `None` if it is empty.
///
/// # Errors
/// 400, 408, 413 or 415.
pub(crate) async fn optional_json(request: &HttpRequest, payload: Payload, time_limit: Duration) -> Result<Option<Json>, ApiError> {
    let body = read(request, payload, BODY_LIMIT, time_limit).await?;
    if body.is_empty() {
        return Ok(None);
    }
    check_media_type(request, &[JSON])?;
    Json::parse(&body).map(Some)
}

async fn read(request: &HttpRequest, payload: Payload, limit: usize, time_limit: Duration) -> Result<Bytes, ApiError> {
    let announced = header(request, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::BodyTooLarge { limit_bytes: limit });
    }
    if announced == Some(0) {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(time_limit, collect(payload, limit)).await.map_err(|_| ApiError::SlowBody)?
}

async fn collect<E>(mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin, limit: usize) -> Result<Bytes, ApiError> {
    let mut next = async || pieces.next().await.transpose().map_err(|_| ApiError::IncompleteBody);
    let within = |length: usize| {
        if length > limit { Err(ApiError::BodyTooLarge { limit_bytes: limit }) } else { Ok(()) }
    };
    let Some(first) = next().await? else { return Ok(Bytes::new()) };
    within(first.len())?;
    // Most bodies come in one piece, which is then passed on without a copy.
    let Some(second) = next().await? else { return Ok(first) };
    let mut body = BytesMut::with_capacity(first.len() + second.len());
    body.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        within(body.len() + bytes.len())?;
        body.extend_from_slice(&bytes);
        piece = next().await?;
    }
    Ok(body.freeze())
}

fn check_media_type(request: &HttpRequest, accepted: &[&str]) -> Result<(), ApiError> {
    let refused = |what: String| Err(ApiError::UnsupportedMediaType(what));
    if header(request, &CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return refused("the body must not be compressed".into());
    }
    let Some(given) = header(request, &CONTENT_TYPE) else {
        return refused(format!("Content-Type must be {}, but is missing", accepted.join(" or ")));
    };
    let (essence, parameters) = given.split_once(';').unwrap_or((given, ""));
    if !accepted.iter().any(|accepted| essence.trim().eq_ignore_ascii_case(accepted)) {
        return refused(format!("Content-Type must be {}", accepted.join(" or ")));
    }
    match charset(parameters) {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => refused("the body must be UTF-8".into()),
        _ => Ok(()),
    }
}

fn charset(parameters: &str) -> Option<&str> {
    let mut pairs = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(value.trim().trim_matches('"'))
}

/// A header's value; text that is no visible ASCII counts as a value that nothing accepts.
fn header<'r>(request: &'r HttpRequest, name: &HeaderName) -> Option<&'r str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn accepts(content_type: &str) -> bool {
        let request = TestRequest::post().insert_header((CONTENT_TYPE, content_type)).to_http_request();
        check_media_type(&request, &[JSON]).is_ok()
    }

    #[test]
    fn json_is_read_in_utf_8_only() {
        for given in ["application/json", "Application/JSON ; charset=UTF-8", "application/json;charset=\"utf-8\"", "application/json; x=y"]
        {
            assert!(accepts(given), "{given}");
        }
        for given in
            ["", "text/plain", "application/jsonp", "application/json; charset=latin1", "application/x-www-form-urlencoded", "json"]
        {
            assert!(!accepts(given), "{given}");
        }
    }

    #[tokio::test]
    async fn the_limit_holds_for_pieces_whose_sum_nobody_announced() {
        let collect = async |pieces: &[Result<&'static str, ()>]| {
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.map(Bytes::from)).collect();
            collect(futures_util::stream::iter(pieces), 6).await
        };
        assert_eq!(collect(&[]).await.unwrap(), "");
        assert_eq!(collect(&[Ok("123456")]).await.unwrap(), "123456");
        assert_eq!(collect(&[Ok("12"), Ok("34"), Ok("56")]).await.unwrap(), "123456");
        let too_long: [&[_]; 3] = [&[Ok("1234567")], &[Ok("1234"), Ok("567")], &[Ok("12"), Ok("34"), Ok("567")]];
        for pieces in too_long {
            assert!(matches!(collect(pieces).await, Err(ApiError::BodyTooLarge { limit_bytes: 6 })), "{pieces:?}");
        }
        assert!(matches!(collect(&[Ok("12"), Err(())]).await, Err(ApiError::IncompleteBody)));
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let request = TestRequest::post().insert_header((CONTENT_TYPE, JSON)).insert_header((CONTENT_ENCODING, "gzip")).to_http_request();
        assert!(check_media_type(&request, &[JSON]).is_err());
    }
}
