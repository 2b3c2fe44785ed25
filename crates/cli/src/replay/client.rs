//! One client of a replay: sends its events one after the other, over one connection.
//!
//! Promises that the next event of a product is sent only when the one before has its
//! outcome. A view is sent once, whatever is answered; a price is repeated while its outcome
//! is unknown, which is safe because an equal price changes nothing.

use super::events::{Event, PricesSent};
use super::pace::Pace;
use super::report::Tally;
use crate::api_client::{Answer, ApiClient, problem};
use crate::progress::Progress;
use domain::{Money, ProductId};
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::stop::Shutdown;

/// Requests of one price write. With the waits below about two minutes: longer than a server needs to restart.
const MAX_PRICE_TRIES: u32 = 64;

/// A client that has nothing accepted for so long gives up, and the replay ends.
const PATIENCE: Duration = Duration::from_secs(120);

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What the API asks for with `Retry-After` is followed up to here.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(10);

/// So many refusals are told in words, all are counted.
const MAX_COMPLAINTS: u64 = 5;

/// What stands in the price history.
const REASON: &str = "replay";

pub(super) struct Client {
    pub(super) api: ApiClient,
    pub(super) pace: Pace,
    pub(super) tally: Arc<Tally>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Shutdown,
    pub(super) prices: PricesSent,
    pub(super) pause: Pause,
}

enum Outcome {
    Accepted,
    Refused(String),
    /// Over the rate: it took no effect and may be sent again.
    TooSoon,
    /// 503 or no answer: it took effect or not.
    Unknown,
}

impl Client {
    /// Sends the events once, or again and again until asked to stop.
    pub(super) async fn run(mut self, events: Vec<Event>, repeat: bool) {
        for pass in 0.. {
            for event in &events {
                if let Some(due) = self.pace.due(pass, event.time) {
                    self.stop.sleep(due.saturating_duration_since(tokio::time::Instant::now())).await;
                }
                if self.stop.is_requested() {
                    return;
                }
                self.send(event).await;
            }
            // Without events a repeated pass would spin.
            if !repeat || events.is_empty() {
                return;
            }
        }
    }

    async fn send(&mut self, event: &Event) {
        self.view(event.id).await;
        self.progress.advance(1);
        if let Some(price) = self.prices.write_due(event) {
            self.price(event.id, price).await;
            self.progress.advance(1);
        }
    }

    async fn view(&mut self, id: ProductId) {
        self.tally.views_sent.add();
        let answer = self.api.view(id).await;
        match self.outcome(answer).await {
            Outcome::Accepted => self.tally.views_accepted.add(),
            Outcome::Unknown => self.tally.views_unknown.add(),
            Outcome::TooSoon => self.tally.views_rejected.add(),
            Outcome::Refused(why) => {
                self.complain(&format!("a view of product {id}: {why}"));
                self.tally.views_rejected.add()
            }
        };
    }

    async fn price(&mut self, id: ProductId, price: Money) {
        self.tally.prices_sent.add();
        for attempt in 0..MAX_PRICE_TRIES {
            if attempt > 0 {
                if self.stop.is_requested() {
                    break;
                }
                self.tally.prices_repeated.add();
            }
            let answer = self.api.put_price(id, price, REASON).await;
            match self.outcome(answer).await {
                Outcome::Accepted => {
                    self.tally.prices_accepted.add();
                    return;
                }
                Outcome::Unknown | Outcome::TooSoon => {}
                Outcome::Refused(why) => {
                    self.complain(&format!("the price {price} of product {id}: {why}"));
                    break;
                }
            }
        }
        self.tally.prices_failed.add();
    }

    /// Judges an answer; waits if it says that the API is busy or away.
    async fn outcome(&mut self, answer: Answer) -> Outcome {
        match answer {
            Answer::Status { status, .. } if status.is_success() => {
                self.pause = Pause::default();
                Outcome::Accepted
            }
            Answer::Status { status, retry_after, body } if is_passing(status) => {
                self.wait(&problem(status, &body), retry_after).await;
                if status == StatusCode::TOO_MANY_REQUESTS { Outcome::TooSoon } else { Outcome::Unknown }
            }
            Answer::Status { status, body, .. } => Outcome::Refused(problem(status, &body)),
            Answer::Nothing(why) => {
                self.wait(&why, None).await;
                Outcome::Unknown
            }
        }
    }

    async fn wait(&mut self, why: &str, asked: Option<Duration>) {
        let since = *self.pause.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE && !self.stop.is_requested() {
            self.progress.say(&format!("giving up, nothing was accepted for {} s: {why}", PATIENCE.as_secs()));
            self.tally.clients_gone.add();
            self.stop.request();
        }
        self.stop.sleep(self.pause.next(asked)).await;
    }

    fn complain(&self, what: &str) {
        if self.tally.complaints.add() < MAX_COMPLAINTS {
            self.progress.say(what);
        }
    }
}

/// Whether the same request may be accepted later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// The growing wait of a client whose requests are not accepted.
#[derive(Debug, Default)]
pub(super) struct Pause {
    waits: u32,
    since: Option<Instant>,
}

impl Pause {
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.waits.min(16)).min(LONGEST_WAIT);
        self.waits += 1;
        doubled.max(asked.unwrap_or_default().min(LONGEST_ASKED_WAIT))
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
