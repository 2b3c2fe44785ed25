//! The layout of this program's own, without a file.

use super::*;
use crate::lines::Records;
use crate::online_retail::{Counts, Reject};
use proptest::prelude::*;
use std::io::Cursor;

type Read = (Vec<Wish>, Vec<Reject>, Counts);

fn read(csv: bool, text: &[u8]) -> Read {
    let records = Records::new(Box::new(Cursor::new(text.to_vec())));
    let (mut wishes, mut rejects) = (Vec::new(), Vec::new());
    let on_reject = |reject| {
        rejects.push(reject);
        Ok(())
    };
    let on_product = |wish| wishes.push(wish);
    let counts = if csv { read_csv(records, on_product, on_reject) } else { read_ndjson(records, on_product, on_reject) }.unwrap();
    (wishes, rejects, counts)
}

/// What was read, and each reject as its line number and reason.
fn told(csv: bool, text: &str) -> (Vec<String>, Vec<String>) {
    let (wishes, rejects, counts) = read(csv, text.as_bytes());
    assert_eq!(counts.rejected, rejects.len() as u64);
    let wish = |Wish { product: p, stock }: Wish| {
        let price = p.price.map_or("none".to_owned(), |price| price.to_string());
        let stock = stock.map_or(String::new(), |stock| format!(" {:?} of line {}", stock.change, stock.line));
        format!("{} {} {:?} {:?} {price}{stock}", p.sku, p.name, p.description, p.active)
    };
    let reject = |reject: Reject| format!("{}: {}", reject.line, reject.reason);
    (wishes.into_iter().map(wish).collect(), rejects.into_iter().map(reject).collect())
}

fn line(sku: &str, description: Option<&str>, active: bool, price: Option<(&str, &str)>) -> Line {
    let price = price.map(|(amount, currency)| Price { amount: amount.into(), currency: currency.into() });
    Line { sku: sku.into(), name: "A \"B\", C".into(), description: description.map(str::to_owned), active, price }
}

/// A line as it would be exported again, from what was imported.
fn again(wish: Wish) -> Line {
    let product = wish.product.made();
    let price = product.price.map(|price| Price { amount: price.amount_text(), currency: price.currency().code().to_owned() });
    Line { sku: product.sku.to_string(), name: product.name, description: product.description, active: product.active, price }
}

fn written(csv: bool, lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    if csv { write_csv(lines, &mut text) } else { write_ndjson(lines, &mut text) }.unwrap();
    text
}

#[test]
fn both_forms_are_as_documented() {
    let lines = [line("10001", Some("a\nb"), true, Some(("2.55", "GBP"))), line("x", None, false, None)];
    assert_eq!(
        String::from_utf8(written(true, &lines)).unwrap(),
        "sku,name,description,active,price,currency\n10001,\"A \"\"B\"\", C\",\"a\nb\",true,2.55,GBP\nx,\"A \"\"B\"\", C\",,false,,\n"
    );
    assert_eq!(
        String::from_utf8(written(false, &lines)).unwrap(),
        "{\"sku\":\"10001\",\"name\":\"A \\\"B\\\", C\",\"description\":\"a\\nb\",\"active\":true,\
         \"price\":{\"amount\":\"2.55\",\"currency\":\"GBP\"}}\n\
         {\"sku\":\"x\",\"name\":\"A \\\"B\\\", C\",\"description\":null,\"active\":false,\"price\":null}\n"
    );
    assert_eq!(written(true, &[]), b"sku,name,description,active,price,currency\n");
}

#[test]
fn columns_stand_in_any_order_and_one_that_is_absent_is_not_told() {
    let (products, rejects) = told(true, "\u{feff}name, sku\r\nLAMP,1\r\n");
    assert_eq!((products, rejects), (vec!["1 LAMP None None none".into()], vec![]));
    let (products, _) = told(true, "sku,name,description,active,price,currency\n1,LAMP,,,,\n2,BOX,b,false,0,JPY\n");
    assert_eq!(products, ["1 LAMP Some(None) None none", "2 BOX Some(Some(\"b\")) Some(false) 0 JPY"]);
    let (products, _) =
        told(false, "{\"sku\":\"1\",\"name\":\"LAMP\"}\n\n{\"sku\":\"2\",\"name\":\"BOX\",\"description\":null,\"price\":null}");
    assert_eq!(products, ["1 LAMP None None none", "2 BOX Some(None) None none"]);
}

#[test]
fn all_faults_of_a_line_are_told_and_cost_only_that_line() {
    let (products, rejects) = told(
        true,
        "sku,name,active,price,currency\n 1,,yes,2.555,GBP\n2,BOX,true,1,\n3,BOX,true,,GBP\n4,BOX,true,1,XXX\n5,BOX\n6,BOX,,,\n6,BOX,,,\n7,\"OPEN,,,\n",
    );
    assert_eq!(products, ["6 BOX None None none"]);
    let reasons = [
        "2: active is \"yes\": write true or false; sku must have 1 to 64 bytes, no control characters and no white space at its ends; \
         name must have 1 to 255 characters and no control characters; price \"2.555\" has 3 digits after the point, GBP has 2",
        "3: currency is missing: a price needs both",
        "4: price is missing: a currency needs one",
        "5: currency \"XXX\" must be a current ISO 4217 code of three capital letters such as \"GBP\"",
        "6: the line has 2 fields, the header has 5",
        "8: sku 6 stands on line 7 already",
        "9: a quote is opened and never closed",
    ];
    assert_eq!(rejects, reasons);
}

