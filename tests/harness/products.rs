//! Products as a client sees them, and their cache entries as Redis holds them.

use crate::{Program, Proxy, Reply, Shop};
use serde_json::json;

/// What a GET of one product answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    /// 0 where there is no such product.
    pub version: u64,
    /// As in the answer, such as `1.00`; empty where there is none.
    pub amount: String,
    /// How the cache took part: `hit`, `fwd=uri-miss` or `fwd=bypass`.
    pub cache: String,
}

impl Seen {
    fn of(answer: &Reply) -> Self {
        let product = if answer.status == 200 { answer.json() } else { json!({}) };
        Self {
            status: answer.status,
            version: product["version"].as_u64().unwrap_or(0),
            amount: product["price"]["amount"].as_str().unwrap_or_default().to_owned(),
            cache: answer.header("cache-status").trim_start_matches("inventory; ").to_owned(),
        }
    }

    #[must_use]
    pub fn is(&self, version: u64, amount: &str) -> bool {
        (self.status, self.version, self.amount.as_str()) == (200, version, amount)
    }
}

impl Program {
    /// GET of one product.
    pub async fn see(&self, id: u64) -> Seen {
        Seen::of(&self.get(&format!("/v1/products/{id}")).await)
    }

    /// PUT of a price in GBP.
    pub async fn put_price(&self, id: u64, amount: &str) -> Reply {
        let body = json!({"amount": amount, "currency": "GBP"}).to_string();
        self.send("PUT", &format!("/v1/products/{id}/price"), body).await
    }
}

impl Shop {
    /// An API that reaches MySQL and Redis through proxies, where there is one.
    pub async fn api_behind(&self, mysql: Option<&Proxy>, redis: Option<&Proxy>) -> Program {
        let mysql = mysql.map(|proxy| ("INVENTORY_MYSQL_URL", self.mysql_url_at("inventory_api", proxy.port())));
        let redis = redis.map(|proxy| ("INVENTORY_REDIS_URL", format!("redis://127.0.0.1:{}/0", proxy.port())));
        let extra: Vec<_> = mysql.into_iter().chain(redis).collect();
        self.api_with(&extra).await
    }

    /// The cache's Redis, and what stands before the name of each of its keys but the shard.
    async fn cache(&self) -> (redis::aio::MultiplexedConnection, String) {
        let url = self.cache_redis.as_ref().unwrap_or(&self.redis).url();
        let client = redis::Client::open(url).expect("the URL is well formed");
        let mut redis = client.get_multiplexed_async_connection().await.expect("Redis can be reached");
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await.expect("Redis answers");
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("Redis shows its run");
        (redis, format!("c:{}", &run[..8]))
    }

    /// The product's entry under the present run of Redis.
    pub async fn entry(&self, id: u64) -> Option<String> {
        let (mut redis, cache) = self.cache().await;
        let key = format!("inventory:{{{}}}:{cache}:p:{id}", id % 4);
        redis::cmd("GET").arg(key).query_async(&mut redis).await.expect("Redis answers")
    }

    /// Puts a value into the product's entry, for a minute.
    pub async fn set_entry(&self, id: u64, value: &str) {
        let (mut redis, cache) = self.cache().await;
        let key = format!("inventory:{{{}}}:{cache}:p:{id}", id % 4);
        redis::cmd("SET").arg(key).arg(value).arg("EX").arg(60).exec_async(&mut redis).await.expect("Redis answers");
    }

    /// Removes the product's entry, as the end of its lifetime or an eviction would.
    pub async fn drop_entry(&self, id: u64) {
        let (mut redis, cache) = self.cache().await;
        let key = format!("inventory:{{{}}}:{cache}:p:{id}", id % 4);
        redis::cmd("DEL").arg(key).exec_async(&mut redis).await.expect("Redis answers");
    }

    /// Removes all that is cached and nothing else.
    pub async fn drop_cache(&self) {
        let (mut redis, cache) = self.cache().await;
        let pattern = format!("inventory:*:{cache}:*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.expect("Redis answers");
        if !keys.is_empty() {
            redis::cmd("DEL").arg(keys).exec_async(&mut redis).await.expect("Redis answers");
        }
    }

    /// Version and amount of a product in MySQL.
    pub async fn price(&self, id: u64) -> (u64, String) {
        let sql = format!("SELECT version, CAST(CAST(price AS DECIMAL(19,2)) AS CHAR) FROM products WHERE id = {id}");
        self.rows(&sql).await.pop().expect("the product has a price")
    }
}
