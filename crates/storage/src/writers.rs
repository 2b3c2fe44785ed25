//! Forgets writers that are long gone: their sequence numbers in Redis, then their watermarks in MySQL.
//!
//! A watermark may go when nothing of its writer can come any more, and neither step may change the account of views,
//! which takes the larger of what both stores know of a writer. So:
//!
//! 1. A watermark that was unused for [`WRITERS_KEPT_DAYS`], of whose writer nothing waits and Redis knows nothing beyond it,
//!    begins its time anew in MySQL, and then Redis forgets the writer: the watermark alone says as much as both did.
//! 2. A watermark that is unused for as long again, and whose writer Redis has not known since, is retired: in one
//!    transaction its totals move to the shard's row and it is deleted.
//!
//! Whoever is killed between the two, or in the middle of one, leaves an account that is even, and the next round goes on.
//! The second wait is for a snapshot of Redis that is restored: what it brings back of a writer still meets the watermark, or
//! else it would be accepted a second time beside the retired totals. A writer that rests for much less takes a new name
//! before it pushes again (`ingest.rs`), so none comes back. Of a writer that Redis knows more of than MySQL does while nothing
//! waits, views are missing: it stays, and with it the drift that tells.

use crate::mysql::RETENTION_PIECE;
use crate::mysql::view_retention::{renew_marks, retire_marks, unused_marks};
use crate::redis::view_writers::{Known, Writers, forget, writers};
use crate::{Error, MySql, Redis};
use domain::view::{Mark, Writer};

pub use crate::mysql::view_retention::WRITERS_KEPT_DAYS;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Watermarks that were retired.
    pub retired: u64,
    /// Whether the next round will find more to do.
    pub more: bool,
}

/// One round over a shard, at most [`RETENTION_PIECE`] watermarks.
///
/// # Errors
/// A store is away: what is done is done, the next round does the rest.
pub async fn retire(mysql: &MySql, redis: &Redis, shard: u16) -> Result<Round, Error> {
    let unused = unused_marks(mysql, shard).await?;
    if unused.is_empty() {
        return Ok(Round::default());
    }
    let session = redis.queue.session()?;
    // After the watermarks were read: a record that is neither waiting nor above its watermark now will never count.
    let Some(writers) = writers(&session, &redis.keys, shard).await? else { return Ok(Round::default()) };
    let Gone { known, unknown } = Gone::of(&unused, &writers);
    if !known.is_empty() {
        renew_marks(mysql, shard, &known.iter().map(|(writer, _)| *writer).collect::<Vec<_>>()).await?;
        forget(&session, &redis.keys, shard, &known).await?;
    }
    let retired = if unknown.is_empty() { 0 } else { retire_marks(mysql, shard, unknown).await? };
    let moved = !known.is_empty() || retired > 0;
    Ok(Round { retired, more: moved && unused.len() as u64 == RETENTION_PIECE })
}

/// Writers of whom nothing can come any more.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gone {
    /// Those that Redis remembers.
    known: Vec<(Writer, Known)>,
    unknown: Vec<Writer>,
}

impl Gone {
    fn of(unused: &[(Writer, Mark)], writers: &Writers) -> Self {
        let mut gone = Self::default();
        for (writer, mark) in unused.iter().filter(|(writer, _)| !writers.waiting.contains(writer)) {
            match writers.known.get(writer) {
                None => gone.unknown.push(*writer),
                Some(known) if known.seq <= mark.seq && known.accepted <= mark.accepted => gone.known.push((*writer, known.clone())),
                Some(_) => {}
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn writer(digit: &str) -> Writer {
        Writer::parse(&digit.repeat(32)).unwrap()
    }

    #[test]
    fn a_writer_is_gone_only_if_nothing_of_it_waits_and_redis_knows_nothing_beyond_its_watermark() {
        let [even, behind, unknown, sealed, unseen, short] = ["a", "b", "c", "d", "e", "f"].map(writer);
        let mark = |seq| Mark { seq, accepted: 10 * seq, arrived: seq };
        let unused = [(even, mark(7)), (behind, mark(7)), (unknown, mark(7)), (sealed, mark(7)), (unseen, mark(7)), (short, mark(7))];
        let known = |text| Known::parse(text).unwrap();
        let writers = Writers {
            // Of one Redis remembers nothing but its record.
            waiting: HashSet::from([sealed, unseen]),
            known: HashMap::from([(even, known("7 70")), (behind, known("6 60")), (sealed, known("7 70")), (short, known("7 71"))]),
        };
        let gone = Gone::of(&unused, &writers);
        assert_eq!(gone, Gone { known: vec![(even, known("7 70")), (behind, known("6 60"))], unknown: vec![unknown] });
        let pushed = Writers { known: HashMap::from([(even, known("8 80"))]), ..Writers::default() };
        assert_eq!(Gone::of(&unused[..1], &pushed), Gone::default());
    }
}
