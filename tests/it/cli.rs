//! `inventoryctl` against real servers: what it prints, what it changes, how it ends.

use crate::replay::SAMPLE;
use harness::{Outcome, Reply, SOON, Shop, eventually};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::path::PathBuf;

fn write(shop: &Shop, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = shop.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn import(shop: &Shop, bytes: impl AsRef<[u8]>, more: &[&str]) -> Outcome {
    let file = write(shop, "in.csv", bytes);
    shop.ctl(None, &[&["product", "import", file.to_str().unwrap(), "-o", "json"], more].concat()).await
}

/// SKU, name and price of each product in MySQL.
async fn catalogue(shop: &Shop) -> Vec<String> {
    let sql = "SELECT CONCAT_WS(' ', sku, name, CAST(CAST(price AS DECIMAL(19,2)) AS CHAR), currency) FROM products ORDER BY sku";
    shop.rows(sql).await
}

/// Replaces text in what Redis holds of a product.
async fn tamper(shop: &Shop, id: u64, from: &str, to: &str) {
    let mut redis = shop.redis_connection().await;
    let keys: Vec<String> = redis.keys(format!("*:p:{id}")).await.unwrap();
    assert_eq!(keys.len(), 1, "the product is cached: {keys:?}");
    let entry: Vec<u8> = redis.get(&keys[0]).await.unwrap();
    let entry = String::from_utf8(entry).unwrap();
    assert!(entry.contains(from), "{entry}");
    let keep = redis::SetOptions::default().with_expiration(redis::SetExpiry::KEEPTTL);
    let _: () = redis.set_options(&keys[0], entry.replace(from, to), keep).await.unwrap();
}

#[tokio::test]
async fn a_new_database_is_migrated_once_and_keeps_its_number_of_shards() {
    let shop = Shop::start().await;
    let name = format!("{}_new", shop.database());
    shop.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
    let url = format!("mysql://root@127.0.0.1:{}/{name}", shop.mysql_port());
    let migrate = async |more: &[&str]| shop.ctl(None, &[&["migrate"], more, &["-o", "json", "--mysql-url", &url]].concat()).await;
    let applied = |rows: &Value, field: &str| rows.as_array().unwrap().iter().filter(|row| row[field] != json!(null)).count();

    let before = migrate(&["status"]).await;
    assert!(before.stderr.contains("inventoryctl migrate"), "{before:?}");
    let before = before.json(0);
    let all = before.as_array().unwrap().len();
    assert!(all >= 3 && applied(&before, "applied_on") == 0, "{before}");
    let first = migrate(&["--shards", "3"]).await.json(0);
    assert!(first.as_array().unwrap().iter().all(|row| row["applied_now"] == true), "{first}");
    let again = migrate(&["--shards", "5"]).await.json(0);
    assert!(again.as_array().unwrap().iter().all(|row| row["applied_now"] == false), "{again}");
    assert_eq!(shop.number(&format!("SELECT COUNT(*) FROM {name}.view_shards")).await, 3, "a fact of the database");
    let after = migrate(&["status"]).await;
    assert_eq!(applied(&after.json(0), "applied_on"), all);
    let tables = |database: &str| format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{database}' ORDER BY 1");
    let (new, old): (Vec<String>, Vec<String>) = (shop.rows(&tables(&name)).await, shop.rows(&tables(shop.database())).await);
    assert_eq!(new, old);
    shop.run(&format!("DROP DATABASE {name}")).await;
}

#[tokio::test]
async fn the_sample_is_imported_and_importing_it_again_changes_nothing() {
    let shop = Shop::start().await;
    let trial = shop.ctl(None, &["product", "import", SAMPLE, "--dry-run", "-o", "json"]).await.json(0);
    assert_eq!((&trial["created"], &trial["dry_run"]), (&json!(2_630), &json!(true)));
    assert_eq!(shop.number("SELECT COUNT(*) FROM products").await, 0, "a dry run writes nothing");

    let first = shop.ctl(None, &["product", "import", SAMPLE, "--format", "online-retail", "-o", "json"]).await.json(0);
    let counts =
        |report: &Value| ["products", "created", "updated", "unchanged", "refused", "not_written"].map(|field| report[field].clone());
    assert_eq!(counts(&first), [2_630, 2_630, 0, 0, 0, 0].map(|count| json!(count)));
    assert_eq!((&first["lines"], &first["rejected"]), (&json!(35_147), &json!(0)));
    let skipped: u64 = first["skipped"].as_object().unwrap().values().map(|lines| lines.as_u64().unwrap()).sum();
    assert_eq!(skipped, 187, "{first}");
    assert_eq!(shop.number("SELECT COUNT(*) FROM products WHERE price IS NOT NULL AND currency = 'GBP' AND version = 1").await, 2_583);
    let checksum = async || shop.rows::<(String, u64)>("CHECKSUM TABLE products, price_history").await;
    let before = checksum().await;
    let second = shop.ctl(None, &["product", "import", SAMPLE, "-o", "json"]).await.json(0);
    assert_eq!(counts(&second), [2_630, 0, 0, 2_630, 0, 0].map(|count| json!(count)));
    assert_eq!(checksum().await, before);
}

#[tokio::test]
async fn a_bad_file_costs_only_its_bad_lines_and_each_is_told_with_its_number() {
    let shop = Shop::start().await;
    // A byte order mark and CRLF; line 4 opens a quote that nothing closes.
    let lines: [&[u8]; 12] = [
        b"\xef\xbb\xbfInvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice",
        b"1,10001,\"LAMP, \"\"RED\"\"\",1,2011-01-04 10:00:00,1.5",
        b"1,POST,POSTAGE,1,2011-01-04 10:00:00,18",
        b"1,10002,\"OPEN,1,2011-01-04 10:00:00,1.00",
        b"1,10003,BOX,1,2011-01-04 10:00:00,2",
        b"1,10004,SHORT,1,2011-01-04 10:00:00",
        b"1,10005,LONG,1,2011-01-04 10:00:00,1,1",
        b"1,10006,PRICE,1,2011-01-04 10:00:00,1.999",
        b"1,10007,DATE,1,04/01/2011,1",
        b"1,10008,CAF\xc9,1,2011-01-04 10:00:00,1",
        b"1,10009,\"A\"B,1,2011-01-04 10:00:00,1",
        b"1,85123a,LAST,1,2011-01-04 10:00:00,0",
    ];
    let (file, rejects) = (lines.join(&b"\r\n"[..]), shop.dir().join("bad.csv"));
    let outcome = import(&shop, &file, &["--errors-to", rejects.to_str().unwrap()]).await;
    let report = outcome.json(3);
    for (field, count) in [("products", 3), ("created", 3), ("lines", 11), ("rejected", 7)] {
        assert_eq!(report[field], count, "{field} in {report}");
    }
    assert_eq!(report["skipped"], json!({"postage (POST)": 1}));
    assert_eq!(catalogue(&shop).await, ["10001 LAMP, \"RED\" 1.50 GBP", "10003 BOX 2.00 GBP", "85123a LAST"]);

    let reasons = [
        (4, "a quote is opened and never closed"),
        (6, "the line has 5 fields, the header has 6"),
        (7, "the line has 7 fields, the header has 6"),
        (8, "has 3 digits after the point, GBP has 2"),
        (9, "InvoiceDate is \"04/01/2011\""),
        (10, "Description is not UTF-8"),
        (11, "a quote stands inside a quoted field"),
    ];
    for (line, reason) in reasons {
        let told = outcome.stderr.lines().find(|told| told.contains(&format!("line {line}: ")));
        assert!(told.is_some_and(|told| told.contains(reason)), "line {line}: {reason}\n{}", outcome.stderr);
    }
    let mut reader = csv::Reader::from_path(&rejects).unwrap();
    let rows: Vec<csv::ByteRecord> = reader.byte_records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), reasons.len());
    for (row, (line, reason)) in rows.iter().zip(reasons) {
        let text = String::from_utf8_lossy(&row[1]);
        assert!(row[0] == *line.to_string().as_bytes() && text.contains(reason), "{row:?}");
        assert_eq!(row[2], *lines[line - 1], "the text of line {line}, byte for byte");
    }
}

