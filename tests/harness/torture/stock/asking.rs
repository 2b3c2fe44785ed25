//! How a client asks: through either API, again where nobody answered for what became of it, and with an eye on each answer.

use super::judge::{Rule, Violation};
use super::told::{Call, Outcome, Request, Told, What};
use super::workload::{Clients, INSTANCES};
use crate::torture::connection::{Answer, Connection};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Between two tries of one request, and so many of them: for longer than a store is away here.
const AGAIN: Duration = Duration::from_millis(40);
const MOST_TRIES: usize = 500;

/// Of a hundred: done requests that are sent once more, and doubtful ones that are left for the end of the round.
const REPEATED: u8 = 5;
const LEFT: u8 = 10;

/// Words of MySQL that no client is to read.
const UNHEARD_OF: [&str; 3] = ["deadlock", "lock wait", "restarting transaction"];

/// How one sending ended.
pub(super) enum Heard {
    Whole { status: u16, replayed: bool, body: Value },
    Unsent,
    Broken,
}

/// What is known of a call in the end.
pub(super) enum Settled {
    Told {
        status: u16,
        replayed: bool,
        body: Value,
    },
    /// Nothing of it was done, and nobody refused it.
    NotDone,
    Doubtful,
}

/// One client.
pub(super) struct Client {
    pub(super) shared: Arc<Clients>,
    number: usize,
    connections: [Connection; INSTANCES],
    pub(super) random: fastrand::Rng,
    made: u64,
    /// Reservations that it has not closed.
    pub(super) held: Vec<String>,
    pub(super) told: Told,
}

impl Client {
    /// `number`: no other client of this shop has it.
    pub(super) fn of(shared: &Arc<Clients>, number: usize, random: fastrand::Rng) -> Self {
        let connections = shared.addresses.map(Connection::to);
        Self { shared: shared.clone(), number, connections, random, made: 0, held: Vec::new(), told: Told::default() }
    }

    /// A new one.
    pub(super) fn reference(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.number, self.made)
    }

    pub(super) fn wrong(&mut self, rule: Rule, detail: String) {
        let detail = format!("{detail}, at {} ms", self.shared.now_ms());
        self.told.wrong.push(Violation { rule, detail });
    }

    /// Sends it once, through either API.
    pub(super) async fn ask(&mut self, call: &Call) -> Heard {
        let Call { method, path, key, if_match, body } = call;
        let key = key.as_ref().map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let if_match = if_match.map_or_else(String::new, |version| format!("If-Match: \"{version}\"\r\n"));
        let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: torture\r\n{key}{if_match}{content}Content-Length: {length}\r\n\r\n{body}");
        let instance = self.random.usize(..INSTANCES);
        let heard = match self.shared.waits(self.connections[instance].exchange(&request)).await {
            Answer::Whole { status, replayed, body, .. } => {
                let body = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(body)));
                Heard::Whole { status, replayed, body }
            }
            Answer::Unsent => Heard::Unsent,
            Answer::Broken => Heard::Broken,
        };
        if let Heard::Whole { status, body, .. } = &heard {
            let text = body.to_string().to_lowercase();
            if UNHEARD_OF.iter().any(|words| text.contains(words)) || *status >= 500 && *status != 503 {
                self.wrong(Rule::Answer, format!("{method} {path} through API {instance}: {status}: {body}"));
            }
        }
        heard
    }

    /// Sends it until an answer tells what became of it. Some clients leave what is in doubt, and all do once they are stopped.
    pub(super) async fn settle(&mut self, call: &Call) -> Settled {
        let leaves = call.is_not_to_be_sent_again() || self.random.u8(..100) < LEFT;
        let mut doubted = false;
        for _ in 0..MOST_TRIES {
            match self.ask(call).await {
                Heard::Whole { status: 503, body, .. } => doubted |= !is_not_done(&body),
                Heard::Whole { status: 409, body, .. } if body["type"] == "/problems/request-in-progress" => {}
                Heard::Whole { status, replayed, body } => {
                    count(&self.shared.counters.resolved, doubted);
                    count(&self.shared.counters.refused, [409, 412].contains(&status));
                    return Settled::Told { status, replayed, body };
                }
                Heard::Unsent => {}
                Heard::Broken => doubted = true,
            }
            if self.shared.are_stopped() || doubted && leaves {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        if doubted { Settled::Doubtful } else { Settled::NotDone }
    }

    /// Now and then sends what was done once more: it must be answered as it was.
    pub(super) async fn repeat(&mut self, call: &Call, first: &Value) {
        if call.is_not_to_be_sent_again() || self.random.u8(..100) >= REPEATED {
            return;
        }
        // A store may be away meanwhile, and then nothing is learned.
        if let Settled::Told { status, replayed, body } = self.settle(call).await {
            count(&self.shared.counters.repeated, true);
            if body != *first || replayed != call.key.is_some() {
                let detail = format!("{call:?} was answered {first}, and sent again {status}, replayed: {replayed}, {body}");
                self.wrong(Rule::Twice, detail);
            }
        }
    }

    /// What is to be kept of a call that was neither done nor refused.
    pub(super) fn unsettled(&mut self, call: &Call, settled: &Settled) -> Outcome {
        match settled {
            Settled::NotDone => Outcome::Refused,
            Settled::Doubtful => Outcome::Doubtful,
            Settled::Told { status, body, .. } => {
                self.wrong(Rule::Answer, format!("{} {}: {status}: {body}", call.method, call.path));
                Outcome::Doubtful
            }
        }
    }

    /// A read is answered, or the API or MySQL is away.
    pub(super) fn expect_unavailable(&mut self, call: &Call, heard: &Heard) {
        if let Heard::Whole { status, body, .. } = heard
            && *status != 503
        {
            self.wrong(Rule::Answer, format!("{} {}: {status}: {body}", call.method, call.path));
        }
    }

    pub(super) fn note(&mut self, reference: String, what: What, outcome: Outcome, call: &Call) {
        let counters = &self.shared.counters;
        count(&counters.reserved, matches!(outcome, Outcome::Reserved(_)));
        count(&counters.changed, matches!(outcome, Outcome::Changed | Outcome::Unchanged));
        let (at_ms, again) = (self.shared.now_ms(), call.key.is_some().then(|| call.clone()));
        self.told.requests.push(Request { reference, what, outcome, at_ms, again });
    }
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: "GET", path, key: None, if_match: None, body: String::new() }
    }

    /// A count over a version has changed that version if it was done; only its key tells.
    fn is_not_to_be_sent_again(&self) -> bool {
        self.if_match.is_some() && self.key.is_none()
    }
}

/// Whether a 503 says that nothing was done.
fn is_not_done(problem: &Value) -> bool {
    ["/problems/unavailable", "/problems/starting", "/problems/over-capacity"].iter().any(|kind| problem["type"] == *kind)
}

pub(super) fn count(counter: &AtomicU64, is_one: bool) {
    counter.fetch_add(u64::from(is_one), Ordering::Relaxed);
}
