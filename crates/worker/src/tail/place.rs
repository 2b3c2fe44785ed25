//! How far the tail has come: in the binlog, in time, and in its attempts to go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::MySql;
use storage::mysql::binlog::Position;
use storage::mysql::tail::{self, Source};

/// The position is kept this often at most: keeping it is an event of the binlog itself.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// A stream that was lost so often at the same place will not get past it. Some seconds, after which all entries are dropped.
pub(super) const MOST_LOSSES: u32 = 5;

/// Where the stream is.
pub(super) struct Place {
    /// As it was kept last, or is to be kept next.
    pub(super) position: Position,
    /// Passed since then.
    pub(super) passed: Option<Position>,
    pub(super) unsaved: bool,
    kept: Instant,
    /// When the newest of what was read was executed, and what is before the place, seconds since 1970 UTC.
    pub(super) at: u64,
    /// The stream has been opened and has not come to the end of the binlog.
    pub(super) behind: bool,
}

impl Place {
    pub(super) fn new(position: Position, at: u64) -> Self {
        Self { position, passed: None, unsaved: false, kept: Instant::now(), at, behind: false }
    }

    /// Behind the last of what was read whole.
    pub(super) fn reached(&self) -> &Position {
        self.passed.as_ref().unwrap_or(&self.position)
    }

    /// Whether the file in which we are is not the one that the position was kept for, but one that took its name.
    pub(super) fn is_of_another_file(&mut self, (file, begun): (&str, u64)) -> bool {
        if begun == 0 || self.position.begun == begun || self.position.file != file {
            return false;
        }
        // At the end of a binlog it is not known yet.
        let known = self.position.begun != 0;
        self.position.begun = begun;
        self.unsaved = true;
        known
    }

    /// Keeps the position if there is something to keep and the last time is long enough ago; all before it was acted upon.
    pub(super) async fn keep(&mut self, mysql: &MySql, source: &Source, acted_until: u64) {
        if let Some(passed) = self.passed.take() {
            self.unsaved |= passed.file != self.position.file;
            self.position = passed;
        }
        if !self.unsaved || self.kept.elapsed() < SAVE_INTERVAL {
            return;
        }
        match tail::save(mysql, &self.position, source, acted_until).await {
            Ok(()) => self.unsaved = false,
            Err(error) => tracing::debug!("the position in the binlog was not kept: {error}"),
        }
        self.kept = Instant::now();
    }
}

/// How far the work has come, by the server's clock in seconds since 1970 UTC.
#[derive(Default)]
pub(super) struct Progress {
    /// All that was committed before this was acted upon.
    pub(super) done: AtomicU64,
    pub(super) now: AtomicU64,
}

impl Progress {
    pub(super) fn advance(&self, at: u64) {
        self.done.fetch_max(at, Ordering::Relaxed);
    }

    pub(super) fn caught_up(&self) {
        self.advance(self.now.load(Ordering::Relaxed));
    }
}

/// What one attempt to follow leaves to the next.
#[derive(Default)]
pub(super) struct Attempts {
    /// Why it ended, as it was told.
    pub(super) told: String,
    /// Where the stream was lost the last time without having come to the end of the binlog.
    lost_at: Option<Position>,
    /// How often in a row it was lost there.
    losses: u32,
}

impl Attempts {
    /// Says it unless it was the last that was said.
    pub(super) fn tell(&mut self, why: &str, so: &str) {
        if self.told != why {
            tracing::warn!("{so}: {why}");
            why.clone_into(&mut self.told);
        }
    }

    /// Counts a stream that was lost at this place; whether there is no getting past it.
    pub(super) fn is_stuck(&mut self, place: &Place) -> bool {
        let lost_at = place.behind.then(|| place.reached());
        self.losses = if lost_at.is_none() {
            0
        } else if self.lost_at.as_ref() == lost_at {
            self.losses + 1
        } else {
            1
        };
        self.lost_at = lost_at.cloned();
        let is_stuck = self.losses >= MOST_LOSSES;
        if is_stuck {
            self.losses = 0;
        }
        is_stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, behind: bool) -> Place {
        let mut place = Place::new(Position { file: "binlog.1".into(), offset: 4, begun: 7 }, 7);
        place.passed = Some(Position { offset, ..place.position.clone() });
        place.behind = behind;
        place
    }

    #[test]
    fn only_a_stream_that_is_lost_at_the_same_place_again_and_again_is_stuck() {
        let mut attempts = Attempts::default();
        let lost = |attempts: &mut Attempts, offset, behind, times: u32| (0..times).any(|_| attempts.is_stuck(&at(offset, behind)));
        assert!(!lost(&mut attempts, 100, true, MOST_LOSSES - 1));
        assert!(!lost(&mut attempts, 200, true, MOST_LOSSES - 1), "it got further");
        assert!(!lost(&mut attempts, 200, false, MOST_LOSSES), "all that there is was read");
        assert!(!lost(&mut attempts, 200, true, MOST_LOSSES - 1));
        assert!(lost(&mut attempts, 200, true, 1));
        assert!(!lost(&mut attempts, 200, true, MOST_LOSSES - 1), "it counts anew");
    }
}
