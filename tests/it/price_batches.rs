//! `POST /v1/prices/batch`: many prices in one transaction, judged row by row.

use harness::{Program, Proxy, Reply, Shop, pointers};
use serde_json::{Value, json};

const PATH: &str = "/v1/prices/batch";

async fn send(api: &Program, query: &str, body: &Value) -> Reply {
    api.send("POST", &format!("{PATH}{query}"), body.to_string()).await
}

async fn send_csv(api: &Program, query: &str, text: &str) -> Reply {
    Reply::to(api.request("POST", &format!("{PATH}{query}")).header("content-type", "text/csv").body(text.to_owned())).await
}

fn row(sku: &str, amount: &str) -> Value {
    json!({"sku": sku, "amount": amount, "currency": "GBP"})
}

fn pounds(amount: &str) -> Value {
    json!({"amount": amount, "currency": "GBP"})
}

/// What nothing may have touched: products and their history.
async fn state(shop: &Shop) -> Vec<(String, u64)> {
    shop.rows("CHECKSUM TABLE products, price_history").await
}

/// Version, price, reason, batch, and the price before, of each row of the history.
type Line = (u64, Option<String>, Option<String>, Option<String>, Option<String>);

async fn history(shop: &Shop, id: u64) -> Vec<Line> {
    let money = |price: &str, currency: &str| format!("CONCAT(TRIM(TRAILING '0' FROM {price}), ' ', {currency})");
    let (now, before) = (money("price", "currency"), money("before_price", "before_currency"));
    shop.rows(&format!("SELECT version, {now}, reason, batch, {before} FROM price_history WHERE product_id = {id} ORDER BY id")).await
}

#[tokio::test]
async fn a_batch_sets_every_price_and_says_what_it_did() {
    let shop = Shop::start().await;
    shop.products(4).await;
    shop.run("UPDATE products SET price = NULL, currency = NULL WHERE id = 3").await;
    let api = shop.api().await;
    for id in 1..=4 {
        assert_eq!(api.see(id).await.status, 200);
    }
    let body = json!({"items": [
        {"product_id": 2, "amount": "0.5", "currency": "GBP", "if_version": 1, "reason": "last pieces"},
        row("P1", "1.10"),
        row("P3", "3"),
        {"product_id": 4, "amount": "1.00", "currency": "GBP"},
    ], "reason": "january sale"});
    let set = send(&api, "", &body).await;
    assert_eq!((set.status, set.header("content-type")), (200, "application/json"), "{set:?}");
    let set = set.json();
    let batch = set["batch"].as_str().unwrap().to_owned();
    assert_eq!(batch.len(), 36, "{batch}");
    let item = |id: u64, from: Value, to: &str, version: u64, status: &str| json!({"product_id": id, "sku": format!("P{id}"), "from": from, "to": pounds(to), "version": version, "status": status});
    let moved = |id: u64, from: Value, to: &str, kind: &str, percent: Value| json!({"product_id": id, "sku": format!("P{id}"), "from": from, "to": pounds(to), "kind": kind, "percent": percent});
    assert_eq!(
        set,
        json!({
            "batch": batch, "dry_run": false, "counts": {"changed": 3, "unchanged": 1, "failed": 0},
            "items": [
                item(2, pounds("1.00"), "0.50", 2, "changed"),
                item(1, pounds("1.00"), "1.10", 2, "changed"),
                item(3, json!(null), "3.00", 2, "changed"),
                item(4, pounds("1.00"), "1.00", 1, "unchanged"),
            ],
            "biggest_moves": [
                moved(2, pounds("1.00"), "0.50", "percent", json!("-50.00")),
                moved(1, pounds("1.00"), "1.10", "percent", json!("+10.00")),
                moved(3, json!(null), "3.00", "first_price", json!(null)),
            ],
        })
    );
    for (id, version, amount) in [(1, 2, "1.10"), (2, 2, "0.50"), (3, 2, "3.00"), (4, 1, "1.00")] {
        let seen = api.see(id).await;
        assert!(seen.is(version, amount), "product {id}: {seen:?}");
    }
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(history(&shop, 2).await, [(2, some("0.5 GBP"), some("last pieces"), some(&batch), some("1. GBP"))]);
    assert_eq!(history(&shop, 3).await, [(2, some("3. GBP"), some("january sale"), some(&batch), None)]);
    assert_eq!(history(&shop, 4).await, []);
    let again = send(&api, "", &body).await.json();
    assert_eq!((&again["batch"], &again["counts"]), (&json!(null), &json!({"changed": 0, "unchanged": 4, "failed": 0})), "{again}");
}

