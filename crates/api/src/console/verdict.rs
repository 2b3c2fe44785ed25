//! Whether all is well, in a sentence; and if not, what to do and which command to type.
//!
//! A pure function of what was seen, so that it says the same of the same figures. Each finding bears the name of the alert, and so
//! of the section of `deploy/RUNBOOK.md`, that is about it; a console that is looked at says it sooner than an alert. What only
//! workers know, such as differences that their samples met, is told by the alerts alone.

use super::sample::{Sample, WINDOW};
use chrono::DateTime;
use serde::Serialize;
use std::collections::VecDeque;
use storage::mysql::pause::Paused;
use telemetry::health::Report;

/// A drain that keeps up moves several times a second, one behind a slow MySQL every few.
const STUCK_SECONDS: f64 = 10.0;

/// Views are expected in MySQL within a second.
const LATE_SECONDS: f64 = 60.0;

/// Of the capacity of the queue, and of Redis's memory.
const NEARLY_FULL: f64 = 0.8;
const MEMORY_HIGH: f64 = 0.85;

/// Rates are those of so many seconds before a sample.
const RATES_SECONDS: f64 = WINDOW as f64;

/// Share of answers with 500 or above that is no longer a budget of 99.9 % being used but an incident.
const FAILING: f64 = 0.01;

/// Seconds; ten times what a read from MySQL takes.
const SLOW: f64 = 0.25;

/// For so many samples in a row: shorter is a moment between two reads, or one slow second.
const LASTING: usize = 15;

/// Samples, and so seconds, that a start may take before somebody has to look: as long as the alert waits.
const STARTING: usize = 30;

/// What a verdict is made of.
pub(super) struct Seen<'a> {
    /// The newest last; never empty.
    pub(super) samples: &'a VecDeque<Sample>,
    /// The stores were not reached yet since the process began.
    pub(super) starting: bool,
    pub(super) hold: Option<&'a Paused>,
    /// Redis makes room by throwing out cache entries, so that being full is how it is meant to be.
    pub(super) evicts: bool,
    pub(super) report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Well,
    Watch,
    Trouble,
}

/// One thing to say, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    state: State,
    sentence: String,
    remedy: Option<String>,
    command: Option<&'static str>,
    alert: Option<&'static str>,
}

/// The worst finding, and the others after it.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    #[serde(flatten)]
    first: Finding,
    more: Vec<Finding>,
}

pub(super) fn judge(seen: &Seen<'_>) -> Verdict {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| rule(seen)).collect();
    // Of the same state, those that stand first in the table explain those after them.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    let mut findings = findings.into_iter();
    let first = findings.next().unwrap_or_else(|| all_is_well(seen.newest()));
    Verdict { first, more: findings.collect() }
}

const RULES: [fn(&Seen<'_>) -> Option<Finding>; 14] = [
    starting,
    mysql_away,
    redis_away,
    paused,
    drain_stopped,
    workers_missing,
    drift,
    nearly_full,
    late,
    failing,
    slow,
    memory_high,
    lost,
    dead_letters,
];

impl Seen<'_> {
    fn newest(&self) -> &Sample {
        self.samples.back().expect("judged after a sample was added")
    }

    /// Why a store is away, without its name and the number that the system gives to the reason.
    fn reason(&self, store: &str) -> String {
        let told = self.report.components.get(store).and_then(|component| component.reason.as_deref()).unwrap_or("no answer");
        let cause = told.trim_start_matches("MySQL: ").trim_start_matches("Redis: ");
        cause.split(" (os error ").next().unwrap_or_default().to_owned()
    }

    /// Nothing listens there, and starting the server mends that. One that hangs times out instead.
    fn is_refused(&self, store: &str) -> bool {
        self.reason(store).to_lowercase().contains("connection refused")
    }

    fn lasts(&self, holds: impl Fn(&Sample) -> bool) -> bool {
        self.samples.len() >= LASTING && self.samples.iter().rev().take(LASTING).all(holds)
    }

    /// For how long it has been so, seconds.
    fn seconds_of(&self, holds: impl Fn(&Sample) -> bool) -> f64 {
        let since = self.samples.iter().rev().take_while(|sample| holds(sample)).last();
        since.map_or(0.0, |since| self.newest().at - since.at)
    }

    /// For how long views have been waiting and none has left the queue, seconds.
    fn unmoved_seconds(&self) -> f64 {
        // What is not known, because a store was away, did not move.
        let left = |sample: &Sample| Some(sample.persisted? + sample.dead?);
        let Some(now) = left(self.newest()) else { return 0.0 };
        self.seconds_of(|sample| sample.pending.is_none_or(|pending| pending > 0) && left(sample).is_none_or(|then| then == now))
    }

    /// For how long both stores have been there, seconds.
    fn stores_seconds(&self) -> f64 {
        self.seconds_of(stores_are_up)
    }

    /// For how long workers could drain, seconds: after an outage or a pause they are given time to begin.
    fn drainable_seconds(&self) -> f64 {
        self.seconds_of(|sample| stores_are_up(sample) && !sample.paused)
    }

    fn is_stuck(&self) -> bool {
        self.unmoved_seconds().min(self.drainable_seconds()) >= STUCK_SECONDS
    }
}

