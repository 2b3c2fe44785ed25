//! Why a request was refused. Each variant says when to use it and what the client is told.
//!
//! `Display` is the public detail. What must stay private (hosts, statements, keys) goes into a [`Source`],
//! which only the log shows, once.

use crate::ingest::Refused;
use crate::input::fields::Fault;
use crate::problem::{self, Current, More, Problem, ProblemType};
use crate::routes::StockBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use domain::stock::{Level, ReservationState};
use domain::{ProductId, Sku};
use storage::flush::Unfinished;
use storage::mysql::pause::Paused;
use telemetry::tokens::Denied;
use uuid::Uuid;

/// A private cause.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// 400: the `{id}` of the path is no product id.
    #[error("the id in the path must be a whole number from 1 to {}", ProductId::MAX)]
    InvalidId,
    /// 400: a query parameter is unknown, repeated, missing or has an impossible value.
    #[error("{0}")]
    InvalidQuery(String),
    /// 400: the body is not JSON, or not UTF-8.
    #[error("{0}")]
    MalformedJson(String),
    /// 400: the connection or its encoding broke inside the body.
    #[error("the body ended before it was complete")]
    IncompleteBody,
    /// 400: a header that is acted upon does not have its form.
    #[error("{0}")]
    InvalidHeader(&'static str),
    /// 400: the `{id}` of the path is that of no reservation.
    #[error("the id in the path must be the UUID of a reservation")]
    InvalidReservationId,
    /// 400: a write that may not come without a key.
    #[error("this request must have an Idempotency-Key, so that it is done once however often it is sent")]
    MissingKey,
    /// 400: something that will be acted upon one day and must not be ignored until then.
    #[error("{0}")]
    NotSupported(&'static str),
    /// 401 or 403: the token is missing, not valid here, or lacks the route's scope.
    #[error("{0}")]
    Denied(Denied),
    /// 404: no product has this id, or it was deleted.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// 404: of these products, all listed, there are none.
    #[error("{}", count_unknown(.0))]
    UnknownProducts(Vec<Fault>),
    /// 404: no reservation has this id.
    #[error("there is no reservation {0}")]
    UnknownReservation(Uuid),
    /// 404: the product has no price yet.
    #[error("product {0} has no price yet")]
    NoPrice(ProductId),
    /// 404: no route matches the path.
    #[error("there is nothing at this path")]
    UnknownRoute,
    /// 405: the path exists without this method; the value is the `Allow` header.
    #[error("this path has only {}", allow.to_str().unwrap_or_default())]
    MethodNotAllowed { allow: HeaderValue },
    /// 408: the body did not arrive within the request's time limit.
    #[error("the body did not arrive in time")]
    SlowBody,
    /// 409: another product has the SKU.
    #[error("another product has the SKU {0}")]
    DuplicateSku(Sku),
    /// 409: not enough is available of these products, all listed.
    #[error("{}", count_short(.0))]
    Insufficient(Vec<stock::Shortage>),
    /// 409: a count below what is reserved.
    #[error("{} pieces of product {id} are reserved, so that no fewer can be on hand", level.reserved)]
    BelowReserved { id: ProductId, level: Level },
    /// 409: the reservation has ended in this state.
    #[error("the reservation is {0}")]
    NotActive(ReservationState),
    /// 409: a request with the same key is under way, so that its outcome cannot be told yet.
    #[error("a request with this Idempotency-Key, or another write of its product, is still under way: send it again, with the same key")]
    InProgress,
    /// 409: a process runs one check at a time.
    #[error("a check is running already")]
    CheckRunning,
    /// 409: an operator holds the drain, and with it whatever adds views to MySQL.
    #[error("the queue is {hold}; {}", count_replayed(.replayed))]
    QueuePaused { hold: Paused, replayed: u64 },
    /// 412: `If-Match` does not name the version that is there.
    #[error("the product is at version {}{}", .0.version, if .0.price.is_none() { " and has no price yet" } else { ", which If-Match does not name" })]
    PreconditionFailed(catalog::Current),
    /// 412: the same for stock.
    #[error("the stock of product {id} is at version {}, which If-Match does not name", level.version)]
    StockChanged { id: ProductId, level: Level },
    /// 413: the body is longer than the route accepts.
    #[error("the body may have at most {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    /// 415: a content type or encoding that the route does not read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// 422: the key was used for another request.
    #[error("this Idempotency-Key was used for a request with another path, query or body")]
    KeyReused,
    /// 422: JSON that has faults, all of them listed.
    #[error("{}", count_faults(.0))]
    Invalid(Vec<Fault>),
    /// 428: a count without `If-Match`.
    #[error("a count must say with If-Match which stock it replaces")]
    PreconditionRequired,
    /// 500: ours to mend.
    #[error("something went wrong in the server")]
    Internal(#[source] Source),
    /// 503: no store was reached yet since the process started.
    #[error("the server is starting and has not reached its stores yet")]
    Starting,
    /// 503: a store that this request needs is away; nothing was changed.
    #[error("a store that this request needs is away; nothing was changed")]
    Unavailable(#[source] Source),
    /// 503: as many consoles are open as may be.
    #[error("{most} consoles are open on this API, which is as many as may be")]
    TooManyStreams { most: usize },
    /// 503: the view queue is at its capacity; the view was not counted.
    #[error("the view queue is full; nothing was counted")]
    OverCapacity,
    /// 503: not all that was accepted came to MySQL within the time that a flush was given.
    #[error("{0}")]
    NotFlushed(Box<Unfinished>),
    /// 503: a read took longer than the request's time limit.
    #[error("the answer took too long")]
    TimedOut,
    /// 503: the change was sent and not confirmed.
    #[error("it is not known whether the change was made: it was made once, will be, or never")]
    OutcomeUnknown(#[source] Source),
}

impl ApiError {
    pub(crate) fn kind(&self) -> &'static ProblemType {
        match self {
            Self::InvalidId | Self::InvalidReservationId => &problem::INVALID_ID,
            Self::InvalidQuery(_) => &problem::INVALID_QUERY,
            Self::MalformedJson(_) => &problem::MALFORMED_JSON,
            Self::IncompleteBody => &problem::INCOMPLETE_BODY,
            Self::InvalidHeader(_) => &problem::INVALID_HEADER,
            Self::MissingKey => &problem::MISSING_IDEMPOTENCY_KEY,
            Self::NotSupported(_) => &problem::NOT_SUPPORTED,
            Self::Denied(Denied::Missing) => &problem::MISSING_TOKEN,
            Self::Denied(Denied::Unknown | Denied::NotPublishable) => &problem::INVALID_TOKEN,
            Self::Denied(Denied::Lacks(_)) => &problem::MISSING_SCOPE,
            Self::UnknownProduct(_) | Self::UnknownProducts(_) => &problem::UNKNOWN_PRODUCT,
            Self::UnknownReservation(_) => &problem::UNKNOWN_RESERVATION,
            Self::NoPrice(_) => &problem::NO_PRICE,
            Self::UnknownRoute => &problem::UNKNOWN_ROUTE,
            Self::MethodNotAllowed { .. } => &problem::METHOD_NOT_ALLOWED,
            Self::SlowBody => &problem::SLOW_BODY,
            Self::DuplicateSku(_) => &problem::DUPLICATE_SKU,
            Self::Insufficient(_) => &problem::INSUFFICIENT_STOCK,
            Self::BelowReserved { .. } => &problem::BELOW_RESERVED,
            Self::NotActive(_) => &problem::RESERVATION_NOT_ACTIVE,
            Self::InProgress => &problem::REQUEST_IN_PROGRESS,
            Self::CheckRunning => &problem::CHECK_RUNNING,
            Self::QueuePaused { .. } => &problem::QUEUE_PAUSED,
            Self::PreconditionFailed(_) | Self::StockChanged { .. } => &problem::PRECONDITION_FAILED,
            Self::BodyTooLarge { .. } => &problem::BODY_TOO_LARGE,
            Self::UnsupportedMediaType(_) => &problem::UNSUPPORTED_MEDIA_TYPE,
            Self::KeyReused => &problem::IDEMPOTENCY_KEY_REUSED,
            Self::Invalid(_) => &problem::VALIDATION_FAILED,
            Self::PreconditionRequired => &problem::PRECONDITION_REQUIRED,
            Self::Internal(_) => &problem::INTERNAL_ERROR,
            Self::Starting => &problem::STARTING,
            Self::Unavailable(_) => &problem::UNAVAILABLE,
            Self::TooManyStreams { .. } => &problem::TOO_MANY_STREAMS,
            Self::OverCapacity => &problem::OVER_CAPACITY,
            Self::NotFlushed(_) => &problem::NOT_FLUSHED,
            Self::TimedOut => &problem::TIMED_OUT,
            Self::OutcomeUnknown(_) => &problem::OUTCOME_UNKNOWN,
        }
    }

    /// When to try again, in seconds. The queue drains in steps of its flush interval, so a little later there.
    fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::InProgress | Self::Starting | Self::Unavailable(_) | Self::TimedOut | Self::OutcomeUnknown(_) | Self::NotFlushed(_) => {
                Some(HeaderValue::from_static("1"))
            }
            Self::OverCapacity | Self::TooManyStreams { .. } | Self::CheckRunning => Some(HeaderValue::from_static("2")),
            _ => None,
        }
    }

    /// A failed call of the catalogue about a product.
    pub(crate) fn of_product(id: ProductId, error: catalog::Error) -> Self {
        match error {
            catalog::Error::NotFound => Self::UnknownProduct(id),
            other => other.into(),
        }
    }

    /// A view that was not counted.
    pub(crate) fn of_view(id: ProductId, refused: Refused) -> Self {
        match refused {
            Refused::NotFound => Self::UnknownProduct(id),
            Refused::OverCapacity => Self::OverCapacity,
            Refused::Unavailable => Self::Unavailable("the view queue is away".into()),
            Refused::Unknown => Self::OutcomeUnknown("a push of views was not confirmed".into()),
        }
    }
}

impl From<catalog::Error> for ApiError {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::DuplicateSku(sku) => Self::DuplicateSku(sku),
            catalog::Error::PreconditionFailed(current) => Self::PreconditionFailed(current),
            catalog::Error::KeyReused => Self::KeyReused,
            catalog::Error::InProgress => Self::InProgress,
            catalog::Error::Unavailable(error) => Self::Unavailable(Box::new(error)),
            catalog::Error::Unknown(error) => Self::OutcomeUnknown(Box::new(error)),
            error @ (catalog::Error::NotFound | catalog::Error::Internal(_)) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<stock::Error> for ApiError {
    /// Routes say of which product or reservation they speak; what reaches this is the same for all.
    fn from(error: stock::Error) -> Self {
        match error {
            stock::Error::Insufficient(short) => Self::Insufficient(short),
            stock::Error::NotActive(state) => Self::NotActive(state),
            stock::Error::KeyReused => Self::KeyReused,
            stock::Error::TooMuch => {
                let detail = format!("would bring the stock above {}", domain::stock::MOST_ON_HAND);
                Self::Invalid(vec![Fault { pointer: String::new(), detail }])
            }
            stock::Error::Unavailable(error) => Self::Unavailable(Box::new(error)),
            stock::Error::Unknown(error) => Self::OutcomeUnknown(Box::new(error)),
            error => Self::Internal(Box::new(error)),
        }
    }
}

fn count_faults(faults: &[Fault]) -> String {
    match faults.len() {
        1 => "the body has a fault".to_owned(),
        count => format!("the body has {count} faults"),
    }
}

fn count_unknown(faults: &[Fault]) -> String {
    match faults {
        [one] => one.detail.clone(),
        several => format!("{} of the products do not exist", several.len()),
    }
}

fn count_short(short: &[stock::Shortage]) -> String {
    match short {
        [one] => format!("{} of product {} were asked for, and {} are available", one.requested, one.product, one.available),
        several => format!("there is not enough of {} products", several.len()),
    }
}

fn count_replayed(letters: &u64) -> String {
    match letters {
        0 => "nothing was replayed".to_owned(),
        1 => "1 letter was replayed before, and no more".to_owned(),
        letters => format!("{letters} letters were replayed before, and no more"),
    }
}

/// The cause and the causes behind it, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind().status).expect("the table of problem types holds valid statuses")
    }

    /// Head only; the outermost layer writes the body from the attached [`Problem`].
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Self::MethodNotAllowed { allow } = self {
            response.headers_mut().insert(ALLOW, allow.clone());
        }
        if let Self::Denied(denied) = self {
            response.headers_mut().insert(WWW_AUTHENTICATE, denied.challenge());
        }
        let faults = if let Self::Invalid(faults) | Self::UnknownProducts(faults) = self { faults.clone() } else { Vec::new() };
        let mut more = More::default();
        match self {
            Self::PreconditionFailed(current) => more.current = Some((*current).into()),
            Self::StockChanged { id, level } | Self::BelowReserved { id, level } => {
                more.current = Some(Current::Stock(StockBody::of(*id, *level)));
            }
            Self::Insufficient(short) => more.shortages = short.iter().map(Into::into).collect(),
            Self::NotActive(state) => more.state = Some(*state),
            _ => {}
        }
        let source = Some(chain(self)).filter(|text| !text.is_empty());
        response.extensions_mut().insert(Problem { kind: self.kind(), detail: self.to_string().into(), faults, more, source });
        response
    }
}
