//! `inventoryctl`, the operator's command line.
//!
//! Results go to stdout, everything else to stderr, and the exit code says how it ended.
//! What it knows of the stores is in `stores.rs`, of the API in `api_client.rs`.

#[macro_use]
mod messages;

mod api_client;
mod args;
mod cache;
mod catalogue_file;
mod check;
mod completions;
mod config_show;
mod dead_letters;
mod doctor;
mod exit;
mod export;
#[cfg(test)]
mod help_tests;
mod import;
mod lines;
mod migrate;
mod new_file;
mod online_retail;
mod output;
mod price;
mod product;
mod product_list;
mod products;
mod progress;
mod queue;
mod ready;
mod rejects;
mod replay;
mod reservation;
mod stock;
mod stores;
mod table;
mod token;
mod views;

use api_client::ApiClient;
use args::{
    CacheVerb, Command, CommandLine, ConfigVerb, Connection, DeadLettersVerb, MigrateVerb, PriceVerb, ProductVerb, QueueVerb,
    ReservationVerb, StockVerb, TokenVerb, ViewsVerb,
};
use exit::{Exit, Failure};
use import::Wanted;
use output::Output;
use replay::Apis;
use std::process::ExitCode;
use stores::Stores;
use telemetry::config;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(exit) => exit.into(),
        Err(Failure { exit: Exit::Ok, .. }) => ExitCode::SUCCESS,
        Err(Failure { exit, message }) => {
            eprintln!("inventoryctl: {message}");
            exit.into()
        }
    }
}

async fn run() -> Result<Exit, Failure> {
    let usage = |message| Failure::new(Exit::Usage, message);
    config::refuse_unknown_variables(std::env::vars_os()).map_err(usage)?;
    let (line, matches) = CommandLine::read();
    line.log.init().map_err(usage)?;
    let (connection, output) = (line.connection, Output::new(line.output));
    match line.command {
        Command::Migrate { verb: None, shards } => migrate::run(&connection, shards, &output).await,
        Command::Migrate { verb: Some(MigrateVerb::Status), .. } => migrate::status(&connection, &output).await,
        Command::Product(verb) => of_product(verb, &connection, &output).await,
        Command::Price(verb) => of_price(verb, &connection, &output).await,
        Command::Stock(verb) => of_stock(verb, &api(&connection)?, &output).await,
        Command::Reservation(verb) => of_reservation(verb, &api(&connection)?, &output).await,
        Command::Views(ViewsVerb::Send { product, count, id }) => views::send(&product, count, id, &api(&connection)?, &output).await,
        Command::Views(ViewsVerb::Show(args)) => views::show(&args, &api(&connection)?, &output).await,
        Command::Replay(args) => {
            let urls = if args.api.is_empty() { vec![connection.url.clone()] } else { args.api.clone() };
            let apis = Apis { urls, token: token(&connection)? };
            replay::run(&args, &apis, &output).await
        }
        Command::Queue(QueueVerb::Status { watch }) => queue::status(watch, &Stores::connect(&connection).await?, &output).await,
        Command::Queue(QueueVerb::Pause { reason }) => {
            queue::pause(reason.as_deref(), &stores::mysql_alone(&connection).await?, &output).await
        }
        Command::Queue(QueueVerb::Resume) => queue::resume(&stores::mysql_alone(&connection).await?, &output).await,
        Command::Queue(QueueVerb::Flush { wait }) => queue::flush(wait, &Stores::connect(&connection).await?, &output).await,
        Command::DeadLetters(DeadLettersVerb::List(args)) => {
            dead_letters::list(&args, &stores::mysql_alone(&connection).await?, &output).await
        }
        Command::DeadLetters(DeadLettersVerb::Show { id }) => {
            dead_letters::show(id, &stores::mysql_alone(&connection).await?, &output).await
        }
        Command::DeadLetters(DeadLettersVerb::Replay { which, dry_run }) => {
            dead_letters::replay(&which, dry_run, &Stores::connect(&connection).await?, &output).await
        }
        Command::DeadLetters(DeadLettersVerb::Drop { which, yes }) => {
            dead_letters::drop(&which, yes, &stores::mysql_alone(&connection).await?, &output).await
        }
        Command::Cache(CacheVerb::Invalidate { products, yes, .. }) => {
            cache::invalidate(&products, yes, &Stores::connect(&connection).await?, &output).await
        }
        Command::Check(args) => {
            let api = api(&connection)?;
            check::run(&args, &Stores::connect(&connection).await?, &api, &output).await
        }
        Command::Token(TokenVerb::New(args)) => token::new(&args, &output),
        Command::Doctor(args) => doctor::run(&args, &connection, &output).await,
        Command::Ready(args) => ready::run(&args, &output).await,
        Command::Config(ConfigVerb::Show) => config_show::show(&connection, &matches, &output),
        Command::Completions { shell } => completions::run(shell, &output),
    }
}

