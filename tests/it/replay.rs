//! The end-to-end proof: a month of real trade through two APIs, while the worker is killed again and again, ends in
//! exactly the views and prices that the file has. What the file has is read here by other code than the programs'.

use flate2::read::MultiGzDecoder;
use harness::{Program, Shop, ShopOptions, eventually, metric_in};
use serde_json::{Value, json};
use servers::{AppendFsync, RedisOptions};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/online-retail-2011-01.csv.gz");

/// A debug build on a busy machine included: the whole replay took 70 s there on MariaDB and 238 s on MySQL.
const DEADLINE: Duration = Duration::from_secs(300);

/// Views in MySQL at which the worker is killed, spread over the replay.
const KILLS: [u64; 3] = [4_000, 14_000, 24_000];

/// What became of one product of the file.
#[derive(Debug, Default, Clone, PartialEq)]
struct Trade {
    views: u64,
    /// Each positive price that differs from the one before, in time order, with two digits after the point.
    prices: Vec<String>,
}

/// Products by SKU: views and prices, from the lines whose code begins with five digits.
fn trade_of(path: &str) -> BTreeMap<String, Trade> {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(path).unwrap()));
    let columns = reader.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let (code, date, price) = (column("StockCode"), column("InvoiceDate"), column("UnitPrice"));
    let mut lines: Vec<_> = reader.records().map(Result::unwrap).collect();
    lines.retain(|line| line[code].chars().take_while(char::is_ascii_digit).count() >= 5);
    // Dates are written so that their text sorts as they do; equal ones stay in the order of the file.
    lines.sort_by(|a, b| a[date].cmp(&b[date]));
    let mut products = BTreeMap::<String, Trade>::new();
    for line in &lines {
        let product = products.entry(line[code].to_owned()).or_default();
        product.views += 1;
        let pence = (line[price].parse::<f64>().unwrap() * 100.0).round() as i64;
        let text = format!("{}.{:02}", pence / 100, pence % 100);
        if pence > 0 && product.prices.last() != Some(&text) {
            product.prices.push(text);
        }
    }
    products
}

/// What MySQL must hold of a product that was imported, and then replayed.
#[derive(Debug, PartialEq)]
struct Expected {
    price: Option<String>,
    /// The import writes the latest price, the replay each one that differs from the one before.
    history: Vec<String>,
    version: u64,
    views: u64,
}

impl Expected {
    fn of(trade: &Trade) -> Self {
        let price = trade.prices.last().cloned();
        let mut history: Vec<String> = price.iter().chain(&trade.prices).cloned().collect();
        history.dedup();
        Self { price, version: history.len().max(1) as u64, history, views: trade.views }
    }
}

/// Views and prices of each product as MySQL holds them.
async fn in_mysql(shop: &Shop) -> BTreeMap<String, Expected> {
    let sql = "SELECT p.id, p.sku, CAST(CAST(p.price AS DECIMAL(19,2)) AS CHAR), p.version, COALESCE(v.views, 0) \
               FROM products p LEFT JOIN product_views v ON v.product_id = p.id";
    let mut products = BTreeMap::new();
    let mut skus = BTreeMap::new();
    for (id, sku, price, version, views) in shop.rows::<(u64, String, Option<String>, u64, u64)>(sql).await {
        skus.insert(id, sku.clone());
        products.insert(sku, Expected { price, history: Vec::new(), version, views });
    }
    let sql = "SELECT product_id, CAST(CAST(price AS DECIMAL(19,2)) AS CHAR) FROM price_history ORDER BY id";
    for (id, price) in shop.rows::<(u64, String)>(sql).await {
        products.get_mut(&skus[&id]).unwrap().history.push(price);
    }
    products
}

/// The same as an API answers it, but for the history, which it does not show.
async fn in_api(api: &Program, ids: &[u64]) -> BTreeMap<String, (Value, u64, u64)> {
    let mut products = BTreeMap::new();
    for ids in ids.chunks(100) {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let page = api.get(&format!("/v1/products?ids={}", ids.join(","))).await.json();
        assert_eq!(page["missing"], json!([]));
        for product in page["data"].as_array().unwrap() {
            let number = |field: &str| product[field].as_u64().unwrap();
            products.insert(product["sku"].as_str().unwrap().to_owned(), (product["price"].clone(), number("version"), number("views")));
        }
    }
    products
}

