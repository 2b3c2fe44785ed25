//! `product list --sold-out`: what visitors look at and nobody can buy, from MySQL.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use domain::product::time_text;
use serde::Serialize;
use storage::MySql;
use storage::mysql::sold_out::{self, LastMovement, SoldOut};

/// A product of which nothing is available.
#[derive(Debug, Serialize)]
struct Line {
    id: u64,
    sku: String,
    name: String,
    available: i64,
    reserved: i64,
    /// In MySQL.
    views: u64,
    views_24h: u64,
    last_movement: Option<Movement>,
}

#[derive(Debug, Serialize)]
struct Movement {
    kind: String,
    created_at: String,
}

impl From<SoldOut> for Line {
    fn from(product: SoldOut) -> Self {
        let SoldOut { product_id: id, sku, name, available, reserved, views, views_24h, last_movement } = product;
        let last_movement = last_movement.map(|LastMovement { kind, at }| Movement { kind, created_at: time_text(at) });
        Self { id, sku, name, available, reserved, views, views_24h, last_movement }
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["sku", "name", "available", "reserved", "views", "views_24h", "last_movement"];

    fn cells(&self) -> Vec<String> {
        let last = self.last_movement.as_ref();
        let last = last.map_or_else(|| "none".to_owned(), |last| format!("{} {}", last.kind, super::to_the_second(&last.created_at)));
        let numbers = [self.available.to_string(), self.reserved.to_string(), self.views.to_string(), self.views_24h.to_string()];
        [self.sku.clone(), self.name.clone()].into_iter().chain(numbers).chain([last]).collect()
    }
}

/// Shown as a page, so that long names are cut to the terminal.
pub(crate) async fn run(limit: u64, mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    // One more than asked for tells whether there are more.
    let mut found = sold_out::list(mysql, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut list = output.pages();
    list.add(&found.into_iter().map(Line::from).collect::<Vec<_>>())?;
    list.finish::<Line>()?;
    if more {
        eprintln!("there are more; --limit shows up to {}", LONGEST);
    }
    Ok(Exit::Ok)
}

/// Products of one report at most: one less than the store lists, which tells of more.
pub(crate) const LONGEST: u64 = sold_out::MOST_LISTED - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_product_is_a_line_with_when_its_stock_last_moved() {
        let last = LastMovement { kind: "commit".to_owned(), at: DateTime::from_timestamp(1_294_135_200, 5_000).unwrap() };
        let product = SoldOut {
            product_id: 42,
            sku: "85123A".to_owned(),
            name: "HEART".to_owned(),
            available: 0,
            reserved: 3,
            views: 10_342,
            views_24h: 7,
            last_movement: Some(last),
        };
        let line = Line::from(product.clone());
        assert_eq!(line.cells(), ["85123A", "HEART", "0", "3", "10342", "7", "commit 2011-01-04T10:00:00Z"]);
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["last_movement"], serde_json::json!({"kind": "commit", "created_at": "2011-01-04T10:00:00.000005Z"}));
        assert_eq!(Line::from(SoldOut { last_movement: None, ..product }).cells()[6], "none");
    }
}
