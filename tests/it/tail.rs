//! Plain SQL of others: shown within two seconds through every API while a worker follows the binlog, and said where none can.

use harness::{Program, Reply, SOON, Seen, Shop, ShopOptions, eventually};
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::time::{Duration, Instant};

/// The promise: from the statement's answer until every API shows it.
const BOUND: Duration = Duration::from_secs(2);

/// So long that nothing ends by itself during a test.
const LONG: &str = "10m";

fn long() -> Vec<(&'static str, String)> {
    vec![("INVENTORY_CACHE_TTL", LONG.into()), ("INVENTORY_CACHE_NEGATIVE_TTL", LONG.into())]
}

async fn shop(own_mysql: bool) -> Shop {
    Shop::with(ShopOptions { own_mysql, environment: long(), ..ShopOptions::default() }).await
}

/// Waits until a worker keeps up, as the program itself tells.
async fn is_followed(program: &Program) {
    eventually("the binlog is followed", SOON, async || (program.metric("inventory_tail_up").await == 1.0).then_some(())).await;
}

/// Reads it twice, so that it is in the cache.
async fn warm(api: &Program, id: u64) -> Seen {
    eventually("the cache has it", SOON, async || {
        let seen = api.see(id).await;
        (seen.cache == "hit").then_some(seen)
    })
    .await
}

/// Whether this is what everybody is to see: a price, or nothing there.
fn is(seen: &Seen, amount: Option<&str>) -> bool {
    match amount {
        Some(amount) => seen.status == 200 && seen.amount == amount,
        None => seen.status == 404,
    }
}

/// Runs a statement and waits until all APIs show what it made; returns how long that took after its answer.
async fn shown(shop: &Shop, apis: &[&Program], sql: &str, id: u64, amount: Option<&str>) -> Duration {
    for api in apis {
        warm(api, id).await;
    }
    shop.run(sql).await;
    let started = Instant::now();
    for api in apis {
        eventually(sql, BOUND, async || is(&api.see(id).await, amount).then_some(())).await;
    }
    let took = started.elapsed();
    assert!(took < BOUND, "{sql}: {took:?}");
    took
}

#[tokio::test]
async fn each_kind_of_statement_is_shown_within_two_seconds_through_every_api() {
    let shop = shop(false).await;
    shop.products(5).await;
    let (one, two, worker) = (shop.api().await, shop.api().await, shop.worker().await);
    is_followed(&one).await;
    let mut lags = Vec::new();
    let nine = "INSERT INTO products (id, sku, name, price, currency) VALUES (9, 'P9', 'Product 9', 1.50, 'GBP')";
    let again = format!("{nine} ON DUPLICATE KEY UPDATE price = 2.50");
    for (sql, id, amount) in [
        ("UPDATE products SET price = 2.00 WHERE id = 1", 1, Some("2.00")),
        ("UPDATE products SET price = 3.00, version = version + 1 WHERE id = 1", 1, Some("3.00")),
        ("UPDATE products SET price = 4.00, version = 1 WHERE id = 1", 1, Some("4.00")),
        // Beyond what a double tells apart.
        ("UPDATE products SET price = 5.00, version = 18446744073709551614 WHERE id = 1", 1, Some("5.00")),
        ("UPDATE products SET price = 6.00, version = 18446744073709551615 WHERE id = 1", 1, Some("6.00")),
        ("REPLACE INTO products (id, sku, price, currency) VALUES (1, 'P1', 7.00, 'GBP')", 1, Some("7.00")),
        (nine, 9, Some("1.50")),
        (&again, 9, Some("2.50")),
        ("DELETE FROM products WHERE id = 2", 2, None),
        ("UPDATE products SET deleted_at = NOW(6) WHERE id = 3", 3, None),
        ("UPDATE products SET id = 12 WHERE id = 4", 4, None),
        ("UPDATE products SET id = 13 WHERE id = 12", 13, Some("1.00")),
        ("UPDATE products p JOIN (SELECT 5 AS id) d ON d.id = p.id SET p.price = 8.00", 5, Some("8.00")),
        ("ALTER TABLE products ADD COLUMN colour VARCHAR(20) NULL FIRST", 5, Some("8.00")),
        ("UPDATE products SET price = 9.00, colour = 'red' WHERE id = 5", 5, Some("9.00")),
        ("TRUNCATE products", 5, None),
    ] {
        lags.push((shown(&shop, &[&one, &two], sql, id, amount).await, sql.to_owned()));
    }
    lags.sort();
    println!("shown after: median {:?}, slowest {:?}", lags[lags.len() / 2].0, lags.last());
    assert!(worker.metric("inventory_tail_events_total{kind=\"update\"}").await >= 9.0);
    assert!(worker.metric("inventory_tail_emptied_total{reason=\"statement\"}").await >= 2.0);
    assert_eq!(worker.metric("inventory_tail_emptied_total{reason=\"unreadable\"}").await, 0.0);
}

