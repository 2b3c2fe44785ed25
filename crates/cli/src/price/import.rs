//! `price import`: sets the prices of a file.
//!
//! Promises that running it again, after Ctrl-C or an outage too, ends in the same state, and that each batch of rows is
//! set whole or, where rows may not be skipped, not at all. The id by which all of it is taken back is said before the first. The file is not one transaction; with a limit to changes all of
//! it is looked at before anything is set, and each batch holds to the limit under its locks again.

use super::file::{self, Line};
use crate::args::{OnErrorArg, PriceImportArgs};
use crate::exit::{Exit, Failure};
use crate::online_retail::Reject;
use crate::output::{Output, Row};
use crate::progress::Progress;
use crate::rejects::Rejects;
use catalog::{Batch, BatchSet, Judged, OnError, RowFault, Verdict};
use domain::price_rows::MOST_ROWS;
use domain::{Money, Move, moves};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::io;
use telemetry::stop::Shutdown;
use uuid::Uuid;

/// What an import did, or would do.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// For `price undo`; none where nothing was changed.
    batch: Option<String>,
    /// Rows that could be read.
    rows: u64,
    changed: u64,
    unchanged: u64,
    /// Rows that cannot be set as they are.
    failed: u64,
    /// Rows that could have been set and were not.
    not_written: u64,
    /// Lines behind the header.
    lines: u64,
    /// Lines that are no row, or a product's second.
    rejected: u64,
    dry_run: bool,
    /// Of the prices that were changed, or would be.
    biggest_moves: Vec<Moved>,
    /// The biggest of those that `--max-change` does not allow.
    too_far: Vec<Moved>,
}

/// A price that moved.
#[derive(Debug, Clone, PartialEq)]
struct Moved {
    sku: String,
    from: Option<Money>,
    to: Money,
    change: Move,
}

impl Moved {
    fn of(row: &Judged) -> Self {
        let sku = row.sku.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { sku, from: row.from, to: row.to, change: Move::between(row.from, row.to) }
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.sku, super::told(self.from, self.to))
    }
}

impl Serialize for Moved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Moved", 5)?;
        fields.serialize_field("sku", &self.sku)?;
        fields.serialize_field("from", &self.from)?;
        fields.serialize_field("to", &self.to)?;
        fields.serialize_field("kind", self.change.kind())?;
        fields.serialize_field("percent", &self.change.percent_text())?;
        fields.end()
    }
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] =
        &["batch", "rows", "changed", "unchanged", "failed", "not_written", "lines", "rejected", "dry_run", "biggest_moves", "too_far"];

    fn cells(&self) -> Vec<String> {
        let counts = [self.rows, self.changed, self.unchanged, self.failed, self.not_written, self.lines, self.rejected];
        let counts = counts.iter().map(ToString::to_string);
        let told = |moves: &[Moved]| moves.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let batch = self.batch.clone().unwrap_or_else(|| "none".to_owned());
        std::iter::once(batch).chain(counts).chain([self.dry_run.to_string(), told(&self.biggest_moves), told(&self.too_far)]).collect()
    }
}

/// What a file asks for.
pub(crate) struct Wanted {
    rows: Vec<Line>,
    rejected: Vec<Reject>,
    lines: u64,
    rejects: Rejects,
}

impl Wanted {
    /// Reads the file, before any store is asked for.
    ///
    /// # Errors
    /// The file cannot be read, or has no header of prices.
    pub(crate) fn read(args: &PriceImportArgs) -> Result<Self, Failure> {
        let file::Prices { rows, rejects: rejected, lines } = file::read(&args.file)?;
        Ok(Self { rows, rejected, lines, rejects: Rejects::of(&args.file, args.errors_to.as_deref())? })
    }
}

/// Sets the prices with `set`.
pub(crate) async fn run<F>(wanted: Wanted, args: &PriceImportArgs, output: &Output, set: impl Fn(Batch) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<BatchSet, Failure>>,
{
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let Wanted { rows, rejected, lines, mut rejects } = wanted;
    let refused = args.on_error == OnErrorArg::RejectAll && !rejected.is_empty();
    let pass = Pass { rows: &rows, args, id: Uuid::new_v4(), stop: &stop };
    let (mut done, mut ended) = (Done { refused, ..Done::default() }, Ok(()));
    if args.dry_run || args.max_change.is_some() || refused {
        ended = pass.run("prices looked at", true, &mut done, &set).await;
    }
    let allowed = !refused && ended.is_ok() && done.may_be_set(args);
    let goes_on = allowed && !args.dry_run && !stop.is_requested();
    if goes_on {
        done = Done::default();
        // Before anything is set: whatever becomes of this run, what it did can be taken back.
        if !rows.is_empty() {
            eprintln!("batch {}: `inventoryctl price undo` with this id takes back what is set now", pass.id);
        }
        ended = pass.run("prices", false, &mut done, &set).await;
    }
    let report = done.report(&pass, (lines, rejected.len() as u64), goes_on || (allowed && args.dry_run));
    tell(&mut rejects, rejected, &mut done).map_err(|fault| Failure::doing("writing the lines that were not taken", &fault))?;
    rejects.finish()?;
    output.one(&report)?;
    end(&report, &done, ended, stop.is_requested())
}

/// In the order of the file.
fn tell(rejects: &mut Rejects, rejected: Vec<Reject>, done: &mut Done) -> io::Result<()> {
    let mut all: Vec<_> = rejected.into_iter().chain(std::mem::take(&mut done.faults)).collect();
    all.sort_by_key(|reject| reject.line);
    all.into_iter().try_for_each(|reject| rejects.add(reject))
}

fn end(report: &Report, done: &Done, ended: Result<(), Failure>, stopped: bool) -> Result<Exit, Failure> {
    const AGAIN: &str = "run it again: what is set already stays as it is";
    if let Err(failure) = ended {
        return Err(Failure::new(failure.exit, format!("{}; {AGAIN}", failure.message)));
    }
    if stopped && report.not_written > 0 {
        return Err(Failure::new(Exit::Failure, format!("interrupted; {AGAIN}")));
    }
    if done.failed_by_limit > 0 {
        let what = if report.changed > 0 && !report.dry_run { "not all was set" } else { "nothing was set" };
        let how_many = format!("{} of {} prices would move further than --max-change", done.failed_by_limit, report.rows);
        return Err(Failure::new(Exit::Conflict, format!("{what}: {how_many}")));
    }
    if !report.dry_run && report.not_written > 0 {
        let cure = "mend what is told above, or leave it out with --on-error skip_failed";
        return Err(Failure::new(Exit::SomeFailed, format!("{} of {} prices were not set: {cure}", report.not_written, report.rows)));
    }
    Ok(if report.failed + report.rejected > 0 { Exit::SomeFailed } else { Exit::Ok })
}

/// One walk over all rows, in batches.
struct Pass<'a> {
    rows: &'a [Line],
    args: &'a PriceImportArgs,
    id: Uuid,
    stop: &'a Shutdown,
}

