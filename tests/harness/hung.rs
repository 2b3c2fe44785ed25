//! MySQL behind a connection that hangs, for what is given up and might come later.

use crate::{Proxy, SOON, Shop, eventually};
use std::sync::Arc;
use storage::MySql;
use storage::mysql::pause;
use telemetry::metrics::{Registry, StoreMetrics};

/// A handle with the rights of the API and one connection, which hangs while its session is set up, before MySQL has a
/// short time limit for it.
pub struct HungMysql {
    pub mysql: MySql,
    proxy: Proxy,
}

impl Shop {
    pub async fn hung_mysql(&self) -> HungMysql {
        let proxy = Proxy::to(self.mysql_port()).await;
        proxy.hold_request_with("wait_timeout = 10");
        let metrics = Arc::new(StoreMetrics::new(&Registry::new("tests")));
        let url = self.mysql_url_at("inventory_api", proxy.port());
        HungMysql { mysql: MySql::new(&url, 1, metrics).expect("the URL is well formed"), proxy }
    }
}

impl HungMysql {
    /// Lets the connection go on, and waits until what hung in it has rolled back: only then is it free for another call.
    pub async fn rolls_back(&self) {
        self.proxy.caught().await;
        // Which also releases what was held.
        self.proxy.hold_request_with("ROLLBACK");
        self.proxy.caught().await;
        self.proxy.release();
        eventually("what hung has ended", SOON, async || pause::state(&self.mysql).await.ok()).await;
    }
}
