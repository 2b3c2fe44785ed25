//! What strikes: each kind of fault, and how it is done to real servers and processes.

use super::workload::INSTANCES;
use crate::{Program, Proxy, Shop};
use clap::ValueEnum;
use mysql_async::prelude::Queryable;
use std::path::Path;
use std::time::Duration;
use tokio::task::block_in_place;

/// A kind of fault. Where there are two instances, one of them is struck at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// An API is killed with -9 and started again
    KillApi,
    /// The worker is killed with -9 and started again
    KillWorker,
    /// Redis is killed and started again
    KillRedis,
    /// Redis comes back empty
    EmptyRedis,
    /// Redis comes back with the append-only files of a while ago
    OlderAof,
    /// Redis comes back with a snapshot of a while ago
    OlderRdb,
    /// MySQL is killed and started again
    KillMysql,
    /// MySQL ends all connections of the API
    KillConnections,
    /// All keys are deleted
    Flush,
    /// All entries of the cache are deleted
    DropEntries,
    /// Redis has little memory left, or none
    LowMemory,
    /// The connections of an API to Redis are cut
    CutRedis,
    /// Replies of Redis to an API are held, then pass or are lost
    HoldRedis,
    /// The connections of an API to MySQL are cut
    CutMysql,
    /// The reply to one read of products is held, then passes or is lost, while others pass
    HoldSelect,
    /// A COMMIT is held before MySQL, then arrives late or is lost
    LoseCommit,
    /// A COMMIT arrives, and its connection is cut before the reply
    LoseCommitReply,
    /// A script or a mark is held before Redis, then arrives late or is lost
    LoseScript,
    /// A script or a mark arrives, and its connection is cut before the reply
    LoseScriptReply,
    /// An API is stopped for some seconds (SIGSTOP) and goes on
    StopApi,
    /// The worker is stopped for some seconds
    StopWorker,
    /// MySQL is stopped for some seconds
    StopMysql,
    /// Redis is stopped for some seconds
    StopRedis,
    /// An API, the worker, MySQL or Redis is stopped for longer than every time limit
    LongStop,
}

impl Fault {
    /// As it is typed and printed.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Beyond the time limits of requests and calls, and within the lives of connections.
pub(super) const STOP: Duration = Duration::from_secs(6);

/// Longer than `wait_timeout` (10 s), after which MySQL rolls back what a stopped process left open, than the lives of
/// markers and leases (5 s and 2 s), and than every time limit.
const LONG_STOP: Duration = Duration::from_secs(16);

/// How long a proxy holds what it got: mostly within the time limits of a call, and one time in four beyond those of a
/// write (4.5 s), so that it lands after it was given up.
const HOLD_MS: std::ops::Range<u64> = 50..1_200;
const LONG_HOLD_MS: std::ops::Range<u64> = 4_600..6_000;

/// How long a trap waits for what it is to catch: nothing may come while a store is away.
pub(super) const CATCH_LIMIT: Duration = Duration::from_secs(2);

/// From a reply that is held to the cut: the server has done what it was told.
const DONE: Duration = Duration::from_millis(20);

/// How old the data are with which Redis comes back.
const AGE_MS: std::ops::Range<u64> = 300..2_500;

const LOW_MEMORY_MS: std::ops::Range<u64> = 500..2_000;

/// Above what is used when memory is low but not gone: room for an entry or two.
const LITTLE_BYTES: u64 = 2_048;

/// What is looked for in requests to Redis: any script, a fill or a publish, the marking of an entry.
const SCRIPTS: [&str; 3] = ["EVALSHA", "|1{", "\r\nW"];

/// What is looked for in requests to MySQL beside COMMIT: a read of products, for a fill or without one.
const SELECT: &str = "FROM products WHERE id IN";

/// One API and the proxies before it.
pub(super) struct Instance {
    pub(super) api: Program,
    pub(super) mysql: Proxy,
    pub(super) redis: Proxy,
}

/// All that can be struck.
pub(super) struct Victims {
    pub(super) shop: Shop,
    pub(super) instances: [Instance; INSTANCES],
    pub(super) worker: Program,
    /// How long those are stopped that are not stopped for long.
    pub(super) stop: Duration,
}

impl Victims {
    /// A shop of its own with two APIs and a worker.
    pub(super) async fn start(shop: Shop, stop: Duration) -> Self {
        let worker = shop.worker().await;
        let instances = [Instance::start(&shop).await, Instance::start(&shop).await];
        Self { shop, instances, worker, stop }
    }

