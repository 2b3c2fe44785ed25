//! Stock and reservations as this program calls them.
//!
//! Promises that a change which was sent and not answered is sent again under the same key, for a bounded time, until it is
//! known what became of it. What never reached the API is not sent again.

use super::{ApiClient, Page, exit_of, problem, retry_after};
use crate::exit::{Exit, Failure};
use domain::ProductId;
use reqwest::header::IF_MATCH;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const KEY: &str = "Idempotency-Key";

/// How long an unanswered change is sent again: longer than a server needs to restart.
const PATIENCE: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Problems of a 503 that say that nothing was changed.
const NOT_DONE: [&str; 3] = ["unavailable", "starting", "unready"];

/// What the API said to a change.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// It was done before under the same key, and this was answered.
    pub(crate) replayed: bool,
    pub(crate) body: String,
}

impl Reply {
    /// The body of an answer that says that it was done.
    ///
    /// # Errors
    /// What it says instead.
    pub(crate) fn done(self) -> Result<String, Failure> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.refusal()) }
    }

    /// The refusal in its own words.
    pub(crate) fn refusal(&self) -> Failure {
        Failure::new(exit_of(self.status), problem(self.status, &self.body))
    }

    /// The problem document, or null.
    pub(crate) fn problem(&self) -> Value {
        if self.status.is_success() { Value::Null } else { serde_json::from_str(&self.body).unwrap_or_default() }
    }

    /// Whether it leaves open what became of the request; `before`: whether an earlier answer to it did.
    fn leaves_open(&self, before: bool) -> bool {
        let problem = self.problem();
        let slug = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or_default();
        match self.status {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => true,
            StatusCode::SERVICE_UNAVAILABLE => before || !NOT_DONE.contains(&slug),
            StatusCode::CONFLICT => slug == "request-in-progress",
            StatusCode::TOO_MANY_REQUESTS => before,
            _ => false,
        }
    }
}

/// A count to be set.
#[derive(Debug)]
pub(crate) struct Count<'a> {
    pub(crate) on_hand: u64,
    pub(crate) reason: Option<&'a str>,
    pub(crate) reference: Option<&'a str>,
    /// Replace this version alone; none: whatever is there.
    pub(crate) over: Option<u64>,
}

impl ApiClient {
    /// The stock of a product, word for word.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable.
    pub(crate) async fn stock(&self, id: ProductId) -> Result<String, Failure> {
        self.get(self.request(Method::GET, &format!("/v1/products/{id}/stock"))).await
    }

    /// A page of at most `limit` movements, the latest first.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable, or an answer of another form.
    pub(crate) async fn movements(&self, id: ProductId, limit: u64, cursor: Option<&str>) -> Result<Page, Failure> {
        self.page_of(&format!("/v1/products/{id}/stock/movements"), limit, cursor).await
    }

    /// PUTs a count, under a key of its own.
    ///
    /// # Errors
    /// Unreachable, or what became of it stayed unknown; a refusal is a reply.
    pub(crate) async fn set_stock(&self, id: ProductId, count: &Count<'_>) -> Result<Reply, Failure> {
        let over = count.over.map_or_else(|| "*".to_owned(), |version| format!("\"{version}\""));
        let body = json!({"on_hand": count.on_hand, "reason": count.reason, "reference": count.reference});
        let request = self.request(Method::PUT, &format!("/v1/products/{id}/stock")).json(&without_nulls(body));
        let request = request.header(IF_MATCH, over).header(KEY, Uuid::new_v4().to_string());
        self.settled(request, "look at it with `inventoryctl stock get`").await
    }

    /// POSTs an adjustment under a key.
    ///
    /// # Errors
    /// As [`Self::set_stock`].
    pub(crate) async fn adjust_stock(&self, id: ProductId, body: Value, key: &str) -> Result<Reply, Failure> {
        let request = self.request(Method::POST, &format!("/v1/products/{id}/stock/adjustments")).json(&without_nulls(body));
        self.settled(request.header(KEY, key), &same_key(key)).await
    }