#[tokio::test]
async fn our_own_writes_are_not_taken_for_those_of_others() {
    let shop = shop(false).await;
    shop.products(3).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    for amount in ["2.00", "3.00", "4.00"] {
        assert_eq!(api.put_price(1, amount).await.status, 200);
    }
    let updates = async || worker.metric("inventory_tail_events_total{kind=\"update\"}").await;
    eventually("the writes were read", SOON, async || (updates().await == 3.0).then_some(())).await;
    // What comes after them has been acted upon, so they have.
    let gone = shown(&shop, &[&api], "DELETE FROM products WHERE id = 3", 3, None).await;
    assert_eq!(api.see(1).await.cache, "hit", "after {gone:?}");
    assert_eq!(worker.metric("inventory_tail_entries_deleted_total").await, 1.0);
}

#[tokio::test]
async fn a_burst_of_plain_sql_costs_few_calls_of_redis() {
    let shop = shop(false).await;
    shop.products(1_000).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    for id in [1, 500, 1_000] {
        warm(&api, id).await;
    }
    let calls = "inventory_redis_op_duration_seconds_count{op=\"tail\"}";
    let before = worker.metric(calls).await;
    let mut conn = shop.sql_connection().await;
    for id in 1..=1_000 {
        conn.query_drop(format!("UPDATE products SET price = 2.00 WHERE id = {id}")).await.unwrap();
    }
    let one_by_one = Instant::now();
    for id in [1, 500, 1_000] {
        eventually("each is shown", SOON, async || is(&api.see(id).await, Some("2.00")).then_some(())).await;
    }
    println!("1,000 single statements: shown {:?} after the last", one_by_one.elapsed());
    warm(&api, 1_000).await;
    shop.run("UPDATE products SET price = 3.00").await;
    let at_once = Instant::now();
    eventually("the last is shown", SOON, async || is(&api.see(1_000).await, Some("3.00")).then_some(())).await;
    println!("one statement of 1,000 rows: shown {:?} after it", at_once.elapsed());
    let read = async || worker.metric("inventory_tail_events_total{kind=\"update\"}").await;
    eventually("all were read", SOON, async || (read().await == 2_000.0).then_some(())).await;
    let made = worker.metric(calls).await - before;
    println!("2,000 rows: {made} calls of Redis");
    assert!(made < 1_000.0, "{made}");
}

#[tokio::test]
async fn a_restored_backup_is_shown_and_so_is_what_was_made_after_it() {
    let shop = shop(false).await;
    shop.products(3).await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    shop.run("CREATE TABLE dump AS SELECT * FROM products").await;
    assert_eq!(api.put_price(1, "9.00").await.status, 200);
    shop.run("INSERT INTO products (id, sku) VALUES (8, 'P8')").await;
    for id in [1, 7, 8] {
        warm(&api, id).await;
    }
    // As a dump is read back: dropped, made, filled.
    let made: Vec<(String, String)> = shop.rows("SHOW CREATE TABLE products").await;
    let mut conn = shop.sql_connection().await;
    for sql in ["DROP TABLE products", &made[0].1, "INSERT INTO products SELECT * FROM dump"] {
        conn.query_drop(sql).await.unwrap();
    }
    eventually("what was restored is shown", BOUND, async || api.see(1).await.is(1, "1.00").then_some(())).await;
    eventually("what was made since then is gone", BOUND, async || (api.see(8).await.status == 404).then_some(())).await;
    let seven = "INSERT INTO products (id, sku, price, currency) VALUES (7, 'P7', 7.00, 'GBP')";
    shown(&shop, &[&api], seven, 7, Some("7.00")).await;
    shown(&shop, &[&api], "UPDATE products SET price = 2.00 WHERE id = 1", 1, Some("2.00")).await;
}