fn stores_are_up(sample: &Sample) -> bool {
    sample.mysql_up && sample.redis_up
}

fn finding(state: State, alert: &'static str, sentence: String, remedy: impl Into<String>, command: &'static str) -> Finding {
    Finding { state, sentence, remedy: Some(remedy.into()), command: Some(command), alert: Some(alert) }
}

fn all_is_well(sample: &Sample) -> Finding {
    let waiting = match (sample.pending, sample.oldest_age) {
        (Some(0), _) if sample.accepted == Some(0) => "no view was accepted yet".to_owned(),
        (Some(0), _) => "every accepted view is in MySQL".to_owned(),
        (Some(1), Some(age)) => format!("1 view is on its way to MySQL, for {} so far", span(age)),
        (Some(pending), Some(age)) => format!("{} are on their way to MySQL, the oldest for {}", views(pending), span(age)),
        _ => "the queue was not read yet".to_owned(),
    };
    let served = match sample.p99 {
        Some(p99) => format!("{}, 99 % of them answered within {}", a_second(sample.requests), span(p99)),
        None => "no requests in the last 10 s".to_owned(),
    };
    let sentence = format!("All is well: {served}; {waiting}.");
    Finding { state: State::Well, sentence, remedy: None, command: None, alert: None }
}

fn starting(seen: &Seen<'_>) -> Option<Finding> {
    let sentence = || format!("This API is starting and has not reached its stores yet. MySQL: {}.", seen.reason("mysql"));
    let remedy = "Until then every request is answered with 503. It waits for as long as it takes; see what stands in the way.";
    let state = if seen.samples.len() > STARTING { State::Trouble } else { State::Watch };
    seen.starting.then(|| finding(state, "InventoryMysqlAway", sentence(), remedy, "inventoryctl doctor"))
}

fn mysql_away(seen: &Seen<'_>) -> Option<Finding> {
    let sample = seen.newest();
    if sample.mysql_up || seen.starting {
        return None;
    }
    let views = match sample.pending {
        Some(pending) => format!("views are accepted and wait in Redis, {} so far{}", thousands(pending), of_capacity(sample)),
        None => "views are refused".to_owned(),
    };
    let sentence = format!(
        "MySQL is away ({}): prices and stock cannot be changed, cached products can still be read, and {views}.",
        seen.reason("mysql")
    );
    let is_mariadb = seen.report.facts.get("mysql").is_some_and(|server| server.contains("MariaDB"));
    let (remedy, command) = match (seen.is_refused("mysql"), is_mariadb) {
        (true, true) => (format!("{START_MYSQL} (journalctl -u mariadb -n 50)."), "systemctl start mariadb"),
        (true, false) => (format!("{START_MYSQL} (journalctl -u mysql -n 50)."), "systemctl start mysql"),
        _ => (
            "See what keeps it from answering; nothing has to be repaired once it does, and what waits is counted then.".into(),
            "inventoryctl doctor",
        ),
    };
    Some(finding(State::Trouble, "InventoryMysqlAway", sentence, remedy, command))
}

