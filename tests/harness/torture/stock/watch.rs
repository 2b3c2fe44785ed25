//! Consistent snapshots of MySQL while clients trade: at each moment levels, movements and reservations agree, and what was
//! acknowledged before is there.

use super::judge::{Rule, Violation};
use super::ledger::{Sums, snapshot};
use super::workload::Clients;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two snapshots: each sums all movements, on the cores that the servers run on.
const PAUSE: Duration = Duration::from_millis(150);

/// For one, of a server that may be killed in the midst of it.
const LIMIT: Duration = Duration::from_secs(10);

const SUMS: &str = "SELECT s.product_id, s.on_hand, s.reserved, COALESCE(m.delta, 0), COALESCE(m.reserved_delta, 0), COALESCE(i.quantity, 0) \
    FROM stock s \
    LEFT JOIN (SELECT product_id, CAST(SUM(delta) AS SIGNED) delta, CAST(SUM(reserved_delta) AS SIGNED) reserved_delta \
               FROM stock_movements GROUP BY product_id) m ON m.product_id = s.product_id \
    LEFT JOIN (SELECT i.product_id, CAST(SUM(i.quantity) AS SIGNED) quantity \
               FROM reservations r JOIN reservation_items i ON i.reservation_id = r.id \
               WHERE r.state = 'active' GROUP BY i.product_id) i ON i.product_id = s.product_id";

/// Judges snapshots until the clients are stopped.
pub(super) async fn watch(url: String, clients: Arc<Clients>) -> Vec<Violation> {
    let (opts, mut found) = (Opts::from_url(&url).expect("the URL is well formed"), Vec::new());
    while !clients.are_stopped() {
        // MySQL may be away, as everything here.
        if let Ok(mut conn) = Conn::new(opts.clone()).await {
            while !clients.are_stopped()
                && let Ok(Ok(seen)) = tokio::time::timeout(LIMIT, look(&mut conn, &clients)).await
            {
                clients.counters.snapshots.fetch_add(1, Ordering::Relaxed);
                found.extend(seen);
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    found
}

async fn look(conn: &mut Conn, clients: &Clients) -> Result<Vec<Violation>> {
    let acknowledged = clients.recent();
    snapshot(conn).await?;
    let sums =
        |(product, on_hand, reserved, moved, moved_reserved, held)| (product, Sums { on_hand, reserved, moved, moved_reserved, held });
    let sums: Vec<(u64, Sums)> = conn.query_map(SUMS, sums).await?;
    let mut found: Vec<Violation> = sums.iter().flat_map(|(product, sums)| sums.faults(*product)).collect();
    if !acknowledged.is_empty() {
        let list: Vec<String> = acknowledged.iter().map(|id| format!("'{id}'")).collect();
        let there: Vec<String> = conn.query(format!("SELECT id FROM reservations WHERE id IN ({})", list.join(","))).await?;
        let missing = acknowledged.iter().filter(|id| !there.contains(id));
        found.extend(missing.map(|id| Violation::of(Rule::Lost, format!("reservation {id} is in no snapshot after its answer"))));
    }
    conn.query_drop("COMMIT").await?;
    let at_ms = clients.now_ms();
    found.iter_mut().for_each(|violation| violation.detail.push_str(&format!(", in a snapshot at {at_ms} ms")));
    Ok(found)
}
