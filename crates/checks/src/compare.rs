//! One product as MySQL, Redis and the API tell it, side by side.
//!
//! Promises that only what can be wrong counts as a difference: Redis need not hold an entry,
//! and views and availability, which live elsewhere, are not compared.

use serde::Serialize;
use serde_json::Value;

/// The fields that all three must agree on.
const FIELDS: [&str; 8] = ["id", "sku", "name", "description", "active", "price", "version", "updated_at"];

/// What one place says.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    /// Nothing: the cache has no entry, or someone is at work on it or on the row.
    Silent,
    /// There is no such product.
    Absent,
    Product(Value),
}

/// A field that is told by three places; `None` where a place tells nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub field: &'static str,
    pub mysql: Option<Value>,
    pub redis: Option<Value>,
    pub api: Option<Value>,
    pub differs: bool,
}

/// The three answers about one product.
#[derive(Debug, Clone, PartialEq)]
pub struct Sides {
    pub mysql: Side,
    pub redis: Side,
    pub api: Side,
}

impl Sides {
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        FIELDS.iter().map(|field| self.line(field)).collect()
    }

    #[must_use]
    pub fn differ(&self) -> bool {
        self.lines().iter().any(|line| line.differs)
    }

    /// Whether Redis has an entry, be it of a product or of its absence.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.redis != Side::Silent
    }

    fn line(&self, field: &'static str) -> Line {
        let told = [&self.mysql, &self.redis, &self.api].map(|side| side.field(field));
        let mut said = told.iter().flatten();
        let first = said.next();
        let differs = said.any(|value| Some(value) != first);
        let [mysql, redis, api] = told.map(Option::flatten);
        Line { field, mysql, redis, api, differs }
    }

    /// The fields in which `of` differs, as they are here, in one line for messages.
    #[must_use]
    pub fn in_words(&self, of: &Self) -> String {
        let text = |line: &Line| {
            let [field, mysql, redis, api, _] = line.columns();
            format!("{field}: MySQL {mysql}, Redis {redis}, API {api}")
        };
        let (lines, of) = (self.lines(), of.lines());
        let differing = lines.iter().zip(&of).filter(|(_, of)| of.differs);
        let lines: Vec<_> = differing.map(|(line, _)| text(line)).collect();
        lines.join("; ")
    }
}

impl Side {
    /// Whether both say the same of all that is compared.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        FIELDS.iter().all(|field| self.field(field) == other.field(field))
    }

    /// None: says nothing. `Some(None)`: says that there is no such product.
    fn field(&self, field: &str) -> Option<Option<Value>> {
        match self {
            Self::Silent => None,
            Self::Absent => Some(None),
            Self::Product(product) => Some(Some(product.get(field).cloned().unwrap_or_default())),
        }
    }
}

impl Line {
    /// Field, the three values and whether they differ, as people read them.
    #[must_use]
    pub fn columns(&self) -> [String; 5] {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), shown);
        let differs = if self.differs { "differs" } else { "" };
        [self.field.to_owned(), text(&self.mysql), text(&self.redis), text(&self.api), differs.to_owned()]
    }
}

/// A value as people write it: text without quotes, money in one piece.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Object(money) if money.contains_key("amount") => {
            let part = |name| money.get(name).and_then(Value::as_str).unwrap_or("?");
            format!("{} {}", part("amount"), part("currency"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn product(amount: &str) -> Side {
        Side::Product(json!({"id": 42, "sku": "85123A", "price": {"amount": amount, "currency": "GBP"}, "views": amount}))
    }

    #[test]
    fn what_all_three_say_alike_is_no_difference() {
        let alike = Sides { mysql: product("2.55"), redis: product("2.55"), api: product("2.55") };
        assert!(!alike.differ());
        let not_cached = Sides { redis: Side::Silent, ..alike.clone() };
        assert!(!not_cached.differ());
        let gone = Sides { mysql: Side::Absent, redis: Side::Absent, api: Side::Absent };
        assert!(!gone.differ());
    }

    #[test]
    fn a_stale_price_is_a_difference_of_that_field() {
        let stale = Sides { mysql: product("2.55"), redis: product("2.10"), api: product("2.10") };
        let lines = stale.lines();
        let differing: Vec<_> = lines.iter().filter(|line| line.differs).map(|line| line.field).collect();
        assert_eq!(differing, ["price"]);
        assert_eq!(stale.in_words(&stale), "price: MySQL 2.55 GBP, Redis 2.10 GBP, API 2.10 GBP");
        assert_eq!(lines[5].columns(), ["price", "2.55 GBP", "2.10 GBP", "2.10 GBP", "differs"]);
        assert_eq!(lines[3].columns(), ["description", "none", "none", "none", ""]);
    }

    #[test]
    fn a_product_that_one_place_lacks_is_a_difference() {
        let deleted = Sides { mysql: Side::Absent, redis: product("1.00"), api: Side::Absent };
        assert!(deleted.differ());
        let unseen = Sides { mysql: product("1.00"), redis: Side::Silent, api: Side::Absent };
        assert!(unseen.differ());
        assert_eq!(unseen.lines()[0].columns(), ["id", "42", "-", "-", "differs"]);
    }

    #[test]
    fn answers_are_alike_whatever_their_views() {
        let seen = |views: u64| Side::Product(json!({"id": 42, "views": views}));
        assert!(seen(1).is_as(&seen(2)) && !seen(1).is_as(&Side::Absent) && !Side::Absent.is_as(&Side::Silent));
    }
}