impl Pass<'_> {
    /// Until all batches were tried, an end is asked for, or a store fails. Behind a batch that was refused the others are only
    /// looked at, so that all faults of the file are told.
    async fn run<F>(&self, what: &'static str, dry: bool, done: &mut Done, set: impl Fn(Batch) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<BatchSet, Failure>>,
    {
        let progress = Progress::start(what, Some(self.rows.len() as u64));
        let mut result = Ok(());
        for lines in self.rows.chunks(MOST_ROWS) {
            if self.stop.is_requested() {
                break;
            }
            match set(self.batch(lines, dry || done.refused)).await {
                Ok(set) => done.add(lines, &set, self.args.on_error),
                Err(failure) => {
                    result = Err(failure);
                    break;
                }
            }
            progress.advance(lines.len() as u64);
        }
        progress.finish();
        result
    }

    fn batch(&self, lines: &[Line], dry_run: bool) -> Batch {
        let on_error = match self.args.on_error {
            OnErrorArg::RejectAll => OnError::RejectAll,
            OnErrorArg::SkipFailed => OnError::SkipFailed,
        };
        let rows = lines.iter().map(|line| line.row.clone()).collect();
        let (reason, max_change) = (self.args.reason.clone(), self.args.max_change);
        Batch { id: self.id, rows, reason, actor: Some(super::actor()), on_error, max_change, dry_run }
    }
}

/// What came of a walk.
#[derive(Default)]
struct Done {
    changed: u64,
    unchanged: u64,
    failed: u64,
    failed_by_limit: u64,
    /// Whether the file or a batch was refused as a whole, and what is behind it with it.
    refused: bool,
    faults: Vec<Reject>,
    moves: Vec<Moved>,
    too_far: Vec<Moved>,
}

impl Done {
    fn add(&mut self, lines: &[Line], set: &BatchSet, on_error: OnErrorArg) {
        self.refused |= on_error == OnErrorArg::RejectAll && set.rows.iter().any(Judged::is_failed);
        for (line, row) in lines.iter().zip(&set.rows) {
            match &row.verdict {
                Verdict::Changed if !self.refused => {
                    self.changed += 1;
                    self.moves.push(Moved::of(row));
                }
                Verdict::Unchanged if !self.refused => self.unchanged += 1,
                Verdict::Changed | Verdict::Unchanged => {}
                Verdict::Failed(fault) => {
                    self.failed += 1;
                    if matches!(fault, RowFault::TooFar(_)) {
                        self.failed_by_limit += 1;
                        self.too_far.push(Moved::of(row));
                    }
                    self.faults.push(line.reject(in_words(fault, line, row)));
                }
            }
        }
        for moves in [&mut self.moves, &mut self.too_far] {
            *moves = moves::biggest(std::mem::take(moves), |moved| moved.change);
        }
    }

    /// Whether anything is set after a look at all. Without a limit to changes what comes before a refused batch is.
    fn may_be_set(&self, args: &PriceImportArgs) -> bool {
        self.failed_by_limit == 0 && (args.max_change.is_none() || !self.refused)
    }

    /// `wrote`: what was counted was done, or is what a dry run tells.
    fn report(&self, pass: &Pass<'_>, (lines, rejected): (u64, u64), wrote: bool) -> Report {
        let rows = pass.rows.len() as u64;
        let (changed, unchanged) = if wrote { (self.changed, self.unchanged) } else { (0, 0) };
        let dry_run = pass.args.dry_run;
        let batch = Some(pass.id.to_string()).filter(|_| changed > 0 && !dry_run);
        let not_written = rows - changed - unchanged - self.failed;
        let biggest_moves = if wrote { self.moves.clone() } else { Vec::new() };
        let (failed, too_far) = (self.failed, self.too_far.clone());
        Report { batch, rows, changed, unchanged, failed, not_written, lines, rejected, dry_run, biggest_moves, too_far }
    }
}

fn in_words(fault: &RowFault, line: &Line, row: &Judged) -> String {
    match fault {
        RowFault::Unknown => line.row.product.unknown(),
        RowFault::Twice(_) => format!("{} stands in the file twice", line.row.product),
        RowFault::Version(version) => format!("if_version is another: the product has version {version}"),
        RowFault::TooFar(_) => format!("the price would move too far: {}", super::told(row.from, row.to)),
    }
}
