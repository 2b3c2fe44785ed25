//! How fast a replay goes: as fast as it is answered, or a multiple of recorded time.

use chrono::{NaiveDateTime, TimeDelta};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;

/// Times faster than recorded; written `10x` or `10`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed(f64);

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_suffix(['x', 'X']).unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match digits.parse::<f64>() {
            Ok(times) if plain && times.is_finite() && times > 0.0 => Ok(Self(times)),
            _ => Err("write it as a multiple of recorded time above 0, such as 10x or 0.5x"),
        }
    }
}

/// When the events of a run are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) speed: Option<Speed>,
    pub(super) began: Instant,
    /// The recorded times of the first and the last event.
    pub(super) first: NaiveDateTime,
    pub(super) last: NaiveDateTime,
}

impl Pace {
    /// When an event recorded at `time` is due in the given pass (counted from 0); `None`: at once.
    pub(super) fn due(&self, pass: u32, time: NaiveDateTime) -> Option<Instant> {
        let Speed(times) = self.speed?;
        let recorded = seconds(time - self.first) + f64::from(pass) * seconds(self.last - self.first);
        // What lies beyond the clock's range is never due; a year is far enough.
        const FAR: Duration = Duration::from_secs(366 * 24 * 3600);
        Some(self.began + Duration::try_from_secs_f64(recorded / times).unwrap_or(FAR).min(FAR))
    }
}

fn seconds(time: TimeDelta) -> f64 {
    time.num_milliseconds() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_multiple_above_zero() {
        for (text, times) in [("10x", 10.0), ("10", 10.0), ("0.5x", 0.5), ("1000X", 1000.0)] {
            assert_eq!(text.parse(), Ok(Speed(times)), "{text}");
        }
        for text in ["", "x", "0", "0x", "-1x", "1e3x", "nan", "inf", "10xx", "ten", "1 x", "10%"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_due_at_its_recorded_time_divided_by_the_speed() {
        let first = NaiveDateTime::default();
        let last = first + TimeDelta::seconds(1000);
        let began = Instant::now();
        let due = |speed: &str, pass, second| {
            let pace = Pace { speed: Some(speed.parse().unwrap()), began, first, last };
            pace.due(pass, first + TimeDelta::seconds(second)).unwrap() - began
        };
        assert_eq!(due("10x", 0, 0), Duration::ZERO);
        assert_eq!(due("10x", 0, 60), Duration::from_secs(6));
        assert_eq!(due("0.5", 0, 60), Duration::from_secs(120));
        assert_eq!(due("10x", 2, 60), Duration::from_secs(206));
        assert!(due("0.0000000000000000000001", 3, 60) > Duration::from_secs(300 * 24 * 3600));
        let unpaced = Pace { speed: None, began, first, last };
        assert_eq!(unpaced.due(0, last), None);
    }
}
