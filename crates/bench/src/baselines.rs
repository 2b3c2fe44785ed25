//! What we compare with: servers that do the same with less, built and set up with the same care.
//!
//! Each is one HTTP thread of actix-web with the API's own limits, without middleware, metrics or checks, and answers
//! what the API answers. They are processes of their own, so that they are pinned and measured like the API.

use crate::locked;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use chrono::NaiveDateTime;
use domain::{Currency, Money};
use mysql_async::prelude::Queryable;
use mysql_async::{OptsBuilder, Pool, PoolConstraints, PoolOpts, Row, TxOpts, Value};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// As many as the API has by default (INVENTORY_MYSQL_CONNECTIONS).
const CONNECTIONS: u16 = 32;

/// As the API's sessions have it: MySQL's own wait for a lock, 50 s, is longer than anybody waits for an answer.
const LOCK_WAIT: &str = "SET SESSION innodb_lock_wait_timeout = 2";

/// The API's own settings of its listener.
const BACKLOG: u32 = 1024;
const CONNECTIONS_PER_THREAD: usize = 10_000;
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What views wait in, and what the textbook shows.
pub(crate) const LIST: &str = "baseline:list";
pub(crate) const STREAM: &str = "baseline:stream";
pub(crate) const TOTALS: &str = "baseline:totals";

pub(crate) const ADD_VIEW: &str = "UPDATE product_views SET views = views + 1 WHERE product_id = ?";
/// The statements of a price write.
const LOCK_PRODUCT: &str =
    "SELECT id, sku, name, description, active, price, currency, version, updated_at, deleted_at FROM products WHERE id = ? FOR UPDATE";
const SET_PRICE: &str = "UPDATE products SET price = ?, currency = ?, version = version + 1 WHERE id = ?";
const READ_BACK: &str = "SELECT price, currency, version, updated_at FROM products WHERE id = ?";
const ADD_HISTORY: &str = "INSERT INTO price_history \
     (product_id, version, price, currency, reason, actor, changed_at, before_price, before_currency, before_since) \
     VALUES (?, ?, ?, ?, NULL, NULL, ?, ?, ?, ?)";

/// What stands behind the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing: the request is read and a fixed answer given.
    Bare,
    /// A view is one UPDATE in MySQL; a price is the API's own transaction, without Redis.
    Direct,
    /// A view is an HINCRBY and an RPUSH in Redis; the worker pops ten at a time.
    Textbook,
    /// A view is an RPUSH; the worker reads a range, adds it, and trims after COMMIT.
    Trim,
    /// A view is an XADD; the worker runs one statement an entry and acknowledges it.
    Stream,
    /// A reservation is one transaction in MySQL, which locks the rows of its stock.
    Locked,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Direct => "direct",
            Self::Textbook => "textbook",
            Self::Trim => "trim",
            Self::Stream => "stream",
            Self::Locked => "locked",
        }
    }

    /// The command that tells how many views wait, and the key that they wait in; none where nothing waits.
    pub(crate) fn queue(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Bare | Self::Direct | Self::Locked => None,
            Self::Textbook | Self::Trim => Some(("LLEN", LIST)),
            Self::Stream => Some(("XLEN", STREAM)),
        }
    }
}

/// Where a baseline listens and what it works with.
#[derive(Debug, clap::Args)]
pub(crate) struct Setup {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) mysql_url: String,
    #[arg(long)]
    pub(crate) redis_url: String,
    /// What a GET of any product is answered with
    #[arg(long)]
    pub(crate) product: String,
}

/// Made in the HTTP thread: everything of a request happens there, without a hand-over.
pub(crate) struct Stores {
    pub(crate) pool: Pool,
    redis: tokio::sync::OnceCell<MultiplexedConnection>,
    redis_url: String,
    product: web::Bytes,
}

type Failure = Box<dyn std::error::Error>;
pub(crate) type Answer = Result<HttpResponse, Failure>;

