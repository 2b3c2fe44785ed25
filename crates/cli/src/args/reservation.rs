//! `reservation`: its verbs and flags.

use super::stock::{parse_key, parse_text};
use clap::{Args, Subcommand};
use domain::stock::{MOST_LINES, MOST_QUANTITY};
use std::time::Duration;
use telemetry::config::parse_duration;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum ReservationVerb {
    /// Hold pieces of some products for a while: all of them or none
    ///
    /// Sent under an Idempotency-Key, made here unless --key names one. Where no answer comes it is sent again under the same key, which does it once; if that does not help either, the key is told. What is short is listed on stderr, all of it; then nothing is held and it exits 5.
    Create(CreateArgs),
    /// Show a reservation; one whose time is over is expired
    Get {
        /// As `reservation create` shows it
        id: Uuid,
    },
    /// Take what it holds out of stock, as sold; again it changes nothing
    Commit {
        /// As `reservation create` shows it
        id: Uuid,
    },
    /// Make what it holds available again; again it changes nothing
    Release {
        /// As `reservation create` shows it
        id: Uuid,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to hold: a SKU or `id:42`, and how many, such as 85123A=2
    #[arg(required = true, num_args = 1..=MOST_LINES, value_name = "PRODUCT=PIECES", value_parser = parse_item)]
    pub(crate) items: Vec<Item>,
    /// For how long, in whole seconds; such as 15m (default: the API's)
    #[arg(long, value_parser = parse_ttl)]
    pub(crate) ttl: Option<Duration>,
    /// Kept with it, such as the cart that it is for
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub(crate) reference: Option<String>,
    /// Do it once under this Idempotency-Key, however often it is asked for within 24 hours
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) key: Option<String>,
}

/// A product as it is named, and how many of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) product: String,
    pub(crate) quantity: u64,
}

/// A SKU may have `=` in it.
fn parse_item(text: &str) -> Result<Item, String> {
    let hint = format!("write a product and 1 to {MOST_QUANTITY} whole pieces, such as 85123A=2");
    let (product, quantity) = text.rsplit_once('=').ok_or_else(|| hint.clone())?;
    let quantity = quantity.parse().ok().filter(|quantity| (1..=MOST_QUANTITY).contains(quantity)).ok_or(hint)?;
    Ok(Item { product: product.to_owned(), quantity })
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl.subsec_millis() == 0 { Ok(ttl) } else { Err("write whole seconds, such as 90s or 15m".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_a_product_and_its_pieces() {
        let item = |product: &str, quantity| Item { product: product.to_owned(), quantity };
        assert_eq!(parse_item("85123A=2").unwrap(), item("85123A", 2));
        assert_eq!(parse_item("id:42=1000000").unwrap(), item("id:42", MOST_QUANTITY));
        assert_eq!(parse_item("A=B=1").unwrap(), item("A=B", 1));
        for text in ["85123A", "85123A=", "85123A=0", "85123A=-1", "85123A=1.5", "85123A=1000001", "85123A=two"] {
            assert!(parse_item(text).unwrap_err().contains("such as 85123A=2"), "{text}");
        }
    }

    #[test]
    fn a_time_to_hold_has_no_parts_of_a_second() {
        assert_eq!(parse_ttl("15m").unwrap(), Duration::from_secs(900));
        assert_eq!(parse_ttl("2000ms").unwrap(), Duration::from_secs(2));
        assert!(parse_ttl("1500ms").is_err() && parse_ttl("0s").is_err() && parse_ttl("900").is_err());
    }
}
