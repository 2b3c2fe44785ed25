//! Whether stock is what its movements and reservations say: the worker's walk over it, and `inventoryctl check`.

use harness::{Program, Reply, SOON, Shop, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::MySql;
use storage::mysql::stock_checks::{self, Among, Base, Figures, PIECE};
use telemetry::metrics::{Registry, StoreMetrics};

const EVERYTHING: Among = Among::Range { after: 0, last: u64::MAX };

async fn violations(worker: &Program, kind: &str) -> f64 {
    worker.metric(&format!("inventory_invariant_violations_total{{kind=\"{kind}\"}}")).await
}

/// So much of a product, with the movement that says so.
async fn stocked(shop: &Shop, id: u64, on_hand: i64) {
    shop.run(&format!("INSERT INTO stock (product_id, on_hand) VALUES ({id}, {on_hand})")).await;
    let values = format!("({id}, 'count', {on_hand}, {on_hand}, 0)");
    shop.run(&format!("INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved) VALUES {values}")).await;
}

/// A reservation in that state whose time is over in so many seconds; its stock is not touched.
async fn reservation(shop: &Shop, state: &str, seconds: i64, items: &[(u64, u64)]) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    let row = format!("('{id}', '{state}', UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)");
    shop.run(&format!("INSERT INTO reservations (id, state, expires_at) VALUES {row}")).await;
    for (product, quantity) in items {
        shop.run(&format!("INSERT INTO reservation_items VALUES ('{id}', {product}, {quantity})")).await;
    }
    id
}

/// The products that a look finds uneven.
async fn uneven(shop: &Shop, base: Base) -> Vec<Figures> {
    let metrics = Arc::new(StoreMetrics::new(&Registry::new("tests")));
    let mysql = MySql::new(&shop.mysql_url("inventory_worker"), 2, metrics).unwrap();
    let active = stock_checks::active(&mysql).await.unwrap();
    stock_checks::uneven(&mysql, &EVERYTHING, &active, base).await.unwrap()
}

#[tokio::test]
async fn the_worker_counts_and_tells_stock_that_is_not_what_its_movements_and_reservations_say() {
    let shop = Shop::start().await;
    for id in 1..=30 {
        stocked(&shop, id, 10).await;
    }
    let worker = shop.worker().await;
    let walked = async |rounds: f64| {
        let looks = "inventory_mysql_query_duration_seconds_count{op=\"check\"}";
        let before = worker.metric(looks).await;
        // A round of thirty products is two, with some statements each.
        eventually("the worker walks", SOON, async || (worker.metric(looks).await >= before + 10.0 * rounds).then_some(())).await;
    };
    walked(1.0).await;
    for kind in ["on_hand", "reserved", "items", "oversold"] {
        assert_eq!(violations(&worker, kind).await, 0.0, "{kind}");
    }
    shop.run("UPDATE stock SET on_hand = 12 WHERE product_id = 7").await;
    eventually("on hand is counted", SOON, async || (violations(&worker, "on_hand").await >= 1.0).then_some(())).await;
    eventually("each time that it is met", SOON, async || (violations(&worker, "on_hand").await >= 2.0).then_some(())).await;
    shop.run("UPDATE stock SET on_hand = 10 WHERE product_id = 7").await;
    for kind in ["reserved", "items", "oversold"] {
        assert_eq!(violations(&worker, kind).await, 0.0, "{kind}");
    }
    shop.run("UPDATE stock SET reserved = 3 WHERE product_id = 29").await;
    eventually("reserved is counted", SOON, async || (violations(&worker, "reserved").await >= 1.0).then_some(())).await;
    assert!(violations(&worker, "items").await >= 1.0);
    shop.run("UPDATE stock SET reserved = 0 WHERE product_id = 29").await;
    shop.run("ALTER TABLE stock DROP CONSTRAINT stock_not_oversold").await;
    shop.run("UPDATE stock SET on_hand = -1 WHERE product_id = 30").await;
    eventually("oversold is counted", SOON, async || (violations(&worker, "oversold").await >= 1.0).then_some(())).await;
    let log = worker.log();
    let told: Vec<Value> =
        log.lines().filter(|line| line.contains("stock does not")).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["product"], &told[0]["level"]), (&json!(7), &json!("WARN")));
    assert!(told[0]["message"].as_str().unwrap().contains("12 on hand, but its movements add up to 10"), "{log}");
}

