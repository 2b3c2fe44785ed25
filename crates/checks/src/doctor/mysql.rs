//! The checks of MySQL that its settings answer: is a commit on disk, do our sessions get what they ask for, is there room?

use super::finding::At::{Do, MyCnf, Setting, Sql};
use super::finding::{Check, Verdict};
use super::{LOST_WITHOUT_TRIGGER, clocks, grants, schema};
use std::time::Duration;
use storage::fields::Fields;
use storage::mysql::server::{Server, supported};
use storage::mysql::tail::Followed;
use storage::mysql::version_trigger::{self, Trigger};
use storage::mysql::view_counts::LARGEST_STATEMENT_BYTES;
use telemetry::config::format_duration;

/// A server, and what the programs that use it are told.
pub(super) struct Facts {
    pub(super) server: Server,
    /// `INVENTORY_MYSQL_CONNECTIONS`.
    pub(super) connections: u16,
    pub(super) cache_ttl: Duration,
}

impl Facts {
    fn global(&self, name: &str) -> &str {
        self.server.global.text(name).unwrap_or_default()
    }

    fn is_on(&self, name: &str) -> bool {
        is_on(&self.server.global, name)
    }
}

fn is_on(fields: &Fields, name: &str) -> bool {
    fields.text(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("ON"))
}

#[rustfmt::skip]
pub(super) const CHECKS: &[Check<Facts>] = &[
    Check { name: "version", judge: version,
        rests: "Locking reads that do not wait, JSON_TABLE and CHECK: cache fills, batches of views and stock are made of them." },
    Check { name: "schema", judge: schema::migrations,
        rests: "Every statement of API and worker." },
    Check { name: "shards", judge: schema::shards,
        rests: "The row of a shard is the lock that keeps two workers from counting a batch twice." },
    Check { name: "engines", judge: schema::engines,
        rests: "Row locks and transactions: the fill of the cache, prices, batches of views." },
    Check { name: "flush_at_commit", judge: flush_at_commit,
        rests: "A price that was acknowledged, and a batch of views that Redis was told to forget, survive a power cut." },
    Check { name: "sync_binlog", judge: sync_binlog,
        rests: "With the binlog on, a commit that it lacks is taken back after a crash: what was seen and cached must be in it." },
    Check { name: "doublewrite", judge: doublewrite,
        rests: "A page that was half written at a power cut is repaired." },
    Check { name: "binlog", judge: binlog,
        rests: "Restoring to a point in time, and the tail of the worker, which shows plain SQL of others within 2 s." },
    Check { name: "binlog_format", judge: binlog_format,
        rests: "Sessions at READ COMMITTED can write; the worker can follow what others change with plain SQL." },
    Check { name: "binlog_row_image", judge: binlog_row_image,
        rests: "The tail of the worker tells our own writes from those of others." },
    Check { name: "tail", judge: tail,
        rests: "What others change with plain SQL is shown within 2 s." },
    Check { name: "version_trigger", judge: version_trigger,
        rests: "The ETag of a product moves when plain SQL changes it." },
    Check { name: "isolation", judge: isolation,
        rests: "Each statement of a batch sees what is committed; no gap locks between price writers and batches." },
    Check { name: "sql_mode", judge: sql_mode,
        rests: "A value that does not fit is refused, never cut." },
    Check { name: "time_zone", judge: time_zone,
        rests: "Hours of views and times of prices are UTC." },
    Check { name: "patience", judge: patience,
        rests: "A process that was stopped in mid-transaction loses its locks after 10 s; who waits for a row gives up after 2 s." },
    Check { name: "statement_time", judge: statement_time,
        rests: "A large batch is applied whole, however long its statements take." },
    Check { name: "writable", judge: writable,
        rests: "Prices are written, views are drained." },
    Check { name: "connections", judge: connections,
        rests: "Every API and worker process gets its INVENTORY_MYSQL_CONNECTIONS, and one more to see whether MySQL is there." },
    Check { name: "packet", judge: packet,
        rests: "The largest statement fits: a whole batch of text that is no view, set aside at once." },
    Check { name: "cluster", judge: cluster,
        rests: "There is one writer: a row that is locked is locked for everybody." },
    Check { name: "grants", judge: grants::rights,
        rests: "Each program may do its work, and not much more." },
    Check { name: "clock", judge: |facts| clocks::mysql(&facts.server.clock),
        rests: "Times of changes as products and price histories show them. Nothing of safety." },
];

