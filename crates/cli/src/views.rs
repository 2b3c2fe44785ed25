//! `views send` and `views show`, over the API.

use crate::api_client::ApiClient;
use crate::args::ShowArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::product;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Views that the API has accepted, now or before.
#[derive(Serialize)]
struct Sent {
    product_id: u64,
    accepted: u32,
}

impl Row for Sent {
    const COLUMNS: &'static [&'static str] = &["product_id", "accepted"];

    fn cells(&self) -> Vec<String> {
        vec![self.product_id.to_string(), self.accepted.to_string()]
    }
}

pub(crate) async fn send(name: &str, count: u32, event: Option<Uuid>, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(name, api).await?;
    api.send_views(id, count, event).await?;
    output.one(&Sent { product_id: id.get(), accepted: count })?;
    Ok(Exit::Ok)
}

/// An answer of the API about views. The buckets are in MySQL, `pending` is on its way there; `None` while a store is away.
#[derive(Deserialize)]
struct Counts {
    product_id: u64,
    total: Option<u64>,
    persisted: Option<u64>,
    pending: Option<u64>,
    data: Vec<Bucket>,
}

#[derive(Deserialize, Serialize)]
struct Bucket {
    start: String,
    views: u64,
}

impl Row for Bucket {
    const COLUMNS: &'static [&'static str] = &["start", "views"];

    fn cells(&self) -> Vec<String> {
        vec![self.start.clone(), self.views.to_string()]
    }
}

/// JSON is the API's answer. In a table and in CSV the buckets are the result, and the totals a message.
pub(crate) async fn show(args: &ShowArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = product::find(&args.product, api).await?;
    let given = [("from", args.from.as_deref()), ("to", args.to.as_deref()), ("tz", args.tz.as_deref())];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let window: Vec<_> = given.chain([("interval", args.interval.name())]).collect();
    let body = api.view_counts(id, &window).await?;
    match output.format() {
        Format::Json | Format::Ndjson => output.text(&body)?,
        Format::Table | Format::Csv => {
            let counts: Counts = api.parsed(&body)?;
            output.rows(&counts.data)?;
            eprintln!("{}", counts.totals());
        }
    }
    Ok(Exit::Ok)
}

impl Counts {
    fn totals(&self) -> String {
        let text = |count: Option<u64>| count.map_or("unknown".to_owned(), |count| count.to_string());
        let [total, persisted, pending] = [self.total, self.persisted, self.pending].map(text);
        format!("product {}: {total} views in all = {persisted} in MySQL + {pending} pending", self.product_id)
    }
}
