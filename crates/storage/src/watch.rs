//! What every long-running program does with the stores: reaches them at start, however long that takes,
//! and looks at them once a second from then on, for its health and its metrics.

use crate::mysql::dead_letters;
use crate::mysql::migrations::{self, Refusal};
use crate::mysql::pause::{self, Paused};
use crate::mysql::tail::{self, Followed};
use crate::redis::{Info, Link, Node};
use crate::settings::StoreArgs;
use crate::status::{self, Account, Depth};
use crate::{Kind, MySql, Redis};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use telemetry::config::format_duration;
use telemetry::health::{Health, State};
use telemetry::metrics::{QueueMetrics, StoreMetrics};
use telemetry::stop::Shutdown;

const INTERVAL: Duration = Duration::from_secs(1);

/// How old the account in the metrics of a running process may be; more by what the looks take.
pub const ACCOUNT_INTERVAL: Duration = INTERVAL;

/// Every so many looks the dead letters are counted, of which there may be many.
const LOOKS_PER_LETTERS: u32 = 5;

/// How long the start waits for Redis before it goes on without.
const REDIS_AT_START: Duration = Duration::from_secs(2);

/// Reaches both stores. MySQL is waited for without end, because the number of shards and the deployment id
/// come from it; Redis may come later. `None` when the process is asked to stop meanwhile.
/// That they are up is reported by [`watch`]: readiness must not come before the process can serve.
///
/// # Errors
/// What waiting does not mend, such as a wrong setting, an old schema or a prefix of another deployment.
pub async fn reach(
    args: &StoreArgs,
    metrics: &Arc<StoreMetrics>,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<Option<(MySql, Redis)>, String> {
    let mysql = MySql::new(&args.mysql_url()?, args.mysql_connections, metrics.clone())?;
    // Said before MySQL is waited for: a wrong URL is wrong whatever MySQL does.
    args.redis_url()?;
    args.cache_redis_url()?;
    let deployment = loop {
        match migrations::reach(&mysql).await {
            Ok(deployment) => break deployment,
            Err(Refusal::Store(error)) if matches!(error.kind(), Kind::Unavailable | Kind::Unknown) => {
                health.mysql(State::awaited(&error));
                shutdown.sleep(INTERVAL).await;
            }
            Err(refusal) => return Err(refusal.to_string()),
        }
        if shutdown.is_requested() {
            return Ok(None);
        }
    };
    tracing::info!(server = deployment.server_version, shards = deployment.shards.count(), id = deployment.id, "mysql is up");
    health.fact("mysql", format!("{}; {}", deployment.server_version, deployment.durability));
    let redis = Redis::new(args, &deployment, metrics)?;
    for node in redis.nodes() {
        if let Link::Refused { why } = node.wait(REDIS_AT_START).await {
            return Err(why);
        }
    }
    Ok(Some((mysql, redis)))
}

/// What [`watch`] looks at and tells.
pub struct Watched {
    pub mysql: MySql,
    pub redis: Redis,
    pub health: Health,
    pub stores: Arc<StoreMetrics>,
    pub queue: Arc<QueueMetrics>,
}

/// What one look at the stores found.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub mysql_up: bool,
    pub redis_up: bool,
    /// Who holds the drain, as it was last known.
    pub paused: Option<Paused>,
    /// `None` while Redis is away.
    pub depth: Option<Depth>,
    /// `None` while either store is away.
    pub account: Option<Account>,
    /// Of the server with the queue; `None` while it is away.
    pub queue: Option<Info>,
}