#[tokio::test]
async fn a_check_names_the_product_and_both_figures_and_what_to_do() {
    let shop = Shop::start().await;
    shop.products(5).await;
    let api = shop.api().await;
    for id in 1..=4 {
        stocked(&shop, id, 10).await;
    }
    let check = async |more: &[&str]| shop.ctl(Some(&api), &[&["check", "-o", "json"], more].concat()).await;
    for form in [&[][..], &["--full"]] {
        assert_eq!(check(form).await.json(0)["stock_faults"], 0);
    }
    shop.run("UPDATE stock SET on_hand = 7 WHERE product_id = 2").await;
    reservation(&shop, "active", 900, &[(3, 4)]).await;
    reservation(&shop, "released", 900, &[(1, 5)]).await;
    // A ledger without stock, of a product that is none.
    shop.run("INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved) VALUES (77, 'count', 1, 1, 0)").await;
    let found = check(&["--full"]).await;
    assert_eq!(found.json(5)["stock_faults"], 3);
    for told in [
        "product 2: 7 on hand, but its movements add up to 10\n",
        "product 3: 0 reserved, but its active reservations add up to 4\n",
        "product 77: 0 on hand, but its movements add up to 1\n",
        "check --repair",
    ] {
        assert!(found.stderr.contains(told), "{told} in {found:?}");
    }
    assert_eq!(check(&[]).await.json(5)["stock_faults"], 2, "a sample is of products");

    let mended = check(&["--full", "--repair"]).await;
    assert_eq!((&mended.json(0)["stock_faults"], &mended.json(0)["stock_repaired"]), (&json!(3), &json!(3)));
    assert!(mended.stderr.contains("add up to 10 → mended\n"), "{mended:?}");
    assert_eq!(check(&["--full"]).await.json(0)["stock_faults"], 0);
    let levels: Vec<(u64, i64, i64, u64)> = shop.rows("SELECT product_id, on_hand, reserved, version FROM stock ORDER BY product_id").await;
    assert_eq!(levels, [(1, 10, 0, 1), (2, 7, 0, 1), (3, 10, 4, 2), (4, 10, 0, 1), (77, 0, 0, 0)]);
    type Row = (u64, i64, i64, i64, i64);
    let rows: Vec<Row> = shop
        .rows(
            "SELECT product_id, delta, reserved_delta, on_hand, reserved FROM stock_movements WHERE actor IS NOT NULL ORDER BY product_id",
        )
        .await;
    assert_eq!(rows, [(2, -3, 0, 7, 0), (3, 0, 4, 10, 4), (77, -1, 0, 0, 0)]);
}

#[tokio::test]
async fn what_is_promised_beyond_what_is_there_is_told_and_not_mended() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    stocked(&shop, 1, 3).await;
    reservation(&shop, "active", 900, &[(1, 4)]).await;
    let found = shop.ctl(Some(&api), &["check", "--repair", "-o", "json"]).await;
    assert_eq!((&found.json(5)["stock_faults"], &found.json(5)["stock_repaired"]), (&json!(1), &json!(0)));
    let told = "product 1: 0 reserved, but its active reservations add up to 4";
    assert!(found.stderr.contains(&format!("{told} → {told}\nwhere reserved is not what")), "{found:?}");
    assert_eq!(shop.number("SELECT COUNT(*) FROM stock_movements").await, 1);
}

