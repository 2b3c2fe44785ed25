//! The opening, and the procedures in which stores stay what they are.

use super::stage::{PRODUCTS, Stage};
use super::walk::Walk;
use harness::{Crowd, Program, SOON, Shop, eventually, seed};

fn walk(name: &str, stage: &Stage) -> Walk {
    Walk::new(name, &stage.shop, &stage.api, &stage.worker)
}

#[tokio::test]
async fn what_is_pasted_first_and_the_account_of_a_shop_that_is_well() {
    let stage = Stage::set().await;
    stage.views(2, 5).await;
    stage.at_rest().await;
    let mut walk = walk("First", &stage);
    walk.run().await;
    walk.end();
}

/// Starts a worker that must end by itself, and returns what it said.
async fn refused(shop: &Shop, extra: &[(&str, String)]) -> String {
    let (code, said) = shop.worker_starting(extra).await.ended().await;
    assert_ne!(code, Some(0), "{said}");
    said
}

/// What a worker says under each of the faults of the table, in its order.
async fn refusals(shop: &Shop) -> Vec<String> {
    let mut said = vec![refused(shop, &[("INVENTORY_FLUSH_INTERVALL", "1s".into())]).await];
    let before = shop.rows::<(u64, String, String, String)>("SELECT version, name, applied_on, checksum FROM refinery_schema_history");
    let newest = before.await.into_iter().max().unwrap();
    shop.run(&format!("DELETE FROM refinery_schema_history WHERE version = {}", newest.0)).await;
    said.push(refused(shop, &[]).await);
    let (version, name, applied, checksum) = newest;
    shop.run(&format!("INSERT INTO refinery_schema_history VALUES ({version}, '{name}', '{applied}', '{checksum}')")).await;
    shop.run("SET GLOBAL binlog_format = 'STATEMENT'").await;
    said.push(refused(shop, &[]).await);
    shop.run("SET GLOBAL binlog_format = 'ROW'").await;

    let mut redis = shop.redis_connection().await;
    let mut tell = async |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut redis).await.unwrap();
    tell(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    said.push(refused(shop, &[]).await);
    tell(&["CONFIG", "SET", "maxmemory-policy", "volatile-lfu"]).await;
    tell(&["SET", "another:owner", "another"]).await;
    said.push(refused(shop, &[("INVENTORY_KEY_PREFIX", "another".into())]).await);
    said.push(refused(shop, &[("INVENTORY_MYSQL_URL", shop.mysql_url("nobody"))]).await);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = |address: String| [("INVENTORY_WORKER_OPS_LISTEN", address)];
    said.push(refused(shop, &listen(taken.local_addr().unwrap().to_string())).await);
    said.push(refused(shop, &listen(format!("0.0.0.0:{}", servers::free_port().unwrap()))).await);
    said
}

