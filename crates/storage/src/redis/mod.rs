//! Redis: fast and forgetful. Nothing here is the truth; what must survive Redis is settled in MySQL.
//!
//! A [`Node`] is one server. It hands out a [`Session`]: a connection together with the `run_id` of the
//! server behind it, as one value. All steps of an operation use the same session; when its connection
//! breaks, the rest of the operation is dropped and a later one gets a new session, which may speak to a
//! server with older data and therefore names its cache keys differently. The self-reconnecting clients of
//! the `redis` crate cannot promise that, so the multiplexed connection is used, which never reconnects.

pub mod keys;
pub mod product_cache;
mod scripts;
pub mod view_queue;

use crate::settings::StoreArgs;
use crate::{Error, Kind};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind};
use keys::Keys;
use scripts::SCRIPTS;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use telemetry::metrics::{RedisOp, RedisRole, StoreMetrics};
use tokio::sync::Notify;

/// Connecting, and each step of the greeting, on a healthy network takes a few milliseconds.
const CONNECT_LIMIT: Duration = Duration::from_millis(250);

/// How long a reply may take. Far above any script (tens of ms) and above most stalls of `appendfsync always`.
const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// Pause between attempts to connect: the first, and the longest. Short, so that service is back within a second of the server.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often a quiet connection is tried.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Commands on their way on one connection; beyond it callers wait in line.
const MOST_IN_FLIGHT: usize = 10_000;

/// Both roles of Redis as one process uses them: the queue, and the cache, which may be the same server.
#[derive(Clone)]
pub struct Redis {
    pub queue: Node,
    pub cache: Node,
    pub keys: Keys,
    pub(crate) cache_ttl: Duration,
    pub(crate) negative_ttl: Duration,
}

impl Redis {
    /// Starts connecting; see [`Node::wait`].
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(args: &StoreArgs, deployment: &crate::mysql::Deployment, metrics: &Arc<StoreMetrics>) -> Result<Self, String> {
        let node = |url: String, roles| Node::new(&url, roles, &args.key_prefix, &deployment.id, metrics.clone());
        let (queue, cache) = match args.cache_redis_url()? {
            None => {
                let both = node(args.redis_url()?, Roles::Both)?;
                (both.clone(), both)
            }
            Some(cache) => (node(args.redis_url()?, Roles::Queue)?, node(cache, Roles::Cache)?),
        };
        let keys = Keys::new(&args.key_prefix, deployment.shards);
        Ok(Self { queue, cache, keys, cache_ttl: args.cache_ttl, negative_ttl: args.cache_negative_ttl })
    }

    /// Whether queue and cache are one server, so that one round trip reads both.
    #[must_use]
    pub fn is_one(&self) -> bool {
        Arc::ptr_eq(&self.queue.inner, &self.cache.inner)
    }

    /// The servers, each once.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let cache = (!self.is_one()).then_some(&self.cache);
        std::iter::once(&self.queue).chain(cache)
    }
}

/// What a server is used for; decides which eviction policies it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    Queue,
    Cache,
    Both,
}

impl Roles {
    fn has_queue(self) -> bool {
        self != Self::Cache
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Cache => "cache",
            Self::Both => "queue and cache",
        }
    }

    fn labels(self) -> &'static [RedisRole] {
        match self {
            Self::Queue => &[RedisRole::Queue],
            Self::Cache => &[RedisRole::Cache],
            Self::Both => &[RedisRole::Queue, RedisRole::Cache],
        }
    }
}

/// What became of the last attempt to connect.
#[derive(Debug, Clone)]
pub enum Link {
    Up(Info),
    Away {
        why: String,
    },
    /// Waiting does not mend it: another deployment owns the prefix, or the queue could be evicted.
    Refused {
        why: String,
    },
}

