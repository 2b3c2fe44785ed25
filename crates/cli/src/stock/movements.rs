//! `stock movements`: the changes of the stock of a product, over the API, page by page.

use crate::api_client::{ApiClient, Page};
use crate::args::MovementsArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::product;
use serde::{Deserialize, Serialize};

/// Movements asked for at once.
const PAGE: u64 = 100;

/// A change, with what there was after it. The API may say more of it, which JSON shows too.
#[derive(Debug, Deserialize, Serialize)]
struct Movement {
    id: u64,
    kind: String,
    /// Of what is on hand.
    delta: i64,
    /// Of what is reserved.
    reserved_delta: i64,
    on_hand: i64,
    reserved: i64,
    reason: Option<String>,
    reference: Option<String>,
    actor: Option<String>,
    reservation_id: Option<String>,
    created_at: String,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

impl Row for Movement {
    const COLUMNS: &'static [&'static str] =
        &["created_at", "kind", "delta", "reserved_delta", "on_hand", "reserved", "actor", "reason", "reference", "reservation_id"];

    fn cells(&self) -> Vec<String> {
        let change = |by: i64| if by == 0 { "0".to_owned() } else { format!("{by:+}") };
        let numbers = [change(self.delta), change(self.reserved_delta), self.on_hand.to_string(), self.reserved.to_string()];
        let texts = [&self.actor, &self.reason, &self.reference, &self.reservation_id].map(|text| text.clone().unwrap_or_default());
        [self.created_at.clone(), self.kind.clone()].into_iter().chain(numbers).chain(texts).collect()
    }
}

pub(crate) async fn run(args: &MovementsArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(&args.product, api).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut list, mut cursor) = (output.pages(), None);
    loop {
        let Page { data, next_cursor } = api.movements(id, left.min(PAGE), cursor.as_deref()).await?;
        left = left.saturating_sub(data.len() as u64);
        let rows = data.iter().map(|raw| api.parsed::<Movement>(raw.get())).collect::<Result<Vec<_>, _>>()?;
        list.add(&rows)?;
        cursor = next_cursor.filter(|_| left > 0);
        if cursor.is_none() {
            list.finish::<Movement>()?;
            return Ok(Exit::Ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movement_is_a_line_that_shows_which_way_it_went() {
        let text = r#"{"id":9,"kind":"commit","delta":-3,"reserved_delta":-3,"on_hand":117,"reserved":2,"reason":null,"reference":"cart_9","actor":"till-3","reservation_id":"0190","created_at":"2011-01-04T10:00:00.000000Z","note":7}"#;
        let movement: Movement = serde_json::from_str(text).unwrap();
        assert_eq!(movement.cells(), ["2011-01-04T10:00:00.000000Z", "commit", "-3", "-3", "117", "2", "till-3", "", "cart_9", "0190"]);
        assert_eq!(serde_json::to_string(&movement).unwrap(), text);
        let count = text.replace("\"delta\":-3", "\"delta\":3").replace("_delta\":-3", "_delta\":0");
        assert_eq!(serde_json::from_str::<Movement>(&count).unwrap().cells()[2..4], ["+3", "0"]);
    }
}
