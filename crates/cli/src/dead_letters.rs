//! `dead-letters`: what could not be counted, listed, shown, replayed and dropped.
//!
//! Promises that whatever stops it, the same command again does the rest and nothing counts twice.

use crate::args::{LettersArgs, WhichArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::product;
use crate::progress::Progress;
use crate::stores::Stores;
use domain::product::time_text;
use serde::Serialize;
use std::collections::BTreeSet;
use storage::letters::{self, Outcome, Stopped};
use storage::mysql::dead_letters::{self, Group, Letter, MOST_LISTED, Selection};
use storage::{Kind, MySql};

/// Letters that share state, reason and product.
#[derive(Debug, Serialize)]
struct GroupRow {
    state: String,
    reason: String,
    product_id: Option<u64>,
    /// Then a replay counts their views.
    product_exists: bool,
    letters: u64,
    views: u64,
    oldest: String,
    newest: String,
}

impl From<Group> for GroupRow {
    fn from(group: Group) -> Self {
        let Group { state, reason, product_id, product_exists, letters, views, oldest, newest } = group;
        Self { state, reason, product_id, product_exists, letters, views, oldest: time_text(oldest), newest: time_text(newest) }
    }
}

impl Row for GroupRow {
    const COLUMNS: &'static [&'static str] = &["state", "reason", "product_id", "product_exists", "letters", "views", "oldest", "newest"];

    fn cells(&self) -> Vec<String> {
        let product = self.product_id.map(|id| id.to_string()).unwrap_or_default();
        let numbers = [self.letters, self.views].map(|number| number.to_string());
        let head = [self.state.clone(), self.reason.clone(), product, self.product_exists.to_string()];
        head.into_iter().chain(numbers).chain([self.oldest.clone(), self.newest.clone()]).collect()
    }
}

/// One letter, whole.
#[derive(Debug, Serialize)]
struct LetterRow {
    id: u64,
    state: String,
    reason: String,
    product_id: Option<u64>,
    hour: Option<String>,
    views: u64,
    created_at: String,
    updated_at: String,
    shard: u16,
    batch: String,
    position: Option<u32>,
    detail: String,
    /// The first kilobyte of text that is no record; what is not printable ASCII is escaped as `\x00`.
    payload: Option<String>,
}

impl From<Letter> for LetterRow {
    fn from(letter: Letter) -> Self {
        let Letter { id, state, reason, detail, shard, batch, position, product_id, hour, views, payload, created_at, updated_at } = letter;
        let (hour, payload) = (hour.map(time_text), payload.map(|bytes| bytes.escape_ascii().to_string()));
        let (created_at, updated_at) = (time_text(created_at), time_text(updated_at));
        Self { id, state, reason, product_id, hour, views, created_at, updated_at, shard, batch, position, detail, payload }
    }
}

impl Row for LetterRow {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "state",
        "reason",
        "product_id",
        "hour",
        "views",
        "created_at",
        "updated_at",
        "shard",
        "batch",
        "position",
        "detail",
        "payload",
    ];

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let (product, position) = (number(self.product_id), number(self.position.map(u64::from)));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.id.to_string(),
            self.state.clone(),
            self.reason.clone(),
            product,
            text(&self.hour),
            self.views.to_string(),
            self.created_at.clone(),
            self.updated_at.clone(),
            self.shard.to_string(),
            self.batch.clone(),
            position,
            self.detail.clone(),
            text(&self.payload),
        ]
    }
}

/// What a replay or a drop did.
#[derive(Debug, Serialize)]
struct Report {
    /// Letters replayed or dropped now.
    done: u64,
    /// Their views.
    views: u64,
    /// Replayed or dropped before.
    already: u64,
    /// Still dead.
    refused: u64,
    /// Named, but there is no such letter.
    missing: u64,
    dry_run: bool,
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &["done", "views", "already", "refused", "missing", "dry_run"];

    fn cells(&self) -> Vec<String> {
        let numbers = [self.done, self.views, self.already, self.refused, self.missing].map(|number| number.to_string());
        numbers.into_iter().chain([self.dry_run.to_string()]).collect()
    }
}

