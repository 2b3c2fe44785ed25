//! A short round of what `cargo xtask torture views` does for as long as one likes: clients send views through two APIs while APIs,
//! workers, Redis and MySQL die, some of them at a step of a view's way that is chosen; each accepted view must be counted once.

use harness::seed;
use harness::torture::views::{Counters, Fault, Round, round};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Those that take a second or two; each run strikes with some of them.
const FAULTS: [Fault; 20] = [
    Fault::KillApi,
    Fault::KillWorker,
    Fault::KillRedis,
    Fault::KillMysql,
    Fault::KillBeforePush,
    Fault::KillAfterPush,
    Fault::KillAfterClaim,
    Fault::KillAfterShardLock,
    Fault::KillAfterWatermarks,
    Fault::KillBeforeApplyCommit,
    Fault::KillAfterApply,
    Fault::KillAfterSettle,
    Fault::KillRedisInBatch,
    Fault::KillMysqlInBatch,
    Fault::KillConnections,
    Fault::KillClients,
    Fault::LoseCommitReply,
    Fault::LosePushReply,
    Fault::LoseScriptReply,
    Fault::Poison,
];
const STRIKES: usize = 6;

/// Of those that strike where Redis has `everysec`, with two power cuts between them.
const LOSSY_FAULTS: [Fault; 3] = [Fault::KillAfterApply, Fault::KillWorker, Fault::LosePushReply];

/// After this no fault strikes, however slow the machine: it takes a quarter of it elsewhere, with the start of the servers.
const TIME: Duration = Duration::from_secs(40);

async fn is_good(seed: u64, faults: Vec<Fault>, lossy: bool) {
    let counters = Arc::new(Counters::default());
    let verdict = round(&Round { seed, faults, lossy, until: Instant::now() + TIME }, &counters).await;
    println!("{:?} {counters:?}", verdict.struck);
    assert!(!verdict.struck.is_empty(), "nothing struck within {TIME:?}");
    assert!(verdict.is_good(), "{:?}: {:?}\n{}", verdict.violations, verdict.too_little, verdict.shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_accepted_view_is_counted_once_whatever_dies_at_whatever_step() {
    let seed = seed();
    is_good(seed, fastrand::Rng::with_seed(seed).choose_multiple(FAULTS, STRIKES), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_views_are_lost_than_a_power_cut_takes_under_everysec_and_none_counts_twice() {
    let [first, second, third] = LOSSY_FAULTS;
    is_good(seed(), vec![first, Fault::CutTail, second, Fault::CutTail, third], true).await;
}
