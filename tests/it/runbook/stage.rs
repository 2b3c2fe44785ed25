//! Shops in which a section of the runbook is walked.

use harness::{Program, SOON, Shop, ShopOptions, eventually};
use storage::mysql::tail::{self, Followed};

pub(super) const PRODUCTS: u64 = 3;

/// A shop with its programs, three products that are cached, and nothing wrong.
pub(super) struct Stage {
    pub(super) shop: Shop,
    pub(super) api: Program,
    pub(super) worker: Program,
}

impl Stage {
    pub(super) async fn set() -> Self {
        Self::with(ShopOptions::default()).await
    }

    pub(super) async fn with_own_mysql() -> Self {
        Self::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await
    }

    pub(super) async fn with(options: ShopOptions) -> Self {
        let shop = Shop::with(options).await;
        shop.products(PRODUCTS).await;
        // One writer a shard, so that it is known which one a view came by.
        let api = shop.api_with(&[("INVENTORY_API_THREADS", "1".into())]).await;
        let worker = shop.worker().await;
        let stage = Self { shop, api, worker };
        // Whoever begins to follow drops what is cached.
        stage.is_followed().await;
        for id in 1..=PRODUCTS {
            stage.warm(id).await;
        }
        stage
    }

    /// Waits until a worker keeps up with the binlog.
    pub(super) async fn is_followed(&self) {
        let mysql = self.shop.books().await.mysql;
        eventually("the binlog is followed", SOON, async || (tail::followed(&mysql).await.ok()? == Followed::Closely).then_some(())).await;
        self.both_say("inventory_tail_up", 1.0).await;
    }

    /// Reads a product until it is cached.
    pub(super) async fn warm(&self, id: u64) {
        eventually("the cache has it", SOON, async || (self.api.see(id).await.cache == "hit").then_some(())).await;
    }

    /// Views a product so often, each accepted.
    pub(super) async fn views(&self, id: u64, times: u64) {
        for _ in 0..times {
            self.shop.view(&self.api, id).await;
        }
    }

    /// Waits until nothing waits.
    pub(super) async fn at_rest(&self) {
        self.shop.books().await.at_rest().await;
    }

    /// Waits until a gauge of both programs has this value.
    pub(super) async fn both_say(&self, series: &str, value: f64) {
        for program in [&self.api, &self.worker] {
            eventually(series, SOON, async || (program.metric(series).await == value).then_some(())).await;
        }
    }

    /// Ends the API and starts one in its place, with other settings.
    pub(super) async fn restart_api_with(&mut self, extra: &[(&str, String)]) {
        self.api.stop(SOON);
        let host = |url: &str| url.trim_start_matches("http://").to_owned();
        let places = [("INVENTORY_API_LISTEN", host(&self.api.url)), ("INVENTORY_API_OPS_LISTEN", host(&self.api.ops))];
        self.api = self.shop.api_with(&[&places[..], extra].concat()).await;
    }

    /// The same with the worker.
    pub(super) async fn restart_worker_with(&mut self, extra: &[(&str, String)]) {
        self.worker.stop(SOON);
        let place = ("INVENTORY_WORKER_OPS_LISTEN", self.worker.ops.trim_start_matches("http://").to_owned());
        self.worker = self.shop.worker_with(&[&[place], extra].concat()).await;
    }

    /// The id of the connection that holds the oldest transaction of a MySQL of this shop's own.
    pub(super) async fn oldest_transaction(&self) -> String {
        let sql = "SELECT p.id FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id \
                   WHERE p.user = 'root' ORDER BY t.trx_started LIMIT 1";
        eventually("a transaction is open", SOON, async || self.shop.rows::<u64>(sql).await.pop()).await.to_string()
    }
}
