//! `views`: its verbs and flags.

use super::product::parse_time;
use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum ViewsVerb {
    /// Count views of a product, as a shop's page does
    Send {
        /// Its SKU, or `id:42`
        product: String,
        /// How many, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// Under which it counts once, however often it is sent within ten minutes
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
    },
    /// Show how often a product was viewed, by the hour or the day
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// Where the first bucket begins, such as 2011-01-04T10:00:00Z (default: 24 hours or 30 days before --to)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) from: Option<String>,
    /// Where the last bucket ends (default: now)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) to: Option<String>,
    /// The length of a bucket
    #[arg(long, value_enum, default_value_t = Interval::Hour)]
    pub(crate) interval: Interval,
    /// The offset from UTC at which days begin, in whole hours such as +01:00
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub(crate) tz: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interval {
    Hour,
    Day,
}

impl Interval {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}
