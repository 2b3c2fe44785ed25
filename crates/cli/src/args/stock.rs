//! `stock`: its verbs and flags.

use clap::{Args, Subcommand};
use domain::price_rows;
use domain::stock::MOST_COUNTED as MOST;

#[derive(Debug, Subcommand)]
pub(crate) enum StockVerb {
    /// Show what is on hand, reserved and available
    Get {
        /// Its SKU, or `id:42`
        product: String,
    },
    /// Set what is on hand, as after a count; the count that is there already changes nothing
    ///
    /// Without --if-version and --any-version it looks first, shows what it replaces, and replaces only that: if somebody changes the stock in between it says what is there now, changes nothing and exits 5. So it does where the count is below what is reserved.
    Set(SetStockArgs),
    /// Add to what is on hand, or take away with a negative number
    ///
    /// Sent under an Idempotency-Key, made here unless --key names one. Where no answer comes it is sent again under the same key, which does it once; if that does not help either, the key is told. Exits 5 if less is available than is to be taken.
    Adjust(AdjustArgs),
    /// List the changes of the stock of a product, the latest first
    Movements(MovementsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetStockArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// What was counted, reserved pieces among them
    #[arg(allow_negative_numbers = true, value_parser = parse_count)]
    pub(crate) on_hand: u64,
    /// Replace this version alone, as `stock get` shows it; 0 is a product that never had stock
    #[arg(long, value_name = "VERSION", conflicts_with = "any_version")]
    pub(crate) if_version: Option<u64>,
    /// Replace whatever is there
    #[arg(long)]
    pub(crate) any_version: bool,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AdjustArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// How many to add, such as 12, or to take away, such as -3
    #[arg(allow_negative_numbers = true, value_parser = parse_delta)]
    pub(crate) delta: i64,
    #[command(flatten)]
    pub(crate) why: WhyArgs,
    /// Do it once under this Idempotency-Key, however often it is asked for within 24 hours
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Kept with the movement, such as damaged
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub(crate) reason: Option<String>,
    /// Kept with the movement, such as the number of a delivery
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub(crate) reference: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MovementsArgs {
    /// Its SKU, or `id:42`
    pub(crate) product: String,
    /// End after so many movements
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

fn parse_count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count <= MOST);
    count.ok_or_else(|| format!("write a whole number from 0 to {MOST}; to take some away: stock adjust"))
}

fn parse_delta(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(0) => Err("0 changes nothing: write how many to add, or to take away with a minus".to_owned()),
        Ok(delta) if delta.unsigned_abs() <= MOST => Ok(delta),
        _ => Err(format!("write a whole number from -{MOST} to {MOST}")),
    }
}

pub(super) fn parse_text(text: &str) -> Result<String, String> {
    price_rows::check_reason(text).map(|()| text.to_owned())
}

pub(super) fn parse_key(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("write 1 to 255 visible ASCII characters".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_cannot_be_is_told_with_one_that_can() {
        assert_eq!(["-3", "+3", "1000000000"].map(|text| parse_delta(text).unwrap()), [-3, 3, 1_000_000_000]);
        assert_eq!(["0", "7"].map(|text| parse_count(text).unwrap()), [0, 7]);
        for text in ["0", "-0", "1.5", "1e3", "1,000", "1000000001", "-1000000001", "99999999999999999999", "x", ""] {
            assert!(parse_delta(text).is_err(), "{text}");
        }
        for text in ["-1", "1.5", "1000000001", "x", ""] {
            assert!(parse_count(text).unwrap_err().contains("from 0 to"), "{text}");
        }
    }

    #[test]
    fn a_key_is_one_that_a_header_carries() {
        assert!(parse_key("delivery-7").is_ok() && parse_key(&"k".repeat(255)).is_ok());
        for text in ["", "a b", "é", "a\n", &"k".repeat(256)] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }
}
