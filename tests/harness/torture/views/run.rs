//! Rounds: fresh servers, clients at work, faults one after the other, and the verdict when all is drained.

use super::faults::Fault;
use super::judge::{Request, Rule, Violation, booked};
use super::report::{self, Totals};
use super::rest::{Rest, at_rest};
use super::textbook;
use super::victims::Victims;
use super::watch::{evict, watch};
use super::workload::{CLIENTS, Client, Clients, Counters, INSTANCES, PRODUCTS};
use crate::torture::frame::{self, dealt, rounds};
use crate::torture::report::{Struck, Told};
use crate::{Shop, ShopOptions};
use servers::{AppendFsync, RedisOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Clients run between faults for between these two.
const PEACE_MS: std::ops::Range<u64> = 100..500;

/// After the last fault clients go on until so many more views are accepted, and so long at least.
const LAST_VIEWS: u64 = 1_000;
const LAST_PEACE: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a round must have seen to say anything.
const FEWEST_VIEWS: u64 = 2_000;
const FEWEST_SHOWN: u64 = 100;

/// In one round of so many Redis has `everysec` and loses the end of its log.
const LOSSY: u64 = 4;

/// In a round with losses so many power cuts come beside the other faults.
const CUTS: usize = 4;

/// Of a round that fails so much is shown.
const MOST_SHOWN: usize = 12;
const MOST_REQUESTS: usize = 6;

pub type Plan = frame::Plan<Fault>;
pub type Verdict = frame::Verdict<Fault, Violation, Totals>;

/// One round.
#[derive(Debug, Clone)]
pub struct Round {
    pub seed: u64,
    /// In their order.
    pub faults: Vec<Fault>,
    /// Redis has `everysec`, and `CutTail` may strike.
    pub lossy: bool,
    /// No fault strikes after this.
    pub until: Instant,
}

impl Round {
    /// The round of this seed. What kills is dealt twice as often as what does not.
    /// One stop is in each round without losses; in every other round with losses no API is killed, so that nothing of what it
    /// knew is forgotten and the account must be exact.
    #[must_use]
    pub fn of(seed: u64, plan: &Plan, until: Instant) -> Self {
        let all = plan.kinds();
        let cuts = all.contains(&Fault::CutTail);
        let lossy = cuts && (seed % LOSSY == LOSSY - 1 || all.len() == 1);
        let exact = lossy && (seed / LOSSY).is_multiple_of(2);
        let fits = |fault: &Fault| match fault {
            Fault::CutTail | Fault::StopInBatch => false,
            fault => !lossy || fault.may_meet_loss() && !(exact && fault.kills_api()),
        };
        let cards = |fault: &Fault| vec![*fault; if fault.kills() { 2 } else { 1 }];
        let kinds: Vec<Fault> = all.iter().filter(|fault| fits(fault)).flat_map(cards).collect();
        let mut faults = dealt(&kinds, seed, plan.faults);
        let mut random = fastrand::Rng::with_seed(seed);
        let more = if lossy { vec![Fault::CutTail; CUTS] } else { vec![Fault::StopInBatch] };
        for fault in more.into_iter().filter(|fault| all.contains(fault)) {
            faults.insert(random.usize(..=faults.len()), fault);
        }
        Self { seed, faults, lossy, until }
    }
}

/// Runs rounds until the time is over or one of them fails. `textbook`: the program that is its worker; that is tortured, and our
/// programs are not.
pub async fn run(plan: &Plan, textbook: Option<&Path>) -> bool {
    let (counters, mut totals) = (Arc::new(Counters::default()), Totals::default());
    let counts = counters.clone();
    let told = move || {
        let [count, more] = [&counts.requests, &counts.accepted].map(|count| count.load(Ordering::Relaxed));
        Told { count, unit: "requests", more, of: "views accepted" }
    };
    let next = |seed, until| {
        let round = Round::of(seed, plan, until);
        let special = if round.lossy { ", everysec" } else { "" };
        (round, special)
    };
    let ran = rounds(plan, told, next, async |next| {
        let verdict = match textbook {
            Some(worker) => textbook::round(next, worker, &counters).await,
            None => round(next, &counters).await,
        };
        totals.add(&verdict.totals);
        let times: u64 = verdict.struck.values().map(|struck| struck.times).sum();
        (verdict, format!("{times} faults"))
    })
    .await;
    report::print(plan.seed, &ran, &counters, &totals);
    ran.end(|violation| violation.rule, report::sums)
}

/// Runs one round. The servers' directory stays only where it failed.
pub async fn round(round: &Round, counters: &Arc<Counters>) -> Verdict {
    // A log that is rewritten has no end to cut.
    let extra = vec!["--auto-aof-rewrite-percentage".to_owned(), "0".to_owned()];
    let append_fsync = if round.lossy { AppendFsync::EverySec } else { AppendFsync::Always };
    let redis = RedisOptions { extra, append_fsync, ..RedisOptions::default() };
    // Many small batches have more places to die in than few large ones.
    let environment = vec![("INVENTORY_FLUSH_INTERVAL", "100ms".to_owned())];
    let shop = Shop::with(ShopOptions { own_mysql: true, redis, environment, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (mut random, dir) = (fastrand::Rng::with_seed(round.seed), shop.dir().to_owned());
    let mut victims = Victims::start(shop).await;
    let clients = Clients::new(victims.apis.each_ref().map(|api| &api.program), counters);
    let counted = || [&counters.accepted, &counters.shown].map(|count| count.load(Ordering::Relaxed));
    let before = counted();
    let working: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(Client::of(&clients, number % INSTANCES).run(random.fork()))).collect();
    let watching: Vec<_> = (0..INSTANCES).map(|_| tokio::spawn(watch(clients.clone(), random.fork()))).collect();
    let evicting = tokio::spawn(evict(victims.shop.redis.url(), clients.clone(), random.fork()));

    let (mut verdict, mut log) = (Verdict::default(), String::new());
    let api_died = strike_all(round, &mut victims, &clients, &mut random, &mut verdict.struck, &mut log).await;
    last_views(&clients).await;
    clients.stop();
    let mut requests = Vec::new();
    for client in working {
        requests.extend(client.await.expect("a client ends"));
    }
    for watcher in watching {
        verdict.violations.extend(watcher.await.expect("a watcher ends"));
    }
    evicting.await.expect("evictions end");
    let after = counted();
    verdict.too_little = too_little(after[0] - before[0], after[1] - before[1]);

    let Rest { violations, account } = at_rest(&mut victims, &clients, &booked(&requests), api_died).await;
    verdict.violations.extend(violations);
    // What is lost or doubled is shown first.
    verdict.violations.sort_by_key(|violation| violation.rule);
    let gone = victims.gone.values().sum();
    verdict.totals = Totals { persisted: account.persisted, dead: account.dead, lost: account.lost, gone };
    if verdict.is_good() {
        drop(victims);
        // What cannot be removed is only clutter.
        let _ = std::fs::remove_dir_all(dir);
    } else {
        verdict.shown = shown(&verdict.violations, &requests, &log);
    }
    verdict
}

/// Clients go on for a while, so that the last fault is judged too. Where they cannot, that is judged too little.
pub(super) async fn last_views(clients: &Clients) {
    let accepted = || clients.counters.accepted.load(Ordering::Relaxed);
    let goal = accepted() + LAST_VIEWS;
    let enough = async {
        tokio::time::sleep(LAST_PEACE).await;
        while accepted() < goal {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let _ = tokio::time::timeout(LONGEST_WAIT, enough).await;
}

/// Returns whether an API died after Redis had lost data.
async fn strike_all(
    round: &Round,
    victims: &mut Victims,
    clients: &Clients,
    random: &mut fastrand::Rng,
    struck: &mut BTreeMap<Fault, Struck>,
    log: &mut String,
) -> bool {
    let mut api_died = false;
    for fault in &round.faults {
        tokio::time::sleep(Duration::from_millis(random.u64(PEACE_MS))).await;
        if Instant::now() >= round.until {
            break;
        }
        let began = clients.now_ms();
        match victims.strike(*fault, clients, random).await {
            Some(in_flight) => {
                struck.entry(*fault).or_default().note(in_flight);
                let _ = writeln!(log, "{began:>7} ms  {}, {in_flight} requests unanswered", fault.name());
            }
            None => drop(writeln!(log, "{began:>7} ms  {}: nothing came to strike", fault.name())),
        }
        api_died |= fault.kills_api() && clients.losses() > 0;
    }
    api_died
}

pub(super) fn too_little(accepted: u64, shown: u64) -> Option<String> {
    let few = |what, count, fewest| (count < fewest).then(|| format!("{count} {what} in a round, and {fewest} are the fewest"));
    few("accepted views", accepted, FEWEST_VIEWS).or_else(|| few("shown totals", shown, FEWEST_SHOWN))
}

pub(super) fn shown(violations: &[Violation], requests: &[Request], log: &str) -> String {
    let mut text = format!("what struck:\n{log}");
    for violation in violations.iter().take(MOST_SHOWN) {
        let _ = writeln!(text, "violation: {}: {}", violation.rule, violation.detail);
        let of = |request: &&Request| Some(request.product) == violation.product && request.outcome != super::Outcome::Accepted;
        for request in requests.iter().filter(of).take(if violation.rule == Rule::Fell { 0 } else { MOST_REQUESTS }) {
            let Request { count, outcome, instance, at_ms, .. } = request;
            let _ = writeln!(text, "  {at_ms:>7} ms  API {instance}: {count} views {outcome:?}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn each_round_has_its_faults_and_only_those_that_it_can_judge() {
        let plan = Plan { time: Duration::ZERO, seed: 0, only: Vec::new(), faults: 20 };
        let until = Instant::now();
        let mut seen = BTreeMap::<Fault, u64>::new();
        for seed in 0..40 {
            let Round { faults, lossy, .. } = Round::of(seed, &plan, until);
            assert_eq!(faults, Round::of(seed, &plan, until).faults);
            assert_eq!(lossy, faults.contains(&Fault::CutTail));
            if lossy {
                assert!(faults.iter().all(|fault| *fault == Fault::CutTail || fault.may_meet_loss()));
                assert!(seed / LOSSY % 2 == 1 || !faults.iter().any(|fault| fault.kills_api()));
            }
            for fault in faults {
                *seen.entry(fault).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), Fault::value_variants().len());
        assert!(seen.values().all(|times| *times >= 10), "{seen:?}");
        let only = Plan { only: vec![Fault::KillWorker], ..plan };
        assert_eq!(Round::of(3, &only, until).faults, vec![Fault::KillWorker; 20]);
    }
}
