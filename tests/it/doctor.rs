//! `inventoryctl doctor` on real servers: each is put out of order for real, found, and cured by the very line that is printed.

use harness::{Outcome, Program, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};
use servers::{AppendFsync, RedisOptions};
use telemetry::scope::Scope;
use telemetry::tokens::Digest;

/// What the doctor says.
struct Examined {
    outcome: Outcome,
    rows: Vec<Value>,
}

impl Examined {
    fn row(&self, subject: &str, check: &str) -> &Value {
        let found = self.rows.iter().find(|row| row["subject"] == subject && row["check"] == check);
        found.unwrap_or_else(|| panic!("no row {subject} {check} in {:?}", self.outcome))
    }

    fn state(&self, subject: &str, check: &str) -> &str {
        self.row(subject, check)["state"].as_str().unwrap()
    }

    /// Subject, check and state of the rows that are worse than a note.
    fn deviating(&self) -> Vec<String> {
        let worse = self.rows.iter().filter(|row| row["state"] == "warn" || row["state"] == "bad");
        worse.map(|row| format!("{} {} {}", row["subject"], row["check"], row["state"]).replace('"', "")).collect()
    }

    /// The lines of one kind that cure a row.
    fn cure(&self, subject: &str, check: &str, at: &str) -> Vec<String> {
        let steps = self.row(subject, check)["cure"].as_array().unwrap().iter();
        steps.filter(|step| step["at"] == at).map(|step| step["line"].as_str().unwrap().to_owned()).collect()
    }
}

async fn examine_as(user: &str, shop: &Shop, more: &[&str]) -> Examined {
    let nobody = format!("127.0.0.1:{}", servers::free_port().unwrap());
    let ops: &[&str] = if more.contains(&"--api-ops-listen") { &[] } else { &["--api-ops-listen", &nobody] };
    let outcome = shop.ctl_as(user, None, &[&["doctor", "-o", "json"], ops, more].concat()).await;
    let rows = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome:?}"));
    Examined { outcome, rows }
}

async fn examine(shop: &Shop) -> Examined {
    examine_as("inventory_api", shop, &[]).await
}

fn ops(program: &Program) -> &str {
    program.ops.strip_prefix("http://").unwrap()
}

async fn own_mysql() -> Shop {
    Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await
}

/// Types a line of `redis-cli` that the doctor printed.
async fn redis_cli(shop: &Shop, line: &str) {
    let there = format!("redis-cli -h 127.0.0.1 -p {} ", shop.redis.port());
    let words = line.strip_prefix(&there).unwrap_or_else(|| panic!("{line} does not lead to {there}"));
    let words: Vec<&str> = words.split(' ').map(|word| word.trim_matches('"')).collect();
    redis(shop, &words).await;
}

async fn redis(shop: &Shop, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).exec_async(&mut shop.redis_connection().await).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

async fn config(shop: &Shop, name: &str, value: &str) {
    redis(shop, &["CONFIG", "SET", name, value]).await;
}

/// Types what the doctor printed for a row, and sees that the row is in order.
async fn cured(shop: &Shop, subject: &str, check: &str) {
    let found = examine(shop).await;
    for line in found.cure(subject, check, "sql") {
        shop.run(&line).await;
    }
    for line in found.cure(subject, check, "shell") {
        match line.strip_prefix("inventoryctl ") {
            Some(command) => assert_eq!(shop.ctl_as("inventory_migrate", None, &[command]).await.code, Some(0), "{line}"),
            None => redis_cli(shop, &line).await,
        }
    }
    let after = examine(shop).await;
    assert_eq!(after.state(subject, check), "ok", "{}", after.row(subject, check));
}