async fn of_product(verb: ProductVerb, connection: &Connection, output: &Output) -> Result<Exit, Failure> {
    match verb {
        ProductVerb::Get { product, compare: false } => product::get(&product, &api(connection)?, output).await,
        ProductVerb::Get { product, compare: true } => {
            let api = api(connection)?;
            product::compare(&product, &Stores::connect(connection).await?, &api, output).await
        }
        ProductVerb::List(args) if args.sold_out => {
            let limit = args.sold_out_limit()?;
            product_list::sold_out::run(limit, &stores::mysql_alone(connection).await?, output).await
        }
        ProductVerb::List(args) => product_list::run(&args, &api(connection)?, output).await,
        ProductVerb::Export(args) => export::run(&args, &api(connection)?, output).await,
        ProductVerb::Import(args) => {
            let wanted = Wanted::read(&args)?;
            let stores = Stores::connect(connection).await?;
            let content = wanted.content();
            import::run(wanted, args.dry_run, output, |wish| import::stock::write(&stores, wish, content.as_ref(), args.dry_run)).await
        }
    }
}

async fn of_price(verb: PriceVerb, connection: &Connection, output: &Output) -> Result<Exit, Failure> {
    match verb {
        PriceVerb::Get { product } => price::get(&product, &api(connection)?, output).await,
        PriceVerb::Set(args) => price::set(&args, &api(connection)?, output).await,
        PriceVerb::History(args) => price::history::run(&args, &api(connection)?, output).await,
        PriceVerb::Import(args) => {
            let wanted = price::import::Wanted::read(&args)?;
            let stores = Stores::connect(connection).await?;
            price::import::run(wanted, &args, output, |batch| stores.set_prices(batch)).await
        }
        PriceVerb::Undo { batch } => {
            let stores = Stores::connect(connection).await?;
            price::undo::run(output, |undo, after| stores.undo_prices(batch, undo, after)).await
        }
    }
}

async fn of_stock(verb: StockVerb, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    match verb {
        StockVerb::Get { product } => stock::get(&product, api, output).await,
        StockVerb::Set(args) => stock::set(&args, api, output).await,
        StockVerb::Adjust(args) => stock::adjust(&args, api, output).await,
        StockVerb::Movements(args) => stock::movements::run(&args, api, output).await,
    }
}

async fn of_reservation(verb: ReservationVerb, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    match verb {
        ReservationVerb::Create(args) => reservation::create(&args, api, output).await,
        ReservationVerb::Get { id } => reservation::get(id, api, output).await,
        ReservationVerb::Commit { id } => reservation::end(id, "commit", api, output).await,
        ReservationVerb::Release { id } => reservation::end(id, "release", api, output).await,
    }
}

fn api(connection: &Connection) -> Result<ApiClient, Failure> {
    ApiClient::new(&connection.url, token(connection)?.as_deref())
}

fn token(connection: &Connection) -> Result<Option<String>, Failure> {
    let token = config::read_secret(connection.token.as_deref(), connection.token_file.as_deref());
    token.map_err(|fault| Failure::new(Exit::Usage, format!("INVENTORY_TOKEN: {fault}")))
}
