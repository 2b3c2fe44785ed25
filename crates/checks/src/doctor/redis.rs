//! The checks of a Redis: does it keep what it acknowledges, may it write, is it ours?

use super::clocks;
use super::finding::At::{Do, RedisConf, Setting, Shell};
use super::finding::{Check, Verdict};
use super::redis_memory as memory;
use storage::redis::Roles;
use storage::redis::server::{Place, Server, owner_key};

/// A server, what it is used for, and by whom.
pub(super) struct Facts {
    pub(super) server: Server,
    pub(super) roles: Roles,
    pub(super) place: Place,
    pub(super) prefix: String,
    /// Id of our deployment, if MySQL told it.
    pub(super) deployment: Option<String>,
    /// `run_id` of the queue's server, for a cache that should be another.
    pub(super) queue_run_id: Option<String>,
}

impl Facts {
    pub(super) fn info(&self, name: &str) -> &str {
        self.server.info.text(name).unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.server.info.number(name).unwrap_or(0)
    }

    /// A setting that INFO does not show; `None` where CONFIG is not for us.
    pub(super) fn config(&self, name: &str) -> Option<&str> {
        self.server.config.as_ref().ok()?.text(name)
    }

    pub(super) fn has_queue(&self) -> bool {
        self.roles != Roles::Cache
    }

    /// Sets it at once, and for after a restart.
    pub(super) fn set(&self, verdict: Verdict, name: &str, value: &str) -> Verdict {
        let quoted = if value.is_empty() { "\"\"" } else { value };
        let verdict = verdict.cure(Shell, format!("{} CONFIG SET {name} {quoted}", self.place.redis_cli));
        verdict.cure(RedisConf, format!("{name} {quoted}"))
    }
}

#[rustfmt::skip]
pub(super) const CHECKS: &[Check<Facts>] = &[
    Check { name: "version", judge: version,
        rests: "The scripts of queue and cache." },
    Check { name: "mode", judge: mode,
        rests: "One connection reaches every key." },
    Check { name: "role", judge: role,
        rests: "Views, markers and leases are written." },
    Check { name: "run_id", judge: run_id,
        rests: "Cache keys name the run of their server: one that came back with older data is not believed." },
    Check { name: "config", judge: config,
        rests: "The checks that need more than INFO says." },
    Check { name: "aof", judge: aof,
        rests: "A view that was answered 202 outlives redis-server." },
    Check { name: "appendfsync", judge: appendfsync,
        rests: "A view that was answered 202 outlives the host." },
    Check { name: "fsync_on_rewrite", judge: fsync_on_rewrite,
        rests: "`appendfsync always` has no gaps." },
    Check { name: "aof_rewrite", judge: aof_rewrite,
        rests: "The log stays as small as its data." },
    Check { name: "writable", judge: writable,
        rests: "Views are accepted; a price is marked before it is committed." },
    Check { name: "policy", judge: memory::policy,
        rests: "A full Redis throws out cached products, and never a view." },
    Check { name: "memory", judge: memory::limit,
        rests: "Redis refuses or evicts before the kernel kills it." },
    Check { name: "evicted", judge: memory::evicted,
        rests: "What was thrown out was cached, and nothing else." },
    Check { name: "replicas", judge: replicas,
        rests: "A primary that lost its replicas stops accepting, so that there are never two." },
    Check { name: "script_limit", judge: script_limit,
        rests: "A script of ours runs to its end (at most tens of ms) before others are told BUSY; one that hangs can be killed." },
    Check { name: "idle", judge: idle,
        rests: "Connections stay open: processes send something every second." },
    Check { name: "clients", judge: clients,
        rests: "A process that comes finds a connection: each API has one or two, each worker some more." },
    Check { name: "owner", judge: owner,
        rests: "The key prefix belongs to one database: no other worker drains our views." },
    Check { name: "workers", judge: workers,
        rests: "Views that were accepted come to MySQL." },
    Check { name: "separate", judge: separate,
        rests: "The cache's memory is not the queue's." },
    Check { name: "clock", judge: |facts| clocks::redis(&facts.server.clock),
        rests: "The ends of cached entries, which bound what plain SQL of others changes. Nothing of safety." },
];

fn version(facts: &Facts) -> Option<Verdict> {
    let version = facts.info("redis_version");
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    Some(if number >= (6, 2) {
        Verdict::ok(version)
    } else {
        Verdict::bad(version).lost("API and worker refuse to start.").cure(Do, "install Redis 6.2 or newer")
    })
}

