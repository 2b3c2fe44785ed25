//! Whether what MySQL holds is what clients were told, request by request and reservation by reservation.

use super::ledger::{Ledger, Movement, Reservation};
use super::told::{Closing, Outcome, Request, Sight, State, Told, What};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What must hold of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Oversold,
    Sums,
    Step,
    Moves,
    Lost,
    Undone,
    Twice,
    State,
    Stale,
    Answer,
    NotAtRest,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oversold => "more is reserved or sold than is there",
            Self::Sums => "stock is not the sum of its movements and reservations",
            Self::Step => "a movement does not follow from the one before it",
            Self::Moves => "a reservation has other movements than its state tells",
            Self::Lost => "what was acknowledged is not there",
            Self::Undone => "what was refused is there",
            Self::Twice => "a key did more than one thing",
            Self::State => "a reservation has a state that it cannot have",
            Self::Stale => "stock was read that is older than what was answered before",
            Self::Answer => "an answer is none that may be given",
            Self::NotAtRest => "API and MySQL disagree at rest",
        })
    }
}

/// Something that may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
}

impl Violation {
    #[must_use]
    pub fn of(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

/// Every way in which what clients were told is not what is there. What is there must agree with itself: [`Ledger::faults`].
#[must_use]
pub fn judge(told: &Told, ledger: &Ledger) -> Vec<Violation> {
    let index = Index::of(ledger);
    let mut found = told.wrong.clone();
    found.extend(told.requests.iter().filter_map(|request| index.request(request)));
    found.extend(index.strangers(&told.requests));
    found.extend(states(told, ledger));
    found.extend(too_much(told, ledger));
    found
}

/// What is there by the reference under which it was asked for.
struct Index<'a> {
    reservations: HashMap<&'a str, Vec<(&'a str, &'a Reservation)>>,
    changes: HashMap<&'a str, Vec<&'a Movement>>,
}

impl<'a> Index<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        let mut reservations = HashMap::<_, Vec<_>>::new();
        for (id, reservation) in &ledger.reservations {
            reservations.entry(reservation.reference.as_deref().unwrap_or_default()).or_default().push((id.as_str(), reservation));
        }
        let mut changes = HashMap::<_, Vec<_>>::new();
        for movement in ledger.movements.iter().filter(|movement| movement.reservation.is_none()) {
            changes.entry(movement.reference.as_deref().unwrap_or_default()).or_default().push(movement);
        }
        Self { reservations, changes }
    }

    fn request(&self, request: &Request) -> Option<Violation> {
        let reference = request.reference.as_str();
        let (times, fits) = match &request.what {
            What::Reserve(items) => {
                let there = self.reservations.get(reference).map_or(&[][..], Vec::as_slice);
                let items: BTreeMap<u64, u64> = items.iter().copied().collect();
                let is_it = |(id, reservation): &(&str, &Reservation)| {
                    reservation.items == items && !matches!(&request.outcome, Outcome::Reserved(told) if told != id)
                };
                (there.len(), there.iter().all(is_it))
            }
            What::Adjust(product, delta) => {
                let there = self.changes.get(reference).map_or(&[][..], Vec::as_slice);
                let is_it = |of: &&Movement| (of.kind.as_str(), of.product, of.delta) == ("adjustment", *product, *delta);
                (there.len(), there.iter().all(is_it))
            }
            What::Count(product, on_hand) => {
                let there = self.changes.get(reference).map_or(&[][..], Vec::as_slice);
                let is_it = |of: &&Movement| (of.kind.as_str(), of.product, of.on_hand) == ("count", *product, *on_hand);
                (there.len(), there.iter().all(is_it))
            }
        };
        let rule = match (&request.outcome, times) {
            (_, 2..) => Rule::Twice,
            (Outcome::Reserved(_) | Outcome::Changed, 0) => Rule::Lost,
            (Outcome::Refused | Outcome::Unchanged, 1) => Rule::Undone,
            _ if !fits => Rule::Lost,
            _ => return None,
        };
        Some(Violation::of(rule, format!("{times} times there: {request:?}")))
    }

    /// What is there and nobody asked for.
    fn strangers(&self, requests: &[Request]) -> Vec<Violation> {
        let mut there: Vec<&str> = self.reservations.keys().chain(self.changes.keys()).copied().collect();
        let asked: std::collections::HashSet<&str> = requests.iter().map(|request| request.reference.as_str()).collect();
        there.retain(|reference| !asked.contains(reference));
        there.into_iter().map(|reference| Violation::of(Rule::Undone, format!("nobody asked for {reference:?}, and it is there"))).collect()
    }
}

