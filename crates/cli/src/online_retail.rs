//! The layout of UCI Online Retail: which lines are about a product, and what one line says.
//!
//! Promises that `import` and `replay` read the same lines, and that whatever is not used
//! is either skipped for a reason that is counted or rejected with its line number.
//! Does not know catalogue, network or terminal.

use crate::lines::{self, Record, Records};
use chrono::NaiveDateTime;
use csv::ByteRecord;
use domain::{Currency, Money, NewProduct, Sku};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The shop is British; the layout has no currency column.
const CURRENCY: &str = "GBP";

const DATE_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// A `StockCode` that begins with so many digits is a product.
const SKU_DIGITS: usize = 5;

/// So many different unknown codes are counted one by one; a file of another kind must not fill the report.
const MAX_UNKNOWN_CODES: usize = 32;

const NEEDED: [&str; 4] = ["StockCode", "Description", "InvoiceDate", "UnitPrice"];

/// One line about a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProductLine {
    pub(crate) sku: Sku,
    pub(crate) time: NaiveDateTime,
    /// Trimmed; none where the line has no text.
    pub(crate) description: Option<String>,
    /// None where `UnitPrice` is zero or negative.
    pub(crate) price: Option<Money>,
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) line: u64,
    pub(crate) reason: String,
    pub(crate) text: Vec<u8>,
}

/// What became of the lines that are no product lines.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Lines behind the header, the rejected ones too.
    pub(crate) lines: u64,
    pub(crate) skipped: BTreeMap<String, u64>,
    pub(crate) rejected: u64,
}

/// Whether a header looks like this layout: at least one of the needed columns is there.
pub(crate) fn recognises(header: &ByteRecord) -> bool {
    NEEDED.iter().any(|name| !positions(header, name).is_empty())
}

/// Reads the whole file; each product line goes to `on_line`, each line that cannot be used to `on_reject`.
///
/// # Errors
/// The file cannot be read, or `on_reject` cannot write.
pub(crate) fn read(
    path: &Path,
    mut on_line: impl FnMut(ProductLine),
    mut on_reject: impl FnMut(Reject) -> io::Result<()>,
) -> io::Result<Counts> {
    read_records(Records::new(lines::open(path)?), &mut on_line, &mut on_reject)
}

fn read_records(
    mut records: Records,
    on_line: &mut dyn FnMut(ProductLine),
    on_reject: &mut dyn FnMut(Reject) -> io::Result<()>,
) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut reject = |counts: &mut Counts, line, reason, text| {
        counts.rejected += 1;
        on_reject(Reject { line, reason, text })
    };
    let header = records.next()?.unwrap_or(Record { line: 1, text: Vec::new(), fields: Ok(ByteRecord::new()) });
    let columns = match header.fields.and_then(|fields| Columns::find(&fields)) {
        Ok(columns) => columns,
        Err(reason) => {
            reject(&mut counts, header.line, format!("{reason}; no line can be used"), header.text)?;
            return Ok(counts);
        }
    };
    if let Some(reason) = columns.doubled() {
        reject(&mut counts, header.line, reason, header.text)?;
    }
    records.expect_width(columns.width);
    while let Some(Record { line, text, fields }) = records.next()? {
        counts.lines += 1;
        match fields.and_then(|fields| columns.meaning(&fields)) {
            Ok(Meaning::Product(product)) => on_line(product),
            Ok(Meaning::Other(code)) => count_skipped(&mut counts.skipped, &code),
            Err(reason) => reject(&mut counts, line, reason, text)?,
        }
    }
    Ok(counts)
}

enum Meaning {
    Product(ProductLine),
    /// The code of a line that is no product line.
    Other(String),
}

/// Where the needed columns stand; more than one place if the header names a column twice.
struct Columns {
    places: [Vec<usize>; NEEDED.len()],
    width: usize,
    currency: Currency,
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, String> {
        let places = NEEDED.map(|name| positions(header, name));
        let missing: Vec<_> = NEEDED.iter().zip(&places).filter(|(_, at)| at.is_empty()).map(|(name, _)| *name).collect();
        if missing.is_empty() {
            let currency = Currency::parse(CURRENCY).map_err(|fault| fault.to_string())?;
            return Ok(Self { places, width: header.len(), currency });
        }
        let found: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        Err(format!("the header lacks {} (it has: {})", missing.join(", "), found.join(", ")))
    }

