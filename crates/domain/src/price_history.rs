//! What the history of a price says: how one price compares with the one before, and what a reduction is compared with.

use crate::Money;
use chrono::{DateTime, TimeDelta, Utc};

/// Days before a reduction of which the lowest price is told (directive 98/6/EC, article 6a).
pub const PRIOR_DAYS: i64 = 30;

/// A price and the moment from which it was in force; `None`: from then on there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceSince {
    pub price: Option<Money>,
    pub since: DateTime<Utc>,
}

/// A price beside the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceStep {
    /// There was none before.
    First,
    Raised,
    Reduced,
    Unchanged,
    /// Amounts of two currencies do not compare.
    CurrencyChanged,
}

impl PriceStep {
    #[must_use]
    pub fn between(before: Option<Money>, price: Money) -> Self {
        let Some(before) = before else { return Self::First };
        if before.currency() != price.currency() {
            return Self::CurrencyChanged;
        }
        match price.amount().cmp(&before.amount()) {
            std::cmp::Ordering::Less => Self::Reduced,
            std::cmp::Ordering::Equal => Self::Unchanged,
            std::cmp::Ordering::Greater => Self::Raised,
        }
    }
}

/// What a piece of a history tells of the prior price, which is `None` where the present price is no reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    /// Whatever came before cannot change it.
    Known(Option<Money>),
    /// This is it if nothing came before.
    Open(Option<Money>),
}