    /// Strikes, and returns when what was struck is back.
    pub(super) async fn strike(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        let instance = &mut self.instances[random.usize(..INSTANCES)];
        let stop = self.stop;
        match fault {
            Fault::KillApi => instance.api.restart().await,
            Fault::KillWorker => self.worker.restart().await,
            Fault::KillRedis => self.redis_comes_back(|_| {}),
            Fault::EmptyRedis => self.redis_comes_back(|log| std::fs::remove_dir_all(log).expect("the log can be removed")),
            Fault::OlderAof => self.older_aof(random).await,
            Fault::OlderRdb => self.older_rdb(random).await,
            Fault::KillMysql => block_in_place(|| self.mysql().restart()).expect("MySQL starts again"),
            Fault::KillConnections => self.kill_connections().await,
            Fault::Flush => self.redis(&mut redis::cmd("FLUSHALL")).await,
            Fault::DropEntries => self.shop.drop_cache().await,
            Fault::LowMemory => self.low_memory(random).await,
            Fault::CutRedis => instance.redis.cut(),
            Fault::HoldRedis => {
                instance.redis.hold_replies();
                pass_or_cut(&instance.redis, random).await;
            }
            Fault::CutMysql => instance.mysql.cut(),
            Fault::HoldSelect => {
                instance.mysql.hold_reply_to(SELECT);
                pass_late(&instance.mysql, random).await;
            }
            Fault::LoseCommit => {
                instance.mysql.hold_commit();
                pass_late(&instance.mysql, random).await;
            }
            Fault::LoseCommitReply => {
                instance.mysql.hold_reply_to_commit();
                lose_reply(&instance.mysql).await;
            }
            Fault::LoseScript => {
                instance.redis.hold_request_with(SCRIPTS[random.usize(..SCRIPTS.len())]);
                pass_late(&instance.redis, random).await;
            }
            Fault::LoseScriptReply => {
                instance.redis.hold_reply_to(SCRIPTS[random.usize(..SCRIPTS.len())]);
                lose_reply(&instance.redis).await;
            }
            Fault::StopApi => stopped(&mut instance.api, stop).await,
            Fault::StopWorker => stopped(&mut self.worker, stop).await,
            Fault::StopMysql => self.stop_mysql(stop).await,
            Fault::StopRedis => self.stop_redis(stop).await,
            Fault::LongStop => match random.u8(..4) {
                0 => stopped(&mut instance.api, LONG_STOP).await,
                1 => stopped(&mut self.worker, LONG_STOP).await,
                2 => self.stop_mysql(LONG_STOP).await,
                _ => self.stop_redis(LONG_STOP).await,
            },
        }
    }

    fn mysql(&mut self) -> &mut servers::Mysql {
        self.shop.mysql.as_mut().expect("a MySQL of its own")
    }

    async fn redis(&self, command: &mut redis::Cmd) {
        command.exec_async(&mut self.shop.redis_connection().await).await.expect("Redis obeys");
    }

    /// Kills Redis and starts it again when `change` is done with its append-only files.
    fn redis_comes_back(&mut self, change: impl FnOnce(&Path)) {
        let redis = &mut self.shop.redis;
        block_in_place(|| {
            redis.kill();
            change(&redis.dir().join("appendonlydir"));
            redis.restart().expect("Redis starts again");
        });
    }