#[tokio::test]
async fn a_healthy_shop_deviates_nowhere_to_any_of_its_users() {
    let shop = own_mysql().await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    eventually("the worker asks for views", SOON, async || (examine(&shop).await.state("redis", "workers") == "ok").then_some(())).await;
    for (user, program) in [("inventory_api", "api"), ("inventory_worker", "worker"), ("inventory_migrate", "migrate")] {
        let found = examine_as(user, &shop, &["--api-ops-listen", ops(&api)]).await;
        assert_eq!((found.outcome.code, found.deviating()), (Some(0), vec![]), "{user}: {:?}", found.outcome);
        for (subject, check) in [("mysql", "grants"), ("redis", "owner"), ("api", "ready"), ("mysql", "clock"), ("api", "clock")] {
            assert_eq!(found.state(subject, check), "ok", "{user}: {}", found.row(subject, check));
        }
        assert!(found.row("mysql", "grants")["found"].as_str().unwrap().contains(&format!(": {program}")), "{user}");
    }
    drop(worker);
}

#[tokio::test]
async fn a_mysql_out_of_order_is_found_and_cured_by_the_printed_line() {
    let shop = own_mysql().await;
    let is_mariadb = shop.mysql.as_ref().unwrap().is_mariadb();
    let read_only = format!("SET GLOBAL {} = ON", if is_mariadb { "tx_read_only" } else { "transaction_read_only" });
    let revoke = |right: &str, table: &str| format!("REVOKE {right} ON {}.{table} FROM inventory_api", shop.database());
    let (products, history) = (revoke("UPDATE", "products"), revoke("INSERT", "price_history"));
    let mut cases = vec![
        ("SET GLOBAL sync_binlog = 0", "sync_binlog", "bad"),
        ("SET GLOBAL innodb_flush_log_at_trx_commit = 2", "flush_at_commit", "bad"),
        ("SET GLOBAL binlog_format = 'STATEMENT'", "binlog_format", "bad"),
        ("SET GLOBAL binlog_row_image = 'MINIMAL'", "binlog_row_image", "note"),
        (read_only.as_str(), "writable", "bad"),
        ("SET GLOBAL max_connections = 40", "connections", "warn"),
        ("SET GLOBAL max_allowed_packet = 4194304", "packet", "warn"),
        ("DELETE FROM view_shards WHERE shard = 2", "shards", "bad"),
        ("ALTER TABLE stock_movements ENGINE = MyISAM", "engines", "bad"),
        (products.as_str(), "grants", "bad"),
        (history.as_str(), "grants", "bad"),
    ];
    if is_mariadb {
        cases.push(("SET GLOBAL max_statement_time = 1", "statement_time", "warn"));
    }
    for (breaking, check, state) in cases {
        shop.run(breaking).await;
        let found = examine(&shop).await;
        assert_eq!(found.state("mysql", check), state, "{breaking}: {}", found.row("mysql", check));
        assert_eq!(found.outcome.code, Some(if state == "note" { 0 } else { 5 }), "{breaking}");
        cured(&shop, "mysql", check).await;
    }
    // The cures of all have undone none.
    let found = examine(&shop).await;
    assert_eq!((found.outcome.code, found.deviating()), (Some(0), vec![]));
}

#[tokio::test]
async fn nothing_is_printed_to_be_typed_that_could_make_a_second_primary() {
    let shop = own_mysql().await;
    shop.run("SET GLOBAL read_only = ON").await;
    config(&shop, "min-replicas-to-write", "1").await;
    let found = examine(&shop).await;
    assert_eq!(found.outcome.code, Some(5));
    for (subject, check, first) in [("mysql", "writable", "to the primary"), ("redis", "replicas", "bring the replicas back")] {
        assert_eq!(found.state(subject, check), "bad", "{}", found.row(subject, check));
        let all = found.row(subject, check)["cure"].as_array().unwrap().len();
        let words = found.cure(subject, check, "do");
        assert!(words.len() == all && words[0].contains(first), "{}", found.row(subject, check));
    }
    shop.run("SET GLOBAL read_only = OFF").await;
    config(&shop, "min-replicas-to-write", "0").await;
    let found = examine(&shop).await;
    assert_eq!((found.outcome.code, found.deviating()), (Some(0), vec![]));
}

