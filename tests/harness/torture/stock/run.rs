//! Rounds: fresh servers, clients at work, faults one after the other, and the verdict when all has come to rest.

use super::asking::Client;
use super::faults::Fault;
use super::judge::Violation;
use super::report::{self, Totals};
use super::rest::at_rest;
use super::told::Told;
use super::victims::Victims;
use super::watch::watch;
use super::workload::{CLIENTS, Clients, Counters, PRODUCTS};
use crate::torture::frame::{self, dealt, rounds};
use crate::torture::report::{Struck, Told as Shown};
use crate::{Shop, ShopOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a round begins with, of each product: little, so that much is refused.
const OPENING: i64 = 60;

/// Clients trade between faults for between these two.
const PEACE_MS: std::ops::Range<u64> = 250..1_000;

/// After the last fault they go on so long at least, and until a round has seen enough, for a while.
const LAST_PEACE: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a round must have seen to say anything.
const FEWEST_RESERVED: u64 = 100;
const FEWEST_REFUSED: u64 = 15;
const FEWEST_SNAPSHOTS: u64 = 10;

/// In one round of so many Redis is away from the first to the last.
const WITHOUT_REDIS: u64 = 3;

/// Of a round that fails so much is shown.
const MOST_SHOWN: usize = 12;

pub type Plan = frame::Plan<Fault>;
pub type Verdict = frame::Verdict<Fault, Violation, Totals>;

/// One round.
#[derive(Debug, Clone)]
pub struct Round {
    pub seed: u64,
    /// In their order.
    pub faults: Vec<Fault>,
    /// Redis is away all the time.
    pub without_redis: bool,
    /// No fault strikes after this.
    pub until: Instant,
}

impl Round {
    /// The round of this seed. What kills is dealt twice as often as what does not.
    #[must_use]
    pub fn of(seed: u64, plan: &Plan, until: Instant) -> Self {
        let all = plan.kinds();
        let without_redis = seed % WITHOUT_REDIS == WITHOUT_REDIS - 1 && !all.iter().all(|fault| fault.needs_redis());
        let cards = |fault: &Fault| vec![*fault; if fault.kills() { 2 } else { 1 }];
        let kinds: Vec<Fault> = all.iter().filter(|fault| !(without_redis && fault.needs_redis())).flat_map(cards).collect();
        let faults = dealt(&kinds, seed, plan.faults);
        Self { seed, faults, without_redis, until }
    }
}

/// Runs rounds until the time is over or one of them fails.
pub async fn run(plan: &Plan) -> bool {
    let (counters, mut totals) = (Arc::new(Counters::default()), Totals::default());
    let counts = counters.clone();
    let told = move || {
        let [count, more] = [&counts.requests, &counts.reserved].map(|count| count.load(Ordering::Relaxed));
        Shown { count, unit: "requests", more, of: "reservations" }
    };
    let next = |seed, until| {
        let round = Round::of(seed, plan, until);
        let special = if round.without_redis { ", without Redis" } else { "" };
        (round, special)
    };
    let ran = rounds(plan, told, next, async |next| {
        let verdict = round(next, &counters).await;
        totals.add(&verdict.totals);
        let did = format!("{} movements", verdict.totals.movements);
        (verdict, did)
    })
    .await;
    report::print(plan.seed, &ran, &counters, &totals);
    ran.end(|violation| violation.rule, |_| String::new())
}

/// Runs one round. The servers' directory stays only where it failed.
pub async fn round(round: &Round, counters: &Arc<Counters>) -> Verdict {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (mut random, dir) = (fastrand::Rng::with_seed(round.seed), shop.dir().to_owned());
    let mut victims = Victims::start(shop, round.without_redis).await;
    let clients = Clients::new(victims.instances.each_ref().map(|instance| &instance.api), counters);
    let mut told = open(&clients, random.fork()).await;
    let counted = || [&counters.reserved, &counters.refused, &counters.snapshots].map(|count| count.load(Ordering::Relaxed));
    let before = counted();
    let seen = || std::array::from_fn(|nth| counted()[nth] - before[nth]);
    let client = |number| tokio::spawn(Client::of(&clients, number, random.fork()).run());
    let working: Vec<_> = (1..=CLIENTS).map(client).collect();
    let watching = tokio::spawn(watch(victims.shop.mysql_url("root"), clients.clone()));

    let (mut verdict, mut log) = (Verdict::default(), String::new());
    strike_all(round, &mut victims, &clients, &mut random, &mut verdict.struck, &mut log).await;
    tokio::time::sleep(LAST_PEACE).await;
    let enough = async {
        while too_little(seen()).is_some() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    // Without them it is judged too little.
    let _ = tokio::time::timeout(LONGEST_WAIT, enough).await;
    clients.stop();
    for client in working {
        told.add(client.await.expect("a client ends"));
    }
    verdict.violations = watching.await.expect("the watcher ends");
    verdict.too_little = too_little(seen());

    let (violations, ledger) = at_rest(&mut victims, &mut told, counters, random.fork()).await;
    verdict.violations.extend(violations);
    // What is worst is shown first.
    verdict.violations.sort_by_key(|violation| violation.rule);
    verdict.totals = Totals::of(&ledger, victims.deadlocks);
    if verdict.is_good() {
        drop(victims);
        // What cannot be removed is only clutter.
        let _ = std::fs::remove_dir_all(dir);
    } else {
        verdict.shown = shown(&verdict.violations, &log);
    }
    verdict
}

/// Counts what is there of each product; there was nothing.
async fn open(clients: &Arc<Clients>, random: fastrand::Rng) -> Told {
    let mut client = Client::of(clients, 0, random);
    for product in 1..=PRODUCTS {
        client.set(product, 0, OPENING, true).await;
    }
    client.told
}

async fn strike_all(
    round: &Round,
    victims: &mut Victims,
    clients: &Clients,
    random: &mut fastrand::Rng,
    struck: &mut BTreeMap<Fault, Struck>,
    log: &mut String,
) {
    for fault in &round.faults {
        tokio::time::sleep(Duration::from_millis(random.u64(PEACE_MS))).await;
        if Instant::now() >= round.until {
            return;
        }
        let (began, in_flight) = (clients.now_ms(), clients.in_flight());
        struck.entry(*fault).or_default().note(in_flight);
        victims.strike(*fault, random).await;
        let _ = writeln!(log, "{began:>7} to {} ms  {}, {in_flight} requests unanswered", clients.now_ms(), fault.name());
    }
}

fn too_little([reserved, refused, snapshots]: [u64; 3]) -> Option<String> {
    let few = |what, count, fewest| (count < fewest).then(|| format!("{count} {what} in a round, and {fewest} are the fewest"));
    few("acknowledged reservations", reserved, FEWEST_RESERVED)
        .or_else(|| few("refusals", refused, FEWEST_REFUSED))
        .or_else(|| few("snapshots", snapshots, FEWEST_SNAPSHOTS))
}

fn shown(violations: &[Violation], log: &str) -> String {
    let mut text = format!("what struck:\n{log}");
    for violation in violations.iter().take(MOST_SHOWN) {
        let _ = writeln!(text, "violation: {}: {}", violation.rule, violation.detail);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn successive_rounds_have_each_kind_and_only_those_that_can_strike() {
        let plan = Plan { time: Duration::ZERO, seed: 0, only: Vec::new(), faults: 12 };
        let until = Instant::now();
        let mut times = BTreeMap::<Fault, u64>::new();
        for seed in 0..30 {
            let Round { faults, without_redis, .. } = Round::of(seed, &plan, until);
            assert_eq!(faults, Round::of(seed, &plan, until).faults);
            assert_eq!((faults.len(), without_redis), (12, seed % 3 == 2));
            assert!(!without_redis || !faults.iter().any(|fault| fault.needs_redis()));
            faults.iter().for_each(|fault| *times.entry(*fault).or_default() += 1);
        }
        assert_eq!(times.len(), Fault::value_variants().len());
        assert!(times.values().all(|times| *times >= 15), "{times:?}");
        let only = Plan { only: vec![Fault::KillWorker], ..plan };
        let round = Round::of(2, &only, until);
        assert_eq!((round.faults, round.without_redis), (vec![Fault::KillWorker; 12], false));
    }

    #[test]
    fn a_round_in_which_little_happened_says_nothing() {
        assert_eq!(too_little([FEWEST_RESERVED, FEWEST_REFUSED, FEWEST_SNAPSHOTS]), None);
        assert_eq!(too_little([5_000, 14, 50]).as_deref(), Some("14 refusals in a round, and 15 are the fewest"));
    }
}
