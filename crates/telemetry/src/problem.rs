//! Refusals of the ops listener, in the form of all others: `application/problem+json` (RFC 9457) with the request's id.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse};
use serde_json::{Value, json};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Longer ones are replaced by our own.
const REQUEST_ID_LIMIT_BYTES: usize = 128;

#[derive(Clone)]
struct RequestId(HeaderValue);

/// Accepts or makes the request id, and marks every answer with it and as not to be stored.
pub(crate) async fn mark_answers(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = accepted_id(&request).unwrap_or_else(new_id);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut answer = next.call(request).await?;
    let headers = answer.headers_mut();
    headers.insert(REQUEST_ID, id);
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, NO_STORE);
    }
    Ok(answer)
}

fn accepted_id(request: &ServiceRequest) -> Option<HeaderValue> {
    let id = request.headers().get(REQUEST_ID)?;
    let printable = id.as_bytes().iter().all(u8::is_ascii_graphic);
    (printable && (1..=REQUEST_ID_LIMIT_BYTES).contains(&id.len())).then(|| id.clone())
}

fn new_id() -> HeaderValue {
    let id = Uuid::new_v4().to_string();
    HeaderValue::from_str(&id).expect("hex digits and dashes are valid in a header")
}

/// A problem of the type `/problems/<slug>`.
pub struct Problem {
    pub slug: &'static str,
    pub title: &'static str,
    pub status: StatusCode,
    pub detail: String,
}

impl Problem {
    /// `members` is an object; those that every problem has are added to it.
    pub fn answer(self, request: &HttpRequest, mut members: Value) -> HttpResponse {
        let extensions = request.extensions();
        let id = extensions.get::<RequestId>().and_then(|id| id.0.to_str().ok());
        members["type"] = json!(format!("/problems/{}", self.slug));
        members["title"] = json!(self.title);
        members["status"] = json!(self.status.as_u16());
        members["detail"] = json!(self.detail);
        members["instance"] = json!(request.path());
        members["request_id"] = json!(id);
        HttpResponse::build(self.status).content_type("application/problem+json").body(members.to_string())
    }
}
