//! Writes that come with a key are done once: asked for again, they are answered as before and change nothing.
//!
//! A write that may have a key takes two steps more, both inside its transaction: [`begin`] before all else, and [`keep`]
//! as soon as it is known what will be answered. Without a key neither sends anything.

use crate::Error;
use std::fmt;
use storage::Error as StoreError;
use storage::mysql::Tx;
use storage::mysql::idempotency::{self, Begun};
pub use storage::mysql::idempotency::{Answer, Done, Key};
use telemetry::metrics::{IdempotencyMetrics, IdempotencyResult};

/// The key of a write, and how the write is answered.
pub struct Once<T> {
    key: Key,
    answer: Box<dyn Fn(&T) -> Answer + Send + Sync>,
}

impl<T> Once<T> {
    /// `answer` is called inside the transaction with what it is about to commit.
    pub fn new(key: Key, answer: impl Fn(&T) -> Answer + Send + Sync + 'static) -> Self {
        Self { key, answer: Box::new(answer) }
    }
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.key).finish()
    }
}

/// `None`: the write is to be done. Otherwise the transaction is to be rolled back, and this is the answer.
pub(crate) async fn begin<T, U>(tx: &mut Tx, once: Option<&Once<T>>) -> Result<Option<Result<Done<U>, Error>>, StoreError> {
    let Some(once) = once else { return Ok(None) };
    Ok(match idempotency::begin(tx, &once.key).await? {
        Begun::First => None,
        Begun::Answered(answer) => Some(Ok(Done::Before(answer))),
        Begun::OtherRequest => Some(Err(Error::KeyReused)),
        Begun::InProgress => Some(Err(Error::InProgress)),
    })
}

/// Keeps what will be answered.
pub(crate) async fn keep<T>(tx: &mut Tx, once: Option<&Once<T>>, done: &T) -> Result<(), StoreError> {
    match once {
        Some(once) => idempotency::keep(tx, &once.key, &(once.answer)(done)).await,
        None => Ok(()),
    }
}

/// Counts the outcome of a write that came with a key. One that was refused or failed has left no trace and is not counted.
pub(crate) fn count<T>(metrics: &IdempotencyMetrics, result: &Result<Done<T>, Error>) {
    let outcome = match result {
        Ok(Done::Now(_)) => IdempotencyResult::Executed,
        Ok(Done::Before(_)) => IdempotencyResult::Replayed,
        Err(Error::KeyReused) => IdempotencyResult::Mismatch,
        Err(Error::InProgress) => IdempotencyResult::InProgress,
        Err(_) => return,
    };
    metrics.results[outcome].inc();
}
