//! `product import`: makes or updates the products of a file, and their stock where it says so.
//!
//! Promises that running it again, after Ctrl-C or an outage too, ends in the same state.
//! How a product is written is `catalog`'s; here only how many at a time. The stock of a line follows behind its product.

pub(crate) mod stock;

use self::stock::{FileContent, StockWritten};
use crate::args::{ImportArgs, Layout};
use crate::catalogue_file::{self, StockChange, StockWish, Wish};
use crate::exit::{Exit, Failure};
use crate::lines::{self, Record, Records};
use crate::online_retail::{self, Counts, Reject};
use crate::output::{Output, Row};
use crate::products::Products;
use crate::progress::Progress;
use crate::rejects::Rejects;
use domain::Sku;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use telemetry::stop::Shutdown;

/// Products that are written at the same time: enough to keep two cores of MySQL busy.
pub(crate) const MAX_WRITES: usize = 16;

/// What became of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    Created,
    Updated,
    Unchanged,
    /// Not written for a reason of its own; the others can be.
    Refused(String),
}

/// What became of one line.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) product: Written,
    /// None where the line says nothing of stock, or its product was refused.
    pub(crate) stock: Option<(StockWish, StockWritten)>,
}

/// So many refusals are told in words, all are counted.
const MAX_TOLD: u64 = 10;

/// What an import did, or would do.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Report {
    products: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Products that cannot be written as they are.
    refused: u64,
    /// Products that were left when the import was interrupted or failed.
    not_written: u64,
    /// Lines behind the header.
    lines: u64,
    /// Lines that are no product lines, by reason.
    skipped: BTreeMap<String, u64>,
    /// Lines that could not be read, faults of the header, and lines whose stock was refused.
    rejected: u64,
    /// Counts that were set, and that were there already.
    stock_set: u64,
    stock_unchanged: u64,
    /// Lines that added to stock now, and that an earlier run of the same file had added.
    stock_added: u64,
    stock_added_before: u64,
    dry_run: bool,
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &[
        "products",
        "created",
        "updated",
        "unchanged",
        "refused",
        "not_written",
        "lines",
        "skipped",
        "rejected",
        "stock_set",
        "stock_unchanged",
        "stock_added",
        "stock_added_before",
        "dry_run",
    ];

    fn cells(&self) -> Vec<String> {
        let skipped: Vec<_> = self.skipped.iter().map(|(reason, lines)| format!("{lines} {reason}")).collect();
        let counts = [self.products, self.created, self.updated, self.unchanged, self.refused, self.not_written, self.lines];
        let stock = [self.rejected, self.stock_set, self.stock_unchanged, self.stock_added, self.stock_added_before];
        let [counts, stock] = [&counts[..], &stock].map(|counts| counts.iter().map(ToString::to_string));
        counts.chain([skipped.join(", ")]).chain(stock).chain([self.dry_run.to_string()]).collect()
    }
}

/// What a file asks for.
pub(crate) struct Wanted {
    wishes: Vec<Wish>,
    counts: Counts,
    rejects: Rejects,
    /// Of a file that adds to stock.
    content: Option<FileContent>,
}

impl Wanted {
    /// Reads the file, before any store is asked for.
    ///
    /// # Errors
    /// The file cannot be read, or is of no known format.
    pub(crate) fn read(args: &ImportArgs) -> Result<Self, Failure> {
        let reading = |fault: io::Error| Failure::doing(format!("reading {}", args.file.display()), &fault);
        let layout = if args.format == Layout::Auto { recognise(&args.file)? } else { args.format };
        let mut rejects = Rejects::of(&args.file, args.errors_to.as_deref())?;
        let (mut wishes, mut gathered) = (Vec::new(), Products::default());
        let on_reject = |reject| rejects.add(reject);
        let records = || Ok(Records::new(lines::open(&args.file)?));
        let counts = match layout {
            Layout::Csv => records().and_then(|records| catalogue_file::read_csv(records, |wish| wishes.push(wish), on_reject)),
            Layout::Ndjson => records().and_then(|records| catalogue_file::read_ndjson(records, |wish| wishes.push(wish), on_reject)),
            Layout::OnlineRetail | Layout::Auto => online_retail::read(&args.file, |line| gathered.add(line), on_reject),
        };
        let counts = counts.map_err(reading)?;
        wishes.extend(gathered.into_products().into_iter().map(|product| Wish { product, stock: None }));
        let adds = |wish: &Wish| matches!(wish.stock, Some(StockWish { change: StockChange::Add(_), .. }));
        let content = wishes.iter().any(adds).then(|| FileContent::of(&args.file)).transpose().map_err(reading)?;
        if content.is_some() {
            rejects.cured_by(stock::CURE_OF_REJECTS);
        }
        Ok(Self { wishes, counts, rejects, content })
    }

