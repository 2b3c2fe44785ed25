//! Events with an id whose answers were lost: the client sends them again, and each counts once.

use harness::{Answer, Program, Proxy, SOON, Shop, eventually, record};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use storage::Kind;
use storage::redis::event_ids::{Event, Fate};
use storage::redis::view_queue;
use uuid::Uuid;

/// Product of shard 2.
const PRODUCT: u64 = 2;

/// An API that reaches Redis through a proxy and gives a request a second.
async fn api_behind(proxy: &Proxy, shop: &Shop) -> Program {
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let api = shop.api_with(&[("INVENTORY_REDIS_URL", url), ("INVENTORY_REQUEST_TIMEOUT", "1s".to_owned())]).await;
    // The product is known and the scripts are loaded.
    shop.view(&api, PRODUCT).await;
    api
}

async fn send(api: &Program, id: Uuid) -> Answer {
    let request = api.request("POST", "/v1/products/2/views").header("content-type", "application/json");
    match request.body(json!({"count": 5, "id": id.to_string()}).to_string()).send().await {
        Ok(answer) if answer.status() == 202 => Answer::Accepted,
        Ok(answer) if answer.status() == 503 => Answer::Unknown,
        Ok(answer) => panic!("{}", answer.status()),
        Err(_) => Answer::Unknown,
    }
}

/// Sends an event again and again until it is accepted.
async fn send_until_accepted(api: &Program, id: Uuid) {
    eventually("the event is accepted", SOON, async || (send(api, id).await == Answer::Accepted).then_some(())).await;
}

/// Records waiting in the shard of the product.
async fn waiting(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    redis::cmd("LLEN").arg("inventory:{2}:open").query_async(&mut redis).await.unwrap()
}

/// Everything is in MySQL, the one view of [`api_behind`] for each API and each event once.
async fn counts(shop: &Shop, apis: u64, events: u64) {
    let _worker = shop.worker().await;
    let account = shop.books().await.at_rest().await;
    let views = apis + 5 * events;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (views, views, 0, 0));
    assert_eq!(shop.views(PRODUCT).await, views);
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_counts_once_when_its_client_sends_it_again() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (proxy, id) = (Proxy::to(shop.redis.port()).await, Uuid::new_v4());
    let api = api_behind(&proxy, &shop).await;
    proxy.hold_replies();
    assert_eq!(send(&api, id).await, Answer::Unknown);
    assert_eq!(waiting(&shop).await, 2, "it is stored");
    proxy.cut();
    proxy.release();
    send_until_accepted(&api, id).await;
    assert_eq!(shop.shown(&api, PRODUCT).await, 6);
    counts(&shop, 1, 1).await;
}

#[tokio::test]
async fn an_event_that_never_arrived_left_nothing_and_counts_when_it_is_sent_again() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (proxy, id) = (Proxy::to(shop.redis.port()).await, Uuid::new_v4());
    let api = api_behind(&proxy, &shop).await;
    proxy.hold_requests();
    assert_eq!(send(&api, id).await, Answer::Unknown);
    proxy.cut();
    proxy.release();
    assert_eq!(waiting(&shop).await, 1);
    send_until_accepted(&api, id).await;
    counts(&shop, 1, 1).await;
}

#[tokio::test]
async fn an_event_that_arrives_after_its_repeat_through_another_api_counts_nothing() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (proxy, id) = (Proxy::to(shop.redis.port()).await, Uuid::new_v4());
    let (slow, other) = (api_behind(&proxy, &shop).await, shop.api().await);
    proxy.hold_requests();
    assert_eq!(send(&slow, id).await, Answer::Unknown);
    assert_eq!(send(&other, id).await, Answer::Accepted);
    assert_eq!(waiting(&shop).await, 2);
    proxy.release();
    // It arrives: a writer, that of the first view or of another thread, has used a number up for which there is no record.
    let mut redis = shop.redis_connection().await;
    eventually("the late push arrives", SOON, async || {
        let writers: Vec<String> = redis::cmd("HVALS").arg("inventory:{2}:wseq").query_async(&mut redis).await.unwrap();
        writers.iter().any(|writer| ["2 1", "1 0"].contains(&writer.as_str())).then_some(())
    })
    .await;
    assert_eq!(waiting(&shop).await, 2);
    counts(&shop, 1, 1).await;
}