#[tokio::test]
async fn a_file_with_missing_or_doubled_columns_is_told_at_its_first_line() {
    let shop = Shop::start().await;
    let missing = import(&shop, "StockCode,Description,InvoiceDate\n10001,LAMP,2011-01-04 10:00:00\n", &[]).await;
    assert_eq!((&missing.json(3)["rejected"], &missing.json(3)["products"]), (&json!(1), &json!(0)));
    assert!(missing.stderr.contains("line 1: ") && missing.stderr.contains("UnitPrice"), "{missing:?}");
    let doubled = "StockCode,Description,InvoiceDate,UnitPrice,UnitPrice\n\
                   10001,LAMP,2011-01-04 10:00:00,1,1\n\
                   10002,LAMP,2011-01-04 10:00:00,1,2\n";
    let doubled = import(&shop, doubled, &[]).await;
    assert_eq!((&doubled.json(3)["rejected"], &doubled.json(3)["created"]), (&json!(2), &json!(1)));
    for told in ["line 1: ", "line 3: UnitPrice"] {
        assert!(doubled.stderr.contains(told), "{told} in {doubled:?}");
    }
    let fewer = import(&shop, "\u{feff}UnitPrice,InvoiceDate,Description,StockCode\n3,2011-01-04 10:00:00,BOX,10003\n", &[]).await;
    assert_eq!(
        fewer.json(0)["created"],
        1,
        "columns that are not needed may be absent, the order is free, and a byte order mark is no part of a name"
    );
    for (name, bytes) in [("another file", "a,b\n1,2\n"), ("nothing", "")] {
        let outcome = import(&shop, bytes, &[]).await;
        assert_eq!(outcome.code, Some(2), "{name}: {outcome:?}");
    }
    assert_eq!(catalogue(&shop).await, ["10001 LAMP 1.00 GBP", "10003 BOX 3.00 GBP"]);
}

