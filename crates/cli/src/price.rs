//! `price`: one price over the API, and many through the stores.

pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod undo;

mod file;

use crate::api_client::ApiClient;
use crate::args::SetPriceArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::product;
use checks::compare::shown;
use domain::{Currency, Money, Move};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the column `price_history.actor` holds, in characters.
const MAX_ACTOR_CHARS: usize = 255;

/// Who sets prices through the stores, where no token tells it: this program, and the user of the system if the environment
/// names one. Nobody vouches for that name.
pub(crate) fn actor() -> Arc<str> {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    actor_of(named.as_deref()).into()
}

fn actor_of(user: Option<&str>) -> String {
    let name: String = user.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let all = if name.is_empty() { "inventoryctl".to_owned() } else { format!("inventoryctl:{name}") };
    all.chars().take(MAX_ACTOR_CHARS).collect()
}

/// What a product's own answer says of its price.
#[derive(Deserialize, Serialize)]
struct Price {
    #[serde(rename(deserialize = "id"))]
    product_id: u64,
    sku: String,
    price: Value,
    version: u64,
    updated_at: String,
}

impl Row for Price {
    const COLUMNS: &'static [&'static str] = &["product_id", "sku", "price", "version", "updated_at"];

    fn cells(&self) -> Vec<String> {
        vec![self.product_id.to_string(), self.sku.clone(), shown(&self.price), self.version.to_string(), self.updated_at.clone()]
    }
}

impl Price {
    fn money(&self) -> Option<Money> {
        Money::shown(self.price["amount"].as_str()?, self.price["currency"].as_str()?).ok()
    }
}

/// `2.55 GBP → 2.25 GBP (-11.76 %)`
fn told(from: Option<Money>, to: Money) -> String {
    let before = from.map_or_else(|| "none".to_owned(), |from| from.to_string());
    format!("{before} → {to} ({})", Move::between(from, to))
}

/// A price that was set.
#[derive(Serialize)]
struct Set {
    product_id: u64,
    sku: String,
    /// What the API showed just before; another may have set it in between, but not with `--max-change`.
    old: Value,
    new: Value,
    version: u64,
    committed_at: String,
}

impl Row for Set {
    const COLUMNS: &'static [&'static str] = &["product_id", "sku", "old", "new", "version", "committed_at"];

    fn cells(&self) -> Vec<String> {
        let (old, new) = (shown(&self.old), shown(&self.new));
        vec![self.product_id.to_string(), self.sku.clone(), old, new, self.version.to_string(), self.committed_at.clone()]
    }
}

pub(crate) async fn get(name: &str, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let body = api.product(product::find(name, api).await?).await?;
    output.one(&api.parsed::<Price>(&body)?)?;
    Ok(Exit::Ok)
}

/// The price is checked here first, so that one that cannot be is a usage error and nothing is asked for. A limit to the change
/// is held against the price that the API showed just before, and only that version is replaced then.
pub(crate) async fn set(args: &SetPriceArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        amount: String,
        currency: String,
        version: u64,
        committed_at: String,
    }
    let price = parse(&args.amount, &args.currency)?;
    let id = product::find(&args.product, api).await?;
    let before: Price = api.parsed(&api.product(id).await?)?;
    if let Some(most) = args.max_change {
        let from = before.money();
        if !most.allows(Move::between(from, price)) {
            let message = format!("{} was not set: {} is further than --max-change {most}", before.sku, told(from, price));
            return Err(Failure::new(Exit::Conflict, message));
        }
    }
    let over = args.max_change.map(|_| before.version);
    let answer = api.set_price(id, price, args.reason.as_deref(), over).await.map_err(|failure| match failure.exit {
        Exit::Conflict => {
            let why = "the product was changed after its price was compared with --max-change; run it again";
            Failure::new(Exit::Conflict, format!("{} was not set: {why}", before.sku))
        }
        _ => failure,
    })?;
    let Answer { amount, currency, version, committed_at } = api.parsed(&answer)?;
    let new = json!({"amount": amount, "currency": currency});
    output.one(&Set { product_id: before.product_id, sku: before.sku, old: before.price, new, version, committed_at })?;
    Ok(Exit::Ok)
}

fn parse(amount: &str, currency: &str) -> Result<Money, Failure> {
    let usage = |what: &str, text: &str, fault| Failure::new(Exit::Usage, format!("{what} {text:?} {fault}"));
    let currency = Currency::parse(currency).map_err(|fault| usage("currency", currency, fault))?;
    Money::parse(amount, currency).map_err(|fault| usage("amount", amount, fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sets_a_price_is_this_program_and_its_user_as_far_as_they_fit() {
        assert_eq!([actor_of(None), actor_of(Some("")), actor_of(Some("\n"))], ["inventoryctl"; 3]);
        assert_eq!(actor_of(Some("an\u{1b}na")), "inventoryctl:anna");
        assert_eq!(actor_of(Some(&"é".repeat(300))).chars().count(), 255);
    }

    #[test]
    fn a_price_that_cannot_be_is_a_usage_error_that_names_the_word() {
        assert_eq!(parse("2.1", "GBP").unwrap().to_string(), "2.10 GBP");
        for (amount, currency, told) in [("2,10", "GBP", "amount \"2,10\""), ("-1", "GBP", "amount"), ("1", "gbp", "currency \"gbp\"")] {
            let failure = parse(amount, currency).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(told), "{}", failure.message);
        }
    }
}
