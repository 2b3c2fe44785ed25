//! Reservations step by step, with what would oversell, refuse or do twice put between the steps.

use harness::{Program, Proxy, Reply, SOON, Shop, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const RESERVATIONS: &str = "/v1/reservations";

/// How long a session waits for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How old the availability in a product read may be.
const ADVISORY: Duration = Duration::from_secs(2);

/// A shop with so many products, and an API through which each of them was counted.
async fn shop(products: u64, on_hand: i64) -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(products).await;
    let api = shop.api().await;
    for product in 1..=products {
        count(&api, product, "\"0\"", on_hand).await;
    }
    (shop, api)
}

async fn count(api: &Program, product: u64, version: &str, on_hand: i64) {
    let request = api.request("PUT", &format!("/v1/products/{product}/stock")).header("if-match", version);
    let counted = Reply::to(request.header("content-type", "application/json").body(json!({"on_hand": on_hand}).to_string())).await;
    assert_eq!(counted.status, 200, "{counted:?}");
}

/// A reservation to be asked for; `basket` has products and quantities.
fn reservation(api: &Program, key: &str, basket: &[(u64, u64)], ttl_seconds: u64) -> reqwest::RequestBuilder {
    let items: Vec<Value> = basket.iter().map(|(product, quantity)| json!({"product_id": product, "quantity": quantity})).collect();
    let body = json!({"items": items, "ttl_seconds": ttl_seconds, "reference": key}).to_string();
    let request = api.request("POST", RESERVATIONS).header("idempotency-key", key);
    request.header("content-type", "application/json").body(body)
}

async fn reserve(api: &Program, key: &str, basket: &[(u64, u64)]) -> Reply {
    Reply::to(reservation(api, key, basket, 900)).await
}

fn started(request: reqwest::RequestBuilder) -> JoinHandle<Reply> {
    tokio::spawn(Reply::to(request))
}

fn id(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn close(api: &Program, id: &str, verb: &str) -> Reply {
    Reply::to(api.request("POST", &format!("{RESERVATIONS}/{id}/{verb}"))).await
}

/// On hand and reserved of a product in MySQL.
async fn stock(shop: &Shop, product: u64) -> (i64, i64) {
    let rows = shop.rows(&format!("SELECT on_hand, reserved FROM stock WHERE product_id = {product}")).await;
    rows.into_iter().next().unwrap_or_default()
}

/// Ids and states of the reservations with this reference.
async fn rows(shop: &Shop, reference: &str) -> Vec<(String, String)> {
    shop.rows(&format!("SELECT id, state FROM reservations WHERE reference = '{reference}'")).await
}

async fn availability(api: &Program, product: u64) -> (Value, String) {
    let read = api.get(&format!("/v1/products/{product}")).await;
    assert_eq!(read.status, 200, "{read:?}");
    (read.json()["availability"]["available"].clone(), read.header("cache-status").to_owned())
}

#[tokio::test]
async fn a_reservation_whose_commit_is_not_answered_is_told_by_its_key() {
    let (shop, api) = shop(1, 10).await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let behind = shop.api_behind(Some(&mysql), None).await;
    // Once with the COMMIT lost on its way, once with its reply lost.
    for (key, is_lost) in [("lost", true), ("unheard", false)] {
        let before = stock(&shop, 1).await;
        if is_lost {
            mysql.hold_commit();
        } else {
            mysql.hold_reply_to_commit();
        }
        let sent = started(reservation(&behind, key, &[(1, 2)], 900));
        mysql.caught().await;
        if !is_lost {
            eventually("the COMMIT took effect", SOON, async || (stock(&shop, 1).await.1 == before.1 + 2).then_some(())).await;
        }
        mysql.cut();
        sent.await.unwrap().problem(503, "outcome-unknown");
        mysql.release();
        let there = rows(&shop, key).await;
        assert_eq!(there.len(), usize::from(!is_lost));
        let again = eventually("its key tells", SOON, async || {
            let again = reserve(&api, key, &[(1, 2)]).await;
            (again.status == 201).then_some(again)
        })
        .await;
        assert_eq!(again.header("idempotent-replayed"), if is_lost { "" } else { "true" }, "{again:?}");
        assert_eq!(rows(&shop, key).await, [(id(&again), "active".to_owned())]);
        assert!(there.iter().all(|(there, _)| *there == id(&again)));
        assert_eq!(stock(&shop, 1).await, (10, before.1 + 2), "once");
    }
}

/// Waits until an API stands in its transaction, before a row of stock that another holds.
async fn waits_for_a_row(shop: &Shop) {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND user = 'inventory_api' AND info LIKE '%FROM stock%FOR UPDATE%'",
        shop.database()
    );
    eventually("an API waits for a row of stock", SOON, async || (shop.number(&sql).await > 0).then_some(())).await;
}

