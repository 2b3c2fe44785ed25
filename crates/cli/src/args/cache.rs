//! `cache`: its verbs and flags.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Drop product records from the cache: the next read of each asks MySQL
    ///
    /// After a backup was restored versions go back, and the cache may hold what is newer than MySQL: `--all --yes`. Safe at any time; until the cache is warm again reads cost more.
    Invalidate {
        /// Of these products: their SKUs, or `id:42`
        #[arg(value_name = "PRODUCT", required_unless_present = "all", conflicts_with = "all", num_args = 1..=1_000)]
        products: Vec<String>,
        /// Of all products
        #[arg(long)]
        all: bool,
        /// Do it for all
        #[arg(long)]
        yes: bool,
    },
}
