//! Tests of the layout: real files and every kind of broken one.

use super::*;
use crate::products::Products;
use proptest::prelude::*;
use std::io::Cursor;

const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice\n";
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/online-retail-2011-01.csv.gz");

#[derive(Default)]
struct Seen {
    lines: Vec<ProductLine>,
    rejects: Vec<Reject>,
    counts: Counts,
}

impl Seen {
    fn reasons(&self) -> Vec<String> {
        self.rejects.iter().map(|reject| format!("{} {}", reject.line, reject.reason)).collect()
    }

    fn skus(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.sku.as_str()).collect()
    }
}

fn read_bytes(text: impl Into<Vec<u8>>) -> Seen {
    let mut seen = Seen::default();
    let records = Records::new(Box::new(Cursor::new(text.into())));
    let (lines, rejects) = (&mut seen.lines, &mut seen.rejects);
    seen.counts = read_records(records, &mut |line| lines.push(line), &mut |reject| {
        rejects.push(reject);
        Ok(())
    })
    .unwrap();
    seen
}

/// The lines behind the usual header.
fn read_lines(lines: &str) -> Seen {
    read_bytes(format!("{HEADER}{lines}"))
}

#[test]
fn the_bundled_month_has_the_figures_counted_apart() {
    let (mut products, mut views) = (Products::default(), 0);
    let add = |line| {
        views += 1;
        products.add(line);
    };
    let counts = read(Path::new(BUNDLED), add, |reject| panic!("{reject:?}")).unwrap();
    let products = products.into_products();
    let priced = products.iter().filter_map(|product| product.price);
    let sum: String = priced.clone().map(|price| price.amount()).reduce(|sum, amount| sum + amount).unwrap().to_string();
    assert_eq!((views, products.len(), priced.count(), sum.as_str()), (34_960, 2_630, 2_583, "9958.63"));
    assert_eq!((counts.lines, counts.skipped.values().sum::<u64>()), (35_147, 187));
    assert_eq!((counts.skipped["postage (POST)"], counts.skipped["gift voucher (gift_*)"]), (82, 3));
}

#[test]
fn a_line_says_what_its_columns_say_wherever_they_stand() {
    let seen = read_bytes("UnitPrice,x,InvoiceDate,Description,StockCode\r\n2.1,,2011-01-04 10:00:00,\" RED, BAG \",85123a\r\n");
    let line = &seen.lines[0];
    assert_eq!((line.sku.as_str(), line.description.as_deref()), ("85123a", Some("RED, BAG")));
    assert_eq!(line.price.unwrap().to_string(), "2.10 GBP");
    assert_eq!(line.time.to_string(), "2011-01-04 10:00:00");
    assert_eq!(seen.counts.rejected, 0);
}

#[test]
fn a_bom_and_spaces_around_header_names_do_not_hide_a_column() {
    let seen = read_bytes("\u{feff}StockCode , Description,InvoiceDate,UnitPrice\n10000,A,2011-01-04 10:00:00,1\n");
    assert_eq!((seen.skus(), seen.reasons().len()), (vec!["10000"], 0));
}

#[test]
fn codes_without_five_leading_digits_are_skipped_and_counted_by_reason() {
    let codes = ["POST", "m", "M", "DCGS0003", "DCGS0076", "gift_0001_40", "1234A", "", "BANK CHARGES", "10000", " 10000"];
    let lines: String = codes.map(|code| format!("1,{code},A,1,2011-01-04 10:00:00,1\n")).concat();
    let seen = read_lines(&lines);
    assert_eq!(seen.skus(), ["10000"]);
    let skipped: Vec<_> = seen.counts.skipped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    assert_eq!(
        skipped,
        [
            "bank charges (BANK CHARGES) 1",
            "gift voucher (gift_*) 1",
            "manual entry (M) 1",
            "manual entry (m) 1",
            "no stock code 1",
            "not a product ( 10000) 1",
            "not a product (1234A) 1",
            "own article (DCGS*) 2",
            "postage (POST) 1",
        ]
    );
}

#[test]
fn unknown_codes_do_not_fill_the_report() {
    let lines: String = (0..100).map(|n| format!("1,X{n},A,1,2011-01-04 10:00:00,1\n")).collect();
    let skipped = read_lines(&lines).counts.skipped;
    assert_eq!((skipped.len(), skipped["not a product (other codes)"]), (MAX_UNKNOWN_CODES + 1, 68));
}

