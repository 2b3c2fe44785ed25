//! `migrate` and `migrate status`: the schema of the database.

use crate::args::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::stores;
use checks::doctor::LOST_WITHOUT_TRIGGER;
use domain::Shards;
use serde::Serialize;
use storage::mysql::version_trigger::Trigger;

/// One migration as it is shown.
#[derive(Debug, Serialize)]
struct Line {
    version: u32,
    name: String,
    /// RFC 3339; none where it is still to be applied.
    applied_on: Option<String>,
    /// Whether this run applied it.
    applied_now: bool,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["version", "name", "applied_on", "applied_now"];

    fn cells(&self) -> Vec<String> {
        let applied_on = self.applied_on.clone().unwrap_or_else(|| "missing".to_owned());
        vec![self.version.to_string(), self.name.clone(), applied_on, self.applied_now.to_string()]
    }
}

pub(crate) async fn run(connection: &Connection, shards: Shards, output: &Output) -> Result<Exit, Failure> {
    let before = stores::migrations(connection).await?;
    let migrated = stores::migrate(connection, shards).await?;
    let was_there = |version| before.iter().any(|migration| migration.version == version && migration.applied_on.is_some());
    show(connection, output, |version| !was_there(version)).await?;
    match migrated.applied.len() {
        0 => eprintln!("the schema was up to date"),
        count => eprintln!("{count} migrations applied"),
    }
    if let Trigger::Refused { why, line } = migrated.trigger {
        eprintln!("the trigger of versions was not made ({why})");
        eprintln!("{LOST_WITHOUT_TRIGGER}; an administrator of the server makes it with");
        eprintln!("{line}");
    }
    Ok(Exit::Ok)
}

/// Only shows: a database that still waits for its migrations is no failure.
pub(crate) async fn status(connection: &Connection, output: &Output) -> Result<Exit, Failure> {
    let missing = show(connection, output, |_| false).await?;
    if missing > 0 {
        eprintln!("{missing} migrations are missing: run `inventoryctl migrate`");
    } else if stores::version_trigger(connection).await? == Trigger::Present {
        eprintln!("the trigger of versions is there");
    } else {
        eprintln!("the trigger of versions is not there, or this user may not see it; `inventoryctl migrate` makes it where it may");
        eprintln!("{LOST_WITHOUT_TRIGGER}");
    }
    Ok(Exit::Ok)
}

async fn show(connection: &Connection, output: &Output, is_new: impl Fn(u32) -> bool) -> Result<usize, Failure> {
    let migrations = stores::migrations(connection).await?;
    let line = |migration: storage::mysql::migrations::Migration| Line {
        applied_now: migration.applied_on.is_some() && is_new(migration.version),
        version: migration.version,
        name: migration.name,
        applied_on: migration.applied_on,
    };
    let lines: Vec<_> = migrations.into_iter().map(line).collect();
    output.rows(&lines)?;
    Ok(lines.iter().filter(|line| line.applied_on.is_none()).count())
}
