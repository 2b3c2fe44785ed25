//! `bench`: what the inventory's paths cost beside the simplest servers that do the same, and whether that lasts.
//!
//! `cargo xtask bench` and `cargo xtask soak` build everything in release and run this. It starts private servers under
//! `target/bench`, is the load generator itself, and is also the program of the servers that it compares with.

mod backlog;
mod baselines;
mod connection;
mod console;
mod figures;
mod kills;
mod live;
mod load;
mod locked;
mod machine;
mod paced;
mod prices;
mod progress;
mod report;
mod requests;
mod rows;
mod slow;
mod soak;
mod stack;
mod stock;
mod usage;
mod versus;
mod workers;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use machine::Cores;
use stack::Stack;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The allocator of the API, so that the servers beside it lack nothing that it has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Measures the inventory against simpler servers, on private stores")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints one table of ratios, each measured side by side; also in target/bench/latest.md and latest.json
    Bench {
        /// Few and short rounds: shows that it works, its figures say little
        #[arg(long)]
        quick: bool,
        /// These rows only, such as view-64, or all of a kin, such as view
        #[arg(long, num_args = 1.., value_name = "ROW")]
        only: Vec<String>,
        /// Instead: what each design of the views' path loses and doubles under kill -9; also in target/bench/kills.md
        #[arg(long, conflicts_with = "only")]
        kills: bool,
        /// Instead: what an open console and a scrape a second add to the instructions a request; also in target/bench/console.md
        #[arg(long, conflicts_with_all = ["only", "kills"])]
        console: bool,
        /// Of the moments of the kills
        #[arg(long, value_name = "S", default_value_t = versus::SEED, requires = "kills")]
        seed: u64,
    },
    /// Moderate mixed load for a while; fails on drift, stale prices, error answers or memory that grows
    #[command(after_help = soak::growth_help())]
    Soak {
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=soak::MOST_MINUTES))]
        minutes: u64,
        /// Of the order in which products are asked for
        #[arg(long, value_name = "S", default_value_t = versus::SEED)]
        seed: u64,
    },
    /// A server to compare with; started by the benchmark
    #[command(hide = true)]
    Serve {
        kind: baselines::Kind,
        #[command(flatten)]
        setup: baselines::Setup,
    },
    /// The worker of a baseline's queue; started by the benchmark
    #[command(hide = true)]
    Work {
        kind: baselines::Kind,
        #[arg(long)]
        mysql_url: String,
        #[arg(long)]
        redis_url: String,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench { quick, kills: true, seed, .. } => until_interrupted(kills(quick, seed)),
        Command::Bench { quick, console: true, .. } => until_interrupted(console(quick)),
        Command::Bench { quick, only, .. } => until_interrupted(bench(quick, only)),
        Command::Soak { minutes, seed } => until_interrupted(soak(minutes, seed)),
        Command::Serve { kind, setup } => baselines::serve(kind, setup),
        Command::Work { kind, mysql_url, redis_url } => until_interrupted(workers::run(kind, mysql_url, redis_url)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread, which is the one that makes the load. Ctrl-C ends it, and with it everything that it started.
fn until_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; the servers were ended"),
        }
    })
}

/// Everything, pinned.
async fn start(dir: &Path) -> anyhow::Result<Stack> {
    let cores = Cores::take()?;
    if let Cores::Shared(why) = &cores {
        eprintln!("note: {why}");
    }
    eprintln!("starting Redis, MySQL, API and worker under {}", dir.display());
    Stack::start(dir.to_owned(), cores).await
}

async fn kills(quick: bool, seed: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let (dir, _lock) = place()?;
    let mut stack = start(&dir).await?;
    let (table, sound) = kills::run(&mut stack, if quick { &kills::QUICK } else { &kills::FULL }, seed).await?;
    stack.end()?;
    std::fs::write(dir.join("kills.md"), &table).context("writing kills.md")?;
    println!("{table}\nmeasured in {:.0} s; also in {}", began.elapsed().as_secs_f64(), dir.join("kills.md").display());
    ensure!(sound, "this design lost or doubled views, see its row");
    Ok(())
}

async fn console(quick: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let (dir, _lock) = place()?;
    let mut stack = start(&dir).await?;
    let table = console::run(&mut stack, &dir, if quick { &console::QUICK } else { &console::FULL }).await?;
    stack.end()?;
    std::fs::write(dir.join("console.md"), &table).context("writing console.md")?;
    println!("{table}\nmeasured in {:.0} s; also in {}", began.elapsed().as_secs_f64(), dir.join("console.md").display());
    Ok(())
}

async fn bench(quick: bool, only: Vec<String>) -> anyhow::Result<()> {
    let began = Instant::now();
    let rows = rows::chosen(&only)?;
    let (dir, _lock) = place()?;
    let mut stack = start(&dir).await?;
    let report = rows::run(&mut stack, if quick { &rows::QUICK } else { &rows::FULL }, &rows).await?;
    stack.end()?;
    std::fs::write(dir.join("latest.md"), report.markdown()).context("writing latest.md")?;
    std::fs::write(dir.join("latest.json"), serde_json::to_vec_pretty(&report)?).context("writing latest.json")?;
    println!("{}", report.table());
    println!("measured in {:.0} s; also in {}", began.elapsed().as_secs_f64(), dir.join("latest.{md,json}").display());
    Ok(())
}

async fn soak(minutes: u64, seed: u64) -> anyhow::Result<()> {
    let (dir, _lock) = place()?;
    let cores = Cores::Shared("a soak pins nothing".to_owned());
    let mut stack = Stack::start(dir, cores).await?;
    soak::run(&mut stack, minutes, seed).await?;
    stack.end()
}

/// `target/bench`, beside the programs' own directory, held for as long as this runs.
fn place() -> anyhow::Result<(PathBuf, File)> {
    let own = std::env::current_exe().context("our own program has no path")?;
    let dir = own.ancestors().nth(2).context("our own program is not in a target directory")?.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let lock = File::create(dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok((dir, lock)),
        Err(TryLockError::Error(error)) => Err(error.into()),
        Err(TryLockError::WouldBlock) => bail!("another benchmark or soak of this checkout is running: end it first"),
    }
}
