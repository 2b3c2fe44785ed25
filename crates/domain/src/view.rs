//! Views on their way from the API through Redis into MySQL: the text of a record, and the tally of a batch.
//!
//! A pushed record is `1 <writer> <seq> <accepted> <run8> <at_ms> <id> <n> [<id> <n> …]`, fields apart by one space:
//!
//! | field | meaning |
//! |---|---|
//! | `1` | format of the record |
//! | writer | UUID of the API's thread that pushed it, 32 hex digits |
//! | seq | number of the push in its shard, from 1, rising by one |
//! | accepted | the writer's views in this shard that Redis stored, this record included |
//! | run8 | first 8 characters of Redis's `run_id` when the record was first sent |
//! | `at_ms` | the API's clock at the first sending, milliseconds since 1970 UTC |
//! | id n | a product, each at most once, and how many views it got |
//!
//! Text and not JSON: Redis's `cjson` writes ids above 10^14 with 14 digits. What makes a view count once
//! is (writer, seq) against the watermark in MySQL; nothing here depends on how records were batched. Records that wait for
//! long are merged (`view/queued.rs`): a merged record counts if *every* part of it stands above its watermark, and is dropped
//! if every part stands at or below it. Anything between is a past that Redis has lost, and with it the whole batch.

#[cfg(test)]
mod merged_tests;
mod queued;

pub use queued::{Count, MERGED_FORMAT, Part, Queued, pushed_at_ms};

use crate::ProductId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Most views of one product in one pushed record; a push ends before a pair would pass it.
pub const MAX_VIEWS_PER_PAIR: u64 = 1_000_000;

/// Largest number in a record: what Lua and JSON hold exactly. No push has more.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// End of the year 9999: what DATETIME holds.
const MAX_AT_MS: u64 = 253_402_300_800_000;

/// First character of every pushed record; a later layout takes another digit.
pub const RECORD_FORMAT: &str = "1";

const MILLIS_PER_HOUR: u64 = 3_600_000;

/// One thread that pushes views; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer(Uuid);

impl Writer {
    #[must_use]
    pub fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Parses 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 32 { Uuid::try_parse(text).ok().map(Self) } else { None }
    }
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// What one push carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub writer: Writer,
    pub seq: u64,
    pub accepted: u64,
    pub run8: String,
    pub at_ms: u64,
    /// (product id, views) as they were sent; not yet checked.
    pub counts: Vec<(u64, u64)>,
}

impl Record {
    /// The fields after the format, as the push script takes them and writes them.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let header = [self.writer.to_string(), self.seq.to_string(), self.accepted.to_string(), self.run8.clone(), self.at_ms.to_string()];
        let counts = self.counts.iter().flat_map(|(id, views)| [id.to_string(), views.to_string()]);
        header.into_iter().chain(counts).collect()
    }

    /// # Errors
    /// Text that is not a record of this format; says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
        let mut fields = text.split(' ');
        if fields.next() != Some(RECORD_FORMAT) {
            return Err("does not begin with a known format");
        }
        let writer = fields.next().and_then(Writer::parse).ok_or("has no writer")?;
        let seq = fields.next().and_then(number).filter(|seq| *seq > 0).ok_or("has no sequence number")?;
        let accepted = fields.next().and_then(number).ok_or("has no running total")?;
        let run8 = fields.next().filter(|run| !run.is_empty()).ok_or("has no run id")?.to_owned();
        let at_ms = fields.next().and_then(number).filter(|at_ms| *at_ms < MAX_AT_MS).ok_or("has no time")?;
        let mut counts = Vec::new();
        while let Some(id) = fields.next() {
            let id = number(id).ok_or("has a product id that is no number")?;
            let views = fields.next().and_then(number).ok_or("has a product without a count")?;
            counts.push((id, views));
        }
        if counts.is_empty() {
            return Err("counts nothing");
        }
        Ok(Self { writer, seq, accepted, run8, at_ms, counts })
    }

    /// Sum of all counts, also of those that will be set aside.
    #[must_use]
    pub fn views(&self) -> u64 {
        self.counts.iter().fold(0, |sum, (_, views)| sum.saturating_add(*views))
    }
}

/// Text in the queue that is no record, or that nobody can count. Its place in its batch identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRecord {
    pub position: usize,
    pub text: Vec<u8>,
    pub why: &'static str,
}

/// One element of a batch.
pub type Parsed = Result<Queued, NoRecord>;

