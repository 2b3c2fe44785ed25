//! How the commands reach MySQL and Redis, and what those of them need that deal with products and the account.
//!
//! Promises that a store that is away or wrong is said at once, with its cure; nothing waits for long.

use crate::args::Connection;
use crate::exit::{Exit, Failure};
use crate::import::Written;
use crate::queue::Status;
use catalog::check::Checker;
use catalog::{Batch, BatchSet, Catalog, Done, Imported, Metrics, UndonePiece};
use domain::{ImportedProduct, ProductId, Shards, Sku};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stock::{Ask, Level, Stock};
use storage::mysql::idempotency::{self, Key};
use storage::mysql::migrations::{self, Migrated, Migration, Refusal};
use storage::mysql::products::{self, After};
use storage::mysql::version_trigger::{self, Trigger};
use storage::mysql::{CALL_LIMIT, Deployment, pause};
use storage::redis::Link;
use storage::{Kind, MySql, Redis, status};
use telemetry::metrics::Registry;
use telemetry::metrics::{CacheMetrics, IdempotencyMetrics, MysqlOp, PriceMetrics, StockMetrics, StoreMetrics};
use uuid::Uuid;

/// A Redis that is there answers within milliseconds.
const REDIS_WAIT: Duration = Duration::from_secs(2);

/// Tries of one product while a store is away or busy; with the waits about seven seconds, a restart of either store.
const WRITE_TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Products read by one statement.
const PAGE: u32 = 1000;

/// Both stores of a migrated deployment.
pub(crate) struct Stores {
    pub(crate) mysql: MySql,
    pub(crate) redis: Redis,
    catalog: Catalog,
    stock: Stock,
}

impl Stores {
    /// # Errors
    /// A store is away, not migrated, or refuses us.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Failure> {
        let registry = Registry::new("inventoryctl");
        let metrics = Arc::new(StoreMetrics::new(&registry));
        let (mysql, deployment) = reach(connection, &metrics).await?;
        let redis = Redis::new(&connection.stores, &deployment, &metrics).map_err(usage)?;
        for node in redis.nodes() {
            match node.wait(REDIS_WAIT).await {
                Link::Up(_) => {}
                Link::Away { why } => {
                    return Err(Failure::new(Exit::Unreachable, format!("{why} (--redis-url, INVENTORY_REDIS_URL)")));
                }
                Link::Refused { why } => return Err(Failure::new(Exit::Failure, why)),
            }
        }
        let idempotency = Arc::new(IdempotencyMetrics::new(&registry));
        let of_stock = stock::Metrics { stock: Arc::new(StockMetrics::new(&registry)), idempotency: idempotency.clone() };
        let stock = Stock::new(mysql.clone(), of_stock);
        let metrics =
            Metrics { cache: Arc::new(CacheMetrics::new(&registry)), prices: Arc::new(PriceMetrics::new(&registry)), idempotency };
        let catalog = Catalog::new(mysql.clone(), redis.clone(), metrics);
        Ok(Self { mysql, redis, catalog, stock })
    }

    /// Writes one product by the full protocol of `catalog`; again while a store is away, as an equal product changes nothing.
    pub(crate) async fn import(&self, product: ImportedProduct, dry_run: bool) -> Result<Written, Failure> {
        let import = || self.catalog.import(product.clone(), dry_run, Some(crate::price::actor()));
        written(&product, retried(is_away, import).await)
    }

    /// Sets a batch of prices; again while a store is away, as what is set already stays as it is.
    pub(crate) async fn set_prices(&self, batch: Batch) -> Result<BatchSet, Failure> {
        match retried(is_away, || self.catalog.set_prices(batch.clone(), None)).await.map_err(failed)? {
            Done::Now(set) => Ok(set),
            Done::Before(_) => unreachable!("without a key nothing is known to have been done before"),
        }
    }

    /// Takes a piece of a batch of prices back; again while a store is away, which ends the same under the same id.
    pub(crate) async fn undo_prices(&self, batch: Uuid, undo: Uuid, after: Option<ProductId>) -> Result<UndonePiece, Failure> {
        let undo = || self.catalog.undo(batch, undo, after, Some(crate::price::actor()));
        retried(is_away, undo).await.map_err(|error| match error {
            catalog::Error::NotFound => Failure::new(Exit::NotFound, format!("no batch {batch} has changed a price")),
            error => failed(error),
        })
    }

    /// Makes a change of a product's stock; again while MySQL is away, which its key makes safe.
    pub(crate) async fn change_stock(&self, sku: &Sku, ask: impl Fn(ProductId) -> Ask) -> stock::Outcome {
        let change = async || {
            let ids = products::ids_of(&self.mysql, std::slice::from_ref(sku)).await?;
            let id = ids.get(sku).ok_or_else(|| stock::Error::UnknownProducts(Vec::new()))?;
            self.stock.change(ask(*id)).await
        };
        retried(|error| matches!(error, stock::Error::Unavailable(_) | stock::Error::Unknown(_)), change).await
    }

    /// A product and its stock now, if there is such a product.
    pub(crate) async fn stock_of(&self, sku: &Sku) -> Result<Option<(ProductId, Level)>, stock::Error> {
        let ids = products::ids_of(&self.mysql, std::slice::from_ref(sku)).await?;
        let Some(id) = ids.get(sku) else { return Ok(None) };
        Ok(self.stock.level(*id).await?.map(|level| (*id, level)))
    }

    /// Whether something was done under a key.
    pub(crate) async fn is_done(&self, key: Key) -> Result<bool, storage::Error> {
        let mysql = self.mysql.clone();
        let look = async move {
            let mut tx = mysql.begin().await?;
            let found = idempotency::find_all(&mut tx, &[&key]).await?;
            tx.rollback().await?;
            Ok(!found.is_empty())
        };
        self.mysql.detached(MysqlOp::Stock, Kind::Unavailable, CALL_LIMIT, look).await
    }

    pub(crate) async fn id_of(&self, sku: &Sku) -> Result<Option<ProductId>, Failure> {
        let ids = products::ids_of(&self.mysql, std::slice::from_ref(sku)).await?;
        Ok(ids.get(sku).copied())
    }

    /// The ids of all products, ascending.
    pub(crate) async fn product_ids(&self) -> Result<Vec<ProductId>, Failure> {
        let mut ids = Vec::new();
        loop {
            let after = ids.last().copied().map_or(0, ProductId::get);
            let page = products::page(&self.mysql, After::Id(after), PAGE).await?;
            ids.extend(page.iter().map(|product| product.id));
            if page.len() < PAGE as usize {
                return Ok(ids);
            }
        }
    }

    /// What compares the cache with MySQL.
    pub(crate) fn checker(&self) -> Checker {
        Checker::new(self.mysql.clone(), self.redis.clone())
    }

    pub(crate) async fn queue_status(&self) -> Result<Status, Failure> {
        let (account, depth) = status::account(&self.mysql, &self.redis).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Status {
            accepted: account.accepted,
            persisted: account.persisted,
            pending: account.pending,
            dead: account.dead,
            lost: account.lost,
            twice: account.twice(),
            depth: depth.entries,
            in_flight: depth.in_flight,
            oldest_age_seconds: depth.oldest_age_seconds(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
            hold: pause::state(&self.mysql).await?.into(),
        })
    }
}