/// Looks at both stores once a second until the process stops; `on_look` hears what was found.
pub async fn watch(watched: Watched, on_look: impl Fn(&Look), shutdown: Shutdown) {
    let Watched { mysql, redis, health, stores, queue } = watched;
    let (mut looks, mut tail, mut look) = (0_u32, Tail::new(), Look::default());
    while !shutdown.is_requested() {
        let reached = mysql.ping().await;
        health.mysql(reached.as_ref().map_or_else(State::down, |()| State::Up));
        if reached.is_ok()
            && let Ok(paused) = pause::state(&mysql).await
        {
            queue.paused.set(i64::from(paused.is_some()));
            look.paused.clone_from(&paused);
            health.fact("queue", paused.map_or_else(|| "not paused".to_owned(), |paused| paused.to_string()));
        }
        let followed = if reached.is_ok() { tail::followed(&mysql).await.ok() } else { None };
        health.fact("plain SQL by others", shown(followed.as_ref(), &redis));
        tail.note(followed.as_ref(), &stores);
        look.queue = None;
        for node in redis.nodes() {
            // A failure shows in the node's link.
            if let Ok(info) = node.info().await {
                health.fact(format!("redis {}", node.roles().name()), facts(&info));
                if node.roles().has_queue() {
                    look.queue = Some(info);
                }
            }
        }
        let state = redis_state(&redis);
        (look.mysql_up, look.redis_up) = (reached.is_ok(), state == State::Up);
        stores.redis_up(look.redis_up);
        health.redis(state);
        (look.depth, look.account) = queued(reached.is_ok().then_some(&mysql), &redis, &queue).await;
        on_look(&look);
        if reached.is_ok()
            && looks.is_multiple_of(LOOKS_PER_LETTERS)
            && let Ok(letters) = dead_letters::count(&mysql).await
        {
            queue.dead_letters.set_count(letters);
        }
        looks = looks.wrapping_add(1);
        shutdown.sleep(INTERVAL).await;
    }
}

/// When what others write is shown, in words.
fn shown(followed: Option<&Followed>, redis: &Redis) -> String {
    let ttl = || format!("shown within the cache's TTL ({})", format_duration(redis.cache_ttl));
    match followed {
        Some(Followed::Closely) => format!("shown within 2 s: {}", Followed::Closely),
        Some(followed @ Followed::Late(_)) => format!("shown late: {followed}"),
        Some(followed) => format!("{}: {followed}", ttl()),
        None => format!("{} at the latest; whether the binlog is followed is not known while MySQL is away", ttl()),
    }
}

/// How late plain SQL is shown, as far as this process saw.
struct Tail {
    /// When it was last seen to be followed closely, or late by `lag`.
    seen: Instant,
    lag: Duration,
}

impl Tail {
    fn new() -> Self {
        Self { seen: Instant::now(), lag: Duration::ZERO }
    }

    fn note(&mut self, followed: Option<&Followed>, metrics: &StoreMetrics) {
        if let Some(lag) = followed.and_then(Followed::lag) {
            (self.seen, self.lag) = (Instant::now(), lag);
        }
        // What nobody follows gets older by itself.
        let unseen = if matches!(followed, Some(Followed::Closely | Followed::Late(_))) { Duration::ZERO } else { self.seen.elapsed() };
        metrics.tail(followed == Some(&Followed::Closely), self.lag + unseen);
    }
}

/// What the queue holds, and where all views are. The account, which also knows what is in MySQL, has the last word on the age.
async fn queued(mysql: Option<&MySql>, redis: &Redis, metrics: &QueueMetrics) -> (Option<Depth>, Option<Account>) {
    let Ok(told) = status::depth(redis).await else { return (None, None) };
    metrics.depth.set_count(told.entries);
    metrics.in_flight.set_count(told.in_flight);
    metrics.views_pending.set_count(told.views);
    let account = match mysql {
        Some(mysql) => status::account(mysql, redis).await.ok(),
        None => None,
    };
    let (depth, account) = account.map_or((told, None), |(account, depth)| (depth, Some(account)));
    if let Some(account) = &account {
        metrics.conservation_drift.set(account.drift());
        metrics.views_lost.advance_to(account.lost);
    }
    metrics.oldest_age.set(Duration::from_secs_f64(depth.oldest_age_seconds(now_ms())));
    (Some(depth), account)
}

fn facts(info: &Info) -> String {
    let aof = if info.aof { "AOF on" } else { "AOF off: what waits is lost with the process" };
    let limit = if info.memory_limit == 0 { "no maxmemory".to_owned() } else { format!("maxmemory {} bytes", info.memory_limit) };
    format!("{}.{}; {aof}; {limit}; {}", info.version.0, info.version.1, info.policy)
}

/// The worse of both servers.
fn redis_state(redis: &Redis) -> State {
    let state = |node: &Node| match node.link() {
        Link::Up(_) => None,
        Link::Away { why } => Some(State::down(why)),
        Link::Refused { why } => Some(State::refused(why)),
    };
    redis.nodes().find_map(state).unwrap_or(State::Up)
}

/// The clock that stamps views and tells their age, milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