/// Parses what a claim returned, in the order of the queue.
#[must_use]
pub fn parse_records(records: Vec<Vec<u8>>) -> Vec<Parsed> {
    let parse = |(position, text): (usize, Vec<u8>)| Queued::parse(&text).map_err(|why| NoRecord { position, text, why });
    records.into_iter().enumerate().map(parse).collect()
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok().filter(|number| *number <= MAX_NUMBER) } else { None }
}

/// A writer's watermark in one shard: all records up to `seq` are in MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub seq: u64,
    /// Running total carried by the record `seq`.
    pub accepted: u64,
    /// Views of this writer that were applied or set aside; short of `accepted` by what was lost.
    pub arrived: u64,
}

/// Why something was not added to its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Text that is not a record.
    Unparsable,
    /// A count of 0 or above [`MAX_VIEWS_PER_PAIR`], or an id no product can have.
    OutOfRange,
    /// No such product in MySQL.
    UnknownProduct,
    /// MySQL refused the sum of this product and hour for its data, time after time.
    Refused,
}

impl Reason {
    pub const ALL: [Self; 4] = [Self::Unparsable, Self::OutOfRange, Self::UnknownProduct, Self::Refused];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::OutOfRange => "out_of_range",
            Self::UnknownProduct => "unknown_product",
            Self::Refused => "refused",
        }
    }
}

/// Views, or text, that a batch sets aside as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetAside {
    Views {
        product_id: u64,
        hour: u64,
        views: u64,
        reason: Reason,
    },
    Text(NoRecord),
    /// [`Reason::Refused`], in the server's words.
    Refused {
        product_id: u64,
        hour: u64,
        views: u64,
        why: String,
    },
}

/// What becomes of a merged record of which some parts are in MySQL and some are not. Redis has fallen back to before the
/// merge, and went on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartlyCounted {
    /// The batch is void as a whole: the records that it was made of are in the queue again, or in MySQL. Applying the rest of
    /// it would put watermarks above what still waits.
    Voids,
    /// The record is set aside with the names of its parts. Only where Redis itself holds such a batch, because somebody
    /// brought back a past that was given up; what of it was not counted is then lost, and is said to be.
    IsSetAside,
}

/// A batch of which nothing may be applied; see [`PartlyCounted::Voids`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Void;

/// What a batch adds to MySQL: sums per product and hour, new watermarks, dead letters.
#[derive(Debug, Default)]
pub struct Tally {
    /// (product id, hours since 1970 UTC) → views.
    pub hours: BTreeMap<(u64, u64), u64>,
    pub marks: BTreeMap<Writer, Mark>,
    pub set_aside: Vec<SetAside>,
    /// Records above their watermark, and text that was not kept before.
    pub counted_records: usize,
    /// Records at or below their watermark, and text that was kept before: already in MySQL.
    pub dropped_records: usize,
    /// Time of the oldest counted record, milliseconds since 1970 UTC.
    pub oldest_at_ms: Option<u64>,
    /// How often its sums were halved to find what MySQL refuses.
    pub halvings: usize,
}

impl Tally {
    /// Adds up the records that stand above the watermarks, in the order of the queue, and sets text aside unless its
    /// place in the batch is among those `kept` before.
    ///
    /// # Errors
    /// A merged record is in MySQL in part, and that voids the batch.
    pub fn new(records: &[Parsed], marks: &HashMap<Writer, Mark>, kept: &BTreeSet<usize>, partly: PartlyCounted) -> Result<Self, Void> {
        let mut tally = Self::default();
        for (position, record) in records.iter().enumerate() {
            match record {
                Ok(record) => tally.add(position, record, marks, partly)?,
                Err(text) if kept.contains(&text.position) => tally.dropped_records += 1,
                Err(text) => {
                    tally.counted_records += 1;
                    tally.set_aside.push(SetAside::Text(text.clone()));
                }
            }
        }
        Ok(tally)
    }