/// Kills and restarts the worker at each of [`KILLS`], while the replay runs.
async fn kill_meanwhile(shop: &Shop, worker: &mut Program, replay_ended: &AtomicBool) {
    for views in KILLS {
        eventually(&format!("{views} views are in MySQL"), DEADLINE, async || (shop.all_views().await >= views).then_some(())).await;
        worker.kill();
        assert!(!replay_ended.load(Ordering::Relaxed), "the replay had ended when the worker was killed at {views} views");
        worker.restart().await;
    }
}

#[tokio::test]
async fn a_replayed_month_ends_in_exactly_its_views_and_prices_although_the_worker_is_killed_three_times() {
    let trade = trade_of(SAMPLE);
    let views: u64 = trade.values().map(|product| product.views).sum();
    let prices: usize = trade.values().map(|product| product.prices.len()).sum();
    assert_eq!((trade.len(), views, prices), (2_630, 34_960, 15_052), "the figures of data/README.md");

    // Nobody kills Redis here, so it need not wait for the disk.
    let redis = RedisOptions { append_fsync: AppendFsync::EverySec, ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
    let imported = shop.ctl(None, &["product", "import", SAMPLE, "-o", "json"]).await.json(0);
    assert_eq!((&imported["created"], &imported["products"]), (&json!(2_630), &json!(2_630)));
    let apis = [shop.api().await, shop.api().await];
    let mut worker = shop.worker().await;

    let ended = AtomicBool::new(false);
    let arguments = ["replay", SAMPLE, "--api", &apis[0].url, "--api", &apis[1].url, "--clients", "8", "-o", "json"];
    let replay = async {
        let outcome = shop.ctl(None, &arguments).await;
        ended.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, ()) = tokio::join!(replay, kill_meanwhile(&shop, &mut worker, &ended));
    let report = outcome.json(0);
    println!("{report}");
    for (field, expected) in [
        ("views_sent", views),
        ("views_accepted", views),
        ("views_unknown", 0),
        ("views_rejected", 0),
        ("prices_sent", prices as u64),
        ("prices_accepted", prices as u64),
        ("prices_failed", 0),
        ("lines_without_product", 0),
        ("lines_rejected", 0),
    ] {
        assert_eq!(report[field], expected, "{field} in {report}");
    }

    eventually("all views are in MySQL", DEADLINE, async || (shop.all_views().await >= views).then_some(())).await;
    let expected: BTreeMap<_, _> = trade.iter().map(|(sku, trade)| (sku.clone(), Expected::of(trade))).collect();
    let found = in_mysql(&shop).await;
    for (sku, expected) in &expected {
        assert_eq!(found.get(sku), Some(expected), "{sku}");
    }
    assert_eq!(found.len(), expected.len());
    let hours = "SELECT CAST(SUM(views) AS UNSIGNED) FROM view_hours";
    assert_eq!(shop.number(hours).await, views);

    let ids: Vec<u64> = shop.rows("SELECT id FROM products ORDER BY id").await;
    for api in &apis {
        let found = in_api(api, &ids).await;
        for (sku, Expected { price, version, views, .. }) in &expected {
            let price = price.as_ref().map_or(Value::Null, |amount| json!({"amount": amount, "currency": "GBP"}));
            assert_eq!(found.get(sku), Some(&(price, *version, *views)), "{sku} at {}", api.url);
        }
    }
    the_account_is_even(&shop, &apis, &worker, views).await;
    let check = shop.ctl(Some(&apis[0]), &["check", "--full", "-o", "json"]).await.json(0);
    assert_eq!((&check["products_compared"], &check["mismatches"]), (&json!(2_630), &json!(0)));
}

async fn the_account_is_even(shop: &Shop, apis: &[Program; 2], worker: &Program, views: u64) {
    let account = shop.ctl(None, &["queue", "status", "-o", "json"]).await.json(0);
    for (field, expected) in
        [("accepted", views), ("persisted", views), ("pending", 0), ("dead", 0), ("lost", 0), ("twice", 0), ("depth", 0)]
    {
        assert_eq!(account[field], expected, "{field} in {account}");
    }
    let mut accepted = 0.0;
    for api in apis {
        accepted += api.metric("inventory_views_received_total{outcome=\"accepted\"}").await;
    }
    assert_eq!(accepted, views as f64, "what the APIs say they accepted");
    for program in apis.iter().chain([worker]) {
        let even = async || {
            let text = program.metrics().await;
            let gauges = ["views_conservation_drift", "views_lost_total", "views_pending", "queue_depth", "queue_dead_letters"];
            gauges.iter().all(|name| metric_in(&text, &format!("inventory_{name}")) == Some(0.0)).then_some(())
        };
        eventually("drift, lost, pending, depth and dead letters are 0 in the metrics", DEADLINE, even).await;
    }
}