#[test]
fn prices_at_or_below_zero_are_none_and_what_is_no_price_is_rejected() {
    let price_of = |price: &str| {
        let seen = read_lines(&format!("1,10000,A,1,2011-01-04 10:00:00,{price}\n"));
        seen.lines.first().map(|line| line.price.map(|price| price.amount_text()))
    };
    for (text, price) in [("0.85", Some("0.85")), ("0", None), ("0.0", None), ("-0.0", None), ("-11062.06", None)] {
        assert_eq!(price_of(text), Some(price.map(str::to_owned)), "{text}");
    }
    for text in ["", "-", "1e3", "NaN", "1.999", "--1", "+1", "£1", "1000000000000000"] {
        assert_eq!(price_of(text), None, "{text}");
    }
}

#[test]
fn each_broken_line_is_rejected_alone_with_its_number_and_reason() {
    let good = "1,10000,A,1,2011-01-04 10:00:00,1\n";
    let long = "x".repeat(256);
    let broken = [
        "1,10001,A,1,2011-01-04 10:00:00\n",
        "1,10001,A,1,2011-01-04 10:00:00,1,2\n",
        "1,10001,A,1,04/01/2011,1\n",
        "1,10001 ,A,1,2011-01-04 10:00:00,1\n",
        "1,10001,A,1,2011-01-04 10:00:00,one\n",
        "1,10001,\"A,1,2011-01-04 10:00:00,1\n",
        "1,10001,A\0B,1,2011-01-04 10:00:00,1\n",
        &format!("1,10001,{long},1,2011-01-04 10:00:00,1\n"),
    ];
    let seen = read_lines(&broken.map(|line| format!("{line}{good}")).concat());
    assert_eq!(seen.skus(), ["10000"; 8]);
    assert_eq!(
        seen.reasons(),
        [
            "2 the line has 5 fields, the header has 6",
            "4 the line has 7 fields, the header has 6",
            "6 InvoiceDate is \"04/01/2011\": write it like 2011-01-31 16:59:00",
            "8 StockCode must have 1 to 64 bytes, no control characters and no white space at its ends",
            "10 UnitPrice \"one\" must be a plain decimal number such as \"12.99\": digits, at most one point, no sign, no exponent",
            "12 a quote is opened and never closed",
            "14 Description must have 1 to 255 characters and no control characters",
            "16 Description must have 1 to 255 characters and no control characters",
        ]
    );
    assert_eq!(seen.rejects[0].text, broken[0].as_bytes());
    assert_eq!((seen.counts.lines, seen.counts.rejected), (16, 8));
}

#[test]
fn invalid_utf8_is_rejected_where_it_is_needed_and_passed_over_where_not() {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend_from_slice(b"1,10000,CAF\xC9,1,2011-01-04 10:00:00,1\n\xFF,10001,A,1,2011-01-04 10:00:00,1\n");
    let seen = read_bytes(text);
    assert_eq!(seen.skus(), ["10001"]);
    assert_eq!(seen.reasons(), ["2 Description is not UTF-8 (byte 4 of the field)"]);
}

#[test]
fn a_header_without_a_needed_column_names_what_is_missing_and_what_is_there() {
    let seen = read_bytes("StockCode,Name\n10000,A\n");
    assert_eq!(seen.reasons(), ["1 the header lacks Description, InvoiceDate, UnitPrice (it has: StockCode, Name); no line can be used"]);
    assert!(seen.lines.is_empty());
    assert_eq!(read_bytes("").counts.rejected, 1);
    assert!(recognises(&ByteRecord::from(vec!["a", "UnitPrice"])));
    assert!(!recognises(&ByteRecord::from(vec!["sku", "name"])));
}

#[test]
fn a_doubled_column_is_reported_and_costs_the_lines_on_which_it_differs() {
    let seen = read_bytes(
        "StockCode,Description,InvoiceDate,UnitPrice,UnitPrice\n10000,A,2011-01-04 10:00:00,1,1\n10001,A,2011-01-04 10:00:00,1,2\n",
    );
    assert_eq!(seen.skus(), ["10000"]);
    assert_eq!(
        seen.reasons(),
        [
            "1 the header names UnitPrice more than once; lines on which they differ are rejected",
            "3 UnitPrice is there more than once and differs",
        ]
    );
}

proptest! {
    #[test]
    fn one_broken_line_leaves_all_others(at in 0usize..6, junk in prop::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 1..60)) {
        let mut text = HEADER.as_bytes().to_vec();
        for n in 0..6 {
            if n == at {
                text.extend_from_slice(&junk);
                text.push(b'\n');
            }
            text.extend_from_slice(format!("1,1000{n},\"A, B\",1,2011-01-04 10:00:00,1\n").as_bytes());
        }
        let seen = read_bytes(text);
        let skus: Vec<_> = seen.skus().into_iter().filter(|sku| sku.starts_with("1000")).map(str::to_owned).collect();
        prop_assert_eq!(skus, (0..6).map(|n| format!("1000{n}")).collect::<Vec<_>>());
    }
}