#[tokio::test]
async fn a_missing_migration_is_found_and_applied_by_the_printed_line() {
    let shop = Shop::start().await;
    shop.run("DELETE FROM refinery_schema_history WHERE version = 9").await;
    shop.run("DROP TABLE stock_subtotals").await;
    let found = examine(&shop).await;
    assert_eq!(found.row("mysql", "schema")["found"], "lacks migration 9 (stock_subtotals)");
    cured(&shop, "mysql", "schema").await;
    shop.run("INSERT INTO refinery_schema_history (version, name, applied_on) VALUES (4711, 'later', '2026-11-21')").await;
    assert_eq!(examine(&shop).await.state("mysql", "schema"), "warn", "a newer program migrated it");
}

#[tokio::test]
async fn a_redis_out_of_order_is_found_and_cured_by_the_printed_line() {
    let shop = own_mysql().await;
    for (name, value, check, state) in [
        ("appendonly", "no", "aof", "bad"),
        ("appendfsync", "no", "appendfsync", "bad"),
        ("appendfsync", "everysec", "appendfsync", "note"),
        ("no-appendfsync-on-rewrite", "yes", "fsync_on_rewrite", "warn"),
        ("maxmemory-policy", "allkeys-lru", "policy", "bad"),
        ("maxmemory-policy", "noeviction", "policy", "warn"),
        ("maxmemory", "1000000gb", "memory", "warn"),
        ("maxmemory", "0", "memory", "note"),
        ("timeout", "2", "idle", "warn"),
        ("lua-time-limit", "20", "script_limit", "warn"),
    ] {
        config(&shop, name, value).await;
        let found = examine(&shop).await;
        assert_eq!(found.state("redis", check), state, "{name} {value}: {}", found.row("redis", check));
        assert_eq!(found.outcome.code, Some(if state == "note" { 0 } else { 5 }), "{name} {value}");
        cured(&shop, "redis", check).await;
    }
    let found = examine(&shop).await;
    assert_eq!((found.outcome.code, found.deviating()), (Some(0), vec![]));
}

#[tokio::test]
async fn a_redis_that_refuses_writes_after_a_failed_snapshot_is_found_and_cured() {
    let shop = Shop::start().await;
    // A snapshot cannot take the place of a folder.
    std::fs::create_dir_all(shop.redis.dir().join("dump.rdb/in-the-way")).unwrap();
    config(&shop, "save", "3600 1").await;
    redis(&shop, &["BGSAVE"]).await;
    let found = eventually("the failed snapshot is found", SOON, async || {
        let found = examine(&shop).await;
        (found.state("redis", "writable") == "bad").then_some(found)
    })
    .await;
    let refused = redis::cmd("SET").arg(&["a", "b"]).exec_async(&mut shop.redis_connection().await).await.unwrap_err();
    assert_eq!(refused.code(), Some("MISCONF"));
    for line in found.cure("redis", "writable", "shell") {
        redis_cli(&shop, &line).await;
    }
    redis(&shop, &["SET", "a", "b"]).await;
    assert_eq!(examine(&shop).await.state("redis", "writable"), "note", "the snapshot is still to be looked after");
}

#[tokio::test]
async fn a_redis_that_is_busy_with_a_script_is_freed_by_the_printed_line() {
    let shop = Shop::start().await;
    config(&shop, "lua-time-limit", "5").await;
    let mut connection = shop.redis_connection().await;
    let endless = tokio::spawn(async move { redis::cmd("EVAL").arg(&["while true do end", "0"]).exec_async(&mut connection).await });
    let found = eventually("the script is met", SOON, async || {
        let found = examine(&shop).await;
        (found.state("redis", "reached") == "bad").then_some(found)
    })
    .await;
    assert_eq!(found.outcome.code, Some(7));
    assert!(found.row("redis", "reached")["found"].as_str().unwrap().contains("BUSY"), "{:?}", found.outcome);
    for line in found.cure("redis", "reached", "shell") {
        redis_cli(&shop, &line).await;
    }
    assert!(endless.await.unwrap().is_err(), "it was killed");
    assert_eq!(examine(&shop).await.state("redis", "reached"), "ok");
    config(&shop, "requirepass", "hunter2").await;
    let found = examine(&shop).await;
    assert!(found.cure("redis", "reached", "do")[0].contains("password"), "{:?}", found.outcome);
    assert_eq!(found.outcome.code, Some(6), "it is there, and lets us not in");
}

