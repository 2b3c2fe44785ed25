//! `doctor`: do the servers keep what our guarantees rest on, and what to type where they do not?
//!
//! Promises to change nothing, to need no more rights than the programs have, and to examine what can be reached
//! whatever cannot. Facts come from `storage`; the files below judge them, a table of checks each.

pub mod clocks;
pub mod finding;
mod grants;
mod mysql;
mod redis;
mod redis_memory;
mod schema;

use finding::At::{Do, Setting, Shell, Sql};
use finding::{Finding, Subject, Verdict, judge};
use storage::mysql::server as mysql_server;
use storage::redis::Roles;
use storage::redis::server::{self as redis_server, Place};
use storage::settings::StoreArgs;
use storage::{Error, MySql};

const REACHED: &str = "reached";

/// What rests on a store that can be reached.
const MYSQL_RESTS: &str = "Everything that lasts: prices, counted views, stock.";
const REDIS_RESTS: &str = "Views are accepted, prices can be changed, reads are fast.";

/// What the trigger of versions is for. The cache is right without it.
pub const LOST_WITHOUT_TRIGGER: &str =
    "without it the ETag of a product does not move when plain SQL changes it: clients with If-None-Match may keep the old one";

/// Why a server could not be examined; one that is away weighs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failed {
    NotAllowed,
    Unreachable,
}

/// What became of the servers, or of one of them.
#[derive(Debug, Default)]
pub struct Examined {
    pub findings: Vec<Finding>,
    /// The worst of those that could not be examined.
    pub failed: Option<Failed>,
}

impl Examined {
    /// One that was not reached, or let us not in.
    fn not(reached: Finding, failed: Failed) -> Self {
        Self { findings: vec![reached], failed: Some(failed) }
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.failed = self.failed.max(other.failed);
    }
}

/// What all Redis servers are judged by.
struct Ours {
    prefix: String,
    /// If MySQL told it.
    deployment: Option<String>,
    queue_run_id: Option<String>,
}

/// Examines the servers of these settings, MySQL through a handle that need not have reached it; a few dozen short calls.
///
/// # Errors
/// A URL of Redis that cannot be used.
pub async fn examine(stores: &StoreArgs, mysql: &MySql) -> Result<Examined, String> {
    let (queue_url, cache_url) = (stores.redis_url()?, stores.cache_redis_url()?);
    let prefix = stores.key_prefix.clone();
    let cache = async {
        match &cache_url {
            Some(url) => Some(redis_server::examine(url, &prefix).await),
            None => None,
        }
    };
    let queue = redis_server::examine(&queue_url, &prefix);
    let ((mut all, deployment), queue, cache) = tokio::join!(examine_mysql(stores, mysql), queue, cache);
    let queue_run_id = queue.as_ref().ok().and_then(|server| server.info.text("run_id")).map(str::to_owned);
    let ours = Ours { prefix, deployment, queue_run_id };
    let roles = if cache_url.is_some() { Roles::Queue } else { Roles::Both };
    all.add(examined_redis(roles, &queue_url, queue, &ours)?);
    if let Some((url, server)) = cache_url.as_deref().zip(cache) {
        all.add(examined_redis(Roles::Cache, url, server, &ours)?);
    }
    Ok(all)
}

/// Also returns the id of the deployment, if the database has one.
async fn examine_mysql(stores: &StoreArgs, mysql: &MySql) -> (Examined, Option<String>) {
    let reached = |verdict| Finding::new(Subject::MySql, REACHED, MYSQL_RESTS, verdict);
    let server = match mysql_server::examine(mysql).await {
        Ok(server) => server,
        Err(error) => {
            let (failed, verdict) = mysql_away(&mysql.place(), &error);
            return (Examined::not(reached(verdict), failed), None);
        }
    };
    let first = reached(Verdict::ok(format!("{} as {}", mysql.place(), server.user)));
    let deployment = server.deployment.as_ref().ok().cloned().flatten();
    let facts = mysql::Facts { server, connections: stores.mysql_connections, cache_ttl: stores.cache_ttl };
    let findings = std::iter::once(first).chain(judge(Subject::MySql, mysql::CHECKS, &facts)).collect();
    (Examined { findings, failed: None }, deployment)
}

fn mysql_away(place: &str, error: &Error) -> (Failed, Verdict) {
    let lost = "Cached products are read, everything else of them is answered 503; views are accepted until the queue is full.";
    let verdict = Verdict::bad(format!("{place}: {error}")).lost(lost);
    if mysql_server::is_wrong_login(error) {
        let cure = "set user and password right in INVENTORY_MYSQL_URL (or the file of INVENTORY_MYSQL_URL_FILE)";
        return (Failed::NotAllowed, verdict.cure(Do, cure));
    }
    if mysql_server::is_denied(error) {
        let cure = "the server knows this user, who has no right there yet: run deploy/grants.sql as an administrator, with the names of \
                    your database and users in it; its head says what comes before";
        return (Failed::NotAllowed, verdict.cure(Do, cure));
    }
    if mysql_server::is_unknown_database(error) {
        let name = place.rsplit('/').next().unwrap_or_default();
        return (Failed::NotAllowed, verdict.cure(Sql, format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4;")));
    }
    let verdict = verdict.cure(Do, "start the server, or name the right one:");
    (Failed::Unreachable, verdict.cure(Setting, "INVENTORY_MYSQL_URL=mysql://user:password@host:port/database"))
}

fn examined_redis(roles: Roles, url: &str, server: Result<redis_server::Server, Error>, ours: &Ours) -> Result<Examined, String> {
    let subject = if roles == Roles::Cache { Subject::Cache } else { Subject::Redis };
    let place = Place::of(url)?;
    let reached = |verdict| Finding::new(subject, REACHED, REDIS_RESTS, verdict);
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            let (failed, verdict) = redis_away(subject, &place, &error);
            return Ok(Examined::not(reached(verdict), failed));
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

fn redis_away(subject: Subject, place: &Place, error: &Error) -> (Failed, Verdict) {
    let (lost, variable) = match subject {
        Subject::Cache => ("Every read goes to MySQL; prices are answered 503.", "INVENTORY_CACHE_REDIS_URL"),
        _ => ("Views and prices are answered 503; reads go to MySQL.", "INVENTORY_REDIS_URL"),
    };
    let verdict = Verdict::bad(format!("{}: {error}", place.name)).lost(lost);
    let (error, away) = (error.to_string(), Failed::Unreachable);
    match error {
        busy if busy.contains("BUSY") => {
            let verdict = verdict.cure(Shell, format!("{} SCRIPT KILL", place.redis_cli));
            (away, verdict.cure(Do, "find whose script it is: ours end by themselves within tens of ms"))
        }
        denied if ["NOAUTH", "WRONGPASS", "NOPERM", "AuthenticationFailed"].iter().any(|word| denied.contains(word)) => {
            let cure = format!("set user and password right in {variable} (or the file of {variable}_FILE)");
            (Failed::NotAllowed, verdict.cure(Do, cure))
        }
        unknown if unknown.contains("DB index is out of range") => {
            let cure = format!("name a database that the server has: the number that ends {variable}, 0 to 15 as Redis comes");
            (Failed::NotAllowed, verdict.cure(Do, cure))
        }
        _ => {
            let verdict = verdict.cure(Do, "start the server, or name the right one:");
            (away, verdict.cure(Setting, format!("{variable}=redis://host:port/0")))
        }
    }
}
