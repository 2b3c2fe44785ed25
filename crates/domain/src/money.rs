//! Money: a decimal amount and an ISO 4217 currency.
//!
//! An amount is never a float and never rounded: text with more digits than the
//! currency has is refused, because DECIMAL columns round silently, also in strict mode.

use rust_decimal::Decimal;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::fmt;

/// Digits before the point that `DECIMAL(19,4)` holds.
const MAX_WHOLE_DIGITS: usize = 15;

/// Codes that the list of `iso_currency` takes for replaced and ISO 4217 (list one) does not: Venezuela has VED and VES.
const NOT_REPLACED: [&str; 1] = ["VES"];

/// Why an amount or a currency was refused; the text says how to write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("must be a plain decimal number such as \"12.99\": digits, at most one point, no sign, no exponent")]
    NotDecimal,
    #[error("has {0} digits before the point, at most {MAX_WHOLE_DIGITS} are kept")]
    TooLarge(usize),
    #[error("has {given} digits after the point, {currency} has {allowed}")]
    TooPrecise { given: usize, allowed: u8, currency: Currency },
    #[error("must be a current ISO 4217 code of three capital letters such as \"GBP\"")]
    UnknownCurrency,
}

/// A currency in use: three capital letters and how many digits its minor unit has (0 to 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