/// One server. Clones share the connection.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    roles: Roles,
    prefix: String,
    deployment: String,
    metrics: Arc<StoreMetrics>,
    live: Mutex<Option<Session>>,
    link: Mutex<Link>,
    next_epoch: AtomicU64,
    /// Wakes the keeper of the connection when the connection broke.
    broken: Notify,
    /// Wakes those who wait for the first outcome.
    changed: Notify,
}

/// A connection and the run of the server behind it.
#[derive(Clone)]
pub struct Session {
    connection: MultiplexedConnection,
    run8: Arc<str>,
    epoch: u64,
    node: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    fn new(url: &str, roles: Roles, prefix: &str, deployment: &str, metrics: Arc<StoreMetrics>) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| format!("{error}; a Redis URL has the form redis://host:port/db"))?;
        let inner = Arc::new(Inner {
            client,
            roles,
            prefix: prefix.to_owned(),
            deployment: deployment.to_owned(),
            metrics,
            live: Mutex::new(None),
            link: Mutex::new(Link::Away { why: "not connected yet".to_owned() }),
            next_epoch: AtomicU64::new(1),
            broken: Notify::new(),
            changed: Notify::new(),
        });
        tokio::spawn(keep_connected(inner.clone()));
        Ok(Self { inner })
    }

    /// The live session. Fails at once when there is none; a new one comes by itself.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn session(&self) -> Result<Session, Error> {
        if let Some(session) = lock(&self.inner.live).as_ref() {
            return Ok(session.clone());
        }
        let why = match self.link() {
            Link::Away { why } | Link::Refused { why } => why,
            Link::Up(_) => "reconnecting".to_owned(),
        };
        // The reason of a failed command names Redis already.
        let why = why.strip_prefix("Redis: ").unwrap_or(&why);
        Err(Error::new(Kind::Unavailable, format!("Redis: {why}")))
    }

    #[must_use]
    pub fn link(&self) -> Link {
        lock(&self.inner.link).clone()
    }

    #[must_use]
    pub fn roles(&self) -> Roles {
        self.inner.roles
    }

    /// Waits until the server was reached or refused us, for at most `limit`.
    pub async fn wait(&self, limit: Duration) -> Link {
        let settled = async {
            loop {
                let changed = self.inner.changed.notified();
                match self.link() {
                    Link::Away { .. } => changed.await,
                    link => return link,
                }
            }
        };
        tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| self.link())
    }

    /// Reads `INFO` and sets the gauges of this server.
    ///
    /// # Errors
    /// The server is away.
    pub async fn info(&self) -> Result<Info, Error> {
        let text: String = self.session()?.command(RedisOp::Status, &::redis::cmd("INFO")).await?;
        let info = Info::parse(&text);
        self.inner.note(&info);
        *lock(&self.inner.link) = Link::Up(info.clone());
        Ok(info)
    }

    pub(crate) fn metrics(&self) -> &Arc<StoreMetrics> {
        &self.inner.metrics
    }

    /// A connection of its own for a blocking command: it has no limit on replies and is never shared.
    ///
    /// # Errors
    /// The server is away.
    pub(crate) async fn blocking_connection(&self) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_LIMIT)).set_response_timeout(None);
        self.inner.client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| of_driver(&error))
    }
}

impl Session {
    /// First 8 characters of the server's `run_id`.
    #[must_use]
    pub fn run8(&self) -> &Arc<str> {
        &self.run8
    }

    /// Whether no newer connection has replaced this one.
    #[must_use]
    pub fn is_current(&self) -> bool {
        lock(&self.node.live).as_ref().is_some_and(|live| live.epoch == self.epoch)
    }

