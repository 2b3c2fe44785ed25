//! All that can be struck, and how each fault is done to it.

use super::faults::{Fault, IN_BATCH, IN_TRANSACTION};
use super::tail;
use super::workload::{Clients, INSTANCES};
use crate::torture::faults::{lose_reply, pass_late};
use crate::{Held, PausePoints, Program, Proxy, SOON, Shop, eventually};
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::Duration;
use telemetry::pause_point::PausePoint;
use tokio::task::block_in_place;

/// How long a program is waited for at a point: batches come several times a second, except where a store is away.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(4);

/// How long a program stands at a point before it is killed: mostly within the time that a worker has its batch to itself
/// (2 s), and beyond it.
const STAND_MS: std::ops::Range<u64> = 0..400;
const LONG_STAND_MS: std::ops::Range<u64> = 2_100..2_600;

/// Beyond the time that a worker has its batch to itself, and within the 2 s more that another waits for the row.
const HOLD_MS: std::ops::Range<u64> = 2_100..3_900;

/// Beyond the 10 s after which MySQL ends the silent session of a stopped worker.
const STOP_MS: std::ops::Range<u64> = 11_000..13_000;

/// Most that a power cut takes of Redis's log.
const TAIL_BYTES: std::ops::RangeInclusive<usize> = 0..=64 * 1024;

/// Claims and settles of a shard until what waited is surely settled: one of the sealed batch, two of the next; and as many more,
/// because a late settle of a batch that is not there counts too.
const MOVES: u64 = 6;

/// What a push, a claim and a settle contain, and other requests of the same program do not.
const PUSH: &str = "}:open";
const CLAIM: &str = "}:open";
const SETTLE: &str = "}:t:";

/// One API or worker, the proxies before it, and where it is held.
pub(super) struct Victim {
    pub(super) program: Program,
    mysql: Proxy,
    redis: Proxy,
    points: PausePoints,
}

/// A shop with two APIs and two workers.
pub(super) struct Victims {
    pub(super) shop: Shop,
    pub(super) apis: [Victim; INSTANCES],
    pub(super) workers: [Victim; INSTANCES],
    /// Views by product that were in what Redis lost.
    pub(super) gone: BTreeMap<u64, u64>,
}

impl Victims {
    pub(super) async fn start(shop: Shop) -> Self {
        let apis = [Victim::start(&shop, true).await, Victim::start(&shop, true).await];
        let workers = [Victim::start(&shop, false).await, Victim::start(&shop, false).await];
        Self { shop, apis, workers, gone: BTreeMap::new() }
    }

