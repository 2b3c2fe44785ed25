//! Reads of prices: the present one with what a reduction is compared with, and all that were before.

use harness::{Program, Proxy, Reply, Shop};
use serde_json::{Value, json};

const PRICE: &str = "/v1/products/1/price";
const HISTORY: &str = "/v1/products/1/price-history";

async fn put(api: &Program, amount: &str, currency: &str, reason: Option<&str>) -> Reply {
    let body = json!({"amount": amount, "currency": currency, "reason": reason}).to_string();
    let set = api.send("PUT", PRICE, body).await;
    assert_eq!(set.status, 200, "{set:?}");
    set
}

/// The amount of `prior_30d`; empty where it is null.
async fn prior(api: &Program) -> String {
    let answer = api.get(PRICE).await.json();
    answer["prior_30d"]["amount"].as_str().unwrap_or_default().to_owned()
}

/// Makes product 1 with a history of prices that were set so many days ago, oldest first.
async fn make(shop: &Shop, history: &[(&str, &str, u32)]) {
    let (price, currency, _) = history.last().unwrap();
    shop.run(&format!(
        "INSERT INTO products (id, sku, price, currency, version) VALUES (1, 'P1', {price}, '{currency}', {})",
        history.len()
    ))
    .await;
    for (n, (price, currency, days)) in history.iter().enumerate() {
        let row = format!("(1, {}, {price}, '{currency}', UTC_TIMESTAMP(6) - INTERVAL {days} DAY)", n + 1);
        shop.run(&format!("INSERT INTO price_history (product_id, version, price, currency, changed_at) VALUES {row}")).await;
    }
}

