//! What is known of how to tell whether all is well: what `inventoryctl check`, `doctor` and `product get --compare` say, and the
//! API's admin routes too.
//!
//! Promises to change nothing and to print nothing: facts become findings, faults and differences, and its caller shows them.
//! That a write under way, or plain SQL that is still on its way, is no difference is promised here, once for all who ask.

pub mod account;
pub mod compare;
pub mod doctor;
pub mod products;
pub mod stock;

use domain::ProductId;
use std::time::Duration;

/// When a difference is looked at again: soon, as most were made by a write, and then late enough for plain SQL.
const AGAIN: [Duration; 2] = [Duration::from_millis(300), catalog::check::PATIENCE];

/// Products of one statement, which must end within the limit of a call.
const PIECE: usize = 100;

/// So many differences or faults of a kind are told in words, all are counted.
pub const MOST_TOLD: usize = 20;

/// Some of the products of a look, and the ids around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    pub products: &'a [ProductId],
    after: u64,
    last: u64,
}

/// Products, which are ascending, in pieces of which each is few enough for one statement. What lies between two products, or
/// behind the last, belongs to none; it is looked at with their neighbours. So there is a piece also where there is no product.
#[must_use]
pub fn pieces(products: &[ProductId]) -> Vec<Piece<'_>> {
    let mut chunks: Vec<_> = products.chunks(PIECE).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let (count, mut after) = (chunks.len(), 0);
    let mut pieces = Vec::with_capacity(count);
    for (number, products) in (1..).zip(chunks) {
        let last = if number == count { u64::MAX } else { products.last().map_or(after, |id| id.get()) };
        pieces.push(Piece { products, after, last });
        after = last;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_in_one_piece_whether_a_product_has_it_or_not() {
        let ids = |count: u64| (1..=count).map(|id| ProductId::new(2 * id).unwrap()).collect::<Vec<_>>();
        let ranges = |count| {
            let ids = ids(count);
            pieces(&ids).iter().map(|piece| (piece.after, piece.last, piece.products.len())).collect::<Vec<_>>()
        };
        assert_eq!(ranges(0), [(0, u64::MAX, 0)]);
        assert_eq!(ranges(100), [(0, u64::MAX, 100)]);
        assert_eq!(ranges(250), [(0, 200, 100), (200, 400, 100), (400, u64::MAX, 50)]);
    }
}
