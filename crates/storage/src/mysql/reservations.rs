//! The tables `reservations` and `reservation_items`.
//!
//! Only the crate `stock` calls what changes them, inside the transaction that changes the stock. Rows of reservations are locked
//! before those of stock, in the order of their ids.

use super::{MySql, Tx, number_list, products, take, values_list};
use crate::{Error, Kind};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::ProductId;
use domain::stock::{Line, ReservationState};
use mysql_async::Row;
use serde_json::{Value, json};
use std::collections::HashMap;
use telemetry::metrics::MysqlOp;
use uuid::Uuid;

/// Pieces of products that are promised to somebody until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub id: Uuid,
    pub state: ReservationState,
    /// Ordered by product, each once.
    pub lines: Vec<Line>,
    pub reference: Option<String>,
    /// Who asked for it.
    pub actor: Option<String>,
    /// By the database's clock.
    pub expires_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    /// When its state became what it is.
    pub updated_at: DateTime<Utc>,
}

impl Reservation {
    /// The reservation as it is at a time: one whose time is over is expired, whether or not that was written down yet.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        if self.state == ReservationState::Active && self.expires_at <= now { self.expired() } else { self }
    }

    /// It ended when its time was over, and not when somebody noticed.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { state: ReservationState::Expired, updated_at: self.expires_at, ..self }
    }
}

/// An active reservation as those see it who look after all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub id: Uuid,
    pub reference: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// By the database's clock; negative where its time is over, and nobody has written that down yet.
    pub left_micros: i64,
    pub items: Vec<Item>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub product_id: u64,
    /// None where plain SQL has removed the product.
    pub sku: Option<String>,
    pub quantity: u64,
}

const COLUMNS: &str = "id, state, reference, actor, expires_at, created_at, updated_at";

/// The reservation as it is now, by the database's clock.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn find(mysql: &MySql, id: Uuid) -> Result<Option<Reservation>, Error> {
    let sql = format!(
        "SELECT r.id, r.state, r.reference, r.actor, r.expires_at, r.created_at, r.updated_at, UTC_TIMESTAMP(6) AS now, \
         i.product_id, i.quantity FROM reservations r JOIN reservation_items i ON i.reservation_id = r.id \
         WHERE r.id = '{id}' ORDER BY i.product_id"
    );
    let mut found: Option<(Reservation, DateTime<Utc>)> = None;
    for mut row in mysql.rows(MysqlOp::Stock, sql, ()).await? {
        let line = line(&mut row)?;
        if found.is_none() {
            found = Some((reservation(&mut row)?, time(&mut row, "now")?));
        }
        found.iter_mut().for_each(|(reservation, _)| reservation.lines.push(line));
    }
    Ok(found.map(|(reservation, now)| reservation.at(now)))
}