    fn add(&mut self, position: usize, record: &Queued, marks: &HashMap<Writer, Mark>, partly: PartlyCounted) -> Result<(), Void> {
        let before =
            |tally: &Self, part: &Part| tally.marks.get(&part.writer).or_else(|| marks.get(&part.writer)).copied().unwrap_or_default();
        if record.parts.iter().all(|part| part.last <= before(self, part).seq) {
            self.dropped_records += 1;
            return Ok(());
        }
        let counts = record.parts.iter().all(|part| part.first > before(self, part).seq);
        if !counts && partly == PartlyCounted::Voids {
            return Err(Void);
        }
        self.counted_records += 1;
        for part in &record.parts {
            let before = before(self, part);
            let arrived = if counts { part.views } else { 0 };
            // A writer whose Redis came back empty knows less than what a push of its own without an answer brought here.
            let accepted = part.accepted.max(before.accepted.saturating_add(arrived));
            let arrived = before.arrived.saturating_add(arrived);
            self.marks.insert(part.writer, Mark { seq: part.last.max(before.seq), accepted, arrived });
        }
        if counts {
            self.count(record);
        } else {
            self.set_aside.push(SetAside::Text(record.as_no_record(position)));
        }
        Ok(())
    }

    fn count(&mut self, record: &Queued) {
        self.oldest_at_ms = Some(self.oldest_at_ms.map_or(record.at_ms, |oldest| oldest.min(record.at_ms)));
        for &Count { product_id, hour, views } in &record.counts {
            if ProductId::new(product_id).is_ok() && (1..=record.most_views).contains(&views) {
                let sum = self.hours.entry((product_id, hour)).or_default();
                *sum = sum.saturating_add(views);
            } else {
                self.set_aside.push(SetAside::Views { product_id, hour, views, reason: Reason::OutOfRange });
            }
        }
    }

    /// The products that the tally would add to, ascending.
    #[must_use]
    pub fn product_ids(&self) -> BTreeSet<u64> {
        self.hours.keys().map(|(id, _)| *id).collect()
    }

    /// Sets aside what belongs to products that are not in `known`.
    pub fn set_aside_unknown(&mut self, known: &BTreeSet<u64>) {
        let Self { hours, set_aside, .. } = self;
        hours.retain(|&(product_id, hour), views| {
            let keep = known.contains(&product_id);
            if !keep {
                set_aside.push(SetAside::Views { product_id, hour, views: *views, reason: Reason::UnknownProduct });
            }
            keep
        });
    }

    /// Sets aside the views of one product and hour, which MySQL refuses.
    pub fn set_aside_refused(&mut self, product_id: u64, hour: u64, why: String) {
        if let Some(views) = self.hours.remove(&(product_id, hour)) {
            self.set_aside.push(SetAside::Refused { product_id, hour, views, why });
        }
    }