fn mode(facts: &Facts) -> Option<Verdict> {
    if facts.info("cluster_enabled") != "1" {
        return Some(Verdict::ok("no cluster"));
    }
    let lost = "A shard whose slot is on another node is answered MOVED: its views are refused and its products not cached.";
    Some(Verdict::bad("Redis Cluster").lost(lost).cure(Do, "use a Redis without cluster-enabled: clusters are not supported yet"))
}

fn role(facts: &Facts) -> Option<Verdict> {
    if facts.info("role") == "master" {
        return Some(Verdict::ok("master"));
    }
    let found = format!("a replica of {}:{}", facts.info("master_host"), facts.info("master_port"));
    let lost = "API and worker do not use it: views and prices are answered 503, reads go to MySQL.";
    let variable = if facts.has_queue() { "INVENTORY_REDIS_URL" } else { "INVENTORY_CACHE_REDIS_URL" };
    let verdict = Verdict::bad(found).lost(lost);
    let verdict = verdict.cure(Setting, format!("{variable}=redis://{}:{}/0", facts.info("master_host"), facts.info("master_port")));
    Some(verdict.cure(Do, format!("or, if its primary is gone for good: {} REPLICAOF NO ONE", facts.place.redis_cli)))
}

fn run_id(facts: &Facts) -> Option<Verdict> {
    match facts.info("run_id") {
        id if id.len() >= 8 => Some(Verdict::ok(&id[..8])),
        _ => {
            let verdict = Verdict::bad("INFO shows no run_id").lost("API and worker refuse to start.");
            Some(verdict.cure(Do, "connect to Redis itself and not through a proxy that hides INFO"))
        }
    }
}

fn config(facts: &Facts) -> Option<Verdict> {
    let error = match &facts.server.config {
        Ok(_) => return Some(Verdict::ok("CONFIG GET answers")),
        Err(error) => error,
    };
    let lost = "appendfsync, idle and script limits are not examined; everything else is judged by INFO. On a managed server look \
                at them in its console.";
    let verdict = Verdict::note(format!("CONFIG GET is refused: {error}")).lost(lost);
    Some(verdict.cure(Do, "let this user run it: ACL SETUSER <user> +config|get"))
}

fn aof(facts: &Facts) -> Option<Verdict> {
    if !facts.has_queue() {
        return None;
    }
    if facts.info("aof_enabled") == "1" {
        return Some(Verdict::ok("appendonly yes"));
    }
    let lost = "All views that wait for MySQL are lost when redis-server ends, however it ends (never counted twice; \
                inventory_views_lost_total says how many).";
    Some(facts.set(Verdict::bad("appendonly no").lost(lost), "appendonly", "yes"))
}

fn appendfsync(facts: &Facts) -> Option<Verdict> {
    if !facts.has_queue() || facts.info("aof_enabled") != "1" {
        return None;
    }
    let value = facts.config("appendfsync")?;
    let found = format!("appendfsync {value}");
    let verdict = match value {
        "always" => return Some(Verdict::ok(found)),
        "everysec" => {
            Verdict::note(found).lost("About the last second of acknowledged views, when the host dies. Nothing with redis-server alone.")
        }
        _ => Verdict::bad(found).lost("Up to half a minute of acknowledged views, when the host dies."),
    };
    Some(facts.set(verdict, "appendfsync", "always"))
}

fn fsync_on_rewrite(facts: &Facts) -> Option<Verdict> {
    if !facts.has_queue() || facts.config("appendfsync")? != "always" {
        return None;
    }
    let value = facts.config("no-appendfsync-on-rewrite")?;
    let found = format!("no-appendfsync-on-rewrite {value}");
    if value == "no" {
        return Some(Verdict::ok(found));
    }
    let lost = "While the log is rewritten nothing is synced: views acknowledged meanwhile are lost with the host.";
    Some(facts.set(Verdict::warn(found).lost(lost), "no-appendfsync-on-rewrite", "no"))
}

fn aof_rewrite(facts: &Facts) -> Option<Verdict> {
    if !facts.has_queue() || facts.info("aof_enabled") != "1" {
        return None;
    }
    let status = facts.info("aof_last_bgrewrite_status");
    if status == "ok" {
        return Some(Verdict::ok("the last rewrite succeeded"));
    }
    let lost = "The log grows until the disk is full, and then views are refused.";
    let verdict = Verdict::warn(format!("the last rewrite of the log: {status}")).lost(lost);
    let verdict = verdict.cure(Do, "see the log of redis-server for the reason: most often a full disk, or no memory to fork");
    Some(verdict.cure(Shell, format!("{} BGREWRITEAOF", facts.place.redis_cli)))
}

