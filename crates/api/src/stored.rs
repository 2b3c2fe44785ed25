//! What is built into the program and served as it is: pages, scripts, the OpenAPI document.

use crate::input::conditions;
use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes that are the same for as long as the process runs.
pub(crate) struct Stored {
    content_type: &'static str,
    body: Bytes,
    /// A strong tag, in quotes.
    tag: String,
}

impl Stored {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { content_type, tag: format!("\"{:016x}\"", hasher.finish()), body }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// 200, or 304 for who has it.
    pub(crate) fn answer(&self, request: &HttpRequest, cache_control: &'static str) -> HttpResponse {
        let mut response = if conditions::none_match(request, &self.tag) {
            HttpResponse::NotModified().finish()
        } else {
            HttpResponse::Ok().content_type(self.content_type).body(self.body.clone())
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, HeaderValue::try_from(self.tag.as_str()).expect("hexadecimal digits in quotes"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
