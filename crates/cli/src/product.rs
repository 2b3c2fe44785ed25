//! `product get`: one product as the API answers it, or as all three places tell it.

use crate::api_client::ApiClient;
use crate::check;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::stores::Stores;
use checks::compare::{Side, shown};
use domain::{ProductId, Sku};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use storage::MySql;
use storage::mysql::products;

/// How a product is named on the command line.
#[derive(Debug, PartialEq)]
enum Name {
    Id(ProductId),
    Sku(Sku),
}

impl Name {
    /// `id:42` is an id, anything else a SKU: most SKUs are digits only.
    fn parse(text: &str) -> Result<Self, Failure> {
        let usage = |fault| Failure::new(Exit::Usage, format!("product {text:?} {fault}; write a SKU, or id:42"));
        match text.strip_prefix("id:") {
            Some(id) => ProductId::parse(id).map(Self::Id).map_err(usage),
            None => Sku::parse(text).map(Self::Sku).map_err(usage),
        }
    }
}

/// The id of a product that is named on the command line, which need not exist where it is given by its id.
pub(crate) async fn id_named(name: &str, mysql: &MySql) -> Result<u64, Failure> {
    match Name::parse(name)? {
        Name::Id(id) => Ok(id.get()),
        Name::Sku(sku) => {
            let ids = products::ids_of(mysql, std::slice::from_ref(&sku)).await?;
            ids.get(&sku).map(|id| id.get()).ok_or_else(|| unknown(name))
        }
    }
}

/// The id of a product that is named on the command line, as the API knows it.
///
/// # Errors
/// A name that cannot be, no such product, or any of a call.
pub(crate) async fn find(name: &str, api: &ApiClient) -> Result<ProductId, Failure> {
    match Name::parse(name)? {
        Name::Id(id) => Ok(id),
        Name::Sku(sku) if sku.as_str().contains(',') => Err(has_comma(&sku)),
        Name::Sku(sku) => {
            let found = api.find_ids(std::slice::from_ref(&sku)).await?;
            found.get(&sku).copied().ok_or_else(|| unknown(name))
        }
    }
}

/// The ids of products that are named on the command line, in their order; at most 100.
///
/// # Errors
/// As [`find`]; every name that is of no product is told.
pub(crate) async fn find_all(names: impl Iterator<Item = &str>, api: &ApiClient) -> Result<Vec<ProductId>, Failure> {
    let names = names.map(|name| Ok((name, Name::parse(name)?))).collect::<Result<Vec<_>, Failure>>()?;
    let mut skus = Vec::new();
    for (_, name) in &names {
        match name {
            Name::Id(_) => {}
            Name::Sku(sku) if sku.as_str().contains(',') => return Err(has_comma(sku)),
            Name::Sku(sku) if skus.contains(sku) => {}
            Name::Sku(sku) => skus.push(sku.clone()),
        }
    }
    let found = if skus.is_empty() { HashMap::new() } else { api.find_ids(&skus).await? };
    let (mut ids, mut missing) = (Vec::new(), Vec::new());
    for (name, parsed) in names {
        match parsed {
            Name::Id(id) => ids.push(id),
            Name::Sku(sku) => match found.get(&sku) {
                Some(id) => ids.push(*id),
                None => missing.push(unknown(name).message),
            },
        }
    }
    if missing.is_empty() { Ok(ids) } else { Err(Failure::new(Exit::NotFound, missing.join("; "))) }
}

/// The API splits what it is asked for at commas.
fn has_comma(sku: &Sku) -> Failure {
    Failure::new(Exit::Usage, format!("the API cannot be asked for the SKU {sku}, which has a comma; name its id, as id:42"))
}

pub(crate) async fn get(name: &str, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let body = api.product(find(name, api).await?).await?;
    match output.format() {
        Format::Json | Format::Ndjson => output.text(&body)?,
        Format::Table | Format::Csv => {
            let product = serde_json::from_str(&body).map_err(|fault| Failure::doing("reading the API's answer", &fault))?;
            output.one(&Shown(product))?;
        }
    }
    Ok(Exit::Ok)
}

/// MySQL decides what a SKU means here: the API is one of those that are compared.
pub(crate) async fn compare(name: &str, stores: &Stores, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let id = match Name::parse(name)? {
        Name::Id(id) => id,
        Name::Sku(sku) => stores.id_of(&sku).await?.ok_or_else(|| unknown(name))?,
    };
    let sides = check::settled(stores, api, id).await?.ok_or_else(|| unknown(name))?;
    if sides.mysql == Side::Absent && !sides.differ() {
        return Err(unknown(name));
    }
    output.rows(&sides.lines())?;
    if sides.redis == Side::Silent {
        eprintln!("Redis has no entry of this product, or one that is being written");
    }
    if sides.mysql == Side::Silent {
        eprintln!("somebody is writing the product's row in MySQL; compare again");
    }
    Ok(if sides.differ() { Exit::Conflict } else { Exit::Ok })
}

fn unknown(name: &str) -> Failure {
    let message = match name {
        _ if name.starts_with("id:") => format!("there is no product {name}"),
        _ if ProductId::parse(name).is_ok() => format!("no product has the SKU {name}; if it is an id, write id:{name}"),
        _ => format!("no product has the SKU {name}; upper and lower case differ"),
    };
    Failure::new(Exit::NotFound, message)
}

/// A product of the API for people.
#[derive(Serialize)]
struct Shown(Value);

impl Row for Shown {
    const COLUMNS: &'static [&'static str] =
        &["id", "sku", "name", "description", "active", "price", "available", "views", "version", "updated_at"];

    fn cells(&self) -> Vec<String> {
        let field = |name: &&str| match *name {
            "available" => shown(&self.0["availability"]["available"]),
            name => shown(&self.0[name]),
        };
        Self::COLUMNS.iter().map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_sku_and_an_id_is_named_as_one() {
        assert_eq!(Name::parse("22386").unwrap(), Name::Sku(Sku::parse("22386").unwrap()));
        assert_eq!(Name::parse("id:42").unwrap(), Name::Id(ProductId::new(42).unwrap()));
        for text in ["", "id:", "id:0", "id:x", " 1"] {
            assert_eq!(Name::parse(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_product_is_shown_with_its_money_and_stock_in_words() {
        let product = serde_json::json!({
            "id": 42, "sku": "85123A", "name": "HEART", "description": null, "active": true,
            "price": {"amount": "2.55", "currency": "GBP"}, "availability": null, "views": 10342, "version": 7,
            "updated_at": "2011-01-04T10:00:00.000000Z",
        });
        let cells = Shown(product).cells();
        assert_eq!(cells, ["42", "85123A", "HEART", "none", "true", "2.55 GBP", "none", "10342", "7", "2011-01-04T10:00:00.000000Z"]);
    }
}
