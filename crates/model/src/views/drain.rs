//! A worker's steps: claim, lock, read the watermarks, COMMIT, settle; and what strikes it.

use super::records::{Records, seq_of, writer_of};
use super::{Batch, Holder, Judged, Promise, State, Views, Worker};
use crate::search::Steps;

impl Views {
    pub(super) fn drain(&self, s: &State, j: usize, steps: &mut Steps<Self>) {
        match s.workers[j] {
            // Two idle workers are alike: the second one claims beside the first only.
            Worker::Idle if j == 0 || s.workers[0] != Worker::Idle => self.claim(s, j, steps),
            Worker::Idle => {}
            Worker::Claimed(batch) if self.protocol.shard_lock => {
                if s.shard_lock.is_none() {
                    let locked = s.with(|n| n.workers[j] = Worker::Locked(batch));
                    steps.step(|| format!("w{j} locks the shard's row"), locked.with(|n| n.shard_lock = Some(holder(j))));
                }
            }
            Worker::Claimed(batch) => self.judge_without_shard_lock(s, j, batch, steps),
            Worker::Locked(batch) => self.judge(s, j, batch, steps),
            Worker::Judged(batch, judged) => self.commit(s, j, batch, judged, steps),
            Worker::Applied(batch, exact) => self.settle(s, j, batch, exact, steps),
        }
        if s.faults.killed > 0 && s.workers[j] != Worker::Idle {
            let next = s.with(|n| n.faults.killed -= 1).with(|n| ends(n, j));
            steps.step(|| format!("w{j} is killed"), next);
        }
    }

    fn claim(&self, s: &State, j: usize, steps: &mut Steps<Self>) {
        if let Some(id) = s.redis.batch_id {
            let batch = Batch { id, records: s.redis.batch };
            return steps.step(|| format!("w{j} claims batch {id} again"), s.with(|n| n.workers[j] = Worker::Claimed(batch)));
        }
        // Where a claim ends is a matter of limits: any number of records.
        for taken in 1..=s.redis.open.iter().count() {
            let batch = Batch { id: s.next_batch, records: Records::of(s.redis.open.iter().take(taken)) };
            let mut next = s.with(|n| n.workers[j] = Worker::Claimed(batch));
            (next.redis.batch, next.redis.batch_id, next.next_batch) = (batch.records, Some(batch.id), batch.id + 1);
            next.redis.open = Records::of(s.redis.open.iter().skip(taken));
            next.redis.changes += 1;
            steps.step(|| format!("w{j} claims batch {}: {}", batch.id, batch.records), next);
        }
    }

    fn judge(&self, s: &State, j: usize, batch: Batch, steps: &mut Steps<Self>) {
        let Some(judged) = self.judged(&batch.records, s.mysql.marks) else {
            // The batch is of a past that Redis has lost. ROLLBACK; nothing of it is applied.
            if s.redis.batch_id == Some(batch.id) {
                steps.broken(Promise::NothingStuck, || format!("a record of the sealed batch {} is partly counted", batch.id));
            }
            return steps.step(|| format!("w{j} finds a record partly counted and rolls back"), s.with(|n| ends(n, j)));
        };
        let next = s.with(|n| n.workers[j] = Worker::Judged(batch, judged));
        steps.step(|| format!("w{j} reads the watermarks, {} counts", judged.records), next);
    }

    fn judge_without_shard_lock(&self, s: &State, j: usize, batch: Batch, steps: &mut Steps<Self>) {
        let writers: Vec<usize> = batch.records.iter().flat_map(|record| record.pushes.each()).map(writer_of).collect();
        let there = |writer: &usize| s.mysql.marks[*writer] > 0;
        if writers.iter().filter(|writer| there(writer)).any(|writer| s.mark_locks[*writer].is_some()) {
            return;
        }
        let mut locked = *s;
        for writer in writers.into_iter().filter(there) {
            locked.mark_locks[writer] = Some(name(j));
        }
        self.judge(&locked, j, batch, steps);
    }