    /// Sums per product over all hours, ascending by id: the order in which rows are locked.
    #[must_use]
    pub fn products(&self) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::<u64, u64>::new();
        for (&(id, _), &views) in &self.hours {
            let sum = sums.entry(id).or_default();
            *sum = sum.saturating_add(views);
        }
        sums
    }

    /// Views that go to products.
    #[must_use]
    pub fn persisted(&self) -> u64 {
        self.hours.values().fold(0, |sum, views| sum.saturating_add(*views))
    }

    /// Views that were set aside; text counts as none.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.set_aside.iter().fold(0, |sum, letter| match letter {
            SetAside::Views { views, .. } | SetAside::Refused { views, .. } => sum.saturating_add(*views),
            SetAside::Text(_) => sum,
        })
    }

    /// Whether every record was above its watermark and none of it was set aside. Only then may
    /// cached totals be raised by the batch's sums instead of being dropped.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.dropped_records == 0 && self.set_aside.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writer(n: u128) -> Writer {
        Writer::new(Uuid::from_u128(n))
    }

    fn record(writer_number: u128, seq: u64, counts: &[(u64, u64)]) -> Record {
        let at_ms = 3_600_000 * 5 + seq;
        Record { writer: writer(writer_number), seq, accepted: seq, run8: "0a1b2c3d".into(), at_ms, counts: counts.to_vec() }
    }

    fn tally(records: &[Parsed], marks: &HashMap<Writer, Mark>) -> Tally {
        Tally::new(records, marks, &BTreeSet::new(), PartlyCounted::Voids).unwrap()
    }

    fn text(record: &Record) -> Vec<u8> {
        format!("{RECORD_FORMAT} {}", record.fields().join(" ")).into_bytes()
    }

    #[test]
    fn a_record_at_or_below_its_watermark_adds_nothing() {
        let marks = HashMap::from([(writer(1), Mark { seq: 2, accepted: 2, arrived: 2 })]);
        let records = parse_records(vec![text(&record(1, 2, &[(7, 1)])), text(&record(1, 3, &[(7, 4)])), text(&record(1, 3, &[(7, 4)]))]);
        let tally = tally(&records, &marks);
        assert_eq!(tally.products(), BTreeMap::from([(7, 4)]));
        assert_eq!((tally.counted_records, tally.dropped_records), (1, 2));
        assert_eq!(tally.marks[&writer(1)], Mark { seq: 3, accepted: 6, arrived: 6 });
        assert!(!tally.is_exact());
    }

    #[test]
    fn a_watermarks_total_never_falls() {
        // The writer does not know that its push 5 arrived, and Redis came back empty.
        let marks = HashMap::from([(writer(1), Mark { seq: 5, accepted: 12, arrived: 12 })]);
        let next = Record { accepted: 10, ..record(1, 6, &[(7, 3)]) };
        let tally = tally(&[Ok(next.into())], &marks);
        assert_eq!(tally.marks[&writer(1)], Mark { seq: 6, accepted: 15, arrived: 15 });
    }

    #[test]
    fn what_cannot_be_counted_is_set_aside_and_the_rest_counts() {
        let records = parse_records(vec![
            b"rubbish".to_vec(),
            text(&record(1, 1, &[(7, 0), (8, 3), (0, 2), (9, MAX_VIEWS_PER_PAIR + 1)])),
            b"1 \xff".to_vec(),
        ]);
        let mut tally = tally(&records, &HashMap::new());
        tally.set_aside_unknown(&BTreeSet::new());
        assert_eq!(tally.set_aside.len(), 6);
        assert_eq!(tally.persisted(), 0);
        assert_eq!(tally.dead(), 3 + 2 + MAX_VIEWS_PER_PAIR + 1);
        assert!(matches!(&tally.set_aside[0], SetAside::Text(NoRecord { position: 0, .. })));
        let again = Tally::new(&records, &tally.marks.into_iter().collect(), &BTreeSet::from([0, 2]), PartlyCounted::Voids).unwrap();
        assert_eq!((again.counted_records, again.dropped_records, again.set_aside.len()), (0, 3, 0));
    }

    #[test]
    fn text_that_is_no_record_says_what_is_wrong() {
        let good = String::from_utf8(text(&record(1, 1, &[(7, 1)]))).unwrap();
        assert!(Record::parse(good.as_bytes()).is_ok());
        for bad in [
            "",
            "2 x",
            "1",
            &good[..good.len() - 2],
            &format!("{good} 8"),
            &format!("{good} 8 -1"),
            &format!("{good} 8 9007199254740992"),
            &good.replace(" 18000001 ", " 253402300800000 "),
            &good.replace(" 7 ", " 07x "),
            &format!(" {good}"),
        ] {
            assert!(Record::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(seq in 1..MAX_NUMBER, accepted in 0..=MAX_NUMBER, at_ms in 0..MAX_AT_MS, counts in prop::collection::vec((0..=MAX_NUMBER, 0..=MAX_NUMBER), 1..50)) {
            let record = Record { writer: writer(9), seq, accepted, run8: "abcdef01".into(), at_ms, counts };
            prop_assert_eq!(Record::parse(&text(&record)), Ok(record));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn however_records_are_cut_into_batches_and_repeated_each_counts_once(
            counts in prop::collection::vec((0u128..3, 1u64..5, 1u64..10), 1..60), cuts in prop::collection::vec(0usize..60, 0..8), repeat in 0usize..60,
        ) {
            let mut last = HashMap::<u128, u64>::new();
            let records: Vec<_> = counts.iter().map(|&(who, id, views)| {
                let seq = last.entry(who).or_default();
                *seq += 1;
                Ok(record(who, *seq, &[(id, views)]).into())
            }).collect();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(records.len())).chain([0, records.len()]).collect();
            cuts.sort_unstable();
            let mut marks = HashMap::new();
            let mut sums = BTreeMap::<u64, u64>::new();
            for pair in cuts.windows(2) {
                // A batch may be offered again together with records that were applied before it.
                let from = pair[0].saturating_sub(repeat);
                let tally = tally(&records[from..pair[1]], &marks);
                marks.extend(tally.marks.clone());
                for (id, views) in tally.products() {
                    *sums.entry(id).or_default() += views;
                }
            }
            let mut expected = BTreeMap::<u64, u64>::new();
            for (_, id, views) in counts {
                *expected.entry(id).or_default() += views;
            }
            prop_assert_eq!(sums, expected);
        }
    }
}
