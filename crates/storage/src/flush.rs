//! Flush: waits until everything that was accepted before is in MySQL.
//!
//! What was accepted is known without a clock: at the start each shard tells the last sequence number that it stored of
//! each writer. A shard is done once MySQL's watermarks have reached all of them, or once it was seen empty: what has left
//! Redis was committed. What Redis has lost, which the account tells, comes no more: should it come back with an older past,
//! no more is awaited than it still knows of. Tickets are left again and again meanwhile, so that a worker that is
//! idle claims at once instead of waiting for its flush interval: one that comes too soon after a claim is taken for nothing.

use crate::mysql::pause::{self, Paused};
use crate::mysql::view_counts::{ShardTotals, shard_totals};
use crate::redis::view_queue::{self, ShardStatus, status};
use crate::status::Depth;
use crate::watch::now_ms;
use crate::{Error, MySql, Redis};
use domain::view::Writer;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Longest wait that may be asked for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Between looks, and between tickets: a worker heeds one that comes 50 ms after its last claim of a shard.
const LOOK: Duration = Duration::from_millis(50);
const ANNOUNCE: Duration = Duration::from_millis(100);

/// Why not everything came to MySQL within the limit.
#[derive(Debug)]
pub struct Unfinished {
    pub why: Why,
    /// What waits; as it was when Redis answered last.
    pub depth: Depth,
}

#[derive(Debug)]
pub enum Why {
    /// An operator holds the drain.
    Paused(Paused),
    /// Nothing was claimed or settled all the time.
    NoWorker,
    /// Workers are at it.
    NotYet,
    RedisAway(Error),
    MysqlAway(Error),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(hold) => write!(f, "the queue is {hold}; resume it first"),
            Self::NoWorker => f.write_str("nothing was claimed or settled: no worker seems to run"),
            Self::NotYet => f.write_str("workers are at it and need more time"),
            Self::RedisAway(_) => f.write_str("Redis is away"),
            Self::MysqlAway(_) => f.write_str("MySQL is away"),
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (views, age) = (self.depth.views, self.depth.oldest_age_seconds(now_ms()));
        write!(f, "{}; {views} views wait, the oldest for {age:.1} s", self.why)
    }
}

