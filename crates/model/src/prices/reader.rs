//! A reader's steps: the entry, and where it does not answer the lease, SELECT and fill.

use super::{Announce, At, Entry, Fill, Price, Prices, Promise, Reader, State};
use crate::search::Steps;

impl Prices {
    /// The steps of a reader.
    pub(super) fn read(&self, s: &State, i: usize, steps: &mut Steps<Self>) {
        let (reader, me) = (s.readers[i], u8::try_from(i).expect("readers are few"));
        let at = |at| s.with(|n| n.readers[i].at = at);
        if s.faults.killed > 0 && reader.at != At::Idle {
            let next = Reader { at: At::Idle, reads: reader.reads + 1, since: 0 };
            steps.step(|| format!("R{i} is killed"), s.with(|n| (n.readers[i], n.faults.killed) = (next, n.faults.killed - 1)));
        }
        match reader.at {
            At::Idle if reader.reads < self.reads => self.get(s, i, steps),
            At::Idle => {}
            At::Waiting => self.answer(s, i, s.row(), "SELECT, no fill", s, steps),
            At::Leased if self.protocol.fill == Fill::Locking && s.lock.is_some() => {
                self.answer(s, i, s.row(), "row is locked: plain SELECT, no fill", s, steps);
            }
            At::Leased => steps.step(|| format!("R{i} SELECT v{}", s.version), at(At::Read(s.row()))),
            At::Read(price) => {
                let mut filled = *s;
                match self.protocol.fill {
                    Fill::Locking | Fill::Plain if s.entry == Entry::Lease(me) => filled.entry = Entry::Data(price),
                    Fill::Locking | Fill::Plain => {}
                    Fill::Newer => filled.set_newer(price),
                }
                let words = if filled.entry == s.entry { "fill refused" } else { "fill stored" };
                self.answer(s, i, price, words, &filled, steps);
            }
        }
    }

    /// The first step of a read: the entry decides.
    fn get(&self, s: &State, i: usize, steps: &mut Steps<Self>) {
        let me = u8::try_from(i).expect("readers are few");
        let begun = |at| s.with(|n| n.readers[i] = Reader { at, since: s.known, ..n.readers[i] });
        match s.entry {
            Entry::Data(price) => {
                let begun = begun(At::Idle);
                self.answer(&begun, i, price, "hit", &begun, steps);
            }
            Entry::Marker(_) => steps.step(|| format!("R{i} finds a marker"), begun(At::Waiting)),
            Entry::Lease(_) => steps.step(|| format!("R{i} finds a lease"), begun(At::Waiting)),
            Entry::Absent if self.protocol.fill == Fill::Newer => steps.step(|| format!("R{i} finds nothing"), begun(At::Leased)),
            Entry::Absent => {
                steps.step(|| format!("R{i} takes the lease"), begun(At::Leased).with(|n| n.entry = Entry::Lease(me)));
                if self.protocol.announce == Announce::MarkOrDelete {
                    steps.step(|| format!("Redis is full: R{i} gets no lease"), begun(At::Waiting));
                }
            }
        }
        if let (true, At::Read(price), Entry::Marker(_) | Entry::Lease(_)) = (self.protocol.joins, s.readers[1 - i].at, s.entry) {
            let begun = begun(At::Idle);
            self.answer(&begun, i, price, "joins the SELECT of the other", &begun, steps);
        }
    }

    /// A read that began in `s` is answered; `after` is what its last step made of the rest.
    fn answer(&self, s: &State, i: usize, price: Price, words: &str, after: &State, steps: &mut Steps<Self>) {
        let Price { version, .. } = price;
        let (since, reads) = (s.readers[i].since, s.readers[i].reads + 1);
        if version < since && self.faults.plain_sql == 0 {
            steps.broken(Promise::NothingOlder, || format!("R{i} {words}: answered v{version}, and v{since} was known before it began"));
        }
        if !s.was_committed(price) {
            steps.broken(Promise::CommittedOnly, || format!("R{i} {words}: answered v{version} of W{}, which is not committed", price.by));
        }
        let answered = after.with(|n| n.readers[i] = Reader { at: At::Idle, reads, since: 0 });
        steps.step(|| format!("R{i} {words}: answered v{version}"), answered.with(|n| n.acknowledge(version)));
    }
}
