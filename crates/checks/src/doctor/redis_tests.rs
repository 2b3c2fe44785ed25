//! The checks of Redis, fed with facts.

use super::super::finding::{Finding, State, Subject, judge};
use super::*;
use storage::fields::{Clock, Fields};
use storage::redis::workers::Worker;
use storage::{Error, Kind};

const INFO: [(&str, &str); 16] = [
    ("connected_clients", "5"),
    ("maxclients", "10000"),
    ("redis_version", "7.0.15"),
    ("cluster_enabled", "0"),
    ("role", "master"),
    ("run_id", "0123456789abcdef"),
    ("aof_enabled", "1"),
    ("aof_last_bgrewrite_status", "ok"),
    ("aof_last_write_status", "ok"),
    ("rdb_last_bgsave_status", "ok"),
    ("used_memory", "1000000"),
    ("maxmemory", "100000000"),
    ("maxmemory_policy", "volatile-lfu"),
    ("total_system_memory", "8000000000"),
    ("evicted_keys", "0"),
    ("connected_slaves", "0"),
];

const CONFIG: [(&str, &str); 7] = [
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("save", ""),
    ("stop-writes-on-bgsave-error", "yes"),
    ("min-replicas-to-write", "0"),
    ("lua-time-limit", "5000"),
    ("timeout", "0"),
];

/// A server in order but for these facts, which are settings where CONFIG has such a name.
fn worker(silent_seconds: u64) -> Worker {
    Worker { name: "inventory-worker:7".into(), address: "h:9".into(), connected_seconds: 60, silent_seconds }
}

fn facts(roles: Roles, other: &[(&'static str, &'static str)]) -> Facts {
    let is_setting = |name: &str| CONFIG.iter().any(|(known, _)| *known == name);
    let (config, info): (Vec<_>, Vec<_>) = other.iter().copied().partition(|(name, _)| is_setting(name));
    let server = Server {
        info: INFO.into_iter().chain(info).collect(),
        config: Ok(CONFIG.into_iter().chain(config).collect()),
        owner: Ok(Some("d".into())),
        workers: Ok(vec![worker(1)]),
        waiting: Ok(7),
        clock: Ok(Clock { ahead_ms: 0, within_ms: 0 }),
    };
    let place = Place { name: "h:1/0".into(), redis_cli: "redis-cli -h h -p 1".into() };
    Facts { server, roles, place, prefix: "shop".into(), deployment: Some("d".into()), queue_run_id: None }
}

fn deviating(facts: &Facts) -> Vec<Finding> {
    judge(Subject::Redis, CHECKS, facts).into_iter().filter(|finding| finding.state != State::Ok).collect()
}

