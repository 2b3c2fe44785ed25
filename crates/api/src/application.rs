//! The process as a value: built from settings, it knows its ports and runs until it is stopped.
//!
//! It listens before any store was reached, so that whoever starts it sees it alive and learns from 503 and
//! `/readyz` what is awaited.

use crate::admin::{self, Checks, Process};
use crate::config::Settings;
use crate::console::{self, history::History};
use crate::cors::{self, Origins};
use crate::edge::{Edge, LogBudget};
use crate::routes;
use crate::startup::{self, Metrics};
use crate::state::{Limits, State, Stores};
use actix_web::body::BoxBody;
use actix_web::dev::{Server, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, HttpServer, web};
use anyhow::Context;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use telemetry::health::{Health, Role};
use telemetry::metrics::{HttpMetrics, IngestMetrics, Registry};
use telemetry::ops::{Ops, serve_ops};
use telemetry::stop::Shutdown;
use telemetry::tokens::Tokens;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Open connections of one HTTP thread; those beyond wait in the backlog.
const CONNECTIONS_PER_THREAD: usize = 10_000;

/// How long a connection may take to send the head of its first request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Above the 60 s of common load balancers, so that they close first
/// and never send a request into a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long closing a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What every HTTP thread builds its router from.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) stores: Arc<OnceLock<Stores>>,
    pub(crate) limits: Limits,
    pub(crate) views: Arc<IngestMetrics>,
    pub(crate) http: Arc<HttpMetrics>,
    pub(crate) log_budget: Arc<LogBudget>,
    /// `None`: nobody is asked for one.
    pub(crate) tokens: Option<Tokens>,
    /// `None`: pages of other origins read nothing.
    pub(crate) origins: Option<Origins>,
}

impl Shared {
    pub(crate) fn new(
        registry: &Registry,
        limits: Limits,
        views: Arc<IngestMetrics>,
        tokens: Option<Tokens>,
        origins: Option<Origins>,
    ) -> Self {
        let specs: Vec<_> = routes::specs().chain(origins.is_some().then_some(cors::PREFLIGHT)).collect();
        let http = Arc::new(HttpMetrics::new(registry, &specs));
        Self { stores: Arc::default(), limits, views, http, log_budget: Arc::new(LogBudget::new()), tokens, origins }
    }
}

/// The router of one HTTP thread.
pub(crate) fn app(
    shared: &Shared,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = actix_web::Error, InitError = ()> + use<>,
> {
    let edge = Rc::new(Edge::new(&shared.http, shared.log_budget.clone()));
    let state = web::Data::new(State::new(shared.stores.clone(), shared.limits, shared.views.clone()));
    App::new()
        .app_data(state)
        .configure(|config| routes::configure(config, &shared.http, shared.tokens.as_ref()))
        .wrap(cors::layer(shared.origins.as_ref()))
        .wrap_fn(move |request, inner| {
            let (edge, began) = (edge.clone(), Instant::now());
            let response = inner.call(request);
            async move { Ok(edge.finish(response.await?.map_into_boxed_body(), began.elapsed())) }
        })
}

/// A server that listens.
pub(crate) struct Application {
    settings: Settings,
    server: Server,
    ops: Server,
    addresses: [SocketAddr; 2],
    shared: Shared,
    metrics: Metrics,
    health: Health,
    history: History,
}

impl Application {
    /// Takes both ports. Call it inside the runtime that is to do the I/O of the stores.
    ///
    /// # Errors
    /// The tokens cannot be read, or a port is taken or may not be used; names the setting.
    pub(crate) fn build(settings: Settings) -> anyhow::Result<Self> {
        let tokens = settings.tokens.start().map_err(anyhow::Error::msg)?;
        let ops_listener = TcpListener::bind(settings.api_ops_listen)
            .with_context(|| format!("cannot listen on {} (INVENTORY_API_OPS_LISTEN)", settings.api_ops_listen))?;
        let ops_address = ops_listener.local_addr()?;
        routes::prepare();
        let (registry, health) = (Registry::new("inventory-api"), Health::new(Role::Api));
        let metrics = Metrics::new(&registry);
        let reservation_ttl = (settings.reservation_ttl, settings.reservation_ttl_limit);
        let limits = Limits { time_limit: settings.request_timeout, reservation_ttl };
        let (views, origins) = (metrics.ingest.clone(), settings.cors_origins.clone());
        let shared = Shared::new(&registry, limits, views, tokens.clone(), origins);
        let (server, address) = listen(&settings, shared.clone())?;
        let (stores, views) = (shared.stores.clone(), shared.views.clone());
        let (process, checks) = (web::Data::new(Process::new(&settings)), web::Data::new(Checks::default()));
        let history = History::new();
        let told = web::Data::new(history.clone());
        let admin = move |config: &mut web::ServiceConfig| {
            let state = State::new(stores.clone(), limits, views.clone());
            console::configure(config);
            admin::configure(config, web::Data::new(state), process.clone(), checks.clone(), told.clone());
        };
        let ops = serve_ops(ops_listener, Ops { registry, health: health.clone(), tokens }, admin)?;
        let addresses = [address, ops_address];
        Ok(Self { settings, server, ops, addresses, shared, metrics, health, history })
    }

    /// Of the API and of the ops listener; settings may have left the choice of ports to the system.
    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    /// Serves until `shutdown`, then lets requests in flight finish within the shutdown limit.
    ///
    /// # Errors
    /// A listener failed, or the stores refuse this process.
    pub(crate) async fn run_until_stopped(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { settings, server, ops, shared, metrics, health, history, .. } = self;
        let handle = server.handle();
        let mut server = tokio::spawn(server);
        // Answers to the last, so that probes see the draining.
        let _ops = AbortOnDrop(tokio::spawn(ops));
        let sources = metrics.sources(shared.http.clone());
        tokio::spawn(console::history::keep(history, sources, shared.stores.clone(), health.clone(), shutdown.clone()));
        let mut stores = tokio::spawn(startup::bring_up(settings, shared.stores, metrics, health.clone(), shutdown.clone()));
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            ended = &mut stores => ended.context("bringing up the stores panicked")?.map_err(anyhow::Error::msg)?,
            ended = &mut server => return ended.context("the API's listener panicked")?.context("the API's listener failed"),
        }
        health.set_draining();
        handle.stop(true).await;
        tracing::info!("stopped");
        Ok(())
    }
}

fn listen(settings: &Settings, shared: Shared) -> anyhow::Result<(Server, SocketAddr)> {
    let address = settings.api_listen;
    let server = HttpServer::new(move || app(&shared))
        .workers(settings.threads())
        .worker_max_blocking_threads(1)
        .backlog(BACKLOG)
        .max_connections(CONNECTIONS_PER_THREAD)
        .client_request_timeout(HEAD_LIMIT)
        .client_disconnect_timeout(CLOSE_LIMIT)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(whole_seconds(settings.shutdown_timeout))
        .disable_signals()
        .bind(address)
        .with_context(|| format!("cannot listen on {address} (INVENTORY_API_LISTEN)"))?;
    let bound = server.addrs().first().copied().context("the API's listener has no address")?;
    Ok((server.run(), bound))
}

/// Rounded up: a limit of 500 ms must not become none.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Ends a task when the function that started it ends.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
