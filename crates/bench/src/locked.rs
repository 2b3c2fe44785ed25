//! The baseline of reservations: one transaction a request that locks the rows of its stock, in the order of their ids.
//!
//! It writes the same rows into the same tables as the API, and answers the same. Every connection is of the pool, every
//! statement prepared, several rows of a table one statement. Keys are not looked up: each request comes with a new one.

use crate::baselines::{Answer, Stores};
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{NaiveDateTime, SubsecRound, TimeDelta, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Transaction, TxOpts, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The API's default (INVENTORY_RESERVATION_TTL).
const TTL: TimeDelta = TimeDelta::minutes(15);

/// How long after its first try a transaction that locks have refused is begun anew. One more lock wait (2 s) later its client still
/// waits for what went wrong.
const RETRY_FOR: Duration = Duration::from_secs(10);
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;

const TAKE_KEY: &str = "INSERT INTO idempotency (token, route, idempotency_key, request) VALUES ('', 'POST /v1/reservations', ?, ?)";
const KEEP_ANSWER: &str = "UPDATE idempotency SET status = 201, location = ?, body = ? \
     WHERE token = '' AND route = 'POST /v1/reservations' AND idempotency_key = ?";
const ADD_RESERVATION: &str = "INSERT INTO reservations (id, reference, expires_at, created_at, updated_at) VALUES (?, ?, ?, ?, ?)";
const LOCK_RESERVATION: &str = "SELECT state, reference, expires_at, created_at FROM reservations WHERE id = ? FOR UPDATE";
const END_RESERVATION: &str = "UPDATE reservations SET state = 'committed', updated_at = ? WHERE id = ?";
const ITEMS: &str = "SELECT product_id, quantity FROM reservation_items WHERE reservation_id = ? ORDER BY product_id";
/// Expired reservations may hold what is short: the API must not refuse before it knows that there are none.
const EXPIRED: &str = "SELECT r.id FROM reservations r JOIN reservation_items i ON i.reservation_id = r.id \
     WHERE r.state = 'active' AND r.expires_at <= UTC_TIMESTAMP(6) AND i.product_id = ? LIMIT 1";

#[derive(Deserialize)]
struct Wanted {
    items: Vec<Item>,
    #[serde(default)]
    reference: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
struct Item {
    product_id: u64,
    quantity: i64,
}

#[derive(Serialize)]
struct Reservation<'a> {
    id: String,
    state: &'a str,
    items: &'a [Item],
    reference: Option<&'a str>,
    expires_at: String,
    created_at: String,
    updated_at: String,
}

/// What a change does to a product for each piece.
#[derive(Debug, Clone, Copy)]
struct Change {
    kind: &'static str,
    on_hand: i64,
    reserved: i64,
}

const RESERVE: Change = Change { kind: "reserve", on_hand: 0, reserved: 1 };
const COMMIT: Change = Change { kind: "commit", on_hand: -1, reserved: -1 };

/// On hand and reserved, by product.
type Levels = HashMap<u64, (i64, i64)>;

pub(crate) async fn reserve(request: HttpRequest, body: web::Bytes, stores: web::Data<Stores>) -> Answer {
    let key = request.headers().get("idempotency-key").ok_or("there is no Idempotency-Key")?.to_str()?;
    let mut wanted: Wanted = serde_json::from_slice(&body)?;
    wanted.items.sort_unstable_by_key(|item| item.product_id);
    let digest = Sha256::digest(&body);
    let mut connection = stores.pool.get_conn().await?;
    again_where_refused(async || try_to_reserve(&mut connection, key, &digest, &wanted).await).await
}

async fn again_where_refused(mut once: impl AsyncFnMut() -> mysql_async::Result<HttpResponse>) -> Answer {
    let started = Instant::now();
    loop {
        match once().await {
            Err(error) if is_conflict(&error) && started.elapsed() < RETRY_FOR => {}
            answer => return Ok(answer?),
        }
    }
}

async fn try_to_reserve(connection: &mut Conn, key: &str, digest: &[u8], wanted: &Wanted) -> mysql_async::Result<HttpResponse> {
    let Wanted { items, reference } = wanted;
    let mut tx = connection.start_transaction(TxOpts::default()).await?;
    tx.exec_drop(TAKE_KEY, (key, digest)).await?;
    let levels = lock(&mut tx, items).await?;
    let available = |item: &Item| levels.get(&item.product_id).map_or(0, |(on_hand, reserved)| on_hand - reserved);
    let short: Vec<&Item> = items.iter().filter(|item| item.quantity > available(item)).collect();
    if let Some(first) = short.first() {
        tx.rollback().await?;
        let expired: Option<String> = connection.exec_first(EXPIRED, (first.product_id,)).await?;
        if expired.is_some() {
            return Ok(HttpResponse::InternalServerError().body("a reservation has expired, which this baseline does not release"));
        }
        let shortage = |item: &&Item| json!({"product_id": item.product_id, "requested": item.quantity, "available": available(item)});
        return Ok(refusal(short.iter().map(shortage).collect()));
    }
    let (id, now) = (Uuid::now_v7().to_string(), now());
    change(&mut tx, RESERVE, items, &levels, &id, now).await?;
    let expires_at = now + TTL;
    tx.exec_drop(ADD_RESERVATION, (&id, reference, expires_at, now, now)).await?;
    let rows = items.iter().flat_map(|item| [Value::from(&id), item.product_id.into(), item.quantity.into()]);
    let sql = format!("INSERT INTO reservation_items (reservation_id, product_id, quantity) VALUES {}", list("(?, ?, ?)", items.len()));
    tx.exec_drop(sql, rows.collect::<Vec<_>>()).await?;
    let location = format!("/v1/reservations/{id}");
    let body = body(&id, "active", items, reference.as_deref(), [expires_at, now, now]);
    tx.exec_drop(KEEP_ANSWER, (&location, &body, key)).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).content_type(ContentType::json()).body(body))
}

