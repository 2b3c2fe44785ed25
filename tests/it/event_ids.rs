//! Events with an id: sent again they are accepted again and count once, for as long as the id is remembered.

use domain::view::Writer;
use futures_util::future::join_all;
use harness::{Program, Shop, record, seed};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use storage::redis::event_ids::{Event, Fate, MOST_IDS, WINDOW_MS};
use storage::watch::now_ms;
use uuid::Uuid;

/// Product of shard 2, as is the product 6.
const PRODUCT: u64 = 2;

const REPEATED: &str = "inventory_views_received_total{outcome=\"repeated\"}";

async fn accept(api: &Program, path: &str, body: &Value) -> Value {
    let answer = api.send("POST", path, body.to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()
}

fn event(views: u64, id: Uuid) -> Event {
    Event { product: PRODUCT, views, id }
}

/// Records waiting in the shard of the product.
async fn waiting(shop: &Shop) -> u64 {
    let mut redis = shop.redis_connection().await;
    redis::cmd("LLEN").arg("inventory:{2}:open").query_async(&mut redis).await.unwrap()
}

#[tokio::test]
async fn an_event_that_is_sent_again_is_answered_as_before_and_counts_once_through_any_api() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (one, other, books) = (shop.api().await, shop.api().await, shop.books().await);
    let id = Uuid::new_v4();
    let body = json!({"count": 3, "id": id.to_string()});
    for api in [&one, &one, &other] {
        assert_eq!(accept(api, "/v1/products/2/views", &body).await, json!({"accepted": 1}));
    }
    // Another count does not make it another event, nor do capital letters.
    let again = json!({"count": 5, "id": id.to_string().to_uppercase()}).to_string();
    let beacon = other.request("POST", "/v1/products/2/views").header("content-type", "text/plain").body(again).send().await;
    assert_eq!(beacon.unwrap().status(), 202);
    let events = json!({"events": [{"product_id": 2, "count": 3, "id": id.to_string()}, {"product_id": 2, "count": 7}]});
    assert_eq!(accept(&one, "/v1/views", &events).await, json!({"accepted": 2, "rejected": []}));
    assert_eq!((shop.shown(&one, 2).await, shop.shown(&other, 2).await), (10, 10));
    assert_eq!((one.metric(REPEATED).await, other.metric(REPEATED).await), (6.0, 8.0));
    let accepted = one.metric("inventory_views_received_total{outcome=\"accepted\"}").await;
    assert_eq!((accepted, one.metric("inventory_views_unremembered_total").await), (10.0, 0.0));
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift(), shop.views(2).await), (10, 10, 0, 10));
}

#[tokio::test]
async fn an_id_twice_in_one_request_counts_once_for_each_product() {
    let shop = Shop::start().await;
    shop.products(6).await;
    let api = shop.api().await;
    let id = Uuid::new_v4();
    let events: Vec<Value> = [2, 6, 2, 3, 6].map(|product| json!({"product_id": product, "count": 4, "id": id.to_string()})).to_vec();
    let accepted = accept(&api, "/v1/views", &json!({"events": events})).await;
    assert_eq!(accepted, json!({"accepted": 5, "rejected": []}));
    for (product, views) in [(2, 4), (6, 4), (3, 4)] {
        assert_eq!(shop.shown(&api, product).await, views, "product {product}");
    }
    assert_eq!(api.metric(REPEATED).await, 8.0);
}

#[tokio::test]
async fn an_id_is_remembered_until_the_end_of_the_window_after_its_own_and_by_clocks_that_differ() {
    let shop = Shop::start().await;
    let (books, writer) = (shop.books().await, Writer::new(Uuid::new_v4()));
    let (start, mut seq) = (100 * WINDOW_MS, 0);
    let mut push = async |at_ms, id| {
        seq += 1;
        books.push_events(&record(writer, seq, at_ms, &[]), &[event(1, id)]).await.fates
    };
    // Ten minutes at the least, twenty at the most.
    for (first, again, expected) in [
        (start, start + 2 * WINDOW_MS - 1, Fate::Repeated),
        (start, start + 2 * WINDOW_MS, Fate::New),
        (start + WINDOW_MS - 1, start + 2 * WINDOW_MS - 1, Fate::Repeated),
        // The clock of the API that is asked next is behind.
        (start, start - 1, Fate::Repeated),
        (start, start - WINDOW_MS, Fate::Repeated),
        (0, 0, Fate::Repeated),
    ] {
        let id = Uuid::new_v4();
        assert_eq!(push(first, id).await, [Fate::New]);
        assert_eq!(push(again, id).await, [expected], "{first} and {again}");
    }
    let mut redis = shop.redis_connection().await;
    for window in [0, 100, 102] {
        let kept: u64 = redis::cmd("PTTL").arg(format!("inventory:{{2}}:ids:{window}")).query_async(&mut redis).await.unwrap();
        assert!((20 * 60_000..=21 * 60_000).contains(&kept), "window {window} is kept for {kept} ms");
    }
}

