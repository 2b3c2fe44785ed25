//! The judge is judged: by histories with a known verdict, and by a search that tries every order of small ones.

use super::*;

const FIRST: u64 = 100;

fn call(began: u64, ended: u64, value: u64, outcome: Outcome) -> Call {
    Call { product: 1, instance: 0, began, ended, value, outcome }
}

fn read(began: u64, value: u64, version: u64) -> Call {
    call(began, began + 1, value, Outcome::Read { version, hit: true })
}

fn written(began: u64, ended: u64, value: u64, version: u64) -> Call {
    call(began, ended, value, Outcome::Written { version })
}

#[test]
fn a_history_of_a_register_is_accepted() {
    let good = [
        read(0, FIRST, 1),
        written(2, 10, 5, 2),
        // While the write runs both may be seen, also the new one first.
        call(3, 5, 5, Outcome::Read { version: 2, hit: false }),
        call(4, 9, FIRST, Outcome::Read { version: 1, hit: true }),
        call(11, 14, 6, Outcome::Refused),
        call(12, 15, 7, Outcome::Unknown),
        call(13, 16, 8, Outcome::Unknown),
        read(20, 7, 3),
        // Version 4 is the other write without an answer.
        written(30, 31, 9, 5),
        // Another product has versions of its own.
        Call { product: 2, ..read(40, FIRST, 1) },
    ];
    assert_eq!(violations(&good, FIRST), []);
}

#[test]
fn histories_that_no_register_has_are_refused() {
    let unknown = |began, value| call(began, began + 1, value, Outcome::Unknown);
    let bad = [
        ("a stale read", Rule::StaleRead, vec![written(0, 1, 5, 2), read(5, FIRST, 1)]),
        ("two reads out of order", Rule::StaleRead, vec![unknown(0, 5), read(2, 5, 2), read(5, FIRST, 1)]),
        ("a refused write that is read", Rule::RefusedWasSeen, vec![call(0, 1, 5, Outcome::Refused), read(5, 5, 2)]),
        ("two writes with one version", Rule::TwoValues, vec![written(0, 8, 5, 2), written(1, 9, 6, 2)]),
        ("a write that counted twice", Rule::TwoVersions, vec![unknown(0, 5), read(2, 5, 2), read(4, 5, 3)]),
        ("a write into the past", Rule::StaleWrite, vec![unknown(0, 5), read(2, 5, 2), written(5, 6, 6, 2)]),
        ("a write seen before it began", Rule::StaleWrite, vec![read(0, 5, 2), unknown(2, 5)]),
        ("another first value", Rule::FromNowhere, vec![read(0, 7, 1)]),
        ("a value of nobody", Rule::FromNowhere, vec![written(0, 1, 5, 2), read(2, 6, 3)]),
        ("a version of nobody", Rule::FromNowhere, vec![written(0, 1, 5, 3)]),
        ("a version of one who came too late", Rule::FromNowhere, vec![written(0, 1, 5, 3), unknown(2, 6)]),
    ];
    for (what, rule, calls) in bad {
        let found = violations(&calls, FIRST);
        assert!(found.iter().any(|violation| violation.rule == rule), "{what}: {found:?}");
        assert!(!explained(&calls), "{what} is no register's history by any order");
    }
}

#[test]
fn what_is_shown_around_a_violation_is_near_it_and_of_its_product() {
    let other = Call { product: 2, ..read(11, FIRST, 1) };
    let calls = [read(0, FIRST, 1), written(2, 3, 5, 2), read(8, FIRST, 1), other, read(20, 5, 2)];
    let found = violations(&calls, FIRST);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].calls, [calls[2], calls[1]]);
    assert_eq!(around(&calls, &found[0], 2), [calls[0], calls[1], calls[2]]);
}

