//! The console's files and its event stream, as a client of the ops listener meets them.

use harness::{Program, Reply, SOON, Shop, eventually};
use serde_json::Value;

/// An open stream.
struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(api: &Program) -> Self {
        let answer = api.client().get(format!("{}/v1/admin/stream", api.ops)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new() }
    }

    /// The next event: its name and data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
                let told = (name.to_owned(), serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                return told;
            }
            let chunk = tokio::time::timeout(SOON, self.answer.chunk()).await.expect("an event comes each second");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap().expect("the stream goes on")).unwrap());
        }
    }

    /// Reads on until an event tells what is looked for.
    async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..60 {
            let (_, now) = self.next().await;
            if is(&now) {
                return now;
            }
        }
        panic!("within a minute it was not told that {what}");
    }
}

#[tokio::test]
async fn the_stream_tells_what_was_and_then_each_second_what_is() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    for _ in 0..5 {
        shop.view(&api, 1).await;
    }
    let mut first = Stream::open(&api).await;
    first.until("a second passed", |now| now["sample"].is_object()).await;
    let mut stream = Stream::open(&api).await;
    let (name, history) = stream.next().await;
    assert_eq!((name.as_str(), &history["interval_seconds"]), ("history", &1.into()));
    let last = history["samples"].as_array().unwrap().last().unwrap()["at"].as_f64().unwrap();
    let (name, now) = stream.next().await;
    assert!(name == "now" && now["sample"]["at"].as_f64().unwrap() > last, "{now}");
    let settled = stream.until("all views are in MySQL", |now| now["sample"]["persisted"] == 5).await;
    assert_eq!((&settled["sample"]["accepted"], &settled["sample"]["drift"]), (&5.into(), &0.into()));
    let listed = stream.until("a worker is connected", |now| now["sample"]["workers"] == 1).await;
    assert_eq!((&listed["verdict"]["state"], &listed["paused"]), (&"well".into(), &Value::Null), "{listed}");
    drop(worker);
    stream.until("no worker is connected", |now| now["sample"]["workers"] == 0).await;
    // A client of the tests gives an answer half a minute.
    let mut stream = Stream::open(&api).await;
    let pause = api.client().post(format!("{}/v1/admin/queue/pause", api.ops)).header("content-type", "application/json");
    let hold = Reply::to(pause.body(r#"{"reason":"a new disk"}"#)).await.json()["paused"].take();
    let paused = stream.until("the queue is paused", |now| now["sample"]["paused"] == true).await;
    assert_eq!((&paused["paused"], &paused["verdict"]["alert"]), (&hold, &"InventoryQueuePaused".into()));
    Reply::to(api.client().post(format!("{}/v1/admin/queue/resume", api.ops))).await;
    let resumed = stream.until("it is resumed", |now| now["sample"]["paused"] == false).await;
    assert_eq!((&resumed["paused"], &resumed["verdict"]["state"]), (&Value::Null, &"well".into()));
}

#[tokio::test]
async fn a_process_that_waits_for_mysql_says_so_and_not_that_it_was_lost() {
    let shop = Shop::start().await;
    let away = format!("mysql://inventory_api@127.0.0.1:{}/{}", servers::free_port().unwrap(), shop.database());
    let api = shop.api_starting(&[("INVENTORY_MYSQL_URL", away)]).await;
    let live = format!("{}/livez", api.ops);
    eventually("it listens", SOON, async || api.client().get(&live).send().await.ok()).await;
    let mut stream = Stream::open(&api).await;
    let told =
        stream.until("it waits, and why", |now| now["verdict"]["sentence"].as_str().is_some_and(|told| told.contains("refused"))).await;
    let verdict = &told["verdict"];
    assert_eq!((&verdict["state"], &verdict["alert"]), (&"watch".into(), &"InventoryMysqlAway".into()));
    assert!(verdict["sentence"].as_str().unwrap().starts_with("This API is starting"), "{verdict}");
}

#[tokio::test]
async fn a_redis_that_hangs_stops_no_sample_and_one_that_is_full_is_as_it_was_meant_to_be() {
    let mut shop = Shop::start().await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    let mut stream = Stream::open(&api).await;
    let well = stream.until("all is well", |now| now["sample"]["workers"] == 1 && now["verdict"]["state"] == "well").await;
    let used = well["sample"]["redis_used"].as_u64().unwrap();
    let mut redis = shop.redis_connection().await;
    let mut config = async |name: &str, value: String| {
        redis::cmd("CONFIG").arg(&["SET", name, &value]).exec_async(&mut redis).await.unwrap();
    };
    // It throws out cached products, and that is no trouble; where it may not, views are refused soon.
    config("maxmemory", (used * 11 / 10).to_string()).await;
    let full = stream.until("it is nearly full", |now| now["sample"]["redis_limit"].as_u64() == Some(used * 11 / 10)).await;
    assert_eq!(full["verdict"]["state"], "well", "{full}");
    config("maxmemory-policy", "noeviction".to_owned()).await;
    stream.until("it may not evict", |now| now["verdict"]["alert"] == "InventoryRedisMemoryHigh").await;
    config("maxmemory", "0".to_owned()).await;
    stream.until("there is room", |now| now["sample"]["redis_limit"] == 0).await;

    let mut stream = Stream::open(&api).await;
    shop.redis.pause().unwrap();
    let mut now = stream.until("Redis is away", |now| now["sample"]["redis_up"] == false).await;
    assert_eq!(now["verdict"]["alert"], "InventoryRedisAway");
    // The workers are listed within five samples.
    for _ in 0..6 {
        let then = now["sample"]["at"].as_f64().unwrap();
        (_, now) = stream.next().await;
        assert!(now["sample"]["at"].as_f64().unwrap() - then < 3.0, "{then}, then {now}");
        assert_eq!((&now["sample"]["depth"], &now["sample"]["redis_up"]), (&Value::Null, &false.into()));
    }
    assert_eq!(now["sample"]["workers"], Value::Null, "nobody can list them");
    let mut stream = Stream::open(&api).await;
    shop.redis.resume().unwrap();
    stream.until("all is well again", |now| now["sample"]["workers"] == 1 && now["verdict"]["state"] == "well").await;
}

#[tokio::test]
async fn a_drain_that_hangs_is_told_with_the_command_that_mends_it() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (api, mut worker) = (shop.api().await, shop.worker().await);
    let mut stream = Stream::open(&api).await;
    stream.until("all is well", |now| now["verdict"]["state"] == "well" && now["sample"]["workers"] == 1).await;
    worker.signal("STOP");
    for _ in 0..3 {
        shop.view(&api, 1).await;
    }
    let hangs = |now: &Value| now["verdict"]["sentence"].as_str().unwrap().contains("the one worker that is connected hangs");
    let told = stream.until("the drain has stopped", |now| now["verdict"]["alert"] == "InventoryDrainStopped" && hangs(now)).await;
    let verdict = &told["verdict"];
    assert_eq!((&verdict["state"], &verdict["command"]), (&"trouble".into(), &"systemctl restart inventory-worker".into()));
    let sentence = verdict["sentence"].as_str().unwrap();
    assert!(sentence.contains("hangs. 3 views wait"), "{sentence}");
    let worker_told = api.get_ops("/v1/admin/queue").await.json()["workers"][0].take();
    assert!(worker_told["hangs"] == true && worker_told["silent_seconds"].as_u64().unwrap() >= 10, "{worker_told}");
    worker.signal("CONT");
    stream.until("all is well again", |now| now["verdict"]["state"] == "well").await;
}

