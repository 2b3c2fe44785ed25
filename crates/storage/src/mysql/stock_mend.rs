//! Stock that is not what its movements and reservations say, made even again: after plain SQL changed the one without the other.
//!
//! What is on hand stays as it is, because that is what was sold from; the ledger gets the movement that it lacks.

use super::stock_checks::{Among, Figures, Subtotals, figures, longer, moment};
use super::{MySql, Tx};
use crate::{Error, Kind};
use std::time::Duration;
use telemetry::metrics::MysqlOp;

/// How long a product that is mended is waited for.
const MEND_LIMIT: Duration = Duration::from_secs(10);

/// Writes the movement that is missing where on hand or reserved is not what the movements add up to, and sets reserved to what
/// the active reservations add up to, unless that is more than is on hand. Returns the product as it is afterwards.
///
/// # Errors
/// `Conflict` when others held the row for too long, `Unknown` when COMMIT was not answered; otherwise nothing was changed.
pub async fn mend(mysql: &MySql, product: u64, actor: &str) -> Result<Figures, Error> {
    let among = Among::These(vec![product]);
    let subtotals = longer(mysql, &among, Subtotals::new(), false).await?;
    let (this, actor) = (mysql.clone(), actor.to_owned());
    let work = async move { mend_locked(this.begin().await?, product, &among, &subtotals, &actor).await };
    mysql.detached(MysqlOp::Check, Kind::Unknown, MEND_LIMIT, work).await
}

async fn mend_locked(mut tx: Tx, product: u64, among: &Among, subtotals: &Subtotals, actor: &str) -> Result<Figures, Error> {
    // Whoever changes stock of the product, its movements or what is reserved of it holds this row.
    tx.execute("INSERT INTO stock (product_id, version) VALUES (?, 0) ON DUPLICATE KEY UPDATE product_id = product_id", (product,)).await?;
    tx.rows("SELECT product_id FROM stock WHERE product_id = ? FOR UPDATE", (product,)).await?;
    let rows = tx.rows(&moment(among, None, subtotals), ()).await?;
    let mut found = figures(rows, subtotals)?.remove(&product).unwrap_or(Figures { product_id: product, ..Figures::default() });
    let reserved = if (0..=found.on_hand).contains(&found.items) { found.items } else { found.reserved };
    let (delta, reserved_delta) = (found.on_hand - found.moved_on_hand, reserved - found.moved_reserved);
    if reserved != found.reserved {
        tx.execute("UPDATE stock SET reserved = ?, version = version + 1 WHERE product_id = ?", (reserved, product)).await?;
    }
    if (delta, reserved_delta) != (0, 0) {
        let sql = "INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, reason, actor) \
                   VALUES (?, 'adjustment', ?, ?, ?, ?, 'the movement that was missing', ?)";
        tx.execute(sql, (product, delta, reserved_delta, found.on_hand, reserved, actor)).await?;
    }
    tx.commit().await?;
    (found.moved_on_hand, found.moved_reserved, found.reserved) = (found.on_hand, reserved, reserved);
    Ok(found)
}
