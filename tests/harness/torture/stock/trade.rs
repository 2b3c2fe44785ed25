//! What clients do: they reserve crossing baskets, close what they hold or what others hold, adjust, count and look.

use super::asking::{Client, Heard, Settled, count};
use super::judge::Rule;
use super::told::{Call, Closing, Outcome, Sight, State, Told, What};
use super::workload::PRODUCTS;
use serde_json::{Value, json};
use std::time::Duration;

/// Products of a basket, quantities, and how often in ten it has one of the first two.
const BASKET: std::ops::RangeInclusive<usize> = 1..=5;
const QUANTITY: std::ops::RangeInclusive<u64> = 1..=3;
const HOT: u8 = 4;

/// Of ten reservations so many have a short time; of ten of those so many are left to expire.
const SHORT: u8 = 3;
const SHORT_SECONDS: std::ops::RangeInclusive<u64> = 1..=2;
const LONG_SECONDS: u64 = 900;
const LEFT_TO_EXPIRE: u8 = 6;

/// A client that holds so many reserves no more before it has closed one.
const MOST_HELD: usize = 4;

/// Of a hundred things that a client does, up to which it is what.
const RESERVE: u8 = 42;
const CLOSE: u8 = 80;
const ADJUST: u8 = 87;
const COUNT: u8 = 91;
const LOOK_AT_RESERVATION: u8 = 96;

/// Of ten closings so many are of what another may hold, and so many are commits.
const OTHERS: u8 = 1;
const COMMITS: u8 = 6;

/// More comes in than goes out by adjustments: what is committed is gone.
const DELTA: std::ops::RangeInclusive<i64> = -6..=24;
const COUNTED: std::ops::RangeInclusive<i64> = 20..=90;

/// A client pauses up to this after each request: the servers on the same cores have their work to do too.
const PAUSE_MS: u64 = 12;

impl Client {
    /// Trades until it is stopped, and returns what it was told.
    pub(super) async fn run(mut self) -> Told {
        while !self.shared.are_stopped() {
            let from = if self.held.len() < MOST_HELD { 0 } else { RESERVE };
            match self.random.u8(from..100) {
                ..RESERVE => self.reserve().await,
                RESERVE..CLOSE => self.close().await,
                CLOSE..ADJUST => self.adjust().await,
                ADJUST..COUNT => self.count().await,
                COUNT..LOOK_AT_RESERVATION => self.look_at_reservation().await,
                _ => {
                    let product = self.random.u64(1..=PRODUCTS);
                    self.look_at_stock(product).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(..=PAUSE_MS))).await;
        }
        self.told
    }

    async fn reserve(&mut self) {
        let (reference, items, short) = (self.reference(), self.basket(), self.random.u8(..10) < SHORT);
        let ttl_seconds = if short { self.random.u64(SHORT_SECONDS) } else { LONG_SECONDS };
        let rows: Vec<Value> = items.iter().map(|(product, quantity)| json!({"product_id": product, "quantity": quantity})).collect();
        let body = json!({"items": rows, "ttl_seconds": ttl_seconds, "reference": reference}).to_string();
        let call = Call { method: "POST", path: "/v1/reservations".to_owned(), key: Some(reference.clone()), if_match: None, body };
        let settled = self.settle(&call).await;
        let outcome = match &settled {
            Settled::Told { status: 201, body, .. } => {
                let id = body["id"].as_str().unwrap_or_default().to_owned();
                self.shared.note_recent(&id);
                if !short || self.random.u8(..10) >= LEFT_TO_EXPIRE {
                    self.held.push(id.clone());
                }
                self.repeat(&call, body).await;
                Outcome::Reserved(id)
            }
            Settled::Told { status: 409, body, .. } => {
                self.check_shortages(&items, body);
                Outcome::Refused
            }
            _ => self.unsettled(&call, &settled),
        };
        self.note(reference, What::Reserve(items), outcome, &call);
    }

    /// Products in any order, each once.
    fn basket(&mut self) -> Vec<(u64, u64)> {
        let length = self.random.usize(BASKET);
        let mut products: Vec<u64> = (1..=PRODUCTS).collect();
        self.random.shuffle(&mut products);
        if self.random.u8(..10) < HOT {
            let hot = self.random.u64(1..=2);
            products.retain(|product| *product != hot);
            products.insert(self.random.usize(..length), hot);
        }
        products.truncate(length);
        products.into_iter().map(|product| (product, self.random.u64(QUANTITY))).collect()
    }

    /// Each shortage is of the basket, and is one.
    fn check_shortages(&mut self, items: &[(u64, u64)], body: &Value) {
        let shortages = body["shortages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_one = |shortage: &Value| {
            let number = |field: &str| shortage[field].as_u64();
            let (Some(product), Some(requested), Some(available)) = (number("product_id"), number("requested"), number("available")) else {
                return false;
            };
            available < requested && items.contains(&(product, requested))
        };
        if shortages.is_empty() || !shortages.iter().all(is_one) {
            self.wrong(Rule::Answer, format!("a basket of {items:?} was refused: {body}"));
        }
    }

