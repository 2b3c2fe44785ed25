//! What must hold of stock at every moment, product by product: on hand and reserved are what the movements add up to; reserved
//! is also what the items of active reservations add up to, and never more than on hand.
//!
//! All figures of a look come of one statement, so they are of one moment, and traffic makes no false alarm. That this does not
//! become slower with the years rests on two things. Movements of one product have ascending ids in the order of its changes,
//! because each is written under the lock of the product's row in `stock`: what they add up to as far as one of them never
//! changes, and is kept in `stock_subtotals` for ledgers that are long. And ids of reservations begin with the time at which they
//! were made, so that items of older ones than all that are active need not be looked at.
//! Neither is believed when something differs: then the products in question are looked at again from their first movement on.

use super::{MySql, number_list, take};
use crate::{Error, Kind};
use mysql_async::Row;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use telemetry::metrics::{Invariant, MysqlOp};

/// Movements that are added up by one statement; a ledger that has so many behind its subtotal gets another one. A look at a
/// hundred products reads so many of each at most: 200,000, which take about a second.
pub const PIECE: u64 = 2_000;

/// By how much clocks of those who name reservations may differ, milliseconds. Were it not enough, a second look would tell.
const CLOCKS_DIFFER_MS: u64 = 3_600_000;

/// The products of a look: few enough for one statement.
#[derive(Debug, Clone)]
pub enum Among {
    These(Vec<u64>),
    /// Ids that are `after < id <= last`, whether products have them or not.
    Range {
        after: u64,
        last: u64,
    },
}

impl Among {
    /// A condition on a column of ids.
    fn condition(&self, column: &str) -> String {
        match self {
            Self::These(ids) if ids.is_empty() => "FALSE".to_owned(),
            Self::These(ids) => format!("{column} IN ({})", number_list(ids.iter().copied())),
            Self::Range { after, last } => format!("({column} > {after} AND {column} <= {last})"),
        }
    }
}

/// What the reservations that are active tell of where their items are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub reservations: u64,
    /// Milliseconds since 1970 UTC: no active reservation has an id that was made before. None: an id does not tell.
    since_ms: Option<u64>,
}

/// What a product's ledger adds up to, as far as one of its movements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Subtotal {
    movement: u64,
    on_hand: i64,
    reserved: i64,
}

pub(super) type Subtotals = BTreeMap<u64, Subtotal>;

/// Where a first look begins to add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// At the subtotals that are kept; new ones are kept too.
    KeepingSubtotals,
    /// At the subtotals that are kept; nothing is written.
    Subtotals,
    /// At the first movement.
    FirstMovement,
}

/// The figures of one product at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    pub product_id: u64,
    /// As in `stock`; 0 without a row.
    pub on_hand: i64,
    pub reserved: i64,
    /// What all movements changed.
    pub moved_on_hand: i64,
    pub moved_reserved: i64,
    /// Quantities of the items of active reservations.
    pub items: i64,
}

impl Figures {
    /// What does not hold.
    pub fn violated(&self) -> impl Iterator<Item = Invariant> + use<> {
        [
            (self.on_hand != self.moved_on_hand, Invariant::OnHand),
            (self.reserved != self.moved_reserved, Invariant::Reserved),
            (self.reserved != self.items, Invariant::Items),
            (self.reserved < 0 || self.on_hand < self.reserved, Invariant::Oversold),
        ]
        .into_iter()
        .filter_map(|(differs, invariant)| differs.then_some(invariant))
    }

    fn is_even(&self) -> bool {
        self.violated().next().is_none()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { product_id, on_hand, reserved, moved_on_hand, moved_reserved, items } = self;
        write!(f, "product {product_id}:")?;
        for (number, violated) in self.violated().enumerate() {
            f.write_str(if number == 0 { " " } else { "; " })?;
            match violated {
                Invariant::OnHand => write!(f, "{on_hand} on hand, but its movements add up to {moved_on_hand}"),
                Invariant::Reserved => write!(f, "{reserved} reserved, but its movements add up to {moved_reserved}"),
                Invariant::Items => write!(f, "{reserved} reserved, but its active reservations add up to {items}"),
                Invariant::Oversold => write!(f, "{reserved} reserved of {on_hand} on hand"),
            }?;
        }
        Ok(())
    }
}

