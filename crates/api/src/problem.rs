//! Every way in which a request can fail, as the client meets it: slug, status, title, cause, remedy.
//!
//! One table serves the answers (`type`, `title`, `status`) and the pages at `/problems/{slug}`. A slug,
//! once published, keeps its meaning.

use crate::input::fields::Fault;
use crate::routes::StockBody;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use domain::Money;
use domain::stock::ReservationState;
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// One type of problem (RFC 9457).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProblemType {
    pub(crate) slug: &'static str,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) remedy: &'static str,
}

macro_rules! problem_types {
    ($($name:ident = $slug:literal, $status:literal, $title:literal, $cause:literal, $remedy:literal;)*) => {
        $(pub(crate) static $name: ProblemType =
            ProblemType { slug: $slug, status: $status, title: $title, cause: $cause, remedy: $remedy };)*
        /// Every type, in the order of its status.
        pub(crate) static ALL: &[&ProblemType] = &[$(&$name),*];
    };
}

problem_types! {
    BAD_REQUEST = "bad-request", 400, "The request cannot be understood",
        "The request is not one that this server reads.",
        "Compare it with the documentation of the route.";
    INVALID_ID = "invalid-id", 400, "The id in the path is not valid",
        "A product id is a whole number from 1 to 9007199254740991, written in digits; that of a reservation is a UUID.",
        "Use the id that the product read, or the answer to the reservation, shows. A SKU is asked for with /v1/products?skus=.";
    INVALID_QUERY = "invalid-query", 400, "The query string is not valid",
        "A query parameter is unknown, given twice, missing, or has a value that it cannot have.",
        "Compare the names and values with those of the route; the detail names the parameter.";
    MALFORMED_JSON = "malformed-json", 400, "The body is not valid JSON",
        "The body does not parse as JSON in UTF-8, or an object in it has the same key twice.",
        "Send one JSON object in UTF-8; the detail says where reading stopped.";
    INCOMPLETE_BODY = "incomplete-body", 400, "The body ended early",
        "The connection or the encoding broke before the whole body had arrived. Nothing was changed.",
        "Send the request again, with a Content-Length that is that of the body.";
    INVALID_HEADER = "invalid-header", 400, "A header cannot be read",
        "A header that the route acts upon does not have its form, or is given twice.",
        "The detail names the header and says how it is written.";
    MISSING_IDEMPOTENCY_KEY = "missing-idempotency-key", 400, "An Idempotency-Key is required",
        "Sent twice, as after an answer that was lost, this request would do twice what was meant once. Nothing was changed.",
        "Make a key for each new request, such as a random UUID, and send the same one when you repeat it.";
    NOT_SUPPORTED = "not-supported", 400, "This is not supported yet",
        "The request uses a header or a form that this version does not act upon. Ignoring it would promise what is not kept.",
        "Leave out what the detail names.";
    MISSING_TOKEN = "missing-token", 401, "A token is required",
        "The request has no Authorization header with a bearer token.",
        "Send the token that the operator gave you as Authorization: Bearer; a view may have a publishable one as ?k=.";
    INVALID_TOKEN = "invalid-token", 401, "The token is not valid here",
        "The token is not known, was withdrawn, or stands in the URL without being publishable.",
        "Ask the operator for a token; inventoryctl token new makes one.";
    MISSING_SCOPE = "missing-scope", 403, "The token lacks a scope",
        "The token is known, but may not do this. The detail names the scope that is missing.",
        "Use another token, or have the operator add the scope to this one in the tokens file.";
    FOREIGN_ORIGIN = "foreign-origin", 403, "Pages of other origins may not do this",
        "A web page of another origin sent the request to an admin route of the ops listener.",
        "Use inventoryctl, or another client that is no browser.";
    UNKNOWN_PRODUCT = "unknown-product", 404, "There is no such product",
        "No product has this id, or it was deleted.",
        "Look the product up by its SKU with /v1/products?skus=.";
    UNKNOWN_RESERVATION = "unknown-reservation", 404, "There is no such reservation",
        "No reservation has this id, or it ended long ago and was forgotten.",
        "Use the id that was answered when the reservation was made.";
    NO_PRICE = "no-price", 404, "The product has no price yet",
        "The product exists, but no price was set.",
        "Set one with PUT on the same path.";
    UNKNOWN_ROUTE = "unknown-route", 404, "There is nothing at this path",
        "The path is not one of the API's routes.",
        "Check the spelling; paths have no slash at their end and begin with /v1/, and /docs shows all of them. \
         Console, metrics, health and admin routes are on the ops listener.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "This path does not have that method",
        "The path exists, but not with the method of the request.",
        "Use one of the methods in the Allow header.";
    SLOW_BODY = "slow-body", 408, "The body took too long to arrive",
        "The server waited for the rest of the body until its time limit. Nothing was changed.",
        "Send the request again.";
    DUPLICATE_SKU = "duplicate-sku", 409, "Another product has this SKU",
        "A SKU belongs to one product; upper and lower case differ.",
        "Choose another SKU, or change the product that has it.";
    INSUFFICIENT_STOCK = "insufficient-stock", 409, "There is not enough in stock",
        "Less is available than was asked for; shortages lists every product that lacks. Nothing was changed or reserved.",
        "Ask for at most what is available, or leave the product out. What others hold and do not buy comes back when their time is over.";
    BELOW_RESERVED = "below-reserved", 409, "More is reserved than was counted",
        "Reservations hold more pieces than the count says are there. Nothing was changed.",
        "Count again; if the pieces are gone, release reservations that hold them, or wait until they expire, and send the count again.";
    RESERVATION_NOT_ACTIVE = "reservation-not-active", 409, "The reservation has ended",
        "It was committed, released or has expired, as state says, and cannot become something else. Nothing was changed.",
        "If the pieces are still wanted, make a new reservation; what was sold comes back by an adjustment.";
    REQUEST_IN_PROGRESS = "request-in-progress", 409, "A request with the same key is still under way",
        "The first request with this Idempotency-Key, or another write of its product, has not ended. This one did nothing.",
        "Send the request again, with the same key, after the time in Retry-After.";
    CHECK_RUNNING = "check-running", 409, "A check is running already",
        "A process of the API runs one check at a time, because each reads from both stores.",
        "Send the request again after the time in Retry-After, or read what the last check found with GET on the same path.";
    QUEUE_PAUSED = "queue-paused", 409, "The queue is paused",
        "An operator holds the queue of views, so that nothing may add views to MySQL. The detail says who, since when and why.",
        "Resume the queue with inventoryctl queue resume, or wait until its operator does, and send the request again.";
    PRECONDITION_FAILED = "precondition-failed", 412, "What is there is no longer what was expected",
        "If-Match names versions of which none is that of the price or stock now. Another has changed it, or there is no price yet \
         for *. Nothing was changed.",
        "Look at current in the answer; if the change is still wanted, send the request again with If-Match naming that version.";
    BODY_TOO_LARGE = "body-too-large", 413, "The body is too large",
        "The body is longer than the route accepts: 64 KiB for views, 8 MiB for a batch of prices, 1 MiB elsewhere.",
        "Split the request into several.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "The body has a form that is not read here",
        "The Content-Type is not one that the route reads, or the body is compressed.",
        "Send application/json in UTF-8 without Content-Encoding; the view routes read text/plain too, a batch of prices may be text/csv.";
    WRONG_HOST = "wrong-host", 421, "The request was meant for another host",
        "The Host header of a request to an admin route names neither the ops listener nor an address of it.",
        "Call the listener by its address and port, as the detail shows.";
    VALIDATION_FAILED = "validation-failed", 422, "The body has faults",
        "The body can be read, but fields are missing, unknown, of the wrong type or out of their range, or rows of a batch name \
         products or versions that are not there. Nothing was changed.",
        "Mend every fault in errors; each names its field by a JSON pointer.";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", 422, "The key belongs to another request",
        "Within 24 hours this Idempotency-Key came with another path, query or body on the same route. Nothing was changed.",
        "Give each request a key of its own, such as a random UUID, and send the same bytes when you repeat it.";
    PRECONDITION_REQUIRED = "precondition-required", 428, "The request must say what it replaces",
        "A count that overwrites what somebody else has changed meanwhile would undo it unseen, so If-Match is required. Nothing was changed.",
        "Send If-Match with the ETag of the stock as you read it, or * to replace whatever is there.";
    INTERNAL_ERROR = "internal-error", 500, "Something went wrong in the server",
        "A fault of the server or of its set-up; its log has it under the request id.",
        "Tell the operator the request id. Sending the request again will probably not help.";
    UNREADY = "unready", 503, "The process is not ready",
        "The ops listener's /readyz says so while the process starts, ends, or reaches neither store.",
        "Look at /readyz?verbose; it names what is awaited. Send requests to another instance meanwhile.";
    STARTING = "starting", 503, "The server is starting",
        "The server has not reached its stores since it started. Nothing was changed.",
        "Send the request again after the time in Retry-After.";
    UNAVAILABLE = "unavailable", 503, "A store is away",
        "MySQL or Redis does not answer, and this request needs it. Nothing was changed.",
        "Send the request again after the time in Retry-After.";
    OVER_CAPACITY = "over-capacity", 503, "The view queue is full",
        "As many views wait for MySQL as the queue may hold. This one was not counted.",
        "Send it again after the time in Retry-After; the queue drains as soon as MySQL keeps up.";
    TOO_MANY_STREAMS = "too-many-streams", 503, "Too many consoles are open",
        "Each open console holds a connection of the ops listener, of which there are few.",
        "Close consoles that nobody looks at, or open this one on another API.";
    NOT_FLUSHED = "not-flushed", 503, "Not all views are in MySQL yet",
        "Views that were accepted before the flush were still waiting when its time was over. They are not lost.",
        "The detail names what stands in the way. Mend that, or give the flush more time with ?wait=.";
    TIMED_OUT = "timed-out", 503, "The answer took too long",
        "A read was not finished within the server's time limit.",
        "Send the request again after the time in Retry-After.";
    OUTCOME_UNKNOWN = "outcome-unknown", 503, "It is not known whether this was done",
        "The answer of a store was lost. The change was made once, or will be, or never.",
        "Send it again: with its Idempotency-Key it is done once and answered as it was, and an event with an id counts once. Without \
         them read the product first; a price may simply be set again.";
}