    /// Strikes, and returns when what was struck is back: how many requests were unanswered in that moment, or `None` where
    /// nothing came that it could strike.
    pub(super) async fn strike(&mut self, fault: Fault, clients: &Clients, random: &mut fastrand::Rng) -> Option<usize> {
        let (one, now) = (random.usize(..INSTANCES), clients.in_flight());
        if let Some(point) = fault.point() {
            let victim = if fault.kills_api() { &mut self.apis[one] } else { &mut self.workers[one] };
            return victim.kill_at(point, clients, random).await;
        }
        match fault {
            Fault::KillApi => self.apis[one].program.restart().await,
            Fault::KillWorker => self.workers[one].program.restart().await,
            Fault::KillRedis => block_in_place(|| self.shop.redis.restart()).expect("Redis starts again"),
            Fault::KillMysql => self.kill_mysql(),
            Fault::KillRedisInBatch | Fault::KillMysqlInBatch | Fault::HoldBatch | Fault::StopInBatch => {
                return self.strike_in_batch(fault, one, clients, random).await;
            }
            Fault::KillConnections => self.kill_connections().await,
            Fault::KillClients => self.redis(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await,
            Fault::LoseCommit => {
                self.workers[one].mysql.hold_commit();
                pass_late(&self.workers[one].mysql, random).await;
            }
            Fault::LoseCommitReply => {
                self.workers[one].mysql.hold_reply_to_commit();
                lose_reply(&self.workers[one].mysql).await;
            }
            Fault::LosePush => {
                self.apis[one].redis.hold_request_with(PUSH);
                pass_late(&self.apis[one].redis, random).await;
            }
            Fault::LosePushReply => {
                self.apis[one].redis.hold_reply_to(PUSH);
                lose_reply(&self.apis[one].redis).await;
            }
            Fault::LoseScript => {
                self.workers[one].redis.hold_request_with(if random.bool() { CLAIM } else { SETTLE });
                pass_late(&self.workers[one].redis, random).await;
            }
            Fault::LoseScriptReply => {
                self.workers[one].redis.hold_reply_to(if random.bool() { CLAIM } else { SETTLE });
                lose_reply(&self.workers[one].redis).await;
            }
            Fault::Poison => {
                let list = format!("inventory:{{{}}}:open", random.u8(..4));
                self.redis(redis::cmd("RPUSH").arg(list).arg("no view")).await;
            }
            Fault::CutTail => return Some(self.cut_tail(clients, random).await),
            _ => unreachable!("{fault:?} has a point, and was done above"),
        }
        Some(now)
    }

    /// Holds a worker that has a batch, does what is to be done meanwhile, and lets it go on.
    async fn strike_in_batch(&mut self, fault: Fault, one: usize, clients: &Clients, random: &mut fastrand::Rng) -> Option<usize> {
        let points = if fault == Fault::StopInBatch { IN_TRANSACTION.as_slice() } else { IN_BATCH.as_slice() };
        let held = self.workers[one].held_at(points[random.usize(..points.len())]).await?;
        let now = clients.in_flight();
        match fault {
            Fault::KillRedisInBatch => block_in_place(|| self.shop.redis.restart()).expect("Redis starts again"),
            Fault::KillMysqlInBatch => self.kill_mysql(),
            Fault::StopInBatch => {
                self.workers[one].program.signal("STOP");
                // It finds the word to go on when it wakes.
                held.release();
                tokio::time::sleep(Duration::from_millis(random.u64(STOP_MS))).await;
                self.workers[one].program.signal("CONT");
                return Some(now);
            }
            _ => tokio::time::sleep(Duration::from_millis(random.u64(HOLD_MS))).await,
        }
        held.release();
        Some(now)
    }

    fn kill_mysql(&mut self) {
        let mysql = self.shop.mysql.as_mut().expect("a MySQL of its own");
        block_in_place(|| mysql.restart()).expect("MySQL starts again");
    }

    async fn redis(&self, command: &mut redis::Cmd) {
        command.exec_async(&mut self.shop.redis_connection().await).await.expect("Redis obeys");
    }

    async fn kill_connections(&self) {
        let mut conn = self.shop.sql_connection().await;
        let sql = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'inventory_worker'";
        let ids: Vec<u64> = conn.query(sql).await.expect("MySQL lists its connections");
        for id in ids {
            // It may have ended by itself.
            let _ = conn.query_drop(format!("KILL CONNECTION {id}")).await;
        }
    }

    /// Holds writers until Redis has written all that it acknowledged, so that what is cut off is all that is lost; kills it,
    /// cuts its log, and starts it again.
    async fn cut_tail(&mut self, clients: &Clients, random: &mut fastrand::Rng) -> usize {
        let mut redis = self.shop.redis_connection().await;
        let hold = redis::cmd("CLIENT").arg("PAUSE").arg(SOON.as_millis() as u64).arg("WRITE").exec_async(&mut redis).await;
        hold.expect("Redis obeys");
        eventually("the log is written", SOON, async || {
            let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut redis).await.ok()?;
            info.contains("aof_buffer_length:0\r").then_some(())
        })
        .await;
        let now = clients.in_flight();
        clients.loss_begins_or_ends();
        let path = self.shop.redis_log_file();
        block_in_place(|| {
            self.shop.redis.kill();
            let (kept, gone) = tail::cut(&std::fs::read(&path).expect("the log can be read"), random.usize(TAIL_BYTES));
            let log = std::fs::File::options().write(true).open(&path).expect("the log can be written");
            log.set_len(kept as u64).expect("the log can be cut");
            self.shop.redis.restart().expect("Redis starts again");
            for (product, views) in gone {
                *self.gone.entry(product).or_default() += views;
            }
        });
        self.nothing_is_offered_again().await;
        clients.loss_begins_or_ends();
        now
    }

    /// Records of batches whose claim or settle Redis has forgotten wait once more, and until they are settled again they are shown
    /// beside what MySQL has of them. What waits now fits into one batch of each shard, behind the one that may be sealed.
    async fn nothing_is_offered_again(&self) {
        let mut redis = self.shop.redis_connection().await;
        let mut shards = redis::pipe();
        for shard in 0..4 {
            shards.cmd("GET").arg(format!("inventory:{{{shard}}}:sv")).cmd("GET").arg(format!("inventory:{{{shard}}}:entries"));
        }
        let look = async |redis: &mut _| shards.query_async::<Vec<Option<u64>>>(redis).await.ok();
        let before = eventually("Redis tells of its shards", SOON, async || look(&mut redis).await).await;
        eventually("what Redis offers again is settled", SOON, async || {
            let now = look(&mut redis).await?;
            let settled =
                now.chunks(2).zip(before.chunks(2)).all(|(now, before)| now[1] <= Some(0) || now[0] >= before[0].map(|sv| sv + MOVES));
            settled.then_some(())
        })
        .await;
    }
}

impl Victim {
    async fn start(shop: &Shop, api: bool) -> Self {
        let (mysql, redis) = (Proxy::to(shop.mysql_port()).await, Proxy::to(shop.redis.port()).await);
        let (points, user) = (PausePoints::listen().await, if api { "inventory_api" } else { "inventory_worker" });
        let settings = [
            ("INVENTORY_MYSQL_URL", shop.mysql_url_at(user, mysql.port())),
            ("INVENTORY_REDIS_URL", format!("redis://127.0.0.1:{}/0", redis.port())),
            points.setting(),
        ];
        let program = if api { shop.api_with(&settings).await } else { shop.worker_with(&settings).await };
        Self { program, mysql, redis, points }
    }

    async fn held_at(&self, point: PausePoint) -> Option<Held> {
        let mut arrival = self.points.hold(point);
        tokio::time::timeout(ARRIVAL_LIMIT, arrival.arrived()).await.ok()
    }

    async fn kill_at(&mut self, point: PausePoint, clients: &Clients, random: &mut fastrand::Rng) -> Option<usize> {
        // Kept until it is dead: it must not take a step more.
        let _held = self.held_at(point).await?;
        let stand = if random.u8(..4) == 0 { LONG_STAND_MS } else { STAND_MS };
        tokio::time::sleep(Duration::from_millis(random.u64(stand))).await;
        let now = clients.in_flight();
        self.program.restart().await;
        Some(now)
    }
}
