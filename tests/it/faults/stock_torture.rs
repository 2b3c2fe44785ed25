//! A short round of what `cargo xtask torture stock` does for as long as one likes: clients trade through two APIs while APIs, worker
//! and MySQL die and rows are locked the other way round; stock is never oversold, and each answer is kept.

use harness::seed;
use harness::torture::stock::{Counters, Fault, Round, round};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Those without which a round says little, and some of the others.
const ALWAYS: [Fault; 4] = [Fault::LoseCommitReply, Fault::OtherOrder, Fault::KillMysql, Fault::KillInCommit];
const OTHERS: [Fault; 5] = [Fault::KillApi, Fault::KillConnections, Fault::CutMysql, Fault::LoseCommit, Fault::HoldRow];
const STRIKES: usize = 3;

/// After this no fault strikes, however slow the machine.
const TIME: Duration = Duration::from_secs(30);

async fn is_good(without_redis: bool) {
    let (seed, counters) = (seed(), Arc::new(Counters::default()));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut faults = [&ALWAYS[..], &random.choose_multiple(OTHERS, STRIKES)].concat();
    random.shuffle(&mut faults);
    let verdict = round(&Round { seed, faults, without_redis, until: Instant::now() + TIME }, &counters).await;
    println!("{:?} {counters:?} {:?}", verdict.struck, verdict.totals);
    assert!(!verdict.struck.is_empty(), "nothing struck within {TIME:?}");
    assert!(verdict.is_good(), "{:?}: {:?}\n{}", verdict.violations, verdict.too_little, verdict.shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_is_never_oversold_and_each_answer_is_kept_whatever_dies_or_locks_the_other_way_round() {
    is_good(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_while_redis_is_away_from_the_first_request_to_the_last() {
    is_good(true).await;
}
