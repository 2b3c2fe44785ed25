//! The checks of a Redis that is or gets full: what it throws out, and when.

use super::finding::At::{Do, Shell};
use super::finding::Verdict;
use super::redis::Facts;
use storage::redis::Roles;

const MIB: u64 = 1024 * 1024;

pub(super) fn policy(facts: &Facts) -> Option<Verdict> {
    let policy = facts.info("maxmemory_policy");
    let found = format!("maxmemory-policy {policy}, for {}", facts.roles.name());
    let wanted = match facts.roles {
        Roles::Cache => return Some(Verdict::ok(found)),
        Roles::Queue => "noeviction",
        Roles::Both => "volatile-lfu",
    };
    if policy == wanted || (facts.roles == Roles::Both && policy == "volatile-lru") {
        return Some(Verdict::ok(found));
    }
    let verdict = if policy.starts_with("allkeys") {
        Verdict::bad(found).lost("API and worker refuse to start: a full Redis would throw out views that wait for MySQL.")
    } else if facts.roles == Roles::Queue {
        Verdict::warn(found).lost("No view; but the cached totals of views go first, and every read of a product asks MySQL for them.")
    } else if policy == "noeviction" {
        Verdict::warn(found).lost("Cached products fill Redis up until views are refused: nothing is thrown out to make room.")
    } else {
        Verdict::warn(found).lost("Products that are read most are thrown out as soon as those that nobody reads.")
    };
    Some(facts.set(verdict, "maxmemory-policy", wanted))
}

pub(super) fn limit(facts: &Facts) -> Option<Verdict> {
    let (used, limit, machine) = (facts.number("used_memory"), facts.number("maxmemory"), facts.number("total_system_memory"));
    if limit == 0 {
        let found = format!("no maxmemory; {} MiB used", used / MIB);
        let lost = "Nothing while there is memory. A queue that MySQL does not drain grows until the kernel kills redis-server.";
        return Some(limited(facts, Verdict::note(found).lost(lost), used, machine));
    }
    let found = format!("{} of {} MiB used ({} %)", used / MIB, limit / MIB, u128::from(used) * 100 / u128::from(limit));
    if machine > 0 && limit > machine {
        let lost = "The kernel kills redis-server before Redis itself makes room or refuses.";
        let found = format!("maxmemory is {} MiB on a machine with {} MiB", limit / MIB, machine / MIB);
        return Some(limited(facts, Verdict::warn(found).lost(lost), used, machine));
    }
    // A shared one is full when the cache is warm, and makes room by itself.
    if facts.roles != Roles::Queue || u128::from(used) * 10 < u128::from(limit) * 8 {
        return Some(Verdict::ok(found));
    }
    let lost = "Little: past the limit views are answered 503 until the worker has made room.";
    let verdict = Verdict::warn(found).lost(lost).cure(Shell, "inventoryctl queue status --watch");
    Some(verdict.cure(Do, "see that workers run and MySQL answers; raise maxmemory if the machine has more"))
}

/// Half of the machine, or twice of what is used: the other half is for the rewrite of the log and for others.
fn limited(facts: &Facts, verdict: Verdict, used: u64, machine: u64) -> Verdict {
    let bytes = (machine / 2).max(used.saturating_mul(2)).max(64 * MIB);
    facts.set(verdict, "maxmemory", &format!("{}mb", bytes / MIB))
}

pub(super) fn evicted(facts: &Facts) -> Option<Verdict> {
    let evicted = facts.number("evicted_keys");
    let found = format!("{evicted} keys since redis-server started");
    let policy = facts.info("maxmemory_policy");
    if evicted == 0 || !facts.has_queue() {
        return Some(Verdict::ok(found));
    }
    if policy.starts_with("volatile") {
        return Some(
            Verdict::note(found).lost("Nothing: under this policy only what has a TTL goes. A larger cache would be hit more often."),
        );
    }
    let lost = "Perhaps views: the policy was another when they went. `queue status` counts what is lost.";
    let verdict = Verdict::warn(found).lost(lost).cure(Shell, "inventoryctl queue status");
    Some(verdict.cure(Shell, format!("{} CONFIG RESETSTAT", facts.place.redis_cli)))
}