#[tokio::test]
async fn a_worker_that_does_not_start_says_what_the_table_says() {
    let mut stage = Stage::with_own_mysql().await;
    stage.worker.kill();
    let mut walk = walk("Worker will not start", &stage);
    let told = walk.table();
    let said = refusals(&stage.shop).await;
    assert_eq!(told.len(), said.len());
    for (told, said) in told.iter().zip(&said) {
        // As JSON has it where the log is no terminal's.
        assert!(said.contains(told) || said.contains(&told.replace('"', "\\\"")), "{told} in {said}");
    }
    stage.shop.run("DELETE FROM refinery_schema_history WHERE version = 9").await;
    stage.shop.run("DROP TABLE stock_subtotals").await;
    walk.run().await;
    walk.by_hand(&["systemctl start inventory-worker"]);
    stage.worker.restart().await;
    stage.is_followed().await;
    walk.run().await;
    walk.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_taken_down_and_up_under_load() {
    let mut stage = Stage::with_own_mysql().await;
    let crowd = Crowd::start(std::slice::from_ref(&stage.api.url), PRODUCTS, 2, seed());
    crowd.accepts(100).await;
    let mut walk = walk("MySQL maintenance", &stage);
    walk.run().await;
    let held = stage.shop.all_views().await;
    walk.by_hand(&["systemctl stop mariadb", "systemctl start mariadb"]);
    stage.shop.mysql.as_mut().unwrap().stop().unwrap();
    stage.both_say("inventory_mysql_up", 0.0).await;
    crowd.accepts(100).await;
    stage.shop.mysql.as_mut().unwrap().restart().unwrap();
    stage.both_say("inventory_mysql_up", 1.0).await;
    stage.is_followed().await;
    walk.run_before("inventoryctl queue resume").await;
    assert_eq!(stage.shop.all_views().await, held, "the hold survives the restart");
    let told = crowd.stop().await;
    walk.run().await;
    walk.end();
    told.check(&stage.shop).await;
    assert_eq!(told.total_unknown(), 0);
}

#[tokio::test]
async fn a_release_is_rolled_back_on_the_newer_schema() {
    let mut stage = Stage::with_own_mysql().await;
    let newer =
        "INSERT INTO refinery_schema_history SELECT 10, 'newer', applied_on, checksum FROM refinery_schema_history WHERE version = 9";
    stage.shop.run(newer).await;
    let migrate = stage.shop.ctl_as("inventory_migrate", None, &["migrate"]).await;
    assert_eq!(migrate.code, Some(1), "{migrate:?}");
    stage.views(2, 5).await;
    let mut walk = walk("A release rolled back", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl restart inventory-api"]);
    stage.restart_api_with(&[]).await;
    stage.views(2, 5).await;
    walk.run().await;
    walk.by_hand(&["systemctl restart inventory-worker"]);
    stage.restart_worker_with(&[]).await;
    stage.is_followed().await;
    stage.views(2, 5).await;
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 15);
}

#[tokio::test]
async fn one_more_of_each_and_one_less() {
    let stage = Stage::set().await;
    let mut walk = walk("Adding a worker or an API", &stage);
    walk.run().await;
    walk.by_hand(&["systemctl start inventory-api inventory-worker"]);
    let (api, mut worker) = (stage.shop.api().await, stage.shop.worker().await);
    let host = |program: &Program| program.ops.trim_start_matches("http://").to_owned();
    walk.set("INVENTORY_API_OPS_LISTEN", host(&api));
    walk.set("INVENTORY_WORKER_OPS_LISTEN", host(&worker));
    stage.views(2, 5).await;
    stage.shop.view(&api, 2).await;
    walk.run().await;
    walk.by_hand(&["systemctl stop inventory-worker"]);
    assert_eq!(worker.stop(SOON), Some(0));
    stage.shop.view(&api, 2).await;
    walk.run().await;
    walk.end();
    assert_eq!(stage.shop.views(2).await, 7);
}

#[tokio::test]
async fn a_token_is_changed_without_a_restart() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let file = shop.dir().join("tokens.toml");
    let made = shop.ctl(None, &["token", "new", "--name", "till", "--scopes", "catalog:read,prices:write", "-o", "json"]).await.json(0);
    let old = made["toml"].as_str().unwrap();
    std::fs::write(&file, old).unwrap();
    let setting = [("INVENTORY_TOKENS_FILE", file.to_str().unwrap().to_owned())];
    let (mut api, mut worker) = (shop.api_with(&setting).await, shop.worker_with(&setting).await);
    let mut walk = Walk::new("Changing a token", &shop, &api, &worker);
    let mut reload = async |times: usize| {
        for program in [&mut api, &mut worker] {
            program.signal("HUP");
            let read = async || (program.log().matches("the tokens were read again").count() == times).then_some(());
            eventually("the file is read again", SOON, read).await;
        }
    };
    walk.set("TOKENS_FILE", file.to_str().unwrap());
    walk.set("OLD_SECRET", made["secret"].as_str().unwrap());
    let printed = walk.run().await.concat();
    walk.by_hand(&["systemctl reload inventory-api inventory-worker"]);
    reload(1).await;
    walk.set("NEW_SECRET", printed.lines().find_map(|line| line.strip_prefix("the secret: ")).unwrap());
    walk.run().await;
    walk.by_hand(&["systemctl reload inventory-api inventory-worker"]);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(old, "")).unwrap();
    reload(2).await;
    walk.run().await;
    walk.end();
}
