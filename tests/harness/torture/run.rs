//! Rounds: fresh servers, clients at work, faults one after the other, and the verdict on what the clients were told.

use super::faults::{Fault, STOP, Victims};
use super::history::{Call, Outcome, Rule, Violation, around, violations};
use super::report::{Progress, Struck, Told};
use super::workload::{Client, Clients, Counters, FIRST_PRICE, INSTANCES, READERS, WRITERS, evict, hundredths};
use crate::{SOON, Shop, ShopOptions, eventually};
use clap::ValueEnum;
use servers::RedisOptions;
use std::collections::{BTreeMap, BTreeSet};
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

/// A round is not begun when less than this is left.
const SHORTEST_ROUND: Duration = Duration::from_secs(15);

/// Of a round that fails so much is shown.
const MOST_SHOWN: usize = 5;
const MOST_AROUND: usize = 8;

/// A run of many rounds.
#[derive(Debug, Clone)]
pub struct Plan {
    pub time: Duration,
    /// Of the first round; the next one has the next.
    pub seed: u64,
    /// Only these strike; empty: all.
    pub only: Vec<Fault>,
    /// In each round.
    pub faults: usize,
}

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
    /// The round of this seed. Over the rounds of successive seeds each kind comes equally often: they take their faults from
    /// an endless row of shuffled decks, one after the other. A long stop comes once in each round, and not from the decks.
    #[must_use]
    pub fn of(seed: u64, plan: &Plan, until: Instant) -> Self {
        let all = if plan.only.is_empty() { Fault::value_variants() } else { plan.only.as_slice() };
        let kinds: Vec<Fault> = all.iter().copied().filter(|fault| *fault != Fault::LongStop || all.len() == 1).collect();
        let count = plan.faults as u64;
        let mut faults: Vec<Fault> = (0..count).map(|nth| dealt(&kinds, seed.wrapping_mul(count).wrapping_add(nth))).collect();
        if kinds.len() < all.len() {
            faults.insert(fastrand::Rng::with_seed(seed).usize(..=faults.len()), Fault::LongStop);
        }
        Self { seed, faults, stop: STOP, until }
    }
}

/// The card at a place of the endless row of decks.
pub(super) fn dealt<T: Copy>(kinds: &[T], place: u64) -> T {
    let size = kinds.len() as u64;
    let mut deck = kinds.to_vec();
    fastrand::Rng::with_seed(place / size).shuffle(&mut deck);
    deck[(place % size) as usize]
}

/// What came of a round or of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// The violations with the calls around them, and what struck when.
    pub shown: String,
    /// Why it says nothing, where it does not.
    pub too_little: Option<String>,
    pub struck: BTreeMap<Fault, Struck>,
}

impl Verdict {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.too_little.is_none()
    }
}

/// Runs rounds until the time is over or one of them fails.
pub async fn run(plan: &Plan) -> bool {
    let (started, counters) = (Instant::now(), Arc::new(Counters::default()));
    let until = started + plan.time;
    let told = counters.clone();
    let progress = Progress::start(plan.time, move || Told {
        count: told.operations(),
        unit: "operations",
        more: told.written.load(Ordering::Relaxed),
        of: "writes",
    });
    let (mut struck, mut rounds, mut longest) = (BTreeMap::<Fault, Struck>::new(), 0, SHORTEST_ROUND);
    let mut failed = None;
    while failed.is_none() && (rounds == 0 || Instant::now() + longest < until) {
        let (seed, began, before) = (plan.seed.wrapping_add(rounds), Instant::now(), counters.operations());
        progress.say(&format!("round {}, seed {seed}", rounds + 1));
        let verdict = round(&Round::of(seed, plan, until), &counters).await;
        rounds += 1;
        for (fault, more) in &verdict.struck {
            struck.entry(*fault).or_default().add(more);
        }
        // A last round that would be cut short says as much as it has time for.
        longest = longest.max(began.elapsed() / 2);
        let (operations, found) = (counters.operations() - before, verdict.violations.len());
        progress.say(&format!("  {operations} operations in {:.0} s, {found} violations", began.elapsed().as_secs_f64()));
        failed = (!verdict.is_good()).then_some(verdict);
    }
    progress.end();
    super::report::print(plan.seed, rounds, started.elapsed(), &counters, &struck);
    if let Some(verdict) = &failed {
        println!("{}", verdict.shown);
    }
    match failed {
        Some(Verdict { too_little: Some(why), violations, .. }) if violations.is_empty() => println!("verdict: judged too little: {why}"),
        Some(Verdict { violations, .. }) => {
            let rules: BTreeSet<String> = violations.iter().map(|violation| violation.rule.to_string()).collect();
            let rules: Vec<String> = rules.into_iter().collect();
            println!("verdict: violated, {} times: {}", violations.len(), rules.join("; "));
        }
        None => {
            println!("verdict: 0 violations");
            return true;
        }
    }
    false
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
