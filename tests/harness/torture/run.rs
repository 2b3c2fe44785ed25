//! Rounds: fresh servers, clients at work, faults one after the other, and the verdict on what the clients were told.

use super::faults::{Fault, STOP, Victims};
use super::frame::{self, dealt, rounds};
use super::history::{Call, Outcome, Rule, Violation, around, violations};
use super::report::{Struck, Told};
use super::workload::{Client, Clients, Counters, FIRST_PRICE, INSTANCES, READERS, WRITERS, evict, hundredths};
use crate::{SOON, Shop, ShopOptions, eventually};
use servers::RedisOptions;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Hot enough that clients meet, and enough of them that reads find one nobody writes at the moment.
const PRODUCTS: u64 = 8;

/// Clients run between faults for between these two.
const PEACE_MS: std::ops::Range<u64> = 250..1_000;

/// A round ends with so much of it, so that the last fault is judged too.
const LAST_PEACE: Duration = Duration::from_secs(1);

/// What a round must have seen to say anything; it goes on for a while after the last fault until it has.
const FEWEST_WRITES: u64 = 200;
const FEWEST_HITS: u64 = 1_000;
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Of a round that fails so much is shown.
const MOST_SHOWN: usize = 5;
const MOST_AROUND: usize = 8;

pub type Plan = frame::Plan<Fault>;
pub type Verdict = frame::Verdict<Fault, Violation>;

/// One round.
#[derive(Debug, Clone)]
pub struct Round {
    pub seed: u64,
    /// In their order.
    pub faults: Vec<Fault>,
    /// How long those are stopped that are not stopped for long.
    pub stop: Duration,
    /// No fault strikes after this.
    pub until: Instant,
}

impl Round {
    /// The round of this seed. A long stop comes once in each round, and is not dealt.
    #[must_use]
    pub fn of(seed: u64, plan: &Plan, until: Instant) -> Self {
        let all = plan.kinds();
        let kinds: Vec<Fault> = all.iter().copied().filter(|fault| *fault != Fault::LongStop || all.len() == 1).collect();
        let mut faults = dealt(&kinds, seed, plan.faults);
        if kinds.len() < all.len() {
            faults.insert(fastrand::Rng::with_seed(seed).usize(..=faults.len()), Fault::LongStop);
        }
        Self { seed, faults, stop: STOP, until }
    }
}

/// Runs rounds until the time is over or one of them fails.
pub async fn run(plan: &Plan) -> bool {
    let counters = Arc::new(Counters::default());
    let counts = counters.clone();
    let told = move || Told { count: counts.operations(), unit: "operations", more: counts.written.load(Ordering::Relaxed), of: "writes" };
    let ran = rounds(
        plan,
        told,
        |seed, until| (Round::of(seed, plan, until), ""),
        async |next| {
            let before = counters.operations();
            let verdict = round(next, &counters).await;
            (verdict, format!("{} operations", counters.operations() - before))
        },
    )
    .await;
    super::report::print(plan.seed, &ran, &counters);
    ran.end(|violation| violation.rule.to_string(), |_| String::new())
}

