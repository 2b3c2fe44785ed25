//! What the rows of reservations reserve, and the account of it: every piece that was acknowledged, and no other, is in MySQL.

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::figures::grouped;
use crate::requests::{PRODUCTS, Requests};
use crate::stack::{OURS, Stack, THEIRS};
use crate::versus::SEED;
use anyhow::{Context, ensure};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::net::SocketAddr;

/// Pieces of each product at first: so many that nothing is refused.
const OPENING: u64 = 1_000_000_000;

/// The product that everybody wants, and one that is sold out, of which no other row reserves anything.
pub(crate) const HOT: u64 = 1;
pub(crate) const SOLD_OUT: u64 = PRODUCTS as u64 + 1;

/// Pieces of the product that is sold out, each held by a reservation: they may expire, and whoever refuses has to know.
const HELD: u64 = 100;

/// Products of a basket, one piece each.
pub(crate) const BASKET: usize = 4;

/// What is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goods {
    /// One piece of one product that everybody wants.
    Hot,
    /// The same, and then the reservation is committed.
    Bought,
    /// Baskets of any of the products, all of them alike: what has the least in common.
    Baskets,
    /// One piece of a product that is sold out: every request is refused.
    SoldOut,
}

impl Goods {
    pub(crate) fn is_refused(self) -> bool {
        self == Self::SoldOut
    }

    /// What each answer changes.
    fn effect(self) -> Level {
        match self {
            Self::Hot => Level { reservations: 1, on_hand: 0, reserved: 1 },
            Self::Bought => Level { reservations: 1, on_hand: -1, reserved: 0 },
            Self::Baskets => Level { reservations: 1, on_hand: 0, reserved: BASKET as i64 },
            Self::SoldOut => Level { reservations: 0, on_hand: 0, reserved: 0 },
        }
    }
}

/// Sums over all products of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    reservations: i64,
    on_hand: i64,
    reserved: i64,
}

/// Both databases before the first round.
pub(crate) struct Opened {
    goods: Goods,
    before: [Level; 2],
}

impl Opened {
    /// Fills the stock of both, where no row has done so before, and asks both for the same.
    ///
    /// # Errors
    /// They do not answer the same, or MySQL failed.
    pub(crate) async fn new(stack: &Stack, goods: Goods, baseline: SocketAddr) -> anyhow::Result<Self> {
        let (mut before, mut answers) = (Vec::new(), Vec::new());
        for (database, address) in [(OURS, stack.api()), (THEIRS, baseline)] {
            fill(stack, database).await?;
            let mut connection = Connection::open(address).await?;
            if goods.is_refused() {
                sell_out(stack, database, &mut connection).await?;
            }
            answers.push(ask(&mut connection, goods).await?);
            before.push(level(stack, database).await?);
        }
        ensure!(answers[0] == answers[1], "ours answers {} and the baseline {}", answers[0], answers[1]);
        Ok(Self { goods, before: [before[0], before[1]] })
    }

    /// What was answered to whom, and that it is so in MySQL. `answered`: to ours and to the baseline.
    ///
    /// # Errors
    /// It is not.
    pub(crate) async fn account(self, stack: &Stack, answered: [u64; 2]) -> anyhow::Result<String> {
        let mut said = Vec::new();
        for (place, (who, database)) in [("ours", OURS), ("the baseline", THEIRS)].into_iter().enumerate() {
            let change = level(stack, database).await?.since(self.before[place]);
            let expected = self.goods.effect().times(answered[place]);
            ensure!(change == expected, "{who}: {} requests were answered, and this is their account: {change:?}", answered[place]);
            let faults = stack.number(&faults_of(database)).await?;
            ensure!(faults == 0, "{who}: the levels of {faults} products are not those of their movements and reservations");
            let answered = grouped(answered[place] as f64);
            said.push(format!("{who} {answered} answered, reserved {:+}, on hand {:+}", change.reserved, change.on_hand));
        }
        Ok(said.join("; ") + "; of each product as much as its movements and active reservations say")
    }
}

impl Level {
    fn since(self, before: Self) -> Self {
        Self {
            reservations: self.reservations - before.reservations,
            on_hand: self.on_hand - before.on_hand,
            reserved: self.reserved - before.reserved,
        }
    }

    fn times(self, answered: u64) -> Self {
        let times = |each: i64| each * answered.cast_signed();
        Self { reservations: times(self.reservations), on_hand: times(self.on_hand), reserved: times(self.reserved) }
    }
}

/// With the movements that say so, which our worker looks for.
async fn fill(stack: &Stack, database: &str) -> anyhow::Result<()> {
    if stack.number(&format!("SELECT COUNT(*) FROM {database}.stock")).await? > 0 {
        return Ok(());
    }
    let mut sql = stack.sql.get_conn().await?;
    let products = format!("{database}.products WHERE id <= {SOLD_OUT}");
    let opening = format!("IF(id = {SOLD_OUT}, {HELD}, {OPENING})");
    sql.query_drop("START TRANSACTION").await?;
    sql.query_drop(format!("INSERT INTO {database}.stock (product_id, on_hand) SELECT id, {opening} FROM {products}")).await?;
    sql.query_drop(format!(
        "INSERT INTO {database}.stock_movements (product_id, kind, delta, on_hand, reserved) \
         SELECT id, 'count', {opening}, {opening}, 0 FROM {products}"
    ))
    .await?;
    Ok(sql.query_drop("COMMIT").await?)
}