/// How many reservations are active, and since when the oldest of them; reads an index entry of each.
///
/// # Errors
/// MySQL is away.
pub async fn active(mysql: &MySql) -> Result<Active, Error> {
    let sql = "SELECT COUNT(*) AS active, MIN(id) AS oldest, CAST(UNIX_TIMESTAMP() AS UNSIGNED) * 1000 AS now FROM reservations \
               WHERE state = 'active'";
    let row = mysql.rows(MysqlOp::Check, sql, ()).await?.pop();
    let mut row = row.ok_or_else(|| Error::new(Kind::Bug, "an aggregate without a row"))?;
    let (oldest, now) = (take::<Option<String>>(&mut row, "oldest")?, take::<u64>(&mut row, "now")?);
    let made = oldest.as_deref().map_or(Some(now), made_ms);
    Ok(Active { reservations: take(&mut row, "active")?, since_ms: made.map(|made| made.min(now).saturating_sub(CLOCKS_DIFFER_MS)) })
}

/// When a UUID of version 7 was made (RFC 9562 §5.7), milliseconds since 1970 UTC.
fn made_ms(id: &str) -> Option<u64> {
    let (high, rest) = id.split_once('-')?;
    let (low, _) = rest.split_once("-7")?;
    let is_whole = high.len() == 8 && low.len() == 4;
    if is_whole { u64::from_str_radix(&format!("{high}{low}"), 16).ok() } else { None }
}

/// How long ago the oldest reservation expired that still is active, by the server's clock; zero where none has.
///
/// # Errors
/// MySQL is away.
pub async fn overdue(mysql: &MySql) -> Result<Duration, Error> {
    let sql = "SELECT CAST(GREATEST(TIMESTAMPDIFF(MICROSECOND, MIN(expires_at), UTC_TIMESTAMP(6)), 0) AS UNSIGNED) AS overdue \
               FROM reservations WHERE state = 'active'";
    let row = mysql.rows(MysqlOp::Check, sql, ()).await?.pop();
    let overdue = row.map_or(Ok(None), |mut row| take::<Option<u64>>(&mut row, "overdue"))?;
    Ok(overdue.map_or(Duration::ZERO, Duration::from_micros))
}

/// The next ids with a row in `stock`, ascending, at most `limit`.
///
/// # Errors
/// MySQL is away.
pub async fn next_products(mysql: &MySql, after: u64, limit: u32) -> Result<Vec<u64>, Error> {
    let sql = format!("SELECT product_id FROM stock WHERE product_id > {after} ORDER BY product_id LIMIT {limit}");
    mysql.rows(MysqlOp::Check, sql, ()).await?.into_iter().map(|mut row| take(&mut row, "product_id")).collect()
}

/// The products of which something does not hold; each of them was looked at twice, the second time from its first movement on.
///
/// # Errors
/// MySQL is away, or needs longer than a call may take.
pub async fn uneven(mysql: &MySql, among: &Among, active: &Active, base: Base) -> Result<Vec<Figures>, Error> {
    let kept = if base == Base::FirstMovement { Subtotals::new() } else { kept(mysql, among).await? };
    let keeps = base == Base::KeepingSubtotals;
    let (suspects, _) = look(mysql, among, active.since_ms, kept.clone(), keeps).await?;
    if suspects.is_empty() {
        return Ok(suspects);
    }
    let ids = suspects.iter().map(|figures| figures.product_id).collect();
    let (uneven, anew) = look(mysql, &Among::These(ids), None, Subtotals::new(), false).await?;
    // A subtotal that was wrong would send its product to a second look for ever.
    for suspect in suspects.iter().map(|figures| figures.product_id).filter(|id| keeps && kept.contains_key(id)) {
        keep(mysql, suspect, anew.get(&suspect).copied().unwrap_or_default()).await?;
    }
    Ok(uneven)
}

/// The uneven products as they are at one moment, and the subtotals that were made on the way there.
async fn look(
    mysql: &MySql,
    among: &Among,
    since_ms: Option<u64>,
    subtotals: Subtotals,
    keeps: bool,
) -> Result<(Vec<Figures>, Subtotals), Error> {
    let subtotals = longer(mysql, among, subtotals, keeps).await?;
    let rows = mysql.rows(MysqlOp::Check, moment(among, since_ms, &subtotals), ()).await?;
    let all = figures(rows, &subtotals)?;
    Ok((all.into_values().filter(|figures| !figures.is_even()).collect(), subtotals))
}