/// Serves until it is killed.
///
/// # Errors
/// It cannot listen.
pub(crate) fn serve(kind: Kind, setup: Setup) -> anyhow::Result<()> {
    let Setup { listen, mysql_url, redis_url, product } = setup;
    let product = web::Bytes::from(product);
    actix_web::rt::System::new().block_on(async move {
        let app = move || {
            let stores = Stores::new(&mysql_url, &redis_url, product.clone()).expect("the URLs are those of our own servers");
            App::new().app_data(web::Data::new(stores)).configure(|config| routes(config, kind))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .worker_max_blocking_threads(1)
            .backlog(BACKLOG)
            .max_connections(CONNECTIONS_PER_THREAD)
            .client_request_timeout(HEAD_LIMIT)
            .client_disconnect_timeout(CLOSE_LIMIT)
            .keep_alive(KEEP_ALIVE)
            .bind(listen)
            .with_context(|| format!("cannot listen on {listen}"))?;
        server.run().await.context("the listener failed")
    })
}

fn routes(config: &mut web::ServiceConfig, kind: Kind) {
    config.route("/v1/products/{id}", web::get().to(product)).route("/v1/products/{id}/price", web::put().to(set_price));
    config.route("/v1/reservations", web::post().to(locked::reserve));
    config.route("/v1/reservations/{id}/commit", web::post().to(locked::commit));
    let views = web::resource("/v1/products/{id}/views");
    config.service(match kind {
        Kind::Bare => views.route(web::post().to(bare_view)),
        Kind::Direct | Kind::Locked => views.route(web::post().to(direct_view)),
        Kind::Textbook => views.route(web::post().to(textbook_view)),
        Kind::Trim => views.route(web::post().to(list_view)),
        Kind::Stream => views.route(web::post().to(stream_view)),
    });
}

impl Stores {
    fn new(mysql_url: &str, redis_url: &str, product: web::Bytes) -> Result<Self, String> {
        let pool = pool(mysql_url, &[LOCK_WAIT]).map_err(|error| error.to_string())?;
        Ok(Self { pool, redis: tokio::sync::OnceCell::new(), redis_url: redis_url.to_owned(), product })
    }

    async fn redis(&self) -> redis::RedisResult<MultiplexedConnection> {
        let connect = async || redis::Client::open(self.redis_url.as_str())?.get_multiplexed_async_connection().await;
        self.redis.get_or_try_init(connect).await.cloned()
    }
}

/// Over TCP as the API does, connections kept, statements prepared once and kept. `setup`: what else every session sets.
pub(crate) fn pool(url: &str, setup: &[&str]) -> anyhow::Result<Pool> {
    let most = usize::from(CONNECTIONS);
    let constraints = PoolConstraints::new(most, most).context("a pool needs at least one connection")?;
    let options = PoolOpts::new().with_constraints(constraints).with_reset_connection(false);
    let setup = [&["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"], setup].concat();
    let builder = OptsBuilder::from_opts(mysql_async::Opts::from_url(url)?).setup(setup);
    Ok(Pool::new(builder.pool_opts(options).prefer_socket(Some(false))))
}

async fn product(_id: web::Path<u64>, stores: web::Data<Stores>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(stores.product.clone())
}

fn accepted() -> HttpResponse {
    HttpResponse::Accepted().content_type(ContentType::json()).body(r#"{"accepted":1}"#)
}

async fn bare_view(_id: web::Path<u64>, _body: web::Bytes) -> HttpResponse {
    accepted()
}

async fn direct_view(id: web::Path<u64>, _body: web::Bytes, stores: web::Data<Stores>) -> Answer {
    let mut connection = stores.pool.get_conn().await?;
    connection.exec_drop(ADD_VIEW, (*id,)).await?;
    Ok(accepted())
}

/// Both commands in one round trip.
async fn textbook_view(id: web::Path<u64>, _body: web::Bytes, stores: web::Data<Stores>) -> Answer {
    let mut redis = stores.redis().await?;
    let mut both = redis::pipe();
    both.hincr(TOTALS, *id, 1).ignore().rpush(LIST, *id).ignore();
    both.query_async::<()>(&mut redis).await?;
    Ok(accepted())
}

async fn list_view(id: web::Path<u64>, _body: web::Bytes, stores: web::Data<Stores>) -> Answer {
    stores.redis().await?.rpush::<_, _, ()>(LIST, *id).await?;
    Ok(accepted())
}

async fn stream_view(id: web::Path<u64>, _body: web::Bytes, stores: web::Data<Stores>) -> Answer {
    let mut add = redis::cmd("XADD");
    add.arg(STREAM).arg("*").arg("p").arg(*id).query_async::<()>(&mut stores.redis().await?).await?;
    Ok(accepted())
}

#[derive(Deserialize)]
struct Price {
    amount: String,
    currency: String,
}

/// The transaction of `catalog`, with the same answer: the time of the COMMIT's version is in it, so the row is read back here too.
async fn set_price(id: web::Path<u64>, price: web::Json<Price>, stores: web::Data<Stores>) -> Answer {
    let (id, price) = (*id, Money::parse(&price.amount, Currency::parse(&price.currency)?)?);
    let mut connection = stores.pool.get_conn().await?;
    let mut tx = connection.start_transaction(TxOpts::default()).await?;
    let before: Row = tx.exec_first(LOCK_PRODUCT, (id,)).await?.ok_or("no such product")?;
    let currency = price.currency();
    tx.exec_drop(SET_PRICE, (price.amount(), currency.code(), id)).await?;
    let row: Row = tx.exec_first(READ_BACK, (id,)).await?.ok_or("no such product")?;
    let (old, new) = (|column: &str| before.get::<Value, _>(column), |column: &str| row.get::<Value, _>(column));
    let history = (id, new("version"), new("price"), new("currency"), new("updated_at"), old("price"), old("currency"), old("updated_at"));
    tx.exec_drop(ADD_HISTORY, history).await?;
    tx.commit().await?;
    let (version, committed_at): (Option<u64>, Option<NaiveDateTime>) = (row.get("version"), row.get("updated_at"));
    let amount = price.amount().to_string();
    let body = serde_json::json!({
        "product_id": id, "amount": amount, "currency": currency.code(), "version": version,
        "committed_at": committed_at.map(|time| time.and_utc().to_rfc3339()),
    });
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body.to_string()))
}