fn one(facts: &Facts) -> Finding {
    let mut all = deviating(facts);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_server_in_order_has_only_rows_in_order_in_each_role() {
    assert!(deviating(&facts(Roles::Both, &[])).is_empty());
    assert!(deviating(&facts(Roles::Queue, &[("maxmemory_policy", "noeviction")])).is_empty());
    let cache = [("maxmemory_policy", "allkeys-lru"), ("aof_enabled", "0"), ("evicted_keys", "9"), ("used_memory", "100000000")];
    assert!(deviating(&facts(Roles::Cache, &cache)).is_empty());
}

#[test]
fn each_fact_is_found_with_its_cure() {
    let set = |line: &str| format!("redis-cli -h h -p 1 CONFIG SET {line}");
    for (name, value, check, state, cure) in [
        ("redis_version", "6.0.16", "version", State::Bad, "install Redis 6.2".to_owned()),
        ("cluster_enabled", "1", "mode", State::Bad, "cluster-enabled".into()),
        ("role", "slave", "role", State::Bad, "INVENTORY_REDIS_URL=".into()),
        ("run_id", "", "run_id", State::Bad, "proxy".into()),
        ("appendfsync", "everysec", "appendfsync", State::Note, set("appendfsync always")),
        ("no-appendfsync-on-rewrite", "yes", "fsync_on_rewrite", State::Warn, set("no-appendfsync-on-rewrite no")),
        ("aof_last_bgrewrite_status", "err", "aof_rewrite", State::Warn, "log of redis-server".into()),
        ("aof_last_write_status", "err", "writable", State::Bad, "make room".into()),
        ("rdb_last_bgsave_status", "err", "writable", State::Note, String::new()),
        ("maxmemory_policy", "allkeys-lfu", "policy", State::Bad, set("maxmemory-policy volatile-lfu")),
        ("maxmemory_policy", "noeviction", "policy", State::Warn, set("maxmemory-policy volatile-lfu")),
        ("maxmemory_policy", "volatile-ttl", "policy", State::Warn, set("maxmemory-policy volatile-lfu")),
        ("maxmemory", "0", "memory", State::Note, set("maxmemory 3814mb")),
        ("maxmemory", "9000000000", "memory", State::Warn, set("maxmemory 3814mb")),
        ("evicted_keys", "5", "evicted", State::Note, String::new()),
        ("connected_slaves", "1", "replicas", State::Warn, set("min-replicas-to-write 1")),
        ("lua-time-limit", "20", "script_limit", State::Warn, set("lua-time-limit 5000")),
        ("lua-time-limit", "0", "script_limit", State::Note, set("lua-time-limit 5000")),
        ("timeout", "2", "idle", State::Warn, set("timeout 0")),
        ("connected_clients", "9000", "clients", State::Warn, set("maxclients 10000")),
        ("timeout", "300", "idle", State::Note, set("timeout 0")),
    ] {
        let found = one(&facts(Roles::Both, &[(name, value)]));
        assert_eq!((found.check, found.state), (check, state), "{name} {value}: {found:?}");
        assert!(found.cure.iter().any(|step| step.line.contains(&cure)) || cure.is_empty(), "{cure}: {found:?}");
    }
    // Without the log its settings say nothing.
    let found = one(&facts(Roles::Both, &[("aof_enabled", "0"), ("appendfsync", "no")]));
    assert_eq!((found.check, found.state, &found.cure[0].line), ("aof", State::Bad, &set("appendonly yes")));
    let found = deviating(&facts(Roles::Both, &[("appendfsync", "no")]));
    assert_eq!((found[0].check, found[0].state), ("appendfsync", State::Bad));
}

#[test]
fn a_queue_alone_has_a_policy_and_an_end_of_its_own() {
    let queue = |other: (&'static str, &'static str)| one(&facts(Roles::Queue, &[("maxmemory_policy", "noeviction"), other]));
    assert_eq!((queue(("used_memory", "80000000")).check, queue(("used_memory", "80000000")).state), ("memory", State::Warn));
    assert_eq!((queue(("evicted_keys", "1")).check, queue(("evicted_keys", "1")).state), ("evicted", State::Warn));
    let found = one(&facts(Roles::Queue, &[]));
    assert_eq!((found.check, found.state), ("policy", State::Warn));
    assert!(found.cure[0].line.ends_with("maxmemory-policy noeviction"), "{found:?}");
}

#[test]
fn a_failed_snapshot_matters_only_where_it_stops_writes() {
    let found = one(&facts(Roles::Both, &[("rdb_last_bgsave_status", "err"), ("save", "3600 1")]));
    assert_eq!(
        (found.check, found.state, found.cure[0].line.as_str()),
        ("writable", State::Bad, "redis-cli -h h -p 1 CONFIG SET save \"\"")
    );
    let goes_on = [("rdb_last_bgsave_status", "err"), ("save", "3600 1"), ("stop-writes-on-bgsave-error", "no")];
    assert_eq!(one(&facts(Roles::Both, &goes_on)).state, State::Note);
}

#[test]
fn replicas_that_are_asked_for_and_absent_stop_writes() {
    let asked = [("min-replicas-to-write", "1"), ("min_slaves_good_slaves", "0")];
    let found = one(&facts(Roles::Both, &asked));
    assert_eq!((found.check, found.state), ("replicas", State::Bad));
    assert!(found.cure.iter().all(|step| step.at == Do), "nothing to be typed gives up the guard: {found:?}");
    assert!(found.cure[0].line.starts_with("bring the replicas back"), "{found:?}");
    let there = [("min-replicas-to-write", "1"), ("min_slaves_good_slaves", "1"), ("connected_slaves", "1")];
    assert!(deviating(&facts(Roles::Both, &there)).is_empty());
}

#[test]
fn a_prefix_belongs_to_one_database() {
    let mut facts = facts(Roles::Both, &[]);
    facts.server.owner = Ok(Some("another".into()));
    let found = one(&facts);
    assert_eq!((found.check, found.state, found.cure[0].line.as_str()), ("owner", State::Bad, "INVENTORY_KEY_PREFIX=shop-2"));
    assert!(found.cure[1].line.ends_with("DEL shop:owner"), "{found:?}");
    facts.deployment = None;
    assert_eq!(one(&facts).state, State::Note);
    facts.server.owner = Ok(None);
    assert!(deviating(&facts).is_empty(), "the first process takes it");
}

#[test]
fn a_missing_worker_is_as_bad_as_what_waits_for_one() {
    let refused = || Error::new(Kind::Bug, "Redis: NOPERM");
    let mut facts = facts(Roles::Both, &[]);
    facts.server.workers = Ok(Vec::new());
    for (waiting, owner, state, found) in [
        (Ok(500), Ok(Some("d".into())), State::Bad, "none is connected, and 500 views wait for one"),
        (Ok(1), Ok(None), State::Bad, "none is connected, and 1 view waits for one"),
        (Ok(0), Ok(Some("d".into())), State::Warn, "none is connected, and nothing waits for one"),
        (Ok(0), Err(refused()), State::Warn, "none is connected, and nothing waits for one"),
        (Ok(0), Ok(None), State::Note, "none is connected; no process has used this queue yet"),
        (Err(refused()), Ok(Some("d".into())), State::Warn, "none is connected; what waits is not examined: Redis: NOPERM"),
    ] {
        (facts.server.waiting, facts.server.owner) = (waiting, owner);
        let all = deviating(&facts);
        let row = all.iter().find(|row| row.check == "workers").unwrap();
        assert_eq!((row.state, &*row.found), (state, found));
        assert_eq!(row.cure[0].line, "systemctl start inventory-worker");
    }
    for (silent, found) in [([1, 44], "1 of 2 hangs: silent for seconds"), ([9, 44], "2 of 2 hang: silent for seconds")] {
        facts.server.workers = Ok(silent.map(worker).into());
        let all = deviating(&facts);
        let row = all.iter().find(|row| row.check == "workers").unwrap();
        assert_eq!((row.state, &*row.found, &*row.cure[0].line), (State::Warn, found, "systemctl restart inventory-worker"));
    }
    facts.roles = Roles::Cache;
    assert!(deviating(&facts).iter().all(|row| row.check != "workers"), "a cache has no worker");
    facts.roles = Roles::Both;
    (facts.server.workers, facts.server.owner) = (Err(refused()), Ok(Some("d".into())));
    let found = one(&facts);
    assert_eq!((found.check, found.state, &*found.found), ("workers", State::Note, "not examined: Redis: NOPERM"));
    assert!(found.cure[0].line.ends_with("+client|list"), "{found:?}");
}

#[test]
fn a_cache_that_is_the_queue_itself_is_found() {
    let mut facts = facts(Roles::Cache, &[]);
    facts.queue_run_id = Some("another".into());
    assert!(deviating(&facts).is_empty());
    facts.queue_run_id = Some("0123456789abcdef".into());
    assert_eq!((one(&facts).check, one(&facts).state), ("separate", State::Warn));
}

#[test]
fn a_server_without_config_is_judged_by_info() {
    let mut facts = facts(Roles::Both, &[]);
    facts.server.config = Err(Error::new(Kind::Bug, "Redis: unknown command 'CONFIG'"));
    let found = one(&facts);
    assert_eq!((found.check, found.state), ("config", State::Note));
    facts.server.info = INFO.into_iter().chain([("min_slaves_good_slaves", "1"), ("connected_slaves", "1")]).collect::<Fields>();
    assert_eq!(one(&facts).check, "config", "what INFO tells needs no CONFIG");
}
