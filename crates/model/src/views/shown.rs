//! The shown total: a cached total that never contains an unsettled batch, and what is pending beside it.

use super::{Asked, Promise, Reader, State, Views};
use crate::search::Steps;

impl Views {
    pub(super) fn show(&self, s: &State, steps: &mut Steps<Self>) {
        let redis = &s.redis;
        match s.reader {
            Reader::Idle if redis.base.is_none() => {
                let asked =
                    Asked { batch_id: redis.batch_id, sum: redis.batch.views(), changes: redis.changes, run: s.run, truth: s.truth() };
                steps.step(|| "R finds no total".to_owned(), s.with(|n| n.reader = Reader::Asked(asked)));
            }
            Reader::Idle => {}
            Reader::Asked(asked) => {
                let next = s.with(|n| n.reader = Reader::Read(asked, s.total(), s.mysql.last_batch));
                steps.step(|| format!("R SELECT: {} views", s.total()), next);
            }
            Reader::Read(asked, total, last_batch) => self.store_total(s, asked, total, last_batch, steps),
        }
        if s.faults.evicted > 0 && redis.base.is_some() {
            let next = s.with(|n| n.faults.evicted -= 1).with(|n| n.redis.base = None);
            steps.step(|| "the total is evicted".to_owned(), next);
        }
    }

    fn store_total(&self, s: &State, asked: Asked, total: i8, last_batch: Option<u8>, steps: &mut Steps<Self>) {
        let mut next = s.with(|n| n.reader = Reader::Idle);
        if (asked.changes, asked.run) != (s.redis.changes, s.run) {
            return steps.step(|| "R finds a claim or settle between and begins again".to_owned(), next);
        }
        let contained = asked.batch_id.is_some() && asked.batch_id == last_batch && self.protocol.total_looks_at_last_batch;
        let base = total - if contained { asked.sum } else { 0 };
        next.redis.base = s.redis.base.or(Some(base));
        let (shown, truth) = (base + s.redis.pending, s.truth());
        if self.shown_is_exact(s) && !(asked.truth..=truth).contains(&shown) {
            let words = || format!("R shows {shown} views, and between {} and {truth} were true", asked.truth);
            steps.broken(Promise::ShownRight, words);
        }
        steps.step(|| format!("R stores the total {base} and shows {shown}"), next);
    }
}