    async fn older_aof(&mut self, random: &mut fastrand::Rng) {
        let (log, older) = (self.shop.redis.dir().join("appendonlydir"), self.shop.redis.dir().join("older"));
        std::fs::create_dir(&older).expect("the directory of Redis can be written");
        for file in std::fs::read_dir(&log).expect("Redis has a log").flatten() {
            std::fs::copy(file.path(), older.join(file.file_name())).expect("a file of the log can be copied");
        }
        tokio::time::sleep(Duration::from_millis(random.u64(AGE_MS))).await;
        self.redis_comes_back(|log| {
            std::fs::remove_dir_all(log).expect("the log can be removed");
            std::fs::rename(older, log).expect("the older log can take its place");
        });
    }

    /// A log may begin with a snapshot: here that is all of it.
    async fn older_rdb(&mut self, random: &mut fastrand::Rng) {
        const MANIFEST: &str = "file appendonly.aof.1.base.rdb seq 1 type b\n";
        self.redis(&mut redis::cmd("SAVE")).await;
        let snapshot = self.shop.redis.dir().join("dump.rdb");
        tokio::time::sleep(Duration::from_millis(random.u64(AGE_MS))).await;
        self.redis_comes_back(|log| {
            std::fs::remove_dir_all(log).expect("the log can be removed");
            std::fs::create_dir(log).expect("the directory of Redis can be written");
            std::fs::rename(snapshot, log.join("appendonly.aof.1.base.rdb")).expect("the snapshot can be moved");
            std::fs::write(log.join("appendonly.aof.manifest"), MANIFEST).expect("the directory of Redis can be written");
        });
    }

    async fn kill_connections(&mut self) {
        let mut conn = self.shop.sql_connection().await;
        let sql = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'inventory_api'";
        let ids: Vec<u64> = conn.query(sql).await.expect("MySQL lists its connections");
        for id in ids {
            // It may have ended by itself.
            let _ = conn.query_drop(format!("KILL CONNECTION {id}")).await;
        }
    }

    async fn low_memory(&mut self, random: &mut fastrand::Rng) {
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut self.shop.redis_connection().await).await.expect("Redis answers");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse::<u64>().ok()).expect("Redis shows what it uses");
        let limit = if random.bool() { used + LITTLE_BYTES } else { used / 2 };
        self.redis(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit)).await;
        tokio::time::sleep(Duration::from_millis(random.u64(LOW_MEMORY_MS))).await;
        self.redis(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0)).await;
    }

    async fn stop_mysql(&mut self, time: Duration) {
        self.mysql().pause().expect("MySQL can be stopped");
        tokio::time::sleep(time).await;
        self.mysql().resume().expect("MySQL can go on");
    }

    async fn stop_redis(&mut self, time: Duration) {
        self.shop.redis.pause().expect("Redis can be stopped");
        tokio::time::sleep(time).await;
        self.shop.redis.resume().expect("Redis can go on");
    }
}

impl Instance {
    async fn start(shop: &Shop) -> Self {
        let (mysql, redis) = (Proxy::to(shop.mysql_port()).await, Proxy::to(shop.redis.port()).await);
        let api = shop.api_behind(Some(&mysql), Some(&redis)).await;
        Self { api, mysql, redis }
    }
}

pub(super) async fn stopped(program: &mut Program, time: Duration) {
    program.signal("STOP");
    tokio::time::sleep(time).await;
    program.signal("CONT");
}

/// What is trapped passes late, or never.
pub(super) async fn pass_late(proxy: &Proxy, random: &mut fastrand::Rng) {
    let _ = tokio::time::timeout(CATCH_LIMIT, proxy.caught()).await;
    pass_or_cut(proxy, random).await;
}

pub(super) async fn lose_reply(proxy: &Proxy) {
    let _ = tokio::time::timeout(CATCH_LIMIT, proxy.caught()).await;
    tokio::time::sleep(DONE).await;
    proxy.cut();
    proxy.release();
}

async fn pass_or_cut(proxy: &Proxy, random: &mut fastrand::Rng) {
    let hold = if random.u8(..4) == 0 { LONG_HOLD_MS } else { HOLD_MS };
    tokio::time::sleep(Duration::from_millis(random.u64(hold))).await;
    if random.bool() {
        proxy.cut();
    }
    proxy.release();
}
