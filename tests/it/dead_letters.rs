//! Dead letters: listed and shown, replayed exactly once, dropped, and always in the account.

use domain::view::{MAX_VIEWS_PER_PAIR, Writer};
use harness::{Books, SOON, Shop, eventually, record};
use serde_json::{Value, json};
use storage::Kind;
use storage::mysql::dead_letters::drop_piece;
use storage::redis::view_queue::push;
use uuid::Uuid;

/// One and two o'clock of 2100-01-01 UTC: nobody deletes their hours.
const ONE_MS: u64 = 4_102_448_400_000;
const TWO_MS: u64 = ONE_MS + 3_600_000;

/// Products of shard 0 that do not exist at first.
const LATE: u64 = 40;
const NEVER: u64 = 80;

/// A shop in which views of two unknown products, a count out of range and a text were set aside.
async fn shop_with_letters() -> (Shop, Books) {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, Writer::new(Uuid::new_v4()));
    books.push(&record(writer, 1, ONE_MS, &[(4, 1), (LATE, 2)])).await;
    books.push(&record(writer, 2, TWO_MS, &[(LATE, 5), (NEVER, 7), (8, MAX_VIEWS_PER_PAIR + 1)])).await;
    let mut redis = shop.redis_connection().await;
    let _: i64 = redis::cmd("RPUSH").arg("inventory:{0}:open").arg(&b"\x1b[2J rubbish\xff"[..]).query_async(&mut redis).await.unwrap();
    let mut worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, 14 + MAX_VIEWS_PER_PAIR + 1);
    let letters = "SELECT COUNT(*) FROM dead_letters";
    eventually("the text is set aside", SOON, async || (shop.number(letters).await == 5).then_some(())).await;
    worker.kill();
    (shop, books)
}

async fn make(shop: &Shop, id: u64) {
    shop.run(&format!("INSERT INTO products (id, sku) VALUES ({id}, 'P{id}')")).await;
}

async fn replay(shop: &Shop, which: &[&str], code: i32) -> Value {
    shop.ctl(None, &[&["dead-letters", "replay", "-o", "json"], which].concat()).await.json(code)
}

fn counts(report: &Value) -> [u64; 5] {
    ["done", "views", "already", "refused", "missing"].map(|field| report[field].as_u64().unwrap())
}

#[tokio::test]
async fn letters_are_listed_by_reason_and_product_and_one_is_shown_whole() {
    let (shop, _) = shop_with_letters().await;
    make(&shop, LATE).await;
    let list = async |more: &[&str]| shop.ctl(None, &[&["dead-letters", "list", "-o", "json"], more].concat()).await;
    let groups = list(&[]).await.json(0);
    let told: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|group| json!([group["reason"], group["product_id"], group["product_exists"], group["letters"], group["views"]]))
        .collect();
    let expected = json!([
        ["out_of_range", 8, true, 1, MAX_VIEWS_PER_PAIR + 1],
        ["unknown_product", LATE, true, 2, 7],
        ["unknown_product", NEVER, false, 1, 7],
        ["unparsable", null, false, 1, 0],
    ]);
    let sorted = |rows: &[Value]| {
        let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&told), sorted(expected.as_array().unwrap()));
    assert_eq!(told[0][0], "out_of_range", "the most views come first");
    assert!(groups[0]["oldest"].as_str().unwrap() <= groups[0]["newest"].as_str().unwrap());

    let one = list(&["--limit", "1"]).await;
    assert!(one.stderr.contains("there are more than these 1"), "{one:?}");
    assert_eq!(one.json(0).as_array().unwrap().len(), 1);
    for (which, letters) in [(&["--reason", "unknown_product"][..], 3), (&["--product", "P40"], 2), (&["--product", "id:80"], 1)] {
        let each = list(&[which, &["--each"]].concat()).await.json(0);
        assert_eq!(each.as_array().unwrap().len(), letters, "{each}");
    }
    assert_eq!(list(&["--product", "id:999"]).await.json(0), json!([]));
    assert_eq!(list(&["--product", "P999"]).await.code, Some(4));
    assert_eq!(list(&["--reason", "nonsense"]).await.code, Some(2));

    let text = list(&["--reason", "unparsable", "--each"]).await.json(0)[0]["id"].as_u64().unwrap().to_string();
    let shown = shop.ctl(None, &["dead-letters", "show", &text, "-o", "json"]).await.json(0);
    assert_eq!((&shown["payload"], &shown["state"], &shown["views"]), (&json!("\\x1b[2J rubbish\\xff"), &json!("dead"), &json!(0)));
    assert!(shown["detail"].as_str().unwrap().contains("UTF-8"), "{shown}");
    let table = shop.ctl(None, &["dead-letters", "show", &text]).await;
    assert!(!table.stdout.contains('\x1b') && table.stdout.contains("\\x1b[2J rubbish\\xff"), "{table:?}");
    assert_eq!(shop.ctl(None, &["dead-letters", "show", "99999"]).await.code, Some(4));
}

