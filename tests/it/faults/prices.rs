//! Reads and price writes step by step, with the faults of connections and servers that would show an old price put between
//! the steps. `price_traces.rs` holds the programs themselves at a step.
//!
//! *Marker ended* and *lease ended* are played by deleting the entry: no promise rests on when that happens.

use harness::{Program, Proxy, SOON, Seen, Shop, eventually, metric_in};
use mysql_async::prelude::Queryable;
use std::time::Duration;

const ID: u64 = 1;

/// A shop with one product at 1.00 and an API that reaches its stores directly.
async fn shop() -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    (shop, api)
}

/// An API that reaches Redis through the proxy.
async fn api_behind_redis_proxy(shop: &Shop) -> (Proxy, Program) {
    let redis = Proxy::to(shop.redis.port()).await;
    let writing = shop.api_behind(None, Some(&redis)).await;
    (redis, writing)
}

/// Both APIs show this, also once more through the entry that the first reads have filled.
async fn assert_shown(apis: [&Program; 2], version: u64, amount: &str) {
    for api in apis.iter().chain(&apis) {
        let seen = api.see(ID).await;
        assert!(seen.is(version, amount), "version {version} at {amount} was to be seen, not {seen:?}");
    }
}

fn holds_data(entry: Option<&String>) -> bool {
    entry.is_some_and(|entry| entry.starts_with('D'))
}

/// Waits for a writer's marker, so that the writer holds the row and has not been answered.
async fn marked(shop: &Shop, version: u64) {
    let marker = format!("W{version}:");
    eventually("the entry is marked", SOON, async || shop.entry(ID).await.filter(|entry| entry.starts_with(&marker))).await;
}