#[tokio::test]
async fn a_retry_that_comes_while_its_first_try_commits_is_answered_as_that_and_not_refused_for_what_it_took() {
    let (shop, api) = shop(1, 3).await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let behind = shop.api_behind(Some(&mysql), None).await;
    mysql.hold_commit();
    let first = started(reservation(&behind, "all", &[(1, 3)], 900));
    mysql.caught().await;
    let again = started(reservation(&api, "all", &[(1, 3)], 900));
    waits_for_a_row(&shop).await;
    mysql.release();
    let (first, again) = (first.await.unwrap(), again.await.unwrap());
    assert_eq!((id(&first), again.header("idempotent-replayed")), (id(&again), "true"), "{again:?}");
    assert_eq!((stock(&shop, 1).await, rows(&shop, "all").await.len()), ((3, 3), 1));
}

#[tokio::test]
async fn what_expired_is_there_for_the_next_buyer_without_any_worker() {
    let (shop, api) = shop(3, 3).await;
    let first = id(&Reply::to(reservation(&api, "first", &[(3, 1), (1, 3)], 1)).await);
    let second = id(&Reply::to(reservation(&api, "second", &[(2, 3)], 1)).await);
    reserve(&api, "early", &[(1, 1)]).await.problem(409, "insufficient-stock");
    for id in [&first, &second] {
        eventually("its time is over", SOON, async || {
            let read = api.get(&format!("{RESERVATIONS}/{id}")).await.json();
            (read["state"] == "expired").then_some(())
        })
        .await;
    }
    assert_eq!(stock(&shop, 1).await, (3, 3), "nobody has written it down yet");
    let bought = id(&reserve(&api, "next", &[(1, 3), (2, 2), (3, 3)]).await);
    assert_eq!(close(&api, &bought, "commit").await.status, 200);
    assert_eq!([stock(&shop, 1).await, stock(&shop, 2).await, stock(&shop, 3).await], [(0, 0), (1, 0), (0, 0)]);
    for (reference, id) in [("first", &first), ("second", &second)] {
        assert_eq!(rows(&shop, reference).await, [(id.clone(), "expired".to_owned())]);
        let refused = close(&api, id, "commit").await.problem(409, "reservation-not-active");
        assert_eq!(refused["state"], "expired");
    }
    let kinds: Vec<String> = shop.rows("SELECT kind FROM stock_movements WHERE product_id = 1 ORDER BY id").await;
    assert_eq!(kinds, ["count", "reserve", "expire", "reserve", "commit"]);
}

#[tokio::test]
async fn of_many_who_want_the_last_one_through_two_apis_exactly_one_gets_it() {
    const ROUNDS: u64 = 12;
    let (shop, api) = shop(ROUNDS, 1).await;
    let other = shop.api().await;
    for product in 1..=ROUNDS {
        let asks = (0..8).map(|nth| {
            let through = if nth % 2 == 0 { &api } else { &other };
            started(reservation(through, &format!("{product}-{nth}"), &[(product, 1)], 900))
        });
        let (mut got, mut refused) = (0, 0);
        for ask in asks.collect::<Vec<_>>() {
            let answer = ask.await.unwrap();
            if answer.status == 201 {
                got += 1;
            } else {
                let refusal = answer.problem(409, "insufficient-stock");
                assert_eq!(refusal["shortages"], json!([{"product_id": product, "requested": 1, "available": 0}]));
                refused += 1;
            }
        }
        assert_eq!((got, refused, stock(&shop, product).await), (1, 7, (1, 1)), "product {product}");
    }
}