/// Plain SQL took away what a reservation holds, and so nothing can be given back when its time is over.
#[tokio::test]
async fn a_reservation_that_stock_does_not_cover_waits_until_it_is_mended() {
    let shop = Shop::start().await;
    shop.products(2).await;
    let api = shop.api().await;
    for id in 1..=2 {
        stocked(&shop, id, 10).await;
    }
    let uncovered = reservation(&shop, "active", -60, &[(1, 4)]).await;
    let covered = reservation(&shop, "active", -30, &[(2, 1)]).await;
    shop.run("UPDATE stock SET reserved = 1 WHERE product_id = 2").await;
    shop.run("INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved) VALUES (2, 'reserve', 0, 1, 10, 1)")
        .await;
    let worker = shop.worker().await;
    let state = async |id: &str| shop.rows::<String>(&format!("SELECT state FROM reservations WHERE id = '{id}'")).await.remove(0);
    eventually("the other is released", SOON, async || (state(&covered).await == "expired").then_some(())).await;
    eventually("it is told", SOON, async || (violations(&worker, "items").await >= 1.0).then_some(())).await;
    assert_eq!(state(&uncovered).await, "active");
    assert!(worker.metric("inventory_reservations_overdue_seconds").await >= 60.0);
    shop.ctl(Some(&api), &["check", "--repair", "-o", "json"]).await.json(0);
    eventually("it is released", SOON, async || (state(&uncovered).await == "expired").then_some(())).await;
    assert_eq!(uneven(&shop, Base::FirstMovement).await, []);
    let moved: Vec<(String, i64)> = shop.rows("SELECT kind, reserved_delta FROM stock_movements WHERE product_id = 1 ORDER BY id").await;
    assert_eq!(moved, [("count".into(), 0), ("adjustment".into(), 4), ("expire".into(), -4)]);
}

#[tokio::test]
async fn a_long_ledger_is_added_up_in_pieces_and_from_then_on_behind_its_subtotal() {
    let shop = Shop::start().await;
    stocked(&shop, 1, 10).await;
    stocked(&shop, 2, 10).await;
    let movements = 2 * PIECE + PIECE / 2;
    for _ in 0..movements / 1_000 {
        let rows = ["(1, 'adjustment', 1, 1, 0, 0)"; 1_000].join(",");
        shop.run(&format!("INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved) VALUES {rows}")).await;
    }
    shop.run(&format!("UPDATE stock SET on_hand = 10 + {movements}, reserved = {movements} WHERE product_id = 1")).await;
    reservation(&shop, "active", 900, &[(1, movements)]).await;
    let subtotals =
        async || shop.rows::<(u64, u64, i64, i64)>("SELECT product_id, movement_id, on_hand, reserved FROM stock_subtotals").await;
    for base in [Base::FirstMovement, Base::Subtotals] {
        assert_eq!(uneven(&shop, base).await, []);
        assert_eq!(subtotals().await, []);
    }
    for _ in 0..2 {
        assert_eq!(uneven(&shop, Base::KeepingSubtotals).await, []);
        let last: u64 =
            shop.number(&format!("SELECT id FROM stock_movements WHERE product_id = 1 ORDER BY id LIMIT 1 OFFSET {}", 2 * PIECE - 1)).await;
        let (on_hand, reserved) = (10 + 2 * PIECE as i64 - 1, 2 * PIECE as i64 - 1);
        assert_eq!(subtotals().await, [(1, last, on_hand, reserved)]);
    }
    shop.run("INSERT INTO stock_movements (product_id, kind, delta, on_hand, reserved) VALUES (1, 'adjustment', 5, 0, 0)").await;
    for base in [Base::FirstMovement, Base::Subtotals, Base::KeepingSubtotals] {
        let found = uneven(&shop, base).await;
        assert_eq!(found.iter().map(|figures| (figures.product_id, figures.moved_on_hand - figures.on_hand)).collect::<Vec<_>>(), [(1, 5)]);
    }
}

#[tokio::test]
async fn a_subtotal_that_is_wrong_is_not_believed_and_is_made_anew() {
    let shop = Shop::start().await;
    stocked(&shop, 1, 10).await;
    let last = shop.number("SELECT MAX(id) FROM stock_movements").await;
    for wrong in [(last, 9, 0), (last + 7, 10, 0), (0, 0, 3)] {
        let (movement, on_hand, reserved) = wrong;
        shop.run(&format!(
            "REPLACE INTO stock_subtotals (product_id, movement_id, on_hand, reserved) VALUES (1, {movement}, {on_hand}, {reserved})"
        ))
        .await;
        assert_eq!(uneven(&shop, Base::Subtotals).await, [], "{wrong:?}");
        assert_eq!(uneven(&shop, Base::KeepingSubtotals).await, [], "{wrong:?}");
    }
    let kept: Vec<(u64, i64, i64)> = shop.rows("SELECT movement_id, on_hand, reserved FROM stock_subtotals").await;
    assert_eq!(kept, [(0, 0, 0)]);
    shop.run("UPDATE stock SET on_hand = 11").await;
    assert_eq!(uneven(&shop, Base::KeepingSubtotals).await.len(), 1);
}

