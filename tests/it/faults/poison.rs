//! What MySQL refuses: sums that it refuses for their data are set aside alone, and nothing else ever is, however long
//! it is refused.

use domain::view::Writer;
use harness::{Books, PausePoints, Program, SOON, Shop, ShopOptions, eventually, record};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use telemetry::pause_point::PausePoint;
use uuid::Uuid;

const HOUR_MS: u64 = 3_600_000;

const LETTERS: &str = "SELECT COUNT(*) FROM dead_letters";

/// Tries of a batch before it is halved, as the worker has it where nothing is set.
const TRIES: f64 = 8.0;

fn impatient() -> (&'static str, String) {
    ("INVENTORY_RETRY_LIMIT", "1".to_owned())
}

fn new_writer() -> Writer {
    Writer::new(Uuid::new_v4())
}

/// A trigger that refuses rows of a table.
async fn refuse(shop: &Shop, table: &str, rows: &str) {
    let body = format!("IF {rows} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not in {table}'; END IF");
    shop.run(&format!("CREATE TRIGGER {0}.refuse_{table} BEFORE INSERT ON {0}.{table} FOR EACH ROW {body}", shop.database())).await;
}

async fn allow(shop: &Shop, table: &str) {
    shop.run(&format!("DROP TRIGGER {}.refuse_{table}", shop.database())).await;
}

async fn batches(worker: &Program, result: &str) -> f64 {
    worker.metric(&format!("inventory_drain_batches_total{{result=\"{result}\"}}")).await
}

/// Waits until a worker has tried more often than it would try a batch that is refused for its data.
async fn tries_on(worker: &Program) {
    eventually("the worker tries again and again", SOON, async || (batches(worker, "retried").await >= 4.0).then_some(())).await;
}

async fn replay(shop: &Shop, more: &[&str], code: i32) -> ([u64; 3], String) {
    let outcome = shop.ctl(None, &[&["dead-letters", "replay", "--reason", "refused", "-o", "json"], more].concat()).await;
    let report = outcome.json(code);
    (["done", "views", "refused"].map(|field| report[field].as_u64().unwrap()), outcome.stderr)
}

/// Both tables agree, the account is even, and nothing was set aside.
async fn assert_all_counted(shop: &Shop, books: &Books, views: u64) {
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.lost, account.drift()), (views, 0, 0, 0));
    assert_eq!(shop.number(LETTERS).await, 0);
    assert_tables_agree(shop, views).await;
}

async fn assert_tables_agree(shop: &Shop, views: u64) {
    assert_eq!(shop.all_views().await, views);
    assert_eq!(shop.number("SELECT CAST(SUM(views) AS UNSIGNED) FROM view_hours").await, views);
    let differ =
        "SELECT COUNT(*) FROM product_views v WHERE v.views <> (SELECT SUM(h.views) FROM view_hours h WHERE h.product_id = v.product_id)";
    assert_eq!(shop.number(differ).await, 0);
}

