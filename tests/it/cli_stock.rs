//! `stock`, `reservation` and the stock of an import, as an operator meets them.

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

async fn import(shop: &Shop, text: &str, more: &[&str]) -> Outcome {
    let file = shop.dir().join("in.csv");
    std::fs::write(&file, text).unwrap();
    shop.ctl(None, &[&["product", "import", file.to_str().unwrap(), "-o", "json"], more].concat()).await
}

/// Counts set, there already, added, added before, and lines that were rejected.
fn stock_told(report: &Value) -> [u64; 5] {
    ["stock_set", "stock_unchanged", "stock_added", "stock_added_before", "rejected"].map(|field| report[field].as_u64().unwrap())
}

#[tokio::test]
async fn an_import_sets_counts_and_adds_once_however_often_it_is_run() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let counts = "sku,name,stock_set\nP1,Product 1,120\nP2,Product 2,\nNEW,Box,7\n";
    let trial = import(&shop, counts, &["--dry-run"]).await.json(0);
    assert_eq!((stock_told(&trial), stock(&shop).await.len()), ([2, 0, 0, 0, 0], 0));
    assert_eq!(stock_told(&import(&shop, counts, &[]).await.json(0)), [2, 0, 0, 0, 0]);
    assert_eq!(stock(&shop).await, [(1, 120, 0, 1), (3, 7, 0, 1)]);
    assert_eq!(stock_told(&import(&shop, counts, &[]).await.json(0)), [0, 2, 0, 0, 0]);
    assert_eq!(stock(&shop).await, [(1, 120, 0, 1), (3, 7, 0, 1)], "what is there already changes nothing");

    let adds = "sku,name,stock_add\nP1,Product 1,-20\nP2,Product 2,5\nNEW,Box,\n";
    assert_eq!(stock_told(&import(&shop, adds, &["--dry-run"]).await.json(0)), [0, 0, 2, 0, 0]);
    let first = import(&shop, adds, &[]).await;
    assert_eq!(stock_told(&first.json(0)), [0, 0, 2, 0, 0]);
    assert!(first.stderr.contains("2 lines added now, 0 added before") && first.stderr.contains("24 hours"), "{first:?}");
    let again = import(&shop, adds, &[]).await;
    assert_eq!(stock_told(&again.json(0)), [0, 0, 0, 2, 0]);
    assert!(again.stderr.contains("0 lines added now, 2 added before"), "{again:?}");
    assert_eq!(stock_told(&import(&shop, adds, &["--dry-run"]).await.json(0)), [0, 0, 0, 2, 0]);
    assert_eq!(stock(&shop).await, [(1, 100, 0, 2), (2, 5, 0, 1), (3, 7, 0, 1)]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, adds.as_bytes()).unwrap();
    let packed_file = shop.dir().join("in.gz");
    std::fs::write(&packed_file, packed.finish().unwrap()).unwrap();
    let packed = shop.ctl(None, &["product", "import", packed_file.to_str().unwrap(), "-o", "json"]).await.json(0);
    assert_eq!(stock_told(&packed), [0, 0, 0, 2, 0], "packed it is the same file");
    assert_eq!(stock_told(&import(&shop, &format!("{adds}P9,Other,1\n"), &[]).await.json(0)), [0, 0, 3, 0, 0], "changed it is another");

    let both = "sku,name,stock_set,stock_add\nP1,Product 1,50,\nP2,Product 2,,5\n";
    assert_eq!(stock_told(&import(&shop, both, &[]).await.json(0)), [1, 0, 1, 0, 0]);
    let lines = "{\"sku\":\"P1\",\"name\":\"Product 1\",\"stock_add\":-1}\n{\"sku\":\"P2\",\"name\":\"Product 2\",\"stock_set\":3}\n";
    assert_eq!(stock_told(&import(&shop, lines, &[]).await.json(0)), [1, 0, 1, 0, 0]);
    assert_eq!(stock(&shop).await[..2].iter().map(|row| row.1).collect::<Vec<_>>(), [49, 3]);
    let told: Vec<(String, String)> = shop.rows("SELECT DISTINCT reason, actor FROM stock_movements").await;
    assert!(told.len() == 1 && told[0].0 == "import" && told[0].1.starts_with("inventoryctl"), "{told:?}");
    adds_up(&shop).await;
}

#[tokio::test]
async fn a_line_that_would_leave_less_than_is_reserved_is_rejected_alone() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    assert_eq!(import(&shop, "sku,name,stock_set\nP1,A,10\nP2,B,10\nP3,C,10\n", &[]).await.code, Some(0));
    assert_eq!(ctl(&shop, &api, "reservation create P1=4 P2=4").await.code, Some(0));
    let before = stock(&shop).await;
    let text = "sku,name,stock_set,stock_add\nP1,A,3,\nP2,B,,-7\nP3,C,,-7\n";
    let bad = shop.dir().join("bad.csv");
    let flags = ["--errors-to", bad.to_str().unwrap()];
    for (more, after) in [(&["--dry-run"][..], 10), (&flags, 3)] {
        let outcome = import(&shop, text, more).await;
        assert_eq!(stock_told(&outcome.json(3)), [0, 0, 1, 0, 2], "{outcome:?}");
        for told in [
            "in.csv: line 2: ",
            "in.csv: line 3: ",
            "stock_set 3 is less than the 4 that are reserved",
            "stock_add -7 takes more than the 6 that are available",
            "a file of their own",
        ] {
            assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
        }
        assert_eq!((stock(&shop).await[..2] == before[..2], stock(&shop).await[2].1), (true, after));
    }
    let rejected = std::fs::read_to_string(&bad).unwrap();
    assert!(rejected.contains("\"P1,A,3,\"") && rejected.contains("\"P2,B,,-7\""), "{rejected}");
    adds_up(&shop).await;
}