/// Runs one round. The servers' directory stays only where it failed.
pub async fn round(round: &Round, counters: &Arc<Counters>) -> Verdict {
    // A log that is rewritten while it is copied would be no older state.
    let extra = vec!["--auto-aof-rewrite-percentage".to_owned(), "0".to_owned()];
    let redis = RedisOptions { extra, ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { own_mysql: true, redis, ..ShopOptions::default() }).await;
    shop.products(PRODUCTS).await;
    let (mut random, dir) = (fastrand::Rng::with_seed(round.seed), shop.dir().to_owned());
    let mut victims = Victims::start(shop, round.stop).await;
    let clients = Clients::new(victims.instances.each_ref().map(|instance| &instance.api), PRODUCTS, counters.clone());
    let counted = || [&counters.hits, &counters.written].map(|count| count.load(Ordering::Relaxed));
    let before = counted();
    let working: Vec<_> = (0..WRITERS + READERS)
        .map(|number| tokio::spawn(Client::of(&clients, number % INSTANCES).run(number < WRITERS, random.fork())))
        .collect();
    let evicting = tokio::spawn(evict(victims.shop.redis.url(), clients.clone(), random.fork()));

    let (mut verdict, mut log) = (Verdict::default(), String::new());
    strike_all(round, &mut victims, &clients, &mut random, &mut verdict.struck, &mut log).await;
    tokio::time::sleep(LAST_PEACE).await;
    let enough = async {
        while let [hits, written] = counted()
            && too_little(hits - before[0], written - before[1]).is_some()
        {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    // Without them it is judged too little.
    let _ = tokio::time::timeout(LONGEST_WAIT, enough).await;
    clients.stop();
    let mut calls = Vec::new();
    for client in working {
        calls.extend(client.await.expect("a client ends"));
    }
    evicting.await.expect("evictions end");
    let after = counted();
    verdict.too_little = too_little(after[0] - before[0], after[1] - before[1]);

    let at_rest = at_rest(&mut victims, &clients, &mut calls).await;
    verdict.violations = violations(&calls, FIRST_PRICE);
    verdict.violations.extend(at_rest);
    if verdict.is_good() {
        drop(victims);
        // What cannot be removed is only clutter.
        let _ = std::fs::remove_dir_all(dir);
    } else {
        verdict.shown = shown(&verdict.violations, &calls, &log);
    }
    verdict
}

async fn strike_all(
    round: &Round,
    victims: &mut Victims,
    clients: &Clients,
    random: &mut fastrand::Rng,
    struck: &mut BTreeMap<Fault, Struck>,
    log: &mut String,
) {
    let started = Instant::now();
    for fault in &round.faults {
        tokio::time::sleep(Duration::from_millis(random.u64(PEACE_MS))).await;
        if Instant::now() >= round.until {
            return;
        }
        let in_flight = clients.in_flight();
        struck.entry(*fault).or_default().note(in_flight);
        let _ = writeln!(log, "{:>7} ms  {}, {in_flight} requests unanswered", started.elapsed().as_millis(), fault.name());
        victims.strike(*fault, random).await;
    }
}

fn too_little(hits: u64, written: u64) -> Option<String> {
    let few = |what, count, fewest| (count < fewest).then(|| format!("{count} {what} in a round, and {fewest} are the fewest"));
    few("acknowledged writes", written, FEWEST_WRITES).or_else(|| few("reads from the cache", hits, FEWEST_HITS))
}

/// When nothing runs any more, what each API answers is what MySQL has, and what the cache holds. The reads join the history.
async fn at_rest(victims: &mut Victims, clients: &Arc<Clients>, calls: &mut Vec<Call>) -> Vec<Violation> {
    for instance in &mut victims.instances {
        instance.api.ready().await;
    }
    let (shop, mut found) = (&victims.shop, Vec::new());
    found.extend(shop.open_transactions().await.map(|detail| Violation { rule: Rule::NotAtRest, detail, calls: Vec::new() }));
    let mut readers = [Client::of(clients, 0), Client::of(clients, 1)];
    for id in 1..=PRODUCTS {
        for reader in &mut readers {
            let read = read(reader, id, calls, |_| true).await;
            let (version, amount) = shop.price(id).await;
            disagreement("MySQL", version, hundredths(&amount), &read, &mut found);
        }
        let hit = read(&mut readers[0], id, calls, |call| matches!(call.outcome, Outcome::Read { hit: true, .. })).await;
        match shop.entry(id).await.as_deref().and_then(cached) {
            Some((version, value)) => disagreement("the cache", version, value, &hit, &mut found),
            None => found.push(Violation { rule: Rule::NotAtRest, detail: "a hit, and no entry".to_owned(), calls: vec![hit] }),
        }
    }
    found
}

/// Reads until there is an answer of this kind.
async fn read(reader: &mut Client, id: u64, calls: &mut Vec<Call>, wanted: impl Fn(&Call) -> bool) -> Call {
    eventually("a product is read at rest", SOON, async || {
        let before = calls.len();
        reader.see(id, calls).await;
        calls[before..].first().copied().filter(&wanted)
    })
    .await
}

fn disagreement(place: &str, version: u64, value: u64, read: &Call, found: &mut Vec<Violation>) {
    let seen = matches!(read.outcome, Outcome::Read { version: seen, .. } if (seen, read.value) == (version, value));
    if !seen {
        let detail = format!("{place} has version {version}, {}", super::history::amount(value));
        found.push(Violation { rule: Rule::NotAtRest, detail, calls: vec![*read] });
    }
}

/// Version and price of an entry that holds data.
fn cached(entry: &str) -> Option<(u64, u64)> {
    let (version, json) = entry.strip_prefix('D')?.split_once("|1")?;
    let product: serde_json::Value = serde_json::from_str(json).ok()?;
    Some((version.parse().ok()?, hundredths(product["price"]["amount"].as_str()?)))
}

fn shown(violations: &[Violation], calls: &[Call], log: &str) -> String {
    let mut text = format!("what struck:\n{log}");
    for violation in violations.iter().take(MOST_SHOWN) {
        let _ = writeln!(text, "violation: {}: {}", violation.rule, violation.detail);
        for call in around(calls, violation, MOST_AROUND) {
            let mark = if violation.calls.contains(&call) { '>' } else { ' ' };
            let _ = writeln!(text, "  {mark} {call}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successive_rounds_have_each_kind_equally_often_and_a_seed_has_its_faults() {
        let plan = Plan { time: Duration::ZERO, seed: 0, only: Vec::new(), faults: 17 };
        let until = Instant::now();
        let mut times = BTreeMap::<Fault, u64>::new();
        // As many rounds as there are kinds in a deck use up whole decks.
        for seed in 1_000 * 23..1_000 * 23 + 23 {
            let round = Round::of(seed, &plan, until);
            assert_eq!(round.faults, Round::of(seed, &plan, until).faults);
            assert_eq!(round.faults.len(), 18);
            round.faults.iter().for_each(|fault| *times.entry(*fault).or_default() += 1);
        }
        assert_eq!(times.remove(&Fault::LongStop), Some(23));
        assert_eq!(times.len(), 23);
        assert!(times.values().all(|times| *times == 17), "{times:?}");
        let only = Plan { only: vec![Fault::LongStop], ..plan };
        assert_eq!(Round::of(1, &only, until).faults, [Fault::LongStop; 17]);
    }

    #[test]
    fn a_round_in_which_little_happened_says_nothing() {
        assert_eq!(too_little(FEWEST_HITS, FEWEST_WRITES), None);
        assert_eq!(too_little(5_000, 199).as_deref(), Some("199 acknowledged writes in a round, and 200 are the fewest"));
        assert_eq!(too_little(999, 5_000).as_deref(), Some("999 reads from the cache in a round, and 1000 are the fewest"));
    }

    #[test]
    fn an_entry_is_understood_only_where_it_holds_data() {
        assert_eq!(cached(r#"D7|1{"price":{"amount":"12.50","currency":"GBP"}}"#), Some((7, 1_250)));
        for entry in ["W7:00", "L00", "D0|", "D7|2{}", r#"X7|1{"price":{"amount":"12.50"}}"#] {
            assert_eq!(cached(entry), None, "{entry}");
        }
    }
}