/// Product 8 has two views in one hour and five in the next; `refused` of them are, by a trigger on `table`.
async fn what_is_refused_is_set_aside_alone(table: &str, rows: &str, refused: &[(u64, u64)]) {
    let shop = Shop::start().await;
    shop.products(16).await;
    let (api, books, writer) = (shop.api().await, shop.books().await, new_writer());
    refuse(&shop, table, rows).await;
    books.push(&record(writer, 1, HOUR_MS, &[(4, 1), (8, 2), (12, 3)])).await;
    books.push(&record(writer, 2, 2 * HOUR_MS, &[(8, 5), (16, 4)])).await;
    let worker = shop.worker().await;
    let account = books.at_rest().await;
    let dead: u64 = refused.iter().map(|(_, views)| views).sum();
    assert_eq!((account.persisted, account.dead, account.drift()), (15 - dead, dead, 0));
    assert_tables_agree(&shop, 15 - dead).await;
    let sql = "SELECT product_id, TIMESTAMPDIFF(HOUR, '1970-01-01 00:00:00', hour), views, reason, detail FROM dead_letters ORDER BY id";
    let letters: Vec<(u64, u64, u64, String, String)> = shop.rows(sql).await;
    let told: Vec<_> = letters.iter().map(|(id, hour, views, reason, _)| (*id, *hour, *views, reason.as_str())).collect();
    assert_eq!(told, refused.iter().map(|&(hour, views)| (8, hour, views, "refused")).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.4.contains(&format!("not in {table}"))), "{letters:?}");
    for (result, expected) in [("retried", TRIES), ("split", 1.0), ("dead", 1.0), ("applied", 1.0)] {
        eventually(&format!("{expected} {result}"), SOON, async || (batches(&worker, result).await == expected).then_some(())).await;
    }
    assert!(worker.log().contains("set aside what MySQL refuses") && worker.log().contains(&format!("not in {table}")), "{}", worker.log());
    assert_eq!(shop.shown(&api, 8).await, 7 - dead);

    let ops = format!("{}/v1/admin/dead-letters?reason=refused", api.ops);
    let listed: Value = shop.client.get(ops).send().await.unwrap().json().await.unwrap();
    assert_eq!((&listed["data"][0]["reason"], &listed["data"][0]["views"]), (&json!("refused"), &json!(dead)), "{listed}");
    let count = refused.len() as u64;
    for which in [&["--dry-run"][..], &[]] {
        let (report, told) = replay(&shop, which, 3).await;
        assert_eq!(report, [0, 0, count], "{which:?}");
        assert!(told.contains("its views are still refused") && told.contains(&format!("not in {table}")), "{told}");
    }
    assert_tables_agree(&shop, 15 - dead).await;

    allow(&shop, table).await;
    assert_eq!(replay(&shop, &["--dry-run"], 0).await.0, [count, dead, 0]);
    assert_eq!(replay(&shop, &[], 0).await.0, [count, dead, 0]);
    assert_eq!(replay(&shop, &[], 0).await.0, [0, 0, 0]);
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.drift()), (15, 0, 0));
    assert_tables_agree(&shop, 15).await;
    assert_eq!((shop.views(8).await, shop.shown(&api, 8).await), (7, 7));
}

#[tokio::test]
async fn the_views_of_a_product_that_mysql_refuses_are_set_aside_alone_and_count_once_when_it_is_mended() {
    what_is_refused_is_set_aside_alone("product_views", "NEW.product_id = 8", &[(1, 2), (2, 5)]).await;
}

#[tokio::test]
async fn the_views_of_an_hour_that_mysql_refuses_are_set_aside_from_both_tables() {
    what_is_refused_is_set_aside_alone("view_hours", "NEW.product_id = 8 AND NEW.views = 5", &[(2, 5)]).await;
}

#[tokio::test]
async fn of_many_sums_exactly_those_that_either_table_refuses_are_set_aside() {
    const PRODUCTS: u64 = 2_000;
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let (books, writer) = (shop.books().await, new_writer());
    refuse(&shop, "product_views", "NEW.product_id % 28 = 0").await;
    refuse(&shop, "view_hours", "NEW.product_id % 20 = 0").await;
    let counts: Vec<(u64, u64)> = (1..=PRODUCTS).filter(|id| id % 4 == 0).map(|id| (id, id)).collect();
    books.push(&record(writer, 1, HOUR_MS, &counts)).await;
    let _worker = shop.worker_with(&[impatient()]).await;
    let account = books.at_rest().await;
    let poison = |id: u64| id.is_multiple_of(28) || id.is_multiple_of(20);
    let dead: Vec<u64> = counts.iter().map(|(id, _)| *id).filter(|id| poison(*id)).collect();
    let letters: Vec<(u64, u64)> = shop.rows("SELECT product_id, views FROM dead_letters ORDER BY product_id").await;
    assert_eq!(letters, dead.iter().map(|id| (*id, *id)).collect::<Vec<_>>());
    let sum: u64 = counts.iter().map(|(_, views)| views).sum();
    assert_eq!((account.dead, account.drift()), (dead.iter().sum(), 0));
    assert_tables_agree(&shop, sum - account.dead).await;
}