#[tokio::test]
async fn a_row_that_others_hold_for_five_seconds_stops_no_other_product_for_longer_than_a_lock_wait() {
    const HELD: Duration = Duration::from_secs(5);
    let (shop, api) = shop(4, 1_000).await;
    let bought = id(&reserve(&api, "bought", &[(1, 1), (2, 1)]).await);
    let row = shop.lock("stock WHERE product_id = 1").await;
    let (began, mut longest, mut reserved) = (Instant::now(), Duration::ZERO, 0);
    let mut held_up = Vec::new();
    while began.elapsed() < HELD {
        // Some name the product, others a reservation that has it.
        if reserved % 4 == 0 {
            held_up.push(started(api.request("POST", &format!("{RESERVATIONS}/{bought}/release"))));
        }
        held_up.push(started(reservation(&api, &format!("held-{reserved}"), &[(1, 1)], 900)));
        let asked = Instant::now();
        let free = reserve(&api, &format!("free-{reserved}"), &[(2 + reserved % 3, 1)]).await;
        assert_eq!(free.status, 201, "after {:?}: {free:?}", asked.elapsed());
        longest = longest.max(asked.elapsed());
        reserved += 1;
    }
    row.release().await;
    println!("{reserved} reservations beside the row, the longest took {longest:?}");
    // And a second for a busy machine.
    assert!(longest < LOCK_WAIT + Duration::from_secs(1), "{longest:?}");
    let mut got = 0;
    for answer in held_up {
        let answer = answer.await.unwrap();
        assert!([200, 201, 503].contains(&answer.status) && !answer.text.to_lowercase().contains("lock wait"), "{answer:?}");
        got += i64::from(answer.status == 201);
    }
    assert_eq!(close(&api, &bought, "release").await.status, 200);
    assert_eq!(stock(&shop, 1).await, (1_000, got), "who was refused has nothing");
    assert_eq!(reserve(&api, "after", &[(1, 1)]).await.status, 201);
}

#[tokio::test]
async fn of_a_group_that_is_reserved_together_those_that_fail_leave_the_others_alone() {
    let (shop, _) = shop(3, 5).await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let behind = shop.api_behind(Some(&mysql), None).await;
    assert_eq!(reserve(&behind, "used", &[(3, 1)]).await.status, 201);
    let groups = async || behind.metric("inventory_stock_group_changes_count").await;
    let before = groups().await;

    mysql.hold_commit();
    let first = started(reservation(&behind, "first", &[(1, 1)], 900));
    mysql.caught().await;
    // One transaction is under way, so what comes now waits for the next.
    let asked = [
        started(reservation(&behind, "fits", &[(2, 4)], 900)),
        started(reservation(&behind, "too-much", &[(1, 1), (2, 6)], 900)),
        started(reservation(&behind, "unknown", &[(1, 1), (99, 1)], 900)),
        started(reservation(&behind, "used", &[(3, 2)], 900)),
        started(reservation(&behind, "fits-too", &[(3, 4), (1, 4)], 900)),
    ];
    eventually("all wait", SOON, async || (behind.metric("inventory_stock_waiting").await >= 5.0).then_some(())).await;
    mysql.release();
    assert_eq!(first.await.unwrap().status, 201);
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    let [fits, too_much, unknown, used, fits_too] = answers.try_into().unwrap();
    assert_eq!((fits.status, fits_too.status), (201, 201), "{fits:?} {fits_too:?}");
    let refusal = too_much.problem(409, "insufficient-stock");
    assert!(refusal["shortages"].as_array().unwrap().iter().any(|shortage| shortage["product_id"] == 2), "{refusal}");
    assert_eq!(unknown.problem(404, "unknown-product")["errors"][0]["pointer"], "/items/1/product_id");
    used.problem(422, "idempotency-key-reused");
    assert_eq!(groups().await - before, 2.0, "the first, and all the others together");
    assert_eq!([stock(&shop, 1).await, stock(&shop, 2).await, stock(&shop, 3).await], [(5, 5), (5, 4), (5, 5)]);
    assert_eq!(shop.number("SELECT COUNT(*) FROM reservations").await, 4);
    assert_eq!(shop.number("SELECT COUNT(*) FROM idempotency").await, 4, "refusals leave no key");
}

