//! `product`: its verbs and flags.

use crate::exit::{Exit, Failure};
use crate::product_list;
use chrono::DateTime;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ProductVerb {
    /// Show one product
    Get {
        /// Its SKU, or `id:42`
        product: String,
        /// Show MySQL, Redis and the API side by side; exits 5 where they differ
        #[arg(long)]
        compare: bool,
    },
    /// List the products of the API, or those that are sold out
    ///
    /// With --sold-out it is a report from MySQL: active products of which nothing is available, those without any stock among them, by their views: what most people look at and nobody can buy. Views that are still pending in Redis are not in it, nor are products that are not active.
    List(ListArgs),
    /// Make or update the products of a file; importing it again changes nothing
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write all products to a file that `product import` reads
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
}

const EXPORT_HELP: &str = "CSV has the columns sku,name,description,active,price,currency; NDJSON has an object a line with the fields \
                           that the API shows. Both are sorted by SKU, so that the same catalogue gives the same bytes.";

const IMPORT_HELP: &str = "A line may change stock too: stock_set is the count of what is on hand and replaces whatever is there, stock_add \
                           is added to it, or taken away with a minus. What would leave less than is reserved rejects its line. \
                           stock_add is done once for each line of a file, told by the file's content and the line's number, which \
                           are remembered for 24 hours: after Ctrl-C run the same file again within that time. A file that was \
                           changed, if only in one line, is another one and adds all of it again; so correct rejected lines in a \
                           file of their own.";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what changed at that time or later, in the order of its changes; such as 2011-01-04T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) updated_since: Option<String>,
    /// Only active products of which nothing is available, with their views
    #[arg(long, conflicts_with = "updated_since")]
    pub(crate) sold_out: bool,
    /// The order of what is sold out; without it the same
    #[arg(long, value_enum, requires = "sold_out")]
    pub(crate) sort: Option<SortArg>,
    /// End after so many products (default: all; 50 of those that are sold out, at most 999)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// Products that are shown of those that are sold out, without `--limit`.
const SOLD_OUT: u64 = 50;

impl ListArgs {
    /// # Errors
    /// More than the report has.
    pub(crate) fn sold_out_limit(&self) -> Result<u64, Failure> {
        let limit = self.limit.unwrap_or(SOLD_OUT);
        let most = product_list::sold_out::LONGEST;
        let usage = || Failure::new(Exit::Usage, format!("--limit {limit} is too much: --sold-out lists at most {most} products"));
        if limit <= most { Ok(limit) } else { Err(usage()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortArg {
    /// The most viewed first
    Views,
}

/// The text as it was given: the API reads it again.
pub(super) fn parse_time(text: &str) -> Result<String, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|_| text.to_owned()).map_err(|_| "write a time with its offset, such as 2011-01-04T10:00:00Z".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// CSV or NDJSON, plain or gzipped
    pub(crate) file: PathBuf,
    /// What stands in the file
    #[arg(long, value_enum, default_value_t = Layout::Auto)]
    pub(crate) format: Layout,
    /// Write rejected lines to this CSV file, with line number and reason
    #[arg(long, value_name = "FILE")]
    pub(crate) errors_to: Option<PathBuf>,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// Told by the first line
    Auto,
    /// As `product export` writes it: sku, name, description, active, price, currency; and stock_set or stock_add
    Csv,
    /// As `product export` writes it: a JSON object a line; and stock_set or stock_add
    Ndjson,
    /// UCI Online Retail: StockCode, Description, InvoiceDate, UnitPrice
    OnlineRetail,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Made whole or not at all, and gzipped if its name ends in .gz; - is stdout
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// How products are written; without it told by the file's name, CSV if that tells nothing
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportForm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    Csv,
    Ndjson,
}