    /// What names the lines that add to stock, so that each does it once.
    pub(crate) fn content(&self) -> Option<FileContent> {
        self.content.clone()
    }
}

/// Writes the products with `write`.
pub(crate) async fn run<F>(wanted: Wanted, dry_run: bool, output: &Output, write: impl Fn(Wish) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Done, Failure>>,
{
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let Wanted { wishes, counts, mut rejects, content } = wanted;
    let mut report = Report {
        products: wishes.len() as u64,
        lines: counts.lines,
        skipped: counts.skipped,
        rejected: counts.rejected,
        dry_run,
        ..Report::default()
    };
    let progress = Progress::start("products", Some(report.products));
    let mut refused = Vec::new();
    let ended = write_all(wishes, &mut report, &mut refused, &progress, &stop, write).await;
    progress.finish();
    refused.sort_unstable_by_key(|reject| reject.line);
    report.rejected += refused.len() as u64;
    refused.into_iter().try_for_each(|reject| rejects.add(reject)).map_err(|fault| Failure::doing("writing rejected lines", &fault))?;
    rejects.finish()?;
    report.not_written = report.products - report.created - report.updated - report.unchanged - report.refused;
    output.one(&report)?;
    if content.is_some() && !dry_run {
        eprintln!("{}", stock::told(report.stock_added, report.stock_added_before));
    }
    let again = "run it again: what is written already stays as it is";
    match ended {
        Err(failure) => Err(Failure::new(failure.exit, format!("{}; {again}", failure.message))),
        Ok(()) if report.not_written > 0 => Err(Failure::new(Exit::Failure, format!("interrupted; {again}"))),
        Ok(()) if report.rejected + report.refused > 0 => Ok(Exit::SomeFailed),
        Ok(()) => Ok(Exit::Ok),
    }
}

fn recognise(path: &Path) -> Result<Layout, Failure> {
    let first = lines::open(path).and_then(|input| Records::new(input).next());
    let first = first.map_err(|fault| Failure::doing(format!("reading {}", path.display()), &fault))?;
    let saved_as = lines::saved_as(first.as_ref().map(|first| first.text.as_slice()));
    match first {
        Some(first) if catalogue_file::recognises_ndjson(&first.text) => Ok(Layout::Ndjson),
        Some(Record { fields: Ok(fields), .. }) if catalogue_file::recognises_csv(&fields) => Ok(Layout::Csv),
        Some(Record { fields: Ok(fields), .. }) if online_retail::recognises(&fields) => Ok(Layout::OnlineRetail),
        _ => Err(Failure::new(
            Exit::Usage,
            format!(
                "{}: {}",
                path.display(),
                saved_as.unwrap_or("the first line is neither a header that is known nor a JSON object; name the format with --format")
            ),
        )),
    }
}

/// Writes until done, asked to stop, or a write fails; writes that were begun are waited for.
async fn write_all<F>(
    wishes: Vec<Wish>,
    report: &mut Report,
    refused: &mut Vec<Reject>,
    progress: &Progress,
    stop: &Shutdown,
    write: impl Fn(Wish) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Done, Failure>>,
{
    let failed = Shutdown::new();
    let begun = stream::iter(wishes).take_while(|_| std::future::ready(!stop.is_requested() && !failed.is_requested()));
    let named = begun.map(|wish| {
        let sku = wish.product.sku.clone();
        let write = write(wish);
        async move { (sku, write.await) }
    });
    let mut writes = named.buffer_unordered(MAX_WRITES);
    let mut result = Ok(());
    while let Some((sku, done)) = writes.next().await {
        match done {
            Ok(Done { product, stock }) => {
                refused.extend(stock.and_then(|(wish, written)| report.count_stock(wish, written)));
                report.count(&sku, product, progress);
            }
            Err(failure) => {
                failed.request();
                result = Err(failure);
            }
        }
    }
    result
}

impl Report {
    fn count(&mut self, sku: &Sku, written: Written, progress: &Progress) {
        match written {
            Written::Created => self.created += 1,
            Written::Updated => self.updated += 1,
            Written::Unchanged => self.unchanged += 1,
            Written::Refused(why) => {
                self.refused += 1;
                if self.refused <= MAX_TOLD {
                    progress.say(&format!("product {sku}: {why}"));
                }
            }
        }
        progress.advance(1);
    }

    /// What was refused is a line that was rejected.
    fn count_stock(&mut self, wish: StockWish, written: StockWritten) -> Option<Reject> {
        let StockWish { line, text, .. } = wish;
        match written {
            StockWritten::Set => self.stock_set += 1,
            StockWritten::Unchanged => self.stock_unchanged += 1,
            StockWritten::Added => self.stock_added += 1,
            StockWritten::AddedBefore => self.stock_added_before += 1,
            StockWritten::Refused(reason) => return Some(Reject { line, reason, text }),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ImportedProduct;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn products(count: usize) -> Vec<Wish> {
        let product = |n| ImportedProduct {
            sku: Sku::parse(&format!("{n:05}")).unwrap(),
            name: "X".into(),
            description: None,
            active: None,
            price: None,
        };
        (0..count).map(product).map(|product| Wish { product, stock: None }).collect()
    }

    fn done(product: Written) -> Result<Done, Failure> {
        Ok(Done { product, stock: None })
    }

    fn progress() -> std::sync::Arc<Progress> {
        Progress::start("products", None)
    }

    #[tokio::test]
    async fn all_are_written_and_no_more_than_the_limit_at_once() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let write = async |wish: Wish| {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::Relaxed);
            done(if wish.product.sku.as_str() < "00010" { Written::Created } else { Written::Unchanged })
        };
        let mut report = Report::default();
        write_all(products(100), &mut report, &mut Vec::new(), &progress(), &Shutdown::new(), write).await.unwrap();
        assert_eq!((report.created, report.unchanged), (10, 90));
        assert_eq!(most.into_inner(), MAX_WRITES);
    }

    #[tokio::test]
    async fn after_a_failure_nothing_new_is_begun_and_what_was_begun_is_waited_for() {
        let write = async |wish: Wish| {
            tokio::task::yield_now().await;
            match wish.product.sku.as_str() {
                "00003" => Err(Failure::new(Exit::Unreachable, "MySQL is away")),
                _ => done(Written::Created),
            }
        };
        let mut report = Report::default();
        let failure = write_all(products(100), &mut report, &mut Vec::new(), &progress(), &Shutdown::new(), write).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!((3..=2 * MAX_WRITES as u64).contains(&report.created), "{report:?}");
    }

    #[tokio::test]
    async fn ctrl_c_ends_it_between_two_products() {
        let stop = Shutdown::new();
        let write = async |_| {
            stop.request();
            done(Written::Created)
        };
        let mut report = Report::default();
        write_all(products(100), &mut report, &mut Vec::new(), &progress(), &stop, write).await.unwrap();
        assert!((1..=MAX_WRITES as u64).contains(&report.created), "{report:?}");
    }

    #[test]
    fn the_report_has_the_fields_of_the_contract() {
        let skipped = BTreeMap::from([("postage (POST)".to_owned(), 2), ("manual entry (M)".to_owned(), 1)]);
        let report = Report { products: 3, created: 3, lines: 9, skipped, rejected: 1, ..Report::default() };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            "{\"products\":3,\"created\":3,\"updated\":0,\"unchanged\":0,\"refused\":0,\"not_written\":0,\"lines\":9,\
             \"skipped\":{\"manual entry (M)\":1,\"postage (POST)\":2},\"rejected\":1,\
             \"stock_set\":0,\"stock_unchanged\":0,\"stock_added\":0,\"stock_added_before\":0,\"dry_run\":false}"
        );
        assert_eq!(report.cells()[7], "1 manual entry (M), 2 postage (POST)");
        assert_eq!(report.cells().len(), Report::COLUMNS.len());
    }
}