#[tokio::test]
async fn a_cache_that_is_no_primary_and_a_queue_that_has_a_replica_are_found() {
    let options = ShopOptions { cache_redis: Some(RedisOptions::default()), ..ShopOptions::default() };
    let shop = Shop::with(options).await;
    config(&shop, "maxmemory-policy", "noeviction").await;
    let found = examine(&shop).await;
    assert_eq!([found.state("cache", "role"), found.state("cache", "separate"), found.state("redis", "policy")], ["ok"; 3]);
    let cache = shop.cache_redis.as_ref().unwrap();
    let mut connection = redis::Client::open(cache.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let primary = ["127.0.0.1".to_owned(), shop.redis.port().to_string()];
    redis::cmd("REPLICAOF").arg(&primary).exec_async(&mut connection).await.unwrap();
    let found = eventually("the replica is connected", SOON, async || {
        let found = examine(&shop).await;
        (found.state("redis", "replicas") == "warn").then_some(found)
    })
    .await;
    assert_eq!(found.state("cache", "role"), "bad");
    assert_eq!(found.cure("cache", "role", "setting"), [format!("INVENTORY_CACHE_REDIS_URL={}", shop.redis.url())]);
    // A replica that counts is one that has acknowledged lately.
    eventually("the printed line cures it", SOON, async || {
        for line in examine(&shop).await.cure("redis", "replicas", "shell") {
            redis_cli(&shop, &line).await;
        }
        (examine(&shop).await.state("redis", "replicas") == "ok").then_some(())
    })
    .await;
    // The setting that was printed leads both roles to one server, which is found in turn.
    let same = examine_as("inventory_api", &shop, &["--cache-redis-url", &shop.redis.url()]).await;
    assert_eq!((same.state("cache", "role"), same.state("cache", "separate")), ("ok", "warn"));
}

#[tokio::test]
async fn a_worker_that_ended_is_missed_more_when_views_wait_for_one() {
    let shop = own_mysql().await;
    let found = examine(&shop).await;
    assert_eq!(
        (found.outcome.code, found.deviating(), found.state("redis", "workers")),
        (Some(0), vec![], "note"),
        "nothing was started yet"
    );
    shop.products(1).await;
    let (api, mut worker) = (shop.api().await, shop.worker().await);
    let until = async |state: &str, words: &str| {
        eventually(words, SOON, async || {
            let found = examine(&shop).await;
            let row = found.row("redis", "workers");
            (row["state"] == state && row["found"] == words).then_some(found)
        })
        .await
    };
    assert_eq!(until("ok", "one is connected").await.outcome.code, Some(0));
    let other = shop.worker().await;
    until("ok", "2 are connected").await;
    drop(other);
    worker.kill();
    assert_eq!(until("warn", "none is connected, and nothing waits for one").await.outcome.code, Some(5));
    shop.view(&api, 1).await;
    until("bad", "none is connected, and 1 view waits for one").await;
    shop.view(&api, 1).await;
    let found = until("bad", "none is connected, and 2 views wait for one").await;
    assert_eq!((found.outcome.code, found.deviating()), (Some(5), vec!["redis workers bad".to_owned()]));
    assert_eq!(found.cure("redis", "workers", "shell"), ["systemctl start inventory-worker"]);
    assert!(found.cure("redis", "workers", "do")[0].contains("journalctl -u inventory-worker"), "{:?}", found.outcome);
    worker.restart().await;
    assert_eq!(until("ok", "one is connected").await.outcome.code, Some(0));
}

#[tokio::test]
async fn a_prefix_of_another_database_is_found_and_the_printed_setting_cures_it() {
    let shop = Shop::start().await;
    assert_eq!(examine(&shop).await.state("redis", "owner"), "ok", "nobody's yet");
    redis(&shop, &["SET", "inventory:owner", "another"]).await;
    let found = examine(&shop).await;
    assert_eq!(found.state("redis", "owner"), "bad");
    let [setting] = &found.cure("redis", "owner", "setting")[..] else { panic!("{:?}", found.outcome) };
    let (name, value) = setting.split_once('=').unwrap();
    assert_eq!(name, "INVENTORY_KEY_PREFIX");
    let cured = examine_as("inventory_api", &shop, &["--key-prefix", value]).await;
    assert_eq!(cured.state("redis", "owner"), "ok");
}

#[tokio::test]
async fn without_config_a_redis_is_judged_by_info_and_no_password_is_shown() {
    let redis_options = RedisOptions { append_fsync: AppendFsync::Off, ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis: redis_options, ..ShopOptions::default() }).await;
    redis(&shop, &["ACL", "SETUSER", "managed", "on", ">hunter2", "~*", "+@all", "-config", "-client"]).await;
    let url = format!("redis://managed:hunter2@127.0.0.1:{}/0", shop.redis.port());
    let found = examine_as("inventory_api", &shop, &["--redis-url", &url]).await;
    assert_eq!((found.state("redis", "config"), found.state("redis", "aof")), ("note", "bad"));
    let workers = found.row("redis", "workers");
    assert!(workers["state"] == "note" && workers["found"].as_str().unwrap().starts_with("not examined: "), "{workers}");
    assert!(found.rows.iter().all(|row| row["check"] != "idle"), "{:?}", found.outcome);
    assert!(found.outcome.stdout.contains("--user managed") && !format!("{:?}", found.outcome).contains("hunter2"));
}

