//! `replay`: plays a file of sales over HTTP, each product line a view and each new price a price write.
//!
//! Promises to say exactly what was sent and what was accepted. Goes through the API alone,
//! as a shop would; never touches MySQL or Redis.

mod client;
mod events;
mod pace;
mod report;

use crate::api_client::{ApiClient, MAX_SKUS};
use crate::args::ReplayArgs;
use crate::exit::{Exit, Failure};
use crate::online_retail::{self, ProductLine};
use crate::output::Output;
use crate::progress::Progress;
use crate::rejects::Rejects;
use client::{Client, Pause};
use domain::{ProductId, Sku};
use events::{Plan, PricesSent};
use pace::Pace;
pub(crate) use pace::Speed;
use report::{Report, Tally};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use telemetry::stop::Shutdown;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where the API is; clients are dealt out to the addresses in turn.
pub(crate) struct Apis {
    pub(crate) urls: Vec<String>,
    pub(crate) token: Option<String>,
}

impl Apis {
    fn client(&self, number: usize) -> Result<ApiClient, Failure> {
        let url = &self.urls[number % self.urls.len()];
        ApiClient::new(url, self.token.as_deref())
    }
}

pub(crate) async fn run(args: &ReplayArgs, apis: &Apis, output: &Output) -> Result<Exit, Failure> {
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let (lines, lines_rejected) = read(args)?;
    let ids = find_ids(&apis.client(0)?, &lines).await?;
    if ids.is_empty() && !lines.is_empty() {
        let cure = format!("run `inventoryctl product import {}` first", args.file.display());
        return Err(Failure::new(Exit::NotFound, format!("the catalogue has none of the products of the file: {cure}")));
    }
    let clients = usize::from(args.clients);
    let plan = Plan::new(lines, &ids, clients);
    if plan.lines_without_product > 0 {
        eprintln!("{} lines are left out: the catalogue does not have their products", plan.lines_without_product);
    }
    let without_product = plan.lines_without_product;
    let began = Instant::now();
    let tally = play(args, apis, plan, &stop).await?;
    let report = Report::new(&tally, without_product, lines_rejected, began.elapsed().as_secs_f64());
    output.one(&report)?;
    match (tally.clients_gone.get(), stop.is_requested() && !args.repeat) {
        (0, false) => Ok(report.exit()),
        (0, true) => Err(Failure::new(Exit::Failure, "interrupted: the rest of the file was not sent")),
        _ => Err(Failure::new(Exit::Unreachable, "the API accepted nothing any more: the rest of the file was not sent")),
    }
}

fn read(args: &ReplayArgs) -> Result<(Vec<ProductLine>, u64), Failure> {
    let mut rejects = Rejects::of(&args.file, args.errors_to.as_deref())?;
    let mut lines = Vec::new();
    let counts = online_retail::read(&args.file, |line| lines.push(line), |reject| rejects.add(reject));
    let counts = counts.map_err(|fault| Failure::doing(format!("reading {}", args.file.display()), &fault))?;
    rejects.finish()?;
    Ok((lines, counts.rejected))
}

async fn find_ids(api: &ApiClient, lines: &[ProductLine]) -> Result<HashMap<Sku, ProductId>, Failure> {
    // A comma would end the SKU in the query; such a product counts as not in the catalogue.
    let skus: BTreeSet<_> = lines.iter().map(|line| &line.sku).filter(|sku| !sku.as_str().contains(',')).collect();
    let skus: Vec<_> = skus.into_iter().cloned().collect();
    let mut ids = HashMap::new();
    for skus in skus.chunks(MAX_SKUS) {
        ids.extend(api.find_ids(skus).await?);
    }
    Ok(ids)
}

async fn play(args: &ReplayArgs, apis: &Apis, plan: Plan, stop: &Shutdown) -> Result<Arc<Tally>, Failure> {
    let pace = Pace { speed: args.speed, began: Instant::now(), first: plan.first, last: plan.last };
    let tally = Arc::new(Tally::default());
    let progress = Progress::start("requests", (!args.repeat).then_some(plan.requests));
    let mut running = JoinSet::new();
    for (number, events) in plan.clients.into_iter().enumerate() {
        let client = Client {
            api: apis.client(number)?,
            pace,
            tally: Arc::clone(&tally),
            progress: Arc::clone(&progress),
            stop: stop.clone(),
            prices: PricesSent::default(),
            pause: Pause::default(),
        };
        running.spawn(client.run(events, args.repeat));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|fault| Failure::doing("a client of the replay", &fault))?;
    }
    progress.finish();
    Ok(tally)
}
