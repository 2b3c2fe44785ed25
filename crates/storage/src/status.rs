//! The account of views over both stores: accepted = persisted + pending + dead + lost.
//!
//! *Accepted* is what Redis stored, from the running totals that writers send with every push; it is never
//! computed from the other numbers. Each shard is read as one moment: a shard where a batch was sealed or
//! settled between the reads of Redis and MySQL is read again.

use crate::mysql::view_counts::{ShardTotals, shard_totals};
use crate::redis::view_queue::{ShardStatus, moves, status, status_without_writers};
use crate::{Error, Kind, MySql, Redis};
use domain::view::Writer;
use std::collections::HashMap;

/// How often a shard that moved is read again. A read takes a millisecond, a shard moves a few times a second.
const MOST_READS: u32 = 20;

/// What was accepted and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    pub accepted: u64,
    pub persisted: u64,
    pub pending: u64,
    pub dead: u64,
    /// Views that a Redis loss took.
    pub lost: u64,
}

impl Account {
    /// accepted − persisted − pending − dead − lost: 0, or something is wrong.
    #[must_use]
    pub fn drift(&self) -> i64 {
        let kept = i128::from(self.persisted) + i128::from(self.pending) + i128::from(self.dead) + i128::from(self.lost);
        i64::try_from(i128::from(self.accepted) - kept).unwrap_or(i64::MIN)
    }

    /// What MySQL and Redis hold beyond what was accepted.
    #[must_use]
    pub fn twice(&self) -> u64 {
        self.drift().min(0).unsigned_abs()
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.persisted += other.persisted;
        self.pending += other.pending;
        self.dead += other.dead;
        self.lost += other.lost;
    }
}

/// What the queue holds now, over all shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries waiting or sealed: what the capacity bounds.
    pub entries: u64,
    /// Views waiting or sealed.
    pub views: u64,
    /// Views in sealed batches.
    pub in_flight: u64,
    /// When the oldest view that is not in MySQL was pushed, milliseconds since 1970 UTC.
    pub oldest_at_ms: Option<u64>,
    pub shards: Vec<ShardDepth>,
}

/// What one shard of it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardDepth {
    /// Entries waiting or sealed.
    pub entries: u64,
    /// Views that no batch has.
    pub views_waiting: u64,
    /// The sealed batch. It may be in MySQL already, where its worker died before it was settled.
    pub batch: Option<SealedBatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    pub id: String,
    pub views: u64,
    /// When its first record was pushed, milliseconds since 1970 UTC; none where that is no record.
    pub oldest_at_ms: Option<u64>,
}

impl Depth {
    /// `is_applied` tells of a shard whether a batch is in MySQL; while nobody can tell, none is.
    pub(crate) fn of(shards: &[ShardStatus], is_applied: impl Fn(u16, &str) -> bool) -> Self {
        let oldest = |(number, shard): (u16, &ShardStatus)| match &shard.sealed {
            // Its worker died between COMMIT and settle: what stands behind it is the oldest.
            Some((id, _)) if is_applied(number, id) => shard.waiting_at_ms,
            _ => shard.sealed_at_ms.or(shard.waiting_at_ms),
        };
        let sealed = |shard: &ShardStatus| shard.sealed.as_ref().map_or(0, |(_, views)| *views);
        let of_shard = |shard: &ShardStatus| ShardDepth {
            entries: shard.entries,
            views_waiting: shard.views_waiting,
            batch: shard.sealed.clone().map(|(id, views)| SealedBatch { id, views, oldest_at_ms: shard.sealed_at_ms }),
        };
        Self {
            entries: shards.iter().map(|shard| shard.entries).sum(),
            views: shards.iter().map(|shard| shard.views_waiting + sealed(shard)).sum(),
            in_flight: shards.iter().map(sealed).sum(),
            oldest_at_ms: (0..).zip(shards).filter_map(oldest).min(),
            shards: shards.iter().map(of_shard).collect(),
        }
    }

    /// Age of the oldest view that is not in MySQL, seconds; 0 when nothing waits.
    #[must_use]
    pub fn oldest_age_seconds(&self, now_ms: u64) -> f64 {
        self.oldest_at_ms.map_or(0.0, |oldest| age_seconds(oldest, now_ms))
    }
}

impl SealedBatch {
    /// Age of its first record, seconds.
    #[must_use]
    pub fn age_seconds(&self, now_ms: u64) -> Option<f64> {
        self.oldest_at_ms.map(|oldest| age_seconds(oldest, now_ms))
    }
}

/// Clocks of several machines are at work: nothing is younger than now.
fn age_seconds(at_ms: u64, now_ms: u64) -> f64 {
    now_ms.saturating_sub(at_ms) as f64 / 1000.0
}

/// What Redis alone can tell: a batch that is in MySQL and not settled counts as one that waits.
///
/// # Errors
/// Redis is away.
pub async fn depth(redis: &Redis) -> Result<Depth, Error> {
    Ok(Depth::of(&status_without_writers(&redis.queue.session()?, &redis.keys).await?, |_, _| false))
}

/// What both stores hold of one shard at one moment.
pub(crate) struct ShardMoment {
    pub(crate) queue: ShardStatus,
    pub(crate) totals: ShardTotals,
}

