//! `stock` and `reservation`, as an operator meets them.

use harness::{Outcome, Program, Proxy, Shop};
use serde_json::{Value, json};

/// On hand, reserved and version of each product that has stock, by id.
async fn stock(shop: &Shop) -> Vec<(u64, i64, i64, u64)> {
    shop.rows("SELECT product_id, on_hand, reserved, version FROM stock ORDER BY product_id").await
}

/// Whether movements and reservations add up to what is in stock.
async fn adds_up(shop: &Shop) {
    let wrong = "SELECT COUNT(*) FROM stock s WHERE s.on_hand <> (SELECT COALESCE(SUM(delta), 0) FROM stock_movements m WHERE \
                 m.product_id = s.product_id) OR s.reserved <> (SELECT COALESCE(SUM(quantity), 0) FROM reservation_items i JOIN \
                 reservations r ON r.id = i.reservation_id WHERE i.product_id = s.product_id AND r.state = 'active')";
    assert_eq!(shop.number(wrong).await, 0);
}

/// A command with its result as JSON.
async fn ctl(shop: &Shop, api: &Program, words: &str) -> Outcome {
    let words: Vec<_> = words.split(' ').chain(["-o", "json"]).collect();
    shop.ctl(Some(api), &words).await
}

fn refused(outcome: &Outcome, code: i32, told: &str) {
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{outcome:?}");
    assert!(outcome.stderr.contains(told), "{told:?} in {outcome:?}");
}

#[tokio::test]
async fn stock_is_counted_and_adjusted_and_every_movement_listed() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    let run = async |words: &str| ctl(&shop, &api, words).await;
    let none = run("stock get P1").await.json(0);
    assert_eq!(none, json!({"product_id": 1, "on_hand": 0, "reserved": 0, "available": 0, "version": 0}));
    let first = run("stock set P1 120 --reason stocktake --reference sheet_4").await.json(0);
    let counts = |before: Value, on_hand: i64, version: u64| json!({"product_id": 1, "before": before, "on_hand": on_hand, "reserved": 0, "available": on_hand, "version": version});
    assert_eq!(first, counts(json!(0), 120, 1));
    assert_eq!(run("stock set id:1 120").await.json(0), counts(json!(120), 120, 1), "an equal count changes nothing");
    assert_eq!(run("stock set P1 100 --if-version 1").await.json(0), counts(json!(null), 100, 2));
    assert_eq!(run("stock set P1 99 --any-version").await.json(0), counts(json!(null), 99, 3));
    let taken = run("stock adjust P1 -3 --reason damaged").await.json(0);
    assert_eq!(taken, json!({"product_id": 1, "delta": -3, "on_hand": 96, "reserved": 0, "available": 96, "version": 4}));
    assert_eq!(run("stock adjust P1 +4").await.json(0)["on_hand"], 100);
    assert_eq!(run("stock get P1").await.json(0), api.get("/v1/products/1/stock").await.json());

    let movements = run("stock movements P1").await.json(0);
    let told = |field: &str| movements.as_array().unwrap().iter().map(|row| row[field].clone()).collect::<Vec<_>>();
    assert_eq!(told("delta"), [4, -3, -1, -20, 120].map(|delta| json!(delta)), "the latest first");
    assert_eq!(told("kind"), ["adjustment", "adjustment", "count", "count", "count"].map(|kind| json!(kind)));
    assert_eq!((&told("reason")[1], &told("reference")[4]), (&json!("damaged"), &json!("sheet_4")));
    assert_eq!(run("stock movements P1 --limit 2").await.json(0), json!(movements.as_array().unwrap()[..2]));
    assert_eq!(run("stock movements P2").await.json(0), json!([]));
    adds_up(&shop).await;

    let before = stock(&shop).await;
    for (words, code, told) in [
        ("stock set P1 1.5", 2, "whole number from 0"),
        ("stock set P1 -1", 2, "stock adjust"),
        ("stock set P1 5 --if-version 3 --any-version", 2, "--any-version"),
        ("stock adjust P1 0", 2, "0 changes nothing"),
        ("stock adjust P1 -1.5", 2, "whole number from -1000000000"),
        ("stock adjust P1 1000000001", 2, "whole number from -1000000000"),
        ("stock adjust P1 some", 2, "whole number from -1000000000"),
        ("stock adjust P9 1", 4, "no product has the SKU P9"),
        ("stock set P9 1", 4, "no product has the SKU P9"),
        ("stock set id:99 1", 4, "99"),
        ("stock get id:99", 4, "99"),
        ("stock movements id:99", 4, "99"),
        ("stock adjust P1 -101", 5, "PRODUCT_ID  SKU  REQUESTED  AVAILABLE\n1           P1   101        100"),
    ] {
        refused(&run(words).await, code, told);
    }
    assert_eq!(stock(&shop).await, before);
}

