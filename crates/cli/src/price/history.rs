//! `price history`: the prices that a product had, over the API, page by page.

use crate::api_client::{ApiClient, Page};
use crate::args::PriceHistoryArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::product;
use checks::compare::shown;
use serde::{Deserialize, Serialize};

/// Prices asked for at once.
const PAGE: u64 = 100;

/// A price, from when on. The API may say more of it, which JSON shows too.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    /// None where a first price was taken back.
    amount: Option<String>,
    currency: Option<String>,
    reason: Option<String>,
    changed_by: Option<String>,
    /// None from an API that does not tell it.
    #[serde(default)]
    batch: Option<String>,
    version: u64,
    changed_at: String,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["changed_at", "price", "version", "changed_by", "batch", "reason"];

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let price = match (&self.amount, &self.currency) {
            (Some(amount), Some(currency)) => format!("{amount} {currency}"),
            _ => shown(&serde_json::Value::Null),
        };
        let [by, batch, reason] = [&self.changed_by, &self.batch, &self.reason].map(text);
        vec![self.changed_at.clone(), price, self.version.to_string(), by, batch, reason]
    }
}

pub(crate) async fn run(args: &PriceHistoryArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(&args.product, api).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut list, mut cursor) = (output.pages(), None);
    loop {
        let Page { data, next_cursor } = api.price_history(id, left.min(PAGE), cursor.as_deref()).await?;
        left = left.saturating_sub(data.len() as u64);
        let rows = data.iter().map(|raw| api.parsed::<Line>(raw.get())).collect::<Result<Vec<_>, _>>()?;
        list.add(&rows)?;
        cursor = next_cursor.filter(|_| left > 0);
        if cursor.is_none() {
            list.finish::<Line>()?;
            return Ok(Exit::Ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_line_and_one_that_was_taken_back_is_none() {
        let text = r#"{"amount":"2.55","currency":"GBP","reason":"sale","changed_by":null,"batch":"b-1","version":7,"changed_at":"2011-01-04T10:00:00.000000Z","id":3}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert_eq!(line.cells(), ["2011-01-04T10:00:00.000000Z", "2.55 GBP", "7", "", "b-1", "sale"]);
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
        let none = text.replace("\"2.55\"", "null").replace("\"GBP\"", "null");
        assert_eq!(serde_json::from_str::<Line>(&none).unwrap().cells()[1], "none");
    }
}
