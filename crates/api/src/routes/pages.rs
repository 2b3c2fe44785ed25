//! Pages of all products: which one is asked for, and the cursors that lead to the next.
//!
//! A cursor is a place in one of two orders and holds nothing else; clients send it back as it is. It never
//! ends, and a product that is made or changed meanwhile neither hides another nor shows it twice.

use super::view_counts;
use crate::error::ApiError;
use catalog::After;
use chrono::{DateTime, Datelike, Timelike, Utc};
use domain::ProductId;

const DEFAULT_LIMIT: u32 = 50;
pub(super) const MAX_LIMIT: u32 = 500;

/// What the column `updated_at` holds.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) after: After,
    pub(super) limit: u32,
}

/// Reads the parameters of a page. `updated_since` begins with what changed at that very microsecond. A change bears the time at
/// which it was written, seconds before its COMMIT at worst: who follows changes asks again from a little before the latest seen.
///
/// # Errors
/// [`ApiError::InvalidQuery`]
pub(super) fn parse(limit: Option<String>, cursor: Option<String>, since: Option<String>) -> Result<Asked, ApiError> {
    let limit = self::limit(limit)?;
    let since = since.map(|text| parse_since(&text)).transpose()?;
    let first = since.map_or(After::Id(0), |since| After::Updated(since, 0));
    let after = cursor.map_or(Ok(first), |text| parse_cursor(&text, first))?;
    Ok(Asked { after, limit })
}

/// Reads how many a page is to have at most.
///
/// # Errors
/// [`ApiError::InvalidQuery`]
pub(super) fn limit(given: Option<String>) -> Result<u32, ApiError> {
    given.map_or(Ok(DEFAULT_LIMIT), |text| parse_limit(&text))
}

fn parse_limit(text: &str) -> Result<u32, ApiError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| plain && (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| ApiError::InvalidQuery(format!("limit must be a whole number from 1 to {MAX_LIMIT}")))
}

fn parse_since(text: &str) -> Result<DateTime<Utc>, ApiError> {
    let time = view_counts::time("updated_since", text)?;
    let outside = || ApiError::InvalidQuery("updated_since must be of the years 1970 to 9999".into());
    let whole_micros = time.with_nanosecond(time.nanosecond() / 1_000 * 1_000);
    whole_micros.filter(|time| YEARS.contains(&time.year())).ok_or_else(outside)
}

/// The text that leads to a place: `i` and the id, or `u`, microseconds since 1970, `-` and the id, all in hexadecimal.
pub(super) fn cursor(after: After) -> String {
    match after {
        After::Id(id) => format!("i{id:x}"),
        After::Updated(time, id) => format!("u{:x}-{id:x}", time.timestamp_micros()),
    }
}

/// Only what [`cursor`] writes is read, and only for the walk that it came from.
fn parse_cursor(text: &str, first: After) -> Result<After, ApiError> {
    let unknown = || ApiError::InvalidQuery("cursor is none of this API's; send next_cursor as it was answered".into());
    let after = read_cursor(text).filter(|after| cursor(*after) == text).ok_or_else(unknown)?;
    match (first, after) {
        (After::Id(_), After::Id(_)) => Ok(after),
        (After::Updated(since, _), After::Updated(time, _)) if time >= since => Ok(after),
        _ => Err(ApiError::InvalidQuery("cursor is of another list; keep updated_since as it was for the first page".into())),
    }
}

fn read_cursor(text: &str) -> Option<After> {
    let id = |text: &str| u64::from_str_radix(text, 16).ok().filter(|id| (1..=ProductId::MAX).contains(id));
    if let Some(text) = text.strip_prefix('i') {
        return id(text).map(After::Id);
    }
    let (micros, text) = text.strip_prefix('u')?.split_once('-')?;
    let time = DateTime::from_timestamp_micros(i64::from_str_radix(micros, 16).ok()?)?;
    YEARS.contains(&time.year()).then_some(After::Updated(time, id(text)?))
}

/// `h` and the row behind which the next page begins, in hexadecimal.
pub(super) fn cursor_to_row(row: u64) -> String {
    format!("h{row:x}")
}

/// Only what [`cursor_to_row`] writes is read.
pub(super) fn row(cursor: &str) -> Result<u64, ApiError> {
    let row = cursor.strip_prefix('h').and_then(|row| u64::from_str_radix(row, 16).ok());
    let row = row.filter(|row| cursor_to_row(*row) == cursor);
    row.ok_or_else(|| ApiError::InvalidQuery("cursor is none of this list; send next_cursor as it was answered".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(limit: &str, cursor: &str, since: &str) -> Result<Asked, String> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        parse(given(limit), given(cursor), given(since)).map_err(|error| error.to_string())
    }

    fn micros(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    #[test]
    fn a_page_begins_at_the_beginning_at_a_time_or_at_a_cursor() {
        assert_eq!(asked("", "", ""), Ok(Asked { after: After::Id(0), limit: 50 }));
        assert_eq!(asked("500", "i2a", ""), Ok(Asked { after: After::Id(42), limit: 500 }));
        let since = "1970-01-01T01:00:00.0000019 01:00";
        assert_eq!(asked("1", "", since), Ok(Asked { after: After::Updated(micros(1), 0), limit: 1 }));
        assert_eq!(asked("1", "u1-2a", since), Ok(Asked { after: After::Updated(micros(1), 42), limit: 1 }));
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let latest = micros(253_402_300_799_999_999);
        for after in [After::Id(1), After::Id(ProductId::MAX), After::Updated(micros(0), 1), After::Updated(latest, ProductId::MAX)] {
            assert_eq!(read_cursor(&cursor(after)), Some(after));
            assert!(cursor(after).len() <= 32, "{}", cursor(after));
        }
    }

    #[test]
    fn what_is_no_limit_no_time_or_no_cursor_of_this_list_is_refused() {
        for limit in ["0", "501", "-1", "+5", "5.0", "x", "99999999999999999999", "٥"] {
            assert!(asked(limit, "", "").unwrap_err().contains("1 to 500"), "{limit}");
        }
        for since in ["yesterday", "2011-01-04", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00"] {
            assert!(asked("", "", since).unwrap_err().contains("updated_since"), "{since}");
        }
        for cursor in ["x", "i", "i0", "i02", "i2A", "i+2", "i20000000000000", "u1", "u-1", "u1-", "u-1-1", "u01-1", "u1-0", "I2", "i2 "] {
            assert!(asked("", cursor, "").unwrap_err().contains("next_cursor"), "{cursor}");
        }
        let since = "2011-01-04T10:00:00Z";
        for (cursor, since) in [("u1-2", ""), ("i2", since), ("u1-2", since)] {
            assert!(asked("", cursor, since).unwrap_err().contains("another list"), "{cursor} {since}");
        }
    }

    #[test]
    fn a_cursor_leads_back_to_its_row_and_nothing_else_is_one() {
        for row in [1, 42, u64::MAX] {
            assert_eq!(super::row(&cursor_to_row(row)).unwrap(), row);
        }
        for text in ["", "h", "h02", "hA", "h+2", "i2a", "h10000000000000000", "2a", "h2a "] {
            assert!(matches!(row(text), Err(ApiError::InvalidQuery(_))), "{text}");
        }
    }
}
