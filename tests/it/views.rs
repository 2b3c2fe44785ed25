//! How a batch is counted: once, by the hour, and with what cannot be counted set aside.

use domain::view::{MAX_VIEWS_PER_PAIR, Writer};
use harness::{SOON, Shop, eventually, record, text};
use uuid::Uuid;

const HOUR_MS: u64 = 3_600_000;

fn new_writer() -> Writer {
    Writer::new(Uuid::new_v4())
}

fn new_batch() -> String {
    Uuid::new_v4().to_string()
}

async fn last_batch(shop: &Shop) -> Option<String> {
    let sql = "SELECT last_batch FROM view_shards WHERE shard = 0";
    shop.rows::<Option<String>>(sql).await.pop().expect("there is a shard 0")
}

#[tokio::test]
async fn two_workers_that_apply_the_first_batch_of_a_new_writer_at_once_count_it_once() {
    const ROUNDS: u64 = 60;
    let shop = Shop::start().await;
    shop.products(8).await;
    let books = shop.books().await;
    for round in 1..=ROUNDS {
        let (batch, records) = (new_batch(), vec![text(&record(new_writer(), 1, HOUR_MS, &[(4, 3), (8, 2)]))]);
        let (one, other) = tokio::join!(books.apply(0, &batch, records.clone()), books.apply(0, &batch, records));
        let counted = [one, other].map(|tally| tally.expect("the second waits for the first").counted_records);
        assert_eq!(counted.iter().sum::<usize>(), 1, "round {round}");
    }
    assert_eq!((shop.views(4).await, shop.views(8).await), (3 * ROUNDS, 2 * ROUNDS));
    assert_eq!(shop.number("SELECT persisted FROM view_shards WHERE shard = 0").await, 5 * ROUNDS);
    assert_eq!(shop.number("SELECT COUNT(*) FROM view_marks").await, ROUNDS);
}

#[tokio::test]
async fn a_batch_that_counts_nothing_leaves_the_name_of_the_one_that_counted_last() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (books, writer) = (shop.books().await, new_writer());
    let batches = [new_batch(), new_batch()];
    let records = [1, 2].map(|seq| vec![text(&record(writer, seq, HOUR_MS, &[(4, 1)]))]);
    for (batch, records) in batches.iter().zip(&records) {
        books.apply(0, batch, records.clone()).await.unwrap();
    }
    let late = books.apply(0, &batches[0], records[0].clone()).await.unwrap();
    assert_eq!((late.counted_records, late.dropped_records), (0, 1));
    assert_eq!(last_batch(&shop).await.as_ref(), Some(&batches[1]));
    assert_eq!(shop.views(4).await, 2);
}

#[tokio::test]
async fn text_that_is_set_aside_counts_once_however_often_its_batch_is_applied() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (books, writer) = (shop.books().await, new_writer());
    let (first, second) = (new_batch(), new_batch());
    let with_text = vec![b"rubbish".to_vec(), text(&record(writer, 1, HOUR_MS, &[(4, 1)])), b"\xff\x00 more".to_vec()];
    let tally = books.apply(0, &first, with_text.clone()).await.unwrap();
    assert_eq!(tally.set_aside.len(), 2);
    let next = vec![text(&record(writer, 2, HOUR_MS, &[(4, 1)]))];
    books.apply(0, &second, next).await.unwrap();

    let late = books.apply(0, &first, with_text).await.unwrap();
    assert_eq!((late.counted_records, late.set_aside.len()), (0, 0));
    assert!(!late.is_exact());
    // A reader would else take the older batch for the one that is in the total.
    assert_eq!(last_batch(&shop).await, Some(second));
    assert_eq!(shop.views(4).await, 2);
    let letters: Vec<(u32, Vec<u8>, String)> = shop.rows("SELECT position, payload, reason FROM dead_letters ORDER BY position").await;
    let unparsable = || "unparsable".to_owned();
    assert_eq!(letters, [(0, b"rubbish".to_vec(), unparsable()), (2, b"\xff\x00 more".to_vec(), unparsable())]);
}

#[tokio::test]
async fn views_are_counted_in_the_hour_in_which_they_were_pushed() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    // 2100-01-04 10:00 UTC
    let ten = 4_102_740_000_000;
    let pushes = [(ten - 1, &[(4, 1), (8, 10)][..]), (ten, &[(4, 2)]), (ten + HOUR_MS - 1, &[(4, 4), (8, 20)]), (ten + HOUR_MS, &[(4, 8)])];
    for (seq, (at_ms, counts)) in (1..).zip(pushes) {
        books.push(&record(writer, seq, at_ms, counts)).await;
    }
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.drift()), (45, 0));
    let hours: Vec<(u64, String, u64)> =
        shop.rows("SELECT product_id, CAST(hour AS CHAR), views FROM view_hours ORDER BY product_id, hour").await;
    let hour = |id, hour: &str, views| (id, format!("2100-01-04 {hour}:00:00"), views);
    assert_eq!(hours, [hour(4, "09", 1), hour(4, "10", 6), hour(4, "11", 8), hour(8, "09", 10), hour(8, "10", 20)]);
    assert_eq!((shop.views(4).await, shop.views(8).await), (15, 30));
}

