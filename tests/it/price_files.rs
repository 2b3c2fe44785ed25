//! `price import` and `price undo`: the prices of a file, set in batches through the stores and taken back.

use harness::{Outcome, Program, Proxy, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};
use std::fmt::Write;

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

async fn import(shop: &Shop, text: &str, more: &[&str]) -> Outcome {
    let file = shop.dir().join("prices.csv");
    std::fs::write(&file, text).unwrap();
    shop.ctl(None, &[&["price", "import", file.to_str().unwrap(), "-o", "json"], more].concat()).await
}

async fn undo(shop: &Shop, batch: &Value) -> Outcome {
    shop.ctl(None, &["price", "undo", batch.as_str().unwrap(), "-o", "json"]).await
}

/// Products `P1` to `P<count>` at that amount, but one row that is another text.
fn file(count: u64, amount: &str, other: (u64, &str)) -> String {
    let mut text = "sku,amount,currency\n".to_owned();
    for id in 1..=count {
        let _ = if id == other.0 { writeln!(text, "{}", other.1) } else { writeln!(text, "P{id},{amount},GBP") };
    }
    text
}

async fn at(shop: &Shop, amount: &str) -> u64 {
    shop.number(&format!("SELECT COUNT(*) FROM products WHERE price = {amount}")).await
}

/// What an import counted: changed, unchanged, failed, not written, rejected.
fn counts(report: &Value) -> [u64; 5] {
    ["changed", "unchanged", "failed", "not_written", "rejected"].map(|name| report[name].as_u64().unwrap())
}