#[tokio::test]
async fn a_push_of_which_nothing_is_new_leaves_no_record_and_uses_its_number_up() {
    let shop = Shop::start().await;
    shop.products(6).await;
    let (books, writer, at_ms) = (shop.books().await, Writer::new(Uuid::new_v4()), now_ms());
    let (id, late) = (Uuid::new_v4(), Uuid::new_v4());
    let push = async |seq, events: &[Event]| {
        let pushed = books.push_events(&record(writer, seq, at_ms, &[]), events).await;
        (pushed.stored, pushed.accepted, pushed.entries, pushed.fates)
    };
    assert_eq!(push(1, &[event(3, id)]).await, (true, 3, 1, vec![Fate::New]));
    assert_eq!(push(2, &[event(3, id), event(4, id)]).await, (true, 3, 1, vec![Fate::Repeated; 2]));
    assert_eq!(push(2, &[event(9, late)]).await, (false, 3, 1, vec![]), "what was refused is not looked at");
    // In one record with what has no id, and with what is new.
    let mixed = record(writer, 3, at_ms, &[(PRODUCT, 10), (6, 20)]);
    let pushed = books.push_events(&mixed, &[event(3, id), event(100, late), Event { product: 10, views: 7, id }]).await;
    assert_eq!((pushed.accepted, pushed.entries, pushed.fates), (140, 4, vec![Fate::Repeated, Fate::New, Fate::New]));
    assert_eq!(push(4, &[event(1, late)]).await, (true, 140, 4, vec![Fate::Repeated]));
    assert_eq!(waiting(&shop).await, 2);
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.dead, account.drift()), (140, 133, 7, 0));
    assert_eq!((shop.views(PRODUCT).await, shop.views(6).await), (113, 20));
}

#[tokio::test]
async fn past_the_bound_of_a_window_events_are_counted_and_not_remembered_and_a_metric_says_how_many() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (api, mut redis) = (shop.api().await, shop.redis_connection().await);
    let (first, window) = (Uuid::new_v4(), now_ms() / WINDOW_MS);
    accept(&api, "/v1/products/2/views", &json!({"id": first.to_string()})).await;
    // Room for one more; the next window too, should it begin meanwhile.
    for key in [window, window + 1].map(|window| format!("inventory:{{2}}:ids:{window}")) {
        let held: u64 = redis::cmd("SCARD").arg(&key).query_async(&mut redis).await.unwrap();
        let fill: Vec<u64> = (held + 1..MOST_IDS).collect();
        for ids in fill.chunks(5_000) {
            redis::cmd("SADD").arg(&key).arg(ids).exec_async(&mut redis).await.unwrap();
        }
    }
    let event = |id: Uuid| json!({"product_id": 2, "id": id.to_string()});
    let [last, beyond] = [Uuid::new_v4(), Uuid::new_v4()];
    let events = json!({"events": [event(last), event(beyond), event(beyond)]});
    assert_eq!(accept(&api, "/v1/views", &events).await["accepted"], 3);
    assert_eq!(shop.shown(&api, 2).await, 3, "one request tells its own repeats all the same");
    assert_eq!(api.metric("inventory_views_unremembered_total").await, 1.0);
    for (id, shown, unremembered) in [(first, 3, 1.0), (last, 3, 1.0), (beyond, 4, 2.0)] {
        accept(&api, "/v1/products/2/views", &json!({"id": id.to_string()})).await;
        assert_eq!(shop.shown(&api, 2).await, shown);
        assert_eq!(api.metric("inventory_views_unremembered_total").await, unremembered);
    }
}

#[tokio::test]
async fn views_without_an_id_cost_redis_no_look_at_ids() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let (api, mut redis) = (shop.api().await, shop.redis_connection().await);
    let looks = async |redis: &mut redis::aio::MultiplexedConnection| {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
        ["smismember", "scard", "sadd", "pexpire"].iter().any(|name| info.contains(&format!("cmdstat_{name}:")))
    };
    accept(&api, "/v1/products/2/views", &json!({"count": 3})).await;
    accept(&api, "/v1/views", &json!({"events": [{"product_id": 1}, {"product_id": 2}]})).await;
    assert!(!looks(&mut redis).await);
    accept(&api, "/v1/products/2/views", &json!({"count": 3, "id": Uuid::new_v4().to_string()})).await;
    assert!(looks(&mut redis).await);
}

/// What a client sends at once: (product, count, number of an id or none).
type Request = Vec<(u64, u64, Option<usize>)>;

fn random_request(random: &mut fastrand::Rng) -> Request {
    let events = random.usize(1..=20);
    let event = |_| {
        let id = (random.u8(..5) > 0).then(|| random.usize(..6));
        (random.u64(1..=8), id.map_or(1, |id| id as u64 + 1), id)
    };
    (0..events).map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_repeated_through_two_apis_each_id_of_a_product_counts_once() {
    const ROUNDS: usize = 20;
    let mut random = fastrand::Rng::with_seed(seed());
    let shop = Shop::start().await;
    shop.products(8).await;
    let (apis, books) = ([shop.api().await, shop.api().await], shop.books().await);
    let _worker = shop.worker().await;
    let mut expected = BTreeMap::<u64, u64>::new();
    for _ in 0..ROUNDS {
        let requests: Vec<Request> = (0..30).map(|_| random_request(&mut random)).collect();
        let ids: [String; 6] = std::array::from_fn(|_| Uuid::new_v4().to_string());
        let mut seen = BTreeSet::new();
        for &(product, views, id) in requests.iter().flatten() {
            if id.is_none_or(|id| seen.insert((product, id))) {
                *expected.entry(product).or_default() += views;
            }
        }
        let event = |&(product, views, id): &(u64, u64, Option<usize>)| match id {
            Some(id) => json!({"product_id": product, "count": views, "id": ids[id]}),
            None => json!({"product_id": product, "count": views}),
        };
        let all = requests.iter().map(|request| {
            let events: Vec<Value> = request.iter().map(event).collect();
            let api = &apis[random.usize(..2)];
            async move { accept(api, "/v1/views", &json!({"events": events})).await }
        });
        join_all(all.collect::<Vec<_>>()).await;
    }
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.lost, account.drift()), (expected.values().sum(), 0, 0));
    let counted: BTreeMap<u64, u64> = shop.rows("SELECT product_id, views FROM product_views").await.into_iter().collect();
    assert_eq!(counted, expected);
}
