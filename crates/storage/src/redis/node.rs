//! One Redis server: its connection, kept up for as long as the process lives.
//!
//! A [`Session`] is a connection and the run of the server behind it, as one value. It is never mended: when it breaks it
//! is given up, and later calls get another.

use super::errors::{breaks_session, of_driver};
use super::greeting::{CONNECT_LIMIT, connect_again, greet, load_scripts};
use super::info::{Identity, Info, Link, Roles, policy_ok};
use crate::{Error, Kind};
use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation, ServerErrorKind,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use telemetry::metrics::{RedisOp, StoreMetrics};
use tokio::sync::Notify;

/// Pause between attempts to connect: the first, and the longest. Short, so that service is back within a second of the server.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Pause after a refusal, which somebody has to mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How often a quiet connection is tried.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long after it failed a connection of a thread's own is not tried again.
const OWN_PAUSE: Duration = Duration::from_secs(1);

/// One server. Clones share the connection.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    own: Option<Arc<Mutex<Own>>>,
}

/// A thread's own connection beside the shared one, so that its replies wake nobody else.
#[derive(Default)]
struct Own {
    session: Option<Session>,
    connecting: bool,
    failed: Option<Instant>,
}

struct Inner {
    client: Client,
    identity: Identity,
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
    /// Where it stands as a thread's own connection; `None` for the shared one.
    own: Option<Weak<Mutex<Own>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(super) fn new(url: &str, identity: Identity, metrics: Arc<StoreMetrics>) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| format!("{error}; a Redis URL has the form redis://host:port/db"))?;
        let inner = Arc::new(Inner {
            client,
            identity,
            metrics,
            live: Mutex::new(None),
            link: Mutex::new(Link::Away { why: "not connected yet".to_owned() }),
            next_epoch: AtomicU64::new(1),
            broken: Notify::new(),
            changed: Notify::new(),
        });
        tokio::spawn(keep_connected(inner.clone()));
        Ok(Self { inner, own: None })
    }

    /// The same server, with a connection of its own on the runtime that calls [`Self::session`]. Until that one is up, and
    /// whenever it cannot be, the shared one serves.
    pub(super) fn here(&self) -> Self {
        Self { inner: self.inner.clone(), own: Some(Arc::default()) }
    }

    /// The live session. Fails at once when there is none; a new one comes by itself.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn session(&self) -> Result<Session, Error> {
        let live = lock(&self.inner.live).clone();
        if let Some(live) = live {
            return Ok(self.own_of(&live).unwrap_or(live));
        }
        let why = match self.link() {
            Link::Away { why } | Link::Refused { why } => why,
            Link::Up(_) => "reconnecting".to_owned(),
        };
        // The reason of a failed command names Redis already.
        let why = why.strip_prefix("Redis: ").unwrap_or(&why);
        Err(Error::new(Kind::Unavailable, format!("Redis: {why}")))
    }

    /// The own connection, if it belongs to the same run as the shared one, with which it ends.
    fn own_of(&self, live: &Session) -> Option<Session> {
        let own = self.own.as_ref()?;
        let mut state = lock(own);
        if let Some(session) = state.session.as_ref().filter(|session| session.epoch == live.epoch) {
            return Some(session.clone());
        }
        if !state.connecting && state.failed.is_none_or(|since| since.elapsed() > OWN_PAUSE) {
            state.connecting = true;
            tokio::spawn(connect_own(own.clone(), live.clone()));
        }
        None
    }

    #[must_use]
    pub fn link(&self) -> Link {
        lock(&self.inner.link).clone()
    }

    #[must_use]
    pub fn roles(&self) -> Roles {
        self.inner.identity.roles
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
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

    /// Reads `INFO` and sets the gauges of this server. A server that has become another, or a replica, is given up.
    ///
    /// # Errors
    /// The server is away.
    pub async fn info(&self) -> Result<Info, Error> {
        let session = self.session()?;
        let text: String = session.command(RedisOp::Status, &::redis::cmd("INFO")).await?;
        let info = Info::parse(&text);
        if info.is_replica || !info.run_id.starts_with(&*session.run8) {
            let changed = Error::new(Kind::Unavailable, "Redis: the server behind the connection has changed");
            self.inner.lost(session.epoch, &changed);
            return Err(changed);
        }
        self.inner.note(&info);
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
                Err(error) if is_unknown_script(&error) => {
                    load_scripts(&mut connection).await?;
                    pipeline.query_async(&mut connection).await
                }
                result => result,
            }
        };
        self.observed(op, run).await
    }

    /// Runs scripts that do not depend on each other, and returns what became of each. Where scripts were unknown they are loaded and
    /// all run again.
    pub(crate) async fn each<T: FromRedisValue>(&self, op: RedisOp, mut scripts: Pipeline) -> Result<Vec<Result<T, Error>>, Error> {
        scripts.ignore_errors();
        let mut connection = self.connection.clone();
        let run = async move {
            let replies: Vec<RedisResult<T>> = scripts.query_async(&mut connection).await?;
            if !replies.iter().any(|reply| reply.as_ref().is_err_and(is_unknown_script)) {
                return Ok(replies);
            }
            // Where that fails they are unknown again, and the caller is told so of each.
            let _ = load_scripts(&mut connection).await;
            scripts.query_async(&mut connection).await
        };
        let replies: Vec<RedisResult<T>> = self.observed(op, run).await?;
        Ok(replies.into_iter().map(|reply| reply.map_err(|error| self.failed(op, &error))).collect())
    }

    async fn observed<T>(&self, op: RedisOp, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, Error> {
        let started = Instant::now();
        let result = call.await;
        self.node.metrics.observe_redis(op, started.elapsed());
        result.map_err(|error| self.failed(op, &error))
    }

    fn failed(&self, op: RedisOp, error: &RedisError) -> Error {
        let ours = of_driver(error);
        self.node.metrics.redis_error(op, ours.kind().label());
        if breaks_session(error) {
            self.give_up(&ours);
        }
        ours
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

impl Session {
    /// Of a thread's own connection only that one is given up; whether the shared one still lives is looked at at once.
    fn give_up(&self, why: &Error) {
        match self.own.as_ref().map(Weak::upgrade) {
            None => self.node.lost(self.epoch, why),
            Some(None) => {}
            Some(Some(own)) => {
                let mut state = lock(&own);
                state.session = state.session.take().filter(|session| session.epoch != self.epoch);
                state.failed = Some(Instant::now());
                self.node.broken.notify_one();
            }
        }
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
        *lock(&self.link) = link;
        self.changed.notify_waiters();
    }

    fn note(&self, info: &Info) {
        let ok = policy_ok(self.identity.roles, &info.policy);
        for role in self.identity.roles.labels() {
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
                tracing::info!(roles = ?inner.identity.roles, run = %session.run8, "redis is up");
                *lock(&inner.live) = Some(session.clone());
                inner.note(&info);
                inner.set_link(Link::Up(info));
                watch(&inner, session).await;
                tracing::warn!(roles = ?inner.identity.roles, "redis was lost; reconnecting");
            }
            Err(Link::Away { why }) => inner.set_link(Link::Away { why }),
            Err(link) => {
                refused(&inner, &link);
                inner.set_link(link);
                pause = REFUSED_PAUSE;
            }
        }
        tokio::time::sleep(pause + Duration::from_millis(fastrand::u64(0..20))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns when the session broke.
async fn watch(inner: &Arc<Inner>, session: Session) {
    let mut pause = PING_INTERVAL;
    while session.is_current() {
        pause = tokio::select! {
            // Also while a PING waits for its answer: another command may have found the connection dead before it. If it was
            // a thread's own connection, this one is tried now.
            () = inner.broken.notified() => Duration::ZERO,
            () = ping_after(pause, &session) => PING_INTERVAL,
        };
    }
}

/// A failed PING gives the session up by itself.
async fn ping_after(pause: Duration, session: &Session) {
    tokio::time::sleep(pause).await;
    let _ = session.command::<String>(RedisOp::Status, &::redis::cmd("PING")).await;
}

/// Says why once, and not once a second.
fn refused(inner: &Inner, link: &Link) {
    if let Link::Refused { why } = link
        && !matches!(&*lock(&inner.link), Link::Refused { why: known } if known == why)
    {
        tracing::error!("{why}");
    }
}

/// Connects once more to the run that `shared` speaks to.
async fn connect_own(own: Arc<Mutex<Own>>, shared: Session) {
    let connected = connect_again(&shared.node.client, &shared.run8).await;
    let mut state = lock(&own);
    state.connecting = false;
    state.failed = connected.is_none().then(Instant::now);
    state.session = connected.map(|connection| Session { connection, own: Some(Arc::downgrade(&own)), ..shared });
}

async fn connect(inner: &Arc<Inner>) -> Result<(Session, Info), Link> {
    let started = Instant::now();
    let (connection, info) = greet(&inner.client, &inner.identity).await?;
    inner.metrics.observe_redis(RedisOp::Connect, started.elapsed());
    let run8: Arc<str> = info.run_id.get(..8).unwrap_or(&info.run_id).into();
    let epoch = inner.next_epoch.fetch_add(1, Ordering::Relaxed);
    Ok((Session { connection, run8, epoch, node: inner.clone(), own: None }, info))
}