/// What makes Redis refuse every write, though it answers.
fn writable(facts: &Facts) -> Option<Verdict> {
    let lost = "Views and prices are answered 503; reads go on.";
    if facts.info("aof_enabled") == "1" && facts.info("aof_last_write_status") != "ok" {
        let verdict = Verdict::bad("the log cannot be written (aof_last_write_status)").lost(lost);
        return Some(verdict.cure(Do, "make room on the disk of redis-server; it goes on by itself"));
    }
    if facts.info("rdb_last_bgsave_status") != "ok" && !facts.info("rdb_last_bgsave_status").is_empty() {
        let stops = facts.config("stop-writes-on-bgsave-error") != Some("no") && facts.config("save") != Some("");
        let found = "the last snapshot failed (rdb_last_bgsave_status)";
        if !stops {
            return Some(Verdict::note(found).lost("Nothing of ours: the log is the copy that counts."));
        }
        let lost = format!("{lost} Snapshots add no safety here: the log is the copy that counts.");
        return Some(facts.set(Verdict::bad(format!("{found}, and save is on")).lost(lost), "save", ""));
    }
    Some(Verdict::ok("nothing refuses writes"))
}

fn replicas(facts: &Facts) -> Option<Verdict> {
    let connected = facts.number("connected_slaves");
    let wanted: u64 = facts.config("min-replicas-to-write").and_then(|value| value.parse().ok()).unwrap_or(0);
    // INFO has it only where the setting is above 0, which also tells without CONFIG.
    let good = facts.server.info.number("min_slaves_good_slaves");
    if good.is_some_and(|good| good < wanted) {
        let found = format!("{} of min-replicas-to-write {wanted} are there", good.unwrap_or(0));
        let lost = "Redis refuses every write: views and prices are answered 503. That is what was asked for, if the replicas are \
                    on the other side of a broken network.";
        let verdict = Verdict::bad(found).lost(lost).cure(Do, "bring the replicas back: Redis accepts again by itself");
        let give_up = "min-replicas-to-write 0 lets it accept alone and gives up the guard against two primaries: set it only where no \
                       replica can have been made primary meanwhile";
        return Some(verdict.cure(Do, give_up));
    }
    match (connected, good) {
        (0, _) => Some(Verdict::ok("no replicas")),
        (connected, Some(_)) => Some(Verdict::ok(format!("{connected}, min-replicas-to-write {wanted}"))),
        (connected, None) => {
            let lost = "After a failover that not everybody saw there are two primaries: prices may be stale on the losing side until \
                        the TTL ends, and views pushed to it are lost. So are the last ones that a replica lags behind.";
            let verdict = Verdict::warn(format!("{connected}, and min-replicas-to-write is 0")).lost(lost);
            Some(facts.set(verdict, "min-replicas-to-write", "1"))
        }
    }
}

fn script_limit(facts: &Facts) -> Option<Verdict> {
    /// Our longest script has taken a tenth of it (measured on 7.0).
    const LEAST_MS: i64 = 500;
    let value: i64 = facts.config("lua-time-limit")?.parse().ok()?;
    let found = format!("lua-time-limit {value} ms");
    if value >= LEAST_MS {
        return Some(Verdict::ok(found));
    }
    let verdict = if value <= 0 {
        Verdict::note(found).lost("A script that hangs cannot be killed without redis-server. Ours are bounded.")
    } else {
        Verdict::warn(found).lost("While a large batch is claimed or settled, views and prices of others are answered BUSY, hence 503.")
    };
    Some(facts.set(verdict, "lua-time-limit", "5000"))
}

fn idle(facts: &Facts) -> Option<Verdict> {
    /// Processes ping every second, and wait a second for a ticket.
    const LEAST_SECONDS: u64 = 5;
    let value: u64 = facts.config("timeout")?.parse().ok()?;
    let found = format!("timeout {value} s");
    let verdict = match value {
        0 => return Some(Verdict::ok("timeout 0: idle clients are not cut")),
        LEAST_SECONDS.. => Verdict::note(found).lost("Nothing while processes run well; one that stalls so long reconnects."),
        _ => Verdict::warn(found).lost("Connections are cut between two pings: requests under way are answered 503."),
    };
    Some(facts.set(verdict, "timeout", "0"))
}

