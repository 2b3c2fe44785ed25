//! `inventory-api`: the HTTP API. Products are read through the cache, prices written through to MySQL,
//! views acknowledged from Redis and written behind.
//!
//! The walk: `routes/` reads a request with `input/`, asks `catalog` or `ingest`, and answers; every
//! refusal is an [`error::ApiError`], which `edge` turns into a problem document.

mod access;
mod admin;
mod application;
mod config;
mod console;
mod cors;
mod edge;
mod error;
#[cfg(test)]
mod http_tests;
mod ingest;
mod input;
mod problem;
mod request_id;
mod routes;
mod startup;
mod state;
mod stored;

use application::Application;
use config::Settings;
use std::process::ExitCode;
use telemetry::stop::Shutdown;

/// Of the instructions of a cached read 8,000 were glibc's malloc and free; this one's take 2,500 (Callgrind).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::read().and_then(|settings| settings.log.init().map(|()| settings)) {
        Ok(settings) => settings,
        Err(fault) => {
            eprintln!("inventory-api: {fault}");
            return ExitCode::FAILURE;
        }
    };
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let application = Application::build(settings)?;
    let [api, ops] = application.addresses();
    tracing::info!("API on http://{api}, metrics and health on http://{ops}");
    application.run_until_stopped(shutdown).await
}
