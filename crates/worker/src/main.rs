//! `inventory-worker`: drains the view queue into MySQL, and drops from the cache what plain SQL of others changed.
//!
//! It listens for its metrics and health at once, waits for the stores for as long as it takes, and then drains
//! until it is asked to stop. Killed at any instruction it loses nothing and counts nothing twice.

mod check;
mod config;
mod drain;
mod expiry;
mod merge;
mod pace;
mod retention;
mod stock_check;
mod sweep;
mod tail;

use anyhow::{Context, anyhow};
use clap::Parser;
use config::Config;
use drain::Drain;
use merge::Held;
use retention::Retention;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use stock::Stock;
use storage::watch::{self, Watched};
use tail::Tail;
use telemetry::config::refuse_unknown_variables;
use telemetry::health::{Health, Role};
use telemetry::metrics::{
    CheckMetrics, DrainMetrics, ExpiryMetrics, IdempotencyMetrics, QueueMetrics, Registry, RetentionMetrics, StockCheckMetrics,
    StockMetrics, StoreMetrics, TailMetrics,
};
use telemetry::ops::{Ops, serve_ops};
use telemetry::stop::Shutdown;

fn main() -> ExitCode {
    let config = Config::parse();
    let run = || {
        refuse_unknown_variables(std::env::vars_os()).map_err(|error| anyhow!(error))?;
        config.log.init().map_err(|error| anyhow!(error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
        let result = runtime.block_on(run(config));
        // What still hangs in a store that does not answer is left behind: it counts once, or not yet.
        runtime.shutdown_background();
        result
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inventory-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let health = Health::new(Role::Worker);
    let registry = Registry::new("inventory-worker");
    let stores = Arc::new(StoreMetrics::new(&registry));
    let (queue, drain) = (Arc::new(QueueMetrics::new(&registry)), Arc::new(DrainMetrics::new(&registry)));
    let checks = CheckMetrics::new(&registry);
    let retained = Arc::new(RetentionMetrics::new(&registry));
    let tail = TailMetrics::new(&registry);
    let (stock_checks, expiry) = (StockCheckMetrics::new(&registry), ExpiryMetrics::new(&registry));
    let of_stock =
        stock::Metrics { stock: Arc::new(StockMetrics::new(&registry)), idempotency: Arc::new(IdempotencyMetrics::new(&registry)) };

    let listen = config.worker_ops_listen;
    config.tokens.check_listener(listen, "INVENTORY_WORKER_OPS_LISTEN").map_err(|error| anyhow!(error))?;
    let tokens = config.tokens.start().map_err(|error| anyhow!(error))?;
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on INVENTORY_WORKER_OPS_LISTEN={listen}"))?;
    tracing::info!(ops = %listener.local_addr()?, "inventory-worker is up");
    tokio::spawn(serve_ops(listener, Ops { registry, health: health.clone(), tokens }, |_| {})?);

    let reached = watch::reach(&config.stores, &stores, &health, &shutdown).await.map_err(|error| anyhow!(error))?;
    let Some((mysql, redis)) = reached else { return Ok(()) };
    let watched = Watched { mysql: mysql.clone(), redis: redis.clone(), health: health.clone(), stores, queue };
    tokio::spawn(watch::watch(watched, |_| {}, shutdown.clone()));
    tokio::spawn(sweep::run(mysql.clone(), redis.clone(), shutdown.clone()));
    tokio::spawn(check::run(mysql.clone(), redis.clone(), checks, shutdown.clone()));
    let stock = Stock::new(mysql.clone(), of_stock);
    tokio::spawn(expiry::run(mysql.clone(), stock, expiry, shutdown.clone()));
    tokio::spawn(stock_check::run(mysql.clone(), stock_checks, shutdown.clone()));
    let retention = Retention { mysql: mysql.clone(), redis: redis.clone(), metrics: retained };
    tokio::spawn(retention.run(shutdown.clone()));
    tokio::spawn(Tail::new(mysql.clone(), redis.clone(), tail).run(shutdown.clone()));
    let held = Held::new(redis.keys.shards().count());
    tokio::spawn(merge::run(redis.clone(), held.clone(), drain.clone(), shutdown.clone()));
    let drain = Arc::new(Drain::new(mysql, redis, config.drain, held, drain));
    let draining = drain.run(&shutdown);
    tokio::pin!(draining);
    tokio::select! {
        ended = &mut draining => ended?,
        () = shutdown.requested() => {
            health.set_draining();
            match tokio::time::timeout(config.shutdown_timeout, draining).await {
                Ok(ended) => ended?,
                Err(_) => tracing::warn!("a batch in hand was not settled in time; the next worker takes it up"),
            }
        }
    }
    tracing::info!("inventory-worker has stopped");
    Ok(())
}