    fn commit(&self, s: &State, j: usize, batch: Batch, judged: Judged, steps: &mut Steps<Self>) {
        let mut mysql = s.mysql;
        for push in judged.records.iter().flat_map(|record| record.pushes.each()) {
            mysql.counted[push] += 1;
        }
        for (mark, after) in mysql.marks.iter_mut().zip(judged.marks) {
            *mark = after.max(*mark);
        }
        if judged.records != Records::default() || self.protocol.last_batch_always {
            mysql.last_batch = Some(batch.id);
        }
        let exact = judged.records == batch.records;
        let done = s.with(|n| ends(n, j)).with(|n| (n.mysql, n.workers[j]) = (mysql, Worker::Applied(batch, exact)));
        steps.step(|| format!("w{j} commits batch {}: {} counts", batch.id, judged.records), done);
        if s.faults.unknown > 0 && s.sent.is_none() && self.protocol.shard_lock {
            let mut sent = s.with(|n| n.faults.unknown -= 1).with(|n| ends(n, j));
            (sent.sent, sent.shard_lock) = (Some(mysql), Some(Holder::Wire));
            steps.step(|| format!("w{j} sends the COMMIT of batch {}, the connection is lost", batch.id), sent);
        }
    }

    /// A COMMIT whose worker has gone.
    pub(super) fn lands(&self, s: &State, steps: &mut Steps<Self>) {
        if let Some(mysql) = s.sent {
            let gone = s.with(|n| (n.sent, n.shard_lock) = (None, None));
            steps.step(|| "the COMMIT on the wire lands".to_owned(), gone.with(|n| n.mysql = mysql));
            steps.step(|| "the transaction on the wire is rolled back".to_owned(), gone);
        }
    }

    fn settle(&self, s: &State, j: usize, batch: Batch, exact: bool, steps: &mut Steps<Self>) {
        let mut next = s.with(|n| n.workers[j] = Worker::Idle);
        let (redis, views) = (&mut next.redis, batch.records.views());
        let there = redis.batch_id == Some(batch.id);
        redis.changes += 1;
        redis.base = redis.base.filter(|_| there && exact).map(|base| base + views);
        if there {
            (redis.batch, redis.batch_id) = (Records::default(), None);
            redis.pending -= views;
        }
        let words = if there { "" } else { ", which is no longer there" };
        steps.step(|| format!("w{j} settles batch {}{words}", batch.id), next);
    }
}

fn name(j: usize) -> u8 {
    u8::try_from(j).expect("workers are few")
}

fn holder(j: usize) -> Holder {
    Holder::Worker(name(j))
}

/// The worker has nothing in hand any more, and holds nothing.
fn ends(s: &mut State, j: usize) {
    s.workers[j] = Worker::Idle;
    s.shard_lock = s.shard_lock.filter(|lock| *lock != holder(j));
    s.mark_locks = s.mark_locks.map(|lock| lock.filter(|lock| *lock != name(j)));
}

impl Views {
    /// What counts above the watermarks; `None` when a merged record was counted in part.
    fn judged(&self, records: &Records, mut marks: [u8; 2]) -> Option<Judged> {
        let mut counted = Vec::new();
        for record in records.iter() {
            let parts = || record.pushes.each().map(|push| (writer_of(push), seq_of(push)));
            let (all, any) = (parts().all(|(writer, seq)| seq > marks[writer]), parts().any(|(writer, seq)| seq > marks[writer]));
            if all || any && self.protocol.counts_in_part {
                parts().for_each(|(writer, seq)| marks[writer] = marks[writer].max(seq));
                counted.push(record);
            } else if any && !self.protocol.drops_alone {
                return None;
            }
        }
        Some(Judged { records: Records::of(counted.into_iter()), marks })
    }
}
