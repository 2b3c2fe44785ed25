//! Merged records: what counts of them whatever is cut, repeated, or falls back to an older past.

use super::*;
use proptest::prelude::*;

fn writer(n: u64) -> Writer {
    Writer::new(Uuid::from_u128(u128::from(n)))
}

fn part(n: u64, first: u64, last: u64, accepted: u64, views: u64) -> Part {
    Part { writer: writer(n), first, last, accepted, views }
}

fn counts(all: &[(u64, u64, u64)]) -> Vec<Count> {
    all.iter().map(|&(product_id, hour, views)| Count { product_id, hour, views }).collect()
}

fn merged(parts: &[Part], all: &[(u64, u64, u64)]) -> Queued {
    Queued { parts: parts.to_vec(), at_ms: 18_000_000, counts: counts(all), most_views: MAX_NUMBER }
}

fn marks(all: &[(u64, u64, u64)]) -> HashMap<Writer, Mark> {
    all.iter().map(|&(n, seq, views)| (writer(n), Mark { seq, accepted: views, arrived: views })).collect()
}

fn judge(records: &[Queued], marks: &HashMap<Writer, Mark>, partly: PartlyCounted) -> Result<Tally, Void> {
    let records: Vec<Parsed> = records.iter().cloned().map(Ok).collect();
    Tally::new(&records, marks, &BTreeSet::new(), partly)
}