/// Reservations whose row cannot be what clients saw, or whose states were seen in an order that they cannot have.
fn states(told: &Told, ledger: &Ledger) -> Vec<Violation> {
    let mut sights = HashMap::<&str, Vec<&Sight>>::new();
    told.sights.iter().for_each(|sight| sights.entry(&sight.id).or_default().push(sight));
    let mut closings = HashMap::<&str, Vec<&Closing>>::new();
    told.closings.iter().for_each(|closing| closings.entry(&closing.id).or_default().push(closing));
    let none = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for (id, seen) in &sights {
        if !ledger.reservations.contains_key(*id) {
            found.push(Violation::of(Rule::Lost, format!("reservation {id} is not there: {seen:?}")));
        }
    }
    for (id, row) in &ledger.reservations {
        let seen = sights.get(id.as_str()).unwrap_or(&none.0);
        let tried = closings.get(id.as_str()).unwrap_or(&none.1);
        for what in contradictions(row, seen, tried) {
            found.push(Violation::of(Rule::State, format!("reservation {id}: {what}: {row:?}, {seen:?}, {tried:?}")));
        }
    }
    found
}

/// A time that is over is seen before it is written down: until then a commit that looked at the clock earlier may still land, so
/// `expired` is final only for what began after it was answered. The other two ends are final at once.
fn contradictions(row: &Reservation, seen: &[&Sight], tried: &[&Closing]) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let was_tried = |to, before: u64| tried.iter().any(|closing| closing.to == to && closing.began < before);
    match row.state {
        State::Committed | State::Released if !was_tried(row.state, u64::MAX) => wrong.push("nobody asked for its state"),
        State::Expired if !row.overdue => wrong.push("it expired before its time"),
        _ => {}
    }
    for sight in seen {
        match (sight.state, row.state) {
            (State::Committed | State::Released, now) if now != sight.state => wrong.push("an end that was told is not there"),
            (State::Expired, State::Active) if !row.overdue => wrong.push("it was said to be over before its time"),
            (State::Expired, State::Committed | State::Released) if !was_tried(row.state, sight.ended) => {
                wrong.push("it was closed after it was said to be over");
            }
            _ => {}
        }
        let ended_before = |other: &&&Sight| other.state != State::Active && other.ended < sight.began;
        if sight.state == State::Active && seen.iter().any(|other| ended_before(&other)) {
            wrong.push("it was active after its end was told");
        }
    }
    wrong
}

/// What was sold and is held by the answers alone, beside what came in.
fn too_much(told: &Told, ledger: &Ledger) -> Vec<Violation> {
    let mut out = BTreeMap::<u64, i64>::new();
    let committed: std::collections::HashSet<&str> =
        told.sights.iter().filter(|sight| sight.state == State::Committed).map(|sight| sight.id.as_str()).collect();
    for request in &told.requests {
        let (What::Reserve(items), Outcome::Reserved(id)) = (&request.what, &request.outcome) else { continue };
        let is_active = ledger.reservations.get(id).is_some_and(|row| row.state == State::Active);
        if committed.contains(id.as_str()) || is_active {
            items.iter().for_each(|(product, quantity)| *out.entry(*product).or_default() += *quantity as i64);
        }
    }
    let mut found = Vec::new();
    for (product, out) in out {
        let came: i64 = ledger.movements.iter().filter(|of| of.product == product && of.reservation.is_none()).map(|of| of.delta).sum();
        if out > came {
            found.push(Violation::of(Rule::Oversold, format!("product {product}: {out} sold and held, of {came} that came in")));
        }
    }
    found
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
