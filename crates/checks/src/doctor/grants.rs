//! The check of the user's rights against `deploy/grants.sql`, which is read here as it is shipped.
//!
//! Programs may share a user or have one each. Who may change rows of a program is taken for that program.

use super::finding::At::Sql;
use super::finding::Verdict;
use super::mysql::Facts;
use std::collections::BTreeSet;
use storage::Error;
use storage::mysql::server::{Grant, Server, is_denied};

const GRANTS: &str = include_str!("../../../../deploy/grants.sql");

/// Rights that reach beyond one database; who has one of them is an administrator.
const FAR: [&str; 4] = ["ALL PRIVILEGES", "SUPER", "CREATE USER", "SYSTEM_USER"];

/// What stands for the whole server in a grant.
const SERVER: &str = "*.*";

/// Rights that MariaDB shows under another name than the one that both servers take.
const MARIADB_NAMES: [(&str, &str); 1] = [("REPLICATION CLIENT", "BINLOG MONITOR")];

/// What one program needs.
#[derive(Debug)]
struct Duty {
    program: &'static str,
    lines: Vec<Line>,
}

/// Rights on one table, on all of the database (`*`), or on the server (`*.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    rights: &'static str,
    table: &'static str,
}

/// Reads `GRANT INSERT, UPDATE ON inventory.products TO inventory_api;` and `GRANT REPLICATION SLAVE ON *.* TO inventory_worker;`.
fn duties() -> Vec<Duty> {
    let mut duties: Vec<Duty> = Vec::new();
    for line in GRANTS.lines() {
        let Some((rights, rest)) = line.strip_prefix("GRANT ").and_then(|line| line.split_once(" ON ")) else { continue };
        let Some((on, program)) = rest.trim_end_matches(';').split_once(" TO inventory_") else { continue };
        let table = on.strip_prefix("inventory.").unwrap_or(on);
        let line = Line { rights, table };
        match duties.iter_mut().find(|duty| duty.program == program) {
            Some(duty) => duty.lines.push(line),
            None => duties.push(Duty { program, lines: vec![line] }),
        }
    }
    duties
}

pub(super) fn rights(facts: &Facts) -> Option<Verdict> {
    let server = &facts.server;
    let grants = match &server.grants {
        Ok(grants) => grants,
        Err(error) => return Some(Verdict::note(format!("cannot be seen: {error}"))),
    };
    let duties = duties();
    let missing = |line: &Line| {
        let missing = line.rights.split(", ").filter(|right| !may(grants, &server.database, right, line.table));
        missing.collect::<Vec<_>>().join(", ")
    };
    let held = |line: &Line| missing(line).is_empty();
    let is_whole = |duty: &&Duty| duty.lines.iter().all(held);
    let complete: Vec<_> = duties.iter().filter(is_whole).map(|duty| duty.program).collect();
    // Who migrates may change every row, and that tells nothing of what else it does.
    let migrates = complete.contains(&"migrate");
    let mut broken: Vec<_> = duties.iter().filter(|duty| !migrates && is_of(duty, &duties, server, grants) && !is_whole(duty)).collect();
    if complete.is_empty() && broken.is_empty() {
        // Whose it is cannot be told: that of which most is there, the API before the worker.
        let count = |duty: &&Duty| duty.lines.iter().filter(|line| held(line)).count();
        broken.extend(duties.iter().rev().filter(|duty| duty.program != "migrate").max_by_key(count));
    }
    if broken.is_empty() {
        return Some(enough(server, grants, &complete));
    }
    let programs: Vec<_> = broken.iter().map(|duty| duty.program).collect();
    let lines = broken.iter().flat_map(|duty| &duty.lines).filter(|line| !held(line));
    let lines: BTreeSet<(&str, String)> = lines.map(|line| (line.table, missing(line))).collect();
    let what: Vec<_> = lines.iter().map(|(table, rights)| format!("{rights} on {table}")).collect();
    let found = format!("{} lacks {}", server.user, what.join("; "));
    let lost = format!("What needs it fails when this user does it: it is part of what {} needs.", programs.join(" and "));
    // The rights of roles do not show: the server may allow what is missing here.
    let verdict = if server.has_roles { Verdict::note(format!("{found}, unless through a role")) } else { Verdict::bad(found) };
    Some(lines.iter().fold(verdict.lost(lost), |verdict, (table, rights)| verdict.cure(Sql, grant(server, rights, table))))
}

/// Whether the user may change rows of a table that this program, and no other, changes.
fn is_of(duty: &Duty, duties: &[Duty], server: &Server, grants: &[Grant]) -> bool {
    let changes = |line: &&Line| line.table != "*" && line.rights.contains("UPDATE");
    let changed_by = |table: &str| duties.iter().filter(|duty| duty.lines.iter().filter(changes).any(|line| line.table == table)).count();
    let own = duty.lines.iter().filter(changes).filter(|line| changed_by(line.table) == 1);
    own.map(|line| line.table).any(|table| may(grants, &server.database, "UPDATE", table))
}