#[tokio::test]
async fn a_store_that_is_away_is_a_row_and_the_rest_is_examined() {
    let mut shop = own_mysql().await;
    let api = shop.api().await;
    shop.redis.kill();
    let found = eventually("the API notices", SOON, async || {
        let found = examine_as("inventory_api", &shop, &["--api-ops-listen", ops(&api)]).await;
        (found.state("api", "ready") == "warn").then_some(found)
    })
    .await;
    assert_eq!((found.outcome.code, found.state("redis", "reached"), found.state("mysql", "grants")), (Some(7), "bad", "ok"));
    shop.redis.restart().unwrap();
    let mysql = shop.mysql.as_mut().unwrap();
    mysql.pause().unwrap();
    let found = examine(&shop).await;
    assert_eq!((found.outcome.code, found.state("mysql", "reached"), found.state("redis", "aof")), (Some(7), "bad", "ok"));
    assert_eq!(found.state("redis", "owner"), "note", "only MySQL could tell whose it is");
    shop.mysql.as_mut().unwrap().kill();
    let found = examine(&shop).await;
    assert_eq!((found.outcome.code, found.state("mysql", "reached"), found.state("redis", "aof")), (Some(7), "bad", "ok"));
    let why = found.row("mysql", "reached")["found"].as_str().unwrap();
    assert!(why.ends_with(": MySQL: Connection refused (os error 111)"), "{why}");
}

#[tokio::test]
async fn a_server_that_lets_us_not_in_says_what_to_do() {
    let shop = Shop::start().await;
    let found = examine_as("nobody", &shop, &[]).await;
    assert_eq!((found.outcome.code, found.state("mysql", "reached")), (Some(6), "bad"));
    let away = format!("redis://127.0.0.1:{}/0", servers::free_port().unwrap());
    let both = examine_as("nobody", &shop, &["--redis-url", &away]).await;
    assert_eq!(both.outcome.code, Some(7), "one that is away weighs more");
    assert!(found.cure("mysql", "reached", "do")[0].contains("user and password"), "{:?}", found.outcome);
    let beyond = format!("redis://127.0.0.1:{}/4711", shop.redis.port());
    let found = examine_as("inventory_api", &shop, &["--redis-url", &beyond]).await;
    assert_eq!((found.outcome.code, found.state("redis", "reached")), (Some(6), "bad"));
    assert!(found.cure("redis", "reached", "do")[0].contains("INVENTORY_REDIS_URL"), "{:?}", found.outcome);
    let absent = format!("{}_absent", shop.mysql_url("root"));
    let found = examine_as("root", &shop, &["--mysql-url", &absent]).await;
    assert_eq!(found.outcome.code, Some(6));
    let [line] = &found.cure("mysql", "reached", "sql")[..] else { panic!("{:?}", found.outcome) };
    shop.run(line).await;
    let found = examine_as("root", &shop, &["--mysql-url", &absent]).await;
    assert_eq!((found.state("mysql", "reached"), found.state("mysql", "schema")), ("ok", "bad"), "there, and to be migrated");
    assert_eq!(found.state("mysql", "grants"), "note", "an administrator");
    shop.run(&format!("DROP DATABASE {}_absent", shop.database())).await;
}

