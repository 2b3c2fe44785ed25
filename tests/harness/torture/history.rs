//! Judges a history of price reads and writes: each product must look like one register whose versions count its writes.
//!
//! Versions are in the answers, so there is nothing to search for, and the verdict is exact: a history passes if and only
//! if its calls can be put into one order in which each took effect between its beginning and its end. A call without an
//! answer may have taken effect at any time after it began, or not at all. It takes O(n log n).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;

/// What a call said in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Read {
        version: u64,
        /// Answered from the cache; plays no part in the verdict.
        hit: bool,
    },
    Written {
        version: u64,
    },
    /// Refused, and nothing was changed.
    Refused,
    /// A write that was applied or not.
    Unknown,
}

/// One call about one product. Times only order the calls, and no two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub product: u64,
    /// Through which instance of the API.
    pub instance: usize,
    pub began: u64,
    pub ended: u64,
    /// In hundredths: what was read, or was to be written. Each write has a value of its own.
    pub value: u64,
    pub outcome: Outcome,
}

impl Call {
    fn version(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Read { version, .. } | Outcome::Written { version } => Some(version),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { product, instance, began, ended, .. }, value) = (self, amount(self.value));
        write!(f, "product {product}, API {instance}, {began} to {ended}: ")?;
        match self.outcome {
            Outcome::Read { version, hit: true } => write!(f, "read version {version}, {value}, from the cache"),
            Outcome::Read { version, hit: false } => write!(f, "read version {version}, {value}, from MySQL"),
            Outcome::Written { version } => write!(f, "wrote version {version}, {value}"),
            Outcome::Refused => write!(f, "was refused to write {value}"),
            Outcome::Unknown => write!(f, "wrote {value} or not"),
        }
    }
}

/// The decimal text of hundredths.
pub(super) fn amount(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

/// How a history can fail to be that of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A read is older than what was returned before it began.
    StaleRead,
    /// A write got a version that is not newer than what was returned before it began.
    StaleWrite,
    /// One version was seen with two values.
    TwoValues,
    /// One value was seen with two versions.
    TwoVersions,
    /// What a refused write was to write was seen.
    RefusedWasSeen,
    /// A value was seen that no write has, or a version that no write can have made.
    FromNowhere,
    /// At rest API, MySQL and cache do not agree.
    NotAtRest,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaleRead => "a read is older than what was returned before it began",
            Self::StaleWrite => "a write is not newer than what was returned before it began",
            Self::TwoValues => "a version has two values",
            Self::TwoVersions => "a value has two versions",
            Self::RefusedWasSeen => "a refused write was seen",
            Self::FromNowhere => "nobody wrote what was seen",
            Self::NotAtRest => "API, MySQL and cache disagree at rest",
        })
    }
}

/// One way in which a history is not that of registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
    /// What it was seen at, then what that contradicts.
    pub calls: Vec<Call>,
}

impl Violation {
    fn new(rule: Rule, detail: String, calls: &[&Call]) -> Self {
        Self { rule, detail, calls: calls.iter().copied().copied().collect() }
    }
}

/// Every way in which the history is not that of registers which were first at version 1 with the value `first`.
#[must_use]
pub fn violations(calls: &[Call], first: u64) -> Vec<Violation> {
    let mut products: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        products.entry(call.product).or_default().push(call);
    }
    products.into_values().flat_map(|calls| Register::of(calls, first).violations()).collect()
}

/// What was seen of one product.
struct Register<'a> {
    first: u64,
    /// By their beginnings.
    calls: Vec<&'a Call>,
    /// Writes by value.
    writes: HashMap<u64, &'a Call>,
    /// By version and value, the first call that saw or wrote it.
    seen: BTreeMap<(u64, u64), &'a Call>,
}

impl<'a> Register<'a> {
    fn of(mut calls: Vec<&'a Call>, first: u64) -> Self {
        calls.sort_unstable_by_key(|call| call.began);
        let writes = calls.iter().filter(|call| !matches!(call.outcome, Outcome::Read { .. }));
        let writes = writes.map(|call| (call.value, *call)).collect();
        let mut seen = BTreeMap::new();
        for call in &calls {
            if let Some(version) = call.version() {
                seen.entry((version, call.value)).or_insert(*call);
            }
        }
        Self { first, calls, writes, seen }
    }

    fn violations(&self) -> Vec<Violation> {
        let mut found = self.ambiguous();
        found.extend(self.unwritten());
        found.extend(self.steps_back());
        // Versions are counted only where each has one value.
        if found.is_empty() {
            found.extend(self.gaps());
        }
        found
    }