fn version(facts: &Facts) -> Option<Verdict> {
    let version = facts.global("version");
    Some(match supported(version) {
        Ok(()) => Verdict::ok(version),
        Err(why) => Verdict::bad(why).lost("API and worker refuse to start.").cure(Do, "install MariaDB 10.6+ or MySQL 8.0+"),
    })
}

fn flush_at_commit(facts: &Facts) -> Option<Verdict> {
    let value = facts.global("innodb_flush_log_at_trx_commit");
    let found = format!("innodb_flush_log_at_trx_commit = {value}");
    // 3 is MariaDB's, and syncs twice.
    if matches!(value, "1" | "3") {
        return Some(Verdict::ok(found));
    }
    let lost = "About a second of commits is lost with the host: prices that were answered 200, and views that Redis has \
                forgotten. The cache may show such a price until its TTL ends.";
    Some(durable(found, lost, "innodb_flush_log_at_trx_commit"))
}

fn sync_binlog(facts: &Facts) -> Option<Verdict> {
    let value = facts.server.global.text("sync_binlog").filter(|_| facts.is_on("log_bin"))?;
    let found = format!("sync_binlog = {value}");
    if value == "1" {
        return Some(Verdict::ok(found));
    }
    let lost = "When the host crashes, commits that were seen and cached may be taken back: prices that were answered 200, and \
                views that Redis has forgotten.";
    Some(durable(found, lost, "sync_binlog"))
}

fn durable(found: String, lost: &str, name: &str) -> Verdict {
    Verdict::bad(found).lost(lost).cure(Sql, format!("SET GLOBAL {name} = 1;")).cure(MyCnf, format!("{name} = 1"))
}

fn doublewrite(facts: &Facts) -> Option<Verdict> {
    let value = facts.server.global.text("innodb_doublewrite")?;
    let found = format!("innodb_doublewrite = {value}");
    // MariaDB's `fast` writes twice, too.
    if is_on(&facts.server.global, "innodb_doublewrite") || value.eq_ignore_ascii_case("fast") || value.contains("RECOVER") {
        return Some(Verdict::ok(found));
    }
    let lost = "After a power cut InnoDB may find a torn page and not start; then the last backup is all there is. Harmless only \
                where the disk writes 16 KiB at once.";
    let verdict = Verdict::warn(found).lost(lost).cure(MyCnf, "innodb_doublewrite = ON");
    Some(verdict.cure(Do, "restart the server: it cannot be switched on while it runs"))
}

fn binlog(facts: &Facts) -> Option<Verdict> {
    if facts.is_on("log_bin") {
        return Some(Verdict::ok("log_bin = ON"));
    }
    let ttl = format_duration(facts.cache_ttl);
    let lost = format!(
        "A restore ends at the last backup. Plain SQL of others is shown within the cache's TTL ({ttl}): there is nothing to follow."
    );
    let verdict = Verdict::note("log_bin = OFF").lost(lost).cure(MyCnf, "log_bin = binlog").cure(MyCnf, "server_id = 1");
    Some(verdict.cure(Do, "restart the server: it cannot be switched on while it runs"))
}

