//! What a Redis says of itself, also one that a [`Node`](super::Node) would refuse. Judging it is its caller's.
//!
//! Reads only. What the server does not let us see, such as CONFIG on a managed one, is an error in its own field.

use super::errors::of_driver;
use super::greeting::CONNECT_LIMIT;
use super::keys::Keys;
use super::workers::{self, Worker};
use crate::fields::{Clock, Fields};
use crate::watch::now_ms;
use crate::{Error, Kind};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, cmd};
use domain::Shards;
use std::time::Duration;

/// How long one reply may take. Long enough for a server that stalls, short enough for somebody who waits.
const REPLY_LIMIT: Duration = Duration::from_secs(2);

/// Settings that INFO does not show.
const SETTINGS: [&str; 10] = [
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "stop-writes-on-bgsave-error",
    "maxmemory-policy",
    "min-replicas-to-write",
    "lua-time-limit",
    "timeout",
    "tcp-keepalive",
];

/// A server as this client sees it.
#[derive(Debug, Clone)]
pub struct Server {
    /// All that INFO says.
    pub info: Fields,
    /// The settings of `CONFIG GET`, by name.
    pub config: Result<Fields, Error>,
    /// Id of the deployment that owns the key prefix, if it is taken.
    pub owner: Result<Option<String>, Error>,
    /// Those that are connected.
    pub workers: Result<Vec<Worker>, Error>,
    /// Views in the queue. Those of a batch whose worker died between COMMIT and settle are among them.
    pub waiting: Result<u64, Error>,
    pub clock: Result<Clock, Error>,
}

/// Where a server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// As people write it.
    pub name: String,
    /// `redis-cli` and what leads it there. It takes a password from `REDISCLI_AUTH`.
    pub redis_cli: String,
}

impl Place {
    /// # Errors
    /// A URL that cannot be read.
    pub fn of(url: &str) -> Result<Self, String> {
        let client = client(url)?;
        let info = client.get_connection_info();
        let (name, mut redis_cli) = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (format!("{host}:{port}"), format!("redis-cli -h {host} -p {port}"))
            }
            other => (other.to_string(), format!("redis-cli -s {other}")),
        };
        if let Some(user) = info.redis_settings().username().filter(|user| !user.is_empty()) {
            redis_cli += &format!(" --user {user}");
        }
        let number = info.redis_settings().db();
        if number != 0 {
            redis_cli += &format!(" -n {number}");
        }
        Ok(Self { name: format!("{name}/{number}"), redis_cli })
    }
}

fn client(url: &str) -> Result<Client, String> {
    Client::open(url).map_err(|error| format!("{error}; a Redis URL has the form redis://host:port/db"))
}

/// The key that names the owner of `prefix`.
#[must_use]
pub fn owner_key(prefix: &str) -> String {
    Keys::owner(prefix)
}

/// Reads all of it over a connection of its own.
///
/// # Errors
/// The server cannot be reached, lets us not in, or is busy with a script or its data.
pub async fn examine(url: &str, prefix: &str) -> Result<Server, Error> {
    let client = client(url).map_err(|message| Error::new(Kind::Bug, message))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_LIMIT)).set_response_timeout(Some(REPLY_LIMIT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| of_driver(&error))?;
    let text: String = ask(&mut connection, &cmd("INFO")).await?;
    let info: Fields = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    // Not by PING, which a server that refuses writes refuses, too.
    if info.text("loading") == Some("1") {
        return Err(Error::new(Kind::Unavailable, "Redis: it is loading its data"));
    }
    Ok(Server {
        info,
        config: settings(&mut connection).await,
        owner: ask(&mut connection, cmd("GET").arg(owner_key(prefix))).await,
        workers: ask::<String>(&mut connection, &workers::list()).await.map(|clients| workers::listed(&clients)),
        waiting: waiting(&mut connection, prefix).await,
        clock: clock(&mut connection).await,
    })
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<T, Error> {
    command.query_async(connection).await.map_err(|error| of_driver(&error))
}

/// One by one: Redis 6 takes one pattern a call, and a fork may lack a setting.
async fn settings(connection: &mut MultiplexedConnection) -> Result<Fields, Error> {
    let mut all = Vec::new();
    for name in SETTINGS {
        let pairs: Vec<(String, String)> = ask(connection, cmd("CONFIG").arg("GET").arg(name)).await?;
        all.extend(pairs);
    }
    Ok(all.into_iter().collect())
}

/// Asks for as many shards as there can be: how many there are only MySQL knows, which may be away.
async fn waiting(connection: &mut MultiplexedConnection, prefix: &str) -> Result<u64, Error> {
    let keys = Keys::new(prefix, Shards::new(Shards::MAX).expect("a queue may have so many"));
    let mut pipeline = ::redis::pipe();
    for queue in keys.shards().all().map(|shard| keys.queue(shard)) {
        pipeline.get(&queue.waiting).hget(&queue.sums, "=");
    }
    let views: Vec<Option<i64>> = pipeline.query_async(connection).await.map_err(|error| of_driver(&error))?;
    Ok(views.into_iter().flatten().map(|views| views.max(0) as u64).sum())
}

async fn clock(connection: &mut MultiplexedConnection) -> Result<Clock, Error> {
    let before = now_ms();
    let (seconds, micros): (u64, u64) = ask(connection, &cmd("TIME")).await?;
    Ok(Clock::read(before, seconds * 1000 + micros / 1000, now_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leads_redis_cli_there_and_shows_no_password() {
        let place = |url| Place::of(url).unwrap();
        assert_eq!(
            place("redis://127.0.0.1:7001/0"),
            Place { name: "127.0.0.1:7001/0".into(), redis_cli: "redis-cli -h 127.0.0.1 -p 7001".into() }
        );
        let secret = place("redis://shop:p4ss@cache:7001/3");
        assert_eq!(secret.redis_cli, "redis-cli -h cache -p 7001 --user shop -n 3");
        assert!(!format!("{secret:?}").contains("p4ss"));
    }
}
