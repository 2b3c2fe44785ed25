//! Products: identity, the fields a shop may set, and the record that is cached and answered.

use crate::Money;
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU16;

/// Why a field of a product was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    #[error("must be a whole number from 1 to {}", ProductId::MAX)]
    Id,
    #[error("must have 1 to {} bytes, no control characters and no white space at its ends", Sku::MAX_BYTES)]
    Sku,
    #[error("must have 1 to {} characters and no control characters", NewProduct::MAX_NAME_CHARS)]
    Name,
    #[error("must have at most {} bytes and no null character", NewProduct::MAX_DESCRIPTION_BYTES)]
    Description,
}

/// A product's number, 1 to 2^53−1: what a JSON number and a Lua number hold exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ProductId(u64);

impl ProductId {
    pub const MAX: u64 = (1 << 53) - 1;

    /// # Errors
    /// Zero, and numbers above [`ProductId::MAX`].
    pub fn new(id: u64) -> Result<Self, ProductError> {
        if (1..=Self::MAX).contains(&id) { Ok(Self(id)) } else { Err(ProductError::Id) }
    }

    /// Parses digits as they stand in a path: no sign, no leading zero.
    ///
    /// # Errors
    /// Any other text, and numbers out of range.
    pub fn parse(text: &str) -> Result<Self, ProductError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        if !plain {
            return Err(ProductError::Id);
        }
        Self::new(text.parse().map_err(|_| ProductError::Id)?)
    }

    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many view queues and watermark sequences the database was made with; decides where a product's keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards(NonZeroU16);

impl Shards {
    /// Highest number of shards: more would only undo the coalescing of pushes.
    pub const MAX: u16 = 1024;

    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        NonZeroU16::new(count).filter(|count| count.get() <= Self::MAX).map(Self)
    }

    #[must_use]
    pub fn count(self) -> u16 {
        self.0.get()
    }

    /// The shard of a product: its id modulo the number of shards.
    #[must_use]
    pub fn of(self, id: ProductId) -> u16 {
        (id.0 % u64::from(self.0.get())) as u16
    }

    pub fn all(self) -> impl Iterator<Item = u16> {
        0..self.0.get()
    }
}

/// A shop's own name of a product: case-sensitive, 1 to 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Sku(String);

impl Sku {
    pub const MAX_BYTES: usize = 64;

    /// # Errors
    /// Empty or long text, control characters, white space at either end.
    pub fn parse(text: &str) -> Result<Self, ProductError> {
        let length_ok = (1..=Self::MAX_BYTES).contains(&text.len());
        if length_ok && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProductError::Sku)
        }
    }

    /// What a row holds, as it is: other systems write `products` too.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A product to be made: validated, without the id that MySQL gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProduct {
    pub sku: Sku,
    pub name: String,
    pub description: Option<String>,
    pub active: bool,
    pub price: Option<Money>,
}

impl NewProduct {
    pub const MAX_NAME_CHARS: usize = 255;
    pub const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;

    /// # Errors
    /// An empty or long name, and control characters.
    pub fn check_name(name: &str) -> Result<(), ProductError> {
        let length_ok = (1..=Self::MAX_NAME_CHARS).contains(&name.chars().count());
        if length_ok && !name.chars().any(char::is_control) { Ok(()) } else { Err(ProductError::Name) }
    }

    /// # Errors
    /// A long description, and null characters; line breaks are fine.
    pub fn check_description(description: &str) -> Result<(), ProductError> {
        let length_ok = description.len() <= Self::MAX_DESCRIPTION_BYTES;
        if length_ok && !description.contains('\0') { Ok(()) } else { Err(ProductError::Description) }
    }
}

/// A product as a file tells it. What the file does not tell is `None` and stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedProduct {
    pub sku: Sku,
    pub name: String,
    /// `Some(None)`: it is to have none.
    pub description: Option<Option<String>>,
    pub active: Option<bool>,
    pub price: Option<Money>,
}

impl ImportedProduct {
    /// What is made where no product has the SKU.
    #[must_use]
    pub fn made(self) -> NewProduct {
        let Self { sku, name, description, active, price } = self;
        NewProduct { sku, name, description: description.flatten(), active: active.unwrap_or(true), price }
    }

