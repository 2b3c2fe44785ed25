//! The stock of an import's lines: counts that are set, and what is added once.
//!
//! A count is set whatever the version is, and one that is there already changes nothing. What is added has an idempotency key
//! of the file's content and the line's number, kept in the transaction of the change, so that the same file adds it once.

use super::{Done, Written};
use crate::catalogue_file::{StockChange, Wish};
use crate::exit::Failure;
use crate::lines;
use crate::stores::Stores;
use domain::stock::{Level, LevelError, MOST_ON_HAND};
use domain::{ProductId, Sku};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;
use stock::{Answer, Ask, Change, Changed, Error, Expected, Key, Note, Once};
use storage::Kind;
use uuid::Uuid;

/// Beside the routes of the API, whose keys these never meet.
const ROUTE: &str = "inventoryctl product import";

/// What is to be done about rejected lines of a file that adds to stock.
pub(crate) const CURE_OF_REJECTS: &str =
    "correct them in a file of their own: changed, this file would be another one, and all of its stock_add would be added again";

/// What became of the stock of a line, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StockWritten {
    Set,
    /// The count was there already.
    Unchanged,
    Added,
    /// By an earlier run of the same file, or an earlier try whose answer was lost.
    AddedBefore,
    Refused(String),
}

/// The content of a file, unpacked, as a digest in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileContent(Arc<str>);

impl FileContent {
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Self::read(lines::open(path)?)
    }

    fn read(mut input: impl BufRead) -> io::Result<Self> {
        let mut hash = Sha256::new();
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            let read = bytes.len();
            input.consume(read);
        }
        let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            // A String takes every text.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok(Self(hex.into()))
    }

    /// The key of a line.
    fn key(&self, line: u64) -> String {
        format!("{}:{line}", self.0)
    }
}

/// Writes the product of a line and then its stock, or says what would be done.
///
/// # Errors
/// A store is away, or not allowed.
pub(crate) async fn write(stores: &Stores, wish: Wish, content: Option<&FileContent>, dry_run: bool) -> Result<Done, Failure> {
    let Wish { product, stock } = wish;
    let sku = product.sku.clone();
    let product = stores.import(product, dry_run).await?;
    let Some(wish) = stock.filter(|_| !matches!(product, Written::Refused(_))) else { return Ok(Done { product, stock: None }) };
    let key = match (wish.change, content) {
        (StockChange::Add(_), Some(content)) => content.key(wish.line),
        // A count may be set again. The key is for its own repetitions while MySQL is away.
        _ => Uuid::new_v4().to_string(),
    };
    let written = if dry_run { judged(stores, &sku, wish.change, key).await } else { changed(stores, &sku, wish.change, key).await };
    let written = written.or_else(|error| refusal(error, wish.change)).map_err(|failure| of_product(&sku, failure))?;
    Ok(Done { product, stock: Some((wish, written)) })
}

fn of_product(sku: &Sku, failure: Failure) -> Failure {
    Failure::new(failure.exit, format!("the stock of product {sku}: {}", failure.message))
}

async fn changed(stores: &Stores, sku: &Sku, change: StockChange, key: String) -> Result<StockWritten, Error> {
    let done = stores.change_stock(sku, |id| ask(id, change, key.clone())).await?;
    Ok(match (change, done) {
        (StockChange::Add(_), stock::Done::Now(_)) => StockWritten::Added,
        (StockChange::Add(_), stock::Done::Before(_)) => StockWritten::AddedBefore,
        (StockChange::Set(_), stock::Done::Now(Changed::Level { delta: 0, .. })) => StockWritten::Unchanged,
        (StockChange::Set(_), stock::Done::Now(_)) => StockWritten::Set,
        // By an earlier try of this run, whose answer was lost.
        (StockChange::Set(_), stock::Done::Before(answer)) if answer.body == UNCHANGED => StockWritten::Unchanged,
        (StockChange::Set(_), stock::Done::Before(_)) => StockWritten::Set,
    })
}

/// What [`changed`] would find now.
async fn judged(stores: &Stores, sku: &Sku, change: StockChange, key: String) -> Result<StockWritten, Error> {
    let Some((id, level)) = stores.stock_of(sku).await? else { return Ok(judged_on(Level::default(), change)) };
    let is_add = matches!(change, StockChange::Add(_));
    if is_add && stores.is_done(once(id, change, key).key).await? {
        return Ok(StockWritten::AddedBefore);
    }
    Ok(judged_on(level, change))
}

