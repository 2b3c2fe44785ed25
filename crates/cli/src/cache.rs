//! `cache invalidate`: drops product entries, of some products or of all.
//!
//! The same as `POST /v1/admin/cache/invalidate`; why it is safe at any time says `storage/src/redis/invalidate.rs`.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::product;
use crate::stores::Stores;
use domain::ProductId;
use serde::Serialize;

/// How many entries were there and are gone.
#[derive(Debug, Serialize)]
struct Dropped {
    dropped: u64,
}

impl Row for Dropped {
    const COLUMNS: &'static [&'static str] = &["dropped"];

    fn cells(&self) -> Vec<String> {
        vec![self.dropped.to_string()]
    }
}

/// Drops the entries of these products, or of all where none is named.
pub(crate) async fn invalidate(products: &[String], yes: bool, stores: &Stores, output: &Output) -> Result<Exit, Failure> {
    let dropped = if products.is_empty() {
        if !yes {
            let what = "the records of all products would be dropped from the cache, and reads go to MySQL until it is warm again";
            return Err(Failure::new(Exit::Usage, format!("{what}; nothing was changed: add --yes to do it")));
        }
        stores.redis.drop_all_entries().await?
    } else {
        let mut ids = Vec::with_capacity(products.len());
        for name in products {
            let id = product::id_named(name, &stores.mysql).await?;
            ids.push(ProductId::new(id).map_err(|fault| Failure::new(Exit::Usage, fault.to_string()))?);
        }
        stores.redis.drop_entries(&stores.redis.cache.session()?, &ids).await?
    };
    output.one(&Dropped { dropped })?;
    Ok(Exit::Ok)
}