    pub(crate) async fn command<T: FromRedisValue>(&self, op: RedisOp, command: &::redis::Cmd) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        self.observed(op, async move { command.query_async(&mut connection).await }).await
    }

    pub(crate) async fn script<T: FromRedisValue>(&self, op: RedisOp, call: &ScriptInvocation<'_>) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        self.observed(op, async move { call.invoke_async(&mut connection).await }).await
    }

    /// Runs a pipeline; when a script in it was unknown, loads the scripts and runs the pipeline again. Every
    /// pipeline of ours may be repeated.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, op: RedisOp, pipeline: &Pipeline) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        let run = async move {
            match pipeline.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    load_scripts(&mut connection).await?;
                    pipeline.query_async(&mut connection).await
                }
                result => result,
            }
        };
        self.observed(op, run).await
    }

    async fn observed<T>(&self, op: RedisOp, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, Error> {
        let started = Instant::now();
        let result = call.await;
        self.node.metrics.observe_redis(op, started.elapsed());
        result.map_err(|error| {
            let ours = of_driver(&error);
            self.node.metrics.redis_error(op, ours.kind().label());
            if matches!(ours.kind(), Kind::Unknown | Kind::Unavailable) {
                self.node.lost(self.epoch, &ours);
            }
            ours
        })
    }
}

impl Inner {
    /// Gives up a connection that failed, once.
    fn lost(&self, epoch: u64, why: &Error) {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|session| session.epoch == epoch) {
            *live = None;
            drop(live);
            self.set_link(Link::Away { why: why.to_string() });
            self.broken.notify_one();
        }
    }

    fn set_link(&self, link: Link) {
        let up = matches!(link, Link::Up(_));
        if self.roles.has_queue() || !up {
            self.metrics.redis_up(up);
        }
        *lock(&self.link) = link;
        self.changed.notify_waiters();
    }

    fn note(&self, info: &Info) {
        let ok = policy_ok(self.roles, &info.policy);
        for role in self.roles.labels() {
            self.metrics.redis_memory(*role, info.memory_used, info.memory_limit);
            self.metrics.redis_policy_ok(*role, ok);
            self.metrics.redis_evicted(*role, info.evicted_keys);
        }
    }
}

