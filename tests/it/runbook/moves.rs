//! The procedures in which a store is put in place of another.

use super::book::ROOT;
use super::stage::{PRODUCTS, Stage};
use super::walk::{Walk, as_root, client};
use harness::{Crowd, SOON, Shop, eventually, seed};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use servers::{Mysql, MysqlOptions, Redis, RedisOptions};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

fn walk(name: &str, stage: &Stage) -> Walk {
    Walk::new(name, &stage.shop, &stage.api, &stage.worker)
}

async fn status(shop: &Shop, more: &[&str]) -> Value {
    shop.ctl(None, &[&["queue", "status", "-o", "json"], more].concat()).await.json(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_moved_under_load_and_no_view_is_lost() {
    let mut stage = Stage::with_own_mysql().await;
    let new = Redis::start(RedisOptions { dir: stage.shop.dir().join("new-redis"), ..RedisOptions::default() }).unwrap();
    let crowd = Crowd::start(std::slice::from_ref(&stage.api.url), PRODUCTS, 4, seed());
    crowd.accepts(500).await;
    let mut walk = walk("Redis moved without losing a view", &stage);
    walk.set("NEW_REDIS_URL", new.url());
    walk.set("NEW", format!("redis-cli -u {}", new.url()));
    walk.set("OLD_HOST", "127.0.0.1");
    walk.set("OLD_PORT", stage.shop.redis.port().to_string());
    walk.run_before("offset()").await;
    crowd.accepts(500).await;
    let stopped = Instant::now();
    walk.run().await;
    let promoted = stopped.elapsed();
    walk.by_hand(&["systemctl restart inventory-api", "systemctl restart inventory-worker"]);
    assert!(!stage.shop.redis.is_running());
    let there = [("INVENTORY_REDIS_URL", new.url())];
    stage.restart_api_with(&there).await;
    crowd.accepts(1).await;
    println!("views were refused for {:?}, of which {promoted:?} until the new Redis was the primary", stopped.elapsed());
    stage.restart_worker_with(&there).await;
    crowd.accepts(500).await;
    stage.is_followed().await;
    let told = crowd.stop().await;
    walk.run().await;
    walk.end();
    told.check(&stage.shop).await;
    let url = new.url();
    let status = status(&stage.shop, &["--redis-url", &url]).await;
    let persisted = stage.shop.all_views().await;
    assert_eq!((&status["accepted"], &status["persisted"]), (&json!(persisted), &json!(persisted)), "{status}");
    assert_eq!((&status["lost"], &status["dead"], &status["twice"]), (&json!(0), &json!(0), &json!(0)), "{status}");
}

/// The other way, which the text tells without a block: the queue is empty, and so is the new server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_replaced_by_an_empty_one_once_nothing_waits_and_no_view_is_lost() {
    let mut stage = Stage::set().await;
    let new = Redis::start(RedisOptions { dir: stage.shop.dir().join("new-redis"), ..RedisOptions::default() }).unwrap();
    let crowd = Crowd::start(std::slice::from_ref(&stage.api.url), PRODUCTS, 2, seed());
    crowd.accepts(200).await;
    assert_eq!(stage.api.stop(SOON), Some(0));
    assert_eq!(stage.shop.ctl(None, &["queue", "flush"]).await.code, Some(0));
    assert_eq!(stage.worker.stop(SOON), Some(0));
    stage.shop.redis.kill();
    let there = [("INVENTORY_REDIS_URL", new.url())];
    stage.restart_api_with(&there).await;
    stage.restart_worker_with(&there).await;
    crowd.accepts(200).await;
    let (told, url) = (crowd.stop().await, new.url());
    let flushed = stage.shop.ctl(None, &["queue", "flush", "--redis-url", &url]).await;
    assert_eq!(flushed.code, Some(0), "{flushed:?}");
    told.check(&stage.shop).await;
    let checked = stage.shop.ctl(Some(&stage.api), &["check", "--full", "--redis-url", &url]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(status(&stage.shop, &["--redis-url", &url]).await["lost"], json!(0));
}

/// What waited is gone, and the account says so to the view.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_lost_with_its_disk_under_load() {
    let mut stage = Stage::with_own_mysql().await;
    let crowd = Crowd::start(std::slice::from_ref(&stage.api.url), PRODUCTS, 2, seed());
    crowd.accepts(100).await;
    stage.worker.kill();
    crowd.accepts(100).await;
    let mut walk = walk("Redis lost with its disk", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl start redis-server"]);
    stage.shop.restart_redis_with(None);
    stage.worker.restart().await;
    crowd.accepts(100).await;
    stage.is_followed().await;
    let told = crowd.stop().await;
    stage.views(1, 1).await;
    stage.views(2, 1).await;
    stage.views(3, 1).await;
    walk.run().await;
    walk.end();
    let status = status(&stage.shop, &[]).await;
    let lost = status["lost"].as_u64().unwrap();
    assert!(lost >= 100, "{status}");
    let all = stage.shop.all_views().await + lost;
    let accepted = told.total_accepted() + 3;
    assert!((accepted..=accepted + told.total_unknown()).contains(&all), "{all} of {accepted}, {status}");
}

/// A MySQL that holds a backup, where the programs do not reach it.
struct Restored {
    mysql: Mysql,
    dir: PathBuf,
}

impl Restored {
    fn new(shop: &Shop) -> Self {
        let dir = shop.dir().join("restored");
        // Where the harness keeps its own: one that is made meets the temporary tables of others that are being made.
        let templates = dir.ancestors().nth(3).map(|base| base.join("templates"));
        let databases = vec![shop.database().to_owned()];
        let options = MysqlOptions { dir: dir.clone(), databases, templates, ..MysqlOptions::default() };
        Self { mysql: Mysql::start(options).unwrap(), dir }
    }

    /// Makes the users, with the rights of `deploy/grants.sql`.
    async fn grant(&self, database: &str) {
        let pool = mysql_async::Pool::new(format!("mysql://root@127.0.0.1:{}/{database}", self.mysql.port()).as_str());
        let mut conn = pool.get_conn().await.unwrap();
        let file = std::fs::read_to_string(format!("{ROOT}/deploy/grants.sql")).unwrap().replace(" inventory.", &format!(" {database}."));
        let grants: String = file.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let users = ["migrate", "api", "worker"].map(|name| format!("CREATE USER inventory_{name}@'%'"));
        for sql in users.iter().map(String::as_str).chain(grants.split(';').map(str::trim).filter(|grant| !grant.is_empty())) {
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        conn.disconnect().await.unwrap();
        pool.disconnect().await.unwrap();
    }

    /// Puts it at an address at which no server runs any more.
    fn put_at(mut self, port: u16) -> Mysql {
        self.mysql.stop().unwrap();
        drop(self.mysql);
        Mysql::start(MysqlOptions { dir: self.dir, port: Some(port), ..MysqlOptions::default() }).unwrap()
    }
}

/// Makes the backup as the text says; returns its file, and the place in the binlog that it names.
fn back_up(stage: &Stage) -> (PathBuf, u64) {
    let (shop, file) = (&stage.shop, stage.shop.dir().join("backup.sql"));
    let mut dump = Command::new(client("mariadb-dump", "mysqldump"));
    dump.args(["--single-transaction", "--routines", "--triggers", "--master-data=2"]).args(as_root(shop.mysql_port()).split(' '));
    let output = dump.arg(shop.database()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&file, &output.stdout).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let from = text.split("MASTER_LOG_POS=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    (file, from)
}

/// A backup; then 4 views, 3 through an API that ends, and a price come to MySQL, 2 more views wait, and MySQL is gone. With its
/// binlog, or without.
async fn restored(with_binlog: bool) -> (Stage, Value) {
    let mut stage = Stage::with_own_mysql().await;
    let other = stage.shop.api().await;
    assert_eq!(stage.api.put_price(1, "2.00").await.status, 200);
    stage.views(2, 5).await;
    stage.shop.view(&other, 2).await;
    stage.at_rest().await;
    let (backup, from) = back_up(&stage);
    assert_eq!(stage.api.put_price(1, "3.00").await.status, 200);
    stage.views(2, 4).await;
    for _ in 0..3 {
        stage.shop.view(&other, 2).await;
    }
    stage.at_rest().await;
    drop(other);
    assert_eq!(stage.api.see(1).await.amount, "3.00");

    let mut walk = walk("MySQL restored from a backup", &stage);
    stage.worker.kill();
    stage.views(2, 2).await;
    stage.shop.mysql.as_mut().unwrap().kill();
    let restored = Restored::new(&stage.shop);
    let (database, port) = (stage.shop.database().to_owned(), restored.mysql.port());
    let mut logs: Vec<_> =
        std::fs::read_dir(stage.shop.mysql.as_ref().unwrap().dir().join("data")).unwrap().map(|file| file.unwrap().path()).collect();
    logs.retain(|path| {
        path.file_stem().is_some_and(|name| name == "binlog") && path.extension().is_some_and(|end| end != "index" && end != "state")
    });
    assert_eq!(logs.len(), 1, "{logs:?}");
    let end = std::fs::metadata(&logs[0]).unwrap().len();
    for (name, value) in [
        ("RESTORED", format!("{} {}", client("mariadb", "mysql"), as_root(port))),
        ("RESTORED_URL", stage.shop.mysql_url_at("inventory_migrate", port)),
        ("BACKUP", backup.display().to_string()),
        ("BINLOG", logs[0].display().to_string()),
        ("FROM", if with_binlog { from } else { end }.to_string()),
    ] {
        walk.set(name, value);
    }
    walk.run().await;
    walk.by_hand(&["systemctl stop inventory-worker"]);
    walk.run_before("mariadb-binlog").await;
    restored.grant(&database).await;
    walk.run().await;
    walk.by_hand(&["systemctl start mariadb", "systemctl start inventory-worker"]);
    stage.shop.mysql = Some(restored.put_at(stage.shop.mysql_port()));
    eventually("the API finds it", SOON, async || (stage.api.metric("inventory_mysql_up").await == 1.0).then_some(())).await;
    // Before a worker, which finds another binlog, drops what is cached.
    assert_eq!(stage.api.see(1).await.amount, if with_binlog { "3.00" } else { "2.00" }, "the cache had the newer price");
    stage.worker.restart().await;
    stage.both_say("inventory_mysql_up", 1.0).await;
    stage.is_followed().await;
    walk.run_before("for shard in").await;
    let before = status(&stage.shop, &[]).await;
    walk.run().await;
    walk.end();
    (stage, before)
}

#[tokio::test]
async fn mysql_is_restored_without_its_binlog_and_the_views_that_are_gone_are_said_to_be_lost() {
    let (stage, before) = restored(false).await;
    assert_eq!((&before["accepted"], &before["persisted"], &before["lost"]), (&json!(15), &json!(8), &json!(4)));
    let after = status(&stage.shop, &[]).await;
    assert_eq!((&after["accepted"], &after["persisted"], &after["lost"]), (&json!(15), &json!(8), &json!(7)));
    assert_eq!(stage.shop.views(2).await, 8);
    // The account goes on evenly.
    stage.views(2, 1).await;
    stage.at_rest().await;
    let account = stage.shop.books().await.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.lost, account.drift()), (16, 9, 7, 0));
}

#[tokio::test]
async fn mysql_is_restored_with_its_binlog_and_nothing_is_gone() {
    let (stage, before) = restored(true).await;
    assert_eq!((&before["accepted"], &before["persisted"], &before["lost"]), (&json!(15), &json!(15), &json!(0)));
    assert_eq!(stage.shop.views(2).await, 15);
}