#[tokio::test]
async fn a_movement_list_follows_the_pages() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let rows: Vec<_> = (1..=250).map(|n| format!("(1, 'adjustment', 1, {n}, 0)")).collect();
    shop.run(&format!("INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved) VALUES {}", rows.join(","))).await;
    let listed = async |words: &str| {
        let rows = ctl(&shop, &api, &format!("stock movements P1{words}")).await.json(0);
        rows.as_array().unwrap().iter().map(|row| row["on_hand"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, (1..=250).rev().collect::<Vec<_>>());
    assert_eq!(listed(" --limit 101").await, (150..=250).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_count_replaces_only_what_was_seen_and_nothing_that_is_reserved() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    assert_eq!(ctl(&shop, &api, "stock set P1 10 --if-version 0").await.json(0)["version"], 1);
    let stale = ctl(&shop, &api, "stock set P1 7 --if-version 0").await;
    refused(&stale, 5, "P1 was not set: version 0 is no more, there is now: 10 on hand, 0 of them reserved, version 1");
    // Somebody sells one between the look and the count.
    let proxy = Proxy::to(api.url.rsplit(':').next().unwrap().parse().unwrap()).await;
    proxy.hold_request_with("PUT /v1/products/1/stock");
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let child = shop.ctl_started(&["stock", "set", "P1", "7", "--url", &url]);
    proxy.caught().await;
    assert_eq!(ctl(&shop, &api, "stock adjust P1 -1").await.json(0)["on_hand"], 9);
    proxy.release();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(5), 0), "{said}");
    assert!(said.contains("version 1 is no more, there is now: 9 on hand, 0 of them reserved, version 2"), "{said}");
    assert_eq!(ctl(&shop, &api, "reservation create P1=4").await.json(0)["state"], "active");
    for flags in ["", " --any-version"] {
        let below = ctl(&shop, &api, &format!("stock set P1 3{flags}")).await;
        refused(&below, 5, "P1 was not set: there is now: 9 on hand, 4 of them reserved, version 3");
    }
    assert_eq!(stock(&shop).await, [(1, 9, 4, 3)]);
    adds_up(&shop).await;
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_asked_for_again_and_done_once() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let proxy = Proxy::to(api.url.rsplit(':').next().unwrap().parse().unwrap()).await;
    let url = format!("http://127.0.0.1:{}", proxy.port());
    for (words, request, then) in [
        ("stock set P1 10", "PUT /v1/products/1/stock", (1, 10, 0, 1)),
        ("stock adjust id:1 5", "POST /v1/products/1/stock/adjustments", (1, 15, 0, 2)),
        ("reservation create id:1=2", "POST /v1/reservations", (1, 15, 2, 3)),
    ] {
        proxy.hold_reply_to(request);
        let words: Vec<_> = words.split(' ').chain(["--url", &url]).collect();
        let child = shop.ctl_started(&words);
        proxy.caught().await;
        proxy.cut();
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains("no answer from") && said.contains("asking again"), "{words:?}: {said}");
        assert_eq!(stock(&shop).await, [then], "{words:?}");
    }
    let id: Vec<String> = shop.rows("SELECT id FROM reservations").await;
    assert_eq!(id.len(), 1);
    proxy.hold_reply_to("/commit");
    let child = shop.ctl_started(&["reservation", "commit", &id[0], "--url", &url]);
    proxy.caught().await;
    proxy.cut();
    assert!(child.wait_with_output().await.unwrap().status.success());
    assert_eq!(stock(&shop).await, [(1, 13, 0, 4)]);
    adds_up(&shop).await;
}

