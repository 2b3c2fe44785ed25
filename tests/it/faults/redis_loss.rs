//! A Redis that comes back with an older past: no view counts twice, and what is gone is said.

use harness::{Books, Program, SOON, Shop, ShopOptions, eventually};
use servers::{AppendFsync, RedisOptions};

/// Product of shard 2.
const PRODUCT: u64 = 2;

async fn shop_with(append_fsync: AppendFsync) -> (Shop, Program, Books) {
    let redis = RedisOptions { append_fsync, ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
    shop.products(8).await;
    let (api, books) = (shop.api().await, shop.books().await);
    (shop, api, books)
}

async fn view(shop: &Shop, api: &Program, times: u64) {
    for _ in 0..times {
        shop.view(api, PRODUCT).await;
    }
}

/// Waits until the API has found Redis again: a read needs it to tell views.
async fn is_ready(shop: &Shop, api: &Program) {
    shop.shown(api, PRODUCT).await;
}

async fn says_lost(api: &Program, views: u64) {
    eventually("the metric says what was lost", SOON, async || {
        (api.metric("inventory_views_lost_total").await == views as f64).then_some(())
    })
    .await;
    eventually("the drift is 0", SOON, async || (api.metric("inventory_views_conservation_drift").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn views_that_redis_forgot_before_they_were_claimed_are_said_to_be_lost() {
    let (mut shop, api, books) = shop_with(AppendFsync::Always).await;
    view(&shop, &api, 3).await;
    let log = shop.keep_redis_log();
    view(&shop, &api, 4).await;
    shop.restart_redis_with(Some(&log));
    is_ready(&shop, &api).await;
    view(&shop, &api, 2).await;
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (9, 5, 4, 0));
    assert_eq!((shop.views(PRODUCT).await, shop.shown(&api, PRODUCT).await), (5, 5));
    says_lost(&api, 4).await;
}

#[tokio::test]
async fn views_that_redis_offers_again_after_they_were_settled_count_once() {
    let (mut shop, api, books) = shop_with(AppendFsync::Always).await;
    view(&shop, &api, 3).await;
    // A total that Redis will remember as it is now.
    assert_eq!(shop.shown(&api, 6).await, 0);
    let log = shop.keep_redis_log();
    let mut worker = shop.worker().await;
    books.at_rest().await;
    shop.view(&api, 6).await;
    view(&shop, &api, 2).await;
    books.at_rest().await;
    worker.kill();
    shop.restart_redis_with(Some(&log));
    is_ready(&shop, &api).await;
    view(&shop, &api, 1).await;
    // The total is cached while the old records wait; what settles them must not raise it.
    shop.shown(&api, PRODUCT).await;
    worker.restart().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (7, 7, 0, 0));
    assert_eq!((shop.views(PRODUCT).await, shop.shown(&api, PRODUCT).await), (6, 6));
    assert_eq!(shop.shown(&api, 6).await, 1);
}

#[tokio::test]
async fn views_that_redis_offers_again_after_apply_and_before_settle_count_once() {
    let (mut shop, api, books) = shop_with(AppendFsync::Always).await;
    let mut worker = shop.worker().await;
    view(&shop, &api, 1).await;
    books.at_rest().await;
    worker.kill();
    view(&shop, &api, 3).await;
    let log = shop.keep_redis_log();
    view(&shop, &api, 2).await;

    let lock = shop.lock("product_views WHERE product_id = 2").await;
    worker.restart().await;
    shop.worker_meets_the_lock().await;
    // Redis falls back to before the claim while the batch is being applied; its worker may not settle it.
    shop.restart_redis_with(Some(&log));
    lock.release().await;
    is_ready(&shop, &api).await;
    view(&shop, &api, 1).await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (7, 7, 0, 0));
    assert_eq!(shop.views(PRODUCT).await, 7);
}

#[tokio::test]
async fn an_empty_redis_loses_what_was_queued_and_counts_nothing_twice() {
    let (mut shop, api, books) = shop_with(AppendFsync::Off).await;
    let mut worker = shop.worker().await;
    view(&shop, &api, 2).await;
    books.at_rest().await;
    worker.kill();
    view(&shop, &api, 3).await;
    shop.redis.kill();
    shop.redis.restart().unwrap();
    is_ready(&shop, &api).await;
    view(&shop, &api, 1).await;
    worker.restart().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (6, 3, 3, 0));
    assert_eq!((shop.views(PRODUCT).await, shop.shown(&api, PRODUCT).await), (3, 3));
    says_lost(&api, 3).await;
}

/// Length of Redis's log once all that was acknowledged is in it.
async fn log_length(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    eventually("the log is written", SOON, async || {
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut redis).await.ok()?;
        info.contains("aof_buffer_length:0\r").then_some(())
    })
    .await;
    std::fs::metadata(shop.redis_log_file()).unwrap().len()
}

/// A power cut: Redis dies, and what it had not synced is gone.
fn power_cut(shop: &mut Shop, kept: u64) {
    shop.redis.kill();
    std::fs::File::options().write(true).open(shop.redis_log_file()).unwrap().set_len(kept).unwrap();
    shop.redis.restart().unwrap();
}

#[tokio::test]
async fn a_power_cut_under_everysec_counts_nothing_twice_and_says_what_it_took() {
    let (mut shop, api, books) = shop_with(AppendFsync::EverySec).await;
    view(&shop, &api, 3).await;
    let before_claim = log_length(&shop).await;
    let mut worker = shop.worker().await;
    books.at_rest().await;
    worker.kill();
    // The claim and the settle are gone, and so are views that came after them.
    view(&shop, &api, 4).await;
    power_cut(&mut shop, before_claim);
    is_ready(&shop, &api).await;
    view(&shop, &api, 1).await;
    worker.restart().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (8, 4, 4, 0));
    assert_eq!((shop.views(PRODUCT).await, shop.shown(&api, PRODUCT).await), (4, 4));
    says_lost(&api, 4).await;
}

#[tokio::test]
async fn a_redis_process_that_is_killed_under_everysec_loses_nothing() {
    let (mut shop, api, books) = shop_with(AppendFsync::EverySec).await;
    view(&shop, &api, 5).await;
    log_length(&shop).await;
    shop.redis.kill();
    shop.redis.restart().unwrap();
    is_ready(&shop, &api).await;
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (5, 5, 0, 0));
}