fn statuses(undone: &Value) -> Vec<(u64, &str)> {
    let rows = undone.as_array().unwrap().iter();
    rows.map(|row| (row["product_id"].as_u64().unwrap(), row["status"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_file_of_any_length_is_set_and_readers_see_it_at_once() {
    let shop = Shop::start().await;
    shop.products(2_500).await;
    let api = shop.api().await;
    for id in [1, 2_500] {
        assert_eq!(api.see(id).await.status, 200);
    }
    let text = file(2_500, "2.00", (7, "P7,0.10,GBP"));
    let dry = import(&shop, &text, &["--dry-run"]).await.json(0);
    assert_eq!((at(&shop, "1").await, &dry["batch"], counts(&dry)), (2_500, &json!(null), [2_500, 0, 0, 0, 0]));
    let report = import(&shop, &text, &["--reason", "spring"]).await.json(0);
    assert_eq!((counts(&report), &report["rows"], &report["lines"]), ([2_500, 0, 0, 0, 0], &json!(2_500), &json!(2_500)));
    assert_eq!(report["biggest_moves"], dry["biggest_moves"]);
    assert_eq!(
        report["biggest_moves"][9],
        json!({"sku": "P11", "from": {"amount": "1.00", "currency": "GBP"}, "to": {"amount": "2.00", "currency": "GBP"}, "kind": "percent", "percent": "+100.00"})
    );
    for id in [1, 2_500] {
        assert!(api.see(id).await.is(2, "2.00"));
    }
    let batches = "SELECT batch, reason, COUNT(*) FROM price_history GROUP BY batch, reason";
    assert_eq!(shop.rows::<(String, String, u64)>(batches).await, [(report["batch"].as_str().unwrap().into(), "spring".into(), 2_500)]);
    let actors = "SELECT COUNT(*) FROM price_history WHERE actor LIKE 'inventoryctl%'";
    assert_eq!(shop.number(actors).await, 2_500);
    let again = import(&shop, &text, &[]).await.json(0);
    assert_eq!((counts(&again), &again["batch"]), ([0, 2_500, 0, 0, 0], &json!(null)));

    let undone = undo(&shop, &report["batch"]).await;
    assert!(undone.stderr.contains("restored 2500, 0 changed since, 0 gone"), "{undone:?}");
    assert_eq!(statuses(&undone.json(0)).len(), 2_500);
    assert_eq!((at(&shop, "1").await, shop.number(actors).await), (2_500, 5_000));
    assert!(api.see(2_500).await.is(3, "1.00"));
}

#[tokio::test]
async fn an_undo_reads_what_its_batch_wrote_and_not_the_rest_of_the_history() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(2_000).await;
    // As after much was written at once: MySQL's idea of the table is of long ago.
    shop.run("ALTER TABLE price_history STATS_AUTO_RECALC = 0").await;
    let rest = "INSERT INTO price_history (product_id, version, price, currency, batch) \
                SELECT p.id, 1, 1.0, 'GBP', UUID() FROM products p JOIN products q WHERE q.id <= 50";
    shop.run(rest).await;
    let report = import(&shop, &file(2_000, "2.00", (1, "P1,2.00,GBP")), &[]).await.json(0);
    let before = shop.row_reads().await;
    assert_eq!(undo(&shop, &report["batch"]).await.json(0).as_array().unwrap().len(), 2_000);
    let read = shop.row_reads().await - before;
    assert!(read < 50_000, "{read} reads for 2,000 of 102,000 rows");
}

#[tokio::test]
async fn a_row_that_cannot_be_set_refuses_its_thousand_and_all_behind_and_every_fault_is_told() {
    let shop = Shop::start().await;
    shop.products(3_000).await;
    let text = file(3_000, "2.00", (1_500, "P9999,2.00,GBP")) + "P8888,2.00,GBP\n";
    let bad = shop.dir().join("bad.csv");
    for dry in [true, false] {
        let more = ["--errors-to", bad.to_str().unwrap(), "--dry-run"];
        let outcome = import(&shop, &text, &more[..if dry { 3 } else { 2 }]).await;
        let report = outcome.json(3);
        assert_eq!(counts(&report), [1_000, 0, 2, 1_999, 0], "{outcome:?}");
        assert_eq!(at(&shop, "2").await, if dry { 0 } else { 1_000 });
        let told = std::fs::read_to_string(&bad).unwrap();
        let lines: Vec<_> = told.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(lines, ["line", "1501", "3002"], "{told}");
        assert!(outcome.stderr.contains("line 1501: no product has the SKU P9999"), "{outcome:?}");
    }
    let skipping = import(&shop, &text, &["--on-error", "skip_failed"]).await.json(3);
    assert_eq!((counts(&skipping), at(&shop, "2").await), ([1_999, 1_000, 2, 0, 0], 2_999));
}

#[tokio::test]
async fn a_line_that_cannot_be_read_refuses_the_file_unless_it_may_be_skipped() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let text = "sku,amount,currency,if_version\nP1,2.00,GBP,\nP2,2.005,GBP,\nP3,2,GBP,9\nP4,2,GBP,\nP4,3,GBP,\n";
    let refused = import(&shop, text, &[]).await;
    assert_eq!((counts(&refused.json(3)), at(&shop, "1").await), ([0, 0, 1, 1, 3], 4), "{refused:?}");
    for told in [
        "line 3: amount is \"2.005\": it has 3 digits after the point, GBP has 2",
        "line 4: if_version is another: the product has version 1",
        "line 5: P4 stands on line 6 too",
        "line 6: P4 stands on line 5 too",
    ] {
        assert!(refused.stderr.contains(told), "{told} is missing in {refused:?}");
    }
    let skipped = import(&shop, text, &["--on-error", "skip_failed"]).await.json(3);
    assert_eq!((counts(&skipped), at(&shop, "2").await), ([1, 0, 1, 0, 3], 1));
    let header = import(&shop, "sku,price\nP1,2\n", &[]).await;
    assert_eq!(header.code, Some(2), "{header:?}");
    assert!(header.stderr.contains("prices.csv: line 1: the column \"price\" is not known"), "{header:?}");
}

#[tokio::test]
async fn a_price_that_would_move_too_far_stops_the_whole_file_before_anything_is_set() {
    let shop = Shop::start().await;
    shop.products(1_200).await;
    shop.run("UPDATE products SET currency = 'EUR' WHERE id = 1199").await;
    let text = file(1_198, "1.20", (1_100, "P1100,10.00,GBP")) + "P1199,1.00,GBP\n";
    for more in [&["--max-change", "30%"][..], &["--max-change", "30%", "--dry-run"], &["--max-change", "30%", "--on-error", "skip_failed"]]
    {
        let stopped = import(&shop, &text, more).await;
        let report = stopped.json(5);
        assert_eq!((counts(&report), &report["biggest_moves"]), ([0, 0, 2, 1_197, 0], &json!([])), "{stopped:?}");
        assert_eq!((&report["too_far"][0]["sku"], &report["too_far"][1]["percent"]), (&json!("P1199"), &json!("+900.00")), "{report}");
        assert!(stopped.stderr.contains("line 1101: the price would move too far: 1.00 GBP → 10.00 GBP (+900.00 %)"), "{stopped:?}");
        assert!(stopped.stderr.contains("line 1200: the price would move too far: 1.00 EUR → 1.00 GBP (another currency)"), "{stopped:?}");
        assert!(stopped.stderr.contains("nothing was set: 2 of 1199 prices would move further than --max-change"), "{stopped:?}");
        assert_eq!(shop.number("SELECT COUNT(*) FROM price_history").await, 0);
    }
    let within = import(&shop, &file(1_198, "1.20", (0, "")), &["--max-change", "30%"]).await.json(0);
    assert_eq!((counts(&within), at(&shop, "1.2").await), ([1_198, 0, 0, 0, 0], 1_198));
}

#[tokio::test]
async fn a_single_price_that_would_move_too_far_is_not_set() {
    let shop = Shop::start().await;
    shop.products(2).await;
    shop.run("UPDATE products SET price = NULL, currency = NULL WHERE id = 2").await;
    let api = shop.api().await;
    let set = async |words: &str| shop.ctl(Some(&api), &words.split(' ').collect::<Vec<_>>()).await;
    for (words, told) in [
        ("price set P1 1.31 GBP --max-change 30%", "1.00 GBP → 1.31 GBP (+31.00 %) is further than --max-change 30%"),
        ("price set P1 0.69 GBP --max-change 30%", "(-31.00 %)"),
        ("price set P1 1.00 EUR --max-change 1000%", "(another currency)"),
    ] {
        let refused = set(words).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(5), ""), "{refused:?}");
        assert!(refused.stderr.contains("P1 was not set: ") && refused.stderr.contains(told), "{refused:?}");
    }
    assert_eq!(shop.price(1).await, (1, "1.00".into()));
    for words in ["price set P1 1.30 GBP --max-change 30%", "price set P2 9 GBP --max-change 30%"] {
        assert_eq!(set(words).await.code, Some(0), "{words}");
    }
    assert_eq!(set("price set P1 2 GBP --max-change 30").await.code, Some(2));
}

