//! What the rules of prices hold, and what each of them is for.

use crate::prices::{Announce, Faults, Fill, Prices, Promise, Protocol, Publish};
use crate::search::{Outcome, Trace, explore};

/// No scenario comes near; one that did would be capped, and prove nothing.
const MOST_STATES: usize = 3_000_000;

const NONE: Faults = Faults {
    marker_ends: 0,
    lease_ends: 0,
    evicted: 0,
    restarts_empty: 0,
    restarts_older: 0,
    killed: 0,
    unknown: 0,
    call_lost: 0,
    rolled_back: 0,
    plain_sql: 0,
};

/// Two writers and two readers that read twice, under each fault alone and under those that hurt together.
const SCENARIOS: [(&str, Faults); 16] = [
    ("no fault", NONE),
    ("leases end", Faults { lease_ends: 2, ..NONE }),
    ("a marker and a lease end", Faults { marker_ends: 1, lease_ends: 1, ..NONE }),
    ("any entry is evicted, twice", Faults { evicted: 2, ..NONE }),
    ("Redis restarts empty", Faults { restarts_empty: 1, ..NONE }),
    ("Redis restarts with older data", Faults { restarts_older: 1, ..NONE }),
    ("a writer or reader is killed", Faults { killed: 1, lease_ends: 1, ..NONE }),
    ("killed, a marker ends", Faults { killed: 1, marker_ends: 1, lease_ends: 1, ..NONE }),
    ("killed, Redis restarts empty", Faults { killed: 1, restarts_empty: 1, ..NONE }),
    ("killed, Redis restarts with older data", Faults { killed: 1, restarts_older: 1, ..NONE }),
    ("an outcome is unknown, a marker ends", Faults { unknown: 1, marker_ends: 1, lease_ends: 1, ..NONE }),
    ("an outcome is unknown, Redis restarts with older data", Faults { unknown: 1, restarts_older: 1, ..NONE }),
    ("a call to Redis is lost or late", Faults { call_lost: 1, ..NONE }),
    ("a call to Redis is lost or late, a marker ends", Faults { call_lost: 1, marker_ends: 1, ..NONE }),
    ("MySQL rolls back, a marker ends", Faults { rolled_back: 1, marker_ends: 1, ..NONE }),
    ("plain SQL, the tail, an eviction", Faults { plain_sql: 1, evicted: 1, ..NONE }),
];

fn prices(protocol: Protocol, faults: Faults) -> Prices {
    Prices { protocol, faults, writers: 2, reads: 2 }
}

fn assert_holds(name: &str, prices: &Prices) {
    match explore(prices, MOST_STATES) {
        Outcome::Holds { states } => println!("{states:>8} states: {name}"),
        Outcome::Broken(trace) => panic!("{name}: {trace}"),
        Outcome::Unfinished => panic!("{name}: too large to be finished"),
    }
}

/// The trace to a broken promise, which the step that is named is part of.
fn assert_broken(protocol: Protocol, faults: Faults, promise: Promise, step: &str) -> Trace<Promise> {
    let Outcome::Broken(trace) = explore(&prices(protocol, faults), MOST_STATES) else { panic!("{protocol:?} holds, so nothing is shown") };
    println!("{protocol:?}\n{trace}\n");
    assert_eq!(trace.promise, promise, "{trace}");
    assert!(trace.steps.iter().any(|told| told.contains(step)), "no {step:?} in {trace}");
    trace
}

#[test]
fn no_read_is_older_than_what_was_acknowledged_whatever_fails() {
    for (name, faults) in SCENARIOS {
        assert_holds(name, &prices(Protocol::OURS, faults));
    }
}

#[test]
fn the_same_holds_under_several_faults_at_once() {
    let faults = Faults { restarts_older: 1, restarts_empty: 1, unknown: 1, killed: 1, call_lost: 1, ..NONE };
    assert_holds("both restarts, unknown, killed, a lost call", &Prices { protocol: Protocol::OURS, faults, writers: 2, reads: 1 });
}

