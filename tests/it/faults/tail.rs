//! The tail of the binlog when its holder, Redis or MySQL fails, and when the binlog is lost or cannot be read.

use harness::{Program, SOON, Shop, ShopOptions, eventually};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// So long that nothing ends by itself during a test.
const LONG: &str = "10m";

async fn shop(own_mysql: bool) -> Shop {
    let environment = vec![("INVENTORY_CACHE_TTL", LONG.into()), ("INVENTORY_CACHE_NEGATIVE_TTL", LONG.into())];
    Shop::with(ShopOptions { own_mysql, environment, ..ShopOptions::default() }).await
}

/// Waits until a worker keeps up.
async fn is_followed(program: &Program) {
    eventually("the binlog is followed", SOON, async || (program.metric("inventory_tail_up").await == 1.0).then_some(())).await;
}

async fn holds(worker: &Program) -> bool {
    worker.metric("inventory_tail_holder").await == 1.0
}

async fn emptied(worker: &Program, reason: &str) -> f64 {
    worker.metric(&format!("inventory_tail_emptied_total{{reason=\"{reason}\"}}")).await
}

/// Puts products into the cache.
async fn warm(api: &Program, ids: &[u64]) {
    for id in ids {
        eventually("the cache has it", SOON, async || (api.see(*id).await.cache == "hit").then_some(())).await;
    }
}

async fn shows(api: &Program, id: u64, amount: &str) {
    eventually(&format!("{id} at {amount} is shown"), SOON, async || (api.see(id).await.amount == amount).then_some(())).await;
}

/// What is said of plain SQL by others.
async fn said(program: &Program) -> String {
    let facts: Value = program.get_ops("/readyz?verbose").await.json();
    facts["facts"]["plain SQL by others"].as_str().unwrap_or_default().to_owned()
}

