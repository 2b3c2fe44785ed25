//! What MySQL holds of stock, read in one consistent snapshot, and what must hold of it at every moment.

use super::judge::{Rule, Violation};
use super::told::State;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Result};
use std::collections::{BTreeMap, HashMap};

/// A commit is judged by the clock when it looks at its reservation, and its movement is written when it has its rows: after
/// the lock wait of a session (2 s), or two of them.
const LATE_SECONDS: u32 = 5;

/// One row of `stock_movements`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    pub product: u64,
    pub kind: String,
    pub delta: i64,
    pub reserved_delta: i64,
    /// After it.
    pub on_hand: i64,
    pub reserved: i64,
    pub reference: Option<String>,
    pub reservation: Option<String>,
}

/// A reservation with its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub state: State,
    /// Its time is over, by the server's clock.
    pub overdue: bool,
    pub reference: Option<String>,
    pub items: BTreeMap<u64, u64>,
}

/// All of it.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// On hand and reserved by product.
    pub stock: BTreeMap<u64, (i64, i64)>,
    /// In the order of their ids, which is that in which they had the lock of their product's row.
    pub movements: Vec<Movement>,
    pub reservations: HashMap<String, Reservation>,
    /// Reservations that were expired before their time, or committed long after it.
    pub untimely: Vec<String>,
}

const STOCK: &str = "SELECT product_id, on_hand, reserved FROM stock";
const MOVEMENTS: &str =
    "SELECT product_id, kind, delta, reserved_delta, on_hand, reserved, reference, reservation_id FROM stock_movements ORDER BY id";
const RESERVATIONS: &str = "SELECT id, state, expires_at <= UTC_TIMESTAMP(6), reference FROM reservations";
const ITEMS: &str = "SELECT reservation_id, product_id, quantity FROM reservation_items";

/// From now until COMMIT this connection reads what was committed when this returned.
pub(super) async fn snapshot(conn: &mut Conn) -> Result<()> {
    conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await
}

impl Ledger {
    /// Reads all of it.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn load(conn: &mut Conn) -> Result<Self> {
        snapshot(conn).await?;
        let stock: Vec<(u64, i64, i64)> = conn.query(STOCK).await?;
        let movement = |(product, kind, delta, reserved_delta, on_hand, reserved, reference, reservation)| Movement {
            product,
            kind,
            delta,
            reserved_delta,
            on_hand,
            reserved,
            reference,
            reservation,
        };
        let movements = conn.query_map(MOVEMENTS, movement).await?;
        let mut reservations = HashMap::new();
        for (id, state, overdue, reference) in conn.query::<(String, String, bool, Option<String>), _>(RESERVATIONS).await? {
            let state = State::parse(&state).unwrap_or_else(|| panic!("reservation {id} has the state {state}"));
            reservations.insert(id, Reservation { state, overdue, reference, items: BTreeMap::new() });
        }
        for (id, product, quantity) in conn.query::<(String, u64, u64), _>(ITEMS).await? {
            // Items without their reservation are found by the movement that they lack.
            if let Some(reservation) = reservations.get_mut(&id) {
                reservation.items.insert(product, quantity);
            }
        }
        let untimely = conn.query(untimely()).await?;
        conn.query_drop("COMMIT").await?;
        let stock = stock.into_iter().map(|(product, on_hand, reserved)| (product, (on_hand, reserved))).collect();
        Ok(Self { stock, movements, reservations, untimely })
    }

    /// Every way in which it does not agree with itself.
    #[must_use]
    pub fn faults(&self) -> Vec<Violation> {
        let mut found: Vec<Violation> = self.untimely.iter().map(|what| Violation::of(Rule::State, what.clone())).collect();
        found.extend(self.sums());
        found.extend(self.steps());
        found.extend(self.moves());
        found
    }

    fn sums(&self) -> Vec<Violation> {
        let mut sums = BTreeMap::<u64, Sums>::new();
        for (product, (on_hand, reserved)) in &self.stock {
            let of = sums.entry(*product).or_default();
            (of.on_hand, of.reserved) = (*on_hand, *reserved);
        }
        for movement in &self.movements {
            let of = sums.entry(movement.product).or_default();
            of.moved += movement.delta;
            of.moved_reserved += movement.reserved_delta;
        }
        for reservation in self.reservations.values().filter(|reservation| reservation.state == State::Active) {
            for (product, quantity) in &reservation.items {
                sums.entry(*product).or_default().held += *quantity as i64;
            }
        }
        sums.iter().flat_map(|(product, sums)| sums.faults(*product)).collect()
    }

    /// Each movement of a product begins where the one before it ended, and does what its kind does.
    fn steps(&self) -> Vec<Violation> {
        let (mut levels, mut found) = (BTreeMap::<u64, (i64, i64)>::new(), Vec::new());
        for movement in &self.movements {
            let Movement { product, delta, reserved_delta, on_hand, reserved, .. } = movement;
            let level = levels.entry(*product).or_default();
            let had = std::mem::replace(level, (*on_hand, *reserved));
            let mut say = |rule, what: &str| found.push(Violation::of(rule, format!("{what}: {had:?}, then {movement:?}")));
            if (had.0 + delta, had.1 + reserved_delta) != *level {
                say(Rule::Step, "the levels do not follow from those before");
            }
            if *reserved < 0 || on_hand < reserved {
                say(Rule::Oversold, "more is reserved than is there");
            }
            if !movement.is_of_its_kind() {
                say(Rule::Step, "this is not what its kind does");
            }
        }
        found
    }

    /// Each reservation has the movements that its state tells, one for each item, and no others.
    fn moves(&self) -> Vec<Violation> {
        let mut moved = HashMap::<&str, BTreeMap<(&str, u64), Vec<i64>>>::new();
        for movement in &self.movements {
            if let Some(id) = &movement.reservation {
                let of = moved.entry(id).or_default();
                of.entry((&movement.kind, movement.product)).or_default().push(movement.reserved_delta);
            }
        }
        let mut found = Vec::new();
        for (id, reservation) in &self.reservations {
            let mut due = BTreeMap::new();
            for (product, quantity) in &reservation.items {
                let quantity = *quantity as i64;
                due.insert(("reserve", *product), vec![quantity]);
                if let Some(end) = reservation.end() {
                    due.insert((end, *product), vec![-quantity]);
                }
            }
            let there = moved.remove(id.as_str()).unwrap_or_default();
            if there != due || due.is_empty() {
                found.push(Violation::of(Rule::Moves, format!("{id} {reservation:?} has moved {there:?}")));
            }
        }
        found.extend(moved.into_iter().map(|(id, there)| Violation::of(Rule::Moves, format!("{id} is not there and has moved {there:?}"))));
        found
    }
}

