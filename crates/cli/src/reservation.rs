//! `reservation`: pieces that are held for a while, over the API.

use crate::api_client::ApiClient;
use crate::args::{CreateArgs, Item};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::product;
use crate::stock::{tell_replayed, tell_shortages};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// A reservation as the API answers it.
#[derive(Debug, Deserialize, Serialize)]
struct Reservation {
    id: String,
    state: String,
    items: Vec<Held>,
    reference: Option<String>,
    expires_at: String,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Held {
    product_id: u64,
    quantity: u64,
}

impl Row for Reservation {
    const COLUMNS: &'static [&'static str] = &["id", "state", "items", "reference", "expires_at", "created_at", "updated_at"];

    fn cells(&self) -> Vec<String> {
        let items: Vec<_> = self.items.iter().map(|item| format!("id:{}={}", item.product_id, item.quantity)).collect();
        let Self { id, state, reference, expires_at, created_at, updated_at, .. } = self;
        let reference = reference.clone().unwrap_or_default();
        vec![id.clone(), state.clone(), items.join(" "), reference, expires_at.clone(), created_at.clone(), updated_at.clone()]
    }
}

pub(crate) async fn create(args: &CreateArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let ids = product::find_all(args.items.iter().map(|item| item.product.as_str()), api).await?;
    let named: Vec<_> = ids.iter().map(|id| id.get()).zip(&args.items).collect();
    if let Some((one, other)) = doubled(&named) {
        let message = format!("{one} and {other} are the same product: name it once, with all its pieces");
        return Err(Failure::new(Exit::Usage, message));
    }
    let items: Vec<_> = named.iter().map(|(id, item)| json!({"product_id": id, "quantity": item.quantity})).collect();
    let body = json!({"items": items, "ttl_seconds": args.ttl.map(|ttl| ttl.as_secs()), "reference": args.reference});
    let key = args.key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let reply = api.reserve(body, &key).await?;
    tell_shortages(&reply, &named.iter().map(|(id, item)| (*id, item.product.clone())).collect());
    tell_replayed(&reply, args.key.as_deref());
    show(&reply.done()?, api, output)
}

/// Two names of one product.
fn doubled<'a>(named: &[(u64, &'a Item)]) -> Option<(&'a str, &'a str)> {
    let mut seen = HashMap::new();
    named.iter().find_map(|(id, item)| seen.insert(*id, &*item.product).map(|first| (first, &*item.product)))
}

pub(crate) async fn get(id: Uuid, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    show(&api.reservation(id).await?, api, output)
}

/// `verb` is `commit` or `release`.
pub(crate) async fn end(id: Uuid, verb: &str, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    show(&api.end_reservation(id, verb).await?.done()?, api, output)
}

fn show(body: &str, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    match output.format() {
        Format::Json | Format::Ndjson => output.text(body)?,
        Format::Table | Format::Csv => output.one(&api.parsed::<Reservation>(body)?)?,
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_names_its_items_as_they_could_be_reserved_again() {
        let text = r#"{"id":"0190","state":"active","items":[{"product_id":42,"quantity":2},{"product_id":7,"quantity":1}],"reference":null,"expires_at":"e","created_at":"c","updated_at":"u"}"#;
        let reservation: Reservation = serde_json::from_str(text).unwrap();
        assert_eq!(reservation.cells(), ["0190", "active", "id:42=2 id:7=1", "", "e", "c", "u"]);
    }

    #[test]
    fn a_product_under_two_names_is_found() {
        let items = ["85123A", "10000", "id:42"].map(|product| Item { product: product.to_owned(), quantity: 1 });
        let named = |ids: [u64; 3]| ids.into_iter().zip(&items).collect::<Vec<_>>();
        assert_eq!(doubled(&named([42, 7, 42])), Some(("85123A", "id:42")));
        assert_eq!(doubled(&named([42, 7, 9])), None);
    }
}
