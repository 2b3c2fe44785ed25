//! Where things live. MySQL is the truth; Redis is fast and forgetful.
//!
//! The only crate that names `mysql_async` or `redis`. It knows tables, keys and scripts, and offers
//! each as a typed step; which steps make up a protocol is decided by its callers: `catalog` for
//! products and prices, the API's ingest and the worker's drain for views.

pub mod conservation;
mod error;
pub mod fields;
pub mod flush;
pub mod letters;
pub mod mysql;
pub mod redis;
pub mod settings;
pub mod status;
pub mod watch;
pub mod writers;

pub use error::{Error, Kind};
pub use mysql::MySql;
pub use redis::Redis;
