//! Request ids: the client's own if it is usable, otherwise one that costs next to nothing.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use std::cell::Cell;

/// Longest id that is taken from a client.
const MAX_BYTES: usize = 128;

/// Makes ids of one thread: random digits, then a number that rises by one.
pub(crate) struct RequestIds {
    prefix: String,
    last: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { prefix: format!("{:016x}-", fastrand::u64(..)), last: Cell::new(0) }
    }

    /// The request's `X-Request-Id` if it has 1 to 128 visible ASCII characters, else a new one.
    pub(crate) fn of(&self, request: &HttpRequest) -> HeaderValue {
        let given = request.headers().get("x-request-id");
        let usable = |id: &&HeaderValue| (1..=MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
        given.filter(usable).cloned().unwrap_or_else(|| self.next())
    }

    fn next(&self) -> HeaderValue {
        let number = self.last.get() + 1;
        self.last.set(number);
        let mut digits = itoa::Buffer::new();
        HeaderValue::try_from([&self.prefix, digits.format(number)].concat()).expect("digits and a dash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_usable_id_is_kept_and_others_are_replaced() {
        let ids = RequestIds::new();
        let of = |id: &str| ids.of(&TestRequest::get().insert_header(("x-request-id", id)).to_http_request());
        assert_eq!(of("abc-1"), "abc-1");
        assert_eq!(of(&"x".repeat(128)), "x".repeat(128));
        for id in ["", "a b", "é", &"x".repeat(129)] {
            assert_ne!(of(id), id);
        }
        assert_ne!(of(""), of(""));
    }
}