#[test]
fn a_merged_record_reads_back_with_its_parts_and_hours() {
    let text = format!("2 0a1b2c3d 18000001 {} 3 9 40 6 {} 1 1 2 2 h5 7 3 8 1 h6 7 4", writer(1), writer(2));
    let expected = Queued { at_ms: 18_000_001, ..merged(&[part(1, 3, 9, 40, 6), part(2, 1, 1, 2, 2)], &[(7, 5, 3), (8, 5, 1), (7, 6, 4)]) };
    assert_eq!(Queued::parse(text.as_bytes()), Ok(expected));
    assert_eq!(pushed_at_ms(text.as_bytes()), Some(18_000_001));
    assert_eq!(pushed_at_ms(&text.as_bytes()[..24]), Some(18_000_001));
    for bad in [
        text.replace("h5 ", ""),
        text.replace(" 3 9 ", " 9 3 "),
        text.replace(" 3 9 ", " 0 9 "),
        text.replace("40 6", "40 5"),
        text.replace("h6", "h70389528"),
        text.replace(" h6 7 4", " h6 7"),
        text.replace(&writer(2).to_string(), &writer(1).to_string()),
        text.replace(" 7 4", ""),
        text.replace("18000001", "x"),
        format!("{text} "),
        text.replacen('2', "3", 1),
    ] {
        assert!(Queued::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_merged_record_counts_whole_or_not_at_all() {
    let record = [merged(&[part(1, 3, 5, 30, 6), part(2, 1, 1, 2, 2)], &[(7, 5, 8)])];
    let tally = judge(&record, &marks(&[(1, 2, 24)]), PartlyCounted::Voids).unwrap();
    assert_eq!(tally.products(), BTreeMap::from([(7, 8)]));
    assert_eq!(tally.marks[&writer(1)], Mark { seq: 5, accepted: 30, arrived: 30 });
    assert_eq!(tally.marks[&writer(2)], Mark { seq: 1, accepted: 2, arrived: 2 });
    let tally = judge(&record, &marks(&[(1, 5, 30), (2, 4, 9)]), PartlyCounted::Voids).unwrap();
    assert_eq!((tally.counted_records, tally.dropped_records, tally.is_exact()), (0, 1, false));
    for partly in [&[(1, 3, 26)][..], &[(1, 5, 30)], &[(2, 1, 2)], &[(1, 4, 26), (2, 1, 2)]] {
        assert!(judge(&record, &marks(partly), PartlyCounted::Voids).is_err(), "{partly:?}");
    }
}

#[test]
fn a_partly_counted_record_voids_what_stands_beside_it() {
    // Pushes 1 and 3 of one writer, 2 of them merged with another's: were 3 applied, 1 could never count.
    let records = [merged(&[part(1, 1, 1, 1, 1), part(2, 1, 1, 2, 2)], &[(7, 5, 3)]), merged(&[part(1, 3, 3, 5, 4)], &[(7, 5, 4)])];
    assert!(judge(&records, &marks(&[(2, 1, 2)]), PartlyCounted::Voids).is_err());
}

#[test]
fn a_partly_counted_record_that_redis_holds_is_set_aside_and_what_is_lost_is_said() {
    let records = [merged(&[part(1, 1, 1, 1, 1), part(2, 1, 3, 6, 6)], &[(7, 5, 7)]), merged(&[part(1, 3, 3, 5, 4)], &[(7, 5, 4)])];
    let tally = judge(&records, &marks(&[(2, 2, 2)]), PartlyCounted::IsSetAside).unwrap();
    assert_eq!((tally.persisted(), tally.dead(), tally.counted_records), (4, 0, 2));
    // Of the first writer one view is lost, of the second four.
    assert_eq!(tally.marks[&writer(1)], Mark { seq: 3, accepted: 5, arrived: 4 });
    assert_eq!(tally.marks[&writer(2)], Mark { seq: 3, accepted: 6, arrived: 2 });
    let [SetAside::Text(letter)] = &tally.set_aside[..] else { panic!("{:?}", tally.set_aside) };
    assert_eq!((letter.position, String::from_utf8_lossy(&letter.text).matches(' ').count()), (0, 9));
}

/// One step of the system; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    /// So many records at the head of the open list.
    Merge(usize),
    Claim(usize, usize),
    Apply(usize),
    Settle(usize),
    Save,
    /// Redis comes back as it was saved, under another run.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u64).prop_map(Step::Push),
        3 => (1..6usize).prop_map(Step::Merge),
        3 => (0..2usize, 1..5usize).prop_map(|(worker, records)| Step::Claim(worker, records)),
        3 => (0..2usize).prop_map(Step::Apply),
        2 => (0..2usize).prop_map(Step::Settle),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
    ]
}

#[derive(Debug, Clone, Default)]
struct Redis {
    merged: Vec<(u64, Queued)>,
    open: Vec<(u64, Queued)>,
    batch: Option<(u64, Vec<Queued>)>,
}

/// Redis, MySQL and two workers. Push number `i` carries `i` views of product `i`.
#[derive(Default)]
struct System {
    redis: Redis,
    saved: Redis,
    run: u64,
    pushes: u64,
    batches: u64,
    seqs: [u64; 3],
    marks: HashMap<Writer, Mark>,
    counted: BTreeMap<u64, u64>,
    workers: [Option<(u64, Vec<Queued>)>; 2],
}

impl System {
    fn push(&mut self, who: u64) {
        self.pushes += 1;
        self.seqs[who as usize] += 1;
        let counts = vec![(self.pushes, self.pushes)];
        let record =
            Record { writer: writer(who), seq: self.seqs[who as usize], accepted: 0, run8: self.run.to_string(), at_ms: 0, counts };
        self.redis.open.push((self.run, record.into()));
    }

    /// As `merge.lua` does.
    fn merge(&mut self, most: usize) {
        let taken = most.min(self.redis.open.len());
        for (run, record) in self.redis.open.drain(..taken) {
            match self.redis.merged.last_mut().filter(|(last, _)| run == self.run && *last == run) {
                Some((_, into)) => {
                    into.counts.extend(record.counts);
                    for part in record.parts {
                        match into.parts.iter_mut().find(|there| there.writer == part.writer) {
                            Some(there) => (there.last, there.views) = (part.last, there.views + part.views),
                            None => into.parts.push(part),
                        }
                    }
                }
                None => self.redis.merged.push((run, record)),
            }
        }
    }

    fn claim(&mut self, worker: usize, most: usize) {
        if self.redis.batch.is_none() {
            let Redis { merged, open, .. } = &mut self.redis;
            let from_merged = most.min(merged.len());
            let from_open = (most - from_merged).min(open.len());
            let records: Vec<_> = merged.drain(..from_merged).chain(open.drain(..from_open)).map(|(_, record)| record).collect();
            if records.is_empty() {
                return;
            }
            self.batches += 1;
            self.redis.batch = Some((self.batches, records));
        }
        self.workers[worker] = self.redis.batch.clone();
    }

    fn apply(&mut self, worker: usize) {
        let Some((id, records)) = &self.workers[worker] else { return };
        let Ok(tally) = judge(records, &self.marks, PartlyCounted::Voids) else {
            let held = self.redis.batch.as_ref().map(|(id, _)| id);
            assert_ne!(held, Some(id), "Redis holds a batch that can never be applied");
            self.workers[worker] = None;
            return;
        };
        self.marks.extend(tally.marks.clone());
        for (id, views) in tally.products() {
            *self.counted.entry(id).or_default() += views;
        }
    }

    fn settle(&mut self, worker: usize) {
        self.apply(worker);
        if let Some((id, _)) = self.workers[worker].take() {
            self.redis.batch.take_if(|(held, _)| *held == id);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push(who) => self.push(who),
            Step::Merge(most) => self.merge(most),
            Step::Claim(worker, most) => self.claim(worker, most),
            Step::Apply(worker) => self.apply(worker),
            Step::Settle(worker) => self.settle(worker),
            Step::Save => self.saved = self.redis.clone(),
            Step::Crash => {
                self.redis = self.saved.clone();
                self.run += 1;
            }
        }
    }

    /// The products that are in Redis.
    fn queued(&self) -> BTreeSet<u64> {
        let lists = self.redis.merged.iter().chain(&self.redis.open).map(|(_, record)| record);
        let batch = self.redis.batch.iter().flat_map(|(_, records)| records);
        lists.chain(batch).flat_map(|record| record.counts.iter().map(|count| count.product_id)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn whatever_is_merged_repeated_and_rolled_back_each_view_counts_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut system = System::default();
        for step in &steps {
            system.step(step);
        }
        let safe: BTreeSet<u64> = system.queued().into_iter().chain(system.counted.keys().copied()).collect();
        system.workers = [None, None];
        while !system.queued().is_empty() {
            system.claim(0, 3);
            system.settle(0);
        }
        let expected: BTreeMap<u64, u64> = safe.into_iter().map(|push| (push, push)).collect();
        prop_assert_eq!(system.counted, expected);
    }
}