/// Subtotals behind which no product has a whole piece of movements.
pub(super) async fn longer(mysql: &MySql, among: &Among, mut subtotals: Subtotals, keeps: bool) -> Result<Subtotals, Error> {
    for product in long(mysql, among, &subtotals).await? {
        let mut subtotal = subtotals.get(&product).copied().unwrap_or_default();
        while let Some(next) = piece(mysql, product, subtotal).await? {
            subtotal = next;
        }
        if keeps {
            keep(mysql, product, subtotal).await?;
        }
        subtotals.insert(product, subtotal);
    }
    Ok(subtotals)
}

/// The statement that reads everything that is compared; of movements those behind the subtotals.
pub(super) fn moment(among: &Among, since_ms: Option<u64>, subtotals: &Subtotals) -> String {
    // The first 48 bits of an id are its time.
    let since = since_ms.map_or(String::new(), |ms| format!("AND i.reservation_id >= '{:08x}-{:04x}'", ms >> 16, ms & 0xffff));
    let (stock, behind, items) = (among.condition("product_id"), behind(among, subtotals), among.condition("i.product_id"));
    format!(include_str!("sql/stock_moment.sql"), stock = stock, behind = behind, items = items, since = since)
}

/// What that statement read, with the subtotals.
pub(super) fn figures(rows: Vec<Row>, subtotals: &Subtotals) -> Result<BTreeMap<u64, Figures>, Error> {
    let figures = |mut row: Row| {
        let product_id = take(&mut row, "product_id")?;
        let figures = Figures {
            product_id,
            on_hand: take(&mut row, "on_hand")?,
            reserved: take(&mut row, "reserved")?,
            moved_on_hand: take(&mut row, "moved_on_hand")?,
            moved_reserved: take(&mut row, "moved_reserved")?,
            items: take(&mut row, "items")?,
        };
        Ok((product_id, figures))
    };
    let mut all: BTreeMap<u64, Figures> = rows.into_iter().map(figures).collect::<Result<_, Error>>()?;
    for (id, subtotal) in subtotals {
        let figures = all.entry(*id).or_insert_with(|| Figures { product_id: *id, ..Figures::default() });
        figures.moved_on_hand += subtotal.on_hand;
        figures.moved_reserved += subtotal.reserved;
    }
    Ok(all)
}

/// A condition on movements that both servers answer by ranges of the index (product, id).
fn behind(among: &Among, subtotals: &Subtotals) -> String {
    let all = among.condition("product_id");
    if subtotals.is_empty() {
        return all;
    }
    let others = format!("({all} AND product_id NOT IN ({}))", number_list(subtotals.keys().copied()));
    let of = |(id, subtotal): (&u64, &Subtotal)| format!(" OR (product_id = {id} AND id > {})", subtotal.movement);
    subtotals.iter().map(of).fold(others, |condition, one| condition + &one)
}

/// Products that have a whole piece of movements behind their subtotal.
async fn long(mysql: &MySql, among: &Among, subtotals: &Subtotals) -> Result<Vec<u64>, Error> {
    let end = |product: &str, after: u64| {
        format!(
            "(SELECT m.id FROM stock_movements m FORCE INDEX (stock_movements_product) WHERE m.product_id = {product} AND m.id > {after} \
             ORDER BY m.id LIMIT 1 OFFSET {})",
            PIECE - 1
        )
    };
    let known =
        if subtotals.is_empty() { String::new() } else { format!(" AND s.product_id NOT IN ({})", number_list(subtotals.keys().copied())) };
    let mut sql = format!(
        "SELECT s.product_id, {} AS piece_end FROM stock s WHERE {}{known}",
        end("s.product_id", 0),
        among.condition("s.product_id")
    );
    for (id, subtotal) in subtotals {
        sql.push_str(&format!(" UNION ALL SELECT {id}, {}", end(&id.to_string(), subtotal.movement)));
    }
    let mut long = Vec::new();
    for mut row in mysql.rows(MysqlOp::Check, sql, ()).await? {
        if take::<Option<u64>>(&mut row, "piece_end")?.is_some() {
            long.push(take(&mut row, "product_id")?);
        }
    }
    Ok(long)
}

