//! `price undo`: takes back what a batch of prices set.
//!
//! Promises that a price which anybody has changed since stays. In pieces, each one transaction; running it again goes on
//! with what is left.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::progress::Progress;
use catalog::{Outcome, Undone, UndonePiece};
use checks::compare::shown;
use domain::{Money, ProductId};
use serde::Serialize;
use serde_json::{Value, json};
use telemetry::stop::Shutdown;
use uuid::Uuid;

/// What became of a product.
#[derive(Debug, Serialize)]
struct Line {
    product_id: u64,
    sku: Option<String>,
    /// `restored`, `changed_since` or `gone`.
    status: &'static str,
    /// The price that the batch set.
    from: Value,
    /// The price before the batch.
    to: Value,
    /// The batch that took it back before.
    undone_by: Option<String>,
}

impl Line {
    fn of(undone: Undone) -> Self {
        let money = |money: Option<Money>| json!(money);
        let (status, undone_by) = match undone.outcome {
            Outcome::Restored => ("restored", None),
            Outcome::ChangedSince { undone_by } => ("changed_since", undone_by),
            Outcome::Gone => ("gone", None),
        };
        let sku = undone.sku.map(|sku| sku.to_string());
        Self { product_id: undone.product_id.get(), sku, status, from: money(undone.from), to: money(undone.to), undone_by }
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["product_id", "sku", "status", "from", "to", "undone_by"];

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (from, to) = (shown(&self.from), shown(&self.to));
        vec![self.product_id.to_string(), text(&self.sku), self.status.to_owned(), from, to, text(&self.undone_by)]
    }
}

/// Takes a batch back, piece by piece, with `undo`, which is given the id of the undo and where its piece begins.
pub(crate) async fn run<F>(output: &Output, undo: impl Fn(Uuid, Option<ProductId>) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<UndonePiece, Failure>>,
{
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let (id, progress) = (Uuid::new_v4(), Progress::start("prices", None));
    let (mut lines, mut after) = (Vec::new(), None);
    let ended = loop {
        match undo(id, after).await {
            Ok(piece) => {
                progress.advance(piece.rows.len() as u64);
                lines.extend(piece.rows.into_iter().map(Line::of));
                after = piece.next;
            }
            // Nothing is to be shown of a batch that there is not.
            Err(failure) if lines.is_empty() => return Err(failure),
            Err(failure) => break Err(failure),
        }
        if after.is_none() {
            break Ok(());
        }
        if stop.is_requested() {
            break Err(Failure::new(Exit::Failure, "interrupted; run it again for the rest"));
        }
    };
    progress.finish();
    output.rows(&lines)?;
    eprintln!("{}", summary(&lines, id));
    ended.map(|()| exit(&lines))
}

fn count(lines: &[Line], status: &str) -> usize {
    lines.iter().filter(|line| line.status == status).count()
}

fn exit(lines: &[Line]) -> Exit {
    match count(lines, "restored") {
        all if all == lines.len() => Exit::Ok,
        0 => Exit::Conflict,
        _ => Exit::SomeFailed,
    }
}

fn summary(lines: &[Line], id: Uuid) -> String {
    let [restored, changed, gone] = ["restored", "changed_since", "gone"].map(|status| count(lines, status));
    let rest = format!("{changed} changed since, {gone} gone");
    let before = lines.iter().find_map(|line| line.undone_by.as_deref());
    match (restored, before) {
        (0, Some(before)) => format!("nothing was restored: {rest}; the batch was taken back before, by the batch {before}"),
        (0, None) => format!("nothing was restored: {rest}"),
        _ => format!("restored {restored}, {rest}; this undo is the batch {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: &'static str, undone_by: Option<&str>) -> Line {
        Line { product_id: 1, sku: None, status, from: Value::Null, to: Value::Null, undone_by: undone_by.map(str::to_owned) }
    }

    #[test]
    fn the_exit_and_the_last_line_say_what_was_restored() {
        let id = Uuid::nil();
        let all = [line("restored", None), line("restored", None)];
        assert_eq!(exit(&all), Exit::Ok);
        assert_eq!(summary(&all, id), format!("restored 2, 0 changed since, 0 gone; this undo is the batch {id}"));
        let some = [line("restored", None), line("gone", None)];
        assert_eq!(exit(&some), Exit::SomeFailed);
        let none = [line("changed_since", Some("x")), line("changed_since", None)];
        assert_eq!(exit(&none), Exit::Conflict);
        let said = "nothing was restored: 2 changed since, 0 gone; the batch was taken back before, by the batch x";
        assert_eq!(summary(&none, id), said);
    }
}