#[tokio::test]
async fn a_product_is_shown_by_its_sku_or_id_and_compared_over_all_three_places() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let get = async |arguments: &[&str]| shop.ctl(Some(&api), &[&["product", "get"], arguments].concat()).await;
    let answered = api.get("/v1/products/2").await.json();
    for name in ["P2", "id:2"] {
        assert_eq!(get(&[name, "-o", "json"]).await.json(0), answered, "{name}");
    }
    for name in ["2", "p2", "id:99"] {
        let unknown = get(&[name]).await;
        assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(4), ""), "{unknown:?}");
        assert_eq!(get(&[name, "--compare"]).await.code, Some(4), "{name}");
    }
    for name in ["id:0", "id:x", ""] {
        assert_eq!(get(&[name]).await.code, Some(2), "{name:?}");
    }

    let same = get(&["P2", "--compare", "-o", "json"]).await.json(0);
    let price = same.as_array().unwrap().iter().find(|line| line["field"] == "price").unwrap();
    let money = json!({"amount": "1.00", "currency": "GBP"});
    assert_eq!(price, &json!({"field": "price", "mysql": money, "redis": money, "api": money, "differs": false}));
    tamper(&shop, 2, "1.00", "9.99").await;
    let differs = get(&["P2", "--compare", "-o", "json"]).await.json(5);
    let wrong: Vec<_> = differs.as_array().unwrap().iter().filter(|line| line["differs"] == true).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(
        (&wrong[0]["field"], &wrong[0]["mysql"]["amount"], &wrong[0]["redis"]["amount"], &wrong[0]["api"]["amount"]),
        (&json!("price"), &json!("1.00"), &json!("9.99"), &json!("9.99"))
    );
}

#[tokio::test]
async fn a_full_check_finds_what_was_changed_behind_the_programs() {
    let shop = Shop::start().await;
    shop.products(205).await;
    let api = shop.api().await;
    let check = async || shop.ctl(Some(&api), &["check", "--full", "-o", "json"]).await;
    let even = check().await.json(0);
    assert_eq!(
        even,
        json!({"products_compared": 205, "found_in_redis": 205, "mismatches": 0, "repaired": 0, "earlier_keys": 0, "account_faults": 0, "stock_faults": 0, "stock_repaired": 0})
    );
    tamper(&shop, 7, "Product 7", "Product 8").await;
    shop.run("UPDATE products SET price = 3 WHERE id = 201").await;
    let uneven = check().await;
    assert_eq!(uneven.json(5)["mismatches"], 2);
    for told in ["product 7: name: MySQL Product 7, Redis Product 8", "product 201: price: MySQL 3.00 GBP, Redis 1.00 GBP"] {
        assert!(uneven.stderr.contains(told), "{told} in {uneven:?}");
    }
}