/// Sets a price in a task of its own; the task ends with status and problem type.
fn write(api: &Program, amount: &'static str) -> tokio::task::JoinHandle<(u16, String)> {
    let body = format!(r#"{{"amount":"{amount}","currency":"GBP"}}"#);
    let request = api.request("PUT", &format!("/v1/products/{ID}/price"));
    let request = request.header("content-type", "application/json").body(body);
    tokio::spawn(async move {
        let answer = harness::Reply::to(request).await;
        (answer.status, answer.json()["type"].as_str().unwrap_or_default().to_owned())
    })
}

#[tokio::test]
async fn a_reader_does_not_fill_while_a_writer_holds_the_row() {
    let (shop, api) = shop().await;
    let mut writer = shop.sql_connection().await;
    writer.query_drop("BEGIN").await.unwrap();
    writer.query_drop("UPDATE products SET price = 2.00, version = 2 WHERE id = 1").await.unwrap();
    let seen = api.see(ID).await;
    assert!(seen.is(1, "1.00"), "{seen:?}");
    let entry = shop.entry(ID).await;
    assert!(!holds_data(entry.as_ref()), "{entry:?} was filled beside a writer");
    writer.query_drop("COMMIT").await.unwrap();
    assert_shown([&api, &api], 2, "2.00").await;
    shop.drop_entry(ID).await;
    assert_shown([&api, &api], 2, "2.00").await;
    assert!(holds_data(shop.entry(ID).await.as_ref()), "a row that nobody holds is filled");
}

#[tokio::test]
async fn a_row_that_is_being_inserted_is_not_cached_as_absent() {
    let (shop, api) = shop().await;
    let mut writer = shop.sql_connection().await;
    writer.query_drop("BEGIN").await.unwrap();
    writer.query_drop("INSERT INTO products (id, sku, price, currency) VALUES (7, 'P7', 7.00, 'GBP')").await.unwrap();
    assert_eq!(api.see(7).await.status, 404);
    let entry = shop.entry(7).await;
    assert!(!holds_data(entry.as_ref()), "{entry:?} was filled beside an INSERT");
    writer.query_drop("COMMIT").await.unwrap();
    let seen = api.see(7).await;
    assert!(seen.is(1, "7.00"), "{seen:?}");
}

#[tokio::test]
async fn a_marked_product_is_read_from_mysql_and_not_stored() {
    let (shop, api) = shop().await;
    shop.set_entry(ID, "W9:somebody").await;
    for (version, amount) in [(2, "2.00"), (3, "3.00")] {
        shop.run(&format!("UPDATE products SET price = {amount}, version = {version}")).await;
        let seen = api.see(ID).await;
        assert_eq!(seen, Seen { status: 200, version, amount: amount.into(), cache: "fwd=bypass".into() });
    }
    assert_eq!(shop.entry(ID).await.as_deref(), Some("W9:somebody"));
}

#[tokio::test]
async fn a_write_shows_neither_in_the_cache_nor_to_readers_before_its_commit() {
    let (shop, api) = shop().await;
    assert!(api.see(ID).await.is(1, "1.00"));
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    mysql.hold_commit();
    let write = write(&writing, "2.00");
    mysql.caught().await;
    assert!(shop.entry(ID).await.is_some_and(|entry| entry.starts_with("W2:")), "marked before COMMIT");
    assert_shown([&api, &api], 1, "1.00").await;
    mysql.release();
    assert_eq!(write.await.unwrap().0, 200);
    assert!(shop.entry(ID).await.is_some_and(|entry| entry.starts_with("D2|")), "published before the answer");
    assert_shown([&api, &writing], 2, "2.00").await;
}

#[tokio::test]
async fn nobody_is_answered_from_a_select_that_was_sent_before_he_asked() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let reading = shop.api_behind(Some(&mysql), None).await;
    shop.set_entry(ID, "W2:somebody").await;
    mysql.hold_reply_to("id IN (1)");
    let early = tokio::spawn(reading.request("GET", &format!("/v1/products/{ID}")).send());
    mysql.caught().await;
    assert_eq!(api.put_price(ID, "2.00").await.status, 200);
    shop.set_entry(ID, "W3:somebody").await;
    let late = tokio::spawn(reading.request("GET", &format!("/v1/products/{ID}")).send());
    // It waits for the statement after the one that is held, or flies by itself: either way it has asked.
    let bypassed = async || metric_in(&reading.metrics().await, "inventory_cache_requests_total{result=\"bypass\"}") == Some(2.0);
    eventually("the second read has asked", SOON, async || bypassed().await.then_some(())).await;
    mysql.release();
    let late: serde_json::Value = late.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((&late["version"], &late["price"]["amount"]), (&2.into(), &"2.00".into()), "{late}");
    assert_eq!(early.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_write_whose_publish_is_lost_is_acknowledged_and_read_right() {
    let (shop, api) = shop().await;
    assert!(api.see(ID).await.is(1, "1.00"));
    let (redis, writing) = api_behind_redis_proxy(&shop).await;
    redis.hold_request_with("D2|");
    let write = write(&writing, "2.00");
    redis.caught().await;
    redis.cut();
    assert_eq!(write.await.unwrap().0, 200);
    assert_shown([&api, &writing], 2, "2.00").await;
    assert!(shop.entry(ID).await.is_some_and(|entry| entry.starts_with("W2:")), "the marker stays");
}

#[tokio::test]
async fn a_write_that_cannot_be_announced_is_refused_and_never_seen() {
    let (shop, api) = shop().await;
    let (redis, writing) = api_behind_redis_proxy(&shop).await;
    assert!(writing.see(ID).await.is(1, "1.00"));
    redis.refuse();
    redis.cut();
    let answer = writing.put_price(ID, "2.00").await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(shop.price(ID).await, (1, "1.00".into()));
    assert_shown([&api, &writing], 1, "1.00").await;
    redis.accept();
    let set = eventually("Redis is back", SOON, async || {
        let answer = writing.put_price(ID, "3.00").await;
        (answer.status == 200).then_some(answer.json())
    })
    .await;
    assert_eq!(set["version"], 2, "what was refused left no version behind");
    assert_shown([&api, &writing], 2, "3.00").await;
}

#[tokio::test]
async fn a_mark_that_arrives_after_its_write_was_refused_costs_uncached_reads_only() {
    let (shop, api) = shop().await;
    assert!(api.see(ID).await.is(1, "1.00"));
    let (redis, writing) = api_behind_redis_proxy(&shop).await;
    redis.hold_request_with("W2:");
    let write = write(&writing, "2.00");
    redis.caught().await;
    assert_eq!(write.await.unwrap(), (503, "/problems/unavailable".into()));
    assert_eq!(shop.price(ID).await, (1, "1.00".into()));
    redis.release();
    marked(&shop, 2).await;
    assert_shown([&api, &writing], 1, "1.00").await;
    assert!(shop.entry(ID).await.is_some_and(|entry| entry.starts_with("W2:")), "a reader leaves a marker alone");
    assert_eq!(api.put_price(ID, "3.00").await.status, 200, "the next writer marks over it");
    assert_shown([&api, &writing], 2, "3.00").await;
}

#[tokio::test]
async fn a_commit_without_a_reply_is_reported_as_unknown_and_reads_agree() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    // Once with the COMMIT lost on its way, once with its reply lost.
    for (lost_before, version, amount) in [(true, 1, "1.00"), (false, 2, "2.00")] {
        if lost_before {
            mysql.hold_commit();
        } else {
            mysql.hold_reply_to_commit();
        }
        let write = write(&writing, "2.00");
        mysql.caught().await;
        if !lost_before {
            eventually("the COMMIT took effect", SOON, async || (shop.price(ID).await.0 == 2).then_some(())).await;
        }
        mysql.cut();
        assert_eq!(write.await.unwrap(), (503, "/problems/outcome-unknown".into()));
        mysql.release();
        eventually("the row is free", SOON, async || api.see(ID).await.is(version, amount).then_some(())).await;
        assert_shown([&api, &writing], version, amount).await;
        assert_eq!(shop.price(ID).await, (version, amount.into()));
    }
}

#[tokio::test]
async fn a_commit_that_lands_after_its_write_was_given_up_is_shown_from_then_on() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    mysql.hold_commit();
    let write = write(&writing, "2.00");
    mysql.caught().await;
    shop.drop_entry(ID).await;
    assert!(api.see(ID).await.is(1, "1.00"), "not committed yet");
    assert_eq!(write.await.unwrap(), (503, "/problems/outcome-unknown".into()));
    shop.drop_entry(ID).await;
    assert!(api.see(ID).await.is(1, "1.00"), "not committed yet");
    mysql.release();
    eventually("the COMMIT lands", SOON, async || (shop.price(ID).await.0 == 2).then_some(())).await;
    assert_shown([&api, &writing], 2, "2.00").await;
    let again = api.put_price(ID, "2.00").await;
    assert_eq!((again.status, again.json()["version"].as_u64()), (200, Some(2)), "the client's repeat changes nothing");
    assert_shown([&api, &writing], 2, "2.00").await;
}