#[tokio::test]
async fn a_price_that_another_sets_after_it_was_compared_is_not_replaced() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let slow = Proxy::to(api.url.rsplit(':').next().unwrap().parse().unwrap()).await;
    slow.hold_request_with("PUT /v1/products/1/price");
    let url = format!("http://127.0.0.1:{}", slow.port());
    let child = shop.ctl_started(&["price", "set", "P1", "1.20", "GBP", "--max-change", "30%", "--url", &url]);
    slow.caught().await;
    assert_eq!(api.put_price(1, "9.00").await.status, 200);
    slow.release();
    let output = child.wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), shop.price(1).await), (Some(5), (2, "9.00".into())), "{told}");
    assert!(told.contains("P1 was not set: the product was changed after its price was compared with --max-change"), "{told}");
}

async fn set(api: &Program, body: &Value) -> Value {
    let set = api.send("POST", "/v1/prices/batch", body.to_string()).await;
    assert_eq!(set.status, 200, "{set:?}");
    set.json()
}

#[tokio::test]
async fn an_undo_gives_back_what_nobody_has_changed_since() {
    let shop = Shop::start().await;
    shop.products(6).await;
    shop.run("UPDATE products SET price = NULL, currency = NULL WHERE id = 5").await;
    let api = shop.api().await;
    let rows: Vec<_> = (1..=5).map(|id| json!({"product_id": id, "amount": "2.00", "currency": "EUR"})).collect();
    let body = json!({"items": rows});
    let first = set(&api, &body).await;
    // 2: another price over the API and back; 3: another with plain SQL; 4: deleted.
    for amount in ["3.00", "2.00"] {
        let price = json!({"amount": amount, "currency": "EUR"}).to_string();
        assert_eq!(api.send("PUT", "/v1/products/2/price", price).await.status, 200);
    }
    shop.run("UPDATE products SET price = 2.50 WHERE id = 3").await;
    shop.run("UPDATE products SET deleted_at = NOW(6) WHERE id = 4").await;
    for id in [1, 5] {
        assert_eq!(api.see(id).await.status, 200);
    }
    let undone = undo(&shop, &first["batch"]).await;
    let expected = [(1, "restored"), (2, "changed_since"), (3, "changed_since"), (4, "gone"), (5, "restored")];
    assert_eq!(statuses(&undone.json(3)), expected, "{undone:?}");
    assert_eq!(undone.json(3)[0]["to"], json!({"amount": "1.00", "currency": "GBP"}));
    assert!(api.see(1).await.is(3, "1.00"));
    let five = api.get("/v1/products/5").await.json();
    assert_eq!((&five["price"], &five["version"]), (&json!(null), &json!(3)), "a first price is taken away again");
    assert_eq!(shop.price(2).await.1, "2.00");
    let last = "SELECT CONCAT_WS(' ', reason, version, COALESCE(price, 'none'), before_price, before_currency) FROM price_history \
                WHERE reason LIKE 'undo of %' ORDER BY product_id";
    let batch = first["batch"].as_str().unwrap();
    let expected = [format!("undo of {batch} 3 1.0000 2.0000 EUR"), format!("undo of {batch} 3 none 2.0000 EUR")];
    assert_eq!(shop.rows::<String>(last).await, expected);

    let again = undo(&shop, &first["batch"]).await;
    assert!(statuses(&again.json(5)).iter().all(|(id, status)| *status == if *id == 4 { "gone" } else { "changed_since" }), "{again:?}");
    let by = again.json(5)[0]["undone_by"].clone();
    assert!(again.stderr.contains("nothing was restored") && again.stderr.contains(by.as_str().unwrap()), "{again:?}");
    let redone = undo(&shop, &by).await;
    assert_eq!(statuses(&redone.json(0)), [(1, "restored"), (5, "restored")], "an undo is taken back like any batch");
    assert!(api.see(1).await.is(4, "2.00") && api.see(5).await.is(4, "2.00"));

    let unknown = undo(&shop, &json!(UNKNOWN)).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(4), ""), "{unknown:?}");
    assert!(unknown.stderr.contains(UNKNOWN), "{unknown:?}");
}

