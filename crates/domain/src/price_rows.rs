//! Rows of a batch of prices, and how a CSV file says them.
//!
//! CSV has the header `sku,amount,currency`, or `product_id` in place of `sku`, with `if_version` and `reason` where they
//! are wanted, in any order. A fault names its column.

use crate::{Currency, Money, ProductId, Sku};
use std::fmt;

/// Rows of one batch at most: its row locks are held for some hundredths of a second.
pub const MOST_ROWS: usize = 1_000;

/// What the column `price_history.reason` holds, in characters.
pub const MAX_REASON_CHARS: usize = 255;

/// A product as a row names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Named {
    Id(ProductId),
    Sku(Sku),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id:{id}"),
            Self::Sku(sku) => sku.fmt(f),
        }
    }
}

impl Named {
    /// What is said where there is no such product.
    #[must_use]
    pub fn unknown(&self) -> String {
        match self {
            Self::Id(id) => format!("there is no product {id}"),
            Self::Sku(sku) => format!("no product has the SKU {sku}; upper and lower case differ"),
        }
    }
}

/// A price that is to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    pub product: Named,
    pub price: Money,
    /// Only if the product has this version.
    pub if_version: Option<u64>,
    /// That of the batch where there is none.
    pub reason: Option<String>,
}

/// What is wrong with a column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFault {
    pub column: &'static str,
    pub detail: String,
}

/// # Errors
/// A long text, and control characters.
pub fn check_reason(reason: &str) -> Result<(), String> {
    if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        return Err(format!("must have at most {MAX_REASON_CHARS} characters and no control characters"));
    }
    Ok(())
}

/// Characters of a field that a fault shows.
const MOST_SHOWN: usize = 64;

/// A field in quotes, cut where it is long: a fault of each row must not make the answer longer than the request.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

const COLUMNS: [&str; 6] = ["sku", "product_id", "amount", "currency", "if_version", "reason"];

/// The name of each column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<&'static str>);

impl Columns {
    /// Reads a header.
    ///
    /// # Errors
    /// All that is wrong with it, in words.
    pub fn find<'a>(header: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, String> {
        let (mut names, mut faults) = (Vec::new(), Vec::new());
        for field in header {
            let text = String::from_utf8_lossy(field.trim_ascii());
            match COLUMNS.iter().find(|name| **name == text) {
                Some(name) if names.contains(name) => faults.push(format!("the column {name} stands there twice")),
                Some(name) => names.push(*name),
                None => faults.push(format!("the column {} is not known; there are {}", shown(&text), COLUMNS.join(","))),
            }
        }
        match (names.contains(&"sku"), names.contains(&"product_id")) {
            (false, false) => faults.push("the column sku or product_id is missing".to_owned()),
            (true, true) => faults.push("the columns sku and product_id name the product twice: leave one out".to_owned()),
            _ => {}
        }
        faults
            .extend(["amount", "currency"].iter().filter(|name| !names.contains(name)).map(|name| format!("the column {name} is missing")));
        if faults.is_empty() { Ok(Self(names)) } else { Err(faults.join("; ")) }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The column that names the product.
    #[must_use]
    pub fn product(&self) -> &'static str {
        if self.0.contains(&"sku") { "sku" } else { "product_id" }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn row<'a>(&self, fields: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<PriceRow, Vec<ColumnFault>> {
        let mut reading = Reading::default();
        if fields.len() != self.count() {
            reading.fault("", format!("the line has {} fields, the header has {}", fields.len(), self.count()));
            return Err(reading.faults);
        }
        let mut told: [Option<String>; COLUMNS.len()] = Default::default();
        for (name, field) in self.0.iter().zip(fields) {
            let at = COLUMNS.iter().position(|known| known == name).expect("a header has known columns only");
            match std::str::from_utf8(field) {
                Ok(text) => told[at] = Some(text.to_owned()).filter(|text| !text.is_empty()),
                Err(_) => reading.fault(name, "is not UTF-8"),
            }
        }
        reading.row(self.product(), told)
    }
}

/// The faults of a line so far.
#[derive(Default)]
struct Reading {
    faults: Vec<ColumnFault>,
}

impl Reading {
    fn fault(&mut self, column: &'static str, detail: impl fmt::Display) {
        if !self.faults.iter().any(|fault| fault.column == column) {
            self.faults.push(ColumnFault { column, detail: detail.to_string() });
        }
    }

    fn keep<T>(&mut self, column: &'static str, result: Result<T, impl fmt::Display>) -> Option<T> {
        result.map_err(|detail| self.fault(column, detail)).ok()
    }

    fn needed<T, E: fmt::Display>(
        &mut self,
        column: &'static str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match text {
            Some(text) => self.keep(column, parse(&text).map_err(|fault| format!("is {}: it {fault}", shown(&text)))),
            None => {
                self.fault(column, "is missing");
                None
            }
        }
    }

    fn row(mut self, product: &'static str, told: [Option<String>; COLUMNS.len()]) -> Result<PriceRow, Vec<ColumnFault>> {
        let [sku, id, amount, currency, if_version, reason] = told;
        let product = if product == "sku" {
            self.needed("sku", sku, Sku::parse).map(Named::Sku)
        } else {
            self.needed("product_id", id, ProductId::parse).map(Named::Id)
        };
        let currency = self.needed("currency", currency, Currency::parse);
        let price = match currency {
            Some(currency) => self.needed("amount", amount, |text| Money::parse(text, currency)),
            // How many digits it may have depends on the currency; whether it is a number does not.
            None => self.needed("amount", amount, plain_amount),
        };
        let if_version = if_version.and_then(|text| self.keep("if_version", version(&text)));
        if let Some(reason) = &reason {
            self.keep("reason", check_reason(reason));
        }
        match (product, price) {
            (Some(product), Some(price)) if self.faults.is_empty() => Ok(PriceRow { product, price, if_version, reason }),
            _ => Err(self.faults),
        }
    }
}

