//! Judges a history of price reads and writes: each product must look like one register.
//!
//! Versions are in the answers, so there is nothing to search for: a read shows at least the highest version that was
//! returned before it began, a version has one value, two acknowledged writes never share one, and the value of a
//! write that is known to have failed is never read.

use std::collections::HashMap;

/// What a call said in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Read {
        version: u64,
    },
    Written {
        version: u64,
    },
    /// Refused, and nothing was changed.
    Refused,
    /// Applied or not.
    Unknown,
}

/// One call about one product. Times only order the calls.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) product: u64,
    pub(super) began: u64,
    pub(super) ended: u64,
    /// What was read, or was to be written. Each write has a value of its own.
    pub(super) value: String,
    pub(super) outcome: Outcome,
}

/// Every way in which the history is not that of registers which were first at version 1 with the value `first`.
pub(super) fn faults(calls: &[Call], first: &str) -> Vec<String> {
    let mut products: HashMap<u64, Vec<&Call>> = HashMap::new();
    for call in calls {
        products.entry(call.product).or_default().push(call);
    }
    products.into_values().flat_map(|calls| faults_of_one(&calls, first)).collect()
}

fn faults_of_one(calls: &[&Call], first: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut values = HashMap::from([(1, first)]);
    let mut written: HashMap<u64, &Call> = HashMap::new();
    for call in calls {
        let (Outcome::Read { version } | Outcome::Written { version }) = call.outcome else { continue };
        let known = *values.entry(version).or_insert(&call.value);
        if known != call.value {
            faults.push(format!("version {version} is {known} and {}: {call:?}", call.value));
        }
        if let Outcome::Written { .. } = call.outcome
            && let Some(other) = written.insert(version, call)
        {
            faults.push(format!("two writes got version {version}: {other:?} and {call:?}"));
        }
    }
    for call in calls.iter().filter(|call| call.outcome == Outcome::Refused) {
        if let Some((version, _)) = values.iter().find(|(_, value)| **value == call.value) {
            faults.push(format!("a refused write was seen as version {version}: {call:?}"));
        }
    }
    faults.extend(steps_back(calls));
    faults
}

/// Calls that began after a version was returned and saw an older one, or wrote one that is not newer.
fn steps_back(calls: &[&Call]) -> Vec<String> {
    let version_of = |call: &Call| match call.outcome {
        Outcome::Read { version } | Outcome::Written { version } => Some(version),
        Outcome::Refused | Outcome::Unknown => None,
    };
    let mut returned: Vec<(u64, u64)> = calls.iter().filter_map(|call| Some((call.ended, version_of(call)?))).collect();
    returned.sort_unstable();
    let mut begun: Vec<&Call> = calls.to_vec();
    begun.sort_by_key(|call| call.began);
    let (mut faults, mut highest, mut returned) = (Vec::new(), 1, returned.into_iter().peekable());
    for call in begun {
        while let Some((_, version)) = returned.next_if(|(ended, _)| *ended < call.began) {
            highest = highest.max(version);
        }
        match call.outcome {
            Outcome::Read { version } if version < highest => faults.push(format!("older than version {highest}: {call:?}")),
            Outcome::Written { version } if version <= highest => faults.push(format!("not newer than version {highest}: {call:?}")),
            _ => {}
        }
    }
    faults
}

fn call(began: u64, ended: u64, value: &str, outcome: Outcome) -> Call {
    Call { product: 1, began, ended, value: value.into(), outcome }
}

#[test]
fn a_history_of_a_register_is_accepted() {
    let good = [
        call(0, 1, "a", Outcome::Read { version: 1 }),
        call(2, 10, "b", Outcome::Written { version: 2 }),
        // While the write runs, both may be seen, also the new one first.
        call(3, 4, "b", Outcome::Read { version: 2 }),
        call(3, 9, "a", Outcome::Read { version: 1 }),
        call(11, 12, "c", Outcome::Refused),
        call(11, 13, "d", Outcome::Unknown),
        call(20, 21, "d", Outcome::Read { version: 3 }),
        // Another product has versions of its own.
        Call { product: 2, ..call(30, 31, "a", Outcome::Read { version: 1 }) },
    ];
    assert_eq!(faults(&good, "a"), Vec::<String>::new());
}

#[test]
fn histories_that_no_register_has_are_refused() {
    let read = |began, value, version| call(began, began + 1, value, Outcome::Read { version });
    let written = |began, value, version| call(began, began + 1, value, Outcome::Written { version });
    let bad = [
        ("a stale read", vec![written(0, "b", 2), read(5, "a", 1)]),
        ("two reads out of order", vec![call(0, 99, "b", Outcome::Unknown), read(1, "b", 2), read(5, "a", 1)]),
        ("a refused write that is read", vec![call(0, 1, "b", Outcome::Refused), read(5, "b", 2)]),
        ("two values of one version", vec![call(0, 9, "b", Outcome::Written { version: 2 }), read(1, "c", 2)]),
        ("two writes with one version", vec![call(0, 9, "b", Outcome::Written { version: 2 }), written(1, "b", 2)]),
        ("a write into the past", vec![read(0, "c", 3), written(5, "b", 2)]),
        ("another first value", vec![read(0, "z", 1)]),
    ];
    for (what, calls) in bad {
        assert_eq!(faults(&calls, "a").len(), 1, "{what}: {:?}", faults(&calls, "a"));
    }
}