#[tokio::test]
async fn bad_numbers_of_stock_are_told_with_line_and_cure_and_write_nothing() {
    let shop = Shop::start().await;
    let lines = [
        ("1,A,1.5,", "stock_set \"1.5\" must be a whole number from 0 to 1000000000"),
        ("2,A,-1,", "stock_set \"-1\" must be a whole number from 0"),
        ("3,A,+5,", "stock_set \"+5\" must be a whole number"),
        ("4,A,99999999999999999999,", "stock_set \"99999999999999999999\" must be"),
        ("5,A,many,", "stock_set \"many\" must be"),
        ("6,A,,0", "stock_add \"0\" adds nothing: leave it empty"),
        ("7,A,,2.0", "stock_add \"2.0\" must be a whole number from -1000000000 to 1000000000, such as 12 or -3"),
        ("8,A,,-1000000001", "stock_add \"-1000000001\" must be"),
        ("9,A,,few", "stock_add \"few\" must be"),
        ("10,A,5,5", "stock_set and stock_add both have a number: leave one of them empty"),
    ];
    let text: String =
        ["sku,name,stock_set,stock_add"].into_iter().chain(lines.map(|line| line.0)).map(|line| format!("{line}\n")).collect();
    let outcome = import(&shop, &text, &[]).await;
    assert_eq!((stock_told(&outcome.json(3)), &outcome.json(3)["products"]), ([0, 0, 0, 0, 10], &json!(0)));
    for (at, (_, told)) in lines.iter().enumerate() {
        let line = format!("line {}: {told}", at + 2);
        assert!(outcome.stderr.contains(&line), "{line} in {outcome:?}");
    }
    let json = "{\"sku\":\"1\",\"name\":\"A\",\"stock_add\":\"5\"}\n{\"sku\":\"2\",\"name\":\"A\",\"stock_set\":1.0}\n{\"sku\":\"3\",\"name\":\"A\",\"quantity\":1}\n";
    let outcome = import(&shop, json, &[]).await;
    for told in [
        "line 1: stock_add is \"5\": write a whole number without quotes",
        "line 2: stock_set \"1.0\" must be",
        "line 3: the field quantity",
    ] {
        assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
    }
    let quantity = import(&shop, "sku,name,quantity\n1,A,5\n", &[]).await;
    assert!(
        quantity.stderr.contains("line 1: the column quantity may mean a count or a delivery: name it stock_set or stock_add"),
        "{quantity:?}"
    );
    assert_eq!(shop.number("SELECT (SELECT COUNT(*) FROM products) + (SELECT COUNT(*) FROM stock_movements)").await, 0);
}

/// It is interrupted while the stock of a line waits behind a lock of somebody else.
#[tokio::test]
async fn an_import_that_is_interrupted_adds_the_rest_when_it_is_run_again() {
    let shop = Shop::start().await;
    let count = 400;
    let lines: String = (1..=count).map(|n| format!("S{n:03},Name,{n}\n")).collect();
    let file = shop.dir().join("in.csv");
    std::fs::write(&file, format!("sku,name,stock_add\n{lines}")).unwrap();
    let import = ["product", "import", file.to_str().unwrap(), "-o", "json"];
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    proxy.hold_request_with("S200");
    let child = shop.ctl_started(&[&import[..], &["--mysql-url", &url]].concat());
    proxy.caught().await;
    let script = format!("kill -INT {}", child.id().unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    proxy.release();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.contains("interrupted; run it again")), (Some(1), true), "{said}");
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    let added = first["stock_added"].as_u64().unwrap();
    assert!((150..count).contains(&added), "{first}");
    let rest = shop.ctl(None, &import).await.json(0);
    assert_eq!((rest["stock_added"].as_u64(), rest["stock_added_before"].as_u64()), (Some(count - added), Some(added)), "{rest}");
    assert_eq!(shop.number("SELECT CAST(SUM(on_hand) AS UNSIGNED) FROM stock").await, count * (count + 1) / 2);
    adds_up(&shop).await;
}

#[tokio::test]
async fn an_import_whose_commit_is_not_answered_changes_the_stock_once() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let file = shop.dir().join("in.csv");
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = shop.mysql_url_at("inventory_api", proxy.port());
    for (text, then) in [("sku,name,stock_add\nP1,Product 1,5\n", (1, 5, 0, 1)), ("sku,name,stock_set\nP1,Product 1,9\n", (1, 9, 0, 2))] {
        std::fs::write(&file, text).unwrap();
        // The product stays as it is, so that the first COMMIT is that of its stock.
        proxy.hold_reply_to_commit();
        let child = shop.ctl_started(&["product", "import", file.to_str().unwrap(), "-o", "json", "--mysql-url", &url]);
        proxy.caught().await;
        proxy.cut();
        let output = child.wait_with_output().await.unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(stock_told(&report).iter().sum::<u64>(), 1, "{report}");
        assert_eq!((stock(&shop).await, report["stock_unchanged"].as_u64()), (vec![then], Some(0)), "{report}");
    }
    adds_up(&shop).await;
}