/// A version as JSON may have it too: there every number that a float holds exactly is one, and versions begin at 1.
fn version(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=ProductId::MAX).contains(number) && !text.starts_with('+'));
    number.ok_or_else(|| format!("is {}: write a whole number from 1 to {}, or nothing", shown(text), ProductId::MAX))
}

/// An amount of which only the digits after the point cannot be judged.
fn plain_amount(text: &str) -> Result<Money, crate::money::MoneyError> {
    let no_currency = Currency::stored("");
    match Money::parse(text, no_currency) {
        Err(crate::money::MoneyError::TooPrecise { .. }) => Money::parse("0", no_currency),
        judged => judged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(line: &str) -> Vec<&[u8]> {
        line.split(',').map(str::as_bytes).collect()
    }

    fn read(header: &str, line: &str) -> Result<PriceRow, Vec<String>> {
        let columns = Columns::find(fields(header)).unwrap();
        let faults = |faults: Vec<ColumnFault>| faults.into_iter().map(|fault| format!("{} {}", fault.column, fault.detail)).collect();
        columns.row(fields(line).into_iter()).map_err(faults)
    }

    #[test]
    fn a_line_is_read_by_the_names_of_its_columns() {
        let row = read("reason,currency,if_version, amount ,sku", "sale,GBP,7,2.1,85123A").unwrap();
        let price = Money::parse("2.10", Currency::parse("GBP").unwrap()).unwrap();
        let sku = Named::Sku(Sku::parse("85123A").unwrap());
        assert_eq!(row, PriceRow { product: sku, price, if_version: Some(7), reason: Some("sale".into()) });
        let bare = read("product_id,amount,currency,if_version,reason", "42,2.1,GBP,,").unwrap();
        assert_eq!((bare.product.to_string(), bare.if_version, bare.reason), ("id:42".to_owned(), None, None));
    }

    #[test]
    fn every_fault_of_a_line_names_its_column() {
        let long = "x".repeat(256);
        let header = "product_id,amount,currency,if_version,reason";
        let faults = read(header, &format!("0,2.125,gbp,x,{long}")).unwrap_err();
        let columns: Vec<_> = faults.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(columns, ["product_id", "currency", "if_version", "reason"], "{faults:?}");
        assert_eq!(read(header, "1,2.125,GBP,,").unwrap_err(), ["amount is \"2.125\": it has 3 digits after the point, GBP has 2"]);
        assert_eq!(read(header, "1,,,,").unwrap_err(), ["currency is missing", "amount is missing"]);
        assert_eq!(read(header, "1,2").unwrap_err(), [" the line has 2 fields, the header has 5"]);
    }

    #[test]
    fn a_version_has_the_range_that_it_has_in_json() {
        let header = "sku,amount,currency,if_version";
        let most = ProductId::MAX;
        for version in [1, 7, most] {
            assert_eq!(read(header, &format!("A,1,GBP,{version}")).unwrap().if_version, Some(version));
        }
        for version in ["0", "9007199254740992", "18446744073709551616", "+1", "-1", "1.0", "x"] {
            let said = format!("if_version is {version:?}: write a whole number from 1 to {most}, or nothing");
            assert_eq!(read(header, &format!("A,1,GBP,{version}")).unwrap_err(), [said]);
        }
    }

    #[test]
    fn a_fault_shows_the_beginning_of_a_long_field() {
        let (long, cut) = ("é".repeat(65), "é".repeat(64));
        let faults = read("sku,amount,currency,if_version", &format!("{long},{long},{long},{long}")).unwrap_err();
        assert_eq!(faults.len(), 4);
        for fault in faults {
            assert!(fault.contains(&format!(" is \"{cut}\"…: ")), "{fault}");
        }
        let whole = read("sku,amount,currency", &format!("A,{cut},GBP")).unwrap_err();
        assert!(whole[0].starts_with(&format!("amount is \"{cut}\": it ")), "{whole:?}");
        let header = Columns::find(fields(&long)).unwrap_err();
        assert!(header.starts_with(&format!("the column \"{cut}\"… is not known")), "{header}");
    }

    #[test]
    fn a_header_that_cannot_be_is_refused_with_all_that_is_wrong() {
        for (header, said) in [
            ("sku,product_id,amount,currency", "name the product twice"),
            ("amount,currency", "the column sku or product_id is missing"),
            ("sku,price,currency", "the column \"price\" is not known; there are sku,"),
            ("sku,price,currency", "the column amount is missing"),
            ("sku,sku,amount,currency", "the column sku stands there twice"),
            ("sku;amount;currency", "not known"),
        ] {
            let fault = Columns::find(fields(header)).unwrap_err();
            assert!(fault.contains(said), "{header}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(cells in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..7)) {
            let cells: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
            let _ = Columns::find(cells.iter().copied());
            let _ = Columns::find(fields("sku,amount,currency,reason,if_version")).unwrap().row(cells.into_iter());
        }
    }
}