/// Reserves all that there is of the product.
async fn sell_out(stack: &Stack, database: &str, connection: &mut Connection) -> anyhow::Result<()> {
    let left = format!("SELECT on_hand - reserved FROM {database}.stock WHERE product_id = {SOLD_OUT}");
    let (requests, mut buffer) = (Requests::reservations(Goods::SoldOut, SEED), Vec::new());
    for _ in 0..stack.number(&left).await? {
        let answer = connection.exchange_within(ANSWER_LIMIT, requests.next(&mut buffer)).await?;
        ensure!(answer.status == 201, "a reservation was answered with {}: {}", answer.status, String::from_utf8_lossy(answer.body));
    }
    Ok(())
}

/// What one request is answered, but for what is of each answer alone.
async fn ask(connection: &mut Connection, goods: Goods) -> anyhow::Result<Value> {
    let (requests, mut buffer) = (Requests::reservations(goods, SEED), Vec::new());
    let answer = connection.exchange_within(ANSWER_LIMIT, requests.next(&mut buffer)).await?;
    let text = || String::from_utf8_lossy(answer.body).into_owned();
    ensure!(requests.expects(&answer), "a reservation was answered with {}: {}", answer.status, text());
    let (status, next) = (answer.status, requests.next_after(&answer)?);
    let mut said = vec![comparable(answer.body).with_context(text)?];
    if let Some(commit) = next {
        let answer = connection.exchange_within(ANSWER_LIMIT, &commit).await?;
        let text = || String::from_utf8_lossy(answer.body).into_owned();
        ensure!(answer.is_success(), "a commit was answered with {}: {}", answer.status, text());
        said.push(comparable(answer.body).with_context(text)?);
    }
    Ok(serde_json::json!({ "status": status, "said": said }))
}

/// What both must say alike.
fn comparable(body: &[u8]) -> anyhow::Result<Value> {
    let body: Value = serde_json::from_slice(body)?;
    Ok(serde_json::json!([body["state"], body["items"], body["reference"], body["shortages"]]))
}

async fn level(stack: &Stack, database: &str) -> anyhow::Result<Level> {
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM {database}.reservations), CAST(SUM(on_hand) AS SIGNED), CAST(SUM(reserved) AS SIGNED) \
         FROM {database}.stock"
    );
    let sums: Option<(i64, i64, i64)> = stack.sql.get_conn().await?.query_first(sql).await?;
    let (reservations, on_hand, reserved) = sums.context("the sums of no rows are a row, too")?;
    Ok(Level { reservations, on_hand, reserved })
}

/// Products whose levels are not what their movements, or their active reservations, add up to.
fn faults_of(database: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM {database}.stock s \
         LEFT JOIN (SELECT product_id, SUM(delta) AS on_hand, SUM(reserved_delta) AS reserved FROM {database}.stock_movements \
           GROUP BY product_id) m ON m.product_id = s.product_id \
         LEFT JOIN (SELECT i.product_id, SUM(i.quantity) AS reserved FROM {database}.reservation_items i \
           JOIN {database}.reservations r ON r.id = i.reservation_id WHERE r.state = 'active' GROUP BY i.product_id) a \
           ON a.product_id = s.product_id \
         WHERE s.on_hand <> COALESCE(m.on_hand, 0) OR s.reserved <> COALESCE(m.reserved, 0) OR s.reserved <> COALESCE(a.reserved, 0)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_what_the_answers_changed() {
        let before = Level { reservations: 7, on_hand: 1_000, reserved: 5 };
        let after = Level { reservations: 10, on_hand: 1_000, reserved: 17 };
        assert_eq!(after.since(before), Goods::Baskets.effect().times(3));
        assert_ne!(after.since(before), Goods::Hot.effect().times(3));
        assert_eq!(Goods::Bought.effect().times(2), Level { reservations: 2, on_hand: -2, reserved: 0 });
        assert_eq!(before.since(before), Goods::SoldOut.effect().times(99));
    }

    #[test]
    fn answers_are_compared_but_for_ids_and_times() {
        let said = |id: &str, quantity: u32| {
            let body = format!(
                r#"{{"id":"{id}","state":"active","items":[{{"product_id":1,"quantity":{quantity}}}],"reference":null,"created_at":"{id}"}}"#
            );
            comparable(body.as_bytes()).unwrap()
        };
        assert_eq!(said("a", 1), said("b", 1));
        assert_ne!(said("a", 1), said("a", 2));
        assert!(comparable(b"no JSON").is_err());
    }
}
