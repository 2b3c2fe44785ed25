//! A sample of the catalogue: products from all over it, others each time.
//!
//! Promises as many as are asked for, or all where there are no more, at a cost that grows with the sample and not with the
//! catalogue. Ids have gaps, and a deleted product keeps its row, so that several places may lead to one product or to none. But
//! each look also tells ids that need not be looked at again, and what is missing is sought among the others: the gaps are soon known.

use super::{MySql, take};
use crate::Error;
use domain::ProductId;
use std::collections::BTreeSet;
use telemetry::metrics::MysqlOp;

/// Places of one statement; each is one look into the primary key.
const AT_ONCE: usize = 100;

/// Looks for each product of the sample, at most: fewer products are found only where some 99 of 100 rows are of deleted ones.
const MOST_LOOKS: usize = 100;

/// Ids of `count` products that are not deleted, ascending; of all where there are no more.
///
/// # Errors
/// MySQL is away.
pub async fn sample(mysql: &MySql, count: u32) -> Result<Vec<ProductId>, Error> {
    let wanted = count as usize;
    let mut search = match ends(mysql).await? {
        Some((first, last)) => Search::among(first, last),
        None => return Ok(Vec::new()),
    };
    let mut looks = 0;
    while search.found.len() < wanted && looks < wanted * MOST_LOOKS {
        let places = search.places(wanted - search.found.len());
        if places.is_empty() {
            break;
        }
        looks += places.len();
        let mut seen = Vec::with_capacity(places.len());
        for places in places.chunks(AT_ONCE) {
            seen.extend(look(mysql, places).await?);
        }
        search.learn(&seen);
    }
    Ok(search.found.into_iter().filter_map(|id| ProductId::new(id).ok()).collect())
}

/// The lowest and the highest id that a product may have and some row has.
async fn ends(mysql: &MySql) -> Result<Option<(u64, u64)>, Error> {
    let sql = format!("SELECT MIN(id) AS first, MAX(id) AS last FROM products WHERE id BETWEEN 1 AND {}", ProductId::MAX);
    let Some(mut row) = mysql.rows(MysqlOp::Check, sql, ()).await?.pop() else { return Ok(None) };
    let (first, last): (Option<u64>, Option<u64>) = (take(&mut row, "first")?, take(&mut row, "last")?);
    Ok(first.zip(last))
}

/// The first row from each of the places on, which are ascending.
async fn look(mysql: &MySql, places: &[u64]) -> Result<Vec<Seen>, Error> {
    let next = |place: &u64| {
        format!("(SELECT {place} AS place, id, deleted_at IS NULL AS is_there FROM products WHERE id >= {place} ORDER BY id LIMIT 1)")
    };
    let sql = places.iter().map(next).collect::<Vec<_>>().join(" UNION ALL ");
    let mut seen = Vec::with_capacity(places.len());
    for mut row in mysql.rows(MysqlOp::Check, sql, ()).await? {
        let is_there = take::<i64>(&mut row, "is_there")? != 0;
        seen.push(Seen { place: take(&mut row, "place")?, row: take(&mut row, "id")?, is_there });
    }
    Ok(seen)
}

/// What was met from a place on: there is nothing before that row.
struct Seen {
    place: u64,
    row: u64,
    /// It is not deleted.
    is_there: bool,
}

/// What is found, and the ids of which it is not known whether a product has them: ascending ranges, with both their ends.
struct Search {
    unknown: Vec<(u64, u64)>,
    found: BTreeSet<u64>,
}

impl Search {
    fn among(first: u64, last: u64) -> Self {
        Self { unknown: vec![(first, last)], found: BTreeSet::new() }
    }

    /// So many of the unknown ids, ascending: each somewhere in a part of its own of all of them. Fewer where there are no more.
    fn places(&self, count: usize) -> Vec<u64> {
        let size = |(first, last): &(u64, u64)| last - first + 1;
        let all: u64 = self.unknown.iter().map(size).sum();
        let count = all.min(count as u64);
        let part = |number: u64| (u128::from(all) * u128::from(number) / u128::from(count)) as u64;
        let (mut ranges, mut before) = (self.unknown.iter().peekable(), 0);
        let mut places = Vec::with_capacity(count as usize);
        for number in 0..count {
            let at = fastrand::u64(part(number)..part(number + 1));
            while let Some(range) = ranges.next_if(|range| at - before >= size(range)) {
                before += size(range);
            }
            places.extend(ranges.peek().map(|(first, _)| first + (at - before)));
        }
        places
    }

