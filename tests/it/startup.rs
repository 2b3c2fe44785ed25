//! What a process refuses to start with, what it waits for, and what it sets up before it serves.

use harness::{Program, SOON, Shop, ShopOptions, eventually};
use mysql_async::prelude::Queryable;
use serde_json::json;
use servers::{AppendFsync, RedisOptions};
use std::collections::BTreeMap;

/// Starts an API that must end by itself, and returns what it said.
async fn refused(shop: &Shop, extra: &[(&str, String)]) -> String {
    ended(shop.api_starting(extra).await).await
}

async fn ended(mut program: Program) -> String {
    let (code, said) = program.ended().await;
    assert!(code.is_some_and(|code| code != 0), "ended with {code:?}: {said}");
    said
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_with_what_to_run() {
    let shop = Shop::start().await;
    shop.run("DELETE FROM refinery_schema_history ORDER BY version DESC LIMIT 1").await;
    let words = ["the schema lacks migration 9 (stock_subtotals)", "inventoryctl migrate"];
    assert_says(&refused(&shop, &[]).await, &words);
    assert_says(&ended(shop.worker_starting(&[]).await).await, &words);
    shop.run("DROP TABLE refinery_schema_history").await;
    assert_says(&refused(&shop, &[]).await, &["the schema lacks migration 1", "inventoryctl migrate"]);
}

#[tokio::test]
async fn a_statement_binlog_is_refused_with_what_to_set() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.run("SET GLOBAL binlog_format = 'STATEMENT'").await;
    assert_says(&refused(&shop, &[]).await, &["binlog_format=STATEMENT", "set binlog_format=ROW"]);
    assert_says(&ended(shop.worker_starting(&[]).await).await, &["binlog_format=STATEMENT"]);
    shop.run("SET GLOBAL binlog_format = 'MIXED'").await;
    shop.api().await;
}

#[tokio::test]
async fn a_queue_that_could_be_evicted_is_refused() {
    for policy in ["allkeys-lru", "allkeys-random"] {
        let redis = RedisOptions { maxmemory_policy: Some(policy.into()), ..RedisOptions::default() };
        let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
        let words = [policy, "evict views", "noeviction"];
        assert_says(&refused(&shop, &[]).await, &words);
        assert_says(&ended(shop.worker_starting(&[]).await).await, &words);
    }
}