#[tokio::test]
async fn the_queue_tells_where_the_accepted_views_are() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let status = async || shop.ctl(None, &["queue", "status", "-o", "json"]).await.json(0);
    let account = |status: &Value| {
        ["accepted", "persisted", "pending", "dead", "lost", "twice", "depth"].map(|field| status[field].as_u64().unwrap())
    };
    assert_eq!(account(&status().await), [0; 7]);
    for id in [1, 2] {
        assert_eq!(api.send("POST", &format!("/v1/products/{id}/views"), r#"{"count":5}"#).await.status, 202);
    }
    let waiting = status().await;
    assert_eq!(account(&waiting), [10, 0, 10, 0, 0, 0, 2]);
    assert!(waiting["oldest_age_seconds"].as_f64().unwrap() > 0.0, "{waiting}");
    let _worker = shop.worker().await;
    let drained = eventually("the queue is empty", SOON, async || {
        let status = status().await;
        (status["depth"] == 0).then_some(status)
    })
    .await;
    assert_eq!(account(&drained), [10, 10, 0, 0, 0, 0, 0]);
    assert_eq!(drained["oldest_age_seconds"], 0.0);
}

#[tokio::test]
async fn the_exit_code_tells_what_was_wrong() {
    let shop = Shop::start().await;
    let nobody = servers::free_port().unwrap();
    let (mysql, redis, url) =
        (shop.mysql_url_at("inventory_api", nobody), format!("redis://127.0.0.1:{nobody}/0"), format!("http://127.0.0.1:{nobody}"));
    let file = write(&shop, "one.csv", "StockCode,Description,InvoiceDate,UnitPrice\n10001,LAMP,2011-01-04 10:00:00,1\n");
    let file = file.to_str().unwrap();
    for (arguments, code, told) in [
        (vec!["migrate", "--mysql-url", &mysql], 7, "--mysql-url"),
        (vec!["product", "import", file, "--mysql-url", &mysql], 7, "--mysql-url"),
        (vec!["product", "import", file, "--redis-url", &redis], 7, "--redis-url"),
        (vec!["queue", "status", "--redis-url", &redis], 7, "--redis-url"),
        (vec!["product", "get", "P1", "--url", &url], 7, "INVENTORY_URL"),
        (vec!["replay", file, "--api", &url], 7, &url),
        (vec!["check", "--url", &url], 0, ""),
        (vec!["product", "import", "/nowhere/x.csv"], 1, "/nowhere/x.csv"),
        (vec![], 2, "Usage"),
        (vec!["product", "get"], 2, "required"),
        (vec!["queue", "statu"], 2, "status"),
        (vec!["check", "--full", "--sample", "3"], 2, "--full"),
        (vec!["migrate", "--shards", "0"], 2, "1 to 1024"),
        (vec!["product", "get", "P1", "--url", "ftp://x"], 2, "http://"),
        (vec!["queue", "status", "--redis-url", "rediss://x"], 2, "not supported yet"),
    ] {
        let outcome = shop.ctl(None, &arguments).await;
        assert_eq!(outcome.code, Some(code), "{arguments:?} {outcome:?}");
        assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
        assert_eq!(outcome.stdout.is_empty(), code != 0, "messages do not go to stdout: {outcome:?}");
    }
    let denied = shop.ctl_as("inventory_worker", None, &["product", "import", file]).await;
    assert_eq!(denied.code, Some(6), "the worker's user may not write products: {denied:?}");
    let api = shop.api().await;
    let unknown = shop.ctl(Some(&api), &["replay", file]).await;
    assert_eq!(unknown.code, Some(4), "none of its products is there: {unknown:?}");
    assert_eq!(Reply::to(api.request("GET", "/v1/products?skus=10001")).await.json()["missing"], json!(["10001"]));
}
