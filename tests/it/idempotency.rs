//! Writes that come with an `Idempotency-Key`: done once, whatever is lost, repeated or killed on the way.

use harness::{Program, Proxy, Reply, SOON, Shop, eventually};
use serde_json::json;
use telemetry::tokens::Digest;
use tokio::task::JoinHandle;

const PRICE: &str = "/v1/products/1/price";

/// A shop with one product at 1.00 and an API.
async fn shop() -> (Shop, Program) {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    (shop, api)
}

fn keyed(api: &Program, method: &str, path: &str, key: &str, body: &str) -> reqwest::RequestBuilder {
    let request = api.request(method, path).header("idempotency-key", key);
    request.header("content-type", "application/json").body(body.to_owned())
}

fn pounds(amount: &str) -> String {
    json!({"amount": amount, "currency": "GBP"}).to_string()
}

async fn put(api: &Program, key: &str, amount: &str) -> Reply {
    Reply::to(keyed(api, "PUT", PRICE, key, &pounds(amount))).await
}

fn started(request: reqwest::RequestBuilder) -> JoinHandle<Reply> {
    tokio::spawn(Reply::to(request))
}

async fn keys(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM idempotency").await
}

async fn changes(shop: &Shop) -> u64 {
    shop.number("SELECT COUNT(*) FROM price_history").await
}

/// Waits until so many requests wait for the row of a key.
async fn waiting(shop: &Shop, count: u64) {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND info LIKE 'INSERT INTO idempotency%'",
        shop.database()
    );
    eventually("others wait for the key", SOON, async || (shop.number(&sql).await == count).then_some(())).await;
}

