//! JSON as it was sent: keys in their order, and none of them twice.
//!
//! A parser that keeps the last of two equal keys reads another price than the one a proxy or a log
//! has seen (RFC 8259 §4 leaves it open), so such an object is refused.

use crate::error::ApiError;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Most keys of one object: several times what any request has, and it bounds the search for doubled ones.
const MAX_KEYS: usize = 64;

/// 2^53−1: up to here a float is the number that was written.
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A whole number from 0 to 2^64−1, also as `3.0` or `3e0` up to 2^53−1: to JSON these are one number.
    Whole(u64),
    /// A whole number below 0, down to −(2^53−1), by its distance from 0.
    Negative(u64),
    /// Any other number; no request has a field for one.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// # Errors
    /// [`ApiError::MalformedJson`], with line and column.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Err(ApiError::MalformedJson("the body is empty".to_owned()));
        }
        serde_json::from_slice(body).map_err(|error| ApiError::MalformedJson(error.to_string()))
    }

    fn of_float(value: f64) -> Self {
        let is_exact = value.fract() == 0.0 && value.abs() <= MAX_EXACT;
        match value {
            _ if !is_exact => Self::OtherNumber,
            negative if negative < 0.0 => Self::Negative(-negative as u64),
            value => Self::Whole(value as u64),
        }
    }

    /// What this is, for "must be … but is …".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Whole(_) | Self::Negative(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::of_float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::of_float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.iter().any(|(earlier, _)| *earlier == key) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            if object.len() == MAX_KEYS {
                return Err(A::Error::custom(format_args!("an object has more than {MAX_KEYS} keys")));
            }
            object.push((key, entries.next_value()?));
        }
        Ok(Json::Object(object))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_body_is_told_as_such_and_not_as_a_place_in_it() {
        for body in ["", " \r\n"] {
            let said = Json::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("the body is empty"), "{said}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            " ",
            "{",
            "{}x",
            "{'a':1}",
            "{\"a\":1,}",
            "NaN",
            "01",
            "1e999",
            "\u{feff}{}",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"a\0b\"",
            "{\"a\":1,\"a\":1}",
            "[{\"a\":{\"b\":1,\"\\u0062\":2}}]",
            &deep,
        ] {
            assert!(matches!(Json::parse(text.as_bytes()), Err(ApiError::MalformedJson(_))), "{text:?}");
        }
        for bytes in [&b"\"\xff\""[..], b"{\"a\":\"\xed\xa0\x80\"}", b"\xff\xfe{\0}\0"] {
            assert!(matches!(Json::parse(bytes), Err(ApiError::MalformedJson(_))), "{bytes:?}");
        }
    }

    #[test]
    fn an_object_with_very_many_keys_is_refused_early() {
        let keys: Vec<_> = (0..=MAX_KEYS).map(|n| format!("\"k{n}\":0")).collect();
        let parse = |count| Json::parse(format!("{{{}}}", keys[..count].join(",")).as_bytes());
        assert!(parse(MAX_KEYS).is_ok());
        assert!(parse(MAX_KEYS + 1).is_err());
    }

    #[test]
    fn only_whole_numbers_that_fit_are_kept() {
        let numbers = |text: &str| Json::parse(text.as_bytes()).ok();
        let whole = |numbers: &[u64]| Some(Json::List(numbers.iter().map(|number| Json::Whole(*number)).collect()));
        assert_eq!(numbers("[18446744073709551615, 1.0, 12e2, 9007199254740991.0]"), whole(&[u64::MAX, 1, 1200, (1 << 53) - 1]));
        assert_eq!(
            numbers("[18446744073709551616, 9007199254740992.0, -9007199254740993, 1.5, 1e-1]"),
            Some(Json::List(vec![Json::OtherNumber; 5]))
        );
    }
}
