//! Judges a group of changes over the rows that its transaction has locked, and notes what is to be written. No I/O.
//!
//! Asks are judged in their order, each on what those before it left, and each all or nothing: what is refused has changed nothing.

use crate::{Ask, Change, Changed, Done, Error, Expected, Line, Note, Outcome, Reservation, ReservationState, Shortage};
use chrono::{DateTime, Utc};
use domain::ProductId;
use domain::stock::{Level, LevelError};
use std::collections::{BTreeMap, HashMap};
use storage::mysql::idempotency::{Answer, Begun, Key};
use storage::mysql::stock::{Held, Locked, Movement, MovementKind};
use storage::{Error as StoreError, Kind};
use uuid::Uuid;

/// What the transaction found under its locks, and what becomes of it.
pub(crate) struct Book {
    levels: HashMap<ProductId, Held>,
    reservations: HashMap<Uuid, Reservation>,
    /// By the database's clock.
    now: DateTime<Utc>,
    pub(crate) changes: Changes,
}

/// What is to be written.
#[derive(Default)]
pub(crate) struct Changes {
    /// Before and after.
    pub(crate) levels: BTreeMap<ProductId, (Level, Level)>,
    pub(crate) movements: Vec<Movement>,
    pub(crate) made: Vec<Uuid>,
    pub(crate) ended: Vec<Uuid>,
}

/// Answers under the keys of a group: those that were kept before, and those that it gives.
pub(crate) struct Keys<'a> {
    known: HashMap<(&'a str, &'a str, &'a str), Begun>,
    pub(crate) given: Vec<(&'a Key, Answer)>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(known: impl Iterator<Item = (&'a Key, Begun)>) -> Self {
        Self { known: known.map(|(key, begun)| (name(key), begun)).collect(), given: Vec::new() }
    }

    /// What was answered under a key before this transaction, or earlier in it.
    fn before(&self, key: &Key) -> Option<Outcome> {
        if let Some((first, answer)) = self.given.iter().find(|(given, _)| name(given) == name(key)) {
            let is_same = first.request == key.request;
            return Some(if is_same { Ok(Done::Before(answer.clone())) } else { Err(Error::KeyReused) });
        }
        match self.known.get(&name(key))? {
            Begun::Answered(answer) => Some(Ok(Done::Before(answer.clone()))),
            Begun::OtherRequest => Some(Err(Error::KeyReused)),
            Begun::First | Begun::InProgress => None,
        }
    }
}

fn name(key: &Key) -> (&str, &str, &str) {
    (&key.token, key.route, &key.key)
}

/// Stock of one product that an ask wants to be another.
struct Step {
    product: ProductId,
    after: Level,
}

impl Book {
    /// `now` of the locked rows is used where there are any; without them nothing is judged by the clock.
    pub(crate) fn new(locked: Locked, reservations: HashMap<Uuid, Reservation>) -> Self {
        let now = locked.now.unwrap_or_default();
        Self { levels: locked.levels, reservations, now, changes: Changes::default() }
    }