const START_MYSQL: &str = "Nothing listens at its address: start it on its machine. Nothing has to be repaired afterwards, and what waits is \
                           counted then. If it ends again, its log says why";

const START_REDIS: &str = "Nothing listens at its address: start it on its machine and on its own data, so that what it holds is counted; an \
                           empty one in its place would give that up. If it ends again, its log says why (journalctl -u redis-server -n 50).";

fn redis_away(seen: &Seen<'_>) -> Option<Finding> {
    if seen.newest().redis_up || seen.starting {
        return None;
    }
    let sentence = format!(
        "Redis is away ({}): views and price changes are refused with 503; products are read from MySQL, and stock goes on.",
        seen.reason("redis")
    );
    let (remedy, command) = if seen.is_refused("redis") {
        (START_REDIS, "systemctl start redis-server")
    } else {
        (
            "See what keeps it from answering. One that reads its data goes on by itself; what it holds is counted then.",
            "inventoryctl doctor",
        )
    };
    Some(finding(State::Trouble, "InventoryRedisAway", sentence, remedy, command))
}

fn paused(seen: &Seen<'_>) -> Option<Finding> {
    let hold = seen.hold?;
    let sample = seen.newest();
    let reason = hold.reason.as_ref().map_or_else(|| "no reason".to_owned(), |reason| format!("the reason “{reason}”"));
    let waiting = sample.pending.map_or_else(|| "an unknown number of views waits".to_owned(), wait);
    let sentence = format!(
        "The queue has been paused since {} by {}, who gave {reason}: {waiting} in Redis{}, safe but not in MySQL.",
        clock(hold.since.timestamp() as f64, sample.at),
        hold.by,
        of_capacity(sample)
    );
    Some(finding(
        State::Watch,
        "InventoryQueuePaused",
        sentence,
        "Resume it when the work is done: workers go on within a second.",
        "inventoryctl queue resume",
    ))
}

fn drain_stopped(seen: &Seen<'_>) -> Option<Finding> {
    if !seen.is_stuck() {
        return None;
    }
    let (sample, unmoved) = (seen.newest(), seen.unmoved_seconds());
    // Where it was so from the first sample on, nobody knows since when.
    let cut = seen.samples.front().is_some_and(|first| first.at >= sample.at - unmoved);
    let how_long = if cut {
        format!("for at least {}", span(unmoved))
    } else {
        format!("for {}, since {}", span(unmoved), clock(sample.at - unmoved, sample.at))
    };
    let (who, remedy) = match (sample.workers, sample.workers_hung) {
        (Some(0), _) => ("no worker is connected".to_owned(), START),
        (Some(1), Some(1)) => ("the one worker that is connected hangs".to_owned(), RESTART),
        (Some(1), _) => ("one worker is connected and applies nothing".to_owned(), RESTART),
        (Some(workers), Some(hung)) if hung == workers => (format!("all {workers} workers hang"), RESTART),
        (Some(workers), _) => (format!("{workers} workers are connected and apply nothing"), RESTART),
        (None, _) => ("whether a worker is connected is not known".to_owned(), RESTART),
    };
    let sentence = format!(
        "The drain has stopped: no view has reached MySQL {how_long}, and {who}. {} in Redis{}, safe but not counted yet.",
        wait(sample.pending.unwrap_or_default()),
        of_capacity(sample)
    );
    Some(finding(State::Trouble, "InventoryDrainStopped", sentence, remedy, "systemctl restart inventory-worker"))
}

