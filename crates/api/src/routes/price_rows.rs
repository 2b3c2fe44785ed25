//! The rows of a batch of prices as they are sent, as JSON or as CSV: each is read, or has all of its faults.

use super::prices::reason;
use crate::error::ApiError;
use crate::input::fields::{self, Fault, Faults, Reader};
use crate::input::json::Json;
use domain::price_rows::{ColumnFault, Columns, MOST_ROWS};
use domain::{Named, PriceRow, ProductId, Sku};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What was sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) rows: Vec<Result<PriceRow, Vec<Fault>>>,
    pub(super) reason: Option<String>,
    /// Of CSV: where each row begins; the header is line 1.
    lines: Option<Vec<u64>>,
}

impl Asked {
    /// The rows that could be read.
    pub(super) fn sound(&self) -> Vec<PriceRow> {
        self.rows.iter().flatten().cloned().collect()
    }

    /// The field by which a row names its product.
    pub(super) fn name_of_product(&self, place: usize) -> &'static str {
        match self.rows.get(place) {
            Some(Ok(PriceRow { product: Named::Id(_), .. })) => "product_id",
            _ => "sku",
        }
    }

    /// A row, as people look for it.
    pub(super) fn place(&self, place: usize) -> String {
        match &self.lines {
            Some(lines) => format!("line {}", lines[place]),
            None => format!("/items/{place}"),
        }
    }

    pub(super) fn fault(&self, place: usize, field: &str, detail: String) -> Fault {
        match &self.lines {
            Some(lines) => of_line(place, lines[place], field, detail),
            None => Fault { pointer: format!("/items/{place}/{field}"), detail },
        }
    }
}

fn of_line(place: usize, line: u64, column: &str, detail: String) -> Fault {
    let pointer = if column.is_empty() { format!("/items/{place}") } else { format!("/items/{place}/{column}") };
    Fault { pointer, detail: format!("line {line}: {detail}") }
}

/// # Errors
/// What is wrong beside the rows.
pub(super) fn of_json(body: Json) -> Result<Asked, ApiError> {
    let mut faults = Faults::default();
    let read = Reader::new(body, String::new(), &mut faults).map(|mut reader| {
        let items = reader.required("items", list);
        let reason = reader.nullable("reason", fields::text_that(reason));
        reader.finish();
        (items.unwrap_or_default(), reason)
    });
    let (items, reason) = faults.into_result(read)?;
    Ok(Asked { rows: items.into_iter().enumerate().map(|(place, item)| row(place, item)).collect(), reason, lines: None })
}

fn list(value: Json) -> Result<Vec<Json>, String> {
    match value {
        Json::List(items) => count(items.len()).map(|()| items),
        other => Err(format!("must be an array, but is {}", other.kind())),
    }
}

fn count(rows: usize) -> Result<(), String> {
    match rows {
        0 => Err(format!("has no rows; 1 to {MOST_ROWS} are taken at once")),
        rows if rows > MOST_ROWS => Err(format!("has {rows} rows; at most {MOST_ROWS} are taken at once")),
        _ => Ok(()),
    }
}

fn row(place: usize, item: Json) -> Result<PriceRow, Vec<Fault>> {
    let mut faults = Faults::default();
    let row = Reader::new(item, format!("/items/{place}"), &mut faults).and_then(|mut reader| {
        let product = product(&mut reader);
        let price = reader.money();
        let if_version = reader.nullable("if_version", fields::whole_number(1..=ProductId::MAX));
        let reason = reader.nullable("reason", fields::text_that(reason));
        reader.finish();
        Some(PriceRow { product: product?, price: price?, if_version, reason })
    });
    let faults = faults.into_list();
    row.filter(|_| faults.is_empty()).ok_or(faults)
}

fn product(reader: &mut Reader<'_>) -> Option<Named> {
    let both = match (reader.has("sku"), reader.has("product_id")) {
        (false, false) => {
            reader.fault_of_all("names no product: it must have sku or product_id");
            return None;
        }
        (sku, id) => sku && id,
    };
    let sku = reader.optional("sku", fields::text_that(|text| Sku::parse(&text)));
    let id = reader.optional("product_id", fields::product_id);
    if both {
        reader.fault("product_id", "names the product again: give sku or product_id, not both");
        return None;
    }
    sku.map(Named::Sku).or(id.map(Named::Id))
}