#[tokio::test]
async fn of_a_group_those_that_were_reserved_are_told_so_where_what_expired_cannot_be_freed_for_the_others() {
    let (shop, api) = shop(2, 5).await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let behind = shop.api_behind(Some(&mysql), None).await;
    let old = id(&Reply::to(reservation(&api, "old", &[(2, 5)], 1)).await);
    eventually("its time is over", SOON, async || {
        let read = api.get(&format!("{RESERVATIONS}/{old}")).await.json();
        (read["state"] == "expired").then_some(())
    })
    .await;
    mysql.hold_commit();
    let first = started(reservation(&behind, "first", &[(1, 1)], 900));
    mysql.caught().await;
    let fits = started(reservation(&behind, "fits", &[(1, 2)], 900));
    let short = started(reservation(&behind, "short", &[(2, 1)], 900));
    eventually("both wait", SOON, async || (behind.metric("inventory_stock_waiting").await >= 3.0).then_some(())).await;
    // Which also releases what was held.
    mysql.hold_request_with("AND EXISTS (SELECT 1 FROM reservation_items");
    mysql.caught().await;
    mysql.cut();
    mysql.release();
    assert_eq!(first.await.unwrap().status, 201);
    let fits = fits.await.unwrap();
    assert_eq!(rows(&shop, "fits").await, [(id(&fits), "active".to_owned())]);
    short.await.unwrap().problem(503, "unavailable");
    assert_eq!((stock(&shop, 1).await, stock(&shop, 2).await), ((5, 3), (5, 5)));
    assert_eq!(reserve(&behind, "short", &[(2, 1)]).await.status, 201);
}

#[tokio::test]
async fn stock_goes_on_while_redis_is_away_and_availability_follows_when_it_is_back() {
    let (mut shop, api) = shop(1, 20).await;
    eventually("the record is cached", SOON, async || {
        let (available, cache) = availability(&api, 1).await;
        (available == 20 && cache.ends_with("hit")).then_some(())
    })
    .await;
    shop.redis.kill();
    let kept = id(&reserve(&api, "kept", &[(1, 3)]).await);
    let dropped = id(&reserve(&api, "dropped", &[(1, 4)]).await);
    assert_eq!(close(&api, &kept, "commit").await.status, 200);
    assert_eq!(close(&api, &dropped, "release").await.status, 200);
    let adjust = api.request("POST", "/v1/products/1/stock/adjustments").header("idempotency-key", "found");
    let adjusted = Reply::to(adjust.header("content-type", "application/json").body(r#"{"delta":1}"#)).await;
    assert_eq!(adjusted.status, 201, "{adjusted:?}");
    assert_eq!(id(&reserve(&api, "kept", &[(1, 3)]).await), kept, "its key is known without Redis");
    assert_eq!(stock(&shop, 1).await, (18, 0));

    shop.redis.restart().unwrap();
    let back = Instant::now();
    eventually("availability follows", SOON, async || (availability(&api, 1).await.0 == 18).then_some(())).await;
    assert!(back.elapsed() < ADVISORY + Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test]
async fn the_cached_record_stays_a_hit_while_stock_moves_and_shows_it_within_two_seconds() {
    let (shop, api) = shop(1, 50).await;
    let other = shop.api().await;
    eventually("the record is cached", SOON, async || availability(&api, 1).await.1.ends_with("hit").then_some(())).await;
    for nth in 1..=5 {
        let moved = Instant::now();
        assert_eq!(reserve(&other, &format!("k{nth}"), &[(1, 2)]).await.status, 201);
        eventually("availability follows", SOON, async || {
            let (available, cache) = availability(&api, 1).await;
            assert!(cache.ends_with("hit"), "{cache}");
            (available == 50 - 2 * nth).then_some(())
        })
        .await;
        assert!(moved.elapsed() < ADVISORY + Duration::from_secs(1), "{:?}", moved.elapsed());
    }
    assert_eq!(shop.number("SELECT version FROM products WHERE id = 1").await, 1);
}