/// Whether some order of the calls explains them, by trying all of them: next is one that began before all others ended.
fn explained(calls: &[Call]) -> bool {
    fn go(left: &[Call], version: u64, value: u64) -> bool {
        let end = |call: &Call| if call.outcome == Outcome::Unknown { u64::MAX } else { call.ended };
        let Some(limit) = left.iter().map(end).min().filter(|limit| *limit < u64::MAX) else { return true };
        left.iter().enumerate().filter(|(_, call)| call.began < limit).any(|(at, call)| {
            let rest = [&left[..at], &left[at + 1..]].concat();
            match call.outcome {
                Outcome::Read { version: seen, .. } => (seen, call.value) == (version, value) && go(&rest, version, value),
                Outcome::Written { version: made } => made == version + 1 && go(&rest, made, call.value),
                Outcome::Unknown => go(&rest, version + 1, call.value),
                Outcome::Refused => go(&rest, version, value),
            }
        })
    }
    go(calls, 1, FIRST)
}

/// A few calls of a real register that overlap at random.
fn history(random: &mut fastrand::Rng) -> Vec<Call> {
    let count = random.usize(1..=7);
    let mut times: Vec<u64> = (0..2 * count as u64).collect();
    random.shuffle(&mut times);
    let mut calls = Vec::new();
    for (at, pair) in times.chunks(2).enumerate() {
        let (began, ended) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        let outcome = match random.u8(..10) {
            0..5 => Outcome::Read { version: 0, hit: true },
            5..7 => Outcome::Written { version: 0 },
            7 => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        // When it takes effect: an unanswered write perhaps late, perhaps never.
        let last = if outcome == Outcome::Unknown { 3.0 * count as f64 } else { ended as f64 };
        let effect = began as f64 + (last - began as f64) * random.f64();
        calls.push((effect, call(began, ended, 1_000 + at as u64, outcome)));
    }
    calls.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut version, mut value) = (1, FIRST);
    for (_, call) in &mut calls {
        match &mut call.outcome {
            Outcome::Read { version: seen, .. } => (*seen, call.value) = (version, value),
            Outcome::Written { version: made } => {
                version += 1;
                (*made, value) = (version, call.value);
            }
            Outcome::Unknown => (version, value) = (version + 1, call.value),
            Outcome::Refused => {}
        }
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

/// Changes one thing, which may or may not matter.
fn spoil(calls: &mut [Call], random: &mut fastrand::Rng) {
    let values: Vec<u64> = calls.iter().map(|call| call.value).collect();
    let at = random.usize(..calls.len());
    let call = &mut calls[at];
    match (&mut call.outcome, random.u8(..4)) {
        (Outcome::Read { version, .. }, 0) | (Outcome::Written { version }, 0) => *version = random.u64(1..=version.saturating_add(1)),
        (Outcome::Read { .. }, 1) => call.value = values[random.usize(..values.len())],
        (Outcome::Read { version, .. }, 2) if *version > 1 => (*version, call.value) = (1, FIRST),
        (Outcome::Written { .. } | Outcome::Unknown, 1) => call.outcome = Outcome::Refused,
        (Outcome::Written { .. }, 2) => call.outcome = Outcome::Unknown,
        (Outcome::Refused, 1) => call.outcome = Outcome::Unknown,
        _ => {
            let other = random.usize(..calls.len());
            let (began, ended) = (calls[other].began, calls[other].ended);
            (calls[other].began, calls[other].ended) = (calls[at].began, calls[at].ended);
            (calls[at].began, calls[at].ended) = (began, ended);
        }
    }
}

#[test]
fn the_verdict_is_that_of_trying_every_order() {
    const HISTORIES: u64 = 20_000;
    let mut refused = 0;
    for seed in 0..HISTORIES {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut calls = history(&mut random);
        assert_eq!(violations(&calls, FIRST), [], "seed {seed}: {calls:#?}");
        for _ in 0..random.u8(1..4) {
            spoil(&mut calls, &mut random);
        }
        let found = violations(&calls, FIRST);
        assert_eq!(found.is_empty(), explained(&calls), "seed {seed}: {found:#?} in {calls:#?}");
        refused += u64::from(!found.is_empty());
    }
    assert!((HISTORIES / 5..HISTORIES * 9 / 10).contains(&refused), "{refused} of {HISTORIES} are none");
}
