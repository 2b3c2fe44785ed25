//! The command line: nouns, then verbs. The doc comments are its reference.

mod cache;
mod dead_letters;
mod price;
mod product;
mod reservation;
mod stock;
mod views;

use crate::output::Format;
use crate::replay::Speed;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use domain::Shards;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use telemetry::config::{LogArgs, parse_duration};
use telemetry::scope::Scope;

pub(crate) use cache::CacheVerb;
pub(crate) use dead_letters::{DeadLettersVerb, LettersArgs, WhichArgs};
pub(crate) use price::{OnErrorArg, PriceHistoryArgs, PriceImportArgs, PriceVerb, SetPriceArgs};
pub(crate) use product::{ExportArgs, ExportForm, ImportArgs, Layout, ListArgs, ProductVerb};
pub(crate) use reservation::{CreateArgs, Item, ReservationVerb};
pub(crate) use stock::{AdjustArgs, MovementsArgs, SetStockArgs, StockVerb};
pub(crate) use views::{ShowArgs, ViewsVerb};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 some rows failed, 4 not found, 5 conflict or difference, \
                          6 not allowed, 7 unreachable";

const SERVERS: &str = "Servers";

/// Operates an inventory: products, prices and stock, views and their queue, migrations
#[derive(Debug, Parser)]
#[command(name = "inventoryctl", version, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    /// How results are shown; messages and progress go to stderr
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true, value_name = "FORM")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    // Behind the others: its heading would go on over them.
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl CommandLine {
    /// Reads arguments and environment; on a fault in them the process ends with its words and code 2. The matches tell where
    /// each value came from.
    pub(crate) fn read() -> (Self, ArgMatches) {
        let matches = Self::program().try_get_matches().and_then(sound).unwrap_or_else(|fault| fault.exit());
        let line = Self::from_arg_matches(&matches).unwrap_or_else(|fault| fault.exit());
        (line, matches)
    }

    /// The command line as it is offered. A command speaks for itself: what the stores log of a good connection would only stand
    /// between its lines. `-h` leaves out what all commands have, `--help` is the reference. Both name variables and not what they
    /// hold: `config show` does that.
    pub(crate) fn program() -> clap::Command {
        let of_all = |arg: clap::Arg| arg.hide_short_help(true);
        let program = Self::command().mut_arg("log", |log| log.default_value("warn"));
        let program = program.mut_args(|arg| if arg.is_global_set() && arg.get_id() != "output" { of_all(arg) } else { arg });
        without_values(program)
    }
}

fn without_values(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_values)
}

/// Refuses what clap cannot: flags of `migrate` alone before its verb, while those of all commands may stand there.
fn sound(matches: ArgMatches) -> clap::error::Result<ArgMatches> {
    let migrate = matches.subcommand_matches("migrate").filter(|migrate| migrate.subcommand().is_some());
    if migrate.is_some_and(|migrate| migrate.value_source("shards") == Some(ValueSource::CommandLine)) {
        let message = "--shards has no meaning for `migrate status`";
        return Err(CommandLine::program().error(ErrorKind::ArgumentConflict, message));
    }
    Ok(matches)
}