impl ProblemType {
    /// The type for a refusal that did not come from this crate's code, such as one of the framework's.
    pub(crate) fn for_status(status: StatusCode) -> &'static Self {
        match status.as_u16() {
            404 => &UNKNOWN_ROUTE,
            405 => &METHOD_NOT_ALLOWED,
            408 => &SLOW_BODY,
            413 => &BODY_TOO_LARGE,
            415 => &UNSUPPORTED_MEDIA_TYPE,
            422 => &VALIDATION_FAILED,
            503 => &UNAVAILABLE,
            400..=499 => &BAD_REQUEST,
            _ => &INTERNAL_ERROR,
        }
    }

    pub(crate) fn find(slug: &str) -> Option<&'static Self> {
        ALL.iter().find(|kind| kind.slug == slug).copied()
    }
}

/// What went wrong with one request. Travels in the response's extensions until the outermost layer,
/// which alone knows path and request id, writes the body.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: &'static ProblemType,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) more: More,
    /// For the log alone; may name hosts, statements and keys.
    pub(crate) source: Option<String>,
}

/// Why a request was refused (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body<'a> {
    /// A page that gives cause and remedy.
    #[schema(format = "uri-reference")]
    r#type: String,
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    /// As in the header `X-Request-Id`; the server's log has it too.
    request_id: &'a str,
    /// Every fault of the body.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    #[schema(value_type = Vec<Fault>, required = false)]
    errors: &'a [Fault],
    #[serde(flatten)]
    more: &'a More,
}

