//! What the rules of views hold, and what each of them is for.

use crate::search::{Outcome, Trace, explore};
use crate::views::{Faults, Promise, Protocol, Views};

/// No scenario comes near; one that did would be capped, and prove nothing.
const MOST_STATES: usize = 1_500_000;

const NONE: Faults = Faults { killed: 0, unknown: 0, reply_lost: 0, evicted: 0, crashes: 0, merges: 0, fsyncs: 0 };

/// Each fault, most of them with a worker that is killed.
const SCENARIOS: [(&str, Faults); 7] = [
    ("no fault", NONE),
    ("a worker is killed, twice", Faults { killed: 2, ..NONE }),
    ("an outcome is unknown, a worker is killed", Faults { unknown: 1, killed: 1, ..NONE }),
    ("a push is answered late or never", Faults { reply_lost: 1, ..NONE }),
    ("the total is evicted, twice, a worker is killed", Faults { evicted: 2, killed: 1, ..NONE }),
    ("records are merged, a worker is killed", Faults { merges: 1, killed: 1, ..NONE }),
    ("Redis crashes, a worker is killed", Faults { crashes: 1, killed: 1, ..NONE }),
];

const ALL: Faults = Faults { killed: 1, unknown: 1, reply_lost: 1, evicted: 1, crashes: 1, merges: 1, fsyncs: 0 };

/// With `appendfsync everysec`.
const EVERYSEC: [(&str, Faults); 3] = [
    ("everysec, Redis crashes", Faults { crashes: 1, fsyncs: 2, ..NONE }),
    ("everysec, Redis crashes, records are merged", Faults { crashes: 1, fsyncs: 2, merges: 1, ..NONE }),
    ("everysec, Redis crashes twice, records are merged", Faults { crashes: 2, fsyncs: 2, merges: 1, ..NONE }),
];

const MYSQL: Views = Views { protocol: Protocol::OURS, faults: NONE, everysec: false, pushes: 2, shown: false };
const SHOWN: Views = Views { shown: true, ..MYSQL };

fn assert_holds(name: &str, views: &Views) {
    match explore(views, MOST_STATES) {
        Outcome::Holds { states } => println!("{states:>8} states: {} pushes; {name}", views.pushes),
        Outcome::Broken(trace) => panic!("{name}: {trace}"),
        Outcome::Unfinished => panic!("{name}: too large to be finished"),
    }
}

/// The trace to a broken promise, which the step that is named is part of.
fn assert_broken(views: &Views, promise: Promise, step: &str) -> Trace<Promise> {
    let Outcome::Broken(trace) = explore(views, MOST_STATES) else { panic!("{views:?} holds, so nothing is shown") };
    println!("{:?}\n{trace}\n", views.protocol);
    assert_eq!(trace.promise, promise, "{trace}");
    assert!(trace.steps.iter().any(|told| told.contains(step)), "no {step:?} in {trace}");
    trace
}

#[test]
fn no_view_is_lost_or_counted_twice_whatever_fails() {
    for (name, faults) in SCENARIOS {
        for pushes in [2, 3] {
            assert_holds(name, &Views { faults, pushes, ..MYSQL });
        }
    }
    assert_holds("everything at once", &Views { faults: Faults { evicted: 0, ..ALL }, ..MYSQL });
}

#[test]
fn a_redis_that_loses_its_last_second_makes_nothing_count_twice() {
    for (name, faults) in EVERYSEC {
        assert_holds(name, &Views { faults, everysec: true, ..MYSQL });
    }
}

#[test]
fn the_shown_total_is_right_whatever_fails() {
    for (name, faults) in SCENARIOS {
        assert_holds(&format!("shown; {name}"), &Views { faults, ..SHOWN });
    }
}

#[test]
fn the_shown_total_is_right_for_three_pushes_too() {
    for (name, faults) in [SCENARIOS[0], SCENARIOS[1], SCENARIOS[5]] {
        assert_holds(&format!("shown; {name}"), &Views { faults, pushes: 3, ..SHOWN });
    }
}

/// The one thing that is not promised: nothing cheap closes it, and the total ends.
#[test]
fn after_a_redis_that_lost_data_a_cached_total_may_be_off_until_it_ends() {
    let lossy = Views { faults: EVERYSEC[0].1, everysec: true, ..SHOWN };
    assert_broken(&lossy, Promise::ShownRightAtRest, "Redis crashes");
}

#[test]
fn without_the_shard_s_row_lock_two_workers_count_a_new_writer_twice() {
    let unlocked = Protocol { shard_lock: false, ..Protocol::OURS };
    let trace = assert_broken(&Views { protocol: unlocked, ..MYSQL }, Promise::NeverTwice, "w1 claims batch 0 again");
    assert_eq!(trace.steps.last().map(String::as_str), Some("MySQL counts push 0 twice"));
}

#[test]
fn a_total_without_last_batch_shows_views_twice() {
    let blind = Protocol { total_looks_at_last_batch: false, ..Protocol::OURS };
    assert_broken(&Views { protocol: blind, ..SHOWN }, Promise::ShownRight, "w0 commits batch 0: push 0 counts");
}

#[test]
fn a_push_that_is_stored_twice_is_shown_twice() {
    let unchecked = Protocol { push_checks: false, ..Protocol::OURS };
    let lost = Faults { reply_lost: 1, ..NONE };
    assert_broken(&Views { protocol: unchecked, faults: lost, ..SHOWN }, Promise::ShownRight, "push 0 is sent again");
    // And the watermarks refuse the repeat all the same.
    assert_holds("pushed without a check", &Views { protocol: unchecked, faults: lost, ..MYSQL });
}

#[test]
fn last_batch_written_when_nothing_counted_hides_the_batch_that_did() {
    let always = Protocol { last_batch_always: true, ..Protocol::OURS };
    assert_broken(&Views { protocol: always, ..SHOWN }, Promise::ShownRight, "commits batch 0: nothing counts");
}

#[test]
fn records_merged_across_runs_can_be_stuck_for_ever() {
    let across = Protocol { merges_across_runs: true, ..Protocol::OURS };
    let faults = Faults { crashes: 1, merges: 1, fsyncs: 2, ..NONE };
    assert_broken(&Views { protocol: across, faults, everysec: true, ..MYSQL }, Promise::NothingStuck, "are merged");
}

#[test]
fn a_merged_record_that_counts_for_its_last_part_counts_the_first_twice() {
    let in_part = Protocol { counts_in_part: true, ..Protocol::OURS };
    let faults = Faults { crashes: 1, merges: 1, fsyncs: 2, ..NONE };
    assert_broken(&Views { protocol: in_part, faults, everysec: true, ..MYSQL }, Promise::NeverTwice, "are merged");
}

#[test]
fn a_partly_counted_record_dropped_from_its_batch_is_lost_for_good() {
    let alone = Protocol { drops_alone: true, ..Protocol::OURS };
    let faults = Faults { crashes: 1, merges: 1, fsyncs: 1, ..NONE };
    assert_broken(&Views { protocol: alone, faults, everysec: true, pushes: 3, ..MYSQL }, Promise::NothingLost, "are merged");
}