#[tokio::test]
async fn a_prefix_of_another_deployment_is_refused_naming_both_and_the_cure() {
    let (shop, other) = (Shop::start().await, Shop::start().await);
    shop.api().await;
    let id = async |shop: &Shop| shop.rows::<String>("SELECT id FROM deployment").await.remove(0);
    let at_ours = [("INVENTORY_REDIS_URL", shop.redis.url())];
    let (ours, theirs) = (id(&shop).await, id(&other).await);
    let words = [ours.as_str(), theirs.as_str(), "belongs to another database", "INVENTORY_KEY_PREFIX"];
    assert_says(&refused(&other, &at_ours).await, &words);
    assert_says(&ended(other.worker_starting(&at_ours).await).await, &words);
    // The cache's Redis has an owner of its own.
    let cache_at_ours = [("INVENTORY_CACHE_REDIS_URL", shop.redis.url())];
    assert_says(&refused(&other, &cache_at_ours).await, &words);
    // The cure works.
    let [at_ours] = at_ours;
    other.api_with(&[at_ours, ("INVENTORY_KEY_PREFIX", "other".into())]).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_as_anothers_makes_the_api_unready() {
    let mut shop = Shop::start().await;
    let api = shop.api().await;
    redis::cmd("SET").arg(&["inventory:owner", "another"]).exec_async(&mut shop.redis_connection().await).await.unwrap();
    shop.redis.restart().unwrap();
    eventually("the API says whose it is", SOON, async || {
        let answer = api.get_ops("/readyz").await;
        (answer.status == 503 && answer.text.contains("deployment another")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn settings_of_redis_that_lose_or_refuse_views_are_warned_of() {
    let redis = RedisOptions { append_fsync: AppendFsync::Off, maxmemory_policy: Some("noeviction".into()), ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
    let api = shop.api().await;
    assert_says(&api.log(), &["AOF off", "set appendonly yes", "set maxmemory-policy volatile-lfu"]);
    assert_eq!(api.metric(r#"inventory_redis_policy_ok{role="queue"}"#).await, 0.0);
    let usual = Shop::start().await;
    let api = usual.api().await;
    assert!(!api.log().contains("WARN"), "{}", api.log());
    assert_eq!(api.metric(r#"inventory_redis_policy_ok{role="queue"}"#).await, 1.0);
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_with_what_would_do() {
    let shop = Shop::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, value, words) in [
        ("INVENTORY_CACHE_TLL", "5m", vec!["INVENTORY_CACHE_TLL", "did you mean INVENTORY_CACHE_TTL?"]),
        ("INVENTORY_RATE_LIMIT", "5", vec!["INVENTORY_RATE_LIMIT", "not supported yet"]),
        ("INVENTORY_CACHE_TTL", "5", vec!["the unit is missing", "5m"]),
        ("INVENTORY_CACHE_TTL", "0s", vec!["must be above 0"]),
        ("INVENTORY_MYSQL_CONNECTIONS", "1", vec!["--mysql-connections", "2..=10000"]),
        ("INVENTORY_KEY_PREFIX", "a{b}", vec!["--key-prefix", "A-Z a-z 0-9"]),
        ("INVENTORY_LOG", "loud=very", vec!["INVENTORY_LOG"]),
        ("INVENTORY_MYSQL_URL", "localhost", vec!["mysql://user:password@host:port/database"]),
        ("INVENTORY_MYSQL_URL", "mysql://u:secret@127.0.0.1:1", vec!["names no database"]),
        ("INVENTORY_REDIS_URL", "rediss://127.0.0.1:1", vec!["rediss:// is not supported yet"]),
        ("INVENTORY_REDIS_URL", "127.0.0.1:6379", vec!["redis://host:port/db"]),
        ("INVENTORY_MYSQL_URL_FILE", "/nowhere", vec!["leave one of them out"]),
        ("INVENTORY_API_LISTEN", taken.as_str(), vec!["cannot listen on", taken.as_str(), "INVENTORY_API_LISTEN"]),
        ("INVENTORY_API_OPS_LISTEN", taken.as_str(), vec!["cannot listen on", taken.as_str(), "INVENTORY_API_OPS_LISTEN"]),
        ("INVENTORY_API_LISTEN", "0.0.0.0:8080", vec!["beyond loopback is refused without tokens", "127.0.0.1:8080"]),
        ("INVENTORY_API_OPS_LISTEN", "[::]:8081", vec!["beyond loopback is refused", "127.0.0.1:8081"]),
    ] {
        // The port above must stay taken while the program runs.
        let _held = std::net::TcpListener::bind(&taken);
        let said = refused(&shop, &[(name, value.to_owned())]).await;
        assert_says(&said, &words);
        assert!(!said.contains("secret"), "a password is never printed: {said}");
    }
    assert_says(&refused(&shop, &[("INVENTORY_MYSQL_URL", shop.mysql_url("nobody"))]).await, &["Access denied"]);
    assert_says(&refused(&shop, &[("INVENTORY_MYSQL_URL", format!("{}_not", shop.mysql_url("root")))]).await, &["Unknown database"]);
}

#[tokio::test]
async fn an_api_without_its_stores_listens_says_what_it_awaits_and_goes_on_by_itself() {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(1).await;
    shop.mysql.as_mut().unwrap().kill();
    shop.redis.kill();
    let mut api = shop.api_starting(&[]).await;
    let client = reqwest::Client::new();
    eventually("it is alive", SOON, async || client.get(format!("{}/livez", api.ops)).send().await.ok()).await;
    let awaited = eventually("it says what it awaits", SOON, async || {
        let problem = api.get_ops("/readyz").await.problem(503, "unready");
        let detail = problem["detail"].as_str().unwrap().to_owned();
        detail.contains("MySQL: ").then_some(detail)
    })
    .await;
    assert_says(&awaited, &["mysql is awaited", "redis is awaited"]);
    for path in ["/v1/products/1", "/v1/products?ids=1"] {
        let answer = api.get(path).await;
        answer.problem(503, "starting");
        assert_eq!(answer.header("retry-after"), "1");
    }
    api.put_price(1, "2.00").await.problem(503, "starting");
    api.send("POST", "/v1/products/1/views", "").await.problem(503, "starting");
    let mut worker = shop.worker_starting(&[]).await;
    eventually("the worker is alive", SOON, async || client.get(format!("{}/livez", worker.ops)).send().await.ok()).await;
    assert_eq!(worker.get_ops("/readyz").await.status, 503);

    // MySQL alone is enough for reads; ready means that requests are answered.
    shop.mysql.as_mut().unwrap().restart().unwrap();
    api.ready().await;
    assert!(api.see(1).await.is(1, "1.00"));
    assert_eq!(api.get_ops("/readyz?verbose").await.json()["readiness"], "degraded");
    assert_eq!(worker.get_ops("/readyz").await.status, 503, "a worker needs both");
    shop.redis.restart().unwrap();
    eventually("prices can be written", SOON, async || (api.put_price(1, "2.00").await.status == 200).then_some(())).await;
    worker.ready().await;
    assert_eq!(api.exited(), None);
}

#[tokio::test]
async fn whoever_sees_an_api_ready_is_served() {
    let shop = Shop::start().await;
    shop.products(1).await;
    for _ in 0..10 {
        let api = shop.api().await;
        assert_eq!(api.see(1).await.status, 200);
    }
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_all_succeed_and_agree() {
    let shop = Shop::start().await;
    let empty = format!("{}_empty", shop.database());
    shop.run(&format!("CREATE DATABASE {empty} CHARACTER SET utf8mb4")).await;
    let url = format!("mysql://root@127.0.0.1:{}/{empty}", shop.mysql_port());
    let arguments = ["--mysql-url", &url, "--output", "json", "migrate", "--shards", "8"];
    let ended = futures_util::future::join_all((0..4).map(|_| shop.ctl_as("root", None, &arguments))).await;
    for outcome in &ended {
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    assert_eq!(shop.number(&format!("SELECT COUNT(*) FROM {empty}.deployment")).await, 1);
    assert_eq!(shop.number(&format!("SELECT COUNT(*) FROM {empty}.view_shards")).await, 8);
    assert_eq!(shop.number(&format!("SELECT COUNT(*) FROM {empty}.refinery_schema_history")).await, 9);
    shop.api_with(&[("INVENTORY_MYSQL_URL", url.clone()), ("INVENTORY_KEY_PREFIX", "empty".into())]).await;
    shop.run(&format!("DROP DATABASE {empty}")).await;
}

/// What the server's log holds of each connection of a user, in the order of the log (its times are in each session's own zone).
async fn statements_by_connection(shop: &Shop, user: &str) -> BTreeMap<u64, Vec<String>> {
    let sql = format!(
        "SELECT thread_id, CONVERT(argument USING utf8mb4) FROM mysql.general_log \
         WHERE user_host LIKE '%{user}%' AND command_type IN ('Query', 'Execute', 'Prepare')"
    );
    let mut connections: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (connection, statement) in shop.rows::<(u64, String)>(&sql).await {
        connections.entry(connection).or_default().push(statement);
    }
    connections
}

#[tokio::test]
async fn every_connection_sets_up_its_session_before_anything_else() {
    const PRODUCTS: u64 = 32;
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    // All that a session would otherwise inherit is wrong.
    shop.run("SET GLOBAL sql_mode = '', time_zone = '+05:00', wait_timeout = 600, innodb_lock_wait_timeout = 50").await;
    shop.run("SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
    shop.run("SET GLOBAL log_output = 'TABLE', general_log = ON").await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    let writes = (1..=PRODUCTS).map(|id| api.put_price(id, "2.00"));
    assert!(futures_util::future::join_all(writes).await.iter().all(|answer| answer.status == 200));
    shop.run("SET GLOBAL general_log = OFF").await;

    let isolation = if shop.mysql.as_ref().unwrap().is_mariadb() { "@@tx_isolation" } else { "@@transaction_isolation" };
    let settings = format!(
        "SELECT JSON_ARRAY({isolation}, @@sql_mode, @@time_zone, @@innodb_lock_wait_timeout, @@wait_timeout, @@character_set_client)"
    );
    let expected = json!([
        "READ-COMMITTED",
        "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
        "+00:00",
        2,
        10,
        "utf8mb4"
    ]);
    for (user, least) in [("inventory_api", 4), ("inventory_worker", 1)] {
        let connections = statements_by_connection(&shop, user).await;
        assert!(connections.len() >= least, "{user} made {} connections", connections.len());
        for (connection, statements) in connections {
            // The same statements, said again, must give the same session.
            let mut replay = mysql_async::Conn::from_url(shop.mysql_url("root")).await.unwrap();
            let is_set_up = |statement: &&String| statement.starts_with("SET ") || statement.contains("@@");
            for statement in statements.iter().take_while(is_set_up) {
                replay.query_drop(statement).await.unwrap();
            }
            let text: String = replay.query_first(&settings).await.unwrap().unwrap();
            let session: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(session, expected, "{user}, connection {connection}: {statements:?}");
        }
    }
}