fn binlog_format(facts: &Facts) -> Option<Verdict> {
    // MySQL means to remove the setting and leave ROW.
    let value = facts.server.global.text("binlog_format")?;
    let found = format!("binlog_format = {value}");
    if value.eq_ignore_ascii_case("MIXED") {
        let ttl = format_duration(facts.cache_ttl);
        let lost = format!(
            "No worker follows a binlog of statements, which do not tell what rows they change by triggers, views and functions: \
             what others change with plain SQL is shown within the cache's TTL ({ttl}) and not within 2 s."
        );
        let verdict = Verdict::warn(found).lost(lost).cure(Sql, "SET GLOBAL binlog_format = 'ROW';");
        return Some(verdict.cure(MyCnf, "binlog_format = ROW"));
    }
    if !value.eq_ignore_ascii_case("STATEMENT") {
        return Some(Verdict::ok(found));
    }
    let verdict = Verdict::bad(found).lost("API and worker refuse to start: no session of theirs could write.");
    Some(verdict.cure(Sql, "SET GLOBAL binlog_format = 'ROW';").cure(MyCnf, "binlog_format = ROW"))
}

fn binlog_row_image(facts: &Facts) -> Option<Verdict> {
    let value = facts.server.global.text("binlog_row_image").filter(|_| facts.is_on("log_bin"))?;
    let found = format!("binlog_row_image = {value}");
    // NOBLOB leaves out descriptions, which are not looked at.
    if !value.eq_ignore_ascii_case("MINIMAL") {
        return Some(Verdict::ok(found));
    }
    let lost = "The old version of a row is not logged, so that each of our own price writes drops its entry, too: one more miss.";
    let verdict = Verdict::note(found).lost(lost);
    Some(verdict.cure(Sql, "SET GLOBAL binlog_row_image = 'FULL';").cure(MyCnf, "binlog_row_image = FULL"))
}

fn tail(facts: &Facts) -> Option<Verdict> {
    /// A worker that begins, or a burst of changes, has caught up by then.
    const LATE: Duration = Duration::from_secs(10);
    // Said by the check of the binlog.
    if !facts.is_on("log_bin") {
        return None;
    }
    let followed = match &facts.server.tail {
        Ok(followed) => followed,
        Err(error) => return Some(grants::unseen(&facts.server, error, "SELECT", "binlog_tail")),
    };
    let ttl = format_duration(facts.cache_ttl);
    let lost = format!("What others change with plain SQL is shown within the cache's TTL ({ttl}) and not within 2 s.");
    let found = followed.to_string();
    Some(match followed {
        Followed::Closely => Verdict::ok(found),
        Followed::Late(by) if *by < LATE => {
            Verdict::note(found).lost("Nothing yet: a worker has just begun, or there are many changes at once.")
        }
        Followed::Late(_) => {
            let cure = "look at the log of the worker, and whether Redis answers; a burst of changes is over by itself";
            Verdict::warn(found).lost(lost).cure(Do, cure)
        }
        Followed::Not { why: None } => Verdict::note(found).lost(lost).cure(Do, "start inventory-worker"),
        // It ends with the statement that mends it.
        Followed::Not { why: Some(why) } => {
            let verdict = Verdict::warn(found.clone()).lost(lost);
            match why.split_once("; ") {
                Some((_, line)) if line.starts_with("GRANT ") || line.starts_with("SET ") => verdict.cure(Sql, format!("{line};")),
                _ => verdict.cure(Do, "mend that; the worker tries again every few seconds"),
            }
        }
    })
}

fn version_trigger(facts: &Facts) -> Option<Verdict> {
    let server = &facts.server;
    match &server.version_trigger {
        Ok(Trigger::Present) => return Some(Verdict::ok("products_version")),
        Ok(_) => {}
        Err(error) => return Some(grants::unseen(server, error, "TRIGGER", "products")),
    }
    if !grants::has(server, "TRIGGER", "products") {
        let verdict = Verdict::note("this user may not see it");
        return Some(verdict.cure(Do, "to know, run `inventoryctl doctor` as an administrator, or as the user that migrates"));
    }
    let verdict = Verdict::note("not there").lost(format!("Nothing of the cache; {LOST_WITHOUT_TRIGGER}."));
    Some(verdict.cure(Sql, version_trigger::line(&server.database, &server.user)))
}

