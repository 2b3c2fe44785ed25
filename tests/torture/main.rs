//! `torture`: what `cargo xtask torture` runs. Long histories of the real thing under faults, and their verdict.

use clap::{Parser, Subcommand};
use harness::torture::{Fault, Plan, run, stock, views};
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
    /// Views: each that was accepted must be counted once
    Views(Views),
    /// Stock: it is never oversold, and what was told of it is there
    Stock(Stock),
    /// What `views --textbook` kills
    #[command(hide = true)]
    TextbookWorker { mysql_url: String, redis_url: String },
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

#[derive(clap::Args)]
struct Views {
    /// How long it may take
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=MOST_MINUTES))]
    minutes: u64,
    /// Of the first round; the next one has the next [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults strike
    #[arg(long, value_delimiter = ',')]
    only: Vec<views::Fault>,
    /// Faults in a round, beside its stop or its power cuts
    #[arg(long, default_value_t = 26, value_parser = clap::value_parser!(u16).range(1..=100))]
    faults: u16,
    /// Torture the textbook's worker, which must be seen to lose
    #[arg(long)]
    textbook: bool,
    /// Where the programs are that are tortured [default: beside this one]
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Stock {
    /// How long it may take
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=MOST_MINUTES))]
    minutes: u64,
    /// Of the first round; the next one has the next [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults strike
    #[arg(long, value_delimiter = ',')]
    only: Vec<stock::Fault>,
    /// Faults in a round
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=100))]
    faults: u16,
    /// Where the programs are that are tortured [default: beside this one]
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let good = match Arguments::parse().what {
        What::Prices(arguments) => prices(arguments).await,
        What::Views(arguments) => views(arguments).await,
        What::Stock(arguments) => stock(arguments).await,
        What::TextbookWorker { mysql_url, redis_url } => {
            views::textbook::worker(&mysql_url, &redis_url).await;
            true
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn prices(arguments: Prices) -> bool {
    let (time, seed) = begin("prices", arguments.minutes, arguments.seed, arguments.programs);
    run(&Plan { time, seed, only: arguments.only, faults: arguments.faults.into() }).await
}

async fn views(arguments: Views) -> bool {
    let what = if arguments.textbook { "views, the textbook's" } else { "views" };
    let (time, seed) = begin(what, arguments.minutes, arguments.seed, arguments.programs);
    let textbook = arguments.textbook.then(|| std::env::current_exe().expect("our own binary has a path"));
    let plan = views::Plan { time, seed, only: arguments.only, faults: arguments.faults.into() };
    views::run(&plan, textbook.as_deref()).await
}

async fn stock(arguments: Stock) -> bool {
    let (time, seed) = begin("stock", arguments.minutes, arguments.seed, arguments.programs);
    stock::run(&stock::Plan { time, seed, only: arguments.only, faults: arguments.faults.into() }).await
}

fn begin(what: &str, minutes: u64, seed: Option<u64>, programs: Option<PathBuf>) -> (Duration, u64) {
    if let Some(dir) = programs {
        harness::programs_are_in(dir);
    }
    // Small, so that it is easily typed again.
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("torture {what}: {minutes} min, seed {seed}");
    (Duration::from_secs(60 * minutes), seed)
}
