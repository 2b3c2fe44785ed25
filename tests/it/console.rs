//! The operators' console in a real Chromium, over real stores at work: what the pages show, and what their buttons change.
//!
//! The clicks are in tests/console/*.mjs, which say a line for each; what they cannot see or do themselves they ask for here.

use crate::tokens::{entry, tokens_file};
use domain::view::Writer;
use harness::{Books, Program, Reply, SOON, Shop, eventually, record};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use telemetry::scope::Scope;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// For all clicks of a test together, each page judged by axe three times: about a minute on a machine that does nothing else.
const DEADLINE: Duration = Duration::from_secs(300);

/// Products have the ids from 1; traffic leaves the first ones alone.
const PRODUCTS: u64 = 20;
const QUIET: u64 = 8;

/// Letters speak of these. The first one is made later, the second one never.
const LATE: u64 = 40;
const NEVER: u64 = 80;

/// Node.js at work on the clicks.
struct Clicks {
    node: Child,
    said: Lines<BufReader<ChildStdout>>,
    answers: ChildStdin,
    out: PathBuf,
}

impl Clicks {
    /// `only` is a part of them, by the name that tests/console/run.mjs has for it.
    fn start(shop: &Shop, api: &Program, only: Option<&str>) -> Self {
        let of_the_repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/run.mjs");
        let packages = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("console");
        assert!(
            packages.join("node_modules").exists(),
            "npm's packages are not installed; run `cargo xtask test`, or\n  mkdir -p {0} && cp tests/console/package*.json {0} && npm ci --prefix {0}",
            packages.display()
        );
        let out = shop.dir().join(only.unwrap_or("console"));
        std::fs::create_dir_all(&out).unwrap();
        let mut command = Command::new("node");
        command.arg(of_the_repository).args(["--asks", "--ops", &api.ops]).arg("--packages").arg(packages).arg("--out").arg(&out);
        command.args(only.map(|only| ["--only", only]).into_iter().flatten());
        let errors = std::fs::File::create(out.join("errors.txt")).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let node = command.spawn();
        let mut node =
            node.unwrap_or_else(|error| panic!("cannot run node ({error}): on Debian type\n  apt-get install -y nodejs npm chromium"));
        let (answers, said) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
        Self { node, said: BufReader::new(said).lines(), answers, out }
    }

    /// What they ask for next; `None` when they are through. Fails with the place where they failed.
    async fn wish(&mut self) -> Option<String> {
        while let Some(line) = self.said.next_line().await.unwrap() {
            println!("{line}");
            if let Some(wish) = line.strip_prefix("ask: ") {
                return Some(wish.to_owned());
            }
        }
        let status = self.node.wait().await.unwrap();
        let errors = std::fs::read_to_string(self.out.join("errors.txt")).unwrap();
        assert!(status.success(), "the clicks failed, see above; pictures are in {}\n{errors}", self.out.display());
        None
    }

    async fn done(&mut self) {
        self.answers.write_all(b"done\n").await.unwrap();
    }

    /// Goes through all of them, and does what they ask for.
    async fn through(mut self, mut fulfil: impl AsyncFnMut(&str)) {
        let clicks = async {
            while let Some(wish) = self.wish().await {
                fulfil(&wish).await;
                self.done().await;
            }
        };
        tokio::time::timeout(DEADLINE, clicks).await.unwrap_or_else(|_| panic!("the clicks are not through within {DEADLINE:?}"));
    }
}

/// Somebody who reads and views products at an even pace, and sets a price now and then, until this is dropped.
struct Traffic(JoinHandle<()>);

impl Traffic {
    const PAUSE: Duration = Duration::from_millis(20);