#[tokio::test]
async fn an_active_reservation_counts_however_old_its_id_is_and_whoever_made_it() {
    let shop = Shop::start().await;
    for id in 1..=3 {
        stocked(&shop, id, 10).await;
    }
    reservation(&shop, "active", 900, &[(1, 2)]).await;
    assert_eq!(uneven(&shop, Base::Subtotals).await.len(), 1);
    let old = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    for (id, product) in [(old, 2), ("of-another-system", 3)] {
        shop.run(&format!("INSERT INTO reservations (id, expires_at) VALUES ('{id}', UTC_TIMESTAMP(6) + INTERVAL 1 DAY)")).await;
        shop.run(&format!("INSERT INTO reservation_items VALUES ('{id}', {product}, 1)")).await;
        let found: Vec<u64> = uneven(&shop, Base::Subtotals).await.iter().map(|figures| figures.product_id).collect();
        assert_eq!(found, (1..=product).collect::<Vec<_>>());
    }
    shop.run("UPDATE reservations SET state = 'released'").await;
    assert_eq!(uneven(&shop, Base::Subtotals).await, []);
}

/// Every product is reserved, sold and given back many times a second while looks at it follow each other.
#[tokio::test]
async fn stock_that_moves_all_the_time_is_even_at_every_look() {
    const BUSY: Duration = Duration::from_secs(4);
    let shop = Shop::start().await;
    shop.products(4).await;
    for id in 1..=4 {
        stocked(&shop, id, 1_000_000).await;
    }
    let api = shop.api().await;
    let until = Instant::now() + BUSY;
    let client = async |number: u64| {
        let mut ended = 0_u64;
        while Instant::now() < until {
            let items = json!([{"product_id": 1 + ended % 4, "quantity": 1 + number}, {"product_id": 1 + (ended + 1) % 4, "quantity": 2}]);
            let request = api.request("POST", "/v1/reservations").header("idempotency-key", format!("{number}-{ended}"));
            let made = Reply::to(request.json(&json!({"items": items}))).await;
            assert_eq!(made.status, 201, "{made:?}");
            let end = if ended.is_multiple_of(3) { "release" } else { "commit" };
            ended += u64::from(api.send("POST", &format!("{}/{end}", made.header("location")), "").await.status == 200);
        }
        ended
    };
    let looks = async {
        let mut looks = 0_u64;
        while Instant::now() < until {
            assert_eq!(uneven(&shop, Base::KeepingSubtotals).await, []);
            looks += 1;
        }
        looks
    };
    let (ended, looks) = tokio::join!(futures_util::future::join_all((0..8).map(client)), looks);
    let ended: u64 = ended.iter().sum();
    println!("{ended} reservations made and ended, {looks} looks");
    assert!(ended > 100 && looks > 10, "{ended} reservations made and ended, {looks} looks");
    assert_eq!(uneven(&shop, Base::FirstMovement).await, []);
}

/// The second statement of that migration, for stock that plain SQL wrote before it.
#[tokio::test]
async fn stock_that_was_there_before_movements_gets_one_that_says_so() {
    let opening = include_str!("../../migrations/V8__stock_ledger.sql").split(';').nth(1).unwrap();
    let shop = Shop::start().await;
    stocked(&shop, 1, 10).await;
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (2, 5, 2), (3, 0, 0)").await;
    for _ in 0..2 {
        shop.run(opening).await;
        let rows: Vec<(u64, String, i64, i64, i64, i64)> =
            shop.rows("SELECT product_id, kind, delta, reserved_delta, on_hand, reserved FROM stock_movements ORDER BY id").await;
        let row =
            |product, delta, reserved_delta, on_hand, reserved| (product, "count".to_owned(), delta, reserved_delta, on_hand, reserved);
        assert_eq!(rows, [row(1, 10, 0, 10, 0), row(2, 5, 2, 5, 2)]);
    }
    let found: Vec<_> = uneven(&shop, Base::FirstMovement).await.iter().map(|figures| (figures.product_id, figures.items)).collect();
    assert_eq!(found, [(2, 0)], "what is reserved for nobody is told");
}