/// Our sessions set it themselves: only something in between can make it otherwise.
fn session(facts: &Facts, expected: &[(&[&str], &str)], lost: &str) -> Verdict {
    let value = |names: &[&str]| names.iter().find_map(|name| facts.server.session.text(name)).unwrap_or("unknown").to_owned();
    let found: Vec<_> = expected.iter().map(|(names, _)| format!("{} = {}", names[0], value(names))).collect();
    let found = format!("our sessions: {}", found.join(", "));
    if expected.iter().all(|(names, wanted)| value(names).eq_ignore_ascii_case(wanted)) {
        return Verdict::ok(found);
    }
    let cure = "lead INVENTORY_MYSQL_URL to the server itself: a proxy between drops what our sessions set";
    Verdict::bad(found).lost(lost).cure(Do, cure)
}

fn isolation(facts: &Facts) -> Option<Verdict> {
    let names: &[&str] = &["transaction_isolation", "tx_isolation"];
    Some(session(facts, &[(names, "READ-COMMITTED")], "A batch may decide on old rows, and wait for locks that it has no need of."))
}

fn sql_mode(facts: &Facts) -> Option<Verdict> {
    let mode = facts.server.session.text("sql_mode").unwrap_or_default();
    if mode.contains("STRICT_ALL_TABLES") {
        return Some(Verdict::ok("our sessions: STRICT_ALL_TABLES"));
    }
    Some(session(facts, &[(&["sql_mode"], "STRICT_ALL_TABLES")], "A sum or a text that does not fit is cut without a word."))
}

fn time_zone(facts: &Facts) -> Option<Verdict> {
    Some(session(facts, &[(&["time_zone"], "+00:00")], "Times of changes are off by the difference to UTC."))
}

fn patience(facts: &Facts) -> Option<Verdict> {
    let expected: [(&[&str], &str); 3] = [(&["wait_timeout"], "10"), (&["innodb_lock_wait_timeout"], "2"), (&["lock_wait_timeout"], "2")];
    Some(session(facts, &expected, "A stopped process keeps rows locked; requests wait longer than their limit."))
}

/// MariaDB's only; MySQL's limit is for SELECT alone.
fn statement_time(facts: &Facts) -> Option<Verdict> {
    /// As long as the worker waits for a batch, seconds.
    const LEAST: f64 = 10.0;
    let value: f64 = facts.server.session.text("max_statement_time")?.parse().ok()?;
    let found = format!("our sessions: max_statement_time = {value} s");
    if value == 0.0 || value >= LEAST {
        return Some(Verdict::ok(found));
    }
    let lost = "A statement that takes longer is killed and tried again, without end: the drain of that shard stands still.";
    let verdict = Verdict::warn(found).lost(lost).cure(Sql, "SET GLOBAL max_statement_time = 0;");
    Some(verdict.cure(MyCnf, "max_statement_time = 0"))
}

fn writable(facts: &Facts) -> Option<Verdict> {
    let session = ["transaction_read_only", "tx_read_only"].into_iter().find(|name| is_on(&facts.server.session, name));
    let global = ["innodb_read_only", "read_only", "super_read_only"].into_iter().find(|name| facts.is_on(name));
    let Some(name) = global.or(session) else {
        return Some(Verdict::ok("read_only = OFF"));
    };
    let verdict = Verdict::bad(format!("{name} = ON")).lost("Prices answer 503, views stay in the queue until it is full.");
    if global.is_none() {
        // A default of sessions, which makes no replica.
        return Some(verdict.cure(Sql, format!("SET GLOBAL {name} = OFF;")).cure(MyCnf, format!("{name} = OFF")));
    }
    // What is written to a replica is on no other server, and stops it from following.
    let verdict = verdict.cure(Do, "lead INVENTORY_MYSQL_URL to the primary: a server is read-only most often because it is a replica");
    let only_if = "only where this is the primary and nobody made it read-only on purpose:";
    let how = match name {
        "innodb_read_only" => format!("take {name} from its file and restart it"),
        name => format!("SET GLOBAL {name} = OFF, and take it from its file"),
    };
    Some(verdict.cure(Do, format!("{only_if} {how}")))
}

