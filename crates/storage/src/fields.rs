//! What a server says of itself: names and values, as text. What a version does not know is absent.

use std::collections::HashMap;

/// Settings, counters or facts of a server, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(HashMap<String, String>);

impl Fields {
    /// `name` in lower case.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `None` also for what is no whole number of 0 or more.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into().to_ascii_lowercase(), value.into())).collect())
    }
}

/// A server's clock beside that of this machine, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Above 0: the server is ahead.
    pub ahead_ms: i64,
    /// The server was asked at some moment of so long a span.
    pub within_ms: u64,
}

impl Clock {
    /// `server_ms` was read between two looks at this machine's clock; all in milliseconds since 1970 UTC.
    #[must_use]
    pub fn read(before_ms: u64, server_ms: u64, after_ms: u64) -> Self {
        let within_ms = after_ms.saturating_sub(before_ms);
        let here = i128::from(before_ms) + i128::from(within_ms / 2);
        let ahead = i128::from(server_ms) - here;
        Self { ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX), within_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_call() {
        assert_eq!(Clock::read(1_000, 1_010, 1_020), Clock { ahead_ms: 0, within_ms: 20 });
        assert_eq!(Clock::read(10_000, 4_000, 10_000), Clock { ahead_ms: -6_000, within_ms: 0 });
    }

    #[test]
    fn names_are_found_in_lower_case_and_numbers_are_whole() {
        let fields: Fields = [("Wsrep_ON", "OFF"), ("maxmemory", "12"), ("ratio", "1.5")].into_iter().collect();
        assert_eq!((fields.text("wsrep_on"), fields.number("maxmemory"), fields.number("ratio")), (Some("OFF"), Some(12), None));
    }
}