    fn start(shop: &Shop, api: &Program) -> Self {
        let (client, url) = (shop.client.clone(), api.url.clone());
        Self(tokio::spawn(async move {
            let mut pace = tokio::time::interval(Self::PAUSE);
            for turn in 0_u64.. {
                pace.tick().await;
                let product = format!("{url}/v1/products/{}", QUIET + 1 + turn % (PRODUCTS - QUIET));
                let price = json!({"amount": format!("{}.00", turn % 90 + 1), "currency": "GBP"});
                // The API is killed in one of the tests.
                let _ = client.get(&product).send().await;
                let _ = client.post(format!("{product}/views")).send().await;
                if turn % 50 == 0 {
                    let _ = client.put(format!("{product}/price")).json(&price).send().await;
                }
            }
        }))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Prices of product 7, as many pieces of each product as its number says, and two reservations.
async fn furnish(shop: &Shop, api: &Program) {
    for amount in ["2.00", "3.50"] {
        assert_eq!(api.put_price(7, amount).await.status, 200);
    }
    for _ in 0..3 {
        shop.view(api, 7).await;
    }
    for id in 1..=PRODUCTS {
        let count = api.request("PUT", &format!("/v1/products/{id}/stock")).header("if-match", "\"0\"");
        assert_eq!(Reply::to(count.json(&json!({"on_hand": id}))).await.status, 200);
    }
    for (reference, ttl) in [("cart-later", 3_600), ("cart-soon", 600)] {
        let body = json!({"items": [{"product_id": 20, "quantity": 2}], "ttl_seconds": ttl, "reference": reference});
        let reservation = api.request("POST", "/v1/reservations").header("idempotency-key", reference);
        assert_eq!(Reply::to(reservation.json(&body)).await.status, 201);
    }
}

/// Views of products that do not exist, and a text.
async fn set_aside(shop: &Shop, books: &Books) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    books.push(&record(Writer::new(Uuid::new_v4()), 1, now, &[(LATE, 5), (NEVER, 7)])).await;
    let mut redis = shop.redis_connection().await;
    let _: i64 = redis::cmd("RPUSH").arg("inventory:{0}:open").arg("no view").query_async(&mut redis).await.unwrap();
    let letters = "SELECT COUNT(*) FROM dead_letters";
    eventually("three letters are set aside", SOON, async || (shop.number(letters).await == 3).then_some(())).await;
    shop.run(&format!("INSERT INTO products (id, sku, name) VALUES ({LATE}, 'P{LATE}', 'Late')")).await;
}

/// Settings by which an API has a password to keep to itself.
async fn with_a_password(shop: &Shop) -> (&'static str, String) {
    shop.run("CREATE USER IF NOT EXISTS console@'%' IDENTIFIED BY 'never-shown'").await;
    shop.run(&format!("GRANT ALL ON {}.* TO console@'%'", shop.database())).await;
    ("INVENTORY_MYSQL_URL", shop.mysql_url("console:never-shown"))
}

/// How many shards are paused for this reason; `%` is any.
async fn paused(shop: &Shop, reason: &str) -> u64 {
    shop.number(&format!("SELECT COUNT(*) FROM view_shards WHERE paused_at IS NOT NULL AND pause_reason LIKE '{reason}'")).await
}

/// Puts another price into what is cached of product 7.
async fn spoil(shop: &Shop, api: &Program) {
    api.see(7).await;
    let entry = shop.entry(7).await.expect("what was read is cached");
    assert!(entry.contains("3.50"), "{entry}");
    shop.set_entry(7, &entry.replace("3.50", "9.90")).await;
}

#[tokio::test]
async fn every_page_is_clicked_through_while_the_shop_is_at_work_and_the_stores_follow_the_clicks() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let api = shop.api_with(&[with_a_password(&shop).await]).await;
    let (books, mut worker) = (shop.books().await, shop.worker().await);
    furnish(&shop, &api).await;
    set_aside(&shop, &books).await;
    let _traffic = Traffic::start(&shop, &api);
    let (mut accepted, mut seen) = (0, Vec::new());
    let letters = async |state: &str| shop.number(&format!("SELECT COUNT(*) FROM dead_letters WHERE state = '{state}'")).await;
    let fulfil = async |wish: &str| {
        match wish {
            "see that the queue is paused" => assert_eq!(paused(&shop, "a new disk").await, 4),
            "see that the queue is not paused" => assert_eq!(paused(&shop, "%").await, 0),
            "note what is accepted" => accepted = books.account().await.expect("both stores are there").0.accepted,
            "see that it is in MySQL" => {
                let persisted = books.account().await.expect("both stores are there").0.persisted;
                assert!(persisted + 12 >= accepted, "{persisted} of {accepted}, 12 of them set aside");
            }
            "see that the views of product 40 are replayed" => assert_eq!((shop.views(LATE).await, letters("dead").await), (5, 2)),
            "see that all other letters are dropped" => assert_eq!((letters("dead").await, letters("dropped").await), (0, 2)),
            "spoil the entry of product 7" => {
                // Its samples would find the entry and delete it within seconds.
                worker.signal("STOP");
                spoil(&shop, &api).await;
            }
            "see that the entry of product 7 is gone or right" => {
                let entry = shop.entry(7).await.unwrap_or_default();
                assert!(!entry.contains("9.90"), "{entry}");
                worker.signal("CONT");
            }
            other => panic!("nobody here can {other}"),
        }
        seen.push(wish.to_owned());
    };
    Clicks::start(&shop, &api, None).through(fulfil).await;
    assert_eq!(seen.len(), 9, "{seen:?}");
    let (account, _) = books.account().await.expect("both stores are there");
    assert_eq!((account.drift(), account.lost), (0, 0), "{account:?}");
}

#[tokio::test]
async fn a_listener_with_tokens_shows_nothing_before_the_right_one_is_typed() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let tokens = entry("admin", &[Scope::Admin]) + &entry("page", &[Scope::ViewsWrite]);
    let api = shop.api_with(&[tokens_file(&shop, &tokens)]).await;
    let _worker = shop.worker().await;
    Clicks::start(&shop, &api, Some("token")).through(async |wish| panic!("nobody here can {wish}")).await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_seen_from_the_overview_with_the_command_to_type() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let (api, mut worker) = (shop.api().await, shop.worker().await);
    worker.signal("STOP");
    let _traffic = Traffic::start(&shop, &api);
    let clicks = Clicks::start(&shop, &api, Some("stopped"));
    clicks.through(async |wish| assert_eq!((wish, worker.signal("CONT")), ("let a worker work", ()))).await;
}

#[tokio::test]
async fn a_shop_without_a_worker_is_seen_from_the_overview_with_the_command_to_type() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let api = shop.api().await;
    let _traffic = Traffic::start(&shop, &api);
    let mut workers = Vec::new();
    let clicks = Clicks::start(&shop, &api, Some("absent"));
    clicks
        .through(async |wish| {
            assert_eq!(wish, "let a worker work");
            workers.push(shop.worker().await);
        })
        .await;
}

#[tokio::test]
async fn a_page_whose_api_is_killed_says_so_and_recovers_when_it_is_back() {
    let shop = Shop::start().await;
    shop.products(PRODUCTS).await;
    let (mut api, _worker) = (shop.api().await, shop.worker().await);
    let _traffic = Traffic::start(&shop, &api);
    let clicks = Clicks::start(&shop, &api, Some("unreachable"));
    clicks
        .through(async |wish| match wish {
            "kill the API" => api.kill(),
            "start the API again" => api.restart().await,
            other => panic!("nobody here can {other}"),
        })
        .await;
}
