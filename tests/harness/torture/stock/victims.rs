//! All that can be struck, and how each fault is done to it.

use super::faults::Fault;
use super::workload::{INSTANCES, PRODUCTS};
use crate::torture::faults::{CATCH_LIMIT, STOP, lose_reply, pass_late, stopped};
use crate::{Program, Proxy, Shop};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Result};
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// How long rows are locked the other way round, and for how long one is held before the next.
const OTHER_ORDER: Duration = Duration::from_millis(1_500);
const STEP_MS: std::ops::Range<u64> = 1..8;

/// So many rows are changed before, every other time: of two that deadlock, the server ends the one that has changed less.
const BURDEN: u64 = 400;

/// Around the lock wait of a session (2 s).
const HELD_ROW_MS: std::ops::Range<u64> = 1_000..4_000;

/// How long the COMMIT of a dead API is on its way: its clients ask the other one meanwhile, and wait there for the rows that it
/// holds, for as long as a session waits (2 s).
const LATE_COMMIT_MS: std::ops::Range<u64> = 200..1_500;

/// One API and the proxy before its MySQL.
pub(super) struct Instance {
    pub(super) api: Program,
    mysql: Proxy,
}

/// A shop with two APIs and a worker.
pub(super) struct Victims {
    pub(super) shop: Shop,
    pub(super) instances: [Instance; INSTANCES],
    pub(super) worker: Program,
    /// That the server has met; MySQL does not count them here, MariaDB does.
    pub(super) deadlocks: u64,
}

impl Victims {
    /// Without Redis it is killed before any of them starts.
    pub(super) async fn start(mut shop: Shop, without_redis: bool) -> Self {
        if without_redis {
            block_in_place(|| shop.redis.kill());
        }
        shop.run("CREATE TABLE burden (id BIGINT UNSIGNED NOT NULL PRIMARY KEY) ENGINE = InnoDB").await;
        let instances = [Instance::start(&shop).await, Instance::start(&shop).await];
        let worker = if without_redis { shop.worker_starting(&[]).await } else { shop.worker().await };
        Self { shop, instances, worker, deadlocks: 0 }
    }

    /// Strikes, and returns when what was struck is back.
    pub(super) async fn strike(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        let instance = &mut self.instances[random.usize(..INSTANCES)];
        match fault {
            Fault::KillApi => instance.api.restart().await,
            Fault::KillInCommit => instance.kill_in_commit(random).await,
            Fault::KillWorker => self.worker.restart().await,
            Fault::KillMysql => {
                let mysql = self.shop.mysql.as_mut().expect("a MySQL of its own");
                block_in_place(|| mysql.restart()).expect("MySQL starts again");
            }
            Fault::KillConnections => self.kill_connections().await,
            Fault::CutMysql => instance.mysql.cut(),
            Fault::LoseCommit => {
                instance.mysql.hold_commit();
                pass_late(&instance.mysql, random).await;
            }
            Fault::LoseCommitReply => {
                instance.mysql.hold_reply_to_commit();
                lose_reply(&instance.mysql).await;
            }
            Fault::OtherOrder => self.lock_in_other_order(random).await,
            Fault::HoldRow => {
                let row = self.shop.lock(&format!("stock WHERE product_id = {}", random.u64(1..=PRODUCTS))).await;
                tokio::time::sleep(Duration::from_millis(random.u64(HELD_ROW_MS))).await;
                row.release().await;
            }
            Fault::StopApi => stopped(&mut instance.api, STOP).await,
        }
    }

    async fn kill_connections(&self) {
        let mut conn = self.shop.sql_connection().await;
        let sql = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'inventory_api'";
        let ids: Vec<u64> = conn.query(sql).await.expect("MySQL lists its connections");
        for id in ids {
            // It may have ended by itself.
            let _ = conn.query_drop(format!("KILL CONNECTION {id}")).await;
        }
    }

    async fn lock_in_other_order(&mut self, random: &mut fastrand::Rng) {
        let mut conn = self.shop.sql_connection().await;
        let (before, until) = (deadlocks(&mut conn).await, Instant::now() + OTHER_ORDER);
        while Instant::now() < until {
            // It may be the one that the server ends.
            let _ = from_last_to_first(&mut conn, random).await;
            conn.query_drop("ROLLBACK").await.expect("a transaction ends");
        }
        self.deadlocks += deadlocks(&mut conn).await - before;
    }
}

impl Instance {
    async fn start(shop: &Shop) -> Self {
        let mysql = Proxy::to(shop.mysql_port()).await;
        let api = shop.api_behind(Some(&mysql), None).await;
        Self { api, mysql }
    }

    async fn kill_in_commit(&mut self, random: &mut fastrand::Rng) {
        self.mysql.hold_commit();
        let _ = tokio::time::timeout(CATCH_LIMIT, self.mysql.caught()).await;
        self.api.kill();
        tokio::time::sleep(Duration::from_millis(random.u64(LATE_COMMIT_MS))).await;
        if random.u8(..4) == 0 {
            self.mysql.cut();
        }
        self.mysql.release();
        self.api.restart().await;
    }
}

async fn from_last_to_first(conn: &mut Conn, random: &mut fastrand::Rng) -> Result<()> {
    conn.query_drop("BEGIN").await?;
    if random.bool() {
        let rows: Vec<String> = (1..=BURDEN).map(|id| format!("({id})")).collect();
        conn.query_drop(format!("INSERT INTO burden VALUES {}", rows.join(","))).await?;
    }
    for product in (1..=PRODUCTS).rev() {
        conn.query_drop(format!("SELECT 1 FROM stock WHERE product_id = {product} FOR UPDATE")).await?;
        tokio::time::sleep(Duration::from_millis(random.u64(STEP_MS))).await;
    }
    Ok(())
}

async fn deadlocks(conn: &mut Conn) -> u64 {
    let row: Option<(String, String)> = conn.query_first("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").await.expect("MySQL answers");
    row.and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}