/// Before views wait for them, or while others make up for them.
fn workers_missing(seen: &Seen<'_>) -> Option<Finding> {
    let (workers, hung) = (seen.newest().workers?, seen.newest().workers_hung?);
    let lasts = |holds: fn(&Sample) -> bool| seen.seconds_of(holds) >= STUCK_SECONDS;
    let (alert, sentence, remedy) = if lasts(|sample| sample.workers == Some(0)) {
        ("InventoryWorkerAbsent", "No worker is connected: views are accepted, and will wait in Redis.".to_owned(), START)
    } else if lasts(|sample| sample.workers_hung.is_some_and(|hung| hung > 0)) {
        let sentence = match workers {
            1 => "The one worker hangs: views are accepted, and will wait in Redis.".to_owned(),
            _ => format!("{hung} of {workers} workers {}: the queue page says which.", if hung == 1 { "hangs" } else { "hang" }),
        };
        (if hung == workers { "InventoryWorkerAbsent" } else { "InventoryTargetDown" }, sentence, RESTART)
    } else {
        return None;
    };
    (!seen.is_stuck()).then(|| finding(State::Watch, alert, sentence, remedy, "systemctl restart inventory-worker"))
}

const START: &str =
    "Start a worker: it takes up where the last one stopped. If it ends again, its log says why (journalctl -u inventory-worker -n 50).";

const RESTART: &str =
    "Look at its log (journalctl -u inventory-worker -n 50), then restart it: that is always safe, and it takes up where it stopped.";

fn drift(seen: &Seen<'_>) -> Option<Finding> {
    let drift = seen.newest().drift.filter(|drift| *drift != 0)?;
    // Between two reads of a moving queue the sum may be out for a moment.
    let lasts = seen.lasts(|sample| sample.drift == Some(drift));
    let amount = views(drift.unsigned_abs());
    let how = if drift < 0 {
        format!("MySQL and Redis hold {amount} more than were accepted")
    } else {
        format!("of those that were accepted {amount} cannot be found")
    };
    let sentence = format!("The account of views does not add up: {how}.");
    let remedy = "See which shard and writer it is.";
    lasts.then(|| finding(State::Trouble, "InventoryConservationDrift", sentence, remedy, "inventoryctl check"))
}

fn nearly_full(seen: &Seen<'_>) -> Option<Finding> {
    let sample = seen.newest();
    let filled = share(sample.depth?, sample.capacity)?;
    let sentence = format!("The queue is nearly full: {} of its capacity. Past it views are refused with 503.", percent(filled));
    let remedy = "Find what holds up the drain; if that takes longer, and Redis has the memory, raise INVENTORY_QUEUE_CAPACITY.";
    let command = "inventoryctl queue status --watch";
    (filled > NEARLY_FULL).then(|| finding(State::Trouble, "InventoryQueueNearCapacity", sentence, remedy, command))
}

fn late(seen: &Seen<'_>) -> Option<Finding> {
    let sample = seen.newest();
    let age = sample.oldest_age.filter(|age| *age > LATE_SECONDS)?;
    // Else the cause is said already, or is just over.
    if seen.is_stuck() || seen.drainable_seconds() < STUCK_SECONDS {
        return None;
    }
    let sentence = format!(
        "Views reach MySQL late: {}, the oldest for {}. The drain is at work.",
        wait(sample.pending.unwrap_or_default()),
        span(age)
    );
    let remedy = "See whether what waits gets less; if not, MySQL is slow or one worker is not enough.";
    Some(finding(State::Trouble, "InventoryViewsLate", sentence, remedy, "inventoryctl queue status --watch"))
}

fn failing(seen: &Seen<'_>) -> Option<Finding> {
    let sample = seen.newest();
    let ratio = sample.errors / sample.requests;
    // What a store that is away makes fail is said already, and is still among the last seconds when it is back.
    if seen.stores_seconds() <= RATES_SECONDS || ratio.is_nan() || ratio <= FAILING {
        return None;
    }
    let sentence = format!("{} of all requests in the last 10 s were answered with 500 or above.", percent(ratio));
    let remedy = "The log of this API says why, once for each request; the doctor examines both stores.";
    Some(finding(State::Trouble, "InventoryErrorBudgetBurn", sentence, remedy, "inventoryctl doctor"))
}

