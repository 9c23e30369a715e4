//! What every owner of keys and accounts at OpenAI has in common: static roles, the configuration, library sets, loans.
//!
//! An owner's one record says what is current, what is [being made](making) and what is ending, each with its
//! [retry state](retry). Each [kind] of owner reconciles its records. The [due index](due) says when somebody has to look
//! at a record again, and the [worker] does. [`waiting`] lists what waits, and [`holdings`] what the records name.

pub(in crate::engine) mod claims;
pub mod due;
pub mod first_seen;
pub mod holdings;
pub mod kind;
pub(in crate::engine) mod live_keys;
pub(in crate::engine) mod lookup;
pub mod making;
pub mod owner;
pub mod retry;
pub mod waiting;
pub mod worker;
