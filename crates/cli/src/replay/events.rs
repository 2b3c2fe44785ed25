//! What a replay sends: the lines of a file in time order, dealt out to clients.
//!
//! Promises that the events of one product stay with one client in their order.
//! Knows no network and no clock.

use crate::online_retail::ProductLine;
use chrono::NaiveDateTime;
use domain::{Money, ProductId, Sku};
use std::collections::HashMap;

/// One line of the file: a view of a product, and perhaps the price it was sold at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) time: NaiveDateTime,
    pub(crate) id: ProductId,
    pub(crate) price: Option<Money>,
}

/// The events of one pass, in time order within each client.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) clients: Vec<Vec<Event>>,
    /// The recorded times of the first and the last line.
    pub(crate) first: NaiveDateTime,
    pub(crate) last: NaiveDateTime,
    /// Requests of the first pass: views and price writes.
    pub(crate) requests: u64,
    /// Lines of products that have no id.
    pub(crate) lines_without_product: u64,
}

impl Plan {
    pub(crate) fn new(mut lines: Vec<ProductLine>, ids: &HashMap<Sku, ProductId>, clients: usize) -> Self {
        // Stable: lines of the same minute keep the order of the file.
        lines.sort_by_key(|line| line.time);
        let mut plan = Self {
            clients: vec![Vec::new(); clients],
            first: lines.first().map(|line| line.time).unwrap_or_default(),
            last: lines.last().map(|line| line.time).unwrap_or_default(),
            ..Self::default()
        };
        let mut prices = PricesSent::default();
        for line in lines {
            let Some(&id) = ids.get(&line.sku) else {
                plan.lines_without_product += 1;
                continue;
            };
            let event = Event { time: line.time, id, price: line.price };
            plan.requests += 1 + u64::from(prices.write_due(&event).is_some());
            plan.clients[client_of(id, clients)].push(event);
        }
        plan
    }
}

fn client_of(id: ProductId, clients: usize) -> usize {
    (id.get() % clients as u64) as usize
}

/// The last price sent for each product in this run, over all passes.
#[derive(Debug, Default)]
pub(crate) struct PricesSent(HashMap<ProductId, Money>);

impl PricesSent {
    /// The price to write if it differs from the last one sent; it then counts as sent.
    pub(crate) fn write_due(&mut self, event: &Event) -> Option<Money> {
        let price = event.price?;
        (self.0.insert(event.id, price) != Some(price)).then_some(price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online_retail;
    use chrono::TimeDelta;
    use domain::Currency;
    use std::path::Path;

    const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/online-retail-2011-01.csv.gz");

    fn line(sku: &str, minute: i64, price: &str) -> ProductLine {
        ProductLine {
            sku: Sku::parse(sku).unwrap(),
            time: NaiveDateTime::default() + TimeDelta::minutes(minute),
            description: None,
            price: (!price.is_empty()).then(|| Money::parse(price, Currency::parse("GBP").unwrap()).unwrap()),
        }
    }

    fn ids(skus: &[&str]) -> HashMap<Sku, ProductId> {
        (1..).zip(skus).map(|(id, sku)| (Sku::parse(sku).unwrap(), ProductId::new(id).unwrap())).collect()
    }

    /// `minute/id/price` of each event of a client.
    fn shown(events: &[Event]) -> Vec<String> {
        let text = |event: &Event| {
            let minute = (event.time - NaiveDateTime::default()).num_minutes();
            let price = event.price.map(|price| price.amount_text()).unwrap_or_default();
            format!("{minute}/{}/{price}", event.id)
        };
        events.iter().map(text).collect()
    }

    #[test]
    fn events_go_by_time_and_by_the_order_of_the_file_within_a_minute() {
        let lines = vec![line("10002", 5, "3"), line("10001", 1, "1"), line("10002", 1, ""), line("10001", 1, "2")];
        let plan = Plan::new(lines, &ids(&["10001", "10002"]), 1);
        assert_eq!(shown(&plan.clients[0]), ["1/1/1.00", "1/2/", "1/1/2.00", "5/2/3.00"]);
        assert_eq!((plan.requests, plan.first), (7, NaiveDateTime::default() + TimeDelta::minutes(1)));
    }

    #[test]
    fn a_product_stays_with_the_client_of_its_id() {
        let lines = (0..12).map(|n| line(["10001", "10002", "10003"][n % 3], n as i64, "1")).collect();
        let plan = Plan::new(lines, &ids(&["10001", "10002", "10003"]), 2);
        assert_eq!(shown(&plan.clients[0]), ["1/2/1.00", "4/2/1.00", "7/2/1.00", "10/2/1.00"]);
        assert_eq!(plan.clients[1].len(), 8);
    }

    #[test]
    fn a_price_is_written_first_and_then_when_it_differs_from_the_last_one_sent() {
        let id = ProductId::new(1).unwrap();
        let mut sent = PricesSent::default();
        let mut due = |price: &str| {
            let event = Event { id, time: NaiveDateTime::default(), price: line("10001", 0, price).price };
            sent.write_due(&event).map(|price| price.amount_text())
        };
        assert_eq!(due(""), None);
        assert_eq!(due("2.1"), Some("2.10".into()));
        assert_eq!(due("2.10"), None);
        assert_eq!(due(""), None);
        assert_eq!(due("2.1"), None);
        assert_eq!(due("3"), Some("3.00".into()));
        assert_eq!(due("2.1"), Some("2.10".into()));
    }

    #[test]
    fn lines_of_unknown_products_are_counted_and_left_out() {
        let plan = Plan::new(vec![line("10001", 0, "1"), line("10009", 0, "1")], &ids(&["10001"]), 8);
        assert_eq!((plan.requests, plan.lines_without_product), (2, 1));
        assert_eq!(Plan::new(Vec::new(), &HashMap::new(), 8).requests, 0);
    }

    #[test]
    fn the_bundled_month_has_the_requests_counted_apart() {
        let mut lines = Vec::new();
        online_retail::read(Path::new(BUNDLED), |line| lines.push(line), |reject| panic!("{reject:?}")).unwrap();
        let skus: Vec<_> = lines.iter().map(|line| line.sku.as_str().to_owned()).collect();
        let skus: std::collections::BTreeSet<_> = skus.iter().map(String::as_str).collect();
        let plan = Plan::new(lines, &ids(&skus.into_iter().collect::<Vec<_>>()), 8);
        let views: usize = plan.clients.iter().map(Vec::len).sum();
        assert_eq!((views, plan.requests), (34_960, 34_960 + 15_052));
        assert_eq!(plan.first.to_string(), "2011-01-04 10:00:00");
    }
}