/// What some types of problem say beside their detail.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ProblemExtensions)]
pub(crate) struct More {
    /// What is there instead of what was expected: of `precondition-failed` and `below-reserved` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub(crate) current: Option<Current>,
    /// Every product of which there is too little: of `insufficient-stock` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) shortages: Vec<Shortage>,
    /// In which the reservation has ended: of `reservation-not-active` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::routes::ReservationState>, required = false, nullable = false)]
    pub(crate) state: Option<ReservationState>,
}

/// The price or the stock as it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Current {
    Price(CurrentPrice),
    Stock(StockBody),
}

/// The price as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CurrentPrice {
    /// Of the product; what `If-Match` is compared with.
    version: u64,
    /// Null until one was set.
    #[schema(value_type = Option<crate::routes::Price>, required)]
    price: Option<Money>,
}

/// A product of which there is too little.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Shortage {
    product_id: u64,
    requested: u64,
    available: u64,
}

impl From<catalog::Current> for Current {
    fn from(current: catalog::Current) -> Self {
        Self::Price(CurrentPrice { version: current.version, price: current.price })
    }
}

impl From<&stock::Shortage> for Shortage {
    fn from(short: &stock::Shortage) -> Self {
        Self { product_id: short.product.get(), requested: short.requested, available: short.available }
    }
}

impl Problem {
    pub(crate) fn of_type(kind: &'static ProblemType) -> Self {
        Self { kind, detail: Cow::Borrowed(kind.cause), faults: Vec::new(), more: More::default(), source: None }
    }

    /// The body of the answer.
    pub(crate) fn body(&self, request: &HttpRequest, status: StatusCode, request_id: &str) -> Vec<u8> {
        let body = Body {
            r#type: path(self.kind),
            title: self.kind.title,
            status: status.as_u16(),
            detail: &self.detail,
            instance: request.path(),
            request_id,
            errors: &self.faults,
            more: &self.more,
        };
        serde_json::to_vec(&body).expect("a struct of texts and numbers always serialises")
    }
}

/// Where the page of a type is.
pub(crate) fn path(kind: &ProblemType) -> String {
    format!("/problems/{}", kind.slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_fit_into_a_path() {
        for (n, kind) in ALL.iter().enumerate() {
            assert!(kind.slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", kind.slug);
            assert!(!ALL[..n].iter().any(|other| other.slug == kind.slug), "{}", kind.slug);
            assert!(StatusCode::from_u16(kind.status).is_ok_and(|status| status.as_u16() >= 400), "{}", kind.slug);
        }
    }
}