fn clients(facts: &Facts) -> Option<Verdict> {
    let (here, most) = (facts.number("connected_clients"), facts.server.info.number("maxclients")?);
    let found = format!("{here} of maxclients {most}");
    if here.saturating_mul(10) < most.saturating_mul(9) {
        return Some(Verdict::ok(found));
    }
    let verdict = Verdict::warn(found).lost("The next process, or one that reconnects, is turned away, as if Redis were not there.");
    Some(facts.set(verdict, "maxclients", "10000"))
}

fn owner(facts: &Facts) -> Option<Verdict> {
    let prefix = &facts.prefix;
    let owner = match (&facts.server.owner, &facts.deployment) {
        (Err(error), _) => return Some(Verdict::note(format!("not examined: {error}"))),
        (Ok(None), _) => return Some(Verdict::ok(format!("nobody's yet: the first process takes the prefix {prefix:?}"))),
        (Ok(Some(_)), None) => return Some(Verdict::note(format!("the prefix {prefix:?} is taken; whether by us only MySQL can tell"))),
        (Ok(Some(owner)), Some(ours)) if owner == ours => return Some(Verdict::ok(format!("ours, with the prefix {prefix:?}"))),
        (Ok(Some(owner)), Some(_)) => owner,
    };
    let lost = "API and worker refuse to start, or to go on.";
    let verdict = Verdict::bad(format!("the prefix {prefix:?} belongs to another database (deployment {owner})")).lost(lost);
    let verdict = verdict.cure(Setting, format!("INVENTORY_KEY_PREFIX={prefix}-2"));
    let delete = format!("{} DEL {}", facts.place.redis_cli, owner_key(prefix));
    Some(verdict.cure(Do, format!("or, if that database is gone and its queue is empty: {delete}")))
}

fn workers(facts: &Facts) -> Option<Verdict> {
    if !facts.has_queue() {
        return None;
    }
    let (connected, hung) = match &facts.server.workers {
        Ok(workers) => (workers.len(), workers.iter().filter(|worker| worker.hangs()).count()),
        Err(error) => {
            let verdict = Verdict::note(format!("not examined: {error}")).lost("Whether a worker is connected is not known.");
            return Some(verdict.cure(Do, "let this user run it: ACL SETUSER <user> +client|list"));
        }
    };
    match (connected, hung) {
        (0, _) => {}
        (1, 0) => return Some(Verdict::ok("one is connected")),
        (connected, 0) => return Some(Verdict::ok(format!("{connected} are connected"))),
        (connected, hung) => {
            let found = format!("{hung} of {connected} {}: silent for seconds", if hung == 1 { "hangs" } else { "hang" });
            let lost = if hung == connected { "Views wait in Redis until one works again." } else { "Nothing: the others make up for it." };
            return Some(Verdict::warn(found).lost(lost).cure(Shell, "systemctl restart inventory-worker"));
        }
    }
    let later = "Nothing yet: views that are accepted from now on wait in Redis, and are refused with 503 when the queue is full.";
    let verdict = match (&facts.server.waiting, &facts.server.owner) {
        (Ok(0), Ok(None)) => Verdict::note("none is connected; no process has used this queue yet").lost("Nothing yet."),
        (Ok(0), _) => Verdict::warn("none is connected, and nothing waits for one").lost(later),
        (Ok(waiting), _) => {
            let wait = if *waiting == 1 { "1 view waits".to_owned() } else { format!("{waiting} views wait") };
            let lost = "Nothing while Redis keeps them: a worker counts them, once. Until then reports that read MySQL lack them, and \
                        when the queue is full views are refused with 503.";
            Verdict::bad(format!("none is connected, and {wait} for one")).lost(lost)
        }
        (Err(error), _) => Verdict::warn(format!("none is connected; what waits is not examined: {error}")).lost(later),
    };
    let verdict = verdict.cure(Shell, "systemctl start inventory-worker");
    Some(verdict.cure(Do, "if it ends again, its log says why: journalctl -u inventory-worker -n 50"))
}

fn separate(facts: &Facts) -> Option<Verdict> {
    let queue = facts.queue_run_id.as_deref()?;
    if queue.is_empty() || facts.info("run_id") != queue {
        return Some(Verdict::ok("another server than the queue's"));
    }
    let lost = "Both are one server, which the programs take for two: its policy is judged as the queue's alone, and cached products \
                take the queue's memory until views are refused.";
    Some(Verdict::warn("the same server as the queue's").lost(lost).cure(Shell, "unset INVENTORY_CACHE_REDIS_URL"))
}

#[cfg(test)]
#[path = "redis_tests.rs"]
mod tests;
