//! The checks of clocks. No guarantee rests on them: views count once and prices are right whatever they say.

use super::finding::At::Do;
use super::finding::Verdict;
use storage::Error;
use storage::fields::Clock;

/// A difference that people notice, and far above what NTP leaves.
const MOST_MS: u64 = 2_000;

pub(super) fn mysql(clock: &Result<Clock, Error>) -> Option<Verdict> {
    Some(judged(clock, "Times of changes disagree with those in logs, and with what other systems note."))
}

pub(super) fn redis(clock: &Result<Clock, Error>) -> Option<Verdict> {
    Some(judged(clock, "If it is then set right at a stroke, cached entries end sooner or later than their TTL."))
}

/// Of an API, as seen by who asks it.
#[must_use]
pub fn api(clock: &Result<Clock, Error>) -> Option<Verdict> {
    let lost = "Views are put into the hour that the API's clock shows, and their age is told by the worker's: buckets are off at \
                the turn of the hour, and the oldest age by the difference.";
    Some(judged(clock, lost))
}

fn judged(clock: &Result<Clock, Error>, lost: &str) -> Verdict {
    let clock = match clock {
        Ok(clock) => clock,
        Err(error) => return Verdict::note(format!("not examined: {error}")),
    };
    let side = if clock.ahead_ms >= 0 { "ahead of" } else { "behind" };
    let found = format!("{} ms {side} this machine (give or take {} ms)", clock.ahead_ms.unsigned_abs(), clock.within_ms.div_ceil(2));
    if clock.ahead_ms.unsigned_abs() <= MOST_MS + clock.within_ms {
        return Verdict::ok(found);
    }
    Verdict::warn(found).lost(lost).cure(Do, "on the machine whose clock is wrong: timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_difference_counts_only_beyond_what_the_call_itself_took() {
        let state = |ahead_ms, within_ms| judged(&Ok(Clock { ahead_ms, within_ms }), "").state;
        assert_eq!([state(1_900, 0), state(-2_000, 0), state(2_500, 600)], [State::Ok; 3]);
        assert_eq!([state(2_001, 0), state(-9_000, 3_000)], [State::Warn; 2]);
        let found = judged(&Ok(Clock { ahead_ms: -3, within_ms: 5 }), "").found;
        assert_eq!(found, "3 ms behind this machine (give or take 3 ms)");
    }
}