    fn doubled(&self) -> Option<String> {
        let doubled: Vec<_> = NEEDED.iter().zip(&self.places).filter(|(_, at)| at.len() > 1).map(|(name, _)| *name).collect();
        let names = doubled.join(", ");
        (!doubled.is_empty()).then(|| format!("the header names {names} more than once; lines on which they differ are rejected"))
    }

    fn meaning(&self, fields: &ByteRecord) -> Result<Meaning, String> {
        if fields.len() != self.width {
            return Err(format!("the line has {} fields, the header has {}", fields.len(), self.width));
        }
        let code = self.text(fields, 0)?;
        if !is_product_code(code) {
            return Ok(Meaning::Other(code.to_owned()));
        }
        let description = self.text(fields, 1)?.trim();
        if !description.is_empty() {
            NewProduct::check_name(description).map_err(|fault| format!("Description {fault}"))?;
        }
        let time = self.text(fields, 2)?;
        Ok(Meaning::Product(ProductLine {
            sku: Sku::parse(code).map_err(|fault| format!("StockCode {fault}"))?,
            time: NaiveDateTime::parse_from_str(time, DATE_FORMAT)
                .map_err(|_| format!("InvoiceDate is {time:?}: write it like 2011-01-31 16:59:00"))?,
            description: (!description.is_empty()).then(|| description.to_owned()),
            price: self.price(self.text(fields, 3)?)?,
        }))
    }

    /// A price above zero, or none for zero and below (corrections of the books).
    fn price(&self, text: &str) -> Result<Option<Money>, String> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let price = Money::parse(digits, self.currency).map_err(|fault| format!("UnitPrice {text:?} {fault}"))?;
        Ok((!negative && !price.amount().is_zero()).then_some(price))
    }

    fn text<'a>(&self, fields: &'a ByteRecord, column: usize) -> Result<&'a str, String> {
        let name = NEEDED[column];
        let mut values = self.places[column].iter().map(|&at| fields.get(at).unwrap_or_default());
        let value = values.next().unwrap_or_default();
        if values.any(|other| other != value) {
            return Err(format!("{name} is there more than once and differs"));
        }
        std::str::from_utf8(value).map_err(|fault| format!("{name} is not UTF-8 (byte {} of the field)", fault.valid_up_to() + 1))
    }
}

fn positions(header: &ByteRecord, name: &str) -> Vec<usize> {
    let is_name = |field: &[u8]| field.trim_ascii() == name.as_bytes();
    header.iter().enumerate().filter(|(_, field)| is_name(field)).map(|(at, _)| at).collect()
}

fn is_product_code(code: &str) -> bool {
    code.len() >= SKU_DIGITS && code.bytes().take(SKU_DIGITS).all(|byte| byte.is_ascii_digit())
}

fn count_skipped(skipped: &mut BTreeMap<String, u64>, code: &str) {
    let reason = skip_reason(code);
    let known = skipped.len() < MAX_UNKNOWN_CODES || skipped.contains_key(&reason);
    let reason = if known { reason } else { "not a product (other codes)".to_owned() };
    *skipped.entry(reason).or_default() += 1;
}

/// Why a line is no product line: what its code stands for, with the code, so that it can be looked up in the file.
fn skip_reason(code: &str) -> String {
    let what = match code {
        "" => return "no stock code".to_owned(),
        "POST" | "DOT" => "postage",
        "C2" | "C3" => "carriage",
        "M" | "m" => "manual entry",
        "D" => "discount",
        "S" => "samples",
        "B" => "bad debt",
        "AMAZONFEE" => "amazon fee",
        "BANK CHARGES" => "bank charges",
        "CRUK" => "commission",
        _ if code.starts_with("gift_") => return "gift voucher (gift_*)".to_owned(),
        _ if code.starts_with("DCGS") => return "own article (DCGS*)".to_owned(),
        _ => "not a product",
    };
    let code: String = code.chars().take(20).map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{what} ({code})")
}

#[cfg(test)]
#[path = "online_retail_tests.rs"]
mod tests;
