//! The settings of `inventory-api`. The doc comments are the reference that `--help` prints.

use crate::cors::Origins;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;
use storage::settings::StoreArgs;
use telemetry::config::shown::{self, Environment, Setting};
use telemetry::config::{LogArgs, parse_duration, refuse_unknown_variables};
use telemetry::tokens::TokensArgs;

/// Most HTTP threads of one process.
const MAX_THREADS: i64 = 512;

/// Ours, but not acted upon yet. Whoever sets one of them relies on it, so it is not ignored.
const NOT_SUPPORTED: [&str; 3] = ["INVENTORY_RATE_LIMIT", "INVENTORY_TLS_CERT_FILE", "INVENTORY_TLS_KEY_FILE"];

/// HTTP API of the inventory: products, prices and views
#[derive(Parser)]
#[command(name = "inventory-api", version)]
pub(crate) struct Settings {
    /// Address of the public API
    #[arg(long, env = "INVENTORY_API_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) api_listen: SocketAddr,
    /// Address of metrics, health and the admin routes
    #[arg(long, env = "INVENTORY_API_OPS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) api_ops_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) tokens: TokensArgs,
    /// Origins whose web pages may call the API: https://shop.example,https://… or * for all
    #[arg(long, env = "INVENTORY_CORS_ORIGINS", value_name = "ORIGINS", value_parser = Origins::parse)]
    pub(crate) cors_origins: Option<Origins>,
    /// HTTP threads [default: number of cores]
    #[arg(long, env = "INVENTORY_API_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    pub(crate) api_threads: Option<u16>,
    /// How long the body of a request may take to arrive, and then the work on it
    #[arg(long, env = "INVENTORY_REQUEST_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) request_timeout: Duration,
    /// How long a stop waits for requests in flight
    #[arg(long, env = "INVENTORY_SHUTDOWN_TIMEOUT", value_name = "TIME", default_value = "25s", value_parser = parse_duration)]
    pub(crate) shutdown_timeout: Duration,
    /// Most (product, hour) entries that may wait in Redis; past it views are answered 503
    #[arg(long, env = "INVENTORY_QUEUE_CAPACITY", value_name = "ENTRIES", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) queue_capacity: u64,
    /// Views waiting in one shard that wake a worker; the same as the workers have
    #[arg(long, env = "INVENTORY_BATCH_VIEWS", value_name = "VIEWS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_views: u64,
    /// How long a reservation holds its pieces where the request does not say
    #[arg(long, env = "INVENTORY_RESERVATION_TTL", value_name = "TIME", default_value = "15m", value_parser = parse_ttl)]
    pub(crate) reservation_ttl: Duration,
    /// How long a request may ask for at most
    #[arg(long, env = "INVENTORY_RESERVATION_TTL_LIMIT", value_name = "TIME", default_value = "4h", value_parser = parse_ttl)]
    pub(crate) reservation_ttl_limit: Duration,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// All of them as they were at the start, without their secrets.
    #[arg(skip)]
    pub(crate) shown: Vec<Setting>,
}

impl Settings {
    /// Reads flags and environment; flags that cannot be read end the program with status 2.
    ///
    /// # Errors
    /// A variable that no program knows or that this version does not support, or a listener beyond loopback
    /// without tokens.
    pub(crate) fn read() -> Result<Self, String> {
        refuse_unknown_variables(std::env::vars_os())?;
        refuse_unsupported(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))?;
        let matches = Self::command().get_matches();
        let mut settings = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Self::command()).exit());
        settings.shown = settings.shown(&matches, &shown::environment());
        if settings.reservation_ttl > settings.reservation_ttl_limit {
            return Err("INVENTORY_RESERVATION_TTL is longer than INVENTORY_RESERVATION_TTL_LIMIT; lower the one or raise the other".into());
        }
        settings.tokens.check_listener(settings.api_listen, "INVENTORY_API_LISTEN")?;
        settings.tokens.check_listener(settings.api_ops_listen, "INVENTORY_API_OPS_LISTEN")?;
        Ok(settings)
    }

    /// A URL that cannot be used is shown as such; reaching the stores then ends the start, and says why.
    fn shown(&self, matches: &ArgMatches, environment: &Environment) -> Vec<Setting> {
        let arguments: Vec<_> = Self::command().get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect();
        shown::settings(&arguments, matches, environment, |id| self.stores.told(id)).0
    }

    pub(crate) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.api_threads.map_or_else(cores, usize::from)
    }
}

/// Requests say it in whole seconds.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl.as_secs() == 0 || ttl.subsec_nanos() > 0 { Err("write whole seconds, at least 1s".to_owned()) } else { Ok(ttl) }
}

fn refuse_unsupported(is_set: impl Fn(&str) -> bool) -> Result<(), String> {
    match NOT_SUPPORTED.into_iter().find(|name| is_set(name)) {
        Some(name) => Err(format!("{name} is not supported yet; leave it out")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::config::{ALL_VARIABLES, undeclared_variables};

    #[test]
    fn every_setting_is_declared_to_the_siblings() {
        Settings::command().debug_assert();
        assert_eq!(undeclared_variables(&Settings::command()), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_supported_yet_is_known_and_refused() {
        for name in NOT_SUPPORTED {
            assert!(ALL_VARIABLES.contains(&name), "{name}");
            assert!(refuse_unsupported(|set| set == name).unwrap_err().contains(name));
        }
        assert_eq!(refuse_unsupported(|_| false), Ok(()));
    }

    #[test]
    fn every_setting_that_may_be_secret_is_shown_masked() {
        let command = || Settings::command().mut_args(|arg| arg.env(None::<&str>));
        let secret = |arg: &clap::Arg| arg.is_hide_env_values_set();
        let mut flags: Vec<String> =
            command().get_arguments().filter(|arg| secret(arg)).filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        assert!(flags.len() >= 3, "{flags:?}");
        flags = flags.iter().flat_map(|flag| [format!("--{flag}"), "redis://shop:s3cret@db:1/0".to_owned()]).collect();
        let matches = command().get_matches_from(std::iter::once("inventory-api".to_owned()).chain(flags));
        let shown = Settings::from_arg_matches(&matches).unwrap().shown(&matches, &Environment::new());
        assert!(!format!("{shown:?}").contains("s3cret"), "{shown:?}");
        let line = |variable: &str| {
            let setting = shown.iter().find(|setting| setting.variable == variable).unwrap();
            (setting.value.as_deref(), setting.source.as_str())
        };
        assert_eq!(line("INVENTORY_CACHE_REDIS_URL"), (Some("redis://shop:***@db:1/0"), "flag"));
        assert_eq!(line("INVENTORY_REQUEST_TIMEOUT"), (Some("5s"), "default"));
        assert_eq!(line("INVENTORY_API_THREADS"), (None, "default"));
    }
}
