//! A short round of what `cargo xtask torture prices` does for as long as one likes: twelve clients read and write eight hot
//! products through two APIs while everything under them is killed, cut, stopped and emptied; what they were told must be
//! the history of eight registers.

use harness::seed;
use harness::torture::{Counters, Fault, Round, round};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Those that take a second or two; each run strikes with some of them.
const FAULTS: [Fault; 19] = [
    Fault::KillApi,
    Fault::KillWorker,
    Fault::KillRedis,
    Fault::EmptyRedis,
    Fault::OlderAof,
    Fault::OlderRdb,
    Fault::KillMysql,
    Fault::KillConnections,
    Fault::Flush,
    Fault::LowMemory,
    Fault::CutRedis,
    Fault::HoldRedis,
    Fault::CutMysql,
    Fault::HoldSelect,
    Fault::LoseCommit,
    Fault::LoseCommitReply,
    Fault::LoseScript,
    Fault::LoseScriptReply,
    Fault::StopApi,
];
const STRIKES: usize = 10;

/// Longer than a call to Redis may take, and shorter than a marker lives.
const STOP: Duration = Duration::from_millis(1_500);

/// After this no fault strikes, however slow the machine.
const TIME: Duration = Duration::from_secs(13);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_price_is_lost_or_stale_whatever_dies() {
    let (seed, counters) = (seed(), Arc::new(Counters::default()));
    let faults = fastrand::Rng::with_seed(seed).choose_multiple(FAULTS, STRIKES);
    let verdict = round(&Round { seed, faults, stop: STOP, until: Instant::now() + TIME }, &counters).await;
    println!("{:?} {counters:?}", verdict.struck);
    assert!(verdict.is_good(), "{}: {:?}\n{}", verdict.violations.len(), verdict.too_little, verdict.shown);
}