#[tokio::test]
async fn a_price_is_read_as_it_was_set_under_a_strong_tag() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let first = api.get(PRICE).await;
    assert_eq!((first.status, first.header("etag"), first.header("cache-control")), (200, "\"1\"", "no-cache"));
    assert_eq!((first.header("cache-status"), &first.json()["prior_30d"]), ("inventory; fwd=uri-miss", &json!(null)));
    let mut set = put(&api, "2.50", "GBP", None).await.json();
    set["prior_30d"] = json!(null);
    let read = api.get(PRICE).await;
    assert_eq!((read.json(), read.header("etag")), (set, "\"2\""));
    assert_eq!((read.header("cache-status"), read.header("content-type")), ("inventory; hit", "application/json"));
    for known in ["\"2\"", "W/\"2\"", "*"] {
        let same = Reply::to(api.request("GET", PRICE).header("if-none-match", known)).await;
        assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", "\"2\""), "{known}");
    }
    assert_eq!(Reply::to(api.request("GET", PRICE).header("if-none-match", "\"1\"")).await.status, 200);
    for tag in ["*", "\"1\""] {
        let first = api.request("PUT", PRICE).header("if-none-match", tag).header("content-type", "application/json");
        Reply::to(first.body(r#"{"amount":"3","currency":"GBP"}"#)).await.problem(400, "not-supported");
    }
    let guarded = api.request("PUT", PRICE).header("if-match", read.header("etag")).header("content-type", "application/json");
    assert_eq!(Reply::to(guarded.body(r#"{"amount":"3","currency":"GBP"}"#)).await.status, 200);
}

#[tokio::test]
async fn no_price_and_no_product_are_told_apart() {
    let shop = Shop::start().await;
    shop.run("INSERT INTO products (id, sku) VALUES (1, 'bare')").await;
    shop.run("INSERT INTO products (id, sku, price, currency, deleted_at) VALUES (2, 'gone', 1, 'GBP', NOW(6))").await;
    let api = shop.api().await;
    let none = api.get(PRICE).await;
    none.problem(404, "no-price");
    assert_eq!((none.header("cache-control"), none.header("cache-status")), ("no-cache", "inventory; fwd=uri-miss"));
    for path in ["/v1/products/2/price", "/v1/products/3/price", "/v1/products/3/price-history"] {
        api.get(path).await.problem(404, "unknown-product");
    }
    assert_eq!(api.get(HISTORY).await.json(), json!({"data": [], "next_cursor": null}));
    let deleted = api.get("/v1/products/2/price-history").await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({"data": [], "next_cursor": null})));
}

#[tokio::test]
async fn a_reduction_is_compared_with_the_lowest_price_of_the_thirty_days_before() {
    for (why, history, wanted) in [
        ("a raise", &[("8", "GBP", 50), ("10", "GBP", 5)][..], ""),
        ("the price before", &[("10", "GBP", 50), ("8", "GBP", 5)], "10.00"),
        ("the lowest", &[("10", "GBP", 90), ("7", "GBP", 20), ("9", "GBP", 12), ("8", "GBP", 5)], "7.00"),
        ("in force when those days began", &[("6", "GBP", 90), ("10", "GBP", 20), ("8", "GBP", 5)], "6.00"),
        ("too long ago", &[("6", "GBP", 90), ("10", "GBP", 50), ("8", "GBP", 5)], "10.00"),
        ("reductions in a row", &[("10", "GBP", 200), ("9", "GBP", 100), ("8", "GBP", 50), ("7", "GBP", 5)], "10.00"),
        ("another currency", &[("10", "GBP", 50), ("8", "EUR", 5)], ""),
        ("no price between", &[("10", "GBP", 50), ("NULL", "GBP", 20), ("8", "GBP", 5)], ""),
        ("and back", &[("6", "GBP", 90), ("5", "EUR", 20), ("10", "GBP", 10), ("8", "GBP", 5)], "6.00"),
    ] {
        let shop = Shop::start().await;
        make(&shop, history).await;
        assert_eq!(prior(&shop.api().await).await, wanted, "{why}");
    }
}

/// A product that was made with plain SQL has no row in the history, but what it did cost is known to who replaced it.
#[tokio::test]
async fn prices_that_were_set_with_plain_sql_are_compared_with() {
    let shop = Shop::start().await;
    shop.run("INSERT INTO products (id, sku, price, currency) VALUES (1, 'P1', 10.00, 'GBP')").await;
    let api = shop.api().await;
    assert_eq!(prior(&api).await, "");
    for (amount, wanted) in [("8.00", "10.00"), ("7.00", "10.00"), ("9.00", ""), ("8.50", "7.00")] {
        put(&api, amount, "GBP", None).await;
        assert_eq!(prior(&api).await, wanted, "at {amount}");
    }
    shop.run("UPDATE products SET price = 6.00, version = version + 1").await;
    shop.drop_entry(1).await;
    assert_eq!(prior(&api).await, "7.00", "the reduction goes on");
    shop.run("UPDATE products SET price = 20.00, version = version + 1").await;
    shop.drop_entry(1).await;
    assert_eq!(prior(&api).await, "");
    put(&api, "15.00", "GBP", None).await;
    assert_eq!(prior(&api).await, "7.00", "20.00 was replaced, and before it");
    let newest = api.get(&format!("{HISTORY}?limit=1")).await.json()["data"][0].clone();
    assert_eq!((&newest["kind"], &newest["replaced"]), (&json!("reduced"), &json!({"amount": "20.00", "currency": "GBP"})));
}

#[tokio::test]
async fn a_history_of_thousands_of_changes_is_read_to_its_end() {
    let shop = Shop::start().await;
    shop.run("INSERT INTO products (id, sku, price, currency, version) VALUES (1, 'P1', 8.00, 'GBP', 3000)").await;
    let row = |n: u32| {
        let price = if n == 100 {
            5
        } else if n == 3_000 {
            8
        } else {
            10 + n % 2
        };
        format!("(1, {n}, {price}, 'GBP', UTC_TIMESTAMP(6) - INTERVAL {} MINUTE)", 3_001 - n)
    };
    let rows: Vec<_> = (1..=3_000).map(row).collect();
    shop.run(&format!("INSERT INTO price_history (product_id, version, price, currency, changed_at) VALUES {}", rows.join(","))).await;
    let api = shop.api().await;
    assert_eq!(prior(&api).await, "5.00");
    // A record of an earlier version is compared with what came before that version.
    shop.set_entry(
        1,
        r#"D100|1{"id":1,"sku":"P1","price":{"amount":"5.00","currency":"GBP"},"version":100,"updated_at":"2011-01-04T10:00:00.000000Z"}"#,
    )
    .await;
    assert_eq!(prior(&api).await, "10.00");
}

#[tokio::test]
async fn without_mysql_no_reduction_is_denied() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let api = shop.api_behind(Some(&mysql), None).await;
    assert_eq!(api.get(PRICE).await.status, 200);
    mysql.refuse();
    mysql.cut();
    assert_eq!(api.get("/v1/products/1").await.status, 200, "the product is cached");
    let refused = api.get(PRICE).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    let known = Reply::to(api.request("GET", PRICE).header("if-none-match", "\"1\"")).await;
    assert_eq!(known.status, 304, "what a client has of a version stays true");
}

#[tokio::test]
async fn the_history_tells_each_price_with_what_it_replaced() {
    let shop = Shop::start().await;
    shop.run("INSERT INTO products (id, sku) VALUES (1, 'P1')").await;
    let api = shop.api().await;
    for (amount, currency, reason) in [("2", "GBP", None), ("1.5", "GBP", Some("sale")), ("1.5", "EUR", None), ("3", "EUR", None)] {
        put(&api, amount, currency, reason).await;
    }
    shop.run("UPDATE price_history SET actor = 'till' WHERE version = 3").await;
    let page = api.get(HISTORY).await;
    assert_eq!((page.status, page.header("cache-control")), (200, "no-store"));
    let data = page.json()["data"].as_array().unwrap().clone();
    let told: Vec<_> =
        data.iter().map(|entry| [&entry["version"], &entry["amount"], &entry["currency"], &entry["kind"]].map(Value::clone)).collect();
    let wanted = [
        [json!(5), json!("3.00"), json!("EUR"), json!("raised")],
        [json!(4), json!("1.50"), json!("EUR"), json!("currency_changed")],
        [json!(3), json!("1.50"), json!("GBP"), json!("reduced")],
        [json!(2), json!("2.00"), json!("GBP"), json!("first")],
    ];
    assert_eq!(told, wanted);
    let at = data[2]["changed_at"].as_str().unwrap();
    assert_eq!(
        data[2],
        json!({
            "amount": "1.50", "currency": "GBP", "kind": "reduced", "replaced": {"amount": "2.00", "currency": "GBP"},
            "reason": "sale", "changed_by": "till", "batch": null, "version": 3, "changed_at": at
        })
    );
    assert_eq!((&data[3]["replaced"], &data[3]["reason"], &data[3]["changed_by"]), (&json!(null), &json!(null), &json!(null)));
    shop.run("UPDATE products SET deleted_at = NOW(6)").await;
    assert_eq!(api.get(HISTORY).await.json()["data"].as_array().map(Vec::len), Some(4), "of a deleted product too");
}

#[tokio::test]
async fn pages_of_equal_times_miss_nothing_and_show_nothing_twice() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let row = |n: u32| format!("({}, {n}, {n}, 'GBP', '2011-01-04 10:00:00')", 1 + n % 2);
    let rows: Vec<_> = (1..=14).map(row).collect();
    shop.run(&format!("INSERT INTO price_history (product_id, version, price, currency, changed_at) VALUES {}", rows.join(","))).await;
    let (mut seen, mut path) = (Vec::new(), format!("{HISTORY}?limit=3"));
    let mut pages = 0;
    loop {
        let page = api.get(&path).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["version"].as_u64().unwrap()));
        pages += 1;
        if pages == 1 {
            put(&api, "99", "GBP", None).await;
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{HISTORY}?limit=3&cursor={cursor}");
    }
    assert_eq!((seen, pages), (vec![14, 12, 10, 8, 6, 4, 2], 3));
    assert_eq!(api.get(&format!("{HISTORY}?limit=7")).await.json()["data"][6]["replaced"]["amount"], "2.00", "what is on the next page");
    for query in ["limit=0", "limit=501", "cursor=i1", "cursor=h", "cursor=h01", "page=2"] {
        api.get(&format!("{HISTORY}?{query}")).await.problem(400, "invalid-query");
    }
    assert_eq!(api.get(&format!("{HISTORY}?cursor=h1")).await.json(), json!({"data": [], "next_cursor": null}));
}