#[tokio::test]
async fn what_cannot_be_applied_costs_the_views_behind_it_no_more_than_its_tries() {
    let (shop, points) = (Shop::start().await, PausePoints::listen().await);
    shop.products(16).await;
    let (books, writer) = (shop.books().await, new_writer());
    refuse(&shop, "product_views", "NEW.product_id = 8").await;
    books.push(&record(writer, 1, HOUR_MS, &[(8, 2), (12, 1)])).await;
    let claim = points.hold(PausePoint::AfterClaim);
    let worker = shop.worker_with(&[points.setting()]).await;
    let held = claim.held().await;
    books.push(&record(writer, 2, HOUR_MS, &[(4, 3)])).await;
    held.release();
    eventually("the view behind is counted", SOON, async || (shop.views(4).await == 3).then_some(())).await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.drift()), (4, 2, 0));
    for (result, expected) in [("applied", 2.0), ("retried", TRIES), ("split", 1.0)] {
        eventually(&format!("{expected} {result}"), SOON, async || (batches(&worker, result).await == expected).then_some(())).await;
    }
}

#[tokio::test]
async fn nothing_is_set_aside_while_mysql_is_read_only() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    shop.run("SET GLOBAL read_only = 1").await;
    books.push(&record(writer, 1, HOUR_MS, &[(4, 1), (8, 2)])).await;
    let worker = shop.worker_with(&[impatient()]).await;
    tries_on(&worker).await;
    assert_eq!(shop.number(LETTERS).await, 0);
    shop.run("SET GLOBAL read_only = 0").await;
    assert_all_counted(&shop, &books, 3).await;
}

#[tokio::test]
async fn nothing_is_set_aside_while_a_column_is_missing() {
    for table in ["product_views", "view_hours"] {
        let shop = Shop::start().await;
        shop.products(8).await;
        let (books, writer) = (shop.books().await, new_writer());
        let rename = async |from, to| shop.run(&format!("ALTER TABLE {}.{table} RENAME COLUMN {from} TO {to}", shop.database())).await;
        rename("views", "seen").await;
        books.push(&record(writer, 1, HOUR_MS, &[(4, 1), (8, 2)])).await;
        let worker = shop.worker_with(&[impatient()]).await;
        tries_on(&worker).await;
        assert_eq!(shop.number(LETTERS).await, 0);
        rename("seen", "views").await;
        assert_all_counted(&shop, &books, 3).await;
    }
}

#[tokio::test]
async fn nothing_is_set_aside_after_deadlocks() {
    const ROUNDS: u64 = 3;
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    let worker = shop.worker_with(&[impatient()]).await;
    books.push(&record(writer, 1, HOUR_MS, &[(4, 1), (8, 2)])).await;
    books.at_rest().await;
    for round in 1..=ROUNDS {
        let mut other = shop.sql_connection().await;
        other.query_drop("BEGIN").await.unwrap();
        // What has changed more wins against the worker.
        let rows: Vec<String> = (100..1_100).map(|id| format!("({id}, 'P{id}')")).collect();
        other.query_drop(format!("INSERT INTO products (id, sku) VALUES {}", rows.join(","))).await.unwrap();
        other.query_drop("SELECT 1 FROM product_views WHERE product_id = 8 FOR UPDATE").await.unwrap();
        books.push(&record(writer, 1 + round, HOUR_MS, &[(4, 1), (8, 2)])).await;
        shop.worker_meets_the_lock().await;
        other.query_drop("SELECT 1 FROM view_shards WHERE shard = 0 FOR UPDATE").await.expect("the worker gives way");
        other.query_drop("ROLLBACK").await.unwrap();
        books.at_rest().await;
        assert!(batches(&worker, "retried").await >= round as f64);
    }
    assert_all_counted(&shop, &books, 3 * (ROUNDS + 1)).await;
}

#[tokio::test]
async fn text_is_set_aside_once_when_the_worker_dies_between_commit_and_settle() {
    let (shop, points) = (Shop::start().await, PausePoints::listen().await);
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    let mut redis = shop.redis_connection().await;
    let mut say = async |text: &str| redis::cmd("RPUSH").arg("inventory:{0}:open").arg(text).exec_async(&mut redis).await.unwrap();
    say("rubbish").await;
    books.push(&record(writer, 1, HOUR_MS, &[(4, 1)])).await;
    say("more of it").await;
    let committed = points.hold(PausePoint::AfterApply);
    let mut worker = shop.worker_with(&[points.setting()]).await;
    let held = committed.held().await;
    assert_eq!((shop.number(LETTERS).await, shop.views(4).await), (2, 1));
    worker.kill();
    drop(held);
    let next = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.drift()), (1, 0, 0));
    assert_eq!((shop.number(LETTERS).await, shop.views(4).await), (2, 1));
    assert_eq!(batches(&next, "already_applied").await, 1.0);
}