#[tokio::test]
async fn an_undo_beside_a_price_write_ends_as_if_one_came_after_the_other() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for round in 0..10_u64 {
        let amount = |cents: u64| format!("{}.{cents:02}", round + 2);
        let body = json!({"items": [{"sku": "P1", "amount": amount(0), "currency": "GBP"}]});
        let batch = set(&api, &body).await["batch"].clone();
        let before = shop.price(1).await.0;
        let late = amount(50);
        let (undone, put) = tokio::join!(undo(&shop, &batch), api.put_price(1, &late));
        assert_eq!(put.status, 200, "{put:?}");
        let (version, price) = shop.price(1).await;
        match undone.code {
            Some(0) => assert_eq!((version, price.as_str()), (before + 2, late.as_str()), "the undo came first"),
            _ => assert_eq!((undone.code, version, price.as_str()), (Some(5), before + 1, late.as_str()), "the price came first"),
        }
        assert!(api.see(1).await.is(version, &late));
    }
}

#[tokio::test]
async fn an_import_that_is_interrupted_ends_the_same_when_it_is_run_again() {
    let shop = Shop::start().await;
    shop.products(20_000).await;
    let path = shop.dir().join("many.csv");
    std::fs::write(&path, file(20_000, "2.00", (0, ""))).unwrap();
    // It stands before the eleventh batch while it is asked to end.
    let lock = shop.lock("products WHERE id = 10500").await;
    let child = shop.ctl_started(&["price", "import", path.to_str().unwrap(), "-o", "json"]);
    eventually("ten batches are set", SOON, async || (at(&shop, "2").await == 10_000).then_some(())).await;
    let pid = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    lock.release().await;
    let output = child.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let set = at(&shop, "2").await;
    assert!(output.status.code() == Some(1) && set % 1_000 == 0 && set < 20_000, "{set} {output:?}");
    assert_eq!((report["changed"].as_u64(), report["not_written"].as_u64()), (Some(set), Some(20_000 - set)), "{report}");
    let again = shop.ctl(None, &["price", "import", path.to_str().unwrap(), "-o", "json"]).await.json(0);
    assert_eq!((counts(&again), at(&shop, "2").await), ([20_000 - set, set, 0, 0, 0], 20_000));
}

#[tokio::test]
async fn an_import_whose_commit_was_not_answered_says_what_it_set_and_is_taken_back() {
    let shop = Shop::start().await;
    shop.products(4).await;
    shop.run("UPDATE products SET price = 2 WHERE id = 4").await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let path = shop.dir().join("prices.csv");
    std::fs::write(&path, file(4, "2.00", (0, ""))).unwrap();
    let url = shop.mysql_url_at("inventory_api", mysql.port());
    mysql.hold_reply_to_commit();
    let child = shop.ctl_started(&["price", "import", path.to_str().unwrap(), "-o", "json", "--mysql-url", &url]);
    mysql.caught().await;
    eventually("the COMMIT took effect", SOON, async || (at(&shop, "2").await == 4).then_some(())).await;
    mysql.cut();
    let output = child.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), counts(&report)), (Some(0), [3, 1, 0, 0, 0]), "{output:?}");
    assert_eq!(report["biggest_moves"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["biggest_moves"][0]["from"]["amount"], "1.00");
    assert_eq!(shop.number("SELECT COUNT(*) FROM price_history").await, 3, "it was set once");
    let batch = report["batch"].as_str().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("batch {batch}: `inventoryctl price undo`")), "{told}");
    assert_eq!(statuses(&undo(&shop, &report["batch"]).await.json(0)).len(), 3);
    assert_eq!(at(&shop, "1").await, 3);
}