fn enough(server: &Server, grants: &[Grant], complete: &[&str]) -> Verdict {
    let found = format!("{} may do what these need: {}", server.user, complete.join(", "));
    if !grants.iter().any(|grant| grant.on == "*.*" && grant.rights.iter().any(|right| FAR.contains(&right.as_str()))) {
        return Verdict::ok(found);
    }
    let lost = "Nothing here; a fault or a thief could do anything to the server. deploy/grants.sql has the least that is needed.";
    Verdict::note(format!("{}, who is an administrator", server.user)).lost(lost)
}

fn may(grants: &[Grant], database: &str, right: &str, table: &str) -> bool {
    let other_name = MARIADB_NAMES.iter().find(|(name, _)| *name == right).map_or(right, |(_, other)| other);
    let has = |grant: &Grant| grant.rights.iter().any(|held| [right, other_name, "ALL PRIVILEGES", "ALL"].contains(&held.as_str()));
    grants.iter().any(|grant| has(grant) && covers(&grant.on, database, table))
}

/// Whether the user has a right on a table, as far as that shows.
pub(super) fn has(server: &Server, right: &str, table: &str) -> bool {
    server.grants.as_ref().is_ok_and(|grants| may(grants, &server.database, right, table))
}

fn covers(on: &str, database: &str, table: &str) -> bool {
    match on.rsplit_once('.') {
        Some(("*", "*")) => true,
        // Only that covers the server.
        _ if table == SERVER => false,
        Some((pattern, "*")) => is_like(pattern.as_bytes(), database.as_bytes()),
        Some((name, one)) => name == database && one == table,
        None => false,
    }
}

/// A grant on a database is a pattern of LIKE.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => (0..=text.len()).any(|taken| is_like(rest, &text[taken..])),
        ([b'\\', wanted, rest @ ..], [found, text @ ..]) => wanted == found && is_like(rest, text),
        ([b'_', rest @ ..], [_, text @ ..]) => is_like(rest, text),
        ([wanted, rest @ ..], [found, text @ ..]) => wanted == found && is_like(rest, text),
        _ => false,
    }
}

/// The statement that gives the user a right.
fn grant(server: &Server, rights: &str, table: &str) -> String {
    let (name, host) = server.user.rsplit_once('@').unwrap_or((&server.user, "%"));
    let on = match table {
        SERVER => SERVER.to_owned(),
        "*" => format!("`{}`.*", server.database),
        table => format!("`{}`.`{table}`", server.database),
    };
    format!("GRANT {rights} ON {on} TO '{name}'@'{host}';")
}

/// What could not be examined: no fault of the server, but of our rights or of what is not there yet.
pub(super) fn unseen(server: &Server, error: &Error, right: &str, table: &str) -> Verdict {
    let verdict = Verdict::note(format!("not examined: {error}"));
    if !is_denied(error) {
        return verdict;
    }
    verdict.lost(format!("This check needs {right} on {table}.")).cure(Sql, grant(server, right, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_grants_name_what_each_program_needs() {
        let programs: Vec<_> = duties().iter().map(|duty| (duty.program, duty.lines.len())).collect();
        assert_eq!(programs, [("migrate", 1), ("api", 12), ("worker", 18)]);
        assert_eq!(duties()[2].lines[17], Line { rights: "REPLICATION SLAVE, REPLICATION CLIENT", table: SERVER });
        assert_eq!(duties()[1].lines[1], Line { rights: "INSERT, UPDATE", table: "products" });
    }

    #[test]
    fn a_grant_covers_a_table_as_the_server_means_it() {
        for (on, covered) in [
            ("*.*", true),
            ("shop_1.*", true),
            ("shop\\_1.*", true),
            ("sh%.*", true),
            ("shop\\_2.*", false),
            ("shop_1.products", true),
            ("shop_1.stock", false),
            ("shopx1.products", false),
        ] {
            assert_eq!(covers(on, "shop_1", "products"), covered, "{on}");
            assert_eq!(covers(on, "shop_1", SERVER), on == SERVER, "{on}");
        }
    }

    #[test]
    fn a_right_is_known_by_both_of_its_names() {
        let held = |right: &str| [Grant { rights: vec![right.to_owned()], on: SERVER.to_owned() }];
        for name in ["REPLICATION CLIENT", "BINLOG MONITOR", "ALL PRIVILEGES"] {
            assert!(may(&held(name), "shop", "REPLICATION CLIENT", SERVER), "{name}");
        }
        assert!(!may(&held("REPLICATION SLAVE"), "shop", "REPLICATION CLIENT", SERVER));
    }
}