#[tokio::test]
async fn the_pages_load_and_ask_nothing_but_their_own_listener() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let page = api.get_ops("/console").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for path in ["queue", "dead-letters", "product", "stock", "checks", "system"] {
        assert_eq!(api.get_ops(&format!("/console/{path}")).await.text, page.text, "{path}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = &page.text;
    let named: Vec<&str> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| text.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let files: Vec<&&str> = named.iter().filter(|path| path.starts_with("/console/assets/")).collect();
    assert!(files.len() >= 2, "{named:?}");
    for file in files {
        let answer = api.get_ops(file).await;
        assert_eq!(answer.status, 200, "{file}");
        let again = Reply::to(api.client().get(format!("{}{file}", api.ops)).header("if-none-match", answer.header("etag"))).await;
        assert_eq!(again.status, 304, "{file}");
    }
    assert!(named.iter().all(|path| path.starts_with('/') || path.starts_with('#') || path.starts_with("data:")), "{named:?}");
    api.get_ops("/console/none").await.problem(404, "unknown-route");
}

#[tokio::test]
async fn so_many_consoles_may_be_open_and_no_more() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(Stream::open(&api).await);
    }
    api.get_ops("/v1/admin/stream").await.problem(503, "too-many-streams");
    open.pop();
    eventually("there is room for another", SOON, async || {
        let answer = api.client().get(format!("{}/v1/admin/stream", api.ops)).send().await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
}
