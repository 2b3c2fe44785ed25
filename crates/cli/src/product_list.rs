//! `product list`: the products of the API, page by page; those that are sold out are a report of MySQL's.
//!
//! Promises that a page is shown as soon as it came, and that no more of them than needed are asked for.

pub(crate) mod sold_out;

use crate::api_client::{ApiClient, MAX_PAGE, Page};
use crate::args::ListArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use checks::compare::shown;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) async fn run(args: &ListArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut list, mut cursor) = (output.pages(), None);
    loop {
        let page = api.page(left.min(MAX_PAGE), cursor.as_deref(), args.updated_since.as_deref()).await?;
        let Page { data, next_cursor } = page;
        left = left.saturating_sub(data.len() as u64);
        let rows = data.into_iter().map(|raw| Listed::of(raw, api)).collect::<Result<Vec<_>, _>>()?;
        list.add(&rows)?;
        cursor = next_cursor.filter(|_| left > 0);
        if cursor.is_none() {
            list.finish::<Listed>()?;
            return Ok(Exit::Ok);
        }
    }
}

/// A product of the list: word for word in JSON, the fields that fit on a line in a table.
struct Listed {
    raw: Box<RawValue>,
    fields: Value,
}

impl Listed {
    fn of(raw: Box<RawValue>, api: &ApiClient) -> Result<Self, Failure> {
        let fields = api.parsed(raw.get())?;
        Ok(Self { raw, fields })
    }
}

impl Serialize for Listed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] = &["id", "sku", "name", "price", "available", "views", "active", "updated_at"];

    fn cells(&self) -> Vec<String> {
        let field = |name: &&str| match *name {
            "available" => shown(&self.fields["availability"]["available"]),
            "updated_at" => to_the_second(&shown(&self.fields["updated_at"])),
            name => shown(&self.fields[name]),
        };
        Self::COLUMNS.iter().map(field).collect()
    }
}

/// `2011-01-04T10:00:00.000000Z` without its microseconds.
fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_a_line_and_its_json_stays_as_it_came() {
        let api = ApiClient::new("http://127.0.0.1:1", None).unwrap();
        let text = r#"{"id":42,"sku":"85123A","name":"HEART","active":true,"price":null,"updated_at":"2011-01-04T10:00:00.123456Z","views":7,"availability":{"available":3}}"#;
        let listed = Listed::of(RawValue::from_string(text.to_owned()).unwrap(), &api).unwrap();
        assert_eq!(listed.cells(), ["42", "85123A", "HEART", "none", "3", "7", "true", "2011-01-04T10:00:00Z"]);
        assert_eq!(serde_json::to_string(&listed).unwrap(), text);
    }
}