impl ShardMoment {
    pub(crate) fn account(&self) -> Account {
        shard_account(&self.queue, &self.totals)
    }
}

/// Reads the whole account.
///
/// # Errors
/// A store is away, or a shard moved at every attempt.
pub async fn account(mysql: &MySql, redis: &Redis) -> Result<(Account, Depth), Error> {
    let shards = moments(mysql, redis).await?;
    let mut account = Account::default();
    shards.iter().for_each(|shard| account.add(shard.account()));
    let is_applied = |shard: u16, id: &str| shards[usize::from(shard)].totals.last_batch.as_deref() == Some(id);
    let queue: Vec<ShardStatus> = shards.iter().map(|shard| shard.queue.clone()).collect();
    Ok((account, Depth::of(&queue, is_applied)))
}

/// Reads every shard, each as one moment.
///
/// # Errors
/// A store is away, or a shard moved at every attempt.
pub(crate) async fn moments(mysql: &MySql, redis: &Redis) -> Result<Vec<ShardMoment>, Error> {
    let session = redis.queue.session()?;
    let mut shards: Vec<Option<ShardMoment>> = redis.keys.shards().all().map(|_| None).collect();
    for _ in 0..MOST_READS {
        let queue = status(&session, &redis.keys).await?;
        let mut totals = shard_totals(mysql).await?;
        let moves = moves(&session, &redis.keys).await?;
        for (number, (queue, moves)) in (0..).zip(queue.into_iter().zip(moves)) {
            let shard = &mut shards[usize::from(number)];
            if shard.is_none() && queue.sv == moves {
                *shard = Some(ShardMoment { queue, totals: totals.remove(&number).unwrap_or_default() });
            }
        }
        if shards.iter().all(Option::is_some) {
            return Ok(shards.into_iter().flatten().collect());
        }
    }
    Err(Error::new(Kind::Unavailable, "the queue moves too fast to be counted; try again"))
}

fn shard_account(queue: &ShardStatus, totals: &ShardTotals) -> Account {
    let sealed = match &queue.sealed {
        // Committed and not settled yet: already among the persisted.
        Some((id, _)) if totals.last_batch.as_ref() == Some(id) => 0,
        Some((_, views)) => *views,
        None => 0,
    };
    let mut accepted: HashMap<Writer, u64> = totals.marks.iter().map(|(writer, mark)| (*writer, mark.accepted)).collect();
    for stored in &queue.writers {
        if let Some(writer) = Writer::parse(&stored.writer) {
            let known = accepted.entry(writer).or_default();
            *known = (*known).max(stored.accepted);
        }
    }
    let lost = totals.marks.values().map(|mark| mark.accepted.saturating_sub(mark.arrived)).sum::<u64>();
    Account {
        accepted: accepted.values().sum::<u64>() + totals.retired_accepted,
        persisted: totals.persisted,
        pending: queue.views_waiting + sealed,
        dead: totals.dead,
        lost: lost + totals.retired_accepted.saturating_sub(totals.retired_arrived),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::view_queue::WriterStatus;
    use domain::view::Mark;

    fn queue() -> ShardStatus {
        let writer = "0123456789abcdef0123456789abcdef".to_owned();
        ShardStatus {
            views_waiting: 5,
            entries: 9,
            sv: "3".into(),
            sealed: Some(("b".into(), 20)),
            sealed_at_ms: Some(1_000),
            waiting_at_ms: Some(4_000),
            is_empty: false,
            writers: vec![WriterStatus { writer, seq: 5, accepted: 125 }],
        }
    }

    fn totals(last_batch: Option<&str>, persisted: u64) -> ShardTotals {
        let mark = Mark { seq: 4, accepted: 100, arrived: 100 };
        let writer = Writer::parse("0123456789abcdef0123456789abcdef").unwrap();
        ShardTotals { last_batch: last_batch.map(Into::into), persisted, marks: HashMap::from([(writer, mark)]), ..ShardTotals::default() }
    }

    #[test]
    fn a_sealed_batch_is_counted_on_one_side_only() {
        let before = shard_account(&queue(), &totals(Some("a"), 100));
        assert_eq!((before.pending, before.drift()), (25, 0));
        let after = shard_account(&queue(), &totals(Some("b"), 120));
        assert_eq!((after.pending, after.drift()), (5, 0));
    }

    #[test]
    fn the_oldest_view_is_one_that_is_not_in_mysql() {
        let oldest = |shards: &[ShardStatus], applied: &str| Depth::of(shards, |_, id| id == applied).oldest_age_seconds(5_000);
        assert_eq!((oldest(&[queue()], "a"), oldest(&[queue()], "b")), (4.0, 1.0));
        let behind = ShardStatus { waiting_at_ms: None, ..queue() };
        assert_eq!(oldest(&[behind], "b"), 0.0, "nothing waits behind it");
        let unsealed = ShardStatus { sealed: None, sealed_at_ms: None, ..queue() };
        assert_eq!(oldest(&[queue(), unsealed], "b"), 1.0);
    }

    #[test]
    fn what_redis_lost_is_said() {
        let mut lossy = totals(None, 90);
        for mark in lossy.marks.values_mut() {
            mark.arrived = 90;
        }
        let account = shard_account(&queue(), &lossy);
        assert_eq!((account.lost, account.drift(), account.twice()), (10, 0, 0));
    }
}