pub(crate) async fn list(args: &LettersArgs, mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    let product_id = match &args.product {
        Some(name) => Some(product::id_named(name, mysql).await?),
        None => None,
    };
    let selection = Selection { ids: None, reason: args.reason, product_id };
    // One more than asked for tells whether there are more.
    let (limit, ask) = (args.limit as usize, u64::from(args.limit) + 1);
    let found = if args.each {
        let mut letters = dead_letters::list(mysql, &selection, args.all, ask).await?;
        let found = letters.len();
        letters.truncate(limit);
        output.rows(&letters.into_iter().map(LetterRow::from).collect::<Vec<_>>())?;
        found
    } else {
        let mut groups = dead_letters::groups(mysql, &selection, args.all, ask).await?;
        let found = groups.len();
        groups.truncate(limit);
        output.rows(&groups.into_iter().map(GroupRow::from).collect::<Vec<_>>())?;
        found
    };
    match found {
        0 => eprintln!("there are no such dead letters"),
        found if found > limit => eprintln!("there are more than these {limit}: raise --limit (up to {})", MOST_LISTED - 1),
        _ => {}
    }
    Ok(Exit::Ok)
}

pub(crate) async fn show(id: u64, mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    let letter = dead_letters::find(mysql, id).await?;
    output.one(&LetterRow::from(letter.ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no dead letter {id}")))?))?;
    Ok(Exit::Ok)
}

pub(crate) async fn replay(which: &WhichArgs, dry_run: bool, stores: &Stores, output: &Output) -> Result<Exit, Failure> {
    let selection = selection(which, &stores.mysql).await?;
    let progress = Progress::start("letters", None);
    let outcome = letters::replay(&stores.mysql, &stores.redis, &selection, dry_run, |letters| progress.advance(letters)).await;
    progress.finish();
    report(outcome, dry_run, output)
}

/// Without `--yes` it only says what it would drop.
pub(crate) async fn drop(which: &WhichArgs, yes: bool, mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    let selection = selection(which, mysql).await?;
    if yes {
        return report(letters::drop_all(mysql, &selection).await, false, output);
    }
    let (letters, views) = dead_letters::sum(mysql, &selection).await?;
    let what = format!("{letters} dead letters with {views} views would be dropped for good");
    Err(Failure::new(Exit::Usage, format!("{what}; nothing was changed: add --yes to do it")))
}

async fn selection(which: &WhichArgs, mysql: &MySql) -> Result<Selection, Failure> {
    let product_id = match &which.product {
        Some(name) => Some(product::id_named(name, mysql).await?),
        None => None,
    };
    let ids: BTreeSet<u64> = which.ids.iter().copied().collect();
    Ok(Selection { ids: (!ids.is_empty()).then_some(ids), reason: which.reason, product_id })
}

fn report(outcome: Outcome, dry_run: bool, output: &Output) -> Result<Exit, Failure> {
    for (id, why) in &outcome.told {
        eprintln!("dead letter {id}: {why}");
    }
    for id in outcome.missing.iter().take(letters::MOST_TOLD) {
        eprintln!("dead letter {id}: there is no such letter");
    }
    let Outcome { done, views, already, refused, missing, stopped, .. } = outcome;
    let missing = missing.len() as u64;
    output.one(&Report { done, views, already, refused, missing, dry_run })?;
    match stopped {
        Some(Stopped::Paused(hold)) => {
            let cure = "a replay would write views to MySQL; `inventoryctl queue resume` first";
            Err(Failure::new(Exit::Conflict, format!("the queue is {hold}; {cure}")))
        }
        Some(Stopped::Store(error)) => {
            let unknown = error.kind() == Kind::Unknown;
            let Failure { exit, message } = error.into();
            let cure = "run the same command again: nothing counts twice";
            let outcome = if unknown { "the outcome of the last piece is unknown" } else { "the rest was not done" };
            Err(Failure::new(exit, format!("{message}; {outcome}; {cure}")))
        }
        None if missing > 0 && done + already + refused == 0 => Ok(Exit::NotFound),
        None if missing + refused > 0 => Ok(Exit::SomeFailed),
        None => {
            if done + already == 0 {
                eprintln!("there are no such dead letters");
            }
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn text_that_is_no_record_is_shown_with_what_cannot_be_printed_escaped() {
        let at = DateTime::from_timestamp(1_294_135_200, 0).unwrap();
        let letter = Letter {
            id: 7,
            state: "dead".into(),
            reason: "unparsable".into(),
            detail: "is not UTF-8".into(),
            shard: 0,
            batch: "b".into(),
            position: Some(3),
            product_id: None,
            hour: None,
            views: 0,
            payload: Some(b"1 \x1b[2J\xff\n".to_vec()),
            created_at: at,
            updated_at: at,
        };
        let row = LetterRow::from(letter);
        assert_eq!(row.payload.as_deref(), Some("1 \\x1b[2J\\xff\\n"));
        assert_eq!(row.cells().len(), LetterRow::COLUMNS.len());
    }
}
