//! GET `/v1/admin/stream`: the history, and then each second what came to it, as `text/event-stream`.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use super::history::History;
use crate::error::ApiError;
use crate::input::query;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::convert::Infallible;

/// Consoles that may be open on one API, so that those who forgot to close theirs leave connections for probes and scrapes.
const MOST_STREAMS: usize = 32;

/// Goes on until the client leaves or the process ends. One that reads slowly misses seconds and is never behind.
pub(crate) async fn stream(request: HttpRequest, history: Data<History>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    if history.listeners() >= MOST_STREAMS {
        return Err(ApiError::TooManyStreams { most: MOST_STREAMS });
    }
    let (before, later) = history.listen();
    let events = stream::unfold((Some(before), later), |(before, mut later)| async {
        if let Some(before) = before {
            return Some((Ok::<Bytes, Infallible>(before), (None, later)));
        }
        later.changed().await.ok()?;
        let newest = later.borrow_and_update().clone();
        Some((Ok(newest), (None, later)))
    });
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(events))
}
