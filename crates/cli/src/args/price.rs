//! `price`: its verbs and flags.

use clap::{Args, Subcommand, ValueEnum};
use domain::{MaxChange, price_rows};
use std::path::PathBuf;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum PriceVerb {
    /// Show the price of a product
    Get {
        /// Its SKU, or `id:42`
        product: String,
    },
    /// Set the price of a product; setting the one that it has changes nothing
    Set(SetPriceArgs),
    /// List the prices that a product had, the latest first
    History(PriceHistoryArgs),
    /// Set the prices of a CSV file; importing it again changes nothing
    #[command(after_help = IMPORT_HELP)]
    Import(PriceImportArgs),
    /// Take back what an import or another batch of prices set, where nobody changed it since
    ///
    /// Each product gets the price from before, or none if it had none. One whose price was changed afterwards, over the API or with plain SQL, keeps what it has. The undo is a batch too and can be taken back; its id is shown. It may be run again, after an outage too: what was restored before counts as changed since then. Exits 3 where some products were not restored, 5 where none was, as when all of them were restored before.
    Undo {
        /// Its id, as `price import` and the API show it
        #[arg(value_parser = parse_batch)]
        batch: Uuid,
    },
}

const IMPORT_HELP: &str = "The columns are sku,amount,currency or product_id,amount,currency, and if_version and reason where they \
                           are wanted. Each 1000 rows are set in one transaction, the file as a whole is not: --dry-run and \
                           --max-change look at all of it before anything is set. The batch that is shown takes all of it back \
                           with `price undo`.";

#[derive(Debug, Args)]
pub(crate) struct SetPriceArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// A plain decimal number such as 12.99
    pub(crate) amount: String,
    /// An ISO 4217 code such as GBP
    pub(crate) currency: String,
    /// Kept in the history of the price
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
    /// Change nothing and exit 5 if the price would move further, up or down; another currency is always further
    #[arg(long, value_name = "SHARE", value_parser = MaxChange::parse)]
    pub(crate) max_change: Option<MaxChange>,
}

#[derive(Debug, Args)]
pub(crate) struct PriceHistoryArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// End after so many prices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct PriceImportArgs {
    /// CSV, plain or gzipped
    pub(crate) file: PathBuf,
    /// What rows that cannot be set do to the others
    #[arg(long, value_enum, default_value_t = OnErrorArg::RejectAll)]
    pub(crate) on_error: OnErrorArg,
    /// Change nothing and exit 5 if any price would move further, such as 30%; another currency is always further
    #[arg(long, value_name = "SHARE", value_parser = MaxChange::parse)]
    pub(crate) max_change: Option<MaxChange>,
    /// Kept in the history of the prices whose rows have no reason of their own
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
    /// Write lines that were not taken to this CSV file, with line number and reason
    #[arg(long, value_name = "FILE")]
    pub(crate) errors_to: Option<PathBuf>,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum OnErrorArg {
    /// A line that cannot be read refuses the file, a row that cannot be set its 1000 and all behind them
    RejectAll,
    /// The others are set
    SkipFailed,
}

fn parse_batch(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "write the id of a batch, as `price import` and `price history` show it".to_owned())
}

fn parse_reason(text: &str) -> Result<String, String> {
    price_rows::check_reason(text).map(|()| text.to_owned())
}