#[test]
fn faults_of_json_lines_are_told_likewise() {
    let lines = "{\"sku\":1,\"nam\":\"A\",\"active\":1,\"price\":{\"amount\":2.5,\"currency\":\"GBP\",\"x\":0}}\n[1]\n{\"sku\":\n\
                 {\"sku\":\"2\",\"name\":\"BOX\",\"price\":\"2.50\"}\n";
    let (products, rejects) = told(false, lines);
    assert_eq!(products, [""; 0]);
    assert_eq!(
        rejects[0],
        "1: name is missing; active must be true or false; the field \"nam\" is not known; price.amount is 2.5: write a text in quotes; \
         the field \"x\" of price is not known; sku is 1: write a text in quotes"
    );
    assert_eq!(rejects[1], "2: the line is not a JSON object");
    assert!(rejects[2].starts_with("3: the line is not JSON: "), "{}", rejects[2]);
    assert!(rejects[3].starts_with("4: price must be an object such as"), "{}", rejects[3]);
}

#[test]
fn a_line_may_count_stock_or_add_to_it() {
    let (wishes, rejects) =
        told(true, "sku,stock_add,stock_set,name\n1,,,A\n2,-3,,A\n3,+12,,A\n4,,0,A\n5,,1000000000,A\n6,1,1,A\n7,0,,A\n8,,1000000001,A\n");
    let wished = [
        "1 A None None none",
        "2 A None None none Add(-3) of line 3",
        "3 A None None none Add(12) of line 4",
        "4 A None None none Set(0) of line 5",
        "5 A None None none Set(1000000000) of line 6",
    ];
    assert_eq!(wishes, wished);
    let reasons = [
        "7: stock_set and stock_add both have a number: leave one of them empty, a count or what is to be added",
        "8: stock_add \"0\" adds nothing: leave it empty, or write how many to add",
        "9: stock_set \"1000000001\" must be a whole number from 0 to 1000000000, such as 120",
    ];
    assert_eq!(rejects, reasons);
    let (wishes, rejects) = told(
        false,
        "{\"sku\":\"1\",\"name\":\"A\",\"stock_set\":5,\"stock_add\":null}\n{\"sku\":\"2\",\"name\":\"A\",\"stock_add\":1e3}\n",
    );
    assert_eq!(wishes, ["1 A None None none Set(5) of line 1"]);
    assert!(rejects[0].starts_with("2: stock_add \"1") && rejects[0].contains("must be a whole number from -1000000000"), "{rejects:?}");
}

#[test]
fn a_header_that_could_mean_something_else_refuses_the_file() {
    for (header, told_of) in [
        ("sku,name,price,currency,quantity", "the column quantity may mean a count or a delivery: name it stock_set or stock_add"),
        ("sku,name,stock_add,stock_add", "the column stock_add stands there twice"),
        (
            "sku,name,descripton",
            "the column \"descripton\" is not known; there are sku,name,description,active,price,currency,stock_set,stock_add",
        ),
        ("sku,sku,name", "the column sku stands there twice"),
        ("sku,price", "the column name is missing"),
    ] {
        let (products, rejects) = told(true, &format!("{header}\n1,A,1,GBP,1\n"));
        assert_eq!((products.len(), rejects.len()), (0, 1), "{header}");
        assert!(
            rejects[0].starts_with("1: ") && rejects[0].contains(told_of) && rejects[0].ends_with("; no line can be used"),
            "{rejects:?}"
        );
    }
}

#[test]
fn the_longest_description_of_line_breaks_alone_is_read_back() {
    let most = domain::NewProduct::MAX_DESCRIPTION_BYTES;
    for text in ["\n".repeat(most), "\"\n".repeat(most / 2), "\r".repeat(most), "\0".repeat(0)] {
        let lines = [line("1", Some(&text).filter(|text| !text.is_empty()).map(String::as_str), true, None)];
        for csv in [true, false] {
            let (products, rejects, _) = read(csv, &written(csv, &lines));
            assert!(rejects.is_empty(), "{}", rejects[0].reason);
            assert_eq!(products.into_iter().map(again).collect::<Vec<_>>(), lines);
        }
    }
}

proptest! {
    #[test]
    fn what_is_exported_is_imported_unchanged(
        texts in prop::collection::vec(("[!-~é杯]{1,8}", "[ -~é]{1,9}", prop::option::of("[ -~\n\r\té]{1,9}"), any::<bool>(), prop::option::of(0u64..10_000)), 0..6)
    ) {
        let lines: Vec<_> = texts.into_iter().enumerate().map(|(n, (sku, name, description, active, pence))| Line {
            sku: format!("{n}{sku}"),
            name,
            description,
            active,
            price: pence.map(|pence| Price { amount: format!("{}.{:02}", pence / 100, pence % 100), currency: "GBP".into() }),
        }).collect();
        for csv in [true, false] {
            let text = written(csv, &lines);
            let (products, rejects, counts) = read(csv, &text);
            prop_assert_eq!((rejects.len(), counts.lines), (0, lines.len() as u64));
            let read_back: Vec<_> = products.into_iter().map(again).collect();
            prop_assert_eq!(&read_back, &lines);
            prop_assert_eq!(written(csv, &read_back), text);
        }
    }
}