#[derive(Debug, Args)]
pub(crate) struct Connection {
    #[command(flatten, next_help_heading = SERVERS)]
    pub(crate) stores: storage::settings::StoreArgs,
    /// The API that is called
    #[arg(long, env = "INVENTORY_URL", default_value = "http://127.0.0.1:8080", global = true, help_heading = SERVERS)]
    pub(crate) url: String,
    /// Token for the API
    #[arg(long, env = "INVENTORY_TOKEN", hide_env_values = true, global = true, help_heading = SERVERS)]
    pub(crate) token: Option<String>,
    /// A file that holds the token
    #[arg(long, env = "INVENTORY_TOKEN_FILE", global = true, help_heading = SERVERS)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the database to the schema of this program
    Migrate {
        #[command(subcommand)]
        verb: Option<MigrateVerb>,
        /// View queues of a new database; a fact of it from its first migration on
        #[arg(long, env = "INVENTORY_SHARDS", default_value = "4", value_parser = parse_shards)]
        shards: Shards,
    },
    /// Products of the catalogue
    #[command(subcommand)]
    Product(ProductVerb),
    /// Prices, written through to MySQL and Redis before they are acknowledged
    #[command(subcommand)]
    Price(PriceVerb),
    /// Stock, always as it is in MySQL
    #[command(subcommand)]
    Stock(StockVerb),
    /// Stock that is held for a while, until it is sold or given back
    #[command(subcommand)]
    Reservation(ReservationVerb),
    /// Views, written behind
    #[command(subcommand)]
    Views(ViewsVerb),
    /// Play a file of sales over HTTP: product lines as views, new prices as price writes
    Replay(ReplayArgs),
    /// The queue of views
    #[command(subcommand)]
    Queue(QueueVerb),
    /// Views and text that could not be counted
    #[command(subcommand)]
    DeadLetters(DeadLettersVerb),
    /// The cache of product records
    #[command(subcommand)]
    Cache(CacheVerb),
    /// Compare MySQL, Redis and the API; views and stock must add up; exits 5 on a fault
    ///
    /// What a write under way makes differ is no difference, and what differs is looked at again for longer than a change by plain SQL takes to show. With --repair a cache entry that differs is deleted, which is always safe, and it exits 5 only where something still differs then. Accepted views must be in MySQL, pending, set aside or lost, shard by shard; with --full the total of each product and its hours must say the same.
    Check(CheckArgs),
    /// Tokens that the API asks for
    #[command(subcommand)]
    Token(TokenVerb),
    /// Examine the servers for what the guarantees rest on
    ///
    /// Exits 5 where they deviate, 6 where one lets us not in, 7 where one is away; changes nothing. Rights are examined of the user in the URL of MySQL: run it with each program's settings.
    Doctor(DoctorArgs),
    /// Ask a program whether it is ready; exits 1 where it is not, 7 where none listens
    Ready(ReadyArgs),
    /// The settings of this command line
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print a script that completes commands and flags
    #[command(after_help = "In bash: source <(inventoryctl completions bash)")]
    Completions {
        /// The shell that is to read it
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show each setting with its source, secrets masked, without connecting to anything
    Show,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn parse_shards(text: &str) -> Result<Shards, String> {
    let shards = text.parse().ok().and_then(Shards::new);
    shards.ok_or_else(|| format!("write a number from 1 to {}", Shards::MAX))
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateVerb {
    /// Show which migrations the database has
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// CSV in the layout of UCI Online Retail, plain or gzipped
    pub(crate) file: PathBuf,
    /// A multiple of recorded time, such as 10x; without it as fast as answers come
    #[arg(long)]
    pub(crate) speed: Option<Speed>,
    /// Address of an API; may be given several times, clients are dealt out to them (default: --url)
    #[arg(long, value_name = "URL")]
    pub(crate) api: Vec<String>,
    /// Clients that send at the same time; a product stays with one
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) clients: u16,
    /// Begin again at the end, until Ctrl-C
    #[arg(long)]
    pub(crate) repeat: bool,
    /// Write rejected lines to this CSV file, with line number and reason
    #[arg(long, value_name = "FILE")]
    pub(crate) errors_to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// Show where the accepted views are
    Status {
        /// Show it again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Write no view to MySQL until `queue resume`; views go on being accepted
    Pause {
        /// Why, for those who will find it paused
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// End the hold of `queue pause`
    Resume,
    /// Wait until all views accepted so far are in MySQL
    ///
    /// When the wait was not enough it says why and exits 5 where the queue is paused, 7 where a store is away, 1 where workers need more time or none seems to run. No view is lost by that.
    Flush {
        /// How long at most
        #[arg(long, default_value = "30s", value_parser = parse_wait)]
        wait: Duration,
    },
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = parse_duration(text)?;
    if wait > storage::flush::LONGEST_WAIT { Err("wait for at most 1h".to_owned()) } else { Ok(wait) }
}

fn parse_reason(text: &str) -> Result<String, String> {
    let most = storage::mysql::pause::MOST_CHARS;
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(format!("write 1 to {most} characters, none of them a control character"));
    }
    Ok(text.to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Compare every product, every total of views, and all movements of stock
    #[arg(long, conflicts_with = "sample")]
    pub(crate) full: bool,
    /// Compare so many products, spread over the catalogue
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sample: u32,
    /// Delete cache entries that differ from MySQL, and what earlier runs of Redis left in the cache; write the movements that are
    /// missing where plain SQL changed stock
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a secret and its entry for the tokens file; nothing is stored
    New(NewToken),
}

#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// Whose it is; stands in logs and in the history of prices
    #[arg(long)]
    pub(crate) name: String,
    /// What it may do: catalog:read, catalog:write, prices:write, views:write, stock:read, stock:write, reservations:write,
    /// metrics:read, admin
    #[arg(long, required = true, value_delimiter = ',', value_parser = str::parse::<Scope>)]
    pub(crate) scopes: Vec<Scope>,
    /// It may stand in web pages as ?k= of views; its only scope is views:write
    #[arg(long)]
    pub(crate) publishable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where the API serves its health and metrics; one that is not there is only noted
    #[arg(long, env = "INVENTORY_API_OPS_LISTEN", default_value = "127.0.0.1:8081")]
    pub(crate) api_ops_listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ReadyArgs {
    /// Where its metrics and health are: of an API 8081, of a worker 8082
    #[arg(default_value = "127.0.0.1:8081")]
    pub(crate) ops: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, ErrorKind> {
        CommandLine::try_parse_from(line.split(' ')).map_err(|fault| fault.kind())
    }

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::program().debug_assert();
        assert_eq!(telemetry::config::undeclared_variables(&CommandLine::command()), [""; 0]);
    }

    #[test]
    fn flags_for_all_commands_may_stand_behind_the_verb() {
        let line = parse("inventoryctl queue status --watch -o ndjson --url http://shop:1 --mysql-url mysql://a@b/c").unwrap();
        assert_eq!((line.output, line.connection.url.as_str()), (Format::Ndjson, "http://shop:1"));
        assert_eq!(line.connection.stores.mysql_url, "mysql://a@b/c");
        assert!(matches!(line.command, Command::Queue(QueueVerb::Status { watch: true })));
    }

    #[test]
    fn a_replay_may_name_several_apis() {
        let line = parse("inventoryctl replay f.csv --api http://a:1 --api http://b:2 --speed 10x --clients 3 --repeat").unwrap();
        let Command::Replay(args) = line.command else { panic!("{line:?}") };
        assert_eq!(args.api, ["http://a:1", "http://b:2"]);
        assert_eq!((args.speed, args.clients, args.repeat), (Some("10x".parse().unwrap()), 3, true));
    }

    #[test]
    fn migrate_needs_no_verb() {
        assert!(matches!(parse("inventoryctl migrate").unwrap().command, Command::Migrate { verb: None, .. }));
        for line in ["inventoryctl migrate status", "inventoryctl migrate -o json status"] {
            assert!(matches!(parse(line).unwrap().command, Command::Migrate { verb: Some(MigrateVerb::Status), .. }), "{line}");
        }
        let meaningless = CommandLine::program().try_get_matches_from(["inventoryctl", "migrate", "--shards", "3", "status"]);
        assert_eq!(meaningless.and_then(sound).unwrap_err().kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for line in [
            "token new --name n",
            "token new --name n --scopes price:write",
            "replay f --speed fast",
            "replay f --clients 0",
            "product import f --format shopify",
            "check --full --sample 3",
            "nonsense",
        ] {
            assert!(parse(&format!("inventoryctl {line}")).is_err(), "{line}");
        }
        let missing = CommandLine::try_parse_from(["inventoryctl", "replay"]).unwrap_err();
        assert_eq!(missing.exit_code(), 2);
    }
}
