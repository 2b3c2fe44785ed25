//! The settings of both stores that all programs share. The doc comments are the configuration reference.

use std::path::PathBuf;
use std::time::Duration;
use telemetry::config::shown::Told;
use telemetry::config::{masked_url, parse_duration, read_secret};

/// Where the stores are and how they are used.
#[derive(Debug, Clone, clap::Args)]
pub struct StoreArgs {
    /// The source of truth: MariaDB 10.6+ or MySQL 8.0+
    #[arg(long, env = "INVENTORY_MYSQL_URL", hide_env_values = true, default_value = DEFAULT_MYSQL_URL, global = true)]
    pub mysql_url: String,
    /// A file that holds the URL of MySQL, for URLs with a password
    #[arg(long, env = "INVENTORY_MYSQL_URL_FILE", global = true)]
    pub mysql_url_file: Option<PathBuf>,
    /// The view queue, and the product cache too unless the next is set
    #[arg(long, env = "INVENTORY_REDIS_URL", hide_env_values = true, default_value = DEFAULT_REDIS_URL, global = true)]
    pub redis_url: String,
    /// A file that holds the URL of Redis
    #[arg(long, env = "INVENTORY_REDIS_URL_FILE", global = true)]
    pub redis_url_file: Option<PathBuf>,
    /// A Redis of its own for product records and leases
    #[arg(long, env = "INVENTORY_CACHE_REDIS_URL", hide_env_values = true, global = true)]
    pub cache_redis_url: Option<String>,
    /// A file that holds the URL of the cache's Redis
    #[arg(long, env = "INVENTORY_CACHE_REDIS_URL_FILE", global = true)]
    pub cache_redis_url_file: Option<PathBuf>,
    /// Most connections to MySQL of this process
    #[arg(long, env = "INVENTORY_MYSQL_CONNECTIONS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(2..=10_000), global = true)]
    pub mysql_connections: u16,
    /// First part of every key in Redis
    #[arg(long, env = "INVENTORY_KEY_PREFIX", default_value = "inventory", value_parser = parse_prefix, global = true)]
    pub key_prefix: String,
    /// How long a product record stays in the cache (give or take 10 %)
    #[arg(long, env = "INVENTORY_CACHE_TTL", default_value = "5m", value_parser = parse_duration, global = true)]
    pub cache_ttl: Duration,
    /// How long the absence of a product stays in the cache
    #[arg(long, env = "INVENTORY_CACHE_NEGATIVE_TTL", default_value = "1s", value_parser = parse_duration, global = true)]
    pub cache_negative_ttl: Duration,
}

const DEFAULT_MYSQL_URL: &str = "mysql://inventory@127.0.0.1:3306/inventory";
const DEFAULT_REDIS_URL: &str = "redis://127.0.0.1:6379/0";

impl StoreArgs {
    /// # Errors
    /// Both the URL and its file were given, or the file cannot be read.
    pub fn mysql_url(&self) -> Result<String, String> {
        url(&self.mysql_url, self.mysql_url_file.as_ref(), DEFAULT_MYSQL_URL)
    }

    /// # Errors
    /// As [`Self::mysql_url`], and a kind of Redis that is not supported yet.
    pub fn redis_url(&self) -> Result<String, String> {
        supported(url(&self.redis_url, self.redis_url_file.as_ref(), DEFAULT_REDIS_URL)?)
    }

    /// The cache's own Redis, if it has one.
    ///
    /// # Errors
    /// As [`Self::redis_url`].
    pub fn cache_redis_url(&self) -> Result<Option<String>, String> {
        let url = read_secret(self.cache_redis_url.as_deref(), self.cache_redis_url_file.as_deref())?;
        url.map(supported).transpose()
    }

    /// What is shown of a setting that may be secret or stand in a file, by the id of its argument; `None` for all others.
    #[must_use]
    pub fn told(&self, id: &str) -> Option<Told<'_>> {
        let masked = |url: String| masked_url(&url);
        match id {
            "mysql_url" => Some((self.mysql_url().map(|url| Some(masked(url))), self.mysql_url_file.as_deref())),
            "redis_url" => Some((self.redis_url().map(|url| Some(masked(url))), self.redis_url_file.as_deref())),
            "cache_redis_url" => Some((self.cache_redis_url().map(|url| url.map(masked)), self.cache_redis_url_file.as_deref())),
            _ => None,
        }
    }
}

/// The default counts as not given, so that a file alone is enough.
fn url(value: &str, file: Option<&PathBuf>, default: &str) -> Result<String, String> {
    let given = (file.is_none() || value != default).then_some(value);
    Ok(read_secret(given, file.map(PathBuf::as_path))?.unwrap_or_else(|| default.to_owned()))
}

fn supported(url: String) -> Result<String, String> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("redis" | "unix" | "redis+unix") => Ok(url),
        Some(scheme @ ("rediss" | "redis+cluster")) => Err(format!("{scheme}:// is not supported yet; use redis://host:port/db")),
        _ => Err("a Redis URL has the form redis://host:port/db".to_owned()),
    }
}

/// Braces would move the cluster hash tag, white space would break commands typed by hand.
fn parse_prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("use 1 to 64 of the characters A-Z a-z 0-9 - _ . :".to_owned())
    }
}
