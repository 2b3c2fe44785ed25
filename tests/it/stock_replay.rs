//! A month of real trade as stock: each invoice is a reservation and its commit, each cancelled line comes back, through two APIs at
//! once. What the file has is read here by other code than the programs'.

use crate::replay::SAMPLE;
use flate2::read::MultiGzDecoder;
use harness::{Program, Reply, Shop};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const CLIENTS: usize = 8;

/// Products of one reservation.
const MOST_ITEMS: usize = 100;

/// What happened to stock, in the order of the file.
#[derive(Debug)]
enum Event {
    /// Quantities by product of one invoice, or of a part of it.
    Sold(Vec<(u64, u64)>),
    /// A line of a cancellation, or of an invoice with a negative quantity: goods that were damaged, lost or found to be missing.
    Changed { product: u64, delta: i64, reason: &'static str },
}

/// Quantities by product.
type Quantities = BTreeMap<u64, i64>;

#[derive(Debug, Default)]
struct Trade {
    events: Vec<Event>,
    demand: Quantities,
    written_off: Quantities,
}

/// The product lines of the file, with the ids that the products have.
fn trade_of(path: &str, ids: &BTreeMap<String, u64>) -> Trade {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(path).unwrap()));
    let columns = reader.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let (invoice, code, quantity) = (column("InvoiceNo"), column("StockCode"), column("Quantity"));
    let (mut trade, mut open) = (Trade::default(), None::<(String, BTreeMap<u64, u64>)>);
    for line in reader.records().map(Result::unwrap) {
        if line[code].chars().take_while(char::is_ascii_digit).count() < 5 {
            continue;
        }
        let (product, number) = (ids[&line[code]], line[quantity].parse::<i64>().unwrap());
        if open.as_ref().is_some_and(|(of, _)| *of != line[invoice]) {
            trade.sell(open.take());
        }
        match number {
            1.. => {
                let (_, basket) = open.get_or_insert_with(|| (line[invoice].to_owned(), BTreeMap::new()));
                *basket.entry(product).or_default() += number.unsigned_abs();
                *trade.demand.entry(product).or_default() += number;
            }
            _ if line[invoice].starts_with('C') => trade.events.push(Event::Changed { product, delta: -number, reason: "return" }),
            _ => {
                trade.events.push(Event::Changed { product, delta: number, reason: "written off" });
                *trade.written_off.entry(product).or_default() -= number;
            }
        }
    }
    trade.sell(open);
    trade
}

impl Trade {
    fn sell(&mut self, invoice: Option<(String, BTreeMap<u64, u64>)>) {
        let items: Vec<(u64, u64)> = invoice.into_iter().flat_map(|(_, basket)| basket).collect();
        self.events.extend(items.chunks(MOST_ITEMS).map(|items| Event::Sold(items.to_vec())));
    }
}

/// What the answers said.
#[derive(Debug, Default)]
struct Book {
    sold: Quantities,
    changed: Quantities,
    refused: u64,
    refused_changes: u64,
}

/// The month, a shop that has its products, and what the clients do in it.
struct Market {
    apis: [Program; 2],
    trade: Trade,
    next: AtomicU64,
    book: Mutex<Book>,
}

impl Market {
    async fn open(shop: &Shop, opening: impl Fn(i64, i64) -> i64) -> (Self, Quantities) {
        let imported = shop.ctl(None, &["product", "import", SAMPLE, "-o", "json"]).await.json(0);
        assert_eq!(imported["products"], 2_630);
        let ids: BTreeMap<String, u64> = shop.rows("SELECT sku, id FROM products").await.into_iter().collect();
        let trade = trade_of(SAMPLE, &ids);
        let of = |quantities: &Quantities, id: &u64| quantities.get(id).copied().unwrap_or(0);
        let openings = ids.values().map(|id| (*id, opening(of(&trade.demand, id), of(&trade.written_off, id)))).collect();
        let apis = [shop.api().await, shop.api().await];
        let market = Self { apis, trade, next: AtomicU64::new(0), book: Mutex::default() };
        market.count(&openings).await;
        (market, openings)
    }

    /// Sets the opening stock of each product.
    async fn count(&self, openings: &Quantities) {
        let openings: Vec<(&u64, &i64)> = openings.iter().collect();
        let client = async |nth: usize| {
            for (product, on_hand) in openings.iter().skip(nth).step_by(CLIENTS) {
                let path = format!("/v1/products/{product}/stock");
                let request = self.apis[nth % 2].request("PUT", &path).header("if-match", "\"0\"");
                let set = Reply::to(request.header("content-type", "application/json").body(json!({"on_hand": on_hand}).to_string())).await;
                assert_eq!((set.status, &set.json()["on_hand"]), (200, &json!(on_hand)), "{set:?}");
            }
        };
        futures_util::future::join_all((0..CLIENTS).map(client)).await;
    }

    /// All events, by several clients at once: each takes the next.
    async fn trade(&self) {
        let client = async |nth: usize| {
            while let place = self.next.fetch_add(1, Ordering::Relaxed)
                && let Some(event) = self.trade.events.get(place as usize)
            {
                let api = &self.apis[nth % 2];
                match event {
                    Event::Sold(items) => self.sell(api, place, items).await,
                    Event::Changed { product, delta, reason } => self.change(api, place, *product, *delta, reason).await,
                }
            }
        };
        futures_util::future::join_all((0..CLIENTS).map(client)).await;
    }