/// MySQL of a migrated deployment, for what must also work while Redis is away.
pub(crate) async fn mysql_alone(connection: &Connection) -> Result<MySql, Failure> {
    let metrics = Arc::new(StoreMetrics::new(&Registry::new("inventoryctl")));
    reach(connection, &metrics).await.map(|(mysql, _)| mysql)
}

async fn reach(connection: &Connection, metrics: &Arc<StoreMetrics>) -> Result<(MySql, Deployment), Failure> {
    let mysql = mysql(connection, metrics)?;
    let deployment = migrations::reach(&mysql).await.map_err(|refusal| match refusal {
        Refusal::Settings(message) => Failure::new(Exit::Failure, message),
        Refusal::Store(error) => unreached(error),
    })?;
    Ok((mysql, deployment))
}

/// Applies the missing migrations.
pub(crate) async fn migrate(connection: &Connection, shards: Shards) -> Result<Migrated, Failure> {
    migrations::migrate(&migrating(connection)?, shards).await.map_err(unreached)
}

pub(crate) async fn migrations(connection: &Connection) -> Result<Vec<Migration>, Failure> {
    migrations::status(&migrating(connection)?).await.map_err(unreached)
}

/// Whether the trigger of versions is there.
pub(crate) async fn version_trigger(connection: &Connection) -> Result<Trigger, Failure> {
    version_trigger::find(&migrating(connection)?).await.map_err(unreached)
}

/// MySQL alone: a migration needs no Redis.
fn migrating(connection: &Connection) -> Result<MySql, Failure> {
    mysql(connection, &Arc::new(StoreMetrics::new(&Registry::new("inventoryctl"))))
}

pub(crate) fn mysql(connection: &Connection, metrics: &Arc<StoreMetrics>) -> Result<MySql, Failure> {
    let stores = &connection.stores;
    let url = stores.mysql_url().map_err(usage)?;
    MySql::new(&url, stores.mysql_connections, Arc::clone(metrics)).map_err(usage)
}

/// MySQL failed at the first call: most likely the address is wrong.
fn unreached(error: storage::Error) -> Failure {
    let Failure { exit, message } = error.into();
    match exit {
        Exit::Unreachable | Exit::NotAllowed => Failure::new(exit, format!("{message} (--mysql-url, INVENTORY_MYSQL_URL)")),
        _ => Failure::new(exit, message),
    }
}

