//! What a product, a price, a view and a reservation are: types, parsing, arithmetic.
//!
//! Promises that a value of one of these types is valid. Does no I/O, knows no
//! database and no clock; `serde` only where a value is both cached and answered.

pub mod money;
pub mod moves;
pub mod price_history;
pub mod price_rows;
pub mod product;
pub mod stock;
pub mod view;

pub use money::{Currency, Money};
pub use moves::{MaxChange, Move};
pub use price_rows::{Named, PriceRow};
pub use product::{ImportedProduct, NewProduct, Product, ProductId, Shards, Sku};