fn connections(facts: &Facts) -> Option<Verdict> {
    /// As in `deploy/mariadb.cnf`.
    const USUAL: u64 = 500;
    let each = u64::from(facts.connections) + 1;
    let pair = 2 * each;
    let most = facts.server.global.number("max_connections")?;
    let own = facts.server.session.number("max_user_connections").filter(|own| *own > 0);
    let peak = facts.server.status.number("max_used_connections").unwrap_or(0);
    let lost = "Connections are refused under load: uncached reads and prices answer 503, the drain falls behind.";
    let raised = USUAL.max(2 * pair);
    let raise = |verdict: Verdict| {
        let verdict = verdict.lost(lost).cure(Sql, format!("SET GLOBAL max_connections = {raised};"));
        verdict.cure(MyCnf, format!("max_connections = {raised}"))
    };
    Some(match own {
        _ if most < pair => raise(Verdict::warn(format!("max_connections = {most}; one API and one worker may need {pair}"))),
        Some(own) if own < each => Verdict::warn(format!("max_user_connections = {own} for this user; a process may need {each}"))
            .lost(lost)
            .cure(Setting, format!("INVENTORY_MYSQL_CONNECTIONS={}", own.saturating_sub(1).max(2))),
        _ if peak * 10 >= most * 9 => raise(Verdict::warn(format!("{peak} of max_connections = {most} were in use at the peak"))),
        _ => Verdict::ok(format!("max_connections = {most}, {peak} at the peak; a process may need {each}")),
    })
}

fn packet(facts: &Facts) -> Option<Verdict> {
    let bytes = facts.server.global.number("max_allowed_packet")?;
    let found = format!("max_allowed_packet = {bytes}");
    if bytes >= LARGEST_STATEMENT_BYTES {
        return Some(Verdict::ok(found));
    }
    let lost = "A shard with much text that is no view would not get it out of its way, and its drain would stand still. Sessions \
                that are open keep the old limit: restart API and worker, or let them rest for 5 s.";
    let verdict = Verdict::warn(found).lost(lost).cure(Sql, format!("SET GLOBAL max_allowed_packet = {LARGEST_STATEMENT_BYTES};"));
    Some(verdict.cure(MyCnf, format!("max_allowed_packet = {LARGEST_STATEMENT_BYTES}")))
}

fn cluster(facts: &Facts) -> Option<Verdict> {
    if facts.is_on("wsrep_on") {
        let size = facts.server.status.text("wsrep_cluster_size").unwrap_or("some");
        let lost = "Nothing, while all programs use one node: a row that is locked there is not locked on the others.";
        let cure = "give all programs the same node in INVENTORY_MYSQL_URL; move them together";
        return Some(Verdict::note(format!("Galera, {size} nodes")).lost(lost).cure(Do, cure));
    }
    let in_group = facts.server.global.text("group_replication_group_name").is_some_and(|name| !name.is_empty());
    if in_group && !facts.is_on("group_replication_single_primary_mode") {
        let lost = "Two primaries commit to one product at a time: the cache may keep the older price until its TTL ends.";
        let cure = "SELECT group_replication_switch_to_single_primary_mode();";
        return Some(Verdict::bad("Group Replication with several primaries").lost(lost).cure(Sql, cure));
    }
    Some(if in_group { Verdict::note("Group Replication with one primary") } else { Verdict::ok("one server") })
}

#[cfg(test)]
#[path = "mysql_tests.rs"]
mod tests;
