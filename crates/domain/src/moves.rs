//! How far a price moves, and how far it may.
//!
//! A move is relative to the price before. Where there is none, it was 0, or it was in another currency, there is nothing
//! to measure, and that is said instead of a number.

use crate::Money;
use rust_decimal::Decimal;
use std::cmp::Ordering;
use std::fmt;

/// Digits after the point of a percentage.
const SHOWN_DIGITS: u32 = 2;

/// So many moves of a batch are told.
pub const MOST_TOLD: usize = 10;

/// The [`MOST_TOLD`] that deserve a look first.
#[must_use]
pub fn biggest<T>(mut moved: Vec<T>, change: impl Fn(&T) -> Move) -> Vec<T> {
    moved.sort_by(|a, b| change(a).bigger_first(change(b)));
    moved.truncate(MOST_TOLD);
    moved
}

/// From one price to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// There was no price.
    First,
    /// The price was 0, of which no change is a share.
    FromZero,
    /// Another currency; amounts of two currencies are not compared.
    Currency,
    /// In per cent of the price before: -50 is half of it.
    Percent(Decimal),
}

impl Move {
    /// The move between two prices that differ, or do not: that is 0 per cent.
    #[must_use]
    pub fn between(from: Option<Money>, to: Money) -> Self {
        let Some(from) = from else { return Self::First };
        if from.currency() != to.currency() {
            return Self::Currency;
        }
        if from.amount() == to.amount() {
            return Self::Percent(Decimal::ZERO);
        }
        let share = (to.amount() - from.amount()).checked_div(from.amount());
        share.map_or(Self::FromZero, |share| Self::Percent(share * Decimal::ONE_HUNDRED))
    }

    /// The per cent as they are shown, with a sign: `-11.76`.
    #[must_use]
    pub fn percent_text(self) -> Option<String> {
        let Self::Percent(percent) = self else { return None };
        let mut rounded = percent.round_dp(SHOWN_DIGITS);
        rounded.rescale(SHOWN_DIGITS);
        Some(format!("{}{rounded}", if rounded.is_sign_negative() || rounded.is_zero() { "" } else { "+" }))
    }

    /// One word for programs.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::First => "first_price",
            Self::FromZero => "from_zero",
            Self::Currency => "currency",
            Self::Percent(_) => "percent",
        }
    }

    /// Orders by what deserves a look first: what cannot be measured, the largest shares, first prices.
    fn bigger_first(self, other: Self) -> Ordering {
        let rank = |it: Self| match it {
            Self::Currency => (0, Decimal::ZERO),
            Self::FromZero => (1, Decimal::ZERO),
            Self::Percent(percent) => (2, -percent.abs()),
            Self::First => (3, Decimal::ZERO),
        };
        rank(self).cmp(&rank(other))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("no price before"),
            Self::FromZero => f.write_str("from 0"),
            Self::Currency => f.write_str("another currency"),
            Self::Percent(_) => write!(f, "{} %", self.percent_text().unwrap_or_default()),
        }
    }
}

/// How far a price may move at most, up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxChange {
    percent: Decimal,
}

impl MaxChange {
    /// Parses `30%` or `12.5%`.
    ///
    /// # Errors
    /// Anything but a plain number with a per cent sign.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = || format!("{text:?} is no share: write a number of per cent such as 30%");
        let number = text.strip_suffix('%').map(str::trim_end).ok_or_else(hint)?;
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && number.starts_with(|c: char| c.is_ascii_digit());
        if !plain {
            return Err(hint());
        }
        number.parse().map(|percent| Self { percent }).map_err(|_| hint())
    }

    /// Another currency, and anything from 0, is beyond every limit; a first price is beyond none.
    #[must_use]
    pub fn allows(self, change: Move) -> bool {
        match change {
            Move::First => true,
            Move::FromZero | Move::Currency => false,
            Move::Percent(percent) => percent.abs() <= self.percent,
        }
    }
}

impl fmt::Display for MaxChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        let (amount, currency) = text.split_once(' ').unwrap();
        Money::stored(amount.parse().unwrap(), currency)
    }

    fn between(from: &str, to: &str) -> Move {
        Move::between(Some(money(from)), money(to))
    }

    #[test]
    fn a_move_is_a_share_of_the_price_before_or_says_why_it_is_none() {
        for (from, to, shown) in [
            ("2.55 GBP", "2.25 GBP", "-11.76 %"),
            ("2.00 GBP", "3 GBP", "+50.00 %"),
            ("2.00 GBP", "0 GBP", "-100.00 %"),
            ("2.00 GBP", "2 GBP", "0.00 %"),
            ("0 GBP", "0 GBP", "0.00 %"),
            ("0 GBP", "3 GBP", "from 0"),
            ("2.00 GBP", "2.00 EUR", "another currency"),
            ("0.0001 CLF", "999999999999999.9999 CLF", "+999999999999999999800.00 %"),
        ] {
            assert_eq!(between(from, to).to_string(), shown, "{from} {to}");
        }
        assert_eq!(Move::between(None, money("1 GBP")).to_string(), "no price before");
    }

    #[test]
    fn what_deserves_a_look_comes_first() {
        let moves = [
            Move::First,
            between("1 GBP", "1.1 GBP"),
            between("1 GBP", "0.1 GBP"),
            between("0 GBP", "1 GBP"),
            between("1 GBP", "1 EUR"),
            between("1 GBP", "1.5 GBP"),
        ];
        let told = |moves: &[Move]| biggest(moves.to_vec(), |it| *it).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&moves), ["another currency", "from 0", "-90.00 %", "+50.00 %", "+10.00 %", "no price before"]);
        assert_eq!(told(&moves.repeat(2)).len(), MOST_TOLD);
    }

    #[test]
    fn a_limit_holds_both_ways_and_for_what_cannot_be_measured() {
        let limit = MaxChange::parse("30%").unwrap();
        for (from, to, allowed) in [
            ("1 GBP", "1.30 GBP", true),
            ("1 GBP", "1.31 GBP", false),
            ("1 GBP", "0.70 GBP", true),
            ("1 GBP", "0.69 GBP", false),
            ("0 GBP", "0.01 GBP", false),
            ("1 GBP", "1 EUR", false),
        ] {
            assert_eq!(limit.allows(between(from, to)), allowed, "{from} {to}");
        }
        assert!(limit.allows(Move::First) && MaxChange::parse("0%").unwrap().allows(between("1 GBP", "1 GBP")));
        assert_eq!(MaxChange::parse("12.5 %").unwrap().to_string(), "12.5%");
        for text in ["30", "%", "-1%", "1e2%", "x%", "", "+3%", ".5%", "1.2.3%"] {
            assert!(MaxChange::parse(text).is_err(), "{text}");
        }
    }
}