#[tokio::test]
async fn the_metrics_of_an_api_that_asks_for_tokens_are_examined_with_one_and_noted_without() {
    let shop = Shop::start().await;
    let secret = |scope: Scope| format!("inv_secret-of-{scope}");
    let entry = |scope: Scope| {
        let hash = Digest::of(secret(scope).as_bytes()).hex();
        format!("[[token]]\nname = \"{scope}\"\nscopes = [\"{scope}\"]\nsha256 = \"{hash}\"\n")
    };
    let file = shop.dir().join("tokens.toml");
    std::fs::write(&file, entry(Scope::MetricsRead) + &entry(Scope::CatalogRead)).unwrap();
    let port = servers::free_port().unwrap();
    let everywhere = ("INVENTORY_API_OPS_LISTEN", format!("0.0.0.0:{port}"));
    let _api = shop.api_with(&[("INVENTORY_TOKENS_FILE", file.to_str().unwrap().to_owned()), everywhere]).await;
    let here = format!("127.0.0.1:{port}");
    let ops = ["--api-ops-listen", &here];
    let (wrong, right) = (secret(Scope::CatalogRead), secret(Scope::MetricsRead));
    for (token, status) in [(&[][..], "401 Unauthorized"), (&["--token", &wrong], "403 Forbidden")] {
        let found = examine_as("inventory_api", &shop, &[&ops, token].concat()).await;
        assert_eq!(found.state("api", "ready"), "ok");
        for check in ["account", "lost"] {
            assert_eq!(found.row("api", check)["found"], format!("not examined: /metrics answered {status}"));
            assert_eq!(found.state("api", check), "note");
            let cure = &found.cure("api", check, "do")[0];
            assert!(cure.contains("INVENTORY_TOKEN") && cure.contains("metrics:read"), "{cure}");
        }
        assert!(!format!("{:?}", found.outcome).contains("secret-of"), "{:?}", found.outcome);
    }
    let found = examine_as("inventory_api", &shop, &[&ops[..], &["--token", &right]].concat()).await;
    assert_eq!(["account", "lost"].map(|check| found.state("api", check)), ["ok"; 2]);
}

#[tokio::test]
async fn views_are_out_of_account_only_if_they_stay_so() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let drift = async |drift: f64| {
        eventually("the API has counted", SOON, async || (api.metric("inventory_views_conservation_drift").await == drift).then_some(()))
            .await;
    };
    let account = async || examine_as("inventory_api", &shop, &["--api-ops-listen", ops(&api)]).await;
    shop.run("UPDATE view_shards SET persisted = persisted + 3 WHERE shard = 0").await;
    drift(-3.0).await;
    let found = account().await;
    assert_eq!((found.outcome.code, found.state("api", "account")), (Some(5), "warn"));
    assert_eq!(found.row("api", "account")["found"], "inventory_views_conservation_drift = -3");

    // Even again, which the API tells some seconds later.
    shop.run("UPDATE view_shards SET persisted = persisted + 1 WHERE shard = 0").await;
    drift(-4.0).await;
    shop.run("UPDATE view_shards SET persisted = persisted - 4 WHERE shard = 0").await;
    let found = account().await;
    assert_eq!(found.row("api", "account")["found"], "even");
}

#[tokio::test]
async fn what_the_user_may_not_see_is_a_note_with_the_grant_until_it_has_the_rights_of_a_program() {
    let shop = Shop::start().await;
    let user = format!("{}_reader", shop.database());
    shop.run(&format!("CREATE USER {user}@'%'")).await;
    shop.run(&format!("GRANT SELECT ON {}.products TO {user}@'%'", shop.database())).await;
    let found = examine_as(&user, &shop, &[]).await;
    assert_eq!(["schema", "shards"].map(|check| found.state("mysql", check)), ["note"; 2]);
    assert_eq!(found.state("mysql", "grants"), "bad");
    let lines = found.rows.iter().flat_map(|row| row["cure"].as_array().unwrap()).filter(|step| step["at"] == "sql");
    let lines: Vec<&str> = lines.map(|step| step["line"].as_str().unwrap()).filter(|line| line.starts_with("GRANT")).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        shop.run(line).await;
    }
    let found = examine_as(&user, &shop, &[]).await;
    assert_eq!(["schema", "shards", "grants"].map(|check| found.state("mysql", check)), ["ok"; 3], "{:?}", found.outcome);
    shop.run(&format!("DROP USER {user}@'%'")).await;
}

