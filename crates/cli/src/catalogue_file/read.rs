//! Reads the layout of this program's own.
//!
//! Promises that every line is a product or is rejected with its number and all its faults, and that two lines are never the
//! same product.

use super::{COLUMNS, StockChange, StockWish, Wish};
use crate::lines::{Record, Records};
use crate::online_retail::{Counts, Reject};
use csv::ByteRecord;
use domain::stock::MOST_COUNTED;
use domain::{Currency, ImportedProduct, Money, NewProduct, Sku};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Display;
use std::io;

/// A description may have as many lines as bytes.
const MAX_LINES_OF_A_RECORD: usize = NewProduct::MAX_DESCRIPTION_BYTES + 1;

/// Columns that must be there.
const NEEDED: [&str; 2] = ["sku", "name"];

/// Columns that change stock, and that are never exported.
const STOCK: [&str; 2] = ["stock_set", "stock_add"];

/// A column of which nobody can know whether it is a count or a delivery.
const QUANTITY: &str = "quantity";

/// Whether a header is one of this layout.
pub(crate) fn recognises_csv(header: &ByteRecord) -> bool {
    header.iter().any(|name| name.trim_ascii() == b"sku")
}

/// Whether a first line is one of this layout.
pub(crate) fn recognises_ndjson(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{")
}

/// Reads CSV; each product goes to `on_product`, each line that cannot be used to `on_reject`.
///
/// # Errors
/// The file cannot be read, or `on_reject` cannot write.
pub(crate) fn read_csv(
    mut records: Records,
    on_product: impl FnMut(Wish),
    on_reject: impl FnMut(Reject) -> io::Result<()>,
) -> io::Result<Counts> {
    let mut reading = Reading::new(on_product, on_reject);
    let header = records.next()?.unwrap_or(Record { line: 1, text: Vec::new(), fields: Ok(ByteRecord::new()) });
    let columns = match header.fields.and_then(|fields| Columns::find(&fields)) {
        Ok(columns) => columns,
        Err(reason) => return reading.refuse_all(header.line, reason, header.text),
    };
    records.expect_width(columns.0.len());
    records.allow_lines(MAX_LINES_OF_A_RECORD);
    while let Some(Record { line, text, fields }) = records.next()? {
        reading.take(line, text, fields.and_then(|fields| columns.product(&fields)))?;
    }
    Ok(reading.counts)
}

/// Reads NDJSON likewise.
///
/// # Errors
/// As [`read_csv`].
pub(crate) fn read_ndjson(
    mut records: Records,
    on_product: impl FnMut(Wish),
    on_reject: impl FnMut(Reject) -> io::Result<()>,
) -> io::Result<Counts> {
    let mut reading = Reading::new(on_product, on_reject);
    while let Some(Record { line, text, fields }) = records.next_whole()? {
        let product = fields.and_then(|_| product_of_json(&text));
        reading.take(line, text, product)?;
    }
    Ok(reading.counts)
}

/// What was read so far.
struct Reading<P, R> {
    on_product: P,
    on_reject: R,
    counts: Counts,
    /// The line on which each product stood.
    seen: HashMap<Sku, u64>,
}

impl<P: FnMut(Wish), R: FnMut(Reject) -> io::Result<()>> Reading<P, R> {
    fn new(on_product: P, on_reject: R) -> Self {
        Self { on_product, on_reject, counts: Counts::default(), seen: HashMap::new() }
    }

    fn take(&mut self, line: u64, text: Vec<u8>, told: Result<(ImportedProduct, Option<StockChange>), String>) -> io::Result<()> {
        self.counts.lines += 1;
        let told = told.and_then(|(product, change)| match self.seen.get(&product.sku) {
            Some(first) => Err(format!("sku {} stands on line {first} already", product.sku)),
            None => Ok((product, change)),
        });
        match told {
            Ok((product, change)) => {
                self.seen.insert(product.sku.clone(), line);
                (self.on_product)(Wish { product, stock: change.map(|change| StockWish { change, line, text }) });
                Ok(())
            }
            Err(reason) => self.reject(line, reason, text),
        }
    }

    fn reject(&mut self, line: u64, reason: String, text: Vec<u8>) -> io::Result<()> {
        self.counts.rejected += 1;
        (self.on_reject)(Reject { line, reason, text })
    }

    fn refuse_all(mut self, line: u64, reason: String, text: Vec<u8>) -> io::Result<Counts> {
        self.reject(line, format!("{reason}; no line can be used"), text)?;
        Ok(self.counts)
    }
}

/// All faults of one line.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, what: impl Display, fault: impl Display) {
        self.0.push(format!("{what} {fault}"));
    }

    /// The value, or its fault is noted.
    fn keep<T>(&mut self, what: &str, value: Result<T, impl Display>) -> Option<T> {
        value.map_err(|fault| self.add(what, fault)).ok()
    }

    fn joined(self) -> String {
        self.0.join("; ")
    }
}