impl Currency {
    /// Parses the code of a currency that is in use.
    ///
    /// # Errors
    /// Unknown codes, codes without a minor unit (`XAU`, `XXX`), and currencies that were replaced.
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        let known = iso_currency::Currency::from_code(code).ok_or(MoneyError::UnknownCurrency)?;
        let replaced = known.is_superseded().is_some() && !NOT_REPLACED.contains(&code);
        match known.exponent() {
            Some(exponent) if !replaced && !known.is_special() => Ok(Self::of(code, exponent as u8)),
            _ => Err(MoneyError::UnknownCurrency),
        }
    }

    /// What a row holds, as it is: other systems write `products` too. An unknown code has exponent 0,
    /// so that its amounts are shown with exactly the digits that they have.
    #[must_use]
    pub fn stored(code: &str) -> Self {
        Self::parse(code).unwrap_or_else(|_| Self::of(code, 0))
    }

    /// Every currency that is in use, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Self> {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(move |a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        codes.filter_map(|code| Self::parse(std::str::from_utf8(&code).ok()?).ok())
    }

    fn of(code: &str, exponent: u8) -> Self {
        let mut letters = *b"???";
        for (to, from) in letters.iter_mut().zip(code.bytes().filter(u8::is_ascii_alphanumeric)) {
            *to = from;
        }
        Self { code: letters, exponent }
    }

    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// Most digits after the point, 0 to 4.
    #[must_use]
    pub fn digits(&self) -> u8 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount ≥ 0 of one currency. Equal when amount and currency are (`2.1` equals `2.10`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// Parses a decimal text with at most as many digits after the point as the currency has.
    ///
    /// # Errors
    /// Anything but digits with at most one point between them, and amounts out of range.
    pub fn parse(amount: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let point_without_digits = amount.contains('.') && fraction.is_empty();
        if whole.is_empty() || point_without_digits || !digits(whole) || !digits(fraction) {
            return Err(MoneyError::NotDecimal);
        }
        let significant = whole.trim_start_matches('0').len();
        if significant > MAX_WHOLE_DIGITS {
            return Err(MoneyError::TooLarge(significant));
        }
        if fraction.len() > usize::from(currency.exponent) {
            return Err(MoneyError::TooPrecise { given: fraction.len(), allowed: currency.exponent, currency });
        }
        let amount = amount.parse::<Decimal>().map_err(|_| MoneyError::NotDecimal)?;
        Ok(Self { amount, currency })
    }

    /// What a row holds, as it is.
    #[must_use]
    pub fn stored(amount: Decimal, currency: &str) -> Self {
        Self { amount, currency: Currency::stored(currency) }
    }

    /// What [`Self::amount_text`] wrote of a row.
    ///
    /// # Errors
    /// An amount that is no decimal number.
    pub fn shown(amount: &str, currency: &str) -> Result<Self, MoneyError> {
        let amount = amount.parse().map_err(|_| MoneyError::NotDecimal)?;
        Ok(Self::stored(amount, currency))
    }

    #[must_use]
    pub fn amount(&self) -> Decimal {
        self.amount
    }

    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The amount with as many digits after the point as the currency has, more only if a row holds more.
    #[must_use]
    pub fn amount_text(&self) -> String {
        let mut amount = self.amount.normalize();
        let exponent = u32::from(self.currency.exponent);
        if amount.scale() < exponent {
            amount.rescale(exponent);
        }
        amount.to_string()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount_text(), self.currency)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut money = serializer.serialize_struct("Money", 2)?;
        money.serialize_field("amount", &self.amount_text())?;
        money.serialize_field("currency", self.currency.code())?;
        money.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gbp() -> Currency {
        Currency::parse("GBP").unwrap()
    }

    #[test]
    fn amounts_are_shown_with_the_digits_of_their_currency() {
        for (code, given, shown) in [("GBP", "2.1", "2.10"), ("GBP", "007", "7.00"), ("JPY", "120", "120"), ("BHD", "1.5", "1.500")] {
            let money = Money::parse(given, Currency::parse(code).unwrap()).unwrap();
            assert_eq!(money.amount_text(), shown, "{code} {given}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", "-1", "+1", "1e3", "NaN", "1.", ".5", "1.2.3", "1,5", " 1", "1 ", "٣", "0x1", "1\0"] {
            assert_eq!(Money::parse(text, gbp()), Err(MoneyError::NotDecimal), "{text:?}");
        }
        assert!(matches!(Money::parse("12.999", gbp()), Err(MoneyError::TooPrecise { given: 3, allowed: 2, .. })));
        assert!(matches!(Money::parse("1000000000000000", gbp()), Err(MoneyError::TooLarge(16))));
        assert!(matches!(Money::parse(&format!("1{}", "0".repeat(30)), gbp()), Err(MoneyError::TooLarge(31))));
        assert!(Money::parse("999999999999999.99", gbp()).is_ok());
    }

    #[test]
    fn currencies_out_of_use_and_unknown_codes_are_refused() {
        for code in ["", "gbp", "GB", "GBPP", "ZZZ", "XXX", "XAU", "XTS", "HRK", "SLL", "ZWL"] {
            assert_eq!(Currency::parse(code), Err(MoneyError::UnknownCurrency), "{code:?}");
        }
    }

    #[test]
    fn both_currencies_of_venezuela_are_in_use() {
        for code in ["VED", "VES"] {
            assert_eq!(Currency::parse(code).map(|currency| currency.digits()), Ok(2), "{code}");
        }
    }

    #[test]
    fn a_row_written_by_others_is_shown_as_it_is() {
        assert_eq!(Money::stored(Decimal::new(25555, 4), "GBP").amount_text(), "2.5555");
        assert_eq!(Money::stored(Decimal::new(25500, 4), "GBP").amount_text(), "2.55");
        assert_eq!(Money::stored(Decimal::new(10000, 4), "ZZZ").to_string(), "1 ZZZ");
        assert_eq!(Money::shown("2.5555", "GBP"), Ok(Money::stored(Decimal::new(25555, 4), "GBP")));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same_money(pence in 0u64..100_000_000_000_000_000) {
            let money = Money::parse(&format!("{}.{:02}", pence / 100, pence % 100), gbp()).unwrap();
            prop_assert_eq!(Money::parse(&money.amount_text(), gbp()).unwrap(), money);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Money::parse(&text, gbp());
            let _ = Currency::parse(&text);
        }
    }
}