#[tokio::test]
async fn a_replay_adds_views_to_their_product_and_hours_once_and_leaves_dead_what_has_none() {
    let (shop, books) = shop_with_letters().await;
    let apis = [shop.api().await, shop.api().await];
    assert_eq!(counts(&replay(&shop, &["--product", "id:40"], 3).await), [0, 0, 0, 2, 0]);
    make(&shop, LATE).await;
    let trial = replay(&shop, &["--all", "--dry-run"], 3).await;
    assert_eq!((counts(&trial), &trial["dry_run"]), ([2, 7, 0, 3, 0], &json!(true)));
    for api in &apis {
        assert_eq!(shop.shown(api, LATE).await, 0, "a dry run changes nothing, and the total is cached now");
    }
    let before = books.account().await.unwrap().0;

    let done = shop.ctl(None, &["dead-letters", "replay", "--all", "-o", "json"]).await;
    for told in ["there is still no product 80", "it can only be dropped"] {
        assert!(done.stderr.contains(told), "{told} in {done:?}");
    }
    assert_eq!(counts(&done.json(3)), [2, 7, 0, 3, 0]);
    for api in &apis {
        assert_eq!(shop.shown(api, LATE).await, 7);
    }
    assert_eq!(shop.views(LATE).await, 7);
    let hours: Vec<(String, u64)> = shop.rows("SELECT CAST(hour AS CHAR), views FROM view_hours WHERE product_id = 40 ORDER BY hour").await;
    assert_eq!(hours, [("2100-01-01 01:00:00".to_owned(), 2), ("2100-01-01 02:00:00".to_owned(), 5)]);
    let after = books.account().await.unwrap().0;
    assert_eq!((after.persisted, after.dead, after.drift()), (before.persisted + 7, before.dead - 7, 0));
    assert_eq!(shop.number("SELECT COUNT(*) FROM dead_letters WHERE state = 'replayed'").await, 2);

    let ids: Vec<u64> = shop.rows("SELECT id FROM dead_letters WHERE product_id = 40 ORDER BY id").await;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(counts(&replay(&shop, &[&ids[0], &ids[1]], 0).await), [0, 0, 2, 0, 0]);
    assert_eq!(counts(&replay(&shop, &[&ids[0], "99999"], 3).await), [0, 0, 1, 0, 1]);
    assert_eq!(counts(&replay(&shop, &["99999"], 4).await), [0, 0, 0, 0, 1]);
    assert_eq!(counts(&replay(&shop, &["--product", "P40"], 0).await), [0; 5]);
    assert_eq!((shop.views(LATE).await, shop.shown(&apis[1], LATE).await), (7, 7));
    for wrong in [&[][..], &["1", "--all"], &["--all", "--reason", "unparsable"], &["x"]] {
        assert_eq!(shop.ctl(None, &[&["dead-letters", "replay"], wrong].concat()).await.code, Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn what_is_dropped_is_gone_for_good_and_stays_in_the_account_as_dead() {
    let (shop, books) = shop_with_letters().await;
    let (api, dead) = (shop.api().await, books.account().await.unwrap().0.dead);
    let drop = async |which: &[&str]| shop.ctl(None, &[&["dead-letters", "drop", "-o", "json"], which].concat()).await;
    let asked = drop(&["--reason", "unknown_product"]).await;
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(2), ""));
    assert!(asked.stderr.contains("3 dead letters with 14 views") && asked.stderr.contains("--yes"), "{asked:?}");
    let metric = async |letters: f64| {
        eventually("the metric tells the letters", SOON, async || {
            (api.metric("inventory_queue_dead_letters").await == letters).then_some(())
        })
        .await;
    };
    metric(5.0).await;
    assert_eq!(counts(&drop(&["--reason", "unparsable", "--yes"]).await.json(0)), [1, 0, 0, 0, 0]);
    assert_eq!(counts(&drop(&["--product", "id:40", "--yes"]).await.json(0)), [2, 7, 0, 0, 0]);
    metric(2.0).await;
    make(&shop, LATE).await;
    let ids: Vec<u64> = shop.rows("SELECT id FROM dead_letters WHERE product_id = 40").await;
    assert_eq!(counts(&replay(&shop, &[&ids[0].to_string()], 0).await), [0, 0, 1, 0, 0]);
    assert_eq!(shop.views(LATE).await, 0);
    let account = books.account().await.unwrap().0;
    assert_eq!((account.dead, account.drift()), (dead, 0));
    assert_eq!(counts(&drop(&["--all", "--yes"]).await.json(0)), [2, 7 + MAX_VIEWS_PER_PAIR + 1, 0, 0, 0]);
    assert_eq!(books.account().await.unwrap().0.drift(), 0);
}

#[tokio::test]
async fn a_drop_that_is_not_confirmed_tells_every_letter_however_many_products_they_are_of() {
    const MANY: u64 = 10_001;
    let shop = Shop::start().await;
    let rows: Vec<String> = (1..=MANY).map(|id| format!("(0, 'b', {id}, 2, 'unknown_product')")).collect();
    shop.run(&format!("INSERT INTO dead_letters (shard, batch, product_id, views, reason) VALUES {}", rows.join(", "))).await;
    let asked = shop.ctl(None, &["dead-letters", "drop", "--all"]).await;
    assert_eq!(asked.code, Some(2));
    assert!(asked.stderr.contains("10001 dead letters with 20002 views would be dropped"), "{asked:?}");
    shop.run("UPDATE dead_letters SET state = 'dropped'").await;
    let asked = shop.ctl(None, &["dead-letters", "drop", "--all"]).await;
    assert!(asked.stderr.contains("0 dead letters with 0 views"), "{asked:?}");
}

#[tokio::test]
async fn a_drop_that_was_given_up_does_not_come_later() {
    const DEAD: &str = "SELECT COUNT(*) FROM dead_letters WHERE state = 'dead'";
    let (shop, _) = shop_with_letters().await;
    let hung = shop.hung_mysql().await;
    let ids: Vec<u64> = shop.rows("SELECT id FROM dead_letters").await;
    let given_up = drop_piece(&hung.mysql, ids.clone()).await.unwrap_err();
    assert_eq!(given_up.kind(), Kind::Unknown, "{given_up}");
    hung.rolls_back().await;
    assert_eq!(shop.number(DEAD).await, 5);
    assert_eq!(drop_piece(&hung.mysql, ids).await.unwrap().len(), 5, "one that is in time");
    assert_eq!(shop.number(DEAD).await, 0);
}

#[tokio::test]
async fn a_replayed_letter_of_a_record_in_a_foreign_shard_is_shown() {
    const FOREIGN: u16 = 1;
    let shop = Shop::start().await;
    let (api, books) = (shop.api().await, shop.books().await);
    let by_hand = record(Writer::new(Uuid::new_v4()), 1, ONE_MS, &[(LATE, 3)]);
    push(&books.redis.queue.session().unwrap(), &books.redis.keys, FOREIGN, &by_hand, &[], u64::MAX).await.unwrap();
    let mut worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, 3);
    worker.kill();
    make(&shop, LATE).await;
    assert_eq!(shop.shown(&api, LATE).await, 0, "which is cached now");
    assert_eq!(shop.number("SELECT shard FROM dead_letters").await, u64::from(FOREIGN));
    assert_eq!(counts(&replay(&shop, &["--all"], 0).await), [1, 3, 0, 0, 0]);
    assert_eq!((shop.views(LATE).await, shop.shown(&api, LATE).await), (3, 3));
}

