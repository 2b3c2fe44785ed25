//! Answers to writes, in a form that can be kept and given again.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue, LOCATION};
use catalog::{Answer, Done};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// `answer` says what is answered to a write; one that was done before is answered as it was then.
pub(super) fn of<T>(done: Done<T>, answer: impl Fn(&T) -> Answer) -> HttpResponse {
    let (Answer { status, etag, location, body }, replayed) = match done {
        Done::Now(done) => (answer(&done), false),
        Done::Before(answer) => (answer, true),
    };
    let status = StatusCode::from_u16(status).expect("what is kept was answered once");
    let mut response = HttpResponse::build(status).content_type(super::JSON).body(body);
    for (name, value) in [(ETAG, etag), (LOCATION, location)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, HeaderValue::try_from(value).expect("what is kept was answered once"));
        }
    }
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