/// Waits for at most `wait`, and some seconds more when a store hangs just then; returns how long it took.
/// `on_look` hears what the queue holds.
///
/// # Errors
/// Not everything is in MySQL yet; nothing is lost by that.
pub async fn flush(mysql: &MySql, redis: &Redis, wait: Duration, on_look: impl Fn(&Depth)) -> Result<Duration, Unfinished> {
    let started = Instant::now();
    let mut flush = Flush { shards: None, depth: Depth::default(), announced: None };
    loop {
        let looked = flush.look(mysql, redis).await;
        on_look(&flush.depth);
        match looked {
            Ok(true) => return Ok(started.elapsed()),
            looked if started.elapsed() >= wait => {
                let why = match looked {
                    Err(why) => why,
                    Ok(_) => flush.why(mysql, redis).await,
                };
                return Err(Unfinished { why, depth: flush.depth });
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

struct Flush {
    /// What is still awaited of each shard; none before Redis was reached.
    shards: Option<Vec<Awaited>>,
    depth: Depth,
    announced: Option<Instant>,
}

/// What must come to MySQL of one shard.
struct Awaited {
    /// Last sequence number of each writer at the start; empty when the shard is done.
    marks: HashMap<Writer, u64>,
    /// Counter of claims and settles at the start.
    moves: String,
}

impl Awaited {
    fn of(shard: &ShardStatus) -> Self {
        Self { marks: stored(shard), moves: shard.sv.clone() }
    }

    /// Awaits no more than Redis knows of now.
    fn forget_what_was_lost(&mut self, stored: &HashMap<Writer, u64>) {
        self.marks.retain(|writer, seq| {
            *seq = stored.get(writer).map_or(0, |now| (*seq).min(*now));
            *seq > 0
        });
    }

    fn forget_what_came(&mut self, totals: &ShardTotals) {
        self.marks.retain(|writer, seq| totals.marks.get(writer).is_none_or(|mark| mark.seq < *seq));
    }
}

/// Last sequence number that Redis stored of each writer.
fn stored(shard: &ShardStatus) -> HashMap<Writer, u64> {
    shard.writers.iter().filter_map(|writer| Some((Writer::parse(&writer.writer)?, writer.seq))).collect()
}

impl Flush {
    /// Looks at both stores; true once everything awaited is in MySQL.
    async fn look(&mut self, mysql: &MySql, redis: &Redis) -> Result<bool, Why> {
        let session = redis.queue.session().map_err(Why::RedisAway)?;
        let queue = status(&session, &redis.keys).await.map_err(Why::RedisAway)?;
        self.depth = Depth::of(&queue, |_, _| false);
        let shards = self.shards.get_or_insert_with(|| queue.iter().map(Awaited::of).collect());
        for (shard, queue) in shards.iter_mut().zip(&queue) {
            shard.forget_what_was_lost(&stored(queue));
            if queue.is_empty {
                shard.marks.clear();
            }
        }
        if shards.iter().any(|shard| !shard.marks.is_empty()) {
            let totals = shard_totals(mysql).await.map_err(Why::MysqlAway)?;
            for (number, shard) in (0..).zip(shards.iter_mut()) {
                totals.get(&number).into_iter().for_each(|totals| shard.forget_what_came(totals));
            }
        }
        let done = shards.iter().all(|shard| shard.marks.is_empty());
        if !done && self.announced.is_none_or(|announced| announced.elapsed() >= ANNOUNCE) {
            // A full Redis refuses it; then workers come when their interval ends.
            let _ = view_queue::announce(&session, &redis.keys).await;
            self.announced = Some(Instant::now());
        }
        Ok(done)
    }

    async fn why(&self, mysql: &MySql, redis: &Redis) -> Why {
        match pause::state(mysql).await {
            Ok(Some(hold)) => return Why::Paused(hold),
            Ok(None) => {}
            Err(error) => return Why::MysqlAway(error),
        }
        let moves = async { view_queue::moves(&redis.queue.session()?, &redis.keys).await };
        match moves.await {
            Ok(moves) => {
                let awaited = self.shards.iter().flatten().zip(moves);
                let stands = |(shard, moves): (&Awaited, String)| shard.marks.is_empty() || shard.moves == moves;
                if awaited.into_iter().all(stands) { Why::NoWorker } else { Why::NotYet }
            }
            Err(error) => Why::RedisAway(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::view::Mark;

    #[test]
    fn a_writer_is_awaited_until_its_last_push_is_in_mysql() {
        let [one, other] =
            ["0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef"].map(|text| Writer::parse(text).unwrap());
        let mut awaited = Awaited { marks: HashMap::from([(one, 7), (other, 1)]), moves: "3".into() };
        let totals = |seq| ShardTotals { marks: HashMap::from([(one, Mark { seq, accepted: 9, arrived: 9 })]), ..ShardTotals::default() };
        awaited.forget_what_came(&totals(6));
        assert_eq!(awaited.marks.len(), 2);
        awaited.forget_what_came(&totals(7));
        assert_eq!(awaited.marks, HashMap::from([(other, 1)]));
    }

    #[test]
    fn what_redis_lost_is_not_awaited_and_what_came_later_neither() {
        let [kept, rolled_back, gone] = ["a", "b", "c"].map(|digit| Writer::parse(&digit.repeat(32)).unwrap());
        let mut awaited = Awaited { marks: HashMap::from([(kept, 7), (rolled_back, 9), (gone, 2)]), moves: "3".into() };
        awaited.forget_what_was_lost(&HashMap::from([(kept, 8), (rolled_back, 4)]));
        assert_eq!(awaited.marks, HashMap::from([(kept, 7), (rolled_back, 4)]));
        awaited.forget_what_was_lost(&HashMap::from([(kept, 8), (rolled_back, 12)]));
        assert_eq!(awaited.marks, HashMap::from([(kept, 7), (rolled_back, 4)]), "pushed again since");
    }
}