    /// Versions with several values, and values with several versions.
    fn ambiguous(&self) -> Vec<Violation> {
        let (mut found, mut versions) = (Vec::new(), HashMap::<u64, (u64, &Call)>::new());
        let mut last: Option<(u64, u64, &Call)> = None;
        for ((version, value), call) in &self.seen {
            match last {
                Some((same, other, before)) if same == *version => {
                    let detail = format!("version {version} is {} and {}", amount(other), amount(*value));
                    found.push(Violation::new(Rule::TwoValues, detail, &[call, before]));
                }
                _ => last = Some((*version, *value, call)),
            }
            if let Some((other, before)) = versions.insert(*value, (*version, call)) {
                let detail = format!("{} is version {other} and {version}", amount(*value));
                found.push(Violation::new(Rule::TwoVersions, detail, &[call, before]));
            }
        }
        found
    }

    /// What was seen without a write that may have made it.
    fn unwritten(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for ((version, value), call) in &self.seen {
            let detail = || format!("version {version}, {}", amount(*value));
            match self.writes.get(value) {
                Some(write) if write.outcome == Outcome::Refused => {
                    found.push(Violation::new(Rule::RefusedWasSeen, detail(), &[call, write]));
                }
                None if (*version, *value) != (1, self.first) => found.push(Violation::new(Rule::FromNowhere, detail(), &[call])),
                _ => {}
            }
        }
        found
    }

    /// Calls that began after a version was returned and saw an older one, or wrote one that is not newer.
    fn steps_back(&self) -> Vec<Violation> {
        let mut returned: Vec<(u64, u64, &Call)> =
            self.calls.iter().filter_map(|call| Some((call.ended, call.version()?, *call))).collect();
        returned.sort_unstable_by_key(|(ended, ..)| *ended);
        // A write without an answer got the version under which it was seen.
        let landed: HashMap<u64, u64> = self.seen.keys().map(|(version, value)| (*value, *version)).collect();
        let (mut found, mut highest, mut returned) = (Vec::new(), (1, None), returned.into_iter().peekable());
        for call in &self.calls {
            while let Some((_, version, by)) = returned.next_if(|(ended, ..)| *ended < call.began) {
                if version > highest.0 || highest.1.is_none() && version == highest.0 {
                    highest = (version, Some(by));
                }
            }
            let (rule, version) = match call.outcome {
                Outcome::Read { version, .. } if version < highest.0 => (Rule::StaleRead, version),
                Outcome::Written { version } if version <= highest.0 => (Rule::StaleWrite, version),
                Outcome::Unknown => match landed.get(&call.value) {
                    Some(version) if *version <= highest.0 => (Rule::StaleWrite, *version),
                    _ => continue,
                },
                _ => continue,
            };
            let calls: Vec<&Call> = [Some(*call), highest.1].into_iter().flatten().collect();
            found.push(Violation::new(rule, format!("version {version} after version {}", highest.0), &calls));
        }
        found
    }

    /// Versions that nobody has seen must have been made by writes without an answer: for each there must be one more that
    /// began before that version, or a later one, was returned.
    fn gaps(&self) -> Vec<Violation> {
        let mut earliest: BTreeMap<u64, &Call> = BTreeMap::new();
        for call in &self.calls {
            if let Some(version) = call.version() {
                let known = earliest.entry(version).or_insert(call);
                if call.ended < known.ended {
                    *known = call;
                }
            }
        }
        let seen: HashMap<u64, u64> = self.seen.keys().map(|(version, value)| (*value, *version)).collect();
        let silent = |call: &&&Call| call.outcome == Outcome::Unknown && !seen.contains_key(&call.value);
        // Both from the latest down: a gap has the earliest end of all versions above it, and a write serves what it began before.
        let began: Vec<u64> = self.calls.iter().filter(silent).map(|call| call.began).collect();
        let mut gaps = Vec::new();
        let mut above: Option<(u64, &Call)> = None;
        for (version, call) in earliest.iter().rev() {
            if let Some((higher, by)) = above {
                gaps.extend((version + 1..higher).rev().map(|gap| (gap, by)));
            }
            let by = above.map_or(*call, |(_, by)| if by.ended < call.ended { by } else { call });
            above = Some((*version, by));
        }
        if let Some((lowest, by)) = above {
            gaps.extend((2..lowest).rev().map(|gap| (gap, by)));
        }
        gaps.reverse();
        let unserved = gaps.iter().enumerate().find(|(place, (_, by))| began.get(*place).is_none_or(|began| *began > by.ended));
        let detail = |gap| format!("version {gap} was never seen, and no write without an answer can have made it");
        unserved.map(|(_, (gap, by))| Violation::new(Rule::FromNowhere, detail(gap), &[by])).into_iter().collect()
    }
}

/// Calls about the same product that began next to those of the violation, in their order: at most `most` for each of them.
#[must_use]
pub fn around(calls: &[Call], violation: &Violation, most: usize) -> Vec<Call> {
    let mut near: Vec<Call> = Vec::new();
    for about in &violation.calls {
        let mut same: Vec<Call> = calls.iter().copied().filter(|call| call.product == about.product).collect();
        same.sort_by_key(|call| call.began.abs_diff(about.began));
        near.extend(same.into_iter().take(most));
    }
    near.sort_by_key(|call| (call.began, call.ended));
    near.dedup();
    near
}

#[cfg(test)]
mod tests;
