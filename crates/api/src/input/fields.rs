//! Reads the fields of a JSON object and gathers every fault, not the first.
//!
//! A route takes its fields one by one and then calls [`Reader::finish`], which reports what nobody took.
//! A value that was refused reads as `None`: it must not be used before [`Faults::into_result`] has said
//! that there was no fault.

use super::json::Json;
use crate::error::ApiError;
use domain::{Currency, Money, ProductId, money::MoneyError};
use serde::Serialize;
use std::fmt::Display;
use std::ops::RangeInclusive;
use utoipa::ToSchema;
use uuid::Uuid;

/// One fault, at a JSON pointer (RFC 6901); the empty pointer is the whole body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        self.0.push(Fault { pointer: pointer.into(), detail: detail.to_string() });
    }

    /// All of them, in the order in which they were met.
    pub(crate) fn into_list(self) -> Vec<Fault> {
        self.0
    }

    /// # Errors
    /// [`ApiError::Invalid`] with all faults, if there are any or the value is missing.
    pub(crate) fn into_result<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ApiError::Invalid(self.0)),
        }
    }
}

/// The fields of one object that were not taken yet.
pub(crate) struct Reader<'f> {
    pointer: String,
    fields: Vec<(String, Json)>,
    faults: &'f mut Faults,
}

impl<'f> Reader<'f> {
    /// `None`, with a fault, if this is no object.
    pub(crate) fn new(json: Json, pointer: String, faults: &'f mut Faults) -> Option<Self> {
        match json {
            Json::Object(fields) => Some(Self { pointer, fields, faults }),
            other => {
                faults.add(pointer, format_args!("must be an object, but is {}", other.kind()));
                None
            }
        }
    }