    async fn close(&mut self) {
        let recent = self.shared.recent();
        let id = match self.random.choice(&recent) {
            Some(id) if self.random.u8(..10) < OTHERS => id.clone(),
            _ if self.held.is_empty() => return,
            _ => {
                let place = self.random.usize(..self.held.len());
                self.held.swap_remove(place)
            }
        };
        let (to, verb) = if self.random.u8(..10) < COMMITS { (State::Committed, "commit") } else { (State::Released, "release") };
        let key = if self.random.bool() { Some(self.reference()) } else { None };
        let call = Call { method: "POST", path: format!("/v1/reservations/{id}/{verb}"), key, if_match: None, body: String::new() };
        let began = self.shared.now();
        let settled = self.settle(&call).await;
        let ended = self.shared.now();
        // Whoever is told of another state has not closed it.
        if !matches!(settled, Settled::Told { status: 409, .. } | Settled::NotDone) {
            self.told.closings.push(Closing { id: id.clone(), to, began });
        }
        let Settled::Told { status: status @ (200 | 409), body, .. } = &settled else {
            self.unsettled(&call, &settled);
            return;
        };
        let seen = body["state"].as_str().and_then(State::parse);
        let may_be = |seen: &State| if *status == 200 { *seen == to } else { ![to, State::Active].contains(seen) };
        match seen.filter(may_be) {
            Some(state) => self.told.sights.push(Sight { id, state, began, ended }),
            None => self.wrong(Rule::Answer, format!("POST {}: {status}: {body}", call.path)),
        }
        if *status == 200 {
            count(&self.shared.counters.closed, true);
            self.repeat(&call, body).await;
        }
    }

    async fn adjust(&mut self) {
        let (product, reference) = (self.random.u64(1..=PRODUCTS), self.reference());
        let delta = Some(self.random.i64(DELTA)).filter(|delta| *delta != 0).unwrap_or(1);
        let body = json!({"delta": delta, "reason": "torture", "reference": reference}).to_string();
        let path = format!("/v1/products/{product}/stock/adjustments");
        let call = Call { method: "POST", path, key: Some(reference.clone()), if_match: None, body };
        let before = self.shared.version(product);
        let settled = self.settle(&call).await;
        let outcome = match &settled {
            Settled::Told { status: 201, body, replayed } => {
                self.check_stock(product, body, if *replayed { 0 } else { before + 1 });
                self.repeat(&call, body).await;
                Outcome::Changed
            }
            Settled::Told { status: 409, .. } => Outcome::Refused,
            _ => self.unsettled(&call, &settled),
        };
        self.note(reference, What::Adjust(product, delta), outcome, &call);
    }

    async fn count(&mut self) {
        let product = self.random.u64(1..=PRODUCTS);
        if let Some(version) = self.look_at_stock(product).await {
            let (on_hand, keyed) = (self.random.i64(COUNTED), self.random.bool());
            self.set(product, version, on_hand, keyed).await;
        }
    }

    /// Counts a product over a version.
    pub(super) async fn set(&mut self, product: u64, version: u64, on_hand: i64, keyed: bool) {
        let reference = self.reference();
        let body = json!({"on_hand": on_hand, "reference": reference}).to_string();
        let (path, key) = (format!("/v1/products/{product}/stock"), keyed.then(|| reference.clone()));
        let call = Call { method: "PUT", path, key, if_match: Some(version), body };
        let before = self.shared.version(product);
        let settled = self.settle(&call).await;
        let outcome = match &settled {
            Settled::Told { status: 200, body, replayed } => {
                self.check_stock(product, body, if *replayed { 0 } else { before });
                self.repeat(&call, body).await;
                if body["version"] == json!(version) { Outcome::Unchanged } else { Outcome::Changed }
            }
            Settled::Told { status: 409 | 412, .. } => Outcome::Refused,
            _ => self.unsettled(&call, &settled),
        };
        self.note(reference, What::Count(product, on_hand), outcome, &call);
    }

    async fn look_at_reservation(&mut self) {
        let recent = self.shared.recent();
        let Some(id) = self.random.choice(&recent).cloned() else { return };
        let call = Call::get(format!("/v1/reservations/{id}"));
        let began = self.shared.now();
        let heard = self.ask(&call).await;
        let ended = self.shared.now();
        match &heard {
            Heard::Whole { status: 200, body, .. } => match body["state"].as_str().and_then(State::parse) {
                Some(state) => self.told.sights.push(Sight { id, state, began, ended }),
                None => self.wrong(Rule::Answer, format!("GET {}: {body}", call.path)),
            },
            Heard::Whole { status: 404, body, .. } => self.wrong(Rule::Lost, format!("GET {}: {body}", call.path)),
            heard => self.expect_unavailable(&call, heard),
        }
    }

    /// The version, where it was answered.
    async fn look_at_stock(&mut self, product: u64) -> Option<u64> {
        let call = Call::get(format!("/v1/products/{product}/stock"));
        let before = self.shared.version(product);
        match self.ask(&call).await {
            Heard::Whole { status: 200, body, .. } => {
                self.check_stock(product, &body, before);
                body["version"].as_u64()
            }
            heard => {
                self.expect_unavailable(&call, &heard);
                None
            }
        }
    }

    /// Stock as it was answered to somebody who asked when `least` was the version that it must have at least.
    fn check_stock(&mut self, product: u64, body: &Value, least: u64) {
        let level = |field: &str| body[field].as_i64();
        let (Some(on_hand), Some(reserved), Some(available)) = (level("on_hand"), level("reserved"), level("available")) else {
            return self.wrong(Rule::Answer, format!("stock of product {product}: {body}"));
        };
        if reserved < 0 || on_hand < reserved || available != on_hand - reserved || body["product_id"] != json!(product) {
            self.wrong(Rule::Oversold, format!("product {product} was answered as {body}"));
        }
        match body["version"].as_u64() {
            Some(version) if version >= least => self.shared.note_version(product, version),
            _ => self.wrong(Rule::Stale, format!("product {product} was answered as {body}, and version {least} was due")),
        }
    }
}