#[tokio::test]
async fn views_of_unknown_products_are_set_aside_by_product_and_hour_and_the_rest_counts() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    for (seq, at_ms, counts) in
        [(1, HOUR_MS, &[(4, 1), (40, 2)][..]), (2, HOUR_MS + 1, &[(40, 3), (80, 7)]), (3, 2 * HOUR_MS, &[(40, 5), (8, 1)])]
    {
        books.push(&record(writer, seq, at_ms, counts)).await;
    }
    let worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.drift()), (2, 17, 0));
    let letters: Vec<(u64, String, u64, String)> =
        shop.rows("SELECT product_id, CAST(hour AS CHAR), views, reason FROM dead_letters ORDER BY product_id, hour").await;
    let letter = |id, hour: &str, views| (id, format!("1970-01-01 {hour}:00:00"), views, "unknown_product".to_owned());
    assert_eq!(letters, [letter(40, "01", 5), letter(40, "02", 5), letter(80, "01", 7)]);
    assert_eq!(shop.number("SELECT COUNT(*) FROM product_views").await, 2);
    eventually("the metric shows three letters", SOON, async || (worker.metric("inventory_queue_dead_letters").await == 3.0).then_some(()))
        .await;
}

#[tokio::test]
async fn counts_out_of_range_are_set_aside_and_the_batch_is_settled() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, writer) = (shop.books().await, new_writer());
    let counts = [(16, 0), (8, MAX_VIEWS_PER_PAIR + 1), (0, 6), (12, MAX_VIEWS_PER_PAIR)];
    books.push(&record(writer, 1, HOUR_MS, &counts)).await;
    books.push(&record(writer, 2, HOUR_MS, &[(4, 5)])).await;
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    let dead = MAX_VIEWS_PER_PAIR + 1 + 6 + MAX_VIEWS_PER_PAIR;
    assert_eq!((account.persisted, account.dead, account.drift()), (5, dead, 0));
    let pending: u64 = redis::cmd("HLEN").arg("inventory:{0}:pend").query_async(&mut shop.redis_connection().await).await.unwrap();
    assert_eq!(pending, 0);
    let letters: Vec<(u64, u64, String)> = shop.rows("SELECT product_id, views, reason FROM dead_letters ORDER BY product_id").await;
    let out = |id, views| (id, views, "out_of_range".to_owned());
    let unknown = (12, MAX_VIEWS_PER_PAIR, "unknown_product".to_owned());
    assert_eq!(letters, [out(0, 6), out(8, MAX_VIEWS_PER_PAIR + 1), unknown, out(16, 0)]);
}

#[tokio::test]
async fn text_that_somebody_put_into_the_queue_is_set_aside_and_the_views_around_it_count() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let writer = "0123456789abcdef0123456789abcdef";
    let rubbish = [
        "rubbish".to_owned(),
        String::new(),
        "1".to_owned(),
        "2 a later format".to_owned(),
        format!("1 {writer} 1 1 0a1b2c3d 3600000"),
        format!("1 {writer} 1 1 0a1b2c3d 3600000 4"),
        format!("1 {writer} 0 1 0a1b2c3d 3600000 4 7"),
        format!("1 {writer} 1 1 0a1b2c3d 3600000 4 7 8"),
        format!("1 {writer} 1 1 0a1b2c3d 3600000 4 99999999999999999999"),
        format!("1 {writer} 1 1 0a1b2c3d 3600000 99999999999999999999 7"),
    ];
    shop.view(&api, 4).await;
    let mut redis = shop.redis_connection().await;
    for text in &rubbish {
        let _: i64 = redis::cmd("RPUSH").arg("inventory:{0}:open").arg(text).query_async(&mut redis).await.unwrap();
    }
    shop.view(&api, 4).await;
    let mut worker = shop.worker().await;
    eventually("the views around the text count", SOON, async || (shop.views(4).await == 2).then_some(())).await;
    books.at_rest().await;
    let letters = "SELECT COUNT(*) FROM dead_letters WHERE reason = 'unparsable'";
    assert_eq!(shop.number(letters).await, rubbish.len() as u64);

    // What stands beside the queue was not bent by text that nobody pushed.
    worker.kill();
    for _ in 0..3 {
        shop.view(&api, 4).await;
    }
    let (account, depth) = books.account().await.unwrap();
    assert_eq!((account.pending, account.drift(), depth.entries), (3, 0, 3));
    assert_eq!(shop.shown(&api, 4).await, 5);
    worker.restart().await;
    assert_eq!(books.at_rest().await.drift(), 0);
    assert_eq!((shop.views(4).await, shop.shown(&api, 4).await), (5, 5));
}

#[tokio::test]
async fn a_cached_total_is_not_raised_by_views_that_were_set_aside() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (api, books) = (shop.api().await, shop.books().await);
    assert_eq!(shop.shown(&api, 4).await, 0);
    for _ in 0..3 {
        shop.view(&api, 4).await;
    }
    shop.run("DELETE FROM products WHERE id = 4").await;
    let _worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, 3);
    shop.run("INSERT INTO products (id, sku) VALUES (4, 'P4')").await;
    assert_eq!(shop.shown(&api, 4).await, 0);
}
