//! What a process knows of its own health: the state of both stores, facts worth showing, and whether it is ending.
//!
//! Others report what they meet; asking costs no call to any store. Readiness follows from the reports by the
//! rule of the role: an API is useful with one store, a worker needs both.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whose rule of readiness holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ready with both stores, degraded with one of them, once MySQL was reached.
    Api,
    /// Ready with both stores only.
    Worker,
}

/// How a store is, as it was met last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Up,
    /// It was there, or should be, and does not answer.
    Down {
        why: String,
    },
    /// Something must happen before it can be used: a first contact, a migration.
    Awaited {
        what: String,
    },
    /// It answers but must not be used, such as a Redis that belongs to another deployment. No process is ready then.
    Refused {
        why: String,
    },
}

impl State {
    #[must_use]
    pub fn down(why: impl ToString) -> Self {
        Self::Down { why: why.to_string() }
    }

    #[must_use]
    pub fn awaited(what: impl ToString) -> Self {
        Self::Awaited { what: what.to_string() }
    }

    #[must_use]
    pub fn refused(why: impl ToString) -> Self {
        Self::Refused { why: why.to_string() }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Awaited { .. } => "awaited",
            Self::Refused { .. } => "refused",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Down { why } | Self::Refused { why } => Some(why),
            Self::Awaited { what } => Some(what),
        }
    }
}

/// Whether requests should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ready,
    /// Useful, but not for everything.
    Degraded,
    Unready,
}

impl Verdict {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unready => "unready",
        }
    }
}

/// A verdict and why it is not better; the reason is empty when ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub verdict: Verdict,
    pub why: String,
}

/// All that a process says of its health.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub readiness: Verdict,
    pub draining: bool,
    pub components: BTreeMap<&'static str, Component>,
    pub facts: BTreeMap<String, String>,
}

/// One store in a [`Report`].
#[derive(Debug, Clone, Serialize)]
pub struct Component {
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it has been in this state, whole seconds.
    pub for_seconds: u64,
}

#[derive(Debug)]
struct Store {
    name: &'static str,
    state: State,
    since: Instant,
    reached: bool,
}

impl Store {
    fn new(name: &'static str) -> Self {
        Self { name, state: State::awaited("the first contact"), since: Instant::now(), reached: false }
    }

    fn set(&mut self, state: State) {
        if state.name() != self.state.name() {
            self.since = Instant::now();
            let name = self.name;
            match &state {
                State::Up => tracing::info!("{name} is up"),
                State::Down { why } => tracing::warn!("{name} is down: {why}"),
                State::Awaited { what } => tracing::warn!("{name} is awaited: {what}"),
                State::Refused { why } => tracing::error!("{name} is refused: {why}"),
            }
        }
        self.reached |= state == State::Up;
        self.state = state;
    }

    fn is_up(&self) -> bool {
        self.state == State::Up
    }

    fn component(&self) -> Component {
        Component { state: self.state.name(), reason: self.state.reason().map(str::to_owned), for_seconds: self.since.elapsed().as_secs() }
    }

    fn complaint(&self) -> Option<String> {
        self.state.reason().map(|reason| format!("{} is {}: {reason}", self.name, self.state.name()))
    }
}

#[derive(Debug)]
struct Inner {
    mysql: Store,
    redis: Store,
    draining: bool,
    facts: BTreeMap<String, String>,
}

impl Inner {
    fn verdict(&self, role: Role) -> Verdict {
        let refused = |store: &Store| matches!(store.state, State::Refused { .. });
        if self.draining || refused(&self.mysql) || refused(&self.redis) {
            return Verdict::Unready;
        }
        match (role, self.mysql.is_up(), self.redis.is_up()) {
            (_, true, true) => Verdict::Ready,
            // The number of shards and the deployment come from MySQL: before it was reached nothing can be served.
            (Role::Api, true, false) | (Role::Api, false, true) if self.mysql.reached => Verdict::Degraded,
            _ => Verdict::Unready,
        }
    }

    fn why(&self) -> String {
        let draining = self.draining.then(|| "draining: asked to end".to_owned());
        let complaints = draining.into_iter().chain(self.mysql.complaint()).chain(self.redis.complaint());
        complaints.collect::<Vec<_>>().join("; ")
    }
}