#[tokio::test]
async fn the_history_of_a_price_names_its_batch() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let set = send(&api, "", &json!({"items": [row("P1", "2.00")]})).await.json();
    assert_eq!(api.put_price(1, "3.00").await.status, 200);
    let told = api.get("/v1/products/1/price-history").await.json();
    assert_eq!((&told["data"][0]["batch"], &told["data"][1]["batch"]), (&json!(null), &set["batch"]), "{told}");
    let listed = shop.ctl(Some(&api), &["price", "history", "P1", "-o", "json"]).await.json(0);
    assert_eq!((&listed[0]["batch"], &listed[1]["batch"]), (&json!(null), &set["batch"]), "{listed}");
    let table = shop.ctl(Some(&api), &["price", "history", "P1"]).await;
    assert!(table.stdout.contains(set["batch"].as_str().unwrap()), "{table:?}");
}

#[tokio::test]
async fn single_prices_keep_what_was_before_them_too() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let made = api.send("POST", "/v1/products", r#"{"sku":"P1","name":"n","price":{"amount":"1","currency":"GBP"}}"#).await.json();
    let id = made["id"].as_u64().unwrap();
    assert_eq!(api.put_price(id, "2.00").await.status, 200);
    std::fs::write(shop.dir().join("in.csv"), "sku,name,price,currency\nP1,n,3,GBP\n").unwrap();
    let imported = shop.ctl(None, &["product", "import", shop.dir().join("in.csv").to_str().unwrap(), "-o", "json"]).await.json(0);
    assert_eq!(imported["updated"], 1, "{imported}");
    let before: Vec<_> = history(&shop, id).await.into_iter().map(|line| (line.1.unwrap(), line.4)).collect();
    let line = |now: &str, before: Option<&str>| (now.to_owned(), before.map(str::to_owned));
    assert_eq!(before, [line("1. GBP", None), line("2. GBP", Some("1. GBP")), line("3. GBP", Some("2. GBP"))]);
}

#[tokio::test]
async fn every_fault_of_every_row_is_told_at_once_and_nothing_is_applied() {
    let shop = Shop::start().await;
    shop.products(6).await;
    shop.run("UPDATE products SET deleted_at = NOW(6) WHERE id = 5").await;
    let api = shop.api().await;
    let before = state(&shop).await;
    let body = json!({"items": [
        row("P1", "2.00"),
        row("p1", "2.00"),
        {"sku": "P2", "amount": 2.5, "currency": "pounds"},
        {"product_id": 3, "amount": "2.00", "currency": "GBP", "if_version": 7},
        {"product_id": 4, "amount": "2.00", "currency": "GBP"},
        row("P4", "2.50"),
        row("P5", "2.00"),
        {"product_id": 99, "amount": "2.001", "currency": "GBP", "x": 1},
        {"product_id": 99, "amount": "2.00", "currency": "GBP"},
    ]});
    for query in ["", "?on_error=reject_all", "?dry_run=true"] {
        let refused = send(&api, query, &body).await;
        let problem = refused.problem(422, "validation-failed");
        assert_eq!(
            pointers(&problem),
            [
                "/items/1/sku",
                "/items/2/amount",
                "/items/2/currency",
                "/items/3/if_version",
                "/items/4/product_id",
                "/items/5/sku",
                "/items/6/sku",
                "/items/7/amount",
                "/items/7/x",
                "/items/8/product_id"
            ],
            "{query}"
        );
        let details: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|fault| fault["detail"].as_str().unwrap()).collect();
        assert_eq!(details[0], "no product has the SKU p1; upper and lower case differ");
        assert_eq!(details[3], "is another: the product has version 1");
        assert_eq!((details[4], details[5]), ("is the product of /items/5 too", "is the product of /items/4 too"));
        assert_eq!(details[9], "there is no product 99");
    }
    assert_eq!(state(&shop).await, before);
    assert!(api.see(1).await.is(1, "1.00"));
}