#[tokio::test]
async fn a_trigger_that_the_user_may_not_see_is_left_to_who_may() {
    let shop = own_mysql().await;
    shop.run("SET GLOBAL log_bin_trust_function_creators = 1").await;
    assert_eq!(shop.ctl_as("inventory_migrate", None, &["migrate"]).await.code, Some(0));
    for user in ["inventory_api", "inventory_worker"] {
        let found = examine_as(user, &shop, &[]).await;
        let row = found.row("mysql", "version_trigger");
        assert_eq!((&row["state"], &row["found"]), (&json!("note"), &json!("this user may not see it")), "{user}");
        assert!(found.cure("mysql", "version_trigger", "do")[0].contains("`inventoryctl doctor`"), "{row}");
    }
    for user in ["inventory_migrate", "root"] {
        assert_eq!(examine_as(user, &shop, &[]).await.state("mysql", "version_trigger"), "ok", "{user}");
    }
}

#[tokio::test]
async fn a_user_that_has_no_right_yet_is_led_to_the_grants_and_not_to_the_password() {
    let shop = Shop::start().await;
    let user = format!("{}_no_right", shop.database());
    shop.run(&format!("CREATE USER {user}@'%'")).await;
    let found = examine_as(&user, &shop, &[]).await;
    assert_eq!((found.outcome.code, found.state("mysql", "reached")), (Some(6), "bad"));
    assert!(found.row("mysql", "reached")["found"].as_str().unwrap().contains("ERROR 1044 "), "{:?}", found.outcome);
    let cure = found.cure("mysql", "reached", "do").join("; ");
    assert!(cure.contains("deploy/grants.sql") && !cure.contains("password"), "{cure}");
    shop.run(&format!("DROP USER {user}@'%'")).await;
}

#[tokio::test]
async fn people_read_what_deviates_and_programs_every_field() {
    let shop = own_mysql().await;
    shop.run("SET GLOBAL sync_binlog = 0").await;
    let nobody = format!("127.0.0.1:{}", servers::free_port().unwrap());
    let said = async |form: &str| shop.ctl(None, &["doctor", "-o", form, "--api-ops-listen", &nobody]).await;
    let report = said("table").await;
    assert_eq!((report.code, report.stderr.as_str()), (Some(5), ""));
    for line in ["  BAD   sync_binlog       sync_binlog = 0\n", "  sql         SET GLOBAL sync_binlog = 1;\n", "\n1 bad, 0 warn, "] {
        assert!(report.stdout.contains(line), "{line:?} in {}", report.stdout);
    }
    assert!(!report.stdout.contains("lua-time-limit is"), "what is in order is not explained");
    let rows = said("json").await.json(5);
    let rows = rows.as_array().unwrap();
    let csv = said("csv").await.stdout;
    assert_eq!(said("ndjson").await.stdout.lines().count(), rows.len());
    let records: Vec<_> = csv::Reader::from_reader(csv.as_bytes()).into_records().map(Result::unwrap).collect();
    assert_eq!(records.len(), rows.len());
    let fields = ["subject", "check", "state", "found", "rests", "lost"];
    for (record, row) in records.iter().zip(rows) {
        // The rest of what is found may change from one look to the next.
        let same = fields.iter().enumerate().filter(|(_, field)| ["subject", "check", "state", "rests"].contains(field));
        same.for_each(|(column, field)| assert_eq!(json!(record[column]), row[*field]));
        assert!(fields.iter().all(|field| row[*field].is_string()) && row["cure"].is_array(), "{row}");
    }
}