/// Connects, watches the connection, and connects again, for as long as the process lives.
async fn keep_connected(inner: Arc<Inner>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(&inner).await {
            Ok((session, info)) => {
                pause = FIRST_PAUSE;
                tracing::info!(roles = ?inner.roles, run = %session.run8, "redis is up");
                *lock(&inner.live) = Some(session.clone());
                inner.note(&info);
                inner.set_link(Link::Up(info));
                watch(&inner, session).await;
                tracing::warn!(roles = ?inner.roles, "redis was lost; reconnecting");
            }
            Err(Link::Away { why }) => inner.set_link(Link::Away { why }),
            Err(link) => {
                if let Link::Refused { why } = &link {
                    tracing::error!("{why}");
                }
                inner.set_link(link);
                pause = Duration::from_secs(1);
            }
        }
        tokio::time::sleep(pause + Duration::from_millis(fastrand::u64(0..20))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns when the session broke.
async fn watch(inner: &Arc<Inner>, session: Session) {
    while session.is_current() {
        tokio::select! {
            () = inner.broken.notified() => {}
            () = tokio::time::sleep(PING_INTERVAL) => {
                // A failed PING gives the session up by itself.
                let _ = session.command::<String>(RedisOp::Status, &::redis::cmd("PING")).await;
            }
        }
    }
}

async fn connect(inner: &Arc<Inner>) -> Result<(Session, Info), Link> {
    let away = |error: RedisError| Link::Away { why: of_driver(&error).to_string() };
    let started = Instant::now();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_response_timeout(Some(REPLY_LIMIT))
        .set_concurrency_limit(MOST_IN_FLIGHT);
    let greeting = async {
        let mut connection = inner.client.get_multiplexed_async_connection_with_config(&config).await?;
        let text: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
        // Also tells a server that still loads its data: it answers INFO, but no other command.
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        Ok::<_, RedisError>((connection, Info::parse(&text)))
    };
    let greeting = tokio::time::timeout(2 * CONNECT_LIMIT, greeting).await;
    let (mut connection, info) = greeting.map_err(|_| Link::Away { why: "does not answer".to_owned() })?.map_err(away)?;
    inner.metrics.observe_redis(RedisOp::Connect, started.elapsed());
    check(inner, &info)?;
    load_scripts(&mut connection).await.map_err(away)?;
    claim_prefix(inner, &mut connection).await?;
    let run8: Arc<str> = info.run_id.get(..8).unwrap_or(&info.run_id).into();
    let epoch = inner.next_epoch.fetch_add(1, Ordering::Relaxed);
    Ok((Session { connection, run8, epoch, node: inner.clone() }, info))
}

/// Refuses servers on which our promises would not hold.
fn check(inner: &Inner, info: &Info) -> Result<(), Link> {
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
    if inner.roles.has_queue() && info.policy.starts_with("allkeys") {
        let cure = "set maxmemory-policy to noeviction, or to volatile-lfu where the cache shares the server";
        return refused(format!("Redis would evict views that wait for MySQL: maxmemory-policy is {}; {cure}", info.policy));
    }
    warn(inner.roles, info);
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

/// Queue alone: `noeviction`; queue and cache in one: `volatile-lfu` or `-lru`; cache alone: any.
fn policy_ok(roles: Roles, policy: &str) -> bool {
    match roles {
        Roles::Queue => policy == "noeviction",
        Roles::Both => matches!(policy, "volatile-lfu" | "volatile-lru"),
        Roles::Cache => true,
    }
}

/// The key prefix belongs to one database. Without this a staging worker with the same prefix would drain production's views.
async fn claim_prefix(inner: &Inner, connection: &mut MultiplexedConnection) -> Result<(), Link> {
    let key = Keys::owner(&inner.prefix);
    let claim = ::redis::cmd("SET").arg(&key).arg(&inner.deployment).arg("NX").exec_async(connection).await;
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
        Some(owner) if owner != inner.deployment => Err(Link::Refused {
            why: format!(
                "the prefix {:?} in Redis belongs to another database (deployment {owner}, ours is {}); set INVENTORY_KEY_PREFIX",
                inner.prefix, inner.deployment
            ),
        }),
        _ => Ok(()),
    }
}

async fn load_scripts(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut pipeline = ::redis::pipe();
    for script in SCRIPTS.all() {
        pipeline.load_script(script).ignore();
    }
    pipeline.exec_async(connection).await
}

fn of_driver(error: &RedisError) -> Error {
    let kind = match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown,
        ) => Kind::Unavailable,
        // A script that meets the limit answers with the error inside its own.
        _ if error.code() == Some("OOM") || error.to_string().contains("OOM ") => Kind::Full,
        ErrorKind::Io if error.is_connection_refusal() => Kind::Unavailable,
        ErrorKind::Io => Kind::Unknown,
        _ if error.is_connection_dropped() || error.is_timeout() => Kind::Unknown,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Kind::Corrupt,
        _ => Kind::Bug,
    };
    Error::new(kind, format!("Redis: {error}"))
}

/// What `INFO` says that matters here.
#[derive(Debug, Clone, Default)]
pub struct Info {
    pub version: (u32, u32),
    pub run_id: String,
    pub is_replica: bool,
    /// `maxmemory-policy`.
    pub policy: String,
    pub aof: bool,
    pub memory_used: u64,
    /// 0: none.
    pub memory_limit: u64,
    pub evicted_keys: u64,
}

impl Info {
    fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
            let number = || value.parse().unwrap_or(0);
            match name {
                "redis_version" => {
                    let mut parts = value.split('.').map(|part| part.parse().unwrap_or(0));
                    info.version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
                }
                "run_id" => value.clone_into(&mut info.run_id),
                "role" => info.is_replica = value == "slave",
                "maxmemory_policy" => value.clone_into(&mut info.policy),
                "aof_enabled" => info.aof = value == "1",
                "used_memory" => info.memory_used = number(),
                "maxmemory" => info.memory_limit = number(),
                "evicted_keys" => info.evicted_keys = number(),
                _ => {}
            }
        }
        info
    }
}