fn slow(seen: &Seen<'_>) -> Option<Finding> {
    // A store that is away makes what waits for it slow.
    let is_slow = |sample: &Sample| stores_are_up(sample) && sample.p99.is_some_and(|p99| p99 > SLOW);
    let p99 = seen.newest().p99?;
    let sentence = format!("Answers are slow: one in a hundred takes longer than {}.", span(p99));
    let remedy = "See whether a store is slow, or this machine is busy.";
    seen.lasts(is_slow).then(|| finding(State::Watch, "InventoryLatencyBudgetBurn", sentence, remedy, "inventoryctl doctor"))
}

fn memory_high(seen: &Seen<'_>) -> Option<Finding> {
    let sample = seen.newest();
    let filled = share(sample.redis_used?, sample.redis_limit?)?;
    let sentence = format!("Redis uses {} of the memory that it may use. When it is full, views are refused with 503.", percent(filled));
    let remedy = "Raise maxmemory, or see what else uses this Redis.";
    (filled > MEMORY_HIGH && !seen.evicts)
        .then(|| finding(State::Watch, "InventoryRedisMemoryHigh", sentence, remedy, "inventoryctl doctor"))
}

fn lost(seen: &Seen<'_>) -> Option<Finding> {
    let first = seen.samples.iter().find_map(|sample| sample.lost)?;
    let lost = seen.newest().lost?.saturating_sub(first);
    let sentence = format!("Redis lost {} within the last 15 minutes.", views(lost));
    let remedy = "They cannot be recovered. See that Redis runs with appendfsync always, so that it does not happen again.";
    (lost > 0).then(|| finding(State::Watch, "InventoryViewsLost", sentence, remedy, "inventoryctl doctor"))
}

fn dead_letters(seen: &Seen<'_>) -> Option<Finding> {
    let letters = seen.newest().dead_letters;
    let were = if letters == 1 { "1 dead letter waits".to_owned() } else { format!("{} dead letters wait", thousands(letters)) };
    let sentence = format!("{were} for a decision: views that could not be counted, by product and reason.");
    let remedy = "See the reasons; replay them when the cause is mended, or drop them.";
    (letters > 0).then(|| finding(State::Watch, "InventoryDeadLetters", sentence, remedy, "inventoryctl dead-letters list"))
}

fn of_capacity(sample: &Sample) -> String {
    let filled = sample.depth.and_then(|depth| share(depth, sample.capacity));
    filled.map_or_else(String::new, |filled| format!(" ({} of the queue's capacity)", percent(filled)))
}

/// `None` where there is no limit.
fn share(used: u64, limit: u64) -> Option<f64> {
    (limit > 0).then(|| used as f64 / limit as f64)
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.01 { "under 1 %".to_owned() } else { format!("{:.0} %", share * 100.0) }
}

fn views(count: u64) -> String {
    if count == 1 { "1 view".to_owned() } else { format!("{} views", thousands(count)) }
}

/// "1 view waits", "1,200 views wait".
fn wait(count: u64) -> String {
    format!("{} {}", views(count), if count == 1 { "waits" } else { "wait" })
}

/// A rate of requests.
fn a_second(rate: f64) -> String {
    match rate.round() as u64 {
        0 => "less than one request a second".to_owned(),
        1 => "one request a second".to_owned(),
        many => format!("{} requests a second", thousands(many)),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let (mut text, first) = (String::new(), digits.len() % 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment as a clock shows it, with the day where it is not that of `now`. Both in seconds since 1970 UTC.
fn clock(at: f64, now: f64) -> String {
    let [at, now] = [at, now].map(|seconds| DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default());
    let form = if at.date_naive() == now.date_naive() { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
    at.format(form).to_string()
}

/// A length of time as people say it.
fn span(seconds: f64) -> String {
    match seconds {
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        short if short < 10.0 => format!("{short:.1} s"),
        short if short < 120.0 => format!("{short:.0} s"),
        long if long < 7200.0 => format!("{:.0} min", long / 60.0),
        long => format!("{:.0} h", long / 3600.0),
    }
}

#[cfg(test)]
mod tests;