    /// Whether a field is there and was not taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// A fault of the object as a whole.
    pub(crate) fn fault_of_all(&mut self, detail: impl Display) {
        self.faults.add(self.pointer.clone(), detail);
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(at).1)
    }

    pub(crate) fn fault(&mut self, name: &str, detail: impl Display) {
        // RFC 6901 §3: `~` and `/` stand for themselves only when escaped.
        let name = name.replace('~', "~0").replace('/', "~1");
        self.faults.add(format!("{}/{name}", self.pointer), detail);
    }

    fn parse<T>(&mut self, name: &str, value: Json, parse: impl FnOnce(Json) -> Result<T, String>) -> Option<T> {
        parse(value).map_err(|detail| self.fault(name, detail)).ok()
    }

    /// A field that must be there.
    pub(crate) fn required<T>(&mut self, name: &str, parse: impl FnOnce(Json) -> Result<T, String>) -> Option<T> {
        match self.take(name) {
            Some(value) => self.parse(name, value, parse),
            None => {
                self.fault(name, "is missing");
                None
            }
        }
    }

    /// A field that may be absent, but not null.
    pub(crate) fn optional<T>(&mut self, name: &str, parse: impl FnOnce(Json) -> Result<T, String>) -> Option<T> {
        let value = self.take(name)?;
        self.parse(name, value, parse)
    }

    /// An array in a field that may be absent, of 1 to `most` values. Each that is refused is a fault of its own.
    pub(crate) fn optional_list<T>(&mut self, name: &str, most: usize, parse: impl Fn(Json) -> Result<T, String>) -> Option<Vec<T>> {
        let list = self.optional(name, |value| match value {
            Json::List(list) if (1..=most).contains(&list.len()) => Ok(list),
            Json::List(list) => Err(format!("has {} elements; it must have 1 to {most}", list.len())),
            other => Err(wrong("an array", &other)),
        })?;
        let (pointer, faults) = (&self.pointer, &mut *self.faults);
        let mut read = |(place, value)| parse(value).map_err(|detail| faults.add(format!("{pointer}/{name}/{place}"), detail)).ok();
        Some(list.into_iter().enumerate().filter_map(&mut read).collect())
    }

    /// An array of objects that must be there, of 1 to `most`; those that `read` refuses are left out, with their faults.
    pub(crate) fn objects<T>(&mut self, name: &str, most: usize, read: impl Fn(Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
        let list = self.required(name, |value| match value {
            Json::List(list) if (1..=most).contains(&list.len()) => Ok(list),
            Json::List(list) => Err(format!("has {} elements; it must have 1 to {most}", list.len())),
            other => Err(wrong("an array", &other)),
        })?;
        let (pointer, faults) = (&self.pointer, &mut *self.faults);
        let mut object = |(place, value)| Reader::new(value, format!("{pointer}/{name}/{place}"), faults).and_then(&read);
        Some(list.into_iter().enumerate().filter_map(&mut object).collect())
    }

    /// A field that may be absent or null, which mean the same.
    pub(crate) fn nullable<T>(&mut self, name: &str, parse: impl FnOnce(Json) -> Result<T, String>) -> Option<T> {
        match self.take(name)? {
            Json::Null => None,
            value => self.parse(name, value, parse),
        }
    }

    /// An object in a field that may be absent or null.
    pub(crate) fn nullable_object<T>(&mut self, name: &str, read: impl FnOnce(Reader<'_>) -> Option<T>) -> Option<T> {
        match self.take(name)? {
            Json::Null => None,
            value => Reader::new(value, format!("{}/{name}", self.pointer), self.faults).and_then(read),
        }
    }

    /// The fields `amount` and `currency`.
    pub(crate) fn money(&mut self) -> Option<Money> {
        let amount = self.required("amount", amount_text);
        let currency = self.required("currency", |value| Currency::parse(&text(value)?).map_err(say));
        let parsed = match (amount, currency) {
            (Some(amount), Some(currency)) => Money::parse(&amount, currency),
            // How many digits it may have depends on the currency; whether it is a number does not.
            (Some(amount), None) => match Money::parse(&amount, Currency::stored("")) {
                Err(MoneyError::TooPrecise { .. }) | Ok(_) => return None,
                refused => refused,
            },
            (None, _) => return None,
        };
        parsed.map_err(|error| self.fault("amount", error)).ok()
    }

    /// Reports every field that was not taken.
    pub(crate) fn finish(mut self) {
        for (name, _) in std::mem::take(&mut self.fields) {
            self.fault(&name, "is not a field of this request");
        }
    }
}

fn say(error: impl Display) -> String {
    error.to_string()
}

fn wrong(expected: &str, value: &Json) -> String {
    format!("must be {expected}, but is {}", value.kind())
}

pub(crate) fn text(value: Json) -> Result<String, String> {
    match value {
        Json::Text(text) => Ok(text),
        other => Err(wrong("a string", &other)),
    }
}

/// A text that a domain type checks.
pub(crate) fn text_that<T, E: Display>(parse: impl FnOnce(String) -> Result<T, E>) -> impl FnOnce(Json) -> Result<T, String> {
    |value| parse(text(value)?).map_err(say)
}

pub(crate) fn flag(value: Json) -> Result<bool, String> {
    match value {
        Json::Bool(flag) => Ok(flag),
        other => Err(wrong("true or false", &other)),
    }
}

pub(crate) fn whole_number(range: RangeInclusive<u64>) -> impl Fn(Json) -> Result<u64, String> {
    move |value| match value {
        Json::Whole(number) if range.contains(&number) => Ok(number),
        Json::Whole(_) | Json::Negative(_) | Json::OtherNumber => {
            Err(format!("must be a whole number from {} to {}", range.start(), range.end()))
        }
        other => Err(wrong(&format!("a whole number from {} to {}", range.start(), range.end()), &other)),
    }
}

/// A change by so many at most, up or down.
pub(crate) fn change_by(most: u64) -> impl Fn(Json) -> Result<i64, String> {
    let wanted = format!("a whole number from -{most} to {most} and not 0");
    move |value| match value {
        Json::Whole(number) if (1..=most).contains(&number) => Ok(number as i64),
        Json::Negative(number) if (1..=most).contains(&number) => Ok(-(number as i64)),
        Json::Whole(_) | Json::Negative(_) | Json::OtherNumber => Err(format!("must be {wanted}")),
        other => Err(wrong(&wanted, &other)),
    }
}

pub(crate) fn product_id(value: Json) -> Result<ProductId, String> {
    let number = whole_number(1..=ProductId::MAX)(value)?;
    ProductId::new(number).map_err(say)
}

/// With its four hyphens and nothing around it, in either case.
pub(crate) fn uuid(value: Json) -> Result<Uuid, String> {
    const HYPHENATED: usize = 36;
    let text = text(value)?;
    let uuid = Uuid::try_parse(&text).ok().filter(|_| text.len() == HYPHENATED);
    uuid.ok_or_else(|| "must be a UUID such as 0190f5a2-7c1e-7d5b-9a44-3c2d1e0f8b6a".into())
}

fn amount_text(value: Json) -> Result<String, String> {
    match value {
        // A number has passed through a float in many clients before it comes here.
        Json::Whole(_) | Json::Negative(_) | Json::OtherNumber => {
            Err("must be a string such as \"12.99\", not a JSON number, which may have been rounded".into())
        }
        value => text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str, read: impl FnOnce(&mut Reader<'_>)) -> Vec<String> {
        let mut faults = Faults::default();
        if let Some(mut reader) = Reader::new(Json::parse(body.as_bytes()).unwrap(), String::new(), &mut faults) {
            read(&mut reader);
            reader.finish();
        }
        faults.0.into_iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect()
    }

    #[test]
    fn every_fault_is_listed_with_its_pointer() {
        let found = faults(r#"{"n":"1","flag":1,"a/b~c":0,"price":{"amount":1.5,"x":2}}"#, |reader| {
            reader.required("n", whole_number(1..=9));
            reader.optional("flag", flag);
            reader.required("name", text);
            reader.nullable_object("price", |mut price| {
                price.money();
                price.finish();
                Some(())
            });
        });
        assert_eq!(
            found,
            [
                "/n must be a whole number from 1 to 9, but is a string",
                "/flag must be true or false, but is a number",
                "/name is missing",
                "/price/amount must be a string such as \"12.99\", not a JSON number, which may have been rounded",
                "/price/currency is missing",
                "/price/x is not a field of this request",
                "/a~1b~0c is not a field of this request",
            ]
        );
    }

    #[test]
    fn every_wrong_element_of_a_list_is_listed() {
        let read = |body| faults(body, |reader| drop(reader.optional_list("ids", 3, product_id)));
        assert_eq!(read(r#"{"ids":[1,2,3]}"#), [""; 0]);
        let found = read(r#"{"ids":[0,7,"x"]}"#);
        let pointers: Vec<_> = found.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(pointers, ["/ids/0", "/ids/2"], "{found:?}");
        for body in [r#"{"ids":[]}"#, r#"{"ids":[1,2,3,4]}"#, r#"{"ids":null}"#] {
            let found = read(body);
            assert!(found.len() == 1 && found[0].starts_with("/ids "), "{found:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_one_fault() {
        for body in ["[]", "null", "1", "\"x\"", "true"] {
            let found = faults(body, |_| panic!("was read"));
            assert_eq!(found.len(), 1, "{body}");
            assert!(found[0].starts_with(" must be an object"), "{found:?}");
        }
    }

    #[test]
    fn an_amount_is_judged_even_when_its_currency_is_not_known() {
        let pointers = |body| faults(body, |reader| assert!(reader.money().is_none() || body.contains("12.99\""))).len();
        assert_eq!(pointers(r#"{"amount":"-1","currency":"gbp"}"#), 2);
        assert_eq!(pointers(r#"{"amount":"1.23456","currency":"gbp"}"#), 1);
        assert_eq!(pointers(r#"{"amount":"12.999","currency":"GBP"}"#), 1);
        assert_eq!(pointers(r#"{"amount":"12.99","currency":"GBP"}"#), 0);
        assert_eq!(pointers(r#"{"amount":null,"currency":null}"#), 2);
    }

    #[test]
    fn a_uuid_has_one_form_in_either_case() {
        let read = |text: &str| uuid(Json::Text(text.into())).ok();
        let plain = "0190f5a2-7c1e-7d5b-9a44-3c2d1e0f8b6a";
        assert!(read(plain).is_some());
        assert_eq!(read(plain), read(&plain.to_uppercase()));
        for other in
            ["", "x", &plain[1..], &plain.replace('-', ""), &format!("{{{plain}}}"), &format!("urn:uuid:{plain}"), &format!(" {plain}")]
        {
            assert_eq!(read(other), None, "{other:?}");
        }
        assert!(uuid(Json::Null).is_err() && uuid(Json::Whole(1)).is_err());
    }

    #[test]
    fn numbers_that_are_no_product_id_are_refused() {
        for body in ["0", "-1", "1.5", "9007199254740992", "18446744073709551616", "\"1\"", "null", "[1]"] {
            assert!(product_id(Json::parse(body.as_bytes()).unwrap()).is_err(), "{body}");
        }
        assert!(product_id(Json::Whole(ProductId::MAX)).is_ok());
    }
}