#[tokio::test]
async fn an_event_of_an_api_that_was_killed_after_its_push_counts_once_when_another_api_takes_it() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (proxy, id) = (Proxy::to(shop.redis.port()).await, Uuid::new_v4());
    let (mut killed, other) = (api_behind(&proxy, &shop).await, shop.api().await);
    proxy.hold_replies();
    let request = killed.request("POST", "/v1/products/2/views").header("content-type", "application/json");
    let unanswered = tokio::spawn(request.body(json!({"count": 5, "id": id.to_string()}).to_string()).send());
    eventually("the push is stored", SOON, async || (waiting(&shop).await == 2).then_some(())).await;
    killed.kill();
    assert!(unanswered.await.unwrap().is_err());
    assert_eq!(send(&other, id).await, Answer::Accepted);
    counts(&shop, 1, 1).await;
}

#[tokio::test]
async fn ids_vanish_and_come_back_together_with_the_records_that_counted_them() {
    let mut shop = Shop::start().await;
    shop.products(4).await;
    let (api, books) = (shop.api().await, shop.books().await);
    let [kept, gone] = [Uuid::new_v4(), Uuid::new_v4()];
    assert_eq!(send(&api, kept).await, Answer::Accepted);
    let log = shop.keep_redis_log();
    assert_eq!(send(&api, gone).await, Answer::Accepted);
    shop.restart_redis_with(Some(&log));
    for id in [gone, kept, gone] {
        send_until_accepted(&api, id).await;
    }
    let log = shop.keep_redis_log();
    let mut worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (15, 10, 5, 0));
    worker.kill();
    // Redis offers again what is in MySQL, and knows its ids.
    shop.restart_redis_with(Some(&log));
    for id in [gone, kept] {
        send_until_accepted(&api, id).await;
    }
    worker.restart().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (15, 10, 5, 0));
    assert_eq!(shop.views(PRODUCT).await, 10);
}

#[tokio::test]
async fn a_full_redis_remembers_no_event_that_it_refuses() {
    let shop = Shop::start().await;
    let (books, mut redis) = (shop.books().await, shop.redis_connection().await);
    let writer = domain::view::Writer::new(Uuid::new_v4());
    let events = [Event { product: PRODUCT, views: 1, id: Uuid::new_v4() }];
    let push = record(writer, 1, 0, &[]);
    let limit = async |redis: &mut redis::aio::MultiplexedConnection, bytes: u64| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec_async(redis).await.unwrap();
    };
    limit(&mut redis, 1).await;
    let session = books.redis.queue.session().unwrap();
    let refused = view_queue::push(&session, &books.redis.keys, 2, &push, &events, u64::MAX).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Full);
    limit(&mut redis, 0).await;
    assert_eq!(books.push_events(&push, &events).await.fates, [Fate::New]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_sent_until_they_are_accepted_count_exactly_once_while_answers_are_lost() {
    const CLIENTS: u64 = 8;
    const CUTS: u64 = 12;
    let shop = Shop::start().await;
    shop.products(4).await;
    let proxies = [Proxy::to(shop.redis.port()).await, Proxy::to(shop.redis.port()).await];
    let apis = Arc::new([api_behind(&proxies[0], &shop).await, api_behind(&proxies[1], &shop).await]);
    let (stop, repeats, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (apis, stop, repeats, done) = (apis.clone(), stop.clone(), repeats.clone(), done.clone());
            tokio::spawn(async move {
                let mut events = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = Uuid::new_v4();
                    // Now and then twice at once, as an impatient client does.
                    if fastrand::u8(..8) == 0 {
                        tokio::join!(send(&apis[0], id), send(&apis[1], id));
                    }
                    while send(&apis[fastrand::usize(..2)], id).await != Answer::Accepted {
                        repeats.fetch_add(1, Ordering::Relaxed);
                    }
                    events += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                events
            })
        })
        .collect();
    let _worker = shop.worker().await;
    for cut in 0..CUTS {
        let proxy = &proxies[cut as usize % 2];
        let before = done.load(Ordering::Relaxed);
        eventually("events are accepted", SOON, async || (done.load(Ordering::Relaxed) > before + 20).then_some(())).await;
        let lost = repeats.load(Ordering::Relaxed);
        proxy.hold_replies();
        eventually("an answer is lost", SOON, async || (repeats.load(Ordering::Relaxed) > lost).then_some(())).await;
        proxy.cut();
        proxy.release();
    }
    stop.store(true, Ordering::Relaxed);
    let mut events = 0;
    for client in clients {
        events += client.await.unwrap();
    }
    let account = shop.books().await.at_rest().await;
    assert_eq!((account.persisted, account.lost, account.drift()), (2 + 5 * events, 0, 0));
    assert_eq!(shop.views(PRODUCT).await, 2 + 5 * events);
}
