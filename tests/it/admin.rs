//! The admin routes of the API's ops listener: what they answer, what they refuse, what they change.

use domain::view::Writer;
use harness::{Program, Proxy, Reply, SOON, Shop, ShopOptions, eventually, record};
use serde_json::{Value, json};
use uuid::Uuid;

async fn post(api: &Program, path: &str, body: &str) -> Reply {
    let mut request = api.client().post(format!("{}/v1/admin{path}", api.ops));
    if !body.is_empty() {
        request = request.header("content-type", "application/json").body(body.to_owned());
    }
    Reply::to(request).await
}

async fn get(api: &Program, path: &str) -> Reply {
    api.get_ops(&format!("/v1/admin{path}")).await
}

fn ok(reply: &Reply) -> Value {
    assert_eq!(
        (reply.status, reply.header("content-type"), reply.header("cache-control")),
        (200, "application/json", "no-store"),
        "{reply:?}"
    );
    reply.json()
}

#[tokio::test]
async fn the_queue_is_shown_paused_flushed_and_resumed_over_http() {
    let shop = Shop::start().await;
    shop.products(4).await;
    let api = shop.api().await;
    for _ in 0..3 {
        shop.view(&api, 2).await;
    }
    let queue = ok(&get(&api, "/queue").await);
    assert!(queue["oldest_age_seconds"].as_f64().unwrap() > 0.0, "{queue}");
    let mut exact = queue.clone();
    exact.as_object_mut().unwrap().remove("oldest_age_seconds");
    let waiting = [0, 0, 3, 0];
    let shard = |number: usize| json!({"shard": number, "entries": waiting[number], "views_waiting": waiting[number], "batch": null});
    let expected = json!({
        "accepted": 3, "persisted": 0, "pending": 3, "dead": 0, "lost": 0, "twice": 0, "depth": 3, "capacity": 5_000_000, "in_flight": 0,
        "shards": [shard(0), shard(1), shard(2), shard(3)], "workers": [], "paused": null
    });
    assert_eq!(exact, expected);

    let paused = ok(&post(&api, "/queue/pause", r#"{"reason":"a new disk"}"#).await);
    assert_eq!((&paused["changed"], &paused["paused"]["reason"]), (&json!(true), &json!("a new disk")));
    assert_eq!(paused["paused"]["by"], "127.0.0.1 through the admin API");
    assert_eq!(ok(&get(&api, "/queue").await)["paused"], paused["paused"]);
    let again = ok(&post(&api, "/queue/pause", "").await);
    assert_eq!(again, json!({"paused": paused["paused"], "changed": false}));

    let _worker = shop.worker().await;
    let refused = post(&api, "/queue/flush?wait=200ms", "").await;
    let problem = refused.problem(503, "not-flushed");
    assert_eq!(refused.header("retry-after"), "1");
    for told in ["paused since", "a new disk", "3 views wait"] {
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    assert_eq!(shop.all_views().await, 0);
    let sealed = eventually("the worker has a batch, which may not be applied", SOON, async || {
        let shards = ok(&get(&api, "/queue").await)["shards"].take();
        shards[2]["batch"].is_object().then_some(shards)
    })
    .await;
    let batch = &sealed[2]["batch"];
    assert_eq!(sealed[2], json!({"shard": 2, "entries": 3, "views_waiting": 0, "batch": batch}));
    assert_eq!((&batch["views"], batch["id"].as_str().map(str::len)), (&json!(3), Some(36)));
    let age = |value: &Value| value["age_seconds"].as_f64().unwrap();
    assert!(age(batch) >= queue["oldest_age_seconds"].as_f64().unwrap(), "of its oldest view: {batch}");
    assert_eq!([0, 1, 3].map(|number| sealed[number]["batch"].clone()), [json!(null), json!(null), json!(null)]);
    let workers = ok(&get(&api, "/queue").await)["workers"].take();
    let Value::Object(told) = &workers[0] else { panic!("{workers}") };
    assert!(told["name"].as_str().unwrap().starts_with("inventory-worker:") && told["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let counted = ["connected_seconds", "silent_seconds"].map(|name| told[name].is_u64());
    assert!(workers[1].is_null() && counted == [true; 2] && told["hangs"] == false && told.len() == 5, "{workers}");
    let not_to_list = redis::cmd("ACL").arg("SETUSER").arg("default").arg("-client|list").to_owned();
    not_to_list.exec_async(&mut shop.redis_connection().await).await.unwrap();
    assert_eq!(ok(&get(&api, "/queue").await)["workers"], json!(null), "the rest is told all the same");
    post(&api, "/dead-letters/replay", r#"{"all":true}"#).await;
    assert_eq!(ok(&post(&api, "/queue/resume", "{}").await), json!({"paused": null, "changed": true}));
    assert_eq!(ok(&post(&api, "/queue/resume", "").await), json!({"paused": null, "changed": false}));
    let flushed = ok(&post(&api, "/queue/flush?wait=30s", "").await);
    assert!(flushed["flushed"] == true && flushed["took_seconds"].as_f64().unwrap() < 30.0, "{flushed}");
    assert_eq!(shop.views(2).await, 3);
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_dropped_over_http() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (api, books, writer) = (shop.api().await, shop.books().await, Writer::new(Uuid::new_v4()));
    books.push(&record(writer, 1, 3_600_000, &[(40, 5), (80, 7)])).await;
    let _worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, 12);
    shop.run("INSERT INTO products (id, sku) VALUES (40, 'P40')").await;
    assert_eq!(shop.shown(&api, 40).await, 0);

    let mut list = ok(&get(&api, "/dead-letters").await);
    for group in list["data"].as_array_mut().unwrap() {
        for time in ["oldest", "newest"] {
            assert!(group.as_object_mut().unwrap().remove(time).unwrap().as_str().unwrap().ends_with('Z'));
        }
    }
    let group = |id: u64, exists: bool, views: u64| json!({"state": "dead", "reason": "unknown_product", "product_id": id, "product_exists": exists, "letters": 1, "views": views});
    assert_eq!(list, json!({"data": [group(80, false, 7), group(40, true, 5)], "more": false}));
    let one = ok(&get(&api, "/dead-letters?limit=1&reason=unknown_product").await);
    assert_eq!((one["data"].as_array().unwrap().len(), &one["more"]), (1, &json!(true)));
    assert_eq!(ok(&get(&api, "/dead-letters?product_id=9&all=true").await), json!({"data": [], "more": false}));

    ok(&post(&api, "/queue/pause", "").await);
    post(&api, "/dead-letters/replay", r#"{"all":true}"#).await.problem(409, "queue-paused");
    ok(&post(&api, "/queue/resume", "").await);
    assert_eq!(shop.views(40).await, 0);
    let report = |done: u64, views: u64, already: u64, refused: u64, missing: Value, dry_run: bool, told: Value| json!({"done": done, "views": views, "already": already, "refused": refused, "missing": missing, "dry_run": dry_run, "told": told});
    let ids: Vec<u64> = shop.rows("SELECT id FROM dead_letters ORDER BY product_id").await;
    let told = json!([{"id": ids[1], "detail": "there is still no product 80"}]);
    let trial = ok(&post(&api, "/dead-letters/replay", r#"{"all":true,"dry_run":true}"#).await);
    assert_eq!(trial, report(1, 5, 0, 1, json!([]), true, told.clone()));
    assert_eq!(shop.shown(&api, 40).await, 0);
    let done = ok(&post(&api, "/dead-letters/replay", r#"{"reason":"unknown_product"}"#).await);
    assert_eq!(done, report(1, 5, 0, 1, json!([]), false, told));
    assert_eq!((shop.views(40).await, shop.shown(&api, 40).await), (5, 5));
    let named = json!({"ids": [ids[0], 99_999]}).to_string();
    assert_eq!(ok(&post(&api, "/dead-letters/replay", &named).await), report(0, 0, 1, 0, json!([99_999]), false, json!([])));
    let dropped = ok(&post(&api, "/dead-letters/drop", r#"{"product_id":80}"#).await);
    assert_eq!(dropped, report(1, 7, 0, 0, json!([]), false, json!([])));
    let account = books.account().await.unwrap().0;
    assert_eq!((account.persisted, account.dead, account.drift()), (5, 7, 0));
}

#[tokio::test]
async fn a_replay_that_meets_a_pause_says_how_many_letters_were_replayed_before() {
    let shop = Shop::start().await;
    let (api, books, writer) = (shop.api().await, shop.books().await, Writer::new(Uuid::new_v4()));
    books.push(&record(writer, 1, 3_600_000, &[(40, 5), (80, 7)])).await;
    books.push(&record(writer, 1, 3_600_000, &[(41, 3)])).await;
    let mut worker = shop.worker().await;
    assert_eq!(books.at_rest().await.dead, 15);
    worker.kill();
    shop.run("INSERT INTO products (id, sku) VALUES (40, 'P40'), (41, 'P41'), (80, 'P80')").await;
    // As a pause that comes between the pieces of two shards.
    shop.run("UPDATE view_shards SET paused_at = CURRENT_TIMESTAMP(6), paused_by = 'ann' WHERE shard = 1").await;
    let told = async |body: &str| {
        let problem = post(&api, "/dead-letters/replay", body).await.problem(409, "queue-paused");
        let detail = problem["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("the queue is paused since ") && detail.contains(" by ann; "), "{detail}");
        detail.split("; ").last().unwrap().to_owned()
    };
    assert_eq!(told(r#"{"all":true,"dry_run":true}"#).await, "nothing was replayed");
    assert_eq!(told(r#"{"all":true}"#).await, "2 letters were replayed before, and no more");
    assert_eq!(told(r#"{"all":true}"#).await, "nothing was replayed");
    assert_eq!((shop.all_views().await, shop.views(41).await), (12, 0));
    assert_eq!(shop.shown(&api, 40).await, 5);
}

#[tokio::test]
async fn what_an_admin_route_cannot_do_is_refused_as_everywhere_and_changes_nothing() {
    let mut shop = Shop::start().await;
    let api = shop.api().await;
    for path in ["", "/", "/nothing", "/queue/", "/queue/nothing"] {
        get(&api, path).await.problem(404, "unknown-route");
    }
    for path in ["/queue/pause", "/queue/resume", "/queue/flush", "/dead-letters/replay", "/dead-letters/drop", "/cache/invalidate"] {
        let refused = get(&api, path).await;
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), "POST", "{path}");
        post(&api, &format!("{path}?x=1"), r#"{"all":true}"#).await.problem(400, "invalid-query");
        post(&api, path, "{").await.problem(400, "malformed-json");
        post(&api, path, r#"{"nonsense":1}"#).await.problem(422, "validation-failed");
        let text = api.client().post(format!("{}/v1/admin{path}", api.ops)).header("content-type", "text/plain").body("{}");
        Reply::to(text).await.problem(415, "unsupported-media-type");
    }
    for path in ["/queue", "/dead-letters", "/stock", "/reservations", "/stream"] {
        let refused = post(&api, path, "").await;
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), "GET, HEAD", "{path}");
        get(&api, &format!("{path}?x=1")).await.problem(400, "invalid-query");
    }
    let numbers = "product_id must be a whole number from 0 to 18446744073709551615";
    for (query, detail) in [
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be a whole number from 1 to 1000"),
        ("limit=x", "limit must be a whole number from 1 to 1000"),
        ("all=1", "all must be true or false"),
        ("reason=bad", "reason must be one of unparsable, out_of_range, unknown_product, refused"),
        ("product_id=-1", numbers),
        ("product_id=18446744073709551616", numbers),
    ] {
        assert_eq!(get(&api, &format!("/dead-letters?{query}")).await.problem(400, "invalid-query")["detail"], detail, "{query}");
    }
    for path in ["/stock", "/reservations"] {
        for limit in ["0", "1001", "-1", "x", "1.5", ""] {
            let problem = get(&api, &format!("{path}?limit={limit}")).await.problem(400, "invalid-query");
            assert_eq!(problem["detail"], "limit must be a whole number from 1 to 1000", "{path} {limit}");
        }
        get(&api, &format!("{path}?limit=1&limit=1")).await.problem(400, "invalid-query");
    }
    for (wait, begins) in [("61s", "wait: must be at most 60 s"), ("10", "wait: the unit is missing; "), ("soon", "wait: "), ("", "wait: ")]
    {
        let problem = post(&api, &format!("/queue/flush?wait={wait}"), "").await.problem(400, "invalid-query");
        assert!(problem["detail"].as_str().unwrap().starts_with(begins), "{problem}");
    }
    for (path, body, pointer) in [
        ("/queue/pause", r#"{"reason":"two\nlines"}"#, "/reason"),
        ("/dead-letters/replay", "{}", ""),
        ("/cache/invalidate", "{}", ""),
        ("/cache/invalidate", r#"{"all":true,"product_ids":[1]}"#, ""),
        ("/cache/invalidate", r#"{"product_ids":[7,0]}"#, "/product_ids/1"),
        ("/dead-letters/drop", r#"{"ids":[0]}"#, "/ids/0"),
        ("/dead-letters/drop", r#"{"all":true,"dry_run":true}"#, "/dry_run"),
    ] {
        let problem = post(&api, path, body).await.problem(422, "validation-failed");
        assert_eq!(harness::pointers(&problem), [pointer], "{body}");
    }
    assert_eq!(shop.number("SELECT COUNT(*) FROM view_shards WHERE paused_at IS NOT NULL").await, 0);
    let page = api.client().post(format!("{}/v1/admin/queue/pause", api.ops)).header("origin", "http://shop.example");
    Reply::to(page).await.problem(403, "foreign-origin");
    for path in ["/v1/admin/queue", "/v1/admin/dead-letters"] {
        api.get(path).await.problem(404, "unknown-route");
    }
    shop.redis.kill();
    let away = eventually("Redis is away", SOON, async || {
        let reply = get(&api, "/queue").await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    away.problem(503, "unavailable");
    assert_eq!(away.header("retry-after"), "1");
    assert_eq!(ok(&post(&api, "/queue/pause", "").await)["changed"], true, "which needs MySQL alone");
}

#[tokio::test]
async fn which_store_refused_and_why_is_told_and_what_may_be_done_is_not_said_to_be_undone() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(1).await;
    let redis = Proxy::to(shop.redis.port()).await;
    let api = shop.api_behind(None, Some(&redis)).await;
    shop.run("SET GLOBAL read_only = ON").await;
    let detail = post(&api, "/queue/pause", "").await.problem(503, "unavailable")["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("a store that this request needs is away; nothing was changed (MySQL: "), "{detail}");
    assert!(detail.contains("read-only"), "{detail}");
    assert_eq!(api.see(1).await.status, 200);
    redis.hold_reply_to("UNLINK");
    let detail = post(&api, "/cache/invalidate", r#"{"product_ids":[1]}"#).await.problem(503, "outcome-unknown")["detail"].take();
    assert!(detail.as_str().unwrap().contains(" (Redis: "), "{detail}");
    assert_eq!(shop.entry(1).await, None, "which was done");
    redis.release();
}