impl Movement {
    fn is_of_its_kind(&self) -> bool {
        let of_stock = self.reservation.is_none();
        match self.kind.as_str() {
            "count" | "adjustment" => of_stock && self.reserved_delta == 0 && self.delta != 0,
            "reserve" => !of_stock && self.delta == 0 && self.reserved_delta > 0,
            "commit" => !of_stock && self.delta < 0 && self.reserved_delta == self.delta,
            "release" | "expire" => !of_stock && self.delta == 0 && self.reserved_delta < 0,
            _ => false,
        }
    }
}

impl Reservation {
    /// The kind of the movements that ended it.
    fn end(&self) -> Option<&'static str> {
        match self.state {
            State::Active => None,
            State::Committed => Some("commit"),
            State::Released => Some("release"),
            State::Expired => Some("expire"),
        }
    }
}

/// The levels of one product, and what they must be the sums of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    /// Of its movements.
    pub(super) moved: i64,
    pub(super) moved_reserved: i64,
    /// Of the items of active reservations.
    pub(super) held: i64,
}

impl Sums {
    pub(super) fn faults(&self, product: u64) -> Vec<Violation> {
        let Self { on_hand, reserved, moved, moved_reserved, held } = self;
        let mut found = Vec::new();
        if (on_hand, reserved) != (moved, moved_reserved) || reserved != held {
            found.push(Violation::of(Rule::Sums, format!("product {product}: {self:?}")));
        }
        if *reserved < 0 || on_hand < reserved {
            found.push(Violation::of(Rule::Oversold, format!("product {product}: {self:?}")));
        }
        found
    }
}

fn untimely() -> String {
    format!(
        "SELECT CONCAT(m.kind, ' of ', r.id, ' at ', m.created_at, ', its time ends at ', r.expires_at) \
         FROM stock_movements m JOIN reservations r ON r.id = m.reservation_id \
         WHERE m.kind = 'expire' AND m.created_at < r.expires_at \
         OR m.kind = 'commit' AND m.created_at > r.expires_at + INTERVAL {LATE_SECONDS} SECOND"
    )
}
