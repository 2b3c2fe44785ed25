//! Stock: how much of a product is on hand and reserved, and what may become of a reservation.
//!
//! A [`Level`] is never oversold: each of its changes gives a level that is none either, or is refused.

use crate::ProductId;
use serde::Serialize;
use std::fmt;

/// Most pieces of a product on hand: far above what a shop has, and sums of it stay exact in JSON.
pub const MOST_ON_HAND: u64 = 1_000_000_000_000;

/// Most pieces that one count or adjustment may name.
pub const MOST_COUNTED: u64 = 1_000_000_000;

/// Most pieces of a product that one reservation may hold.
pub const MOST_QUANTITY: u64 = 1_000_000;

/// Most products of one reservation.
pub const MOST_LINES: usize = 100;

/// What MySQL holds of a product. Without a row it has none, at version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Level {
    /// In the shop, reserved pieces included.
    pub on_hand: u64,
    /// Promised to active reservations.
    pub reserved: u64,
    /// Rises with every change.
    pub version: u64,
}

impl Level {
    /// What may still be sold.
    #[must_use]
    pub fn available(self) -> u64 {
        self.on_hand.saturating_sub(self.reserved)
    }

    /// `None` where fewer are available.
    #[must_use]
    pub fn reserve(self, quantity: u64) -> Option<Self> {
        (quantity <= self.available()).then(|| self.changed(self.on_hand, self.reserved + quantity))
    }

    /// What a reservation held is available again. `None` where less is reserved, which is a fault of the books.
    #[must_use]
    pub fn release(self, quantity: u64) -> Option<Self> {
        Some(self.changed(self.on_hand, self.reserved.checked_sub(quantity)?))
    }

    /// What a reservation held has left the shop. `None` as for [`Self::release`].
    #[must_use]
    pub fn sell(self, quantity: u64) -> Option<Self> {
        Some(self.changed(self.on_hand.checked_sub(quantity)?, self.reserved.checked_sub(quantity)?))
    }

    /// # Errors
    /// Less would be on hand than is reserved, or more than [`MOST_ON_HAND`].
    pub fn adjust(self, delta: i64) -> Result<Self, LevelError> {
        let on_hand = self.on_hand.checked_add_signed(delta).ok_or(LevelError::BelowReserved)?;
        self.set_on_hand(on_hand)
    }

    /// A count that finds what the books say changes nothing, the version neither.
    ///
    /// # Errors
    /// As [`Self::adjust`].
    pub fn count(self, on_hand: u64) -> Result<Self, LevelError> {
        if on_hand == self.on_hand { Ok(self) } else { self.set_on_hand(on_hand) }
    }

    fn set_on_hand(self, on_hand: u64) -> Result<Self, LevelError> {
        match on_hand {
            less if less < self.reserved => Err(LevelError::BelowReserved),
            more if more > MOST_ON_HAND => Err(LevelError::TooMuch),
            on_hand => Ok(self.changed(on_hand, self.reserved)),
        }
    }

    fn changed(self, on_hand: u64, reserved: u64) -> Self {
        Self { on_hand, reserved, version: self.version + 1 }
    }
}

/// Why a level cannot be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("less would be on hand than is reserved")]
    BelowReserved,
    #[error("more than {MOST_ON_HAND} would be on hand")]
    TooMuch,
}

/// So many pieces of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Line {
    pub product_id: ProductId,
    /// 1 to [`MOST_QUANTITY`].
    pub quantity: u64,
}

/// A reservation begins active and ends once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Holds its pieces until it expires.
    Active,
    /// Its pieces have left the shop.
    Committed,
    Released,
    Expired,
}

impl ReservationState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Committed, Self::Released, Self::Expired].into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for ReservationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level(on_hand: u64, reserved: u64) -> Level {
        Level { on_hand, reserved, version: 7 }
    }

    #[test]
    fn what_is_reserved_is_not_available_and_comes_back_or_leaves() {
        let reserved = level(5, 1).reserve(4).unwrap();
        assert_eq!((reserved.on_hand, reserved.reserved, reserved.available(), reserved.version), (5, 5, 0, 8));
        assert_eq!(reserved.reserve(1), None);
        assert_eq!(reserved.release(4).map(Level::available), Some(4));
        assert_eq!(reserved.sell(4).map(|sold| (sold.on_hand, sold.reserved)), Some((1, 1)));
        assert_eq!(reserved.release(6), None);
        assert_eq!(reserved.sell(6), None);
    }

    #[test]
    fn a_count_that_finds_what_is_there_changes_nothing() {
        assert_eq!(level(5, 1).count(5), Ok(level(5, 1)));
        assert_eq!(level(5, 1).count(1).map(|counted| (counted.on_hand, counted.version)), Ok((1, 8)));
        assert_eq!(level(5, 1).count(0), Err(LevelError::BelowReserved));
        assert_eq!(level(5, 1).count(MOST_ON_HAND + 1), Err(LevelError::TooMuch));
        assert_eq!(level(5, 1).adjust(-6), Err(LevelError::BelowReserved));
        assert_eq!(level(MOST_ON_HAND, 0).adjust(1), Err(LevelError::TooMuch));
    }

    proptest! {
        #[test]
        fn no_sequence_of_changes_oversells(changes in prop::collection::vec((0_u8..5, 0_i64..20), 0..60)) {
            let mut level = Level::default();
            for (change, number) in changes {
                let (before, quantity) = (level, number as u64);
                level = match change {
                    0 => level.reserve(quantity),
                    1 => level.release(quantity),
                    2 => level.sell(quantity),
                    3 => level.adjust(number - 10).ok(),
                    _ => level.count(quantity).ok(),
                }
                .unwrap_or(before);
                prop_assert!(level.reserved <= level.on_hand && level.on_hand <= MOST_ON_HAND);
                prop_assert_eq!(level.available(), level.on_hand - level.reserved);
                prop_assert!(level == before || level.version == before.version + 1);
            }
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in [ReservationState::Active, ReservationState::Committed, ReservationState::Released, ReservationState::Expired] {
            assert_eq!(ReservationState::parse(state.as_str()), Some(state));
        }
        assert_eq!(ReservationState::parse("Active"), None);
    }
}