/// The health of one process. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    role: Role,
    inner: Arc<Mutex<Inner>>,
}

impl Health {
    /// Both stores are awaited at first.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let inner = Inner { mysql: Store::new("mysql"), redis: Store::new("redis"), draining: false, facts: BTreeMap::new() };
        Self { role, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Reports MySQL; a change of state is logged.
    pub fn mysql(&self, state: State) {
        self.lock().mysql.set(state);
    }

    /// Reports Redis, the worse one where there are two; a change of state is logged.
    pub fn redis(&self, state: State) {
        self.lock().redis.set(state);
    }

    /// From here on not ready, for good.
    pub fn set_draining(&self) {
        self.lock().draining = true;
    }

    /// Shows `text` under `name`, in place of what stood there.
    pub fn fact(&self, name: impl Into<String>, text: impl Into<String>) {
        self.lock().facts.insert(name.into(), text.into());
    }

    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        Readiness { verdict: inner.verdict(self.role), why: inner.why() }
    }

    #[must_use]
    pub fn report(&self) -> Report {
        let inner = self.lock();
        Report {
            readiness: inner.verdict(self.role),
            draining: inner.draining,
            components: [&inner.mysql, &inner.redis].map(|store| (store.name, store.component())).into(),
            facts: inner.facts.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is one assignment, so a panic elsewhere cannot leave half of one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Degraded, Ready, Unready};

    fn verdict(role: Role, mysql: State, redis: State) -> Verdict {
        let health = Health::new(role);
        health.mysql(State::Up);
        health.mysql(mysql);
        health.redis(redis);
        health.readiness().verdict
    }

    #[test]
    fn an_api_is_useful_with_one_store_and_a_worker_needs_both() {
        let (up, down, awaited) = (|| State::Up, || State::down("gone"), || State::awaited("a migration"));
        for (mysql, redis, api, worker) in [
            (up(), up(), Ready, Ready),
            (up(), down(), Degraded, Unready),
            (down(), up(), Degraded, Unready),
            (awaited(), up(), Degraded, Unready),
            (up(), awaited(), Degraded, Unready),
            (down(), down(), Unready, Unready),
            (up(), State::refused("not ours"), Unready, Unready),
            (State::refused("too new"), up(), Unready, Unready),
        ] {
            assert_eq!(verdict(Role::Api, mysql.clone(), redis.clone()), api, "{mysql:?} {redis:?}");
            assert_eq!(verdict(Role::Worker, mysql.clone(), redis.clone()), worker, "{mysql:?} {redis:?}");
        }
    }

    #[test]
    fn an_api_is_not_ready_before_it_reached_mysql_once() {
        let health = Health::new(Role::Api);
        health.redis(State::Up);
        health.mysql(State::down("connection refused"));
        let readiness = health.readiness();
        assert_eq!((readiness.verdict, readiness.why.as_str()), (Unready, "mysql is down: connection refused"));
        health.mysql(State::Up);
        assert_eq!(health.readiness(), Readiness { verdict: Ready, why: String::new() });
        health.mysql(State::down("connection refused"));
        assert_eq!(health.readiness().verdict, Degraded);
    }

    #[test]
    fn who_is_asked_to_end_is_not_ready_and_says_so_first() {
        let health = Health::new(Role::Worker);
        health.mysql(State::Up);
        health.redis(State::down("timed out"));
        health.clone().set_draining();
        let readiness = health.readiness();
        assert_eq!((readiness.verdict, readiness.why.as_str()), (Unready, "draining: asked to end; redis is down: timed out"));
    }

    #[test]
    fn a_report_shows_the_newest_reason_and_the_facts() {
        let health = Health::new(Role::Api);
        health.mysql(State::down("refused"));
        health.mysql(State::down("timed out"));
        health.fact("plain SQL", "old");
        health.fact("plain SQL", "binlog tail off: shown within the cache TTL (5m)");
        let report = serde_json::to_value(health.report()).unwrap();
        assert_eq!(report["readiness"], "unready");
        assert_eq!(report["components"]["mysql"], serde_json::json!({ "state": "down", "reason": "timed out", "for_seconds": 0 }));
        assert_eq!(report["components"]["redis"]["state"], "awaited");
        assert_eq!(report["facts"], serde_json::json!({ "plain SQL": "binlog tail off: shown within the cache TTL (5m)" }));
    }
}