    async fn sell(&self, api: &Program, place: u64, items: &[(u64, u64)]) {
        let rows: Vec<Value> = items.iter().map(|(product, quantity)| json!({"product_id": product, "quantity": quantity})).collect();
        let request = api.request("POST", "/v1/reservations").header("idempotency-key", format!("sale-{place}"));
        let body = json!({"items": rows}).to_string();
        let reserved = Reply::to(request.header("content-type", "application/json").body(body)).await;
        if reserved.status != 201 {
            let refusal = reserved.problem(409, "insufficient-stock");
            assert!(!refusal["shortages"].as_array().unwrap().is_empty(), "{refusal}");
            self.book.lock().unwrap().refused += 1;
            return;
        }
        let path = format!("{}/commit", reserved.header("location"));
        let committed = Reply::to(api.request("POST", &path)).await;
        assert_eq!((committed.status, &committed.json()["state"]), (200, &json!("committed")), "{committed:?}");
        let mut book = self.book.lock().unwrap();
        items.iter().for_each(|(product, quantity)| *book.sold.entry(*product).or_default() += *quantity as i64);
    }

    async fn change(&self, api: &Program, place: u64, product: u64, delta: i64, reason: &str) {
        let path = format!("/v1/products/{product}/stock/adjustments");
        let request = api.request("POST", &path).header("idempotency-key", format!("line-{place}"));
        let body = json!({"delta": delta, "reason": reason}).to_string();
        let adjusted = Reply::to(request.header("content-type", "application/json").body(body)).await;
        if adjusted.status == 201 {
            *self.book.lock().unwrap().changed.entry(product).or_default() += delta;
        } else {
            assert!(delta < 0, "goods that come back are taken: {adjusted:?}");
            adjusted.problem(409, "insufficient-stock");
            self.book.lock().unwrap().refused_changes += 1;
        }
    }
}

/// Stock, and the sums of movements, are exactly what the answers say.
async fn assert_exact(shop: &Shop, openings: &Quantities, book: &Book) {
    let sql = "SELECT s.product_id, s.on_hand, s.reserved, CAST(SUM(m.delta) AS SIGNED), CAST(SUM(m.reserved_delta) AS SIGNED), \
               CAST(SUM(IF(m.kind = 'commit', -m.delta, 0)) AS SIGNED), MIN(m.on_hand - m.reserved) \
               FROM stock s JOIN stock_movements m ON m.product_id = s.product_id GROUP BY s.product_id, s.on_hand, s.reserved";
    let there: BTreeMap<u64, _> = shop
        .rows::<(u64, i64, i64, i64, i64, i64, i64)>(sql)
        .await
        .into_iter()
        .map(|(product, on_hand, reserved, delta, reserved_delta, committed, least)| {
            (product, ([on_hand, reserved, delta, reserved_delta, committed], least))
        })
        .collect();
    let of = |quantities: &Quantities, id: &u64| quantities.get(id).copied().unwrap_or(0);
    for (product, opening) in openings {
        let (sold, changed) = (of(&book.sold, product), of(&book.changed, product));
        let on_hand = opening + changed - sold;
        // A product that was never there has neither row nor movements.
        let (levels, least) = there.get(product).copied().unwrap_or_default();
        assert_eq!(levels, [on_hand, 0, on_hand, 0, sold], "product {product}: opened with {opening}, sold {sold}, changed {changed}");
        assert!(least >= 0 && on_hand >= 0, "product {product} was oversold");
    }
    let states: Vec<(String, u64)> = shop.rows("SELECT state, COUNT(*) FROM reservations GROUP BY state").await;
    assert!(states.iter().all(|(state, _)| state == "committed"), "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_sales_and_returns_ends_in_exactly_what_is_left_of_each_product() {
    let shop = Shop::start().await;
    let (market, openings) = Market::open(&shop, |demand, written_off| demand + written_off).await;
    let sales = market.trade.events.iter().filter(|event| matches!(event, Event::Sold(_))).count();
    assert_eq!((sales, market.trade.events.len() - sales, market.trade.demand.values().sum::<i64>()), (1_221, 771, 396_353));
    market.trade().await;
    let Market { trade, book, .. } = market;
    let book = book.into_inner().unwrap();
    assert_eq!((book.refused, book.refused_changes), (0, 0));
    assert_eq!(book.sold, trade.demand);
    assert_eq!(book.changed.values().sum::<i64>(), 79_784 - 8_896, "what came back, less what was written off");
    assert_exact(&shop, &openings, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_of_what_is_wanted_some_sales_are_refused_and_no_more_is_sold_than_was_there() {
    let shop = Shop::start().await;
    let (market, openings) = Market::open(&shop, |demand, _| demand / 2).await;
    market.trade().await;
    let Market { trade, book, .. } = market;
    let book = book.into_inner().unwrap();
    let (wanted, sold): (i64, i64) = (trade.demand.values().sum(), book.sold.values().sum());
    println!("{sold} of {wanted} sold, {} sales and {} write-offs refused", book.refused, book.refused_changes);
    assert!(book.refused > 0 && sold > 0 && sold < wanted);
    assert_exact(&shop, &openings, &book).await;
}
