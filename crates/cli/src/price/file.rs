//! The rows of a file of prices.
//!
//! Promises that every line is a row or is rejected with its number and all of its faults, and that no product stands in two
//! rows: which of two prices is meant cannot be known.

use crate::exit::{Exit, Failure};
use crate::lines::{self, Records};
use crate::online_retail::Reject;
use domain::price_rows::{ColumnFault, Columns};
use domain::{Named, PriceRow};
use std::collections::HashMap;
use std::path::Path;

/// A row, and where it stands.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) line: u64,
    pub(super) text: Vec<u8>,
    pub(super) row: PriceRow,
}

impl Line {
    pub(super) fn reject(&self, reason: String) -> Reject {
        Reject { line: self.line, reason, text: self.text.clone() }
    }
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Prices {
    pub(super) rows: Vec<Line>,
    pub(super) rejects: Vec<Reject>,
    /// Behind the header.
    pub(super) lines: u64,
}

/// Reads a file, before any store is asked for.
///
/// # Errors
/// The file cannot be read, or its header is none.
pub(super) fn read(path: &Path) -> Result<Prices, Failure> {
    let failed = |fault: std::io::Error| Failure::doing(format!("reading {}", path.display()), &fault);
    let mut records = Records::new(lines::open(path).map_err(failed)?);
    let header = records.next().map_err(failed)?;
    let line = header.as_ref().map_or(1, |header| header.line);
    let saved_as = lines::saved_as(header.as_ref().map(|header| header.text.as_slice()));
    let columns = match header.map(|header| header.fields) {
        Some(fields) => fields.and_then(|fields| Columns::find(fields.iter())),
        None => Columns::find([]),
    };
    // A file of another form has every fault at once: only its form helps.
    let columns = columns.map_err(|fault| saved_as.map_or(fault, str::to_owned));
    let columns = columns.map_err(|fault| Failure::new(Exit::Usage, format!("{}: line {line}: {fault}", path.display())))?;
    records.expect_width(columns.count());
    let mut prices = Prices::default();
    while let Some(record) = records.next().map_err(failed)? {
        prices.lines += 1;
        let row = record.fields.and_then(|fields| columns.row(fields.iter().collect::<Vec<_>>().into_iter()).map_err(in_words));
        match row {
            Ok(row) => prices.rows.push(Line { line: record.line, text: record.text, row }),
            Err(reason) => prices.rejects.push(Reject { line: record.line, reason, text: record.text }),
        }
    }
    prices.reject_doubled();
    Ok(prices)
}

fn in_words(faults: Vec<ColumnFault>) -> String {
    let words: Vec<_> = faults.iter().map(|fault| format!("{} {}", fault.column, fault.detail).trim_start().to_owned()).collect();
    words.join("; ")
}

impl Prices {
    fn reject_doubled(&mut self) {
        let mut places: HashMap<Named, Vec<u64>> = HashMap::new();
        for line in &self.rows {
            places.entry(line.row.product.clone()).or_default().push(line.line);
        }
        let (rows, doubled): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.rows).into_iter().partition(|line| places[&line.row.product].len() == 1);
        self.rows = rows;
        for line in doubled {
            let other = places[&line.row.product].iter().find(|place| **place != line.line).copied().unwrap_or(line.line);
            self.rejects.push(line.reject(format!("{} stands on line {other} too", line.row.product)));
        }
        self.rejects.sort_by_key(|reject| reject.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Prices, Failure> {
        let path = std::env::temp_dir().join(format!("inventoryctl-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let prices = read(&path);
        std::fs::remove_file(&path).unwrap();
        prices
    }

    #[test]
    fn a_line_that_is_no_row_costs_itself_and_a_doubled_product_both_of_its_rows() {
        let text = "sku,amount,currency\nA,1,GBP\nB,1.005,gbp\nC,2,GBP\nA,3,GBP\n\"D,1,GBP\nE,1,GBP\n";
        let prices = read_text("rows", text).unwrap();
        let rows: Vec<_> = prices.rows.iter().map(|line| (line.line, line.row.product.to_string())).collect();
        assert_eq!((rows, prices.lines), (vec![(4, "C".to_owned()), (7, "E".to_owned())], 6));
        let rejects: Vec<_> = prices.rejects.iter().map(|reject| format!("{} {}", reject.line, reject.reason)).collect();
        assert_eq!(
            rejects,
            [
                "2 A stands on line 5 too",
                "3 currency is \"gbp\": it must be a current ISO 4217 code of three capital letters such as \"GBP\"",
                "5 A stands on line 2 too",
                "6 a quote is opened and never closed"
            ]
        );
    }

    #[test]
    fn a_header_that_is_none_is_told_with_its_line() {
        let semicolons = ("sku;amount;currency\nA;1,00;GBP\n", "line 1: its fields are parted by semicolons");
        let utf_16 = ("s\0k\0u\0,\0a\0\r\0\n\0", "line 1: the file is UTF-16");
        for (text, said) in [("", "line 1: the file is empty"), semicolons, utf_16, ("\nsku,price\n", "line 2: the column \"price\"")] {
            let failure = read_text("header", text).unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains(said), "{failure:?}");
        }
    }
}
