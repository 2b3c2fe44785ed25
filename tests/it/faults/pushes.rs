//! Pushes whose answers are lost, late or never sent, and APIs that end with requests in hand.

use harness::{Answer, Program, Proxy, SOON, Shop, Told, eventually, view};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An API that reaches Redis through a proxy; `limit` is how long a request may take.
async fn api_behind(proxy: &Proxy, shop: &Shop, limit: &str) -> Program {
    let settings =
        [("INVENTORY_REDIS_URL", format!("redis://127.0.0.1:{}/0", proxy.port())), ("INVENTORY_REQUEST_TIMEOUT", limit.to_owned())];
    let api = shop.api_with(&settings).await;
    // The product is known and the scripts are loaded.
    shop.view(&api, 2).await;
    api
}

/// Records waiting in the shard of product 2.
async fn waiting(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    let key = "inventory:{2}:open";
    redis::cmd("LLEN").arg(key).query_async(&mut redis).await.expect("Redis answers")
}

/// Sends a view and does not wait for the answer.
fn view_later(shop: &Shop, api: &Program, id: u64) -> tokio::task::JoinHandle<Answer> {
    let (client, url) = (shop.client.clone(), api.url.clone());
    tokio::spawn(async move { view(&client, &url, id).await })
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_sent_again_and_stored_once() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (api, books) = (api_behind(&proxy, &shop, "30s").await, shop.books().await);
    proxy.hold_replies();
    let answer = view_later(&shop, &api, 2);
    eventually("the push is stored", SOON, async || (waiting(&shop).await == 2).then_some(())).await;
    proxy.cut();
    proxy.release();
    assert_eq!(answer.await.unwrap(), Answer::Accepted);
    assert_eq!(waiting(&shop).await, 2);
    assert_eq!(shop.shown(&api, 2).await, 2);
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (2, 2, 0));
    assert_eq!((shop.views(2).await, shop.shown(&api, 2).await), (2, 2));
}

#[tokio::test]
async fn a_push_that_arrives_after_its_own_repeat_is_refused() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (api, books) = (api_behind(&proxy, &shop, "30s").await, shop.books().await);
    proxy.hold_requests_of_present();
    // Sent into a connection that stands still, and again over the next one.
    assert_eq!(view(&shop.client, &api.url, 2).await, Answer::Accepted);
    assert_eq!(waiting(&shop).await, 2);
    let before = pushes(&shop).await;
    proxy.release();
    eventually("the late push arrives", SOON, async || (pushes(&shop).await > before).then_some(())).await;
    assert_eq!(waiting(&shop).await, 2);
    assert_eq!(shop.shown(&api, 2).await, 2);
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (2, 2, 0));
}

/// Scripts that Redis was asked to run so far; nothing else runs any in these tests while no worker is there.
async fn pushes(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_hget:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_push_that_was_given_up_counts_if_it_was_stored_and_the_next_one_goes_on() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (api, books) = (api_behind(&proxy, &shop, "1s").await, shop.books().await);
    proxy.hold_replies();
    assert_eq!(view(&shop.client, &api.url, 2).await, Answer::Unknown);
    assert_eq!(waiting(&shop).await, 2);
    proxy.cut();
    proxy.release();
    eventually("views are accepted again", SOON, async || (view(&shop.client, &api.url, 2).await == Answer::Accepted).then_some(())).await;
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (3, 3, 0, 0));
    assert_eq!((shop.views(2).await, shop.shown(&api, 2).await), (3, 3));
}

#[tokio::test]
async fn a_push_that_never_arrived_is_no_loss() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (api, books) = (api_behind(&proxy, &shop, "1s").await, shop.books().await);
    proxy.hold_requests();
    assert_eq!(view(&shop.client, &api.url, 2).await, Answer::Unknown);
    proxy.cut();
    proxy.release();
    eventually("views are accepted again", SOON, async || (view(&shop.client, &api.url, 2).await == Answer::Accepted).then_some(())).await;
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (2, 2, 0, 0));
}