/// What a line tells, before it is checked. What could not be read is absent and its fault noted.
#[derive(Default)]
struct Told {
    sku: Option<String>,
    name: Option<String>,
    description: Option<Option<String>>,
    active: Option<bool>,
    amount: Option<String>,
    currency: Option<String>,
    stock_set: Option<String>,
    stock_add: Option<String>,
}

impl Told {
    fn checked(self, mut faults: Faults) -> Result<(ImportedProduct, Option<StockChange>), String> {
        let sku = self.sku.and_then(|sku| faults.keep("sku", Sku::parse(&sku)));
        let name = self.name.and_then(|name| faults.keep("name", NewProduct::check_name(&name).map(|()| name)));
        if let Some(Some(description)) = &self.description {
            faults.keep("description", NewProduct::check_description(description));
        }
        let price = price(self.amount, self.currency, &mut faults);
        let stock = stock(self.stock_set, self.stock_add, &mut faults);
        match (sku, name) {
            (Some(sku), Some(name)) if faults.0.is_empty() => {
                Ok((ImportedProduct { sku, name, description: self.description, active: self.active, price }, stock))
            }
            _ => Err(faults.joined()),
        }
    }
}

fn price(amount: Option<String>, currency: Option<String>, faults: &mut Faults) -> Option<Money> {
    match (amount, currency) {
        (None, None) => None,
        (Some(_), None) => {
            faults.add("currency", "is missing: a price needs both");
            None
        }
        (amount, Some(code)) => {
            let currency = faults.keep(&format!("currency {code:?}"), Currency::parse(&code));
            let Some(amount) = amount else {
                faults.add("price", "is missing: a currency needs one");
                return None;
            };
            faults.keep(&format!("price {amount:?}"), Money::parse(&amount, currency?))
        }
    }
}

fn stock(set: Option<String>, add: Option<String>, faults: &mut Faults) -> Option<StockChange> {
    match (set, add) {
        (None, None) => None,
        (Some(count), None) => faults.keep(&format!("stock_set {count:?}"), stock_set(&count)),
        (None, Some(change)) => faults.keep(&format!("stock_add {change:?}"), stock_add(&change)),
        (Some(_), Some(_)) => {
            faults.add("stock_set", "and stock_add both have a number: leave one of them empty, a count or what is to be added");
            None
        }
    }
}

fn stock_set(count: &str) -> Result<StockChange, String> {
    // `+12` looks like what is to be added.
    let count = Some(count).filter(|count| !count.starts_with('+')).and_then(|count| count.parse().ok());
    let count = count.filter(|count| *count <= MOST_COUNTED);
    count.map(StockChange::Set).ok_or_else(|| format!("must be a whole number from 0 to {MOST_COUNTED}, such as 120"))
}

fn stock_add(change: &str) -> Result<StockChange, String> {
    match change.parse::<i64>() {
        Ok(0) => Err("adds nothing: leave it empty, or write how many to add".to_owned()),
        Ok(change) if change.unsigned_abs() <= MOST_COUNTED => Ok(StockChange::Add(change)),
        _ => Err(format!("must be a whole number from -{MOST_COUNTED} to {MOST_COUNTED}, such as 12 or -3")),
    }
}

