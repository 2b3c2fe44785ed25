//! Reading requests: bodies, JSON, fields, query strings, conditional headers.
//!
//! Promises that what passes is what the route documents, and that what does not is refused with every
//! fault named. Knows no store.

pub(crate) mod body;
pub(crate) mod conditions;
pub(crate) mod fields;
pub(crate) mod idempotency;
pub(crate) mod json;
pub(crate) mod query;
