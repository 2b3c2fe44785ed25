//! Settings of the worker. The doc comments are the configuration reference.

use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;
use storage::settings::StoreArgs;
use telemetry::config::{LogArgs, parse_duration};
use telemetry::tokens::TokensArgs;

/// Drains the view queue into MySQL.
///
/// Every setting is a flag or a variable of the environment; the flag wins. Any number of workers may run.
#[derive(Debug, Clone, Parser)]
#[command(name = "inventory-worker", version, about)]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Where metrics and health are served
    #[arg(long, env = "INVENTORY_WORKER_OPS_LISTEN", default_value = "127.0.0.1:8082")]
    pub(crate) worker_ops_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) tokens: TokensArgs,
    #[command(flatten)]
    pub(crate) drain: DrainArgs,
    /// How long a stop waits for the batches in hand
    #[arg(long, env = "INVENTORY_SHUTDOWN_TIMEOUT", default_value = "25s", value_parser = parse_duration)]
    pub(crate) shutdown_timeout: Duration,
}

/// When a batch is claimed, and how long it is tried.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DrainArgs {
    /// A batch is claimed when this many views wait in a shard
    #[arg(long, env = "INVENTORY_BATCH_VIEWS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) batch_views: u64,
    /// A batch is claimed this long after the last one; a shard that was left empty is claimed at once
    #[arg(long, env = "INVENTORY_FLUSH_INTERVAL", default_value = "500ms", value_parser = parse_duration)]
    pub(crate) flush_interval: Duration,
    /// How long a worker has a batch to itself; after that another may apply it too, which counts nothing twice
    #[arg(long, env = "INVENTORY_BATCH_DEADLINE", default_value = "2s", value_parser = parse_duration)]
    pub(crate) batch_deadline: Duration,
    /// Tries of a batch that MySQL refuses for its data, before what it refuses is found by halving and set aside;
    /// every other failure is retried for ever
    #[arg(long, env = "INVENTORY_RETRY_LIMIT", value_name = "TRIES", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) retry_limit: u32,
}