/// Without a key, as the API takes it too.
pub(crate) async fn commit(id: web::Path<String>, stores: web::Data<Stores>) -> Answer {
    let mut connection = stores.pool.get_conn().await?;
    again_where_refused(async || try_to_commit(&mut connection, &id).await).await
}

async fn try_to_commit(connection: &mut Conn, id: &str) -> mysql_async::Result<HttpResponse> {
    type Row = (String, Option<String>, NaiveDateTime, NaiveDateTime);
    let mut tx = connection.start_transaction(TxOpts::default()).await?;
    let Some((state, reference, expires_at, created_at)) = tx.exec_first::<Row, _, _>(LOCK_RESERVATION, (id,)).await? else {
        tx.rollback().await?;
        return Ok(HttpResponse::NotFound().finish());
    };
    if state != "active" {
        tx.rollback().await?;
        return Ok(HttpResponse::Conflict().finish());
    }
    let items: Vec<Item> = tx.exec_map(ITEMS, (id,), |(product_id, quantity)| Item { product_id, quantity }).await?;
    let (levels, now) = (lock(&mut tx, &items).await?, now());
    change(&mut tx, COMMIT, &items, &levels, id, now).await?;
    tx.exec_drop(END_RESERVATION, (now, id)).await?;
    tx.commit().await?;
    let body = body(id, "committed", &items, reference.as_deref(), [expires_at, created_at, now]);
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}

async fn lock(tx: &mut Transaction<'_>, items: &[Item]) -> mysql_async::Result<Levels> {
    let ids = list("?", items.len());
    let sql = format!("SELECT product_id, on_hand, reserved FROM stock WHERE product_id IN ({ids}) ORDER BY product_id FOR UPDATE");
    let rows: Vec<(u64, i64, i64)> = tx.exec(sql, ids_of(items)).await?;
    Ok(rows.into_iter().map(|(id, on_hand, reserved)| (id, (on_hand, reserved))).collect())
}

