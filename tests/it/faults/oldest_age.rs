//! `inventory_queue_oldest_age_seconds`: how far MySQL is behind, whoever tells it and whatever has died.

use harness::{PausePoints, Program, Proxy, SOON, Shop, eventually};
use telemetry::pause_point::PausePoint;

async fn eventually_tells(program: &Program, what: &str, expected: impl Fn(f64) -> bool) -> f64 {
    eventually(what, SOON, async || Some(program.metric("inventory_queue_oldest_age_seconds").await).filter(|age| expected(*age))).await
}

#[tokio::test]
async fn views_that_are_in_mysql_are_not_old_though_their_worker_died_before_it_settled() {
    let (shop, points) = (Shop::start().await, PausePoints::listen().await);
    shop.products(8).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let api = shop.api_with(&[("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_api", proxy.port()))]).await;
    shop.view(&api, 2).await;
    eventually_tells(&api, "a view that waits gets old", |age| age > 1.0).await;

    let applied = points.hold(PausePoint::AfterApply);
    let mut worker = shop.worker_starting(&[points.setting()]).await;
    let held = applied.held().await;
    worker.ready().await;
    for program in [&worker, &api] {
        eventually_tells(program, "nothing is old between COMMIT and settle", |age| age == 0.0).await;
    }
    worker.kill();
    drop(held);
    let status = shop.ctl(None, &["queue", "status", "-o", "json"]).await.json(0);
    assert_eq!(
        [&status["in_flight"], &status["pending"], &status["oldest_age_seconds"]].map(|field| field.as_f64()),
        [Some(1.0), Some(0.0), Some(0.0)]
    );

    proxy.refuse();
    proxy.cut();
    eventually_tells(&api, "without MySQL nobody knows that the batch is there", |age| age > 0.0).await;
    proxy.accept();
    eventually_tells(&api, "MySQL tells it again", |age| age == 0.0).await;

    shop.view(&api, 2).await;
    eventually_tells(&api, "what stands behind the batch gets old", |age| age > 0.0).await;
    let _next = shop.worker().await;
    eventually_tells(&api, "everything is in MySQL", |age| age == 0.0).await;
    assert_eq!(shop.views(2).await, 2);
}