#[tokio::test]
async fn a_key_of_ones_own_does_it_once_however_often_it_is_asked_for() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let run = async |words: &str| ctl(&shop, &api, words).await;
    let first = run("stock adjust P1 5 --key delivery-7").await;
    let again = run("stock adjust P1 5 --key delivery-7").await;
    assert_eq!((first.json(0), first.stderr.as_str()), (again.json(0), ""));
    assert!(again.stderr.contains("done before under the key delivery-7"), "{again:?}");
    refused(&run("stock adjust P1 6 --key delivery-7").await, 1, "422");
    refused(&run("stock adjust P1 6 --key é").await, 2, "visible ASCII");
    let held = run("reservation create P1=1 --key cart-9").await.json(0);
    assert_eq!(run("reservation create P1=1 --key cart-9").await.json(0), held);
    assert_eq!(stock(&shop).await, [(1, 5, 1, 2)]);
}

#[tokio::test]
async fn a_reservation_is_made_shown_and_ended() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let run = async |words: &str| ctl(&shop, &api, words).await;
    for product in [1, 2] {
        assert_eq!(run(&format!("stock set P{product} 10")).await.code, Some(0));
    }
    let made = run("reservation create P1=2 id:2=1 --ttl 1h --reference cart_9").await.json(0);
    assert_eq!(
        (&made["state"], &made["items"], &made["reference"]),
        (&json!("active"), &json!([{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]), &json!("cart_9"))
    );
    let id = made["id"].as_str().unwrap();
    assert_eq!(run(&format!("reservation get {id}")).await.json(0), made);
    assert_eq!(
        shop.number("SELECT TIMESTAMPDIFF(SECOND, created_at, expires_at) FROM reservations").await,
        3_600,
        "for as long as was asked for"
    );
    let table = shop.ctl(Some(&api), &["reservation", "get", id]).await;
    assert!(table.stdout.contains("id:1=2 id:2=1"), "{table:?}");
    let committed = run(&format!("reservation commit {id}")).await.json(0);
    assert_eq!(committed["state"], "committed");
    assert_eq!(run(&format!("reservation commit {id}")).await.json(0), committed, "again it changes nothing");
    refused(&run(&format!("reservation release {id}")).await, 5, "409");
    let other = run("reservation create P1=8").await.json(0);
    let released = run(&format!("reservation release {}", other["id"].as_str().unwrap())).await.json(0);
    assert_eq!(released["state"], "released");
    assert_eq!(stock(&shop).await.iter().map(|row| (row.1, row.2)).collect::<Vec<_>>(), [(8, 0), (9, 0)]);
    adds_up(&shop).await;

    let short = run("reservation create P1=9 id:2=1 P3=1").await;
    refused(&short, 5, "PRODUCT_ID  SKU  REQUESTED  AVAILABLE\n1           P1   9          8\n3           P3   1          0\n");
    assert!(short.stderr.contains("409"), "{short:?}");
    let unknown = "00000000-0000-7000-8000-000000000000";
    for (words, code, told) in [
        ("reservation create P1", 2, "85123A=2"),
        ("reservation create P1=0", 2, "85123A=2"),
        ("reservation create P1=1.5", 2, "85123A=2"),
        ("reservation create P1=1000001", 2, "85123A=2"),
        ("reservation create", 2, "required"),
        ("reservation create P1=1 --ttl 1500ms", 2, "whole seconds"),
        ("reservation create P1=1 P2=1 id:1=1", 2, "P1 and id:1 are the same product"),
        ("reservation create P8=1 P1=1 P9=1", 4, "no product has the SKU P8; upper and lower case differ; no product has the SKU P9"),
        ("reservation create id:99=1", 4, "there is no product 99"),
        ("reservation create P1=1 --ttl 365d", 1, "422"),
        ("reservation get 1", 2, "invalid"),
        (&format!("reservation get {unknown}"), 4, "404"),
        (&format!("reservation commit {unknown}"), 4, "404"),
    ] {
        refused(&run(words).await, code, told);
    }
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservations").await, 2);
}

#[tokio::test]
async fn what_never_reached_the_api_is_said_at_once() {
    let shop = Shop::start().await;
    let nobody = format!("http://127.0.0.1:{}", servers::free_port().unwrap());
    for words in [
        "stock get id:1",
        "stock set id:1 5",
        "stock set id:1 5 --any-version",
        "stock adjust id:1 -5",
        "stock movements id:1",
        "reservation create id:1=1",
        "reservation commit 00000000-0000-7000-8000-000000000000",
    ] {
        let away = shop.ctl(None, &[&words.split(' ').collect::<Vec<_>>()[..], &["--url", &nobody]].concat()).await;
        refused(&away, 7, &nobody);
        assert_eq!(away.stderr.lines().count(), 1, "{away:?}");
    }
}