fn judged_on(level: Level, change: StockChange) -> StockWritten {
    let judged = match change {
        StockChange::Set(count) if count == level.on_hand => return StockWritten::Unchanged,
        StockChange::Set(count) => level.count(count).map(|_| StockWritten::Set),
        StockChange::Add(delta) => level.adjust(delta).map(|_| StockWritten::Added),
    };
    judged.unwrap_or_else(|fault| StockWritten::Refused(in_words(fault, change, level.reserved, level.available())))
}

/// Why a change is refused; another failure is none of its line's.
fn refusal(error: Error, change: StockChange) -> Result<StockWritten, Failure> {
    let words = match error {
        Error::BelowReserved(level) => in_words(LevelError::BelowReserved, change, level.reserved, level.available()),
        Error::Insufficient(short) => {
            let available = short.first().map_or(0, |short| short.available);
            in_words(LevelError::BelowReserved, change, 0, available)
        }
        Error::TooMuch => in_words(LevelError::TooMuch, change, 0, 0),
        Error::UnknownProducts(_) => "the product was deleted meanwhile".to_owned(),
        Error::KeyReused => "this line of this file was added before, to a product that had the SKU then".to_owned(),
        Error::Internal(error) if error.kind() == Kind::Corrupt => error.to_string(),
        Error::Unavailable(error) | Error::Unknown(error) | Error::Internal(error) => return Err(error.into()),
        // Nothing is expected of what is there, and no reservation is touched.
        error @ (Error::PreconditionFailed(_) | Error::NotActive(_) | Error::UnknownReservation) => error.to_string(),
    };
    Ok(StockWritten::Refused(words))
}

fn in_words(fault: LevelError, change: StockChange, reserved: u64, available: u64) -> String {
    match (fault, change) {
        (LevelError::BelowReserved, StockChange::Set(count)) => {
            format!("stock_set {count} is less than the {reserved} that are reserved: count again, or release reservations first")
        }
        (LevelError::BelowReserved, StockChange::Add(delta)) => {
            format!("stock_add {delta} takes more than the {available} that are available: count again, or release reservations first")
        }
        (LevelError::TooMuch, _) => format!("more than {MOST_ON_HAND} would be on hand"),
    }
}

fn ask(product: ProductId, change: StockChange, key: String) -> Ask {
    let note = Note { reason: Some("import".to_owned()), reference: None };
    let once = Some(once(product, change, key));
    let change = match change {
        StockChange::Set(count) => Change::Count { product, on_hand: count, expected: Expected::Anything, note },
        StockChange::Add(delta) => Change::Adjust { product, delta, note },
    };
    Ask { change, actor: Some(crate::price::actor()), once }
}

fn once(product: ProductId, change: StockChange, key: String) -> Once {
    let request = Sha256::digest(format!("{product} {change:?}")).into();
    Once { key: Key { token: String::new(), route: ROUTE, key, request }, answer }
}

const UNCHANGED: &[u8] = b"unchanged";

/// Nobody asks for it but [`changed`].
fn answer(changed: &Changed) -> Answer {
    let body = if matches!(changed, Changed::Level { delta: 0, .. }) { UNCHANGED } else { b"changed" };
    Answer { status: 200, etag: None, location: None, body: body.to_vec() }
}
/// What is said at the end of a file that adds to stock.
pub(crate) fn told(now: u64, before: u64) -> String {
    format!(
        "stock_add: {now} lines added now, {before} added before. Within {} hours this same file adds nothing twice; changed, or later, it adds all again",
        storage::mysql::idempotency::KEPT_HOURS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor};

    #[test]
    fn a_line_is_named_by_the_content_of_its_file_however_it_is_read() {
        let of = |text: &str, buffer| FileContent::read(BufReader::with_capacity(buffer, Cursor::new(text.to_owned()))).unwrap();
        let hash_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of("abc", 2).key(7), format!("{hash_of_abc}:7"));
        assert_eq!(of("abc", 2), of("abc", 4_096));
        assert_ne!(of("abc", 4_096), of("abd", 4_096));
    }
}
