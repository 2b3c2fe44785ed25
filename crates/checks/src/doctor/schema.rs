//! The checks of what the database holds: its migrations, its shards, its tables.

use super::finding::At::{Do, Shell, Sql};
use super::finding::Verdict;
use super::grants::unseen;
use super::mysql::Facts;
use storage::mysql::migrations::Migration;

const MIGRATE: &str = "inventoryctl migrate";

pub(super) fn migrations(facts: &Facts) -> Option<Verdict> {
    let all = match &facts.server.migrations {
        Ok(all) => all,
        Err(error) => return Some(unseen(&facts.server, error, "SELECT", "*")),
    };
    let name = |migration: &Migration| format!("migration {} ({})", migration.version, migration.name);
    if let Some(missing) = all.iter().find(|migration| migration.applied_on.is_none()) {
        let found = format!("lacks {}", name(missing));
        return Some(Verdict::bad(found).lost("API and worker refuse to start.").cure(Shell, MIGRATE));
    }
    if let Some(newest) = facts.server.unknown_migrations.iter().max() {
        let found = format!("at migration {newest}, which this program does not know");
        let lost = "A newer release changed the tables; what this one does with them was never tried.";
        return Some(Verdict::warn(found).lost(lost).cure(Do, "use the programs of the release that migrated the database"));
    }
    Some(Verdict::ok(format!("at {}", all.last().map(name).unwrap_or_default())))
}

pub(super) fn shards(facts: &Facts) -> Option<Verdict> {
    let shards = match &facts.server.shards {
        Ok(shards) => shards,
        Err(error) => return Some(unseen(&facts.server, error, "SELECT", "view_shards")),
    };
    let Some(&highest) = shards.last() else {
        return Some(Verdict::bad("view_shards has no rows").lost("API and worker refuse to start.").cure(Shell, MIGRATE));
    };
    let missing: Vec<u16> = (0..highest).filter(|shard| !shards.contains(shard)).collect();
    if missing.is_empty() {
        return Some(Verdict::ok(format!("{} of them", shards.len())));
    }
    let list = |form: fn(&u16) -> String| missing.iter().map(form).collect::<Vec<_>>().join(", ");
    let found = format!("view_shards goes up to {highest} and lacks {}", list(u16::to_string));
    let lost = "The number of rows is the number of shards: products are dealt out wrongly, and views of a shard without its row \
                are never drained.";
    let cure = format!("INSERT INTO `{}`.view_shards (shard) VALUES {};", facts.server.database, list(|shard| format!("({shard})")));
    Some(Verdict::bad(found).lost(lost).cure(Sql, cure).cure(Do, "restart API and worker: they read the number at start"))
}

pub(super) fn engines(facts: &Facts) -> Option<Verdict> {
    let tables = match &facts.server.tables {
        Ok(tables) => tables,
        Err(error) => return Some(unseen(&facts.server, error, "SELECT", "*")),
    };
    let others: Vec<_> = tables.iter().filter(|table| table.engine != "InnoDB").collect();
    if others.is_empty() {
        return Some(Verdict::ok(format!("InnoDB, {} tables", tables.len())));
    }
    let found: Vec<_> = others.iter().map(|table| format!("{} is {}", table.name, table.engine)).collect();
    let lost = "Such a table has neither row locks nor rollback: half a batch may stay, and a cache fill may store what is just \
                being changed.";
    let cure = |verdict: Verdict, table: &&storage::mysql::server::Table| {
        verdict.cure(Sql, format!("ALTER TABLE `{}`.`{}` ENGINE = InnoDB;", facts.server.database, table.name))
    };
    Some(others.iter().fold(Verdict::bad(found.join(", ")).lost(lost), cure))
}