#[test]
fn the_same_holds_for_three_writers() {
    let faults = Faults { marker_ends: 1, killed: 1, call_lost: 1, ..NONE };
    assert_holds("three writers, a marker ends, killed, a lost call", &Prices { protocol: Protocol::OURS, faults, writers: 3, reads: 1 });
}

#[test]
fn the_same_holds_while_redis_is_full_now_and_then() {
    let protocol = Protocol { announce: Announce::MarkOrDelete, ..Protocol::OURS };
    // Without a kill, plain SQL and an unknown outcome beside older data: those add millions of states and nothing else.
    let few = |faults: &Faults| (faults.plain_sql, faults.killed) == (0, 0) && faults.unknown + faults.restarts_older < 2;
    for (name, faults) in SCENARIOS.into_iter().filter(|(_, faults)| few(faults)) {
        assert_holds(&format!("Redis full; {name}"), &prices(protocol, faults));
    }
}

#[test]
fn a_fill_without_the_row_s_lock_stores_an_older_price() {
    let plain = Protocol { fill: Fill::Plain, ..Protocol::OURS };
    let faults = Faults { marker_ends: 1, ..NONE };
    assert_broken(plain, faults, Promise::NothingOlder, "the marker ends");
    // At the end of such a trace the fill is stored after the publish found somebody's lease in its place.
    let faults = Faults { unknown: 1, marker_ends: 1, ..NONE };
    assert_broken(plain, faults, Promise::FreshAtRest, "the COMMIT of W0 lands v1");
}

#[test]
fn without_the_namespace_an_older_redis_is_believed() {
    let blind = Protocol { namespace: false, ..Protocol::OURS };
    assert_broken(blind, Faults { restarts_older: 1, ..NONE }, Promise::NothingOlder, "Redis restarts with older data");
}

#[test]
fn deleting_the_entry_after_commit_is_too_late() {
    let late = Protocol { announce: Announce::Nothing, publish: Publish::Delete, fill: Fill::Plain, ..Protocol::OURS };
    assert_broken(late, NONE, Promise::NothingOlder, "hit: answered v0");
    assert_broken(Protocol { fill: Fill::Locking, ..late }, NONE, Promise::NothingOlder, "hit: answered v0");
}

#[test]
fn setting_the_newer_version_after_commit_is_too_late() {
    let newer = Protocol { announce: Announce::Nothing, publish: Publish::Newer, fill: Fill::Newer, ..Protocol::OURS };
    assert_broken(newer, Faults { evicted: 1, ..NONE }, Promise::NothingOlder, "is evicted");
    assert_broken(newer, Faults { killed: 1, ..NONE }, Promise::FreshAtRest, "W0 is killed");
}

#[test]
fn a_price_in_the_cache_before_its_commit_may_never_be_true() {
    let early = Protocol { announce: Announce::Data, publish: Publish::Nothing, ..Protocol::OURS };
    assert_broken(early, NONE, Promise::CommittedOnly, "W0 stores what it has not committed");
}

#[test]
fn joining_a_select_that_was_already_sent_gives_an_older_price() {
    let joining = Protocol { joins: true, ..Protocol::OURS };
    assert_broken(joining, NONE, Promise::NothingOlder, "joins the SELECT of the other");
}

#[test]
fn a_tail_that_spares_markers_lets_a_late_publish_hide_plain_sql() {
    let sparing = Protocol { tail_spares_markers: true, ..Protocol::OURS };
    assert_broken(sparing, Faults { plain_sql: 1, ..NONE }, Promise::FreshAtRest, "leaves the entry");
}

#[test]
fn a_trace_reads_like_a_story() {
    let blind = Protocol { namespace: false, ..Protocol::OURS };
    let trace = assert_broken(blind, Faults { restarts_older: 1, ..NONE }, Promise::NothingOlder, "W0 locks the row v0→v1");
    let last = trace.steps.last().expect("a trace has steps");
    assert!(last.ends_with("answered v0, and v1 was known before it began"), "{last}");
}