#[tokio::test]
async fn rows_that_fail_are_left_out_where_that_was_asked_for() {
    let shop = Shop::start().await;
    shop.products(5).await;
    let api = shop.api().await;
    let text = "sku,amount,currency,if_version\nP1,2.00,GBP,1\nP2,2.001,GBP,\nP3,2,GBP,9\nP4,1,GBP,9\nP9,2,GBP,\nP5,2,GBP,\nP5,3,GBP,\n";
    let dry = send_csv(&api, "?on_error=skip_failed&dry_run=true", text).await;
    let before = state(&shop).await;
    let some = send_csv(&api, "?on_error=skip_failed", text).await;
    assert_eq!((dry.status, some.status), (207, 207), "{some:?}");
    let (dry, some) = (dry.json(), some.json());
    assert_eq!(some["counts"], json!({"changed": 1, "unchanged": 1, "failed": 5}));
    let status: Vec<_> = some["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["changed", "failed", "failed", "unchanged", "failed", "failed", "failed"]);
    let error = |place: usize| {
        let fault = &some["items"][place]["problem"]["errors"][0];
        format!("{} {}", fault["pointer"].as_str().unwrap(), fault["detail"].as_str().unwrap())
    };
    assert_eq!(error(1), "/items/1/amount line 3: is \"2.001\": it has 3 digits after the point, GBP has 2");
    assert_eq!(error(2), "/items/2/if_version line 4: is another: the product has version 1");
    assert_eq!(error(4), "/items/4/sku line 6: no product has the SKU P9; upper and lower case differ");
    assert_eq!(some["items"][4]["problem"]["type"], "/problems/unknown-product");
    assert_eq!(error(5), "/items/5/sku line 7: is the product of line 8 too");
    assert_eq!((&dry["items"], &dry["biggest_moves"], &dry["counts"]), (&some["items"], &some["biggest_moves"], &some["counts"]));
    assert_ne!(state(&shop).await, before);
    for (id, version, amount) in [(1, 2, "2.00"), (2, 1, "1.00"), (3, 1, "1.00"), (4, 1, "1.00"), (5, 1, "1.00")] {
        assert!(api.see(id).await.is(version, amount), "product {id}");
    }
    let none = send_csv(&api, "?on_error=skip_failed", "sku,amount,currency\nP9,2,GBP\nP3,x,GBP\n").await;
    assert_eq!(pointers(&none.problem(422, "validation-failed")), ["/items/0/sku", "/items/1/amount"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_the_real_one_then_does() {
    let shop = Shop::start().await;
    shop.products(14).await;
    shop.run("UPDATE products SET price = 0 WHERE id = 1").await;
    shop.run("UPDATE products SET currency = 'EUR' WHERE id = 2").await;
    shop.run("UPDATE products SET price = NULL, currency = NULL WHERE id = 3").await;
    let api = shop.api().await;
    for id in 1..=14 {
        assert_eq!(api.see(id).await.status, 200);
    }
    let before = state(&shop).await;
    let rows: Vec<_> = (1..=14).map(|id| row(&format!("P{id}"), &format!("1.{id:02}"))).collect();
    let body = json!({"items": rows});
    let dry = send(&api, "?dry_run=true", &body).await.json();
    assert_eq!(state(&shop).await, before);
    for id in 1..=14 {
        assert_eq!(api.see(id).await.cache, "hit", "a dry run leaves the cache alone");
    }
    let real = send(&api, "?dry_run=false", &body).await.json();
    assert_eq!((&dry["batch"], &dry["dry_run"], &real["dry_run"]), (&json!(null), &json!(true), &json!(false)));
    for part in ["counts", "items", "biggest_moves"] {
        assert_eq!(dry[part], real[part], "{part}");
    }
    let moves: Vec<_> = real["biggest_moves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["sku"].as_str().unwrap(), it["kind"].as_str().unwrap(), it["percent"].as_str()))
        .collect();
    assert_eq!(moves.len(), 10);
    assert_eq!(moves[..3], [("P2", "currency", None), ("P1", "from_zero", None), ("P14", "percent", Some("+14.00"))]);
}

#[tokio::test]
async fn what_is_no_batch_is_refused() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for (query, said) in [("?on_error=skip", "on_error"), ("?dry_run=1", "dry_run"), ("?x=1", "\"x\"")] {
        let problem = send(&api, query, &json!({"items": [row("P1", "2")]})).await.problem(400, "invalid-query");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
    let many = vec![row("P1", "2"); 1_001];
    for (body, at) in [(json!({}), "/items"), (json!({"items": []}), "/items"), (json!({"items": many}), "/items"), (json!([]), "")] {
        assert_eq!(pointers(&send(&api, "", &body).await.problem(422, "validation-failed")), [at]);
    }
    send_csv(&api, "", "sku;amount;currency\nP1;2;GBP\n").await.problem(422, "validation-failed");
    let text = Reply::to(api.request("POST", PATH).header("content-type", "text/plain").body("x")).await;
    text.problem(415, "unsupported-media-type");
    let long = "sku,amount,currency\n".to_owned() + &" ".repeat(8 << 20);
    send_csv(&api, "", &long).await.problem(413, "body-too-large");
    let conditional = api.request("POST", PATH).header("if-match", "\"1\"").header("content-type", "application/json");
    Reply::to(conditional.body("{}")).await.problem(400, "not-supported");
}

#[tokio::test]
async fn without_redis_nothing_of_a_batch_is_applied() {
    let mut shop = Shop::start().await;
    shop.products(600).await;
    let redis = Proxy::to(shop.redis.port()).await;
    let api = shop.api_behind(None, Some(&redis)).await;
    let rows: Vec<_> = (1..=600).map(|id| row(&format!("P{id}"), "2.00")).collect();
    let body = json!({"items": rows});
    let before = state(&shop).await;
    // The entries of the first 500 are deleted, then the connection is cut.
    redis.hold_request_with("p:599");
    let request = api.request("POST", PATH).header("content-type", "application/json").body(body.to_string());
    let sent = tokio::spawn(Reply::to(request));
    redis.caught().await;
    redis.refuse();
    redis.cut();
    let refused = sent.await.unwrap();
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(state(&shop).await, before);
    redis.accept();
    shop.redis.kill();
    send(&api, "", &body).await.problem(503, "unavailable");
    assert_eq!(state(&shop).await, before);
    assert_eq!(send(&api, "?dry_run=true", &body).await.json()["counts"]["changed"], 600, "looking needs no Redis");
}
