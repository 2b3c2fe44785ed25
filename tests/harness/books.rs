//! Both stores as our programs see them: what a worker does step by step, and the account of views.

use crate::{SOON, Shop, eventually};
use catalog::check::Checker;
use domain::Shards;
use domain::view::{PartlyCounted, Record, Tally, Writer, parse_records};
use std::sync::Arc;
use std::time::Duration;
use storage::mysql::migrations;
use storage::mysql::view_counts::{self, Applied, OnRefusal};
use storage::redis::event_ids::Event;
use storage::redis::view_queue::{self, Pushed};
use storage::settings::StoreArgs;
use storage::status::{Account, Depth, account};
use storage::{MySql, Redis};
use telemetry::metrics::{MysqlOp, Registry, StoreMetrics};

/// Handles to both stores, with the rights of the worker.
pub struct Books {
    pub mysql: MySql,
    pub redis: Redis,
}

impl Shop {
    /// Opens both stores; they must be there.
    pub async fn books(&self) -> Books {
        let metrics = Arc::new(StoreMetrics::new(&Registry::new("tests")));
        let args = StoreArgs {
            mysql_url: self.mysql_url("inventory_worker"),
            mysql_url_file: None,
            redis_url: self.redis.url(),
            redis_url_file: None,
            cache_redis_url: self.cache_redis.as_ref().map(|cache| cache.url()),
            cache_redis_url_file: None,
            mysql_connections: 8,
            key_prefix: "inventory".to_owned(),
            cache_ttl: Duration::from_secs(300),
            cache_negative_ttl: Duration::from_secs(1),
        };
        let mysql = MySql::new(&args.mysql_url, args.mysql_connections, metrics.clone()).expect("the URL is well formed");
        let deployment = migrations::reach(&mysql).await.expect("MySQL is there and migrated");
        let redis = Redis::new(&args, &deployment, &metrics).expect("the URL is well formed");
        redis.queue.wait(SOON).await;
        Books { mysql, redis }
    }
}

impl Books {
    /// What compares the cache with MySQL.
    #[must_use]
    pub fn checker(&self) -> Checker {
        Checker::new(self.mysql.clone(), self.redis.clone())
    }

    /// The account of views and what the queue holds; `None` while a store is away or a shard moves.
    pub async fn account(&self) -> Option<(Account, Depth)> {
        account(&self.mysql, &self.redis).await.ok()
    }

    /// Waits until nothing waits and nothing is sealed, and returns the account.
    pub async fn at_rest(&self) -> Account {
        eventually("every view is settled", SOON, async || {
            let (account, depth) = self.account().await?;
            (account.pending == 0 && depth.entries == 0 && depth.views == 0).then_some(account)
        })
        .await
    }

    /// Pushes a record, as an API does.
    pub async fn push(&self, record: &Record) {
        let shard = shard_of(record);
        let session = self.redis.queue.session().expect("Redis is there");
        let pushed = view_queue::push(&session, &self.redis.keys, shard, record, &[], u64::MAX).await;
        assert!(pushed.expect("the push arrives").stored);
    }

    /// Pushes events with an id, beside what the record counts; the record's time decides in which window they are remembered.
    pub async fn push_events(&self, record: &Record, events: &[Event]) -> Pushed {
        let shard = shard_of_product(events.first().expect("there is an event").product);
        let session = self.redis.queue.session().expect("Redis is there");
        view_queue::push(&session, &self.redis.keys, shard, record, events, u64::MAX).await.expect("the push arrives")
    }

    /// Applies the texts of a batch to MySQL, as a worker does.
    ///
    /// # Errors
    /// As [`view_counts::apply`].
    pub async fn apply(&self, shard: u16, batch: &str, texts: Vec<Vec<u8>>) -> Result<Tally, storage::Error> {
        let (mysql, batch, records) = (self.mysql.clone(), batch.to_owned(), parse_records(texts));
        let apply = async move {
            match view_counts::apply(&mysql, shard, &batch, records, PartlyCounted::Voids, OnRefusal::Fail).await? {
                Applied::Counted(tally) => Ok(tally),
                Applied::Paused => panic!("the queue is paused"),
                Applied::Void => panic!("the batch is of a past that was lost"),
            }
        };
        self.mysql.detached(MysqlOp::Apply, storage::Kind::Unknown, SOON, apply).await
    }
}

/// A record of `writer`'s push number `seq`; all its products must be of one shard.
#[must_use]
pub fn record(writer: Writer, seq: u64, at_ms: u64, counts: &[(u64, u64)]) -> Record {
    Record { writer, seq, accepted: 0, run8: "0a1b2c3d".to_owned(), at_ms, counts: counts.to_vec() }
}

/// A record as it stands in the queue.
#[must_use]
pub fn text(record: &Record) -> Vec<u8> {
    format!("{} {}", domain::view::RECORD_FORMAT, record.fields().join(" ")).into_bytes()
}

fn shard_of(record: &Record) -> u16 {
    shard_of_product(record.counts.first().expect("a record counts something").0)
}

fn shard_of_product(id: u64) -> u16 {
    let shards = Shards::new(4).expect("a shop has 4 shards");
    (id % u64::from(shards.count())) as u16
}
