//! `doctor`: do the servers keep what our guarantees rest on, and what to type where they do not?
//!
//! Promises to change nothing, to need no more rights than the programs have, and to examine what can be reached
//! whatever cannot. Facts come from `storage`; the files below judge them, a table of checks each.

mod api;
mod clocks;
mod finding;
mod grants;
mod mysql;
mod redis;
mod redis_memory;
mod report;
mod schema;

use crate::args::{Connection, DoctorArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::stores::{mysql as connect, usage};
use finding::At::{Do, Setting, Shell, Sql};
use finding::{Finding, State, Subject, Verdict, judge};
use std::sync::Arc;
use storage::Error;
use storage::mysql::server as mysql_server;
use storage::redis::Roles;
use storage::redis::server::{self as redis_server, Place};
use telemetry::metrics::{Registry, StoreMetrics};

const REACHED: &str = "reached";

/// What rests on a store that can be reached.
const MYSQL_RESTS: &str = "Everything that lasts: prices, counted views, stock.";
const REDIS_RESTS: &str = "Views are accepted, prices can be changed, reads are fast.";

/// What became of one server.
struct Examined {
    findings: Vec<Finding>,
    /// Why it could not be examined.
    failed: Option<Exit>,
}

impl Examined {
    /// One that was not reached, or let us not in.
    fn not(reached: Finding, exit: Exit) -> Self {
        Self { findings: vec![reached], failed: Some(exit) }
    }
}

/// What all Redis servers are judged by.
struct Ours {
    prefix: String,
    /// If MySQL told it.
    deployment: Option<String>,
    queue_run_id: Option<String>,
}

pub(crate) async fn run(args: &DoctorArgs, connection: &Connection, output: &Output) -> Result<Exit, Failure> {
    let stores = &connection.stores;
    let (queue_url, cache_url) = (stores.redis_url().map_err(usage)?, stores.cache_redis_url().map_err(usage)?);
    let prefix = stores.key_prefix.clone();
    let cache = async {
        match &cache_url {
            Some(url) => Some(redis_server::examine(url, &prefix).await),
            None => None,
        }
    };
    let queue = redis_server::examine(&queue_url, &prefix);
    let token = crate::token(connection)?;
    let (mysql, queue, cache, api) =
        tokio::join!(examine_mysql(connection), queue, cache, api::examine(args.api_ops_listen, token.as_deref()));
    let (mysql, deployment) = mysql?;
    let queue_run_id = queue.as_ref().ok().and_then(|server| server.info.text("run_id")).map(str::to_owned);
    let ours = Ours { prefix, deployment, queue_run_id };
    let roles = if cache_url.is_some() { Roles::Queue } else { Roles::Both };
    let mut all = vec![mysql, examined_redis(roles, &queue_url, queue, &ours)?];
    if let Some((url, server)) = cache_url.as_deref().zip(cache) {
        all.push(examined_redis(Roles::Cache, url, server, &ours)?);
    }
    let failed = all.iter().filter_map(|examined| examined.failed).max_by_key(|exit| *exit as u8);
    let findings: Vec<Finding> = all.into_iter().flat_map(|examined| examined.findings).chain(api?).collect();
    match output.format() {
        Format::Table => output.text(&report::text(&findings, report::width()))?,
        Format::Json | Format::Ndjson | Format::Csv => output.rows(&findings)?,
    }
    Ok(exit(failed, &findings))
}

fn exit(failed: Option<Exit>, findings: &[Finding]) -> Exit {
    let deviates = findings.iter().any(|finding| finding.state > State::Note);
    failed.unwrap_or(if deviates { Exit::Conflict } else { Exit::Ok })
}

/// Also returns the id of the deployment, if the database has one.
async fn examine_mysql(connection: &Connection) -> Result<(Examined, Option<String>), Failure> {
    let mysql = connect(connection, &Arc::new(StoreMetrics::new(&Registry::new("inventoryctl"))))?;
    let reached = |verdict| Finding::new(Subject::MySql, REACHED, MYSQL_RESTS, verdict);
    let server = match mysql_server::examine(&mysql).await {
        Ok(server) => server,
        Err(error) => {
            let (exit, verdict) = mysql_away(&mysql.place(), &error);
            return Ok((Examined::not(reached(verdict), exit), None));
        }
    };
    let first = reached(Verdict::ok(format!("{} as {}", mysql.place(), server.user)));
    let deployment = server.deployment.as_ref().ok().cloned().flatten();
    let stores = &connection.stores;
    let facts = mysql::Facts { server, connections: stores.mysql_connections, cache_ttl: stores.cache_ttl };
    let findings = std::iter::once(first).chain(judge(Subject::MySql, mysql::CHECKS, &facts)).collect();
    Ok((Examined { findings, failed: None }, deployment))
}

fn mysql_away(place: &str, error: &Error) -> (Exit, Verdict) {
    let lost = "Cached products are read, everything else of them is answered 503; views are accepted until the queue is full.";
    let verdict = Verdict::bad(format!("{place}: {error}")).lost(lost);
    if mysql_server::is_denied(error) {
        let cure = "set user and password right in INVENTORY_MYSQL_URL (or the file of INVENTORY_MYSQL_URL_FILE)";
        return (Exit::NotAllowed, verdict.cure(Do, cure));
    }
    if mysql_server::is_unknown_database(error) {
        let name = place.rsplit('/').next().unwrap_or_default();
        return (Exit::NotAllowed, verdict.cure(Sql, format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4;")));
    }
    let verdict = verdict.cure(Do, "start the server, or name the right one:");
    (Exit::Unreachable, verdict.cure(Setting, "INVENTORY_MYSQL_URL=mysql://user:password@host:port/database"))
}

fn examined_redis(roles: Roles, url: &str, server: Result<redis_server::Server, Error>, ours: &Ours) -> Result<Examined, Failure> {
    let subject = if roles == Roles::Cache { Subject::Cache } else { Subject::Redis };
    let place = Place::of(url).map_err(usage)?;
    let reached = |verdict| Finding::new(subject, REACHED, REDIS_RESTS, verdict);
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            let (exit, verdict) = redis_away(subject, &place, &error);
            return Ok(Examined::not(reached(verdict), exit));
        }
    };
    let first = reached(Verdict::ok(place.name.clone()));
    let facts = redis::Facts {
        server,
        roles,
        place,
        prefix: ours.prefix.clone(),
        deployment: ours.deployment.clone(),
        queue_run_id: ours.queue_run_id.clone().filter(|_| roles == Roles::Cache),
    };
    Ok(Examined { findings: std::iter::once(first).chain(judge(subject, redis::CHECKS, &facts)).collect(), failed: None })
}

fn redis_away(subject: Subject, place: &Place, error: &Error) -> (Exit, Verdict) {
    let (lost, variable) = match subject {
        Subject::Cache => ("Every read goes to MySQL; prices are answered 503.", "INVENTORY_CACHE_REDIS_URL"),
        _ => ("Views and prices are answered 503; reads go to MySQL.", "INVENTORY_REDIS_URL"),
    };
    let verdict = Verdict::bad(format!("{}: {error}", place.name)).lost(lost);
    let (error, away) = (error.to_string(), Exit::Unreachable);
    match error {
        busy if busy.contains("BUSY") => {
            let verdict = verdict.cure(Shell, format!("{} SCRIPT KILL", place.redis_cli));
            (away, verdict.cure(Do, "find whose script it is: ours end by themselves within tens of ms"))
        }
        denied if ["NOAUTH", "WRONGPASS", "NOPERM", "AuthenticationFailed"].iter().any(|word| denied.contains(word)) => {
            let cure = format!("set user and password right in {variable} (or the file of {variable}_FILE)");
            (Exit::NotAllowed, verdict.cure(Do, cure))
        }
        unknown if unknown.contains("DB index is out of range") => {
            let cure = format!("name a database that the server has: the number that ends {variable}, 0 to 15 as Redis comes");
            (Exit::NotAllowed, verdict.cure(Do, cure))
        }
        _ => {
            let verdict = verdict.cure(Do, "start the server, or name the right one:");
            (away, verdict.cure(Setting, format!("{variable}=redis://host:port/0")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_the_worst() {
        let finding = |state: fn(&'static str) -> Verdict| Finding::new(Subject::Redis, "x", "", state(""));
        let with = |verdict: fn(&'static str) -> Verdict| exit(None, &[finding(Verdict::ok), finding(verdict)]);
        assert_eq!([with(Verdict::ok), with(Verdict::note)], [Exit::Ok; 2]);
        assert_eq!([with(Verdict::warn), with(Verdict::bad)], [Exit::Conflict; 2]);
        for failed in [Exit::NotAllowed, Exit::Unreachable] {
            assert_eq!(exit(Some(failed), &[finding(Verdict::bad)]), failed);
        }
    }
}