/// The name of each column of a file.
struct Columns(Vec<&'static str>);

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, String> {
        let (mut names, mut faults) = (Vec::new(), Faults::default());
        for field in header {
            let text = String::from_utf8_lossy(field.trim_ascii());
            match COLUMNS.iter().chain(&STOCK).find(|name| **name == text) {
                Some(name) if names.contains(name) => faults.add(format!("the column {name}"), "stands there twice"),
                Some(name) => names.push(*name),
                None if text == QUANTITY => {
                    faults.add("the column quantity", "may mean a count or a delivery: name it stock_set or stock_add");
                }
                None => {
                    let known = COLUMNS.into_iter().chain(STOCK).collect::<Vec<_>>().join(",");
                    faults.add(format!("the column {text:?}"), format!("is not known; there are {known}"));
                }
            }
        }
        for needed in NEEDED.iter().filter(|needed| !names.contains(needed)) {
            faults.add(format!("the column {needed}"), "is missing");
        }
        if faults.0.is_empty() { Ok(Self(names)) } else { Err(faults.joined()) }
    }

    fn product(&self, fields: &ByteRecord) -> Result<(ImportedProduct, Option<StockChange>), String> {
        if fields.len() != self.0.len() {
            return Err(format!("the line has {} fields, the header has {}", fields.len(), self.0.len()));
        }
        let (mut told, mut faults) = (Told::default(), Faults::default());
        for (name, field) in self.0.iter().zip(fields) {
            let Ok(text) = std::str::from_utf8(field) else {
                faults.add(name, "is not UTF-8");
                continue;
            };
            let filled = (!text.is_empty()).then(|| text.to_owned());
            match *name {
                "sku" => told.sku = Some(text.to_owned()),
                "name" => told.name = Some(text.to_owned()),
                "description" => told.description = Some(filled),
                "active" => told.active = filled.and_then(|text| faults.keep("active", active(&text))),
                "price" => told.amount = filled,
                "stock_set" => told.stock_set = filled,
                "stock_add" => told.stock_add = filled,
                _ => told.currency = filled,
            }
        }
        told.checked(faults)
    }
}

fn active(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("is {text:?}: write true or false"))
}

fn product_of_json(line: &[u8]) -> Result<(ImportedProduct, Option<StockChange>), String> {
    let value = serde_json::from_slice(line).map_err(|fault| format!("the line is not JSON: {fault}"))?;
    let Value::Object(fields) = value else { return Err("the line is not a JSON object".to_owned()) };
    let (mut told, mut faults) = (Told::default(), Faults::default());
    for needed in NEEDED.iter().filter(|needed| !fields.contains_key(**needed)) {
        faults.add(needed, "is missing");
    }
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("sku", value) => told.sku = text("sku", value, &mut faults),
            ("name", value) => told.name = text("name", value, &mut faults),
            ("description", Value::Null) => told.description = Some(None),
            ("description", value) => told.description = text("description", value, &mut faults).map(Some),
            ("active", Value::Bool(active)) => told.active = Some(active),
            ("active", _) => faults.add("active", "must be true or false"),
            ("price", Value::Null) => {}
            ("price", Value::Object(money)) => (told.amount, told.currency) = money_of_json(money, &mut faults),
            ("price", _) => faults.add("price", r#"must be an object such as {"amount":"12.99","currency":"GBP"}, or null"#),
            ("stock_set" | "stock_add", Value::Null) => {}
            ("stock_set", Value::Number(count)) => told.stock_set = Some(count.to_string()),
            ("stock_add", Value::Number(change)) => told.stock_add = Some(change.to_string()),
            (name @ ("stock_set" | "stock_add"), other) => faults.add(name, format!("is {other}: write a whole number without quotes")),
            (QUANTITY, _) => faults.add("the field quantity", "may mean a count or a delivery: name it stock_set or stock_add"),
            (name, _) => faults.add(format!("the field {name:?}"), "is not known"),
        }
    }
    told.checked(faults)
}

fn money_of_json(money: Map<String, Value>, faults: &mut Faults) -> (Option<String>, Option<String>) {
    let (mut amount, mut currency, before) = (None, None, faults.0.len());
    for (name, value) in money {
        match name.as_str() {
            "amount" => amount = text("price.amount", value, faults),
            "currency" => currency = text("price.currency", value, faults),
            name => faults.add(format!("the field {name:?} of price"), "is not known"),
        }
    }
    if faults.0.len() == before { (amount, currency) } else { (None, None) }
}

fn text(name: &str, value: Value, faults: &mut Faults) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        other => {
            faults.add(name, format!("is {other}: write a text in quotes"));
            None
        }
    }
}
