//! What clients were told of their views, and whether what MySQL holds agrees with it, product by product.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Views of one product that a client sent, alone or as one event of several. Kept for each: a round has about 50,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub product: u64,
    pub count: u64,
    pub outcome: Outcome,
    /// The instance of the API that was asked.
    pub instance: usize,
    /// When the answer came, milliseconds since the round began.
    pub at_ms: u64,
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 202: they count, once.
    Accepted,
    /// 404, 503 of another type than `outcome-unknown`, or never sent: they do not count.
    Refused,
    /// `outcome-unknown`, or no answer: they count once or not at all.
    Doubtful,
}

/// Views of one product, as its clients were told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Booked {
    pub accepted: u64,
    pub doubtful: u64,
}

/// What must hold of views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Lost,
    Doubled,
    NotDrained,
    Account,
    Fell,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "accepted views are lost",
            Self::Doubled => "views are counted that nobody sent",
            Self::NotDrained => "the queue is not drained at rest",
            Self::Account => "the account does not agree with what is there",
            Self::Fell => "the shown total fell",
        })
    }
}

/// Something that may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// Where it is of one product.
    pub product: Option<u64>,
    /// Views lost or doubled; 0 where none were counted.
    pub views: u64,
    pub detail: String,
}

impl Violation {
    pub(super) fn of(rule: Rule, detail: String) -> Self {
        Self { rule, product: None, views: 0, detail }
    }
}

/// Adds up what clients were told. Products whose views were all refused are in it too: none of theirs may count.
#[must_use]
pub fn booked(requests: &[Request]) -> BTreeMap<u64, Booked> {
    let mut booked = BTreeMap::<u64, Booked>::new();
    for request in requests {
        let product = booked.entry(request.product).or_default();
        match request.outcome {
            Outcome::Accepted => product.accepted += request.count,
            Outcome::Doubtful => product.doubtful += request.count,
            Outcome::Refused => {}
        }
    }
    booked
}

/// Judges views `counted` in MySQL, letters included. Of what Redis lost, and only of that, views may be `gone`.
#[must_use]
pub fn judge(booked: &BTreeMap<u64, Booked>, counted: &BTreeMap<u64, u64>, gone: &BTreeMap<u64, u64>) -> Vec<Violation> {
    let products: BTreeSet<u64> = booked.keys().chain(counted.keys()).copied().collect();
    let of = |views: &BTreeMap<u64, u64>, id: u64| views.get(&id).copied().unwrap_or(0);
    let mut found = Vec::new();
    for id in products {
        let Booked { accepted, doubtful } = booked.get(&id).copied().unwrap_or_default();
        let (counted, gone) = (of(counted, id), of(gone, id));
        let (least, most) = (accepted.saturating_sub(gone), accepted + doubtful);
        let (rule, views) = match counted {
            _ if counted < least => (Rule::Lost, least - counted),
            _ if counted > most => (Rule::Doubled, counted - most),
            _ => continue,
        };
        let detail = format!("product {id}: {counted} counted, {accepted} accepted, {doubtful} doubtful, {gone} in what Redis lost");
        found.push(Violation { rule, product: Some(id), views, detail });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(product: u64, count: u64, outcome: Outcome) -> Request {
        Request { product, count, outcome, instance: 0, at_ms: 0 }
    }

    fn judged(requests: &[Request], counted: &[(u64, u64)], gone: &[(u64, u64)]) -> Vec<(Rule, u64, u64)> {
        let maps = [counted, gone].map(|pairs| pairs.iter().copied().collect());
        let found = judge(&booked(requests), &maps[0], &maps[1]);
        found.into_iter().map(|violation| (violation.rule, violation.product.unwrap_or(0), violation.views)).collect()
    }

    #[test]
    fn accepted_views_count_once_refused_ones_never_and_doubtful_ones_may() {
        let sent = [(1, 3, Outcome::Accepted), (1, 2, Outcome::Doubtful), (1, 100, Outcome::Refused), (2, 7, Outcome::Refused)];
        let sent = sent.map(|(product, count, outcome)| request(product, count, outcome));
        for counted in 3..=5 {
            assert_eq!(judged(&sent, &[(1, counted)], &[]), [], "{counted}");
        }
        assert_eq!(judged(&sent, &[(1, 2)], &[]), [(Rule::Lost, 1, 1)]);
        assert_eq!(judged(&sent, &[], &[]), [(Rule::Lost, 1, 3)]);
        assert_eq!(judged(&sent, &[(1, 6), (2, 1)], &[]), [(Rule::Doubled, 1, 1), (Rule::Doubled, 2, 1)]);
        assert_eq!(judged(&sent, &[(1, 3), (9, 4)], &[]), [(Rule::Doubled, 9, 4)]);
    }

    #[test]
    fn what_redis_lost_may_be_gone_and_is_no_leave_to_double() {
        let sent = [request(1, 10, Outcome::Accepted), request(2, 10, Outcome::Accepted)];
        assert_eq!(judged(&sent, &[(1, 6), (2, 10)], &[(1, 4)]), []);
        assert_eq!(judged(&sent, &[(1, 5), (2, 9)], &[(1, 4)]), [(Rule::Lost, 1, 1), (Rule::Lost, 2, 1)]);
        assert_eq!(judged(&sent, &[(1, 11), (2, 10)], &[(1, 4)]), [(Rule::Doubled, 1, 1)]);
    }
}