/// # Errors
/// A header that cannot be, and too many rows.
pub(super) fn of_csv(text: &[u8]) -> Result<Asked, ApiError> {
    let refused = |detail: String| ApiError::Invalid(vec![Fault { pointer: "/items".to_owned(), detail }]);
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut records = reader.byte_records();
    let header = records.next().transpose().map_err(|fault| refused(fault.to_string()))?.unwrap_or_default();
    let columns = Columns::find(header.iter()).map_err(|fault| refused(format!("line 1: {fault}")))?;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    let mut at = Lines { byte: 0, line: 1 };
    for record in records.take(MOST_ROWS + 1) {
        let record = record.map_err(|fault| refused(fault.to_string()))?;
        let (place, line) = (rows.len(), at.line_of(record.position().map_or(0, csv::Position::byte), text));
        let fault = |fault: ColumnFault| of_line(place, line, fault.column, fault.detail);
        let fields: Vec<&[u8]> = record.iter().collect();
        rows.push(columns.row(fields.into_iter()).map_err(|faults| faults.into_iter().map(fault).collect()));
        lines.push(line);
    }
    match rows.len() {
        0 => Err(refused(format!("has no rows; 1 to {MOST_ROWS} are taken at once"))),
        rows if rows > MOST_ROWS => Err(refused(format!("has more than {MOST_ROWS} rows, which is the most that is taken at once"))),
        _ => Ok(Asked { rows, reason: None, lines: Some(lines) }),
    }
}

/// How far lines were counted. The parser's own count stands before line ends that it has not consumed yet.
struct Lines {
    byte: usize,
    line: u64,
}

impl Lines {
    /// The line of the record that begins at that byte, or behind line ends there.
    fn line_of(&mut self, byte: u64, text: &[u8]) -> u64 {
        let begins = usize::try_from(byte).unwrap_or(usize::MAX).min(text.len());
        let ends = text[begins..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &text[self.byte..begins + ends];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.byte = begins + ends;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(asked: &Asked) -> Vec<String> {
        let faults = asked.rows.iter().filter_map(|row| row.as_ref().err()).flatten();
        faults.map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect()
    }

    fn json(text: &str) -> Result<Asked, ApiError> {
        of_json(Json::parse(text.as_bytes()).unwrap())
    }

    fn pointers(refused: Result<Asked, ApiError>) -> Vec<String> {
        match refused {
            Err(ApiError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_of_every_row_is_told_and_the_others_are_read() {
        let asked = json(
            r#"{"items":[{"sku":"A","amount":"1","currency":"GBP"},{"amount":"1.234","currency":"GBP","x":1},
                {"sku":"A","product_id":1,"amount":"1","currency":"GBP"},7,
                {"product_id":0,"amount":1,"currency":"gbp","if_version":0,"reason":"a\u0000b"},
                {"product_id":1,"amount":"1","currency":"GBP","if_version":3,"reason":null}],"reason":"sale"}"#,
        );
        let asked = asked.unwrap();
        let pointers: Vec<_> = faults(&asked).iter().map(|fault| fault.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(
            pointers,
            [
                "/items/1",
                "/items/1/amount",
                "/items/1/x",
                "/items/2/product_id",
                "/items/3",
                "/items/4/product_id",
                "/items/4/amount",
                "/items/4/currency",
                "/items/4/if_version",
                "/items/4/reason"
            ]
        );
        assert_eq!((asked.sound().len(), asked.reason.as_deref(), asked.sound()[1].if_version), (2, Some("sale"), Some(3)));
    }

    #[test]
    fn a_body_that_holds_no_rows_or_too_many_is_refused_as_a_whole() {
        let many = |count: usize| format!("{{\"items\":[{}]}}", vec!["{}"; count].join(","));
        for body in ["{}", r#"{"items":[]}"#, r#"{"items":{}}"#, &many(MOST_ROWS + 1)] {
            assert_eq!(pointers(json(body)), ["/items"], "{}", &body[..body.len().min(40)]);
        }
        assert_eq!(pointers(json(r#"{"items":[{}],"x":1,"reason":5}"#)), ["/reason", "/x"]);
        assert_eq!(json(&many(MOST_ROWS)).unwrap().rows.len(), MOST_ROWS);
        for text in ["", "sku,amount\n", "sku,amount,currency\n"] {
            assert_eq!(pointers(of_csv(text.as_bytes())), ["/items"], "{text}");
        }
        let lines = |count: usize| "sku,amount,currency\n".to_owned() + &"A,1,GBP\n".repeat(count);
        assert_eq!(pointers(of_csv(lines(MOST_ROWS + 1).as_bytes())), ["/items"]);
        assert_eq!(of_csv(lines(MOST_ROWS).as_bytes()).unwrap().sound().len(), MOST_ROWS);
    }

    #[test]
    fn a_fault_of_csv_has_its_pointer_and_its_line() {
        let text = "\u{feff}sku,amount,currency,reason\r\n\r\nA,1,GBP,\"a\nb\"\r\nB,1.5,JPY,\r\nC,1\n";
        let asked = of_csv(text.as_bytes()).unwrap();
        assert_eq!(
            faults(&asked),
            [
                "/items/0/reason line 3: must have at most 255 characters and no control characters",
                "/items/1/amount line 5: is \"1.5\": it has 1 digits after the point, JPY has 0",
                "/items/2 line 6: the line has 2 fields, the header has 4"
            ]
        );
        assert_eq!((asked.place(1), asked.fault(1, "sku", "is wrong".into()).detail), ("line 5".into(), "line 5: is wrong".into()));
    }
}