/// Sends `count` views, each over a connection of its own, and returns when the API has all of them in hand.
async fn send_unanswered(api: &Program, count: u64) -> JoinSet<(u64, Answer)> {
    let mut sent = JoinSet::new();
    for number in 0..count {
        let id = 1 + number % 8;
        let mut stream = TcpStream::connect(api.url.trim_start_matches("http://")).await.unwrap();
        let request = format!("POST /v1/products/{id}/views HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        sent.spawn(async move {
            let mut status = [0; 12];
            let answered = stream.read_exact(&mut status).await.is_ok() && status == *b"HTTP/1.1 202";
            (id, if answered { Answer::Accepted } else { Answer::Unknown })
        });
    }
    eventually("the API has all requests in hand", SOON, async || {
        (api.metric("inventory_push_waiting_requests").await == count as f64).then_some(())
    })
    .await;
    sent
}

#[tokio::test]
async fn an_api_that_is_killed_with_requests_unanswered_loses_no_accepted_view_and_doubles_none() {
    const UNANSWERED: u64 = 150;
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, mut told) = (shop.books().await, Told::default());
    // Once the pushes arrive and their answers do not; once nothing arrives.
    for hold in [Proxy::hold_replies, Proxy::hold_requests] {
        let proxy = Proxy::to(shop.redis.port()).await;
        let mut api = api_behind(&proxy, &shop, "30s").await;
        told.note(2, Answer::Accepted);
        for id in 1..=8 {
            shop.view(&api, id).await;
            told.note(id, Answer::Accepted);
        }
        hold(&proxy);
        let mut sent = send_unanswered(&api, UNANSWERED).await;
        api.kill();
        let mut unanswered = 0;
        while let Some(answer) = sent.join_next().await {
            let (id, answer) = answer.unwrap();
            unanswered += u64::from(answer == Answer::Unknown);
            told.note(id, answer);
        }
        assert!(unanswered >= 100, "{unanswered}");
        proxy.cut();
    }
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.lost, account.drift()), (shop.all_views().await, 0, 0));
    told.check(&shop).await;
    // The push that was under way arrived.
    assert!(account.persisted > told.total_accepted(), "{account:?}");
}

#[tokio::test]
async fn an_api_that_is_asked_to_stop_answers_the_requests_in_hand() {
    const UNANSWERED: u64 = 40;
    let shop = Shop::start().await;
    shop.products(8).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (mut api, books) = (api_behind(&proxy, &shop, "30s").await, shop.books().await);
    proxy.hold_requests();
    let mut sent = send_unanswered(&api, UNANSWERED).await;
    api.signal("TERM");
    eventually("the API says that it is not ready", SOON, async || {
        let answer = shop.client.get(format!("{}/readyz", api.ops)).send().await.ok()?;
        (answer.status() == 503).then_some(())
    })
    .await;
    assert!(api.exited().is_none());
    proxy.release();
    let mut accepted = 1;
    while let Some(answer) = sent.join_next().await {
        accepted += u64::from(answer.unwrap().1 == Answer::Accepted);
    }
    assert_eq!(accepted, 1 + UNANSWERED);
    let status = eventually("the API ends", SOON, async || api.exited()).await;
    assert_eq!(status.code(), Some(0), "{}", api.log());
    let _worker = shop.worker().await;
    assert_eq!(books.at_rest().await.persisted, accepted);
}

#[tokio::test]
async fn a_second_signal_stops_an_api_at_once_and_loses_no_accepted_view() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxy = Proxy::to(shop.redis.port()).await;
    let (mut api, books) = (api_behind(&proxy, &shop, "30s").await, shop.books().await);
    proxy.hold_replies();
    let answer = view_later(&shop, &api, 2);
    eventually("the push is stored", SOON, async || (waiting(&shop).await == 2).then_some(())).await;
    api.signal("TERM");
    eventually("the first signal was heard", SOON, async || api.log().contains("a second signal ends at once").then_some(())).await;
    api.signal("TERM");
    let status = eventually("the API ends", Duration::from_secs(3), async || api.exited()).await;
    assert_eq!(status.code(), Some(130));
    assert_eq!(answer.await.unwrap(), Answer::Unknown);
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (2, 2, 0));
}