/// A shop whose MySQL lets the migrating user make triggers.
async fn with_trigger() -> Shop {
    let shop = shop(true).await;
    let status = async || shop.ctl_as("inventory_migrate", None, &["migrate", "status"]).await;
    let migrate = async || shop.ctl_as("inventory_migrate", None, &["migrate"]).await;
    assert!(status().await.stderr.contains("the trigger of versions is not there"), "{:?}", status().await);
    let refused = migrate().await;
    assert_eq!(refused.code, Some(0), "{refused:?}");
    for told in ["was not made", "1419", "ETag", "CREATE DEFINER = 'inventory_migrate'@'%' TRIGGER"] {
        assert!(refused.stderr.contains(told), "{told} in {refused:?}");
    }
    shop.run("SET GLOBAL log_bin_trust_function_creators = 1").await;
    for _ in 0..2 {
        let made = migrate().await;
        assert!(made.code == Some(0) && !made.stderr.contains("was not made"), "{made:?}");
        assert!(status().await.stderr.contains("the trigger of versions is there"));
    }
    shop
}

#[tokio::test]
async fn the_trigger_raises_the_version_for_those_who_do_not_know_of_it_and_for_nobody_else() {
    let shop = with_trigger().await;
    shop.products(2).await;
    let api = shop.api().await;
    let version = async |sql: &str| {
        shop.run(sql).await;
        shop.number("SELECT version FROM products WHERE id = 1").await
    };
    for (sql, expected) in [
        ("UPDATE products SET price = 2.00 WHERE id = 1", 2),
        ("UPDATE products SET name = 'MUG' WHERE id = 1", 3),
        ("UPDATE products SET name = 'mug' WHERE id = 1", 4),
        ("UPDATE products SET name = 'mug ' WHERE id = 1", 5),
        ("UPDATE products SET description = 'a' WHERE id = 1", 6),
        ("UPDATE products SET description = NULL, active = 0 WHERE id = 1", 7),
        ("UPDATE products SET price = NULL, currency = NULL WHERE id = 1", 8),
        ("UPDATE products SET sku = 'p1', deleted_at = NOW(6) WHERE id = 1", 9),
        ("INSERT INTO products (id, sku) VALUES (1, 'x') ON DUPLICATE KEY UPDATE name = 'y', deleted_at = NULL", 10),
        ("UPDATE products SET name = 'z', version = 3 WHERE id = 1", 11),
        // Who raises it himself, and what is not shown by it.
        ("UPDATE products SET name = 'q', version = version + 1 WHERE id = 1", 12),
        ("UPDATE products SET name = 'r', version = 40 WHERE id = 1", 40),
        ("UPDATE products SET async_hwm = 7 WHERE id = 1", 40),
        ("UPDATE products SET name = name WHERE id = 1", 40),
    ] {
        assert_eq!(version(sql).await, expected, "{sql}");
    }
    assert_eq!(api.put_price(1, "5.00").await.json()["version"], 41, "our own writers raise it once");
    let tag = api.get("/v1/products/1").await.header("etag").to_owned();
    let _worker = shop.worker().await;
    shop.run("UPDATE products SET price = 6.00 WHERE id = 1").await;
    eventually("the tag has moved", SOON, async || {
        let answer = Box::pin(api.request("GET", "/v1/products/1").header("if-none-match", &tag).send()).await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
    assert_eq!(api.see(1).await.version, 42);
}

#[tokio::test]
async fn a_trigger_of_another_release_stays_until_the_new_one_can_be_made() {
    let shop = with_trigger().await;
    shop.products(1).await;
    // MySQL has some of its own elsewhere.
    let sql = "SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE()";
    let there = async || shop.rows::<(String, String)>(sql).await;
    let current = there().await;
    let migrate = async || shop.ctl_as("inventory_migrate", None, &["migrate"]).await;
    for _ in 0..2 {
        let made = there().await;
        assert_eq!(made.len(), 1, "{made:?}");
        shop.run("SET GLOBAL log_bin_trust_function_creators = 1").await;
        let old = format!(
            "CREATE TRIGGER {0} BEFORE UPDATE ON products FOR EACH ROW SET NEW.version = IF(NEW.version > OLD.version, NEW.version, OLD.version + 1)",
            made[0].0
        );
        for sql in [&format!("DROP TRIGGER {}", made[0].0), &old] {
            shop.run(sql).await;
        }
        let old = there().await;
        shop.run("SET GLOBAL log_bin_trust_function_creators = 0").await;
        let refused = migrate().await;
        assert!(refused.code == Some(0) && refused.stderr.contains("was not made"), "{refused:?}");
        assert_eq!(there().await, old, "the old one is better than none");
        // The line does not meet the old one's name.
        shop.run(refused.stderr.lines().find(|line| line.starts_with("CREATE DEFINER")).unwrap()).await;
        let before = shop.number("SELECT version FROM products WHERE id = 1").await;
        shop.run("UPDATE products SET price = price + 1").await;
        assert_eq!(shop.number("SELECT version FROM products WHERE id = 1").await, before + 1, "with both, it rises once");
        for trusted in [0, 1] {
            shop.run(&format!("SET GLOBAL log_bin_trust_function_creators = {trusted}")).await;
            let done = migrate().await;
            assert!(done.code == Some(0) && !done.stderr.contains("was not made"), "{done:?}");
        }
        let made = there().await;
        assert!(made.len() == 1 && made[0].1 == current[0].1, "{made:?}");
    }
}

#[tokio::test]
async fn the_line_that_migrate_prints_makes_the_trigger_for_an_administrator_who_types_it() {
    let shop = shop(true).await;
    shop.products(1).await;
    let refused = shop.ctl_as("inventory_migrate", None, &["migrate"]).await;
    let line = refused.stderr.lines().find(|line| line.starts_with("CREATE DEFINER")).unwrap_or_else(|| panic!("{refused:?}"));
    shop.run(line).await;
    let again = shop.ctl_as("inventory_migrate", None, &["migrate"]).await;
    assert!(again.code == Some(0) && !again.stderr.contains("was not made"), "{again:?}");
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    assert_eq!(shop.price(1).await, (2, "2.00".to_owned()));
    let doctor = shop.ctl_as("inventory_migrate", None, &["doctor", "-o", "ndjson"]).await;
    let row = doctor.stdout.lines().find(|line| line.contains("\"version_trigger\"")).unwrap().to_owned();
    assert!(row.contains("\"state\":\"ok\""), "{row}");
}

#[tokio::test]
async fn operators_drop_entries_of_some_products_or_of_all() {
    let shop = shop(false).await;
    shop.products(5).await;
    let api = shop.api().await;
    let cached = async || {
        let mut cached = Vec::new();
        for id in 1..=5 {
            cached.extend(shop.entry(id).await.map(|_| id));
        }
        cached
    };
    let warm_all = async || {
        for id in 1..=5 {
            warm(&api, id).await;
        }
        assert_eq!(cached().await, [1, 2, 3, 4, 5]);
    };
    warm_all().await;
    let invalidate = async |words: &[&str]| shop.ctl(Some(&api), &[&["cache", "invalidate", "-o", "json"], words].concat()).await;
    assert_eq!(invalidate(&["P1", "id:3", "id:99"]).await.json(0)["dropped"], 2);
    assert_eq!(cached().await, [2, 4, 5]);
    for (words, code) in [(&[][..], 2), (&["--all"], 2), (&["--all", "P1"], 2), (&["--yes"], 2), (&["P9"], 4)] {
        assert_eq!(invalidate(words).await.code, Some(code), "{words:?}");
    }
    assert_eq!(cached().await, [2, 4, 5]);
    assert_eq!(invalidate(&["--all", "--yes"]).await.json(0)["dropped"], 3);
    assert_eq!(cached().await, [0; 0]);
    warm_all().await;
    let post = async |body: &str| {
        let request = api.client().post(format!("{}/v1/admin/cache/invalidate", api.ops));
        Reply::to(request.header("content-type", "application/json").body(body.to_owned())).await.json()
    };
    assert_eq!(post(r#"{"product_ids":[2,2,99]}"#).await, json!({"dropped": 1}));
    assert_eq!(cached().await, [1, 3, 4, 5]);
    // A restored backup, which nobody follows: the cache has a newer version than MySQL.
    assert_eq!(api.put_price(4, "9.00").await.status, 200);
    shop.run("UPDATE products SET price = 1.00, version = 1 WHERE id = 4").await;
    assert!(api.see(4).await.is(2, "9.00"));
    // What is not a product's entry stays, and so do views that wait.
    shop.view(&api, 4).await;
    let others = async || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut shop.redis_connection().await).await.unwrap();
        let mut keys: Vec<String> = keys.into_iter().filter(|key| !key.contains(":c:")).collect();
        keys.sort();
        keys
    };
    let before = others().await;
    assert_eq!(post(r#"{"all":true}"#).await, json!({"dropped": 4}));
    assert_eq!(others().await, before);
    assert!(api.see(4).await.is(1, "1.00"));
    assert_eq!(shop.shown(&api, 4).await, 1);
}

#[tokio::test]
async fn foreign_keys_among_the_entries_keep_nothing_from_being_dropped() {
    let shop = shop(false).await;
    shop.products(3).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    for id in [1, 2, 3] {
        warm(&api, id).await;
    }
    let mut redis = shop.redis_connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:c:*:p:1").query_async(&mut redis).await.unwrap();
    redis::cmd("DEL").arg(&keys[0]).exec_async(&mut redis).await.unwrap();
    redis::cmd("LPUSH").arg(&keys[0]).arg("of others").exec_async(&mut redis).await.unwrap();
    shop.run("UPDATE products SET price = 2.00 WHERE id IN (1, 2)").await;
    for id in [1, 2] {
        eventually("the price is shown", BOUND, async || is(&api.see(id).await, Some("2.00")).then_some(())).await;
        assert!(is(&warm(&api, id).await, Some("2.00")));
    }
    assert_eq!(api.see(3).await.cache, "hit");
    eventually("it is told", SOON, async || (worker.log().matches("Redis refuses").count() == 1).then_some(())).await;
    // A name that is no text.
    let foreign: &[u8] = b"inventory:{0}:c:\xff:p:1";
    redis::cmd("SET").arg(foreign).arg("of others").exec_async(&mut redis).await.unwrap();
    shown(&shop, &[&api], "TRUNCATE products", 3, None).await;
    is_followed(&api).await;
}

#[tokio::test]
async fn an_event_drops_what_it_overtakes_and_leaves_what_is_as_new() {
    let shop = shop(false).await;
    shop.products(30).await;
    let worker = shop.worker().await;
    eventually("the worker follows", SOON, async || (worker.metric("inventory_tail_holder").await == 1.0).then_some(())).await;
    let rises = "version = version + 1";
    let entries = [
        // A reader that may have read the old row; data and markers of before; an absence that ended.
        ("L2222222222222222", rises, false),
        ("D1|1{}", rises, false),
        ("W1:somebody", rises, false),
        ("D0|", rises, false),
        ("nonsense", rises, false),
        // Our own writer's marker and data, and later ones.
        ("W2:ours", rises, true),
        ("D2|1{}", rises, true),
        ("D3|1{}", rises, true),
        ("W10:later", rises, true),
        // Nothing tells what is newer where the version did not rise.
        ("D2|1{}", "active = 0", false),
        ("W9:later", "version = 0", false),
        ("L2222222222222222", "active = 0", false),
    ];
    for (id, (value, _, _)) in (1..).zip(&entries) {
        shop.set_entry(id, value).await;
    }
    shop.set_entry(30, "D1|1{}").await;
    for (id, (_, change, _)) in (1..).zip(&entries) {
        shop.run(&format!("UPDATE products SET {change} WHERE id = {id}")).await;
    }
    // What is read after them has been acted upon after them.
    shop.run("DELETE FROM products WHERE id = 30").await;
    eventually("all was read", SOON, async || shop.entry(30).await.is_none().then_some(())).await;
    for (id, (value, change, stays)) in (1..).zip(&entries) {
        assert_eq!(shop.entry(id).await.as_deref(), stays.then_some(*value), "{value} after {change}");
    }
}
