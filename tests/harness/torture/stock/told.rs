//! What clients asked for and what they were told, as far as it is judged.

use super::judge::Violation;

/// State of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Active,
    Committed,
    Released,
    Expired,
}

impl State {
    /// From its name in answers and rows.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "active" => Self::Active,
            "committed" => Self::Committed,
            "released" => Self::Released,
            "expired" => Self::Expired,
            _ => return None,
        })
    }
}

/// Something that was asked for once, however often it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// No other request has it; it is the key too, where there is one.
    pub reference: String,
    pub what: What,
    pub outcome: Outcome,
    /// When the client last heard of it, milliseconds since the round began.
    pub at_ms: u64,
    /// As it was sent, where it has a key: it is sent again when the round is over if nobody knows what became of it.
    pub again: Option<Call>,
}

/// A request as it is sent, and sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub key: Option<String>,
    pub if_match: Option<u64>,
    /// Empty: none.
    pub body: String,
}

/// Quantities are per product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Reserve(Vec<(u64, u64)>),
    Adjust(u64, i64),
    Count(u64, i64),
}

/// What a client was told in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 201: the reservation with this id is there.
    Reserved(String),
    /// 201 or 200: the stock was changed, once.
    Changed,
    /// 200 to a count that found what it was to set: no movement.
    Unchanged,
    /// 409, 412, a 503 that says that nothing was changed, or never sent: nothing of it is there.
    Refused,
    /// `outcome-unknown`, or no answer: it is there once or not at all.
    Doubtful,
}

/// What an answer said of a reservation's state at some moment between its call and itself. Times only order calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub id: String,
    pub state: State,
    pub began: u64,
    pub ended: u64,
}

/// Somebody asked for a reservation to be committed or released, and that was done, or may have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub id: String,
    pub to: State,
    pub began: u64,
}

/// All that one client was told, and then all of them.
#[derive(Debug, Default)]
pub struct Told {
    pub requests: Vec<Request>,
    pub sights: Vec<Sight>,
    pub closings: Vec<Closing>,
    /// Answers that may not be, whatever became of the rest.
    pub wrong: Vec<Violation>,
}

impl Told {
    pub(super) fn add(&mut self, mut more: Self) {
        self.requests.append(&mut more.requests);
        self.sights.append(&mut more.sights);
        self.closings.append(&mut more.closings);
        self.wrong.append(&mut more.wrong);
    }
}
