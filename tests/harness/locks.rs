//! Rows that a test locks, so that a program stands still in mid-transaction.

use crate::{SOON, Shop, eventually};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};

/// InnoDB's list of transactions is a copy that is made anew only when nobody has looked at it for 100 ms: who looks again sooner
/// sees the same for ever.
const LIST_IS_KEPT: Duration = Duration::from_millis(120);

const OPEN: &str = "SELECT CONCAT_WS(' ', t.trx_started, t.trx_state, p.user, p.command, p.time, p.state, p.info) \
                    FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id";

/// A locked row; the lock lasts until [`RowLock::release`], or until the test ends.
pub struct RowLock(Conn);

impl Shop {
    /// Locks the rows that a condition names, such as `product_views WHERE product_id = 2`.
    pub async fn lock(&self, rows: &str) -> RowLock {
        let mut conn = self.sql_connection().await;
        conn.query_drop("BEGIN").await.expect("a transaction begins");
        let locked: Vec<mysql_async::Row> = conn.query(format!("SELECT 1 FROM {rows} FOR UPDATE")).await.expect("rows can be locked");
        assert!(!locked.is_empty(), "there is nothing to lock in {rows}");
        RowLock(conn)
    }

    /// Whether somebody else holds a lock on rows, named as in [`Self::lock`].
    pub async fn is_locked(&self, rows: &str) -> bool {
        let sql = format!("SELECT 1 FROM {rows} FOR UPDATE NOWAIT");
        self.sql_connection().await.query_drop(sql).await.is_err()
    }

    /// Waits until no transaction is open; says which stay open.
    pub(crate) async fn open_transactions(&self) -> Option<String> {
        let started = Instant::now();
        loop {
            let open: Vec<String> = self.rows(OPEN).await;
            if open.is_empty() {
                return None;
            }
            if started.elapsed() > SOON {
                return Some(format!("after {} s a transaction is open: {}", SOON.as_secs(), open.join("; ")));
            }
            tokio::time::sleep(LIST_IS_KEPT).await;
        }
    }

    /// Waits until a worker stands in its transaction, before a row that the test has locked.
    pub async fn worker_meets_the_lock(&self) {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND user = 'inventory_worker' \
             AND (info LIKE '%FOR UPDATE%' OR info LIKE '%INSERT INTO product_views%')",
            self.database()
        );
        eventually("a worker meets the lock", SOON, async || (self.number(&sql).await > 0).then_some(())).await;
    }
}

impl RowLock {
    /// Runs a statement in the lock's transaction and commits it.
    pub async fn end(mut self, sql: &str) {
        self.0.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.0.query_drop("COMMIT").await.expect("a transaction ends");
    }

    pub async fn release(mut self) {
        self.0.query_drop("ROLLBACK").await.expect("a transaction ends");
    }
}
