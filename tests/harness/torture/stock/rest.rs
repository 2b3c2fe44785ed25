//! When the round is over: what is in doubt is sent again, and what MySQL holds, what both APIs show and what clients were told must
//! be the same.

use super::asking::{Client, Heard, Settled};
use super::judge::{Rule, Violation, judge};
use super::ledger::{Ledger, Reservation};
use super::told::{Call, Outcome, Request, State, Told, What};
use super::victims::Victims;
use super::workload::{Clients, Counters, PRODUCTS};
use crate::{SOON, eventually};
use serde_json::{Value, json};
use std::sync::Arc;

/// Reservations that are read through the API in the end.
const READ: usize = 100;

/// The number of the client that asks in the end: others are numbered from 0.
const LAST_CLIENT: usize = 1_000;

/// Waits until nothing moves any more, asks again, and judges.
pub(super) async fn at_rest(
    victims: &mut Victims,
    told: &mut Told,
    counters: &Arc<Counters>,
    mut random: fastrand::Rng,
) -> (Vec<Violation>, Ledger) {
    for instance in &mut victims.instances {
        instance.api.ready().await;
    }
    // It would go on to release what expires.
    victims.worker.kill();
    let shop = &victims.shop;
    let open = shop.open_transactions().await;
    let load = async || Ledger::load(&mut shop.sql_connection().await).await.expect("MySQL is there at rest");
    let clients = Clients::new(victims.instances.each_ref().map(|instance| &instance.api), counters);
    let mut client = Client::of(&clients, LAST_CLIENT, random.fork());
    let before = load().await;
    for request in told.requests.iter_mut().filter(|request| request.outcome == Outcome::Doubtful) {
        if let Some(call) = request.again.clone() {
            ask_again(&mut client, request, &call, &before).await;
        }
    }
    let ledger = load().await;
    read_all(&mut client, &ledger, &mut random).await;
    told.wrong.append(&mut client.told.wrong);
    let mut found = ledger.faults();
    found.extend(judge(told, &ledger));
    found.extend(open.map(|open| Violation::of(Rule::NotAtRest, open)));
    (found, ledger)
}

/// What its key tells must be what was there before it was asked for again.
async fn ask_again(client: &mut Client, request: &mut Request, call: &Call, before: &Ledger) {
    let reference = Some(request.reference.as_str());
    let mut ids = before.reservations.iter().filter(|(_, row)| row.reference.as_deref() == reference).map(|(id, _)| id.as_str());
    let (was_there, id) = match request.what {
        What::Reserve(_) => {
            let id = ids.next();
            (id.is_some(), id)
        }
        _ => (before.movements.iter().any(|movement| movement.reference.as_deref() == reference), None),
    };
    let Settled::Told { status, replayed, body } = client.settle(call).await else {
        return client.wrong(Rule::NotAtRest, format!("nobody tells what became of {call:?}"));
    };
    let (done, answered) = ([200, 201].contains(&status), body["id"].as_str());
    // A count that found what it was to set has left an answer and no movement.
    let fits = match request.what {
        What::Count(..) => done || !was_there,
        _ => (done || !was_there) && done == (status == 201) && replayed == was_there && (id.is_none() || id == answered),
    };
    if !fits {
        let rule = if was_there { Rule::Twice } else { Rule::Lost };
        client.wrong(rule, format!("was it there? {was_there} {id:?}; sent again: {status}, replayed: {replayed}, {body}: {request:?}"));
    }
    request.outcome = match (&request.what, answered) {
        (What::Reserve(_), Some(id)) if done => Outcome::Reserved(id.to_owned()),
        (What::Count(..), _) if done && !was_there && replayed => Outcome::Unchanged,
        (What::Count(..), _) if done && body["version"].as_u64() == call.if_match => Outcome::Unchanged,
        _ if done => Outcome::Changed,
        _ => Outcome::Refused,
    };
}

/// Both APIs show each product's stock and many reservations as MySQL has them.
async fn read_all(client: &mut Client, ledger: &Ledger, random: &mut fastrand::Rng) {
    for product in 1..=PRODUCTS {
        let (on_hand, reserved) = ledger.stock.get(&product).copied().unwrap_or_default();
        let shown = json!([on_hand, reserved, on_hand - reserved]);
        // Twice, for one API each, or nearly so.
        for _ in 0..2 {
            let body = read(client, format!("/v1/products/{product}/stock")).await;
            if json!([body["on_hand"], body["reserved"], body["available"]]) != shown {
                client.wrong(Rule::NotAtRest, format!("{body} of {on_hand} and {reserved} reserved"));
            }
        }
    }
    let some = random.choose_multiple(&ledger.reservations, READ);
    for (id, row) in some {
        let body = read(client, format!("/v1/reservations/{id}")).await;
        if !is_shown(row, &body) {
            client.wrong(Rule::NotAtRest, format!("{body} of {row:?}"));
        }
    }
}

async fn read(client: &mut Client, path: String) -> Value {
    let call = Call::get(path);
    eventually("it is read at rest", SOON, async || match client.ask(&call).await {
        Heard::Whole { status: 200, body, .. } => Some(body),
        _ => None,
    })
    .await
}

/// One whose time is over reads as expired, whether or not that was written down.
fn is_shown(row: &Reservation, body: &Value) -> bool {
    let state = body["state"].as_str().and_then(State::parse);
    let is_state = state == Some(row.state) && !(row.state == State::Active && row.overdue)
        || row.state == State::Active && state == Some(State::Expired);
    let items = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_there = |(product, quantity): (&u64, &u64)| items.contains(&json!({"product_id": product, "quantity": quantity}));
    is_state && items.len() == row.items.len() && row.items.iter().all(is_there) && body["reference"].as_str() == row.reference.as_deref()
}