fn assert_replayed(again: &Reply, first: &Reply) {
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    for name in ["etag", "location", "content-type", "cache-control"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
}

#[tokio::test]
async fn a_repeated_price_is_answered_as_the_first_was_and_changes_nothing() {
    let (shop, api) = shop().await;
    let other = shop.api().await;
    let first = put(&api, "k1", "2.00").await;
    assert_eq!((first.status, first.header("etag")), (200, "\"2\""));
    assert_eq!(api.put_price(1, "3.00").await.status, 200);
    let entry = shop.entry(1).await;
    for api in [&api, &other] {
        assert_replayed(&put(api, "k1", "2.00").await, &first);
    }
    let stale = keyed(&api, "PUT", PRICE, "k1", &pounds("2.00")).header("if-match", "\"1\"");
    assert_replayed(&Reply::to(stale).await, &first);
    assert_eq!((shop.price(1).await, shop.entry(1).await, changes(&shop).await), ((3, "3.00".into()), entry, 2));

    let same = put(&api, "k2", "3.00").await;
    assert_eq!((same.status, same.header("etag")), (200, "\"3\""), "the price that is there");
    assert_eq!(api.put_price(1, "4.00").await.status, 200);
    assert_replayed(&put(&other, "k2", "3.00").await, &same);
    assert_eq!((shop.price(1).await, keys(&shop).await), ((4, "4.00".into()), 2));
}

#[tokio::test]
async fn a_repeated_product_is_made_once_and_found_where_it_was_made() {
    let (shop, api) = shop().await;
    let body = r#"{"sku":"NEW","name":"New","description":"é","price":{"amount":"2.1","currency":"GBP"}}"#;
    let first = Reply::to(keyed(&api, "POST", "/v1/products", "k", body)).await;
    assert_eq!(first.status, 201);
    assert_eq!(api.put_price(first.json()["id"].as_u64().unwrap(), "9.00").await.status, 200);
    assert_replayed(&Reply::to(keyed(&api, "POST", "/v1/products", "k", body)).await, &first);
    let without = api.send("POST", "/v1/products", body).await;
    without.problem(409, "duplicate-sku");
    assert_eq!(shop.number("SELECT COUNT(*) FROM products").await, 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_route() {
    let (shop, api) = shop().await;
    shop.run("INSERT INTO products (id, sku) VALUES (2, 'P2')").await;
    assert_eq!(put(&api, "k", "2.00").await.status, 200);
    put(&api, "k", "3.00").await.problem(422, "idempotency-key-reused");
    let spaced = Reply::to(keyed(&api, "PUT", PRICE, "k", &format!("{} ", pounds("2.00")))).await;
    spaced.problem(422, "idempotency-key-reused");
    let other = Reply::to(keyed(&api, "PUT", "/v1/products/2/price", "k", &pounds("2.00"))).await;
    other.problem(422, "idempotency-key-reused");
    assert_eq!(put(&api, "K", "2.00").await.header("idempotent-replayed"), "", "upper and lower case differ");
    let made = Reply::to(keyed(&api, "POST", "/v1/products", "k", r#"{"sku":"NEW","name":"New"}"#)).await;
    assert_eq!(made.status, 201, "another route has keys of its own");
    for bad in ["", "a b", "\u{e9}", &"x".repeat(256)] {
        put(&api, bad, "9.00").await.problem(400, "invalid-header");
    }
    assert_eq!((shop.price(1).await, keys(&shop).await), ((2, "2.00".into()), 3));
}

#[tokio::test]
async fn a_refusal_leaves_no_key_and_is_judged_afresh() {
    let (mut shop, api) = shop().await;
    let missing = async || Reply::to(keyed(&api, "PUT", "/v1/products/2/price", "k", &pounds("2.00"))).await;
    missing().await.problem(404, "unknown-product");
    let stale = keyed(&api, "PUT", PRICE, "k", &pounds("2.00")).header("if-match", "\"7\"");
    Reply::to(stale).await.problem(412, "precondition-failed");
    let taken = async || Reply::to(keyed(&api, "POST", "/v1/products", "k", r#"{"sku":"P1","name":"New"}"#)).await;
    taken().await.problem(409, "duplicate-sku");
    put(&api, "k", "-1").await.problem(422, "validation-failed");
    assert_eq!(keys(&shop).await, 0);
    shop.run("INSERT INTO products (id, sku) VALUES (2, 'P2')").await;
    shop.run("UPDATE products SET sku = 'elsewhere' WHERE id = 1").await;
    assert_eq!((missing().await.status, taken().await.status), (200, 201));
    assert_eq!(keys(&shop).await, 2);
    // A store that is away refuses as well, but what was done is still known.
    shop.redis.kill();
    put(&api, "k1", "5.00").await.problem(503, "unavailable");
    assert_eq!(missing().await.header("idempotent-replayed"), "true");
    assert_eq!((shop.price(1).await, keys(&shop).await), ((1, "1.00".into()), 2));
}

#[tokio::test]
async fn without_a_key_nothing_is_kept() {
    let (shop, api) = shop().await;
    assert_eq!(api.put_price(1, "2.00").await.status, 200);
    assert_eq!(api.put_price(1, "2.00").await.status, 200);
    assert_eq!(api.send("POST", "/v1/products", r#"{"sku":"NEW","name":"New"}"#).await.status, 201);
    assert_eq!(keys(&shop).await, 0);
    assert_eq!(api.metric("inventory_idempotency_total{result=\"executed\"}").await, 0.0);
}

#[tokio::test]
async fn of_two_requests_with_one_key_one_runs_and_the_other_has_its_answer() {
    let (shop, api) = shop().await;
    let other = shop.api().await;
    let row = shop.lock("products WHERE id = 1").await;
    let first = started(keyed(&api, "PUT", PRICE, "k", &pounds("2.00")));
    eventually("the first holds the key", SOON, async || shop.is_locked("idempotency").await.then_some(())).await;
    let second = started(keyed(&other, "PUT", PRICE, "k", &pounds("2.00")));
    waiting(&shop, 1).await;
    row.release().await;
    assert_replayed(&second.await.unwrap(), &first.await.unwrap());
    assert_eq!((shop.price(1).await, changes(&shop).await), ((2, "2.00".into()), 1));
}

#[tokio::test]
async fn a_request_whose_first_does_not_end_is_told_to_come_again() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let slow = shop.api_behind(Some(&mysql), None).await;
    mysql.hold_commit();
    let first = started(keyed(&slow, "PUT", PRICE, "k", &pounds("2.00")));
    mysql.caught().await;
    let second = put(&api, "k", "2.00").await;
    second.problem(409, "request-in-progress");
    assert_eq!(second.header("retry-after"), "1");
    mysql.release();
    assert_replayed(&put(&api, "k", "2.00").await, &first.await.unwrap());
    assert_eq!(changes(&shop).await, 1);
    for (result, count) in [("in_progress", 1.0), ("replayed", 1.0), ("executed", 0.0), ("mismatch", 0.0)] {
        assert_eq!(api.metric(&format!("inventory_idempotency_total{{result=\"{result}\"}}")).await, count, "{result}");
    }
    assert_eq!(slow.metric("inventory_idempotency_total{result=\"executed\"}").await, 1.0);
}

/// When the first is refused, the server lets one of those who wait go on and has the others begin again: a deadlock that is
/// nobody's fault, and that nobody is told of.
#[tokio::test]
async fn when_the_first_is_refused_all_who_waited_for_it_are_judged_afresh() {
    // Of one process they wait in memory; of several they wait for the row of the key.
    const WAITING: u64 = 3;
    let (shop, api) = shop().await;
    let mut apis = Vec::new();
    for _ in 0..WAITING {
        apis.push(shop.api().await);
    }
    let row = shop.lock("products WHERE id = 1").await;
    let request = |api: &Program| started(keyed(api, "PUT", PRICE, "k", &pounds("2.00")));
    let first = request(&api);
    eventually("the first holds the key", SOON, async || shop.is_locked("idempotency").await.then_some(())).await;
    let others: Vec<_> = apis.iter().chain([&api]).map(request).collect();
    waiting(&shop, WAITING).await;
    row.end("UPDATE products SET deleted_at = NOW(6)").await;
    for request in std::iter::once(first).chain(others) {
        request.await.unwrap().problem(404, "unknown-product");
    }
    assert_eq!(keys(&shop).await, 0);
}

#[tokio::test]
async fn an_api_killed_between_commit_and_answer_has_done_it_once() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let mut dying = shop.api_behind(Some(&mysql), None).await;
    mysql.hold_reply_to_commit();
    let lost = tokio::spawn(keyed(&dying, "PUT", PRICE, "k", &pounds("2.00")).send());
    mysql.caught().await;
    eventually("it is committed", SOON, async || (shop.price(1).await.0 == 2).then_some(())).await;
    dying.kill();
    assert!(lost.await.unwrap().is_err(), "nobody was answered");
    let again = put(&api, "k", "2.00").await;
    assert_eq!((again.status, again.header("etag"), again.header("idempotent-replayed")), (200, "\"2\"", "true"));
    assert_eq!((again.json()["amount"].as_str(), changes(&shop).await), (Some("2.00"), 1));
    assert!(api.see(1).await.is(2, "2.00"));
}

#[tokio::test]
async fn a_lost_reply_to_commit_is_told_as_unknown_and_the_same_request_tells() {
    let (shop, api) = shop().await;
    let mysql = Proxy::to(shop.mysql_port()).await;
    let writing = shop.api_behind(Some(&mysql), None).await;
    for (key, amount, lands) in [("landed", "2.00", true), ("lost", "3.00", false)] {
        if lands {
            mysql.hold_reply_to_commit()
        } else {
            mysql.hold_commit()
        }
        let unknown = started(keyed(&writing, "PUT", PRICE, key, &pounds(amount)));
        mysql.caught().await;
        mysql.cut();
        unknown.await.unwrap().problem(503, "outcome-unknown");
        mysql.release();
        let again = eventually("the server has ended the lost transaction", SOON, async || {
            Some(put(&api, key, amount).await).filter(|again| again.status != 409)
        })
        .await;
        assert_eq!((again.status, again.header("idempotent-replayed") == "true"), (200, lands), "{key}");
    }
    assert_eq!((shop.price(1).await, changes(&shop).await), ((3, "3.00".into()), 2));
}

#[tokio::test]
async fn keys_of_different_tokens_do_not_meet() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let token = |name: &str| {
        let hash = Digest::of(format!("inv_secret-of-{name}").as_bytes()).hex();
        format!("[[token]]\nname = \"{name}\"\nscopes = [\"prices:write\"]\nsha256 = \"{hash}\"\n")
    };
    let file = shop.dir().join("tokens.toml");
    std::fs::write(&file, token("till") + &token("office")).unwrap();
    let api = shop.api_with(&[("INVENTORY_TOKENS_FILE", file.to_str().unwrap().to_owned())]).await;
    let put = async |name: &str, amount: &str| {
        Reply::to(keyed(&api, "PUT", PRICE, "k", &pounds(amount)).bearer_auth(format!("inv_secret-of-{name}"))).await
    };
    let (till, office) = (put("till", "2.00").await, put("office", "3.00").await);
    assert_eq!((till.json()["version"].as_u64(), office.json()["version"].as_u64()), (Some(2), Some(3)));
    assert_replayed(&put("till", "2.00").await, &till);
    assert_replayed(&put("office", "3.00").await, &office);
}

/// Many clients, few keys, two instances: each key has one answer and one row of history.
#[tokio::test]
async fn under_load_each_key_is_done_once() {
    const KEYS: u64 = 10;
    const CLIENTS: usize = 8;
    let (shop, api) = shop().await;
    let apis = [api, shop.api().await];
    let client = async |api: &Program| {
        let mut answers = Vec::new();
        for n in 0..KEYS {
            let (key, amount) = (format!("k{n}"), format!("{}.00", n + 2));
            let answer = eventually("the key has an answer", SOON, async || {
                let answer = put(api, &key, &amount).await;
                assert!([200, 409].contains(&answer.status), "{answer:?}");
                (answer.status == 200).then_some(answer)
            })
            .await;
            answers.push(answer.text);
        }
        answers
    };
    let all = futures_util::future::join_all((0..CLIENTS).map(|n| client(&apis[n % 2]))).await;
    assert!(all.iter().all(|answers| *answers == all[0]), "{all:?}");
    assert_eq!((changes(&shop).await, keys(&shop).await, shop.price(1).await.0), (KEYS, KEYS, KEYS + 1));
}

#[tokio::test]
async fn a_repeated_batch_is_answered_as_the_first_was_and_changes_nothing() {
    const PATH: &str = "/v1/prices/batch";
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    let row = |sku: &str, amount: &str| json!({"sku": sku, "amount": amount, "currency": "GBP"});
    let send =
        async |path: &str, rows: &[serde_json::Value]| Reply::to(keyed(&api, "POST", path, "k", &json!({"items": rows}).to_string())).await;
    send(PATH, &[row("P1", "2"), row("nobody", "2")]).await.problem(422, "validation-failed");
    let tried = send(&format!("{PATH}?dry_run=true"), &[row("P1", "2")]).await;
    assert_eq!((tried.status, keys(&shop).await, changes(&shop).await), (200, 0, 0), "neither leaves anything");

    let some = [row("P1", "2"), row("P2", "2"), row("nobody", "2")];
    let path = format!("{PATH}?on_error=skip_failed");
    let first = send(&path, &some).await;
    assert_eq!((first.status, changes(&shop).await), (207, 2));
    assert_eq!(api.put_price(1, "3.00").await.status, 200);
    assert_replayed(&send(&path, &some).await, &first);
    assert_eq!((changes(&shop).await, api.see(1).await.amount.as_str()), (3, "3.00"));
    send(&path, &[row("P3", "2")]).await.problem(422, "idempotency-key-reused");
    send(PATH, &some).await.problem(422, "idempotency-key-reused");
    assert_eq!((keys(&shop).await, changes(&shop).await), (1, 3));
}
