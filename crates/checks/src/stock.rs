//! The part of a check that is about stock: is what is on hand and reserved what movements and reservations say?
//!
//! Promises that stock at work makes nothing differ: the figures of a product are of one moment (`storage::mysql::stock_checks`).

use crate::Piece;
use storage::mysql::stock_checks::{self, Active, Among, Base, Figures};
use storage::{Error, MySql};
use telemetry::metrics::Invariant;

/// A look at stock, piece by piece.
pub struct Look {
    mysql: MySql,
    active: Active,
    full: bool,
}

impl Look {
    /// With `full` the pieces are of all products: then their movements are added up from the first on, and what belongs to no
    /// product is looked at too.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn begin(mysql: &MySql, full: bool) -> Result<Self, Error> {
        Ok(Self { mysql: mysql.clone(), active: stock_checks::active(mysql).await?, full })
    }

    /// Products with stock of which something does not hold.
    ///
    /// # Errors
    /// MySQL is away.
    pub async fn uneven(&self, piece: &Piece<'_>) -> Result<Vec<Figures>, Error> {
        let (among, base) = if self.full {
            (Among::Range { after: piece.after, last: piece.last }, Base::FirstMovement)
        } else {
            (Among::These(piece.products.iter().map(|id| id.get()).collect()), Base::Subtotals)
        };
        stock_checks::uneven(&self.mysql, &among, &self.active, base).await
    }
}

/// What to do about it.
#[must_use]
pub fn cure(violated: Invariant) -> &'static str {
    match violated {
        Invariant::OnHand | Invariant::Reserved => {
            "where stock is not what its movements add up to, plain SQL changed the one without the other: `inventoryctl check --repair` \
             writes the movement that is missing and leaves the stock as it is; where another quantity was counted, `inventoryctl stock \
             set` it after that"
        }
        Invariant::Items => {
            "where reserved is not what the active reservations add up to, plain SQL changed the one without the other: `inventoryctl \
             check --repair` sets it to that, unless more than is on hand would be reserved"
        }
        Invariant::Oversold => {
            "where more is reserved than is on hand, count it (`inventoryctl stock set`) or release reservations; the constraint \
             stock_not_oversold must be missing: add it again as migrations/V3__stock.sql has it"
        }
    }
}