    /// `seen` is what was met from ascending places on.
    fn learn(&mut self, seen: &[Seen]) {
        self.found.extend(seen.iter().filter(|seen| seen.is_there).map(|seen| seen.row));
        let (mut left, mut seen) = (Vec::new(), seen.iter().peekable());
        // Up to it all is known.
        let mut known = 0;
        for (first, last) in std::mem::take(&mut self.unknown) {
            let mut first = first.max(known);
            while let Some(Seen { place, row, .. }) = seen.next_if(|seen| seen.place <= last) {
                if first < *place {
                    left.push((first, place - 1));
                }
                first = first.max(row.saturating_add(1));
            }
            known = first;
            if first <= last {
                left.push((first, last));
            }
        }
        self.unknown = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A sample of so many of rows that are deleted or not, and how many looks it took.
    fn sampled(rows: &BTreeMap<u64, bool>, wanted: usize) -> (BTreeSet<u64>, usize) {
        let [first, last] = [rows.first_key_value(), rows.last_key_value()].map(|end| *end.unwrap().0);
        let (mut search, mut looks) = (Search::among(first, last), 0);
        while search.found.len() < wanted {
            let places = search.places(wanted - search.found.len());
            assert!(places.is_sorted_by(|one, other| one < other), "{places:?}");
            if places.is_empty() {
                break;
            }
            looks += places.len();
            let met = |place: u64| rows.range(place..).next().map(|(row, is_there)| Seen { place, row: *row, is_there: *is_there });
            let seen: Vec<Seen> = places.into_iter().filter_map(met).collect();
            search.learn(&seen);
        }
        (search.found, looks)
    }

    fn there(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, bool> {
        ids.into_iter().map(|id| (id, true)).collect()
    }

    #[test]
    fn a_sample_is_whole_whatever_gaps_there_are_between_the_ids() {
        for (rows, wanted) in [
            (there((1..=20).chain([1_000_000])), 20),
            (there((0..53).map(|bits| 1 << bits)), 20),
            (there((0..53).map(|bits| 1 << bits)), 53),
            (there((1..=21).map(|id| 1_000 * id)), 20),
            (there((1..=500).chain(1_000_000_000..=1_000_000_500)), 200),
            (there(7..=7), 1),
            (there(1..=1_000), 200),
        ] {
            for _ in 0..50 {
                let (found, looks) = sampled(&rows, wanted);
                assert_eq!(found.len(), wanted, "{rows:?}");
                assert!(found.iter().all(|id| rows.contains_key(id)), "{found:?}");
                assert!(looks <= wanted * MOST_LOOKS / 2, "{looks} looks for {wanted} of {rows:?}");
            }
        }
    }

    #[test]
    fn a_catalogue_that_is_smaller_than_the_sample_is_taken_whole() {
        for rows in [there(1..=7), there([1, 1 << 20, 1 << 52]), there((1..=100).map(|id| id * id * id))] {
            assert_eq!(sampled(&rows, 200).0.len(), rows.len(), "{rows:?}");
        }
    }

    #[test]
    fn what_is_deleted_is_passed_over() {
        let rows: BTreeMap<u64, bool> = (1..=100_000).map(|id| (id, id % 10 == 0 || id > 60_000)).collect();
        for _ in 0..20 {
            let (found, looks) = sampled(&rows, 100);
            assert!(found.len() == 100 && found.iter().all(|id| rows[id]), "{found:?}");
            assert!(looks < 1_000, "{looks}");
        }
    }

    #[test]
    fn a_sample_is_from_all_over_the_catalogue() {
        let rows = there((1..=5_000).chain(900_000_000..=900_005_000));
        let (mut low, mut all) = (0, 0);
        for _ in 0..50 {
            let (found, _) = sampled(&rows, 100);
            low += found.range(..=5_000).count();
            all += found.len();
        }
        assert!((all / 5..=all * 4 / 5).contains(&low), "{low} of {all} are of the first half");
    }
}