    pub(crate) fn judge<'a>(&mut self, ask: &'a Ask, keys: &mut Keys<'a>) -> Outcome {
        let once = ask.once.as_ref();
        if let Some(before) = once.and_then(|once| keys.before(&once.key)) {
            return before;
        }
        let changed = self.change(ask)?;
        keys.given.extend(once.map(|once| (&once.key, (once.answer)(&changed))));
        Ok(Done::Now(changed))
    }

    fn change(&mut self, ask: &Ask) -> Result<Changed, Error> {
        match &ask.change {
            Change::Count { product, on_hand, expected, note } => {
                let level = self.sold(&[*product])?[0];
                if matches!(expected, Expected::Version(versions) if !versions.contains(&level.version)) {
                    return Err(Error::PreconditionFailed(level));
                }
                let after = level.count(*on_hand).map_err(|fault| refused(fault, || Error::BelowReserved(level)))?;
                Ok(self.set_on_hand(*product, level, after, MovementKind::Count, note, ask))
            }
            Change::Adjust { product, delta, note } => {
                let level = self.sold(&[*product])?[0];
                let short = || Shortage { product: *product, requested: delta.unsigned_abs(), available: level.available() };
                let after = level.adjust(*delta).map_err(|fault| refused(fault, || Error::Insufficient(vec![short()])))?;
                Ok(self.set_on_hand(*product, level, after, MovementKind::Adjustment, note, ask))
            }
            Change::Reserve { id, lines, ttl, reference } => self.reserve(*id, lines, *ttl, reference.as_deref(), ask),
            Change::Commit(id) => self.end(*id, ReservationState::Committed, ask),
            Change::Release(id) => self.end(*id, ReservationState::Released, ask),
            Change::Expire(id) => self.end(*id, ReservationState::Expired, ask),
        }
    }

    /// The levels of products that are sold, in the order in which they are named.
    fn sold(&self, products: &[ProductId]) -> Result<Vec<Level>, Error> {
        let found = products.iter().map(|id| self.levels.get(id).filter(|held| held.is_sold).map(|held| held.level).ok_or(*id));
        let (levels, unknown): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
        if unknown.is_empty() {
            Ok(levels.into_iter().flatten().collect())
        } else {
            Err(Error::UnknownProducts(unknown.into_iter().filter_map(Result::err).collect()))
        }
    }

    fn reserve(
        &mut self,
        id: Uuid,
        lines: &[Line],
        ttl: std::time::Duration,
        reference: Option<&str>,
        ask: &Ask,
    ) -> Result<Changed, Error> {
        let levels = self.sold(&lines.iter().map(|line| line.product_id).collect::<Vec<_>>())?;
        let (mut steps, mut short) = (Vec::with_capacity(lines.len()), Vec::new());
        for (line, level) in lines.iter().zip(levels) {
            match level.reserve(line.quantity) {
                Some(after) => steps.push(Step { product: line.product_id, after }),
                None => {
                    short.push(Shortage { product: line.product_id, requested: line.quantity, available: level.available() });
                }
            }
        }
        if !short.is_empty() {
            return Err(Error::Insufficient(short));
        }
        let mut lines = lines.to_vec();
        lines.sort_by_key(|line| line.product_id);
        let reservation = Reservation {
            id,
            state: ReservationState::Active,
            lines,
            reference: reference.map(str::to_owned),
            actor: actor(ask),
            expires_at: self.now + ttl,
            created_at: self.now,
            updated_at: self.now,
        };
        self.take(steps, MovementKind::Reserve, &reservation, ask);
        self.changes.made.push(id);
        self.reservations.insert(id, reservation.clone());
        Ok(Changed::Reservation(reservation))
    }

    /// Ends a reservation. One whose time is over has expired, whatever is asked of it, and that is written down at once.
    fn end(&mut self, id: Uuid, state: ReservationState, ask: &Ask) -> Result<Changed, Error> {
        let there = self.reservations.get(&id).ok_or(Error::UnknownReservation)?.clone();
        if there.state != ReservationState::Active {
            return if there.state == state && state != ReservationState::Expired {
                Ok(Changed::Reservation(there))
            } else {
                Err(Error::NotActive(there.state))
            };
        }
        let ended = match there.at(self.now) {
            active if active.state == ReservationState::Active && state == ReservationState::Expired => {
                return Err(Error::NotActive(active.state));
            }
            active if active.state == ReservationState::Active => Reservation { state, updated_at: self.now, ..active },
            expired => expired,
        };
        let (kind, change): (_, fn(Level, u64) -> Option<Level>) = match ended.state {
            ReservationState::Committed => (MovementKind::Commit, Level::sell),
            ReservationState::Released => (MovementKind::Release, Level::release),
            ReservationState::Expired | ReservationState::Active => (MovementKind::Expire, Level::release),
        };
        let step = |line: &Line| {
            let held = self.levels.get(&line.product_id)?;
            Some(Step { product: line.product_id, after: change(held.level, line.quantity)? })
        };
        let steps: Option<Vec<_>> = ended.lines.iter().map(step).collect();
        self.take(steps.ok_or_else(|| Error::Internal(not_covered(id)))?, kind, &ended, ask);
        self.changes.ended.push(id);
        self.reservations.insert(id, ended.clone());
        if ended.state == state { Ok(Changed::Reservation(ended)) } else { Err(Error::NotActive(ended.state)) }
    }

    fn set_on_hand(&mut self, product: ProductId, before: Level, after: Level, kind: MovementKind, note: &Note, ask: &Ask) -> Changed {
        let delta = after.on_hand as i64 - before.on_hand as i64;
        if after != before {
            let Note { reason, reference } = note.clone();
            let movement = Movement {
                product_id: product,
                kind,
                delta,
                reserved_delta: 0,
                level: after,
                reason,
                reference,
                actor: actor(ask),
                reservation: None,
            };
            self.note(movement, before);
        }
        Changed::Level { product, level: after, delta }
    }

    /// The steps of a reservation, whose lines name each product once.
    fn take(&mut self, steps: Vec<Step>, kind: MovementKind, of: &Reservation, ask: &Ask) {
        for Step { product, after } in steps {
            let before = self.levels[&product].level;
            let movement = Movement {
                product_id: product,
                kind,
                delta: after.on_hand as i64 - before.on_hand as i64,
                reserved_delta: after.reserved as i64 - before.reserved as i64,
                level: after,
                reason: None,
                reference: of.reference.clone(),
                actor: actor(ask),
                reservation: Some(of.id),
            };
            self.note(movement, before);
        }
    }

    fn note(&mut self, movement: Movement, before: Level) {
        let (product, after) = (movement.product_id, movement.level);
        debug_assert!(after.reserved <= after.on_hand, "product {product} would be oversold");
        self.changes.levels.entry(product).or_insert((before, after)).1 = after;
        self.levels.entry(product).and_modify(|held| held.level = after);
        self.changes.movements.push(movement);
    }

    pub(crate) fn reservations_of<'a>(&'a self, ids: &'a [Uuid]) -> Vec<&'a Reservation> {
        ids.iter().filter_map(|id| self.reservations.get(id)).collect()
    }
}

fn actor(ask: &Ask) -> Option<String> {
    ask.actor.as_deref().map(str::to_owned)
}

fn refused(fault: LevelError, below_reserved: impl FnOnce() -> Error) -> Error {
    match fault {
        LevelError::BelowReserved => below_reserved(),
        LevelError::TooMuch => Error::TooMuch,
    }
}

/// The books are wrong; `inventoryctl check` says how.
fn not_covered(id: Uuid) -> StoreError {
    StoreError::new(Kind::Bug, format!("the stock does not cover reservation {id}"))
}