#[tokio::test]
async fn a_sweep_that_may_not_write_is_told_once_and_goes_on_when_it_may() {
    const TRIED: &str = "inventory_mysql_errors_total{kind=\"bug\",op=\"letters\"}";
    let (shop, _) = shop_with_letters().await;
    shop.run("UPDATE dead_letters SET state = 'counted' WHERE product_id = 40").await;
    let right = format!("UPDATE ON {}.dead_letters", shop.database());
    shop.run(&format!("REVOKE {right} FROM inventory_worker")).await;
    let worker = shop.worker().await;
    eventually("it was tried again", SOON, async || (worker.metric(TRIED).await >= 3.0).then_some(())).await;
    let told = || worker.log().lines().filter(|line| line.contains("WARN") && line.contains("replays cannot be finished")).count();
    assert_eq!(told(), 1, "{}", worker.log());
    shop.run(&format!("GRANT {right} TO inventory_worker")).await;
    let replayed = "SELECT COUNT(*) FROM dead_letters WHERE state = 'replayed'";
    eventually("the replays are finished", SOON, async || (shop.number(replayed).await == 2).then_some(())).await;
    assert_eq!(told(), 1, "{}", worker.log());
}

#[tokio::test]
async fn a_paused_queue_refuses_a_replay_and_nothing_is_written() {
    let (shop, books) = shop_with_letters().await;
    make(&shop, LATE).await;
    shop.ctl(None, &["queue", "pause", "-o", "json"]).await.json(0);
    let refused = shop.ctl(None, &["dead-letters", "replay", "--all", "-o", "json"]).await;
    assert!(refused.stderr.contains("paused since") && refused.stderr.contains("queue resume"), "{refused:?}");
    assert_eq!(counts(&refused.json(5)), [0; 5]);
    assert_eq!(shop.views(LATE).await, 0);
    shop.ctl(None, &["queue", "resume", "-o", "json"]).await.json(0);
    assert_eq!(counts(&replay(&shop, &["--product", "P40"], 0).await), [2, 7, 0, 0, 0]);
    assert_eq!(books.account().await.unwrap().0.drift(), 0);
}