/// The prior price of the present one, which comes first in `newest_first`: the lowest of its currency that was in force in the
/// [`PRIOR_DAYS`] before its reduction began.
///
/// A reduction is a run of prices each lower than the one before; it began with the first of them, and further reductions
/// belong to it. A higher price ends it, and so do another currency and a time without a price, in which nothing was in force.
/// What was in force when those days began counts too.
#[must_use]
pub fn prior(newest_first: &[PriceSince]) -> Prior {
    // When the reduction began, and the price before it with its place.
    let (mut began, mut ended) = (None, false);
    for (place, pair) in newest_first.windows(2).enumerate() {
        let (later, before) = (pair[0], pair[1]);
        let step = later.price.zip(before.price).map(|(price, before)| (before, PriceStep::between(Some(before), price)));
        match step {
            Some((price, PriceStep::Reduced)) => began = Some((later.since, price, place + 1)),
            // Set again: it was in force since the earlier time.
            Some((_, PriceStep::Unchanged)) => {}
            None | Some((_, PriceStep::First | PriceStep::Raised | PriceStep::CurrencyChanged)) => {
                ended = true;
                break;
            }
        }
    }
    let Some((began, replaced, place)) = began else {
        return if ended { Prior::Known(None) } else { Prior::Open(None) };
    };
    let window = began.checked_sub_signed(TimeDelta::days(PRIOR_DAYS)).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let before = &newest_first[place..];
    let outside = before.iter().position(|price| price.since <= window).map(|at| at + 1);
    let within = before[..outside.unwrap_or(before.len())].iter().filter_map(|price| price.price);
    let lowest = within.filter(|price| price.currency() == replaced.currency()).min_by_key(Money::amount);
    if ended && outside.is_some() { Prior::Known(lowest) } else { Prior::Open(lowest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    fn money(pence: u32, currency: &str) -> Money {
        Money::stored(Decimal::new(i64::from(pence), 2), currency)
    }

    /// Prices with the days on which they were set, in their order; 0: it was removed.
    fn of(history: &[(u32, i64)]) -> Vec<PriceSince> {
        let of = |(pence, day): &(u32, i64)| PriceSince {
            price: Some(*pence).filter(|pence| *pence > 0).map(|pence| money(pence, "GBP")),
            since: DateTime::UNIX_EPOCH + TimeDelta::days(1_000 + day),
        };
        history.iter().rev().map(of).collect()
    }

    fn told(prior: Prior) -> Option<Money> {
        let (Prior::Known(price) | Prior::Open(price)) = prior;
        price
    }

    #[test]
    fn the_prior_price_is_the_lowest_of_thirty_days_before_the_reduction_began() {
        for (why, history, wanted) in [
            ("a first price", &[(1000, 0)][..], None),
            ("a raise", &[(800, 0), (1000, 9)], None),
            ("the price before", &[(1000, 0), (800, 40)], Some(1000)),
            ("the lowest of those days", &[(1000, 0), (700, 20), (900, 30), (800, 40)], Some(700)),
            ("what was in force when they began", &[(600, 0), (1000, 15), (800, 40)], Some(600)),
            ("and nothing before that", &[(500, 0), (600, 5), (1000, 15), (800, 40)], Some(600)),
            ("what ended as they began does not count", &[(600, 0), (1000, 10), (800, 40)], Some(1000)),
            ("further reductions belong to the first", &[(1000, 0), (900, 40), (800, 60), (700, 80)], Some(1000)),
            ("a raise between them begins another", &[(1000, 0), (800, 40), (900, 50), (700, 60)], Some(800)),
            ("a price set again is the same price", &[(1000, 0), (800, 40), (800, 50), (700, 90), (700, 95)], Some(1000)),
            ("it began when it was set first", &[(600, 0), (1000, 15), (800, 40), (800, 60)], Some(600)),
            ("a first price that was removed is not reduced", &[(1000, 0), (0, 20), (800, 40)], None),
            ("a reduction behind a time without a price", &[(500, 0), (0, 15), (1000, 20), (800, 60)], Some(1000)),
            ("which ends what was in force before", &[(500, 0), (0, 5), (1000, 20), (800, 40)], Some(1000)),
            ("but not what was in force in those days", &[(500, 0), (0, 15), (1000, 20), (800, 40)], Some(500)),
            ("a reduction that was taken back", &[(1000, 0), (800, 40), (1000, 50)], None),
        ] {
            assert_eq!(told(prior(&of(history))), wanted.map(|pence| money(pence, "GBP")), "{why}");
        }
    }

    #[test]
    fn amounts_of_other_currencies_are_not_compared() {
        let prior_of = |history: &[(u32, i64, &str)]| {
            let of = |(pence, day, currency): &(u32, i64, &str)| PriceSince {
                price: Some(money(*pence, currency)),
                since: DateTime::UNIX_EPOCH + TimeDelta::days(1_000 + day),
            };
            prior(&history.iter().rev().map(of).collect::<Vec<_>>())
        };
        assert_eq!(prior_of(&[(1000, 0, "GBP"), (800, 40, "EUR")]), Prior::Known(None));
        let back = prior_of(&[(600, 0, "GBP"), (500, 20, "EUR"), (1000, 30, "GBP"), (800, 40, "GBP")]);
        assert_eq!(told(back), Some(money(600, "GBP")));
    }

    #[test]
    fn a_step_is_told_by_the_price_before() {
        let step = |before: u32, price: u32| PriceStep::between(Some(money(before, "GBP")), money(price, "GBP"));
        assert_eq!([step(1, 2), step(2, 1), step(2, 2)], [PriceStep::Raised, PriceStep::Reduced, PriceStep::Unchanged]);
        assert_eq!(PriceStep::between(None, money(1, "GBP")), PriceStep::First);
        assert_eq!(PriceStep::between(Some(money(1, "EUR")), money(1, "GBP")), PriceStep::CurrencyChanged);
    }

    /// Prices, and times without one, with the hours between them, oldest first. There is a price at the end.
    fn histories() -> impl Strategy<Value = Vec<PriceSince>> {
        let price = (prop::option::weighted(0.9, 1u32..6), prop::sample::select(vec!["GBP", "GBP", "GBP", "EUR"]), 1i64..500);
        prop::collection::vec(price, 1..20).prop_map(|prices| {
            let mut hour = 0;
            let mut since = |gap| {
                hour += gap;
                DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
            };
            let last = prices.len() - 1;
            let money = |place, pence: Option<u32>, currency| pence.or((place == last).then_some(3)).map(|pence| money(pence, currency));
            let prices = prices.into_iter().enumerate();
            prices.map(|(place, (pence, currency, gap))| PriceSince { price: money(place, pence, currency), since: since(gap) }).collect()
        })
    }

    /// The same, hour by hour.
    fn by_the_hour(history: &[PriceSince]) -> Option<Money> {
        let at = |time: DateTime<Utc>| history.iter().rev().find(|price| price.since <= time).and_then(|price| price.price);
        let (present, since) = history.last().and_then(|last| Some((last.price?, last.since)))?;
        let (mut began, mut price, mut time) = (None, present, since);
        while let Some(before) = at(time - TimeDelta::hours(1)).filter(|before| before.currency() == price.currency()) {
            if before.amount() < price.amount() {
                break;
            }
            if before.amount() > price.amount() {
                began = Some(time);
            }
            (price, time) = (before, time - TimeDelta::hours(1));
        }
        let hours = (1..=PRIOR_DAYS * 24).map(|hours| began.map(|began| began - TimeDelta::hours(hours)));
        let prices = hours.flatten().filter_map(at).filter(|before| before.currency() == present.currency());
        prices.min_by_key(Money::amount)
    }

    proptest! {
        #[test]
        fn it_is_what_a_walk_through_every_hour_finds(history in histories()) {
            let newest_first: Vec<_> = history.iter().rev().copied().collect();
            prop_assert_eq!(told(prior(&newest_first)), by_the_hour(&history));
        }

        #[test]
        fn what_is_known_from_a_piece_is_known_from_the_whole(history in histories(), length in 1usize..20) {
            let newest_first: Vec<_> = history.iter().rev().copied().collect();
            let piece = prior(&newest_first[..length.min(newest_first.len())]);
            if matches!(piece, Prior::Known(_)) {
                prop_assert_eq!(piece, prior(&newest_first));
            }
        }
    }
}
