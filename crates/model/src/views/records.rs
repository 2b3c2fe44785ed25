//! Pushes, the records that carry them, and lists of records as Redis keeps them.

use std::fmt::{Display, Formatter};

pub const MOST_PUSHES: usize = 3;
pub(super) const VIEWS: [i8; MOST_PUSHES] = [1, 2, 4];

pub(super) fn writer_of(push: usize) -> usize {
    push % 2
}

pub(super) fn seq_of(push: usize) -> u8 {
    if push < 2 { 1 } else { 2 }
}

/// A set of pushes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Pushes(pub(super) u8);

/// Of one push, or merged from several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) pushes: Pushes,
    /// Run of Redis at the first sending.
    pub(super) run: u8,
}

/// Records in their order; nothing stands behind the first gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Records([Option<Record>; MOST_PUSHES + 1]);

impl Pushes {
    pub(super) fn one(push: usize) -> Self {
        Self(1 << push)
    }

    pub(super) fn has(self, push: usize) -> bool {
        self.0 & (1 << push) != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn each(self) -> impl Iterator<Item = usize> {
        (0..MOST_PUSHES).filter(move |push| self.has(*push))
    }
}

impl Records {
    pub(super) fn iter(&self) -> impl Iterator<Item = Record> {
        self.0.into_iter().flatten()
    }

    pub(super) fn of(records: impl Iterator<Item = Record>) -> Self {
        let mut all = Self::default();
        for (place, record) in records.enumerate() {
            all.0[place] = Some(record);
        }
        all
    }

    pub(super) fn views(&self) -> i8 {
        self.iter().flat_map(|record| record.pushes.each()).map(|push| VIEWS[push]).sum()
    }
}

impl Display for Records {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let name = |record: Record| record.pushes.each().map(|push| format!("push {push}")).collect::<Vec<_>>().join("+");
        let names: Vec<_> = self.iter().map(name).collect();
        if names.is_empty() { f.write_str("nothing") } else { f.write_str(&names.join(", ")) }
    }
}