    /// Whether the product that is there would change. No description and an empty one are the same: few files tell them apart.
    #[must_use]
    pub fn differs_from(&self, there: &Product) -> bool {
        let text = |description: &Option<String>| description.clone().unwrap_or_default();
        self.name != there.name
            || self.description.as_ref().is_some_and(|description| text(description) != text(&there.description))
            || self.active.is_some_and(|active| active != there.active)
            || self.price_differs_from(there)
    }

    #[must_use]
    pub fn price_differs_from(&self, there: &Product) -> bool {
        self.price.is_some() && self.price != there.price
    }
}

/// The row of a product as readers see it. Its JSON is what the cache holds; views and availability,
/// which change without the row, are added on the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Product {
    pub id: ProductId,
    pub sku: Sku,
    pub name: String,
    pub description: Option<String>,
    pub active: bool,
    pub price: Option<Money>,
    /// Rises by one with every change of catalogue data or price.
    pub version: u64,
    #[serde(serialize_with = "utc_micros")]
    pub updated_at: DateTime<Utc>,
}

fn utc_micros<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

/// RFC 3339 in UTC with `Z` and microseconds, the one form of every timestamp that is answered.
#[must_use]
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    #[test]
    fn ids_are_positive_and_exact_in_json_and_lua() {
        for text in ["", "0", "01", "+1", "-1", "1.0", "1e3", "9007199254740992", "18446744073709551616", "abc", "1 "] {
            assert_eq!(ProductId::parse(text), Err(ProductError::Id), "{text:?}");
        }
        assert_eq!(ProductId::parse("9007199254740991").map(ProductId::get), Ok(ProductId::MAX));
    }

    #[test]
    fn skus_keep_their_case_and_have_no_hidden_characters() {
        for text in ["", " a", "a ", "a\u{a0}", "a\0b", "a\nb", &"x".repeat(65), &"é".repeat(33)] {
            assert_eq!(Sku::parse(text), Err(ProductError::Sku), "{text:?}");
        }
        assert_ne!(Sku::parse("85123A"), Sku::parse("85123a"));
        assert!(Sku::parse("a b").is_ok());
    }

    #[test]
    fn a_record_is_written_in_the_form_that_is_answered() {
        let product = Product {
            id: ProductId::new(42).unwrap(),
            sku: Sku::parse("85123A").unwrap(),
            name: "WHITE HANGING HEART".into(),
            description: None,
            active: true,
            price: Some(Money::stored("2.55".parse().unwrap(), "GBP")),
            version: 7,
            updated_at: DateTime::from_timestamp_micros(1_294_135_200_000_000).unwrap(),
        };
        assert_eq!(
            serde_json::to_string(&product).unwrap(),
            r#"{"id":42,"sku":"85123A","name":"WHITE HANGING HEART","description":null,"active":true,"price":{"amount":"2.55","currency":"GBP"},"version":7,"updated_at":"2011-01-04T10:00:00.000000Z"}"#
        );
    }

    #[test]
    fn a_file_changes_what_it_tells_and_leaves_the_rest() {
        let money = |amount| Some(Money::stored(Decimal::new(amount, 2), "GBP"));
        let there = Product {
            id: ProductId::new(42).unwrap(),
            sku: Sku::parse("85123A").unwrap(),
            name: "HEART".into(),
            description: Some(String::new()),
            active: false,
            price: money(255),
            version: 7,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let name_alone = ImportedProduct { sku: there.sku.clone(), name: "HEART".into(), description: None, active: None, price: None };
        let same = ImportedProduct { description: Some(None), active: Some(false), price: money(255), ..name_alone.clone() };
        assert!(!name_alone.differs_from(&there) && !same.differs_from(&there));
        let changed = [
            ImportedProduct { name: "STAR".into(), ..same.clone() },
            ImportedProduct { description: Some(Some("white".into())), ..same.clone() },
            ImportedProduct { active: Some(true), ..same.clone() },
            ImportedProduct { price: money(210), ..same.clone() },
        ];
        assert!(changed.iter().all(|product| product.differs_from(&there)));
        assert!(changed[3].price_differs_from(&there) && !changed[0].price_differs_from(&there));
        assert!(name_alone.made().active && !same.made().active);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = (ProductId::parse(&text), Sku::parse(&text), NewProduct::check_name(&text));
        }
    }
}