/// Locks the reservations, in the order of their ids, until the transaction ends; ids without a row are left out.
///
/// # Errors
/// `Conflict` when another holds a row for longer than the lock wait.
pub async fn lock(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Reservation>, Error> {
    let list = uuid_list(ids);
    let sql = format!("SELECT {COLUMNS} FROM reservations FORCE INDEX (PRIMARY) WHERE id IN ({list}) ORDER BY id FOR UPDATE");
    let mut locked = HashMap::with_capacity(ids.len());
    for mut row in tx.rows(&sql, ()).await? {
        let reservation = reservation(&mut row)?;
        locked.insert(reservation.id, reservation);
    }
    // Nothing changes the lines of a reservation.
    let sql = format!(
        "SELECT reservation_id, product_id, quantity FROM reservation_items WHERE reservation_id IN ({list}) ORDER BY reservation_id, product_id"
    );
    for mut row in tx.rows(&sql, ()).await? {
        let (id, line) = (uuid(&mut row, "reservation_id")?, line(&mut row)?);
        locked.entry(id).and_modify(|reservation| reservation.lines.push(line));
    }
    Ok(locked)
}

/// The products of reservations; nothing changes them, so no lock is needed. Ids without a row are left out.
///
/// # Errors
/// MySQL is away.
pub async fn products_of(mysql: &MySql, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<ProductId>>, Error> {
    let sql = format!("SELECT reservation_id, product_id FROM reservation_items WHERE reservation_id IN ({})", uuid_list(ids));
    let mut found = HashMap::<_, Vec<_>>::new();
    for mut row in mysql.rows(MysqlOp::Stock, sql, ()).await? {
        let product = products::product_id(take(&mut row, "product_id")?)?;
        found.entry(uuid(&mut row, "reservation_id")?).or_default().push(product);
    }
    Ok(found)
}

/// Writes new reservations with their lines, in the order of their ids.
///
/// # Errors
/// As any statement.
pub async fn insert(tx: &mut Tx, reservations: &[&Reservation]) -> Result<(), Error> {
    let mut reservations = reservations.to_vec();
    reservations.sort_unstable_by_key(|it| it.id);
    let row = |it: &&Reservation| {
        let (id, created_at) = (it.id.to_string(), it.created_at.naive_utc());
        let (reference, actor) = (it.reference.as_ref().into(), it.actor.as_ref().into());
        [id.into(), it.state.as_str().into(), reference, actor, it.expires_at.naive_utc().into(), created_at.into(), created_at.into()]
    };
    let rows = values_list(reservations.iter().map(row));
    let sql = format!("INSERT INTO reservations (id, state, reference, actor, expires_at, created_at, updated_at) VALUES {rows}");
    tx.execute(&sql, ()).await?;
    let lines = reservations.iter().flat_map(|it| it.lines.iter().map(|line| (it.id.to_string(), line)));
    let rows = values_list(lines.map(|(id, line)| [id.into(), line.product_id.get().into(), line.quantity.into()]));
    tx.execute(&format!("INSERT INTO reservation_items (reservation_id, product_id, quantity) VALUES {rows}"), ()).await.map(|_| ())
}

/// Sets the state of reservations that this transaction has locked.
///
/// # Errors
/// As any statement.
pub async fn set_state(tx: &mut Tx, reservations: &[&Reservation]) -> Result<(), Error> {
    let row = |it: &&Reservation| json!([it.id, it.state.as_str(), text(it.updated_at)]);
    let list = Value::from_iter(reservations.iter().map(row)).to_string();
    tx.execute(include_str!("sql/set_reservations.sql"), (list,)).await.map(|_| ())
}

/// A place among the active reservations whose time is over, those that expired first first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    pub id: Uuid,
    pub expires_at: DateTime<Utc>,
}

/// Active reservations whose time is over, from behind `after` on, at most `limit`; with `of`, those that hold one of these products.
///
/// # Errors
/// MySQL is away.
pub async fn overdue(mysql: &MySql, of: Option<&[ProductId]>, after: Option<&Overdue>, limit: usize) -> Result<Vec<Overdue>, Error> {
    let held = of.map_or_else(String::new, |products| {
        let list = number_list(products.iter().map(|id| id.get()));
        format!("AND EXISTS (SELECT 1 FROM reservation_items i WHERE i.reservation_id = r.id AND i.product_id IN ({list}))")
    });
    let behind = after.map_or_else(String::new, |Overdue { id, expires_at }| {
        let at = text(*expires_at);
        // The first condition bounds what is read of the index.
        format!("AND r.expires_at >= '{at}' AND (r.expires_at > '{at}' OR r.id > '{id}')")
    });
    let sql = format!(
        "SELECT r.id, r.expires_at FROM reservations r WHERE r.state = 'active' AND r.expires_at <= UTC_TIMESTAMP(6) {held} {behind} \
         ORDER BY r.expires_at, r.id LIMIT {limit}"
    );
    let place = |mut row: Row| Ok(Overdue { id: uuid(&mut row, "id")?, expires_at: time(&mut row, "expires_at")? });
    mysql.rows(MysqlOp::Stock, sql, ()).await?.into_iter().map(place).collect()
}

/// Active reservations with their lines, those that expire first first, at most `limit`.
///
/// Reads as many entries of the index of states and their lines by primary key, however many reservations there are: 1,000 with
/// three lines each took 30 ms. A reservation has at most 100 lines.
///
/// # Errors
/// MySQL is away, or a row cannot be read.
pub async fn active(mysql: &MySql, limit: u64) -> Result<Vec<Active>, Error> {
    let sql = format!(
        "SELECT r.id, r.reference, r.created_at, r.expires_at, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), r.expires_at) AS left_micros, \
         i.product_id, p.sku, i.quantity FROM \
         (SELECT id, reference, created_at, expires_at FROM reservations WHERE state = 'active' ORDER BY expires_at, id LIMIT {limit}) r \
         JOIN reservation_items i ON i.reservation_id = r.id LEFT JOIN products p ON p.id = i.product_id \
         ORDER BY r.expires_at, r.id, i.product_id"
    );
    let mut found = Vec::<Active>::new();
    for mut row in mysql.rows(MysqlOp::Stock, sql, ()).await? {
        let row = &mut row;
        let id = uuid(row, "id")?;
        let item = Item { product_id: take(row, "product_id")?, sku: take(row, "sku")?, quantity: take(row, "quantity")? };
        match found.last_mut().filter(|last| last.id == id) {
            Some(last) => last.items.push(item),
            None => found.push(Active {
                id,
                reference: take(row, "reference")?,
                created_at: time(row, "created_at")?,
                expires_at: time(row, "expires_at")?,
                left_micros: take(row, "left_micros")?,
                items: vec![item],
            }),
        }
    }
    Ok(found)
}

fn reservation(row: &mut Row) -> Result<Reservation, Error> {
    let state: String = take(row, "state")?;
    let unknown = || Error::new(Kind::Corrupt, format!("{state} is no state of a reservation"));
    Ok(Reservation {
        id: uuid(row, "id")?,
        state: ReservationState::parse(&state).ok_or_else(unknown)?,
        lines: Vec::new(),
        reference: take(row, "reference")?,
        actor: take(row, "actor")?,
        expires_at: time(row, "expires_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn line(row: &mut Row) -> Result<Line, Error> {
    Ok(Line { product_id: products::product_id(take(row, "product_id")?)?, quantity: take(row, "quantity")? })
}

fn uuid(row: &mut Row, column: &str) -> Result<Uuid, Error> {
    let text: String = take(row, column)?;
    Uuid::parse_str(&text).map_err(|error| Error::new(Kind::Corrupt, format!("{column} {text}: {error}")))
}

fn uuid_list(ids: &[Uuid]) -> String {
    ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",")
}

/// A time as MySQL reads it.
fn text(time: DateTime<Utc>) -> String {
    time.naive_utc().to_string()
}

pub(super) fn time(row: &mut Row, column: &str) -> Result<DateTime<Utc>, Error> {
    Ok(take::<NaiveDateTime>(row, column)?.and_utc())
}
