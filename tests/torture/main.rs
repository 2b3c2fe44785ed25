//! `torture`: what `cargo xtask torture` runs. Long histories of the real thing under faults, and their verdict.

use clap::{Parser, Subcommand};
use harness::torture::{Fault, Plan, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A day.
const MOST_MINUTES: u64 = 24 * 60;

#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Prices: each product must look like one register
    Prices(Prices),
}

#[derive(clap::Args)]
struct Prices {
    /// How long it may take
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=MOST_MINUTES))]
    minutes: u64,
    /// Of the first round; the next one has the next [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults strike
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Faults in a round, beside its one long stop
    #[arg(long, default_value_t = 17, value_parser = clap::value_parser!(u16).range(1..=100))]
    faults: u16,
    /// Where the programs are that are tortured [default: beside this one]
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let What::Prices(prices) = Arguments::parse().what;
    if let Some(dir) = prices.programs {
        harness::programs_are_in(dir);
    }
    // Small, so that it is easily typed again.
    let seed = prices.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = Plan { time: Duration::from_secs(60 * prices.minutes), seed, only: prices.only, faults: prices.faults.into() };
    println!("torture prices: {} min, seed {seed}", prices.minutes);
    if run(&plan).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
