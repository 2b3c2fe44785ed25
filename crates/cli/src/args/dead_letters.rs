//! `dead-letters`: its verbs and flags.

use clap::{Args, Subcommand};
use domain::view::Reason;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersVerb {
    /// Show them by reason and product, those with the most views first
    List(LettersArgs),
    /// Show one whole
    Show {
        /// Its id, as `dead-letters list --each` shows it
        id: u64,
    },
    /// Add their views to products that exist by now; a repeat counts nothing twice
    Replay {
        #[command(flatten)]
        which: WhichArgs,
        /// Say what would be done, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give them up for good; they stay in the account as dead
    Drop {
        #[command(flatten)]
        which: WhichArgs,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LettersArgs {
    /// Only those set aside for this reason
    #[arg(long, value_parser = parse_letter_reason)]
    pub(crate) reason: Option<Reason>,
    /// Only those of this product: its SKU, or `id:42`
    #[arg(long)]
    pub(crate) product: Option<String>,
    /// Show at most so many lines
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=9_999))]
    pub(crate) limit: u32,
    /// Also those that were replayed or dropped
    #[arg(long)]
    pub(crate) all: bool,
    /// Show each by itself, with its id
    #[arg(long)]
    pub(crate) each: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct WhichArgs {
    /// Their ids, as `dead-letters list --each` shows them
    #[arg(conflicts_with_all = ["reason", "product", "all"], num_args = 1..=10_000)]
    pub(crate) ids: Vec<u64>,
    /// Those set aside for this reason
    #[arg(long, value_parser = parse_letter_reason)]
    pub(crate) reason: Option<Reason>,
    /// Those of this product: its SKU, or `id:42`
    #[arg(long)]
    pub(crate) product: Option<String>,
    /// All that are dead
    #[arg(long, conflicts_with_all = ["reason", "product"])]
    pub(crate) all: bool,
}

fn parse_letter_reason(text: &str) -> Result<Reason, String> {
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
    reason.ok_or_else(|| format!("write {}", Reason::ALL.map(Reason::as_str).join(", ")))
}
