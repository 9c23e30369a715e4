//! The common parts of all owners of keys and accounts at OpenAI: the configuration, federation, federated roles, static
//! roles, library sets and loans.
//!
//! An owner has one record. The record names the current key, the creations with an [unknown outcome](making), and the
//! keys and accounts that still have to be deleted, with a [retry state](retry). Each [kind] of owner reconciles its
//! records. The [due index](due) holds the time at which a record has to be read again, and the [worker] reads the
//! record then. [`pending`] lists the pending work of all records. [`holdings`] lists the accounts and keys that the
//! records name. `claims` stores each account's owner.

pub(in crate::engine) mod claims;
pub(in crate::engine) mod deletion;
pub mod due;
pub mod first_seen;
pub mod holdings;
pub mod kind;
pub(in crate::engine) mod listing;
pub(in crate::engine) mod live_keys;
pub(in crate::engine) mod lookup;
pub(in crate::engine) mod lost;
pub mod making;
pub(in crate::engine) mod memory;
pub mod owner;
pub mod pending;
pub mod retry;
pub mod worker;
