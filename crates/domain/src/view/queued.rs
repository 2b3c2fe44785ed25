//! What stands in the queue: a record as it was pushed, or one that pushed records were merged into.
//!
//! A merged record is `2 <run8> <at_ms> <writer> <first> <last> <accepted> <views> [<writer> …] h<hour> <id> <n> [<id> <n> …]
//! [h<hour> …]`, fields apart by one space:
//!
//! | field | meaning |
//! |---|---|
//! | `2` | format of the record |
//! | run8 | first 8 characters of the `run_id` under which all its parts were first sent |
//! | `at_ms` | time of its oldest part, milliseconds since 1970 UTC |
//! | writer first last accepted views | a part: which pushes of a writer it holds, the running total of the last, their views |
//! | h hour | hours since 1970 UTC, each at most once |
//! | id n | a product, each at most once an hour, and how many views it got in that hour |

use super::{MAX_AT_MS, MAX_NUMBER, MAX_VIEWS_PER_PAIR, MILLIS_PER_HOUR, NoRecord, RECORD_FORMAT, Record, Writer, number};
use std::collections::BTreeSet;

/// First character of a merged record.
pub const MERGED_FORMAT: &str = "2";

/// The pushes of one writer in a record. Those between the first and the last that are not in it were never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub writer: Writer,
    pub first: u64,
    pub last: u64,
    /// Running total carried by the push `last`.
    pub accepted: u64,
    pub views: u64,
}

/// Views of a product in one hour, as they were sent; not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub product_id: u64,
    /// Hours since 1970 UTC.
    pub hour: u64,
    pub views: u64,
}

/// A record of either format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// One of a pushed record; of a merged one, each writer once.
    pub parts: Vec<Part>,
    /// Time of the oldest part, milliseconds since 1970 UTC.
    pub at_ms: u64,
    pub counts: Vec<Count>,
    /// Most views that one of the counts may have.
    pub most_views: u64,
}

impl From<Record> for Queued {
    fn from(record: Record) -> Self {
        let (hour, seq) = (record.at_ms / MILLIS_PER_HOUR, record.seq);
        let part = Part { writer: record.writer, first: seq, last: seq, accepted: record.accepted, views: record.views() };
        let counts = record.counts.into_iter().map(|(product_id, views)| Count { product_id, hour, views });
        Self { parts: vec![part], at_ms: record.at_ms, counts: counts.collect(), most_views: MAX_VIEWS_PER_PAIR }
    }
}

impl Queued {
    /// # Errors
    /// Text that is no record of either format; says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.starts_with(b"2 ") { parse_merged(text) } else { Record::parse(text).map(Self::from) }
    }

    /// What a merged record says when it cannot be counted: which pushes it holds, as in its text.
    pub(super) fn as_no_record(&self, position: usize) -> NoRecord {
        let part = |part: &Part| format!("{} {} {} {} {}", part.writer, part.first, part.last, part.accepted, part.views);
        let parts: Vec<_> = self.parts.iter().map(part).collect();
        NoRecord { position, text: parts.join(" ").into_bytes(), why: "is in MySQL in part, after a loss of Redis" }
    }
}

/// When the record was pushed whose text begins with `head`, or the oldest part of a merged one; milliseconds since 1970 UTC.
#[must_use]
pub fn pushed_at_ms(head: &[u8]) -> Option<u64> {
    let mut fields = std::str::from_utf8(head).ok()?.split(' ');
    let place = match fields.next()? {
        RECORD_FORMAT => 4,
        MERGED_FORMAT => 1,
        _ => return None,
    };
    fields.nth(place).and_then(number).filter(|at_ms| *at_ms < MAX_AT_MS)
}

fn parse_merged(text: &[u8]) -> Result<Queued, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
    let mut fields = text.split(' ').skip(1).peekable();
    fields.next().filter(|run| !run.is_empty()).ok_or("has no run id")?;
    let at_ms = fields.next().and_then(number).filter(|at_ms| *at_ms < MAX_AT_MS).ok_or("has no time")?;
    let mut parts = Vec::new();
    while let Some(writer) = fields.next_if(|field| !field.starts_with('h')) {
        let writer = Writer::parse(writer).ok_or("has a part without a writer")?;
        let mut next = || fields.next().and_then(number).ok_or("has a part that is no part");
        let (first, last, accepted, views) = (next()?, next()?, next()?, next()?);
        if first == 0 || last < first {
            return Err("has a part that is no part");
        }
        parts.push(Part { writer, first, last, accepted, views });
    }
    let mut counts = Vec::new();
    while let Some(hour) = fields.next() {
        let hour = hour.strip_prefix('h').and_then(number).filter(|hour| *hour < MAX_AT_MS / MILLIS_PER_HOUR).ok_or("has no hour")?;
        while let Some(id) = fields.next_if(|field| !field.starts_with('h')) {
            let product_id = number(id).ok_or("has a product id that is no number")?;
            let views = fields.next().and_then(number).ok_or("has a product without a count")?;
            counts.push(Count { product_id, hour, views });
        }
    }
    let writers: BTreeSet<Writer> = parts.iter().map(|part| part.writer).collect();
    let sum = |views: &mut dyn Iterator<Item = u64>| views.fold(0_u64, u64::saturating_add);
    if writers.len() != parts.len() || sum(&mut parts.iter().map(|part| part.views)) != sum(&mut counts.iter().map(|count| count.views)) {
        return Err("counts something else than its parts");
    }
    if counts.is_empty() {
        return Err("counts nothing");
    }
    Ok(Queued { parts, at_ms, counts, most_views: MAX_NUMBER })
}
