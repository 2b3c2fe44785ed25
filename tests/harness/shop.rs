//! A deployment of its own for one test.

use crate::{Program, SOON, eventually};
use domain::Shards;
use mysql_async::prelude::{FromRow, Queryable};
use servers::{Mysql, MysqlOptions, Redis, RedisOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use storage::MySql;
use storage::mysql::migrations;
use telemetry::metrics::{Registry, StoreMetrics};

/// How a shop differs from the usual one.
#[derive(Default)]
pub struct ShopOptions {
    /// A MySQL of its own, which the test may kill.
    pub own_mysql: bool,
    /// Further arguments of that.
    pub mysql_arguments: Vec<String>,
    pub redis: RedisOptions,
    /// A second Redis for the product cache.
    pub cache_redis: Option<RedisOptions>,
    /// Of the view queue; 4 by default.
    pub shards: Option<u16>,
    /// Further settings of all programs.
    pub environment: Vec<(&'static str, String)>,
}

/// A database, a Redis, and the programs of one test.
pub struct Shop {
    pub redis: Redis,
    pub cache_redis: Option<Redis>,
    /// Only with [`ShopOptions::own_mysql`].
    pub mysql: Option<Mysql>,
    mysql_port: u16,
    database: String,
    dir: PathBuf,
    environment: Vec<(&'static str, String)>,
    sql: mysql_async::Pool,
    pub client: reqwest::Client,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// Everything that a test run leaves behind stands here, beside the build.
fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let base = crate::program::built_in().parent().expect("target/<profile>").join("tests");
        remove_older_runs(&base);
        let dir = base.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("target can be written");
        dir
    })
}

/// The last runs stay to be looked at; what is older goes.
fn remove_older_runs(base: &Path) {
    const KEPT: usize = 2;
    let mut runs: Vec<_> = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"))
        .collect();
    runs.sort_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok());
    let old = runs.len().saturating_sub(KEPT);
    for entry in runs.into_iter().take(old) {
        let alive = entry.file_name().to_string_lossy().strip_prefix("run-").is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !alive {
            // A run that cannot be removed is only clutter.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn templates() -> PathBuf {
    run_dir().parent().expect("target/tests").join("templates")
}

/// The MariaDB of this test run. Its data need not survive the machine.
fn shared_mysql() -> u16 {
    static SHARED: OnceLock<Mutex<Mysql>> = OnceLock::new();
    let mysql = SHARED.get_or_init(|| {
        let options = MysqlOptions { dir: run_dir().join("mysql"), fsync: false, templates: Some(templates()), ..MysqlOptions::default() };
        Mutex::new(Mysql::start(options).unwrap_or_else(|error| panic!("{error}")))
    });
    mysql.lock().unwrap_or_else(std::sync::PoisonError::into_inner).port()
}

impl Shop {
    pub async fn start() -> Self {
        Self::with(ShopOptions::default()).await
    }

    pub async fn with(options: ShopOptions) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = run_dir().join(format!("shop-{number}"));
        std::fs::create_dir_all(&dir).expect("target can be written");
        let start_redis = |options: RedisOptions, name: &str| {
            let options = RedisOptions { dir: dir.join(name), ..options };
            Redis::start(options).unwrap_or_else(|error| panic!("{error}"))
        };
        let redis = start_redis(options.redis, "redis");
        let cache_redis = options.cache_redis.map(|options| start_redis(options, "cache"));
        let mysql = options.own_mysql.then(|| {
            let extra = options.mysql_arguments;
            let options = MysqlOptions { dir: dir.join("mysql"), templates: Some(templates()), extra, ..MysqlOptions::default() };
            Mysql::start(options).unwrap_or_else(|error| panic!("{error}"))
        });
        let mysql_port = mysql.as_ref().map_or_else(shared_mysql, |mysql| mysql.port());
        let database = format!("shop_{}_{number}", std::process::id());
        let sql = mysql_async::Pool::new(format!("mysql://root@127.0.0.1:{mysql_port}").as_str());
        let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build().expect("a client can be built");
        let environment = options.environment;
        let shop = Self { redis, cache_redis, mysql, mysql_port, database, dir, environment, sql, client };
        shop.migrate(options.shards.unwrap_or(4)).await;
        shop
    }

    /// Makes the database as its migration user and gives each program the rights of `deploy/grants.sql`.
    async fn migrate(&self, shards: u16) {
        let database = &self.database;
        self.run(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4")).await;
        for user in ["inventory_migrate", "inventory_api", "inventory_worker"] {
            self.run(&format!("CREATE USER IF NOT EXISTS {user}@'%'")).await;
        }
        let file = include_str!("../../deploy/grants.sql");
        let grants: String = file.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let grants = grants.replace(" inventory.", &format!(" {database}."));
        let (before, after): (Vec<_>, Vec<_>) =
            grants.split(';').map(str::trim).filter(|grant| !grant.is_empty()).partition(|grant| grant.ends_with("inventory_migrate"));
        for grant in before {
            self.run(grant).await;
        }
        let metrics = Arc::new(StoreMetrics::new(&Registry::new("tests")));
        let mysql = MySql::new(&self.mysql_url("inventory_migrate"), 4, metrics).expect("the URL is well formed");
        migrations::migrate(&mysql, Shards::new(shards).expect("a queue may have so many shards"))
            .await
            .expect("the database can be migrated");
        for grant in after {
            self.run(grant).await;
        }
    }

    /// The URL by which `user` reaches this shop's database.
    #[must_use]
    pub fn mysql_url(&self, user: &str) -> String {
        self.mysql_url_at(user, self.mysql_port)
    }

    /// The same through another port, such as a proxy's.
    #[must_use]
    pub fn mysql_url_at(&self, user: &str, port: u16) -> String {
        format!("mysql://{user}@127.0.0.1:{port}/{}", self.database)
    }

    #[must_use]
    pub fn mysql_port(&self) -> u16 {
        self.mysql_port
    }

    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A directory of this test's own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings by which `user`'s programs reach both stores; `extra` wins.
    #[must_use]
    pub fn settings(&self, user: &str, extra: &[(&str, String)]) -> Vec<(String, String)> {
        let mut settings =
            vec![("INVENTORY_MYSQL_URL".to_owned(), self.mysql_url(user)), ("INVENTORY_REDIS_URL".to_owned(), self.redis.url())];
        if let Some(cache) = &self.cache_redis {
            settings.push(("INVENTORY_CACHE_REDIS_URL".to_owned(), cache.url()));
        }
        for (key, value) in self.environment.iter().chain(extra) {
            settings.retain(|(known, _)| known != key);
            settings.push(((*key).to_owned(), value.clone()));
        }
        settings
    }

    /// Starts an API and waits until it is ready.
    pub async fn api(&self) -> Program {
        self.api_with(&[]).await
    }

    pub async fn api_with(&self, extra: &[(&str, String)]) -> Program {
        let mut api = self.api_starting(extra).await;
        api.ready().await;
        api
    }

    /// Starts an API without waiting for it.
    pub async fn api_starting(&self, extra: &[(&str, String)]) -> Program {
        let mut settings = self.settings("inventory_api", extra);
        add_listener(&mut settings, "INVENTORY_API_LISTEN");
        add_listener(&mut settings, "INVENTORY_API_OPS_LISTEN");
        Program::start("inventory-api", settings, &self.dir, NUMBER.fetch_add(1, Ordering::Relaxed)).await
    }

    /// Starts a worker and waits until it is ready.
    pub async fn worker(&self) -> Program {
        self.worker_with(&[]).await
    }

    pub async fn worker_with(&self, extra: &[(&str, String)]) -> Program {
        let mut worker = self.worker_starting(extra).await;
        worker.ready().await;
        worker
    }

    /// Starts a worker without waiting for it.
    pub async fn worker_starting(&self, extra: &[(&str, String)]) -> Program {
        let mut settings = self.settings("inventory_worker", extra);
        add_listener(&mut settings, "INVENTORY_WORKER_OPS_LISTEN");
        Program::start("inventory-worker", settings, &self.dir, NUMBER.fetch_add(1, Ordering::Relaxed)).await
    }

    /// Runs a statement with all rights.
    pub async fn run(&self, sql: &str) {
        let mut conn = self.sql_connection().await;
        conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// All rows of a query with all rights.
    pub async fn rows<T: FromRow + Send + 'static>(&self, sql: &str) -> Vec<T> {
        let mut conn = self.sql_connection().await;
        conn.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of the first row, 0 where there is none.
    pub async fn number(&self, sql: &str) -> u64 {
        self.rows::<Option<u64>>(sql).await.into_iter().next().flatten().unwrap_or(0)
    }

    /// Rows and index entries that MySQL has read since it was started, for whomever: of a shop with its own MySQL.
    pub async fn row_reads(&self) -> u64 {
        let rows: Vec<(String, String)> = self.rows("SHOW GLOBAL STATUS LIKE 'Handler_read%'").await;
        rows.into_iter().map(|(_, count)| count.parse::<u64>().expect("a count")).sum()
    }

    /// A connection with all rights, in this shop's database.
    pub async fn sql_connection(&self) -> mysql_async::Conn {
        let mut conn = self.sql.get_conn().await.expect("MySQL can be reached");
        // The database does not exist yet while it is being made.
        let _ = conn.query_drop(format!("USE {}", self.database)).await;
        conn
    }

    /// A connection to the queue's Redis.
    pub async fn redis_connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis.url()).expect("the URL is well formed");
        client.get_multiplexed_async_connection().await.expect("Redis can be reached")
    }

    /// Makes `count` products with plain SQL, ids from 1, SKUs `P1`, `P2` …, priced 1.00 GBP.
    pub async fn products(&self, count: u64) {
        let mut conn = self.sql_connection().await;
        let ids: Vec<u64> = (1..=count).collect();
        for chunk in ids.chunks(1_000) {
            let rows: Vec<String> = chunk.iter().map(|id| format!("({id}, 'P{id}', 'Product {id}', 1.00, 'GBP')")).collect();
            let sql = format!("INSERT INTO products (id, sku, name, price, currency) VALUES {}", rows.join(","));
            conn.query_drop(sql).await.expect("products can be made with plain SQL");
        }
    }

    /// Views a product once, which must be accepted.
    pub async fn view(&self, api: &Program, id: u64) {
        let answer = crate::view(&self.client, &api.url, id).await;
        assert_eq!(answer, crate::Answer::Accepted, "product {id}");
    }

    /// Views that the API shows of a product. It says `null` while a store is away; that is waited out.
    pub async fn shown(&self, api: &Program, id: u64) -> u64 {
        let url = format!("{}/v1/products/{id}", api.url);
        eventually("the API shows views", SOON, async || {
            let product: serde_json::Value = self.client.get(&url).send().await.ok()?.json().await.ok()?;
            product["views"].as_u64()
        })
        .await
    }

    /// Views of a product in MySQL.
    pub async fn views(&self, id: u64) -> u64 {
        self.number(&format!("SELECT views FROM product_views WHERE product_id = {id}")).await
    }

    /// Views of all products in MySQL.
    pub async fn all_views(&self) -> u64 {
        self.number("SELECT CAST(COALESCE(SUM(views), 0) AS UNSIGNED) FROM product_views").await
    }
}

fn add_listener(settings: &mut Vec<(String, String)>, name: &str) {
    if !settings.iter().any(|(known, _)| known == name) {
        let port = servers::free_port().expect("a port is free");
        settings.push((name.to_owned(), format!("127.0.0.1:{port}")));
    }
}
