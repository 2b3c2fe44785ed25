//! The layout of this program's own: what `product export` writes and `product import` reads.
//!
//! - CSV (RFC 4180, UTF-8, lines end in LF): the header `sku,name,description,active,price,currency`, a product a line. An empty
//!   description is none; `active` is `true` or `false`; price and currency are both empty where there is no price.
//! - NDJSON: an object a line, `{"sku":…,"name":…,"description":…,"active":…,"price":{"amount":"2.55","currency":"GBP"}}`.
//!
//! Only what a shop decides is in it: ids, versions and times are each database's own. What is read need not have all columns or
//! fields: one that is absent leaves what is there. It may have one more, which nothing writes: `stock_set`, a count of what is on
//! hand, or `stock_add`, what is to be added to it; what is empty changes no stock. Stock moves all the time, so that in an export
//! it would be a count of the past, which an import would put back.

mod read;

use domain::ImportedProduct;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

pub(crate) use read::{read_csv, read_ndjson, recognises_csv, recognises_ndjson};

pub(crate) const COLUMNS: [&str; 6] = ["sku", "name", "description", "active", "price", "currency"];

/// What a line of a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) product: ImportedProduct,
    pub(crate) stock: Option<StockWish>,
}

/// What a line asks for of the stock of its product, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StockWish {
    pub(crate) change: StockChange,
    pub(crate) line: u64,
    pub(crate) text: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StockChange {
    /// So many are on hand.
    Set(u64),
    /// So many more are on hand, or fewer; not 0.
    Add(i64),
}

/// A product as it is written: the fields of the API that the layout has, as they are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    name: String,
    description: Option<String>,
    active: bool,
    price: Option<Price>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Price {
    amount: String,
    currency: String,
}

/// Writes CSV with its header.
///
/// # Errors
/// Those of the writer.
pub(crate) fn write_csv(lines: &[Line], to: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(COLUMNS).map_err(cause)?;
    for line in lines {
        let (amount, currency) = line.price.as_ref().map_or(("", ""), |price| (&price.amount, &price.currency));
        let (description, active) = (line.description.as_deref().unwrap_or_default(), if line.active { "true" } else { "false" });
        writer.write_record([&line.sku, &line.name, description, active, amount, currency]).map_err(cause)?;
    }
    writer.flush()
}

/// The fault of the writer itself, so that a reader that left is still known for that.
fn cause(fault: csv::Error) -> io::Error {
    match fault.into_kind() {
        csv::ErrorKind::Io(fault) => fault,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Writes an object a line.
///
/// # Errors
/// Those of the writer.
pub(crate) fn write_ndjson(lines: &[Line], to: &mut dyn Write) -> io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut *to, line)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "catalogue_file_tests.rs"]
mod tests;
