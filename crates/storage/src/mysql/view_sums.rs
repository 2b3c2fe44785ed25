//! Sums of views on their way into `product_views` and `view_hours`, and what MySQL refuses of them.
//!
//! A sum is in both tables or in neither. What a server refuses for its data, such as a trigger of the operator's or a
//! counter that is full, is found by halving inside the caller's transaction, so that everything else of it counts.

use super::Tx;
use crate::Error;
use serde_json::json;
use std::collections::BTreeMap;

/// Product, and hours since 1970 UTC.
pub(super) type Key = (u64, u64);

/// Adds sums, which are ascending: the order in which rows are locked.
///
/// # Errors
/// As any statement; after a refusal of data the sums may be in the one table and not in the other.
pub(super) async fn add(tx: &mut Tx, sums: &[(Key, u64)]) -> Result<(), Error> {
    if sums.is_empty() {
        return Ok(());
    }
    let mut products = BTreeMap::<u64, u64>::new();
    for ((id, _), views) in sums {
        let sum = products.entry(*id).or_default();
        *sum = sum.saturating_add(*views);
    }
    let products: Vec<_> = products.into_iter().map(|(id, views)| json!([id, views])).collect();
    tx.execute(include_str!("sql/add_views.sql"), (json!(products).to_string(),)).await?;
    let hours: Vec<_> = sums.iter().map(|((id, hour), views)| json!([id, hour, views])).collect();
    tx.execute(include_str!("sql/add_hours.sql"), (json!(hours).to_string(),)).await.map(|_| ())
}

/// Adds all sums but those that MySQL refuses for their data, left half first; returns these with the refusals, and how
/// often a piece was halved: each that is refused costs at most two statements for every doubling of the number of sums.
///
/// A refused statement undoes itself only, and a piece is two statements: where the second is refused, the savepoint
/// takes the first back.
///
/// # Errors
/// Any failure that is no refusal of data; the caller must roll back.
pub(super) async fn add_but_refused(tx: &mut Tx, sums: &[(Key, u64)]) -> Result<(Vec<(Key, Error)>, usize), Error> {
    let (mut pieces, mut refused, mut halvings) = (vec![sums], Vec::new(), 0);
    while let Some(piece) = pieces.pop() {
        tx.execute("SAVEPOINT piece", ()).await?;
        let refusal = match add(tx, piece).await {
            Ok(()) => continue,
            Err(error) if error.is_refusal_of_data() => error,
            Err(error) => return Err(error),
        };
        tx.execute("ROLLBACK TO SAVEPOINT piece", ()).await?;
        if let [(key, _)] = piece {
            refused.push((*key, refusal));
        } else {
            let (left, right) = piece.split_at(piece.len() / 2);
            pieces.extend([right, left]);
            halvings += 1;
        }
    }
    Ok((refused, halvings))
}
