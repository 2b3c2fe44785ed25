//! Stock and reservations: never oversold, never drifting, and one COMMIT for many buyers.
//!
//! Everything that changes stock comes here, as a group of [`Ask`]s that is applied in one transaction (`transaction.rs`): rows of
//! reservations are locked first, then rows of stock, both in the order of their ids; the asks are judged in the order in which
//! they came (`book.rs`), each all or nothing; levels, movements, reservations and the answers kept under keys are written by one
//! statement a table; COMMIT. A group may be a single ask; the API's [`Combiner`] makes groups of what waits.
//!
//! Needs MySQL alone: Redis may be away.

mod book;
#[cfg(test)]
mod book_tests;
mod combine;
mod transaction;

pub use combine::{Combiner, MOST_CHANGES, MOST_LINES_AT_ONCE, MOST_WAITING};
pub use domain::stock::{Level, Line, ReservationState};
pub use storage::mysql::idempotency::{Answer, Done, Key};
pub use storage::mysql::reservations::{Overdue, Reservation};
pub use storage::mysql::stock::LedgerRow;

use domain::ProductId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use storage::mysql::{reservations, stock};
use storage::{Error as StoreError, Kind, MySql};
use telemetry::metrics::{IdempotencyMetrics, IdempotencyResult, MysqlOp, ReservationResult, StockKind, StockMetrics, StockResult};
use uuid::Uuid;

/// How long a caller waits for a transaction: above its last moment to commit, below a request's limit (5 s).
const WAIT_LIMIT: Duration = Duration::from_millis(4_500);

/// Reservations of which one transaction writes down that they have expired.
const EXPIRED_AT_ONCE: usize = 100;

/// A change of stock that is asked for.
#[derive(Debug, Clone)]
pub enum Change {
    /// So many pieces were counted.
    Count { product: ProductId, on_hand: u64, expected: Expected, note: Note },
    /// Pieces came or went. Never 0.
    Adjust { product: ProductId, delta: i64, note: Note },
    /// 1 to 100 lines, each product once; all or nothing.
    Reserve { id: Uuid, lines: Vec<Line>, ttl: Duration, reference: Option<String> },
    /// The pieces were sold.
    Commit(Uuid),
    /// The pieces are not wanted any more.
    Release(Uuid),
    /// The time of an active reservation is over; one that is none is left alone.
    Expire(Uuid),
}

/// What a count expects to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    Anything,
    /// One of these versions.
    Version(Vec<u64>),
}

/// What people leave in the ledger beside the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    pub reason: Option<String>,
    pub reference: Option<String>,
}

/// A change, who asks for it, and the key under which it is done once.
#[derive(Debug, Clone)]
pub struct Ask {
    pub change: Change,
    pub actor: Option<Arc<str>>,
    pub once: Option<Once>,
}

/// A key, and how what was done is answered.
#[derive(Debug, Clone)]
pub struct Once {
    pub key: Key,
    pub answer: fn(&Changed) -> Answer,
}

/// What a change led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Of a count or an adjustment; `delta` is 0 where the books were right.
    Level {
        product: ProductId,
        level: Level,
        delta: i64,
    },
    Reservation(Reservation),
}

/// A product of which there is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub product: ProductId,
    pub requested: u64,
    pub available: u64,
}

/// Why a change was not made. A failed transaction fails for all of its group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("there is no such product")]
    UnknownProducts(Vec<ProductId>),
    #[error("there is no such reservation")]
    UnknownReservation,
    #[error("there is not enough")]
    Insufficient(Vec<Shortage>),
    /// A count below what is promised.
    #[error("{} are reserved", .0.reserved)]
    BelowReserved(Level),
    #[error("more would be on hand than is taken for possible")]
    TooMuch,
    #[error("the stock is at version {}", .0.version)]
    PreconditionFailed(Level),
    /// The state in which the reservation has ended.
    #[error("the reservation is {0}")]
    NotActive(ReservationState),
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// MySQL is away or busy. Nothing was changed; try again.
    #[error(transparent)]
    Unavailable(StoreError),
    /// COMMIT was sent and not answered: applied once, or not at all.
    #[error(transparent)]
    Unknown(StoreError),
    /// Ours, or the operator's, to mend.
    #[error(transparent)]
    Internal(StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            Kind::Unavailable | Kind::Full | Kind::Conflict => Self::Unavailable(error),
            Kind::Unknown => Self::Unknown(error),
            Kind::Corrupt | Kind::Bug => Self::Internal(error),
        }
    }
}

