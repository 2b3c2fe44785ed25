//! The pace of the drain: when a shard is claimed next, and how many are drained at once.
//!
//! A shard is claimed when a batch waits, when its interval is over, or at once where it was idle. It promises to wait
//! after failures and to ask less of a MySQL that is slow; it decides nothing about what counts.

use crate::drain::Step;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use telemetry::stop::Shutdown;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A shard that was left empty this long ago is claimed at the first view; sooner, views are worth gathering.
const IDLE: Duration = Duration::from_millis(50);

/// A batch of no more views says that few come: then the next one is not waited for longer than [`IDLE`]. That costs MySQL at most
/// twenty small transactions a second and shard; a busy shard, whose views are worth gathering, has more views in that time.
const FEW: u64 = 20;

/// Pause after a failure: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pause between the tries of a batch that is refused for its data: eight of them are over in less than a second, so that
/// the views behind it wait no longer than that, and a trigger that is just being replaced is back.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Between looks at a queue that an operator holds. Views are drained again at most this long after the resume.
const PAUSED_LOOK: Duration = Duration::from_millis(500);

/// When a shard is looked at next.
pub(crate) struct Pace {
    interval: Duration,
    pub(crate) due: Instant,
    /// When the last batch was claimed, and whether it left the shard empty.
    last: Option<Instant>,
    left_empty: bool,
    /// The last batch had [`FEW`] views or fewer.
    few: bool,
    pause: Duration,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, due: Instant::now(), last: None, left_empty: true, few: false, pause: FIRST_PAUSE }
    }

    /// Takes note of a view in an empty shard. Returns whether it is to be claimed at once; where few come, it is due soon.
    pub(crate) fn view_came(&mut self) -> bool {
        let Some(last) = self.last.filter(|_| self.left_empty) else { return self.left_empty };
        if self.few {
            self.due = self.due.min(last + IDLE);
        }
        last.elapsed() >= IDLE
    }

    pub(crate) fn after(&mut self, step: Step) {
        let now = Instant::now();
        self.pause = FIRST_PAUSE;
        match step {
            Step::Settled { more, views } => (self.last, self.left_empty, self.few) = (Some(now), !more, views <= FEW),
            Step::Empty => self.left_empty = true,
            // What comes meanwhile wakes nobody.
            Step::Paused => self.left_empty = false,
            Step::Busy => {}
        }
        let at_once = matches!(step, Step::Settled { more: true, .. });
        let wait = if step == Step::Paused { PAUSED_LOOK } else { self.interval };
        self.due = if at_once { now } else { now + wait };
    }

    /// Whether more waited when the last batch was claimed than went into it.
    pub(crate) fn is_behind(&self) -> bool {
        self.last.is_some() && !self.left_empty
    }

    /// A short pause that does not grow.
    pub(crate) fn after_refusal(&mut self) -> Duration {
        self.due = Instant::now() + REFUSAL_PAUSE;
        self.left_empty = false;
        REFUSAL_PAUSE
    }

    /// Doubles the pause, give or take a quarter so that workers do not march in step.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let pause = self.pause.mul_f64(0.75 + 0.5 * fastrand::f64());
        self.due = Instant::now() + pause;
        self.left_empty = false;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Most batches that one worker applies at once, however many shards there are: prices need room in MySQL, too.
const MOST_AT_ONCE: u32 = 4;

/// An apply that takes longer says that MySQL is slow.
const SLOW: Duration = Duration::from_millis(250);

/// How long a shard that is not behind waits for the others to be done, so that they do not stand in MySQL together. Beyond that one
/// of them is stuck, which is no reason to wait.
const SHARE_AFTER: Duration = Duration::from_millis(100);

/// Longest rest after a slow apply.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How many shards of this worker are drained at once: a limit on what it asks of MySQL, and less of one that is slow, before
/// that fails.
///
/// Shards that keep up go one after another, and only those that are behind side by side: several transactions at once take the
/// time of everything else on MySQL's cores. Measured with all servers on one core at 45,000 views a second: the p99 of a view
/// at 256 connections was 2.4 to 2.9 times that of an empty request one after another, and 5.0 times with four at once.
///
/// After an apply that took longer than [`SLOW`] one shard at a time is drained, and each rests for as long as it took
/// beyond that before the next one begins, so that prices have MySQL to themselves for up to half of the time and beside
/// one transaction for the other. What comes meanwhile is gathered into larger batches, which cost MySQL less a view.
/// Measured with a MariaDB that had a tenth of its time and 20,000 views a second: the p99 of prices beside the drain was
/// 0.8 to 1.6 times that without it, and up to 5.2 times where four batches were applied at once whatever they took.
pub(crate) struct Turns {
    free: Semaphore,
    alone: AtomicBool,
}

/// The right to drain one shard once.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    took: Option<Duration>,
    _permit: SemaphorePermit<'a>,
}

impl Turns {
    /// One at a time, until an apply is seen to be quick: a worker may be started because MySQL is in trouble.
    pub(crate) fn new() -> Self {
        Self { free: Semaphore::new(MOST_AT_ONCE as usize), alone: AtomicBool::new(true) }
    }

    pub(crate) async fn take(&self, behind: bool) -> Turn<'_> {
        let permit = if self.alone.load(Ordering::Relaxed) {
            self.permits(MOST_AT_ONCE).await
        } else if behind {
            self.permits(1).await
        } else {
            match tokio::time::timeout(SHARE_AFTER, self.permits(MOST_AT_ONCE)).await {
                Ok(permit) => permit,
                Err(_) => self.permits(1).await,
            }
        };
        Turn { turns: self, took: None, _permit: permit }
    }

    async fn permits(&self, count: u32) -> SemaphorePermit<'_> {
        self.free.acquire_many(count).await.expect("nobody closes it")
    }
}

impl Turn<'_> {
    /// How long MySQL took to apply the batch. Not for a lock that others held: that says nothing of MySQL.
    pub(crate) fn took(&mut self, time: Duration) {
        self.took = Some(time);
    }

    /// Ends the turn, after a rest where MySQL was slow.
    pub(crate) async fn end(self, shutdown: &Shutdown) {
        let Some(took) = self.took else { return };
        if took > SLOW {
            self.turns.alone.store(true, Ordering::Relaxed);
            tokio::select! {
                () = shutdown.requested() => {}
                () = tokio::time::sleep((took - SLOW).min(LONGEST_REST)) => {}
            }
        } else if took < SLOW / MOST_AT_ONCE {
            // So many at once may each take so many times as long, and are still not slow.
            self.turns.alone.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shards_that_keep_up_go_one_after_another_and_none_waits_for_one_that_is_stuck() {
        let turns = Turns::new();
        turns.alone.store(false, Ordering::Relaxed);
        let stuck = turns.take(false).await;
        assert_eq!(turns.free.available_permits(), 0);
        drop(stuck);
        let behind = turns.take(true).await;
        assert_eq!(turns.free.available_permits(), 3);
        let began = Instant::now();
        let beside = turns.take(false).await;
        assert!(began.elapsed() >= SHARE_AFTER && turns.free.available_permits() == 2);
        drop((behind, beside));
    }
}
