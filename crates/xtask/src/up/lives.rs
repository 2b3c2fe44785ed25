//! How often in a row one of the four is started again: what cannot live is not started for ever.

use std::time::{Duration, Instant};

/// Longer than a fault that comes with the start takes to show; short beside the pauses of somebody who kills by hand.
pub(super) const LASTING: Duration = Duration::from_secs(5);
/// So many starts in a row may end sooner. More than one, so that it may be killed while it starts.
pub(super) const SHORT_LIVES: u32 = 3;

/// The present life of a program, and how many short ones came right before it.
#[derive(Default)]
pub(super) struct Lives {
    /// None until it serves.
    serves_since: Option<Instant>,
    short: u32,
}

impl Lives {
    pub(super) fn serves(&mut self, now: Instant) {
        self.serves_since = Some(now);
    }

    /// It ended, or did not come up. Whether it may be started again.
    pub(super) fn ended(&mut self, now: Instant) -> bool {
        let lasted = self.serves_since.take().is_some_and(|since| now.duration_since(since) >= LASTING);
        self.short = if lasted { 0 } else { self.short + 1 };
        self.short < SHORT_LIVES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_started_again_however_often_it_is_killed() {
        let mut lives = Lives::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            lives.serves(now);
            now += LASTING;
            assert!(lives.ended(now));
        }
    }

    #[test]
    fn what_ends_at_once_or_never_serves_is_given_up_the_third_time() {
        let mut lives = Lives::default();
        let now = Instant::now();
        assert!(lives.ended(now));
        lives.serves(now);
        assert!(lives.ended(now + LASTING / 2));
        assert!(!lives.ended(now + LASTING));
    }

    #[test]
    fn a_life_that_lasts_makes_up_for_short_ones() {
        let mut lives = Lives::default();
        let now = Instant::now();
        assert!(lives.ended(now) && lives.ended(now));
        lives.serves(now);
        assert!(lives.ended(now + LASTING));
        assert!(lives.ended(now + LASTING));
    }
}