/// What comes of one ask.
pub type Outcome = Result<Done<Changed>, Error>;

/// The metrics that stock feeds.
#[derive(Clone)]
pub struct Metrics {
    pub stock: Arc<StockMetrics>,
    pub idempotency: Arc<IdempotencyMetrics>,
}

/// The stock of one deployment. Clones share everything.
#[derive(Clone)]
pub struct Stock {
    mysql: MySql,
    metrics: Metrics,
}

impl Stock {
    #[must_use]
    pub fn new(mysql: MySql, metrics: Metrics) -> Self {
        Self { mysql, metrics }
    }

    /// The stock of a product; `None`: there is no such product.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn level(&self, id: ProductId) -> Result<Option<Level>, Error> {
        Ok(stock::find(&self.mysql, id).await?)
    }

    /// At most `limit` changes of a product's stock before the one of that number, the newest first.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn movements(&self, id: ProductId, before: u64, limit: u32) -> Result<Vec<LedgerRow>, Error> {
        Ok(stock::movements(&self.mysql, id, before, limit).await?)
    }

    /// The reservation as it is now.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn reservation(&self, id: Uuid) -> Result<Option<Reservation>, Error> {
        Ok(reservations::find(&self.mysql, id).await?)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn change(&self, ask: Ask) -> Outcome {
        let asks: Arc<[Ask]> = Arc::new([ask]);
        match self.apply(asks.clone()).await {
            Ok(mut outcomes) => outcomes.pop().unwrap_or_else(|| Err(Error::Internal(lost()))),
            Err(error) => {
                self.count_failure(&asks[0], &error);
                Err(error.into())
            }
        }
    }

    /// Writes down that the time of active reservations is over, at most [`EXPIRED_AT_ONCE`] in one transaction, from behind `after` on;
    /// returns where the next ones begin, if there may be more. Which they are is the database's clock to say.
    ///
    /// Those that stock does not cover stay, and are behind the place that is returned: they keep nobody else waiting.
    ///
    /// # Errors
    /// MySQL is away, or others hold the rows.
    pub async fn expire_overdue(&self, after: Option<&Overdue>) -> Result<Option<Overdue>, StoreError> {
        let overdue = reservations::overdue(&self.mysql, None, after, EXPIRED_AT_ONCE).await?;
        self.expire(&overdue).await?;
        Ok(next(overdue))
    }

    async fn expire(&self, overdue: &[Overdue]) -> Result<(), StoreError> {
        if overdue.is_empty() {
            return Ok(());
        }
        let asks: Arc<[Ask]> = overdue.iter().map(|it| Ask { change: Change::Expire(it.id), actor: None, once: None }).collect();
        let outcomes = self.transact(asks.clone()).await?;
        asks.iter().zip(&outcomes).for_each(|(ask, outcome)| self.count(ask, outcome));
        Ok(())
    }

    /// Applies a group in one transaction, and those that found too little once more if reservations whose time is over held some
    /// of it. Those are released in transactions of their own: to lock the rows of another's basket within the buyer's would
    /// break the order of locks.
    pub(crate) async fn apply(&self, asks: Arc<[Ask]>) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = self.transact(asks.clone()).await?;
        let short: Vec<usize> = (0..asks.len()).filter(|place| is_short(&outcomes[*place])).collect();
        if !short.is_empty() {
            let again = short.iter().map(|place| asks[*place].clone()).collect();
            match self.once_more(again).await {
                Ok(None) => {}
                Ok(Some(again)) => short.into_iter().zip(again).for_each(|(place, outcome)| outcomes[place] = outcome),
                // The others are committed. Whether these would find enough is not known.
                Err(error) => short.into_iter().for_each(|place| outcomes[place] = Err(error.clone().into())),
            }
        }
        asks.iter().zip(&outcomes).for_each(|(ask, outcome)| self.count(ask, outcome));
        Ok(outcomes)
    }

    /// `None` where nothing was freed that they could find.
    async fn once_more(&self, asks: Arc<[Ask]>) -> Result<Option<Vec<Outcome>>, StoreError> {
        if !self.free(asks.iter().flat_map(Ask::products)).await? {
            return Ok(None);
        }
        self.transact(asks).await.map(Some)
    }

    /// Whether some of these products was held by a reservation whose time is over, and no longer is.
    async fn free(&self, products: impl Iterator<Item = ProductId>) -> Result<bool, StoreError> {
        let products: BTreeSet<ProductId> = products.collect();
        let products: Vec<_> = products.into_iter().collect();
        let (mut freed, mut after) = (false, None);
        loop {
            let overdue = reservations::overdue(&self.mysql, Some(&products), after.as_ref(), EXPIRED_AT_ONCE).await?;
            freed |= !overdue.is_empty();
            // Another may have been quicker, which frees it as well.
            self.expire(&overdue).await?;
            after = next(overdue);
            if after.is_none() {
                return Ok(freed);
            }
        }
    }

    async fn transact(&self, asks: Arc<[Ask]>) -> Result<Vec<Outcome>, StoreError> {
        let (mysql, retries) = (self.mysql.clone(), self.metrics.stock.retries.clone());
        let task = async move { transaction::run(&mysql, &asks, &retries).await };
        self.mysql.detached(MysqlOp::Stock, Kind::Unknown, WAIT_LIMIT, task).await
    }

    fn count(&self, ask: &Ask, outcome: &Outcome) {
        let Metrics { stock, idempotency } = &self.metrics;
        if ask.once.is_some() {
            match outcome {
                Ok(Done::Now(_)) => idempotency.results[IdempotencyResult::Executed].inc(),
                Ok(Done::Before(_)) => idempotency.results[IdempotencyResult::Replayed].inc(),
                Err(Error::KeyReused) => idempotency.results[IdempotencyResult::Mismatch].inc(),
                Err(_) => {}
            }
        }
        let result = match outcome {
            // Nothing was changed, and nothing judged.
            Ok(Done::Before(_)) => return,
            Ok(Done::Now(Changed::Level { delta: 0, .. })) => StockResult::Unchanged,
            Ok(Done::Now(_)) => StockResult::Applied,
            Err(Error::Unavailable(error) | Error::Unknown(error) | Error::Internal(error)) => return self.count_failure(ask, error),
            Err(_) => StockResult::Refused,
        };
        stock.changes[(ask.kind(), result)].inc();
        let reservation = match (&ask.change, outcome) {
            (Change::Count { .. } | Change::Adjust { .. }, _) => return,
            (Change::Reserve { .. }, Err(Error::Insufficient(_))) => ReservationResult::Insufficient,
            (_, Err(_)) => ReservationResult::Refused,
            (Change::Reserve { .. }, Ok(_)) => ReservationResult::Reserved,
            (Change::Commit(_), Ok(_)) => ReservationResult::Committed,
            (Change::Release(_), Ok(_)) => ReservationResult::Released,
            (Change::Expire(_), Ok(_)) => ReservationResult::Expired,
        };
        stock.reservations[reservation].inc();
    }

    /// Counts an ask whose transaction failed.
    pub(crate) fn count_failure(&self, ask: &Ask, error: &StoreError) {
        let result = if error.kind() == Kind::Unknown { StockResult::Unknown } else { StockResult::Unavailable };
        self.metrics.stock.changes[(ask.kind(), result)].inc();
    }
}

