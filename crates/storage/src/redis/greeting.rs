//! What happens on every new connection before its first use: who is there, may we use it, are our scripts known.

use super::errors::of_driver;
use super::info::{Identity, Info, Link, Roles, policy_ok};
use super::keys::Keys;
use super::scripts::SCRIPTS;
use crate::Kind;
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisError};
use std::time::Duration;

/// Connecting, and each step of the greeting, on a healthy network takes a few milliseconds.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_millis(250);

/// How long a reply may take. Far above any script (tens of ms) and above most stalls of `appendfsync always`.
const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// Commands on their way on one connection; beyond it callers wait in line.
const MOST_IN_FLIGHT: usize = 10_000;

/// Connects and checks that the server can keep our promises.
///
/// # Errors
/// `Away`, which passes with time, or `Refused`, which does not.
pub(super) async fn greet(client: &Client, identity: &Identity) -> Result<(MultiplexedConnection, Info), Link> {
    let greeting = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        let text: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
        // Also tells a server that still loads its data: it answers INFO, but no other command.
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        load_scripts(&mut connection).await?;
        Ok::<_, RedisError>((connection, Info::parse(&text)))
    };
    let greeting = tokio::time::timeout(2 * CONNECT_LIMIT, greeting).await;
    let (mut connection, info) = greeting.map_err(|_| Link::Away { why: "does not answer".to_owned() })?.map_err(away)?;
    check(identity.roles, &info)?;
    claim_prefix(identity, &mut connection).await?;
    Ok((connection, info))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_response_timeout(Some(REPLY_LIMIT))
        .set_concurrency_limit(MOST_IN_FLIGHT)
}

/// Another connection to a run that was greeted; `None` if it cannot be had, or if the server is another one by now.
pub(super) async fn connect_again(client: &Client, run8: &str) -> Option<MultiplexedConnection> {
    let connecting = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        let text: String = ::redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        Ok::<_, RedisError>((connection, Info::parse(&text)))
    };
    let connected = tokio::time::timeout(2 * CONNECT_LIMIT, connecting).await;
    let (connection, info) = connected.ok()?.ok()?;
    info.run_id.starts_with(run8).then_some(connection)
}

fn away(error: RedisError) -> Link {
    Link::Away { why: of_driver(&error).to_string() }
}

/// Refuses servers on which our promises would not hold.
fn check(roles: Roles, info: &Info) -> Result<(), Link> {
    let refused = |why: String| Err(Link::Refused { why });
    if info.version < (6, 2) {
        return refused(format!("Redis is {}.{}; 6.2 or newer is needed", info.version.0, info.version.1));
    }
    if info.run_id.len() < 8 {
        return refused("Redis shows no run_id; connect to it directly and not through a proxy that hides INFO".to_owned());
    }
    if info.is_replica {
        return Err(Link::Away { why: "this Redis is a replica".to_owned() });
    }
    if roles.has_queue() && info.policy.starts_with("allkeys") {
        let cure = "set maxmemory-policy to noeviction, or to volatile-lfu where the cache shares the server";
        return refused(format!("Redis would evict views that wait for MySQL: maxmemory-policy is {}; {cure}", info.policy));
    }
    warn(roles, info);
    Ok(())
}

fn warn(roles: Roles, info: &Info) {
    if roles.has_queue() && !info.aof {
        tracing::warn!("Redis has its AOF off: views that wait for MySQL are lost with the process; set appendonly yes");
    }
    if !policy_ok(roles, &info.policy) {
        tracing::warn!(
            policy = info.policy,
            "{roles:?}: the cache fills Redis up until views are refused; set maxmemory-policy volatile-lfu"
        );
    }
}

/// The key prefix belongs to one database. Without this a staging worker with the same prefix would drain production's views.
async fn claim_prefix(identity: &Identity, connection: &mut MultiplexedConnection) -> Result<(), Link> {
    let key = Keys::owner(&identity.prefix);
    let claim = ::redis::cmd("SET").arg(&key).arg(&identity.deployment).arg("NX").exec_async(connection).await;
    match claim {
        Ok(()) => {}
        // Full: nothing can be written now, and whoever owns the prefix can still be read.
        Err(error) if of_driver(&error).kind() == Kind::Full => {}
        Err(error) => {
            return Err(Link::Away { why: of_driver(&error).to_string() });
        }
    }
    let owner: Option<String> =
        ::redis::cmd("GET").arg(&key).query_async(connection).await.map_err(|error| Link::Away { why: of_driver(&error).to_string() })?;
    match owner {
        Some(owner) if owner != identity.deployment => Err(Link::Refused {
            why: format!(
                "the prefix {:?} in Redis belongs to another database (deployment {owner}, ours is {}); set INVENTORY_KEY_PREFIX",
                identity.prefix, identity.deployment
            ),
        }),
        _ => Ok(()),
    }
}

pub(super) async fn load_scripts(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut pipeline = ::redis::pipe();
    for script in SCRIPTS.all() {
        pipeline.load_script(script).ignore();
    }
    pipeline.exec_async(connection).await
}