/// Writes the levels and a movement a product: one statement each.
async fn change(
    tx: &mut Transaction<'_>,
    change: Change,
    items: &[Item],
    levels: &Levels,
    id: &str,
    now: NaiveDateTime,
) -> mysql_async::Result<()> {
    let Change { kind, on_hand: sold, reserved: held } = change;
    let cases = vec!["WHEN ? THEN ?"; items.len()].join(" ");
    let (mut set, mut values) = (String::new(), Vec::new());
    for (column, sign) in [("on_hand", sold), ("reserved", held)].into_iter().filter(|(_, sign)| *sign != 0) {
        set += &format!("{column} = {column} + CASE product_id {cases} END, ");
        values.extend(items.iter().flat_map(|item| [Value::from(item.product_id), (sign * item.quantity).into()]));
    }
    values.extend(ids_of(items));
    let sql = format!("UPDATE stock SET {set}version = version + 1 WHERE product_id IN ({})", list("?", items.len()));
    tx.exec_drop(sql, values).await?;
    let sql = format!(
        "INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, reservation_id, created_at) VALUES {}",
        list("(?, ?, ?, ?, ?, ?, ?, ?)", items.len())
    );
    let movement = |item: &Item| -> [Value; 8] {
        let (delta, reserved_delta) = (sold * item.quantity, held * item.quantity);
        let (on_hand, reserved) = levels[&item.product_id];
        let after = (on_hand + delta, reserved + reserved_delta);
        [item.product_id.into(), kind.into(), delta.into(), reserved_delta.into(), after.0.into(), after.1.into(), id.into(), now.into()]
    };
    tx.exec_drop(sql, items.iter().flat_map(movement).collect::<Vec<_>>()).await
}

/// Nothing was changed: the transaction may begin anew.
fn is_conflict(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(server) if [LOCK_WAIT_TIMEOUT, DEADLOCK].contains(&server.code))
}

fn ids_of(items: &[Item]) -> Vec<Value> {
    items.iter().map(|item| item.product_id.into()).collect()
}

/// `?`, 3 → `?,?,?`
fn list(hole: &str, count: usize) -> String {
    vec![hole; count].join(",")
}

/// To microseconds, as MySQL keeps it.
fn now() -> NaiveDateTime {
    Utc::now().naive_utc().trunc_subsecs(6)
}

/// `times`: when it expires, when it was made, when it became what it is.
fn body(id: &str, state: &str, items: &[Item], reference: Option<&str>, times: [NaiveDateTime; 3]) -> String {
    let [expires_at, created_at, updated_at] = times.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
    let reservation = Reservation { id: id.to_owned(), state, items, reference, expires_at, created_at, updated_at };
    serde_json::to_string(&reservation).expect("a struct of texts and numbers always serialises")
}

fn refusal(shortages: Vec<serde_json::Value>) -> HttpResponse {
    let problem = json!({
        "type": "/problems/insufficient-stock", "title": "There is not enough stock", "status": 409,
        "detail": "Nothing was reserved: less is available than was asked for.", "shortages": shortages,
    });
    HttpResponse::build(StatusCode::CONFLICT).content_type("application/problem+json").body(problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_answers_as_the_api_does() {
        let made = NaiveDateTime::parse_from_str("2026-01-02 03:04:05.678901", "%Y-%m-%d %H:%M:%S%.f").unwrap();
        let items = [Item { product_id: 42, quantity: 2 }];
        let expected = r#"{"id":"0190","state":"active","items":[{"product_id":42,"quantity":2}],"reference":null,"#.to_owned()
            + r#""expires_at":"2026-01-02T03:19:05.678901Z","created_at":"2026-01-02T03:04:05.678901Z","#
            + r#""updated_at":"2026-01-02T03:04:05.678901Z"}"#;
        assert_eq!(body("0190", "active", &items, None, [made + TTL, made, made]), expected);
    }

    #[test]
    fn what_locks_refused_is_begun_again_and_nothing_else() {
        let server = |code| mysql_async::Error::Server(mysql_async::ServerError { code, message: String::new(), state: String::new() });
        assert_eq!([1205, 1213, 1062, 4025].map(|code| is_conflict(&server(code))), [true, true, false, false]);
    }
}
