//! The products of a file: one of each SKU, from all its lines.
//!
//! Promises that the order of lines with equal standing does not matter but in two
//! cases: the first name seen wins a tie of frequency, the last line a tie of time.

use crate::online_retail::ProductLine;
use chrono::NaiveDateTime;
use domain::{ImportedProduct, Money, Sku};
use std::cmp::Reverse;
use std::collections::HashMap;

/// Gathers lines into products, in the order in which their SKUs first appeared.
#[derive(Default)]
pub(crate) struct Products {
    position: HashMap<Sku, usize>,
    gathered: Vec<(Sku, Gathered)>,
}

#[derive(Default)]
struct Gathered {
    /// Name → how often, and when it was first seen.
    names: HashMap<String, (u64, usize)>,
    price: Option<(NaiveDateTime, Money)>,
}

impl Products {
    pub(crate) fn add(&mut self, line: ProductLine) {
        let next = self.gathered.len();
        let at = *self.position.entry(line.sku.clone()).or_insert(next);
        if at == next {
            self.gathered.push((line.sku, Gathered::default()));
        }
        let product = &mut self.gathered[at].1;
        if let Some(name) = line.description {
            let seen = product.names.len();
            product.names.entry(name).or_insert((0, seen)).0 += 1;
        }
        if let Some(price) = line.price
            && product.price.is_none_or(|(time, _)| line.time >= time)
        {
            product.price = Some((line.time, price));
        }
    }

    pub(crate) fn into_products(self) -> Vec<ImportedProduct> {
        self.gathered.into_iter().map(|(sku, product)| product.named(sku)).collect()
    }
}

impl Gathered {
    fn named(self, sku: Sku) -> ImportedProduct {
        let most_frequent = self.names.into_iter().max_by_key(|&(_, (count, seen))| (count, Reverse(seen)));
        ImportedProduct {
            name: most_frequent.map_or_else(|| sku.to_string(), |(name, _)| name),
            sku,
            description: None,
            active: None,
            price: self.price.map(|(_, price)| price),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;
    use domain::Currency;

    fn line(sku: &str, description: &str, day: u64, price: &str) -> ProductLine {
        ProductLine {
            sku: Sku::parse(sku).unwrap(),
            time: NaiveDateTime::default() + Days::new(day),
            description: (!description.is_empty()).then(|| description.to_owned()),
            price: (!price.is_empty()).then(|| Money::parse(price, Currency::parse("GBP").unwrap()).unwrap()),
        }
    }

    /// SKU, name and price of each product made from lines.
    fn made(lines: impl IntoIterator<Item = ProductLine>) -> Vec<String> {
        let mut products = Products::default();
        lines.into_iter().for_each(|line| products.add(line));
        let text = |product: ImportedProduct| {
            let price = product.price.map_or("none".to_owned(), |price| price.to_string());
            format!("{} {} {price}", product.sku, product.name)
        };
        products.into_products().into_iter().map(text).collect()
    }

    #[test]
    fn the_most_frequent_name_wins_and_the_first_seen_on_a_tie() {
        let lines = |names: &[&str]| names.iter().map(|name| line("10000", name, 0, "1")).collect::<Vec<_>>();
        assert_eq!(made(lines(&["A", "B", "B"])), ["10000 B 1.00 GBP"]);
        assert_eq!(made(lines(&["B", "A", "A", "B"])), ["10000 B 1.00 GBP"]);
        assert_eq!(made(lines(&["", "", "A"])), ["10000 A 1.00 GBP"]);
        assert_eq!(made(lines(&["", ""])), ["10000 10000 1.00 GBP"]);
    }

    #[test]
    fn the_price_is_that_of_the_latest_date_then_of_the_last_line() {
        let price_of = |lines: &[(u64, &str)]| made(lines.iter().map(|(day, price)| line("10000", "A", *day, price)));
        assert_eq!(price_of(&[(2, "2"), (1, "1")]), ["10000 A 2.00 GBP"]);
        assert_eq!(price_of(&[(1, "1"), (1, "3"), (0, "9")]), ["10000 A 3.00 GBP"]);
        assert_eq!(price_of(&[(1, "1.5"), (2, "")]), ["10000 A 1.50 GBP"]);
        assert_eq!(price_of(&[(1, "")]), ["10000 A none"]);
    }

    #[test]
    fn products_come_in_the_order_of_their_first_line_and_case_tells_them_apart() {
        let lines = ["85123a", "10000", "85123A", "85123a"].map(|sku| line(sku, "X", 0, ""));
        assert_eq!(made(lines), ["85123a X none", "10000 X none", "85123A X none"]);
    }
}