    /// POSTs a reservation under a key.
    ///
    /// # Errors
    /// As [`Self::set_stock`].
    pub(crate) async fn reserve(&self, body: Value, key: &str) -> Result<Reply, Failure> {
        let request = self.request(Method::POST, "/v1/reservations").json(&without_nulls(body));
        self.settled(request.header(KEY, key), &same_key(key)).await
    }

    /// A reservation, word for word.
    ///
    /// # Errors
    /// No such reservation, not allowed, unreachable.
    pub(crate) async fn reservation(&self, id: Uuid) -> Result<String, Failure> {
        self.get(self.request(Method::GET, &format!("/v1/reservations/{id}"))).await
    }

    /// Commits or releases a reservation; a repeat is answered the same.
    ///
    /// # Errors
    /// As [`Self::set_stock`].
    pub(crate) async fn end_reservation(&self, id: Uuid, verb: &str) -> Result<Reply, Failure> {
        let request = self.request(Method::POST, &format!("/v1/reservations/{id}/{verb}"));
        self.settled(request, "it is safe to run it again").await
    }

    /// Sends a change until it is known what became of it; `cure` is what to do where that stays unknown.
    async fn settled(&self, request: RequestBuilder, cure: &str) -> Result<Reply, Failure> {
        let (started, mut wait, mut open) = (Instant::now(), FIRST_WAIT, false);
        loop {
            let again = request.try_clone().expect("a body of JSON can be sent again");
            let (why, asked) = match reply(again).await {
                Ok((reply, _)) if !reply.leaves_open(open) => return Ok(reply),
                Ok((reply, asked)) => (problem(reply.status, &reply.body), asked),
                Err(fault) if fault.is_connect() && !open => {
                    return Err(Failure::new(Exit::Unreachable, self.unanswered(&fault.without_url())));
                }
                Err(fault) => (self.unanswered(&fault.without_url()), None),
            };
            if started.elapsed() >= PATIENCE {
                return Err(Failure::new(Exit::Unreachable, format!("whether it was done is not known: {why}; {cure}")));
            }
            if !open {
                eprintln!("inventoryctl: {why}; asking again for up to {} s. If that is cut short: {cure}", PATIENCE.as_secs());
            }
            open = true;
            tokio::time::sleep(wait.max(asked.unwrap_or_default().min(LONGEST_WAIT))).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }
}

async fn reply(request: RequestBuilder) -> reqwest::Result<(Reply, Option<Duration>)> {
    let response = request.send().await?;
    let (status, asked) = (response.status(), retry_after(&response));
    let replayed = response.headers().get("Idempotent-Replayed").is_some_and(|value| value == "true");
    Ok((Reply { status, replayed, body: response.text().await? }, asked))
}

fn same_key(key: &str) -> String {
    format!("run it again with --key {key}, which does it once")
}

/// What is not told is left out.
fn without_nulls(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_leaves_it_open_is_asked_for_again() {
        let open = |status: u16, kind: &str, before| {
            let body = json!({"type": format!("/problems/{kind}")}).to_string();
            Reply { status: StatusCode::from_u16(status).unwrap(), replayed: false, body }.leaves_open(before)
        };
        for (status, kind) in [(503, "outcome-unknown"), (503, "timed-out"), (502, ""), (504, ""), (409, "request-in-progress")] {
            assert!(open(status, kind, false), "{status} {kind}");
        }
        for (status, kind) in [(503, "unavailable"), (503, "starting"), (429, "too-many-requests")] {
            assert!(!open(status, kind, false) && open(status, kind, true), "{status} {kind}: it says nothing of an earlier one");
        }
        for (status, kind) in [(201, ""), (409, "insufficient-stock"), (412, "precondition-failed"), (422, ""), (500, ""), (404, "")] {
            assert!(!open(status, kind, false) && !open(status, kind, true), "{status} {kind}");
        }
        assert!(Reply { status: StatusCode::SERVICE_UNAVAILABLE, replayed: false, body: "<html>".into() }.leaves_open(false));
    }
}