/// The subtotal one piece further; none where less than a piece is left.
async fn piece(mysql: &MySql, product: u64, subtotal: Subtotal) -> Result<Option<Subtotal>, Error> {
    let sql = format!(
        "SELECT COUNT(*) AS movements, COALESCE(MAX(id), 0) AS last, CAST(COALESCE(SUM(delta), 0) AS SIGNED) AS on_hand, \
         CAST(COALESCE(SUM(reserved_delta), 0) AS SIGNED) AS reserved FROM (SELECT id, delta, reserved_delta FROM stock_movements \
         FORCE INDEX (stock_movements_product) WHERE product_id = {product} AND id > {} ORDER BY id LIMIT {PIECE}) piece",
        subtotal.movement
    );
    let row = mysql.rows(MysqlOp::Check, sql, ()).await?.pop();
    let mut row = row.ok_or_else(|| Error::new(Kind::Bug, "an aggregate without a row"))?;
    if take::<u64>(&mut row, "movements")? < PIECE {
        return Ok(None);
    }
    Ok(Some(Subtotal {
        movement: take(&mut row, "last")?,
        on_hand: subtotal.on_hand + take::<i64>(&mut row, "on_hand")?,
        reserved: subtotal.reserved + take::<i64>(&mut row, "reserved")?,
    }))
}

async fn kept(mysql: &MySql, among: &Among) -> Result<Subtotals, Error> {
    let sql = format!("SELECT product_id, movement_id, on_hand, reserved FROM stock_subtotals WHERE {}", among.condition("product_id"));
    let subtotal = |mut row: Row| {
        let subtotal = Subtotal {
            movement: take(&mut row, "movement_id")?,
            on_hand: take(&mut row, "on_hand")?,
            reserved: take(&mut row, "reserved")?,
        };
        Ok((take(&mut row, "product_id")?, subtotal))
    };
    mysql.rows(MysqlOp::Check, sql, ()).await?.into_iter().map(subtotal).collect()
}

/// Whichever of several workers writes last: each row is right by itself.
async fn keep(mysql: &MySql, product: u64, subtotal: Subtotal) -> Result<(), Error> {
    let Subtotal { movement, on_hand, reserved } = subtotal;
    let sql = format!(
        "INSERT INTO stock_subtotals (product_id, movement_id, on_hand, reserved) VALUES ({product}, {movement}, {on_hand}, {reserved}) \
         ON DUPLICATE KEY UPDATE movement_id = {movement}, on_hand = {on_hand}, reserved = {reserved}"
    );
    mysql.change(MysqlOp::Check, sql).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_says_which_of_its_figures_differ() {
        let even = Figures { product_id: 42, on_hand: 12, reserved: 2, moved_on_hand: 12, moved_reserved: 2, items: 2 };
        assert_eq!((even.violated().count(), even.to_string().as_str()), (0, "product 42:"));
        let uneven = Figures { moved_on_hand: 10, items: 3, ..even };
        assert_eq!(uneven.violated().collect::<Vec<_>>(), [Invariant::OnHand, Invariant::Items]);
        let told = "product 42: 12 on hand, but its movements add up to 10; 2 reserved, but its active reservations add up to 3";
        assert_eq!(uneven.to_string(), told);
        let oversold = Figures { on_hand: 1, moved_on_hand: 1, ..even };
        assert_eq!(oversold.to_string(), "product 42: 2 reserved of 1 on hand");
        let negative = Figures { reserved: -1, moved_reserved: -1, items: -1, ..even };
        assert_eq!(negative.violated().collect::<Vec<_>>(), [Invariant::Oversold]);
    }

    #[test]
    fn movements_behind_their_subtotals_are_ranges_of_the_index() {
        let range = Among::Range { after: 3, last: 9 };
        assert_eq!(behind(&range, &Subtotals::new()), "(product_id > 3 AND product_id <= 9)");
        let subtotals = [(5, 100), (7, 200)].map(|(id, movement)| (id, Subtotal { movement, ..Subtotal::default() })).into();
        let expected = "((product_id > 3 AND product_id <= 9) AND product_id NOT IN (5,7)) OR (product_id = 5 AND id > 100) \
                        OR (product_id = 7 AND id > 200)";
        assert_eq!(behind(&range, &subtotals), expected);
        assert_eq!(behind(&Among::These(vec![5, 8]), &Subtotals::new()), "product_id IN (5,8)");
        assert_eq!(behind(&Among::These(vec![]), &Subtotals::new()), "FALSE");
    }

    #[test]
    fn only_an_id_of_version_7_tells_when_it_was_made() {
        // The example of RFC 9562, appendix A.6.
        assert_eq!(made_ms("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), Some(1_645_557_742_000));
        for other in ["919108f7-52d1-4320-9bac-f847db4148a8", "r1", "", "017f22e-79b0-7cc3-98c4-dc0c0c07398f"] {
            assert_eq!(made_ms(other), None, "{other}");
        }
    }
}