async fn says(program: &Program, words: &[&str]) {
    eventually(&format!("{words:?} is said"), SOON, async || {
        let said = said(program).await;
        words.iter().all(|word| said.contains(word)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_worker_takes_over_from_a_killed_one_and_nothing_is_missed() {
    let shop = shop(false).await;
    shop.products(4).await;
    let (api, mut one) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    warm(&api, &[1, 2, 3]).await;
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    shows(&api, 1, "2.00").await;
    // The position is one of a file that was not there when the worker began.
    shop.run("FLUSH BINARY LOGS").await;
    shop.run("UPDATE products SET price = 2.50 WHERE id = 1").await;
    shows(&api, 1, "2.50").await;
    warm(&api, &[1]).await;
    one.kill();
    // Written while nobody follows.
    shop.run("UPDATE products SET price = 3.00 WHERE id = 1").await;
    shop.run("DELETE FROM products WHERE id = 2").await;
    assert_eq!((api.see(1).await.cache, api.see(2).await.status), ("hit".to_owned(), 200), "nobody follows");
    says(&api, &["within the cache's TTL (10m)", "no worker follows the binlog"]).await;
    eventually("the lag rises", SOON, async || (api.metric("inventory_tail_lag_seconds").await > 1.0).then_some(())).await;
    let two = shop.worker().await;
    shows(&api, 1, "3.00").await;
    eventually("the deleted one is gone", SOON, async || (api.see(2).await.status == 404).then_some(())).await;
    is_followed(&api).await;
    assert!(holds(&two).await);
    assert_eq!(emptied(&two, "position_lost").await, 0.0, "{}", two.log());
    assert_eq!(api.see(3).await.cache, "hit", "it went on from the position, so nothing else was dropped");
    says(&api, &["shown within 2 s: a worker follows the binlog"]).await;
    assert_eq!(api.metric("inventory_tail_lag_seconds").await, 0.0);

    // A third waits, and is quick when the second is killed.
    let (mut two, three) = (two, shop.worker().await);
    is_followed(&three).await;
    assert!(!holds(&three).await);
    two.kill();
    let killed = Instant::now();
    shop.run("UPDATE products SET price = 4.00 WHERE id = 1").await;
    shows(&api, 1, "4.00").await;
    println!("a waiting worker showed it {:?} after the kill of the other", killed.elapsed());
}

#[tokio::test]
async fn a_holder_that_is_stopped_is_replaced_and_does_no_harm_when_it_goes_on() {
    let shop = shop(false).await;
    shop.products(2).await;
    let (api, mut one) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    let two = shop.worker().await;
    warm(&api, &[1, 2]).await;
    one.signal("STOP");
    let stopped = Instant::now();
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    shows(&api, 1, "2.00").await;
    println!("a stopped holder was replaced, and the change shown, after {:?}", stopped.elapsed());
    eventually("the second one follows", SOON, async || holds(&two).await.then_some(())).await;
    one.signal("CONT");
    eventually("the first one has noticed", SOON, async || (!holds(&one).await).then_some(())).await;
    warm(&api, &[1]).await;
    shop.run("UPDATE products SET price = 3.00 WHERE id = 1").await;
    shows(&api, 1, "3.00").await;
    is_followed(&api).await;
}

#[tokio::test]
async fn while_redis_is_away_changes_wait_and_are_acted_upon_when_it_is_back() {
    let mut shop = shop(false).await;
    shop.products(2).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    warm(&api, &[1, 2]).await;
    // Not killed: its entries stay, and it goes on as the same run.
    shop.redis.pause().unwrap();
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    says(&api, &["shown late"]).await;
    let late = async || (worker.metric("inventory_tail_lag_seconds").await > 1.0).then_some(());
    eventually("the worker says so too", SOON, late).await;
    shop.redis.resume().unwrap();
    shows(&api, 1, "2.00").await;
    is_followed(&api).await;
    assert_eq!(api.see(2).await.cache, "hit");
    warm(&api, &[1]).await;
    shop.redis.kill();
    shop.run("UPDATE products SET price = 3.00 WHERE id = 1").await;
    shop.redis.restart().unwrap();
    shows(&api, 1, "3.00").await;
    is_followed(&api).await;
    warm(&api, &[1]).await;
    shop.run("UPDATE products SET price = 4.00 WHERE id = 1").await;
    shows(&api, 1, "4.00").await;
}

#[tokio::test]
async fn who_takes_over_is_as_late_as_what_was_not_acted_upon() {
    let mut shop = shop(false).await;
    shop.products(2).await;
    let (api, mut one) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    let two = shop.worker().await;
    warm(&api, &[1]).await;
    // Kept a moment ago, but of what happened long before.
    let until = "SELECT acted_until FROM binlog_tail WHERE file_begun > 0 AND acted_until > UNIX_TIMESTAMP() - 60";
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    eventually("the position is kept", SOON, async || (shop.number(until).await > 0).then_some(())).await;
    shop.redis.pause().unwrap();
    shop.run("UPDATE products SET price = 3.00 WHERE id = 1").await;
    says(&api, &["shown late"]).await;
    shop.run("UPDATE binlog_tail SET acted_until = acted_until - 600").await;
    one.kill();
    let late = async || (holds(&two).await && api.metric("inventory_tail_lag_seconds").await >= 600.0).then_some(());
    eventually("the second one is as late", SOON, late).await;
    shop.redis.resume().unwrap();
    shows(&api, 1, "3.00").await;
    is_followed(&api).await;
}

/// Changes a row and loses what the binlog has of it, while nobody follows.
async fn lose_the_binlog(shop: &Shop, by: &str) {
    shop.run("UPDATE products SET price = 3.00 WHERE id = 1").await;
    if by == "purge" {
        shop.run("FLUSH BINARY LOGS").await;
        // MariaDB keeps a file for as long as it has not noticed that its reader is dead.
        eventually("the old file is purged", SOON, async || {
            let mut conn = shop.sql_connection().await;
            let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.unwrap();
            let newest: String = files.last().unwrap().get(0).unwrap();
            conn.query_drop(format!("PURGE BINARY LOGS TO '{newest}'")).await.unwrap();
            (files.len() == 1).then_some(())
        })
        .await;
    } else {
        let reset = if shop.mysql.as_ref().unwrap().is_mariadb() { "RESET MASTER" } else { "RESET BINARY LOGS AND GTIDS" };
        shop.run(reset).await;
        // The new file of the old name has grown past the place that was kept, and begins a transaction there, as chance may
        // have it; elsewhere the server would refuse it.
        let end = if shop.mysql.as_ref().unwrap().is_mariadb() { "SHOW MASTER STATUS" } else { "SHOW BINARY LOG STATUS" };
        let mut conn = shop.sql_connection().await;
        let end: mysql_async::Row = conn.query_first(end).await.unwrap().unwrap();
        let offset: u64 = end.get(1).unwrap();
        shop.run(&format!("UPDATE binlog_tail SET position = {offset}")).await;
    }
}

#[tokio::test]
async fn a_binlog_that_was_purged_or_begun_anew_costs_all_entries_and_no_change() {
    for by in ["purge", "reset"] {
        let shop = shop(true).await;
        shop.products(3).await;
        let (api, mut worker) = (shop.api().await, shop.worker().await);
        is_followed(&api).await;
        warm(&api, &[1, 2]).await;
        shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
        shows(&api, 1, "2.00").await;
        let kept = async || shop.number("SELECT position FROM binlog_tail WHERE file_begun > 0").await > 0;
        eventually("the position is kept", SOON, async || kept().await.then_some(())).await;
        warm(&api, &[1]).await;
        worker.kill();
        lose_the_binlog(&shop, by).await;
        assert_eq!(api.see(1).await.amount, "2.00", "{by}: nobody follows");
        worker.restart().await;
        shows(&api, 1, "3.00").await;
        is_followed(&api).await;
        assert_eq!(emptied(&worker, "position_lost").await, 1.0, "{by}: {}", worker.log());
        warm(&api, &[1]).await;
        shop.run("UPDATE products SET price = 4.00 WHERE id = 1").await;
        shows(&api, 1, "4.00").await;
        assert_eq!(emptied(&worker, "position_lost").await, 1.0, "{by}");
    }
}

#[tokio::test]
async fn a_mysql_that_hangs_or_is_started_again_is_followed_again() {
    let mut shop = shop(true).await;
    shop.products(2).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    warm(&api, &[1]).await;
    let mysql = shop.mysql.as_mut().unwrap();
    mysql.pause().unwrap();
    eventually("the worker has noticed", SOON, async || (!holds(&worker).await).then_some(())).await;
    shop.mysql.as_mut().unwrap().resume().unwrap();
    is_followed(&api).await;
    assert_eq!(emptied(&worker, "server_changed").await, 0.0);
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    shows(&api, 1, "2.00").await;
    warm(&api, &[1]).await;
    // Times are whole seconds, and a server is the same if it seems to be started at the same one.
    let up = async || shop.rows::<(String, String)>("SHOW GLOBAL STATUS LIKE 'Uptime'").await[0].1.parse::<u64>().unwrap();
    eventually("it has been up for a while", SOON, async || (up().await > 4).then_some(())).await;
    let mysql = shop.mysql.as_mut().unwrap();
    mysql.kill();
    mysql.restart().unwrap();
    // Those of the shop were open.
    let mut conn = mysql_async::Conn::from_url(shop.mysql_url("root")).await.unwrap();
    conn.query_drop("UPDATE products SET price = 3.00 WHERE id = 1").await.unwrap();
    shows(&api, 1, "3.00").await;
    is_followed(&api).await;
    assert_eq!(emptied(&worker, "server_changed").await, 1.0, "it might have lost what was cached");
}

#[tokio::test]
async fn without_the_right_to_follow_the_worker_goes_on_says_so_once_and_follows_when_it_has_it() {
    let shop = shop(true).await;
    shop.products(2).await;
    shop.run("REVOKE REPLICATION SLAVE, REPLICATION CLIENT ON *.* FROM inventory_worker").await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    let words = ["within the cache's TTL (10m)", "inventory_worker@% may not", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*"];
    for program in [&api, &worker] {
        says(program, &words).await;
    }
    shop.view(&api, 1).await;
    eventually("views are drained all the same", SOON, async || (shop.views(1).await == 1).then_some(())).await;
    assert_eq!(api.metric("inventory_tail_up").await, 0.0);
    // Twice tried, once told.
    eventually("it was tried again", SOON, async || (api.metric("inventory_tail_lag_seconds").await > 7.0).then_some(())).await;
    assert_eq!(worker.log().matches("the binlog is not followed").count(), 1, "{}", worker.log());
    let doctor = shop.ctl(None, &["doctor", "-o", "json"]).await;
    let rows: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["check"] == "tail").unwrap();
    assert_eq!(row["state"], "warn", "{row}");
    shop.run(row["cure"][0]["line"].as_str().unwrap()).await;
    is_followed(&api).await;
    warm(&api, &[1]).await;
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    shows(&api, 1, "2.00").await;
    let doctor = shop.ctl(None, &["doctor", "-o", "json"]).await;
    let rows: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().iter().find(|row| row["check"] == "tail").unwrap()["state"], "ok");
}

#[tokio::test]
async fn without_a_binlog_plain_sql_is_shown_when_the_ttl_ends_and_everybody_says_so() {
    let environment = vec![("INVENTORY_CACHE_TTL", "3s".to_owned())];
    let mysql_arguments = vec!["--skip-log-bin".to_owned()];
    let shop = Shop::with(ShopOptions { own_mysql: true, mysql_arguments, environment, ..ShopOptions::default() }).await;
    shop.products(2).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    for program in [&api, &worker] {
        says(program, &["within the cache's TTL (3s)", "log_bin is OFF"]).await;
    }
    assert_eq!(worker.log().matches("log_bin is OFF").count(), 1);
    warm(&api, &[1]).await;
    shop.run("UPDATE products SET price = 2.00 WHERE id = 1").await;
    shows(&api, 1, "2.00").await;
    assert_eq!(api.metric("inventory_tail_up").await, 0.0);
}

#[tokio::test]
async fn rows_and_statements_that_are_logged_otherwise_are_followed_too() {
    let shop = shop(true).await;
    shop.products(3).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    let is_mariadb = shop.mysql.as_ref().unwrap().is_mariadb();
    let mut ways = vec!["SET binlog_row_image = 'MINIMAL'", "SET binlog_row_image = 'NOBLOB'", "SET binlog_format = 'STATEMENT'"];
    if is_mariadb {
        ways.push("SET GLOBAL binlog_row_metadata = 'FULL'");
        ways.push("SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10");
    } else {
        ways.push("SET binlog_transaction_compression = ON");
    }
    for (way, amount) in ways.iter().zip(["2.00", "3.00", "4.00", "5.00", "6.00"]) {
        warm(&api, &[1, 2]).await;
        let mut conn = shop.sql_connection().await;
        conn.query_drop(*way).await.unwrap();
        conn.query_drop(format!("UPDATE products SET price = {amount}, version = version + 1 WHERE id = 1")).await.unwrap();
        conn.disconnect().await.unwrap();
        println!("{way}");
        shows(&api, 1, amount).await;
    }
    if is_mariadb {
        says(&api, &["log_bin_compress is ON"]).await;
        assert!(emptied(&worker, "unreadable").await >= 1.0);
        shop.run("SET GLOBAL log_bin_compress = OFF").await;
        is_followed(&api).await;
    }
    warm(&api, &[1]).await;
    shop.run("UPDATE products SET price = 7.00 WHERE id = 1").await;
    shows(&api, 1, "7.00").await;
}

#[tokio::test]
async fn a_change_behind_a_statement_of_another_table_is_shown_and_a_server_that_logs_so_is_not_followed() {
    let shop = shop(true).await;
    shop.products(2).await;
    shop.run("CREATE TABLE offers (id INT PRIMARY KEY, price DECIMAL(10, 2))").await;
    let raise = "UPDATE products SET price = NEW.price, version = version + 1 WHERE id = NEW.id";
    shop.run(&format!("CREATE TRIGGER offers_show AFTER INSERT ON offers FOR EACH ROW {raise}")).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    is_followed(&api).await;
    warm(&api, &[1, 2]).await;
    let mut conn = shop.sql_connection().await;
    for sql in ["SET binlog_format = 'STATEMENT'", "INSERT INTO offers VALUES (1, 2.00)"] {
        conn.query_drop(sql).await.unwrap();
    }
    // Not only shown: the worker's sample of the cache would mend one entry, in time.
    eventually("all entries are dropped", SOON, async || (emptied(&worker, "statement").await == 1.0).then_some(())).await;
    shows(&api, 1, "2.00").await;
    is_followed(&api).await;
    warm(&api, &[1, 2]).await;
    for sql in ["SET GLOBAL binlog_format = 'MIXED'", "INSERT INTO offers VALUES (2, 3.00)"] {
        conn.query_drop(sql).await.unwrap();
    }
    shows(&api, 2, "3.00").await;
    for program in [&api, &worker] {
        says(program, &["within the cache's TTL (10m)", "binlog_format is MIXED"]).await;
    }
    let doctor = shop.ctl(None, &["doctor", "-o", "json"]).await;
    let rows: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["check"] == "tail").unwrap();
    assert_eq!(
        (row["state"].as_str(), row["cure"][0]["line"].as_str()),
        (Some("warn"), Some("SET GLOBAL binlog_format = 'ROW';")),
        "{row}"
    );
    shop.run("SET GLOBAL binlog_format = 'ROW'").await;
    is_followed(&api).await;
}

#[tokio::test]
async fn an_event_larger_than_a_packet_is_passed() {
    const MIB: u64 = 1 << 20;
    let shop = shop(true).await;
    shop.products(1).await;
    shop.run("CREATE TABLE pictures (picture LONGBLOB)").await;
    // A session keeps the limit that it was made with, and so does the API.
    let mut conn = shop.sql_connection().await;
    let api = shop.api().await;
    conn.query_drop(format!("SET GLOBAL max_allowed_packet = {MIB}")).await.unwrap();
    let worker = shop.worker().await;
    is_followed(&api).await;
    warm(&api, &[1]).await;
    for sql in [format!("INSERT INTO pictures VALUES (REPEAT('x', {}))", 3 * MIB), "UPDATE products SET price = 2.00".into()] {
        conn.query_drop(sql).await.unwrap();
    }
    let updates = async || worker.metric("inventory_tail_events_total{kind=\"update\"}").await;
    eventually("what comes after it is read", SOON, async || (updates().await == 1.0).then_some(())).await;
    assert_eq!(emptied(&worker, "unreadable").await, 0.0, "{}", worker.log());
    shows(&api, 1, "2.00").await;
}

/// MySQL bug 120471: a row event may reach who follows before a fresh SELECT sees the row. Whoever drops the entry then and
/// fills it from a plain SELECT stores the old row for good.
#[tokio::test]
async fn after_writers_and_readers_at_once_the_cache_holds_what_mysql_holds() {
    const PRODUCTS: u64 = 8;
    const FOR: Duration = Duration::from_secs(10);
    let shop = Arc::new(shop(false).await);
    shop.products(PRODUCTS).await;
    let (one, two, _worker) = (shop.api().await, shop.api().await, shop.worker().await);
    is_followed(&one).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (1..=PRODUCTS).map(|id| {
        let (shop, stop) = (shop.clone(), stop.clone());
        tokio::spawn(async move {
            let mut conn = shop.sql_connection().await;
            let mut written = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                written += 1;
                let version = if written.is_multiple_of(2) { ", version = version + 1" } else { "" };
                let sql = format!("UPDATE products SET price = {written}{version} WHERE id = {id}");
                conn.query_drop(sql).await.unwrap();
            }
            written
        })
    });
    let readers = [one.url.clone(), two.url.clone()].into_iter().cycle().take(8).map(|url| {
        let (stop, client) = (stop.clone(), shop.client.clone());
        tokio::spawn(async move {
            let mut reads = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let id = fastrand::u64(1..=PRODUCTS);
                let answer = client.get(format!("{url}/v1/products/{id}")).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                reads += 1;
            }
            reads
        })
    });
    let (writers, readers): (Vec<_>, Vec<_>) = (writers.collect(), readers.collect());
    let started = Instant::now();
    eventually("they have been at it for long enough", SOON, async || (started.elapsed() >= FOR).then_some(())).await;
    stop.store(true, Ordering::Relaxed);
    let (mut written, mut read) = (0, 0);
    for writer in writers {
        written += writer.await.unwrap();
    }
    for reader in readers {
        read += reader.await.unwrap();
    }
    println!("{written} rows written, {read} products read");
    for id in 1..=PRODUCTS {
        let (version, amount) = shop.price(id).await;
        for api in [&one, &two] {
            let at_rest = || async { api.see(id).await };
            eventually(&format!("product {id} is at rest"), Duration::from_secs(2), async || {
                at_rest().await.is(version, &amount).then_some(())
            })
            .await;
            warm(api, &[id]).await;
            assert!(at_rest().await.is(version, &amount), "product {id}");
        }
    }
}