#[tokio::test]
async fn a_redis_that_comes_back_with_older_data_is_not_believed() {
    let (mut shop, api) = shop().await;
    let other = shop.api().await;
    assert!(api.see(ID).await.is(1, "1.00"));
    assert_eq!(api.see(ID).await.cache, "hit");
    let older = shop.keep_redis_log();
    assert_eq!(other.put_price(ID, "2.00").await.status, 200);
    assert_shown([&api, &other], 2, "2.00").await;
    shop.restart_redis_with(Some(&older));
    let mut redis = shop.redis_connection().await;
    let restored: Vec<String> = redis::cmd("KEYS").arg("*:p:1").query_async(&mut redis).await.unwrap();
    assert_eq!(restored.len(), 1, "the older entry is back: {restored:?}");
    for api in [&api, &other] {
        eventually("Redis is used again", SOON, async || {
            let seen = api.see(ID).await;
            assert!(seen.is(2, "2.00"), "{seen:?}");
            (seen.cache == "hit").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_emptied_cache_shows_nothing_old_and_is_filled_again() {
    let (mut shop, api) = shop().await;
    let other = shop.api().await;
    let mut version = 1;
    for emptied in ["flushed", "entries deleted", "restarted empty"] {
        assert_shown([&api, &other], version, &format!("{version}.00")).await;
        version += 1;
        let amount = format!("{version}.00");
        assert_eq!(api.put_price(ID, &amount).await.status, 200);
        match emptied {
            "flushed" => redis::cmd("FLUSHALL").exec_async(&mut shop.redis_connection().await).await.unwrap(),
            "entries deleted" => shop.drop_cache().await,
            _ => shop.restart_redis_with(None),
        }
        for api in [&other, &api] {
            eventually(&format!("the cache is used again after it was {emptied}"), Duration::from_secs(5), async || {
                let seen = api.see(ID).await;
                assert!(seen.is(version, &amount), "{emptied}: {seen:?}");
                (seen.cache == "hit").then_some(())
            })
            .await;
        }
    }
}