impl Ask {
    fn kind(&self) -> StockKind {
        match &self.change {
            Change::Count { .. } => StockKind::Count,
            Change::Adjust { .. } => StockKind::Adjustment,
            Change::Reserve { .. } => StockKind::Reserve,
            Change::Commit(_) => StockKind::Commit,
            Change::Release(_) => StockKind::Release,
            Change::Expire(_) => StockKind::Expire,
        }
    }

    /// The products that it names itself; those of a reservation that is there are not known yet.
    fn products(&self) -> impl Iterator<Item = ProductId> {
        let (one, lines): (_, &[Line]) = match &self.change {
            Change::Count { product, .. } | Change::Adjust { product, .. } => (Some(*product), &[]),
            Change::Reserve { lines, .. } => (None, lines),
            Change::Commit(_) | Change::Release(_) | Change::Expire(_) => (None, &[]),
        };
        one.into_iter().chain(lines.iter().map(|line| line.product_id))
    }

    /// The reservation that is to be there.
    fn reservation(&self) -> Option<Uuid> {
        match &self.change {
            Change::Commit(id) | Change::Release(id) | Change::Expire(id) => Some(*id),
            Change::Count { .. } | Change::Adjust { .. } | Change::Reserve { .. } => None,
        }
    }
}

/// Behind what was read, if there may be more.
fn next(mut read: Vec<Overdue>) -> Option<Overdue> {
    if read.len() < EXPIRED_AT_ONCE { None } else { read.pop() }
}

/// Refused for what others hold.
fn is_short(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Error::Insufficient(_) | Error::BelowReserved(_)))
}

fn lost() -> StoreError {
    StoreError::new(Kind::Bug, "a group of changes has fewer outcomes than asks")
}