pub(crate) fn usage(message: String) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// A store is away or its answer was lost.
fn is_away(error: &catalog::Error) -> bool {
    matches!(error, catalog::Error::Unavailable(_) | catalog::Error::Unknown(_))
}

/// Tries again what failed so that it may pass.
async fn retried<T, E, F: Future<Output = Result<T, E>>>(may_pass: impl Fn(&E) -> bool, call: impl Fn() -> F) -> Result<T, E> {
    let mut wait = FIRST_WAIT;
    for _ in 1..WRITE_TRIES {
        match call().await {
            Err(error) if may_pass(&error) => {
                tokio::time::sleep(wait).await;
                wait = (2 * wait).min(LONGEST_WAIT);
            }
            result => return result,
        }
    }
    call().await
}

fn failed(error: catalog::Error) -> Failure {
    match error {
        catalog::Error::NotFound => Failure::new(Exit::NotFound, error.to_string()),
        catalog::Error::DuplicateSku(_)
        | catalog::Error::PreconditionFailed(_)
        | catalog::Error::KeyReused
        | catalog::Error::InProgress => Failure::new(Exit::Conflict, error.to_string()),
        catalog::Error::Unavailable(error) | catalog::Error::Unknown(error) | catalog::Error::Internal(error) => error.into(),
    }
}

fn written(product: &ImportedProduct, result: Result<Imported, catalog::Error>) -> Result<Written, Failure> {
    match result {
        Ok(Imported::Created) => Ok(Written::Created),
        Ok(Imported::Updated) => Ok(Written::Updated),
        Ok(Imported::Unchanged) => Ok(Written::Unchanged),
        Err(catalog::Error::DuplicateSku(_)) => Ok(Written::Refused("the SKU belongs to a deleted product".to_owned())),
        Err(catalog::Error::NotFound) => Ok(Written::Refused("the product was deleted meanwhile".to_owned())),
        // An import expects nothing of the row that it meets, and has no key.
        Err(error @ (catalog::Error::PreconditionFailed(_) | catalog::Error::KeyReused | catalog::Error::InProgress)) => {
            Ok(Written::Refused(error.to_string()))
        }
        Err(catalog::Error::Internal(error)) if error.kind() == Kind::Corrupt => Ok(Written::Refused(error.to_string())),
        Err(catalog::Error::Unavailable(error) | catalog::Error::Unknown(error) | catalog::Error::Internal(error)) => {
            let failure = Failure::from(error);
            Err(Failure::new(failure.exit, format!("product {}: {}", product.sku, failure.message)))
        }
    }
}

/// MySQL's numbers for: access denied, to a database, to a table, to an operation.
const DENIED: [&str; 4] = ["ERROR 1045 ", "ERROR 1044 ", "ERROR 1142 ", "ERROR 1227 "];

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        let message = error.to_string();
        let exit = match error.kind() {
            Kind::Unavailable | Kind::Full | Kind::Unknown => Exit::Unreachable,
            Kind::Conflict => Exit::Conflict,
            Kind::Bug if DENIED.iter().any(|number| message.contains(number)) => Exit::NotAllowed,
            Kind::Corrupt | Kind::Bug => Exit::Failure,
        };
        Self::new(exit, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_a_store_becomes_the_exit_code_of_the_contract() {
        let exit = |kind, message: &str| Failure::from(storage::Error::new(kind, message)).exit;
        assert_eq!(exit(Kind::Unavailable, "away"), Exit::Unreachable);
        assert_eq!(exit(Kind::Conflict, "busy"), Exit::Conflict);
        assert_eq!(exit(Kind::Bug, "MySQL: Server error: `ERROR 1142 (42000): INSERT command denied`"), Exit::NotAllowed);
        assert_eq!(exit(Kind::Bug, "MySQL: Server error: `ERROR 1054 (42S22): unknown column`"), Exit::Failure);
    }

    #[test]
    fn one_refused_product_does_not_stop_an_import() {
        let product = ImportedProduct { sku: Sku::parse("10000").unwrap(), name: "A".into(), description: None, active: None, price: None };
        let deleted = written(&product, Err(catalog::Error::DuplicateSku(product.sku.clone())));
        assert!(matches!(deleted, Ok(Written::Refused(_))));
        let data = storage::Error::new(Kind::Corrupt, "data too long");
        assert!(matches!(written(&product, Err(catalog::Error::Internal(data))), Ok(Written::Refused(_))));
        let away = storage::Error::new(Kind::Unavailable, "MySQL: connection refused");
        let failure = written(&product, Err(catalog::Error::Unavailable(away))).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Unreachable, "product 10000: MySQL: connection refused"));
    }
}
