//! Paths, fields, leases and the write-ahead log: the counterpart of HashiCorp's framework for secrets engines.
//!
//! An engine declares [`Field`]s as statics, [`Path`]s with handlers, [`LeaseType`]s and [`WalKind`]s.
//! [`Backend::builder`] turns these declarations into the [`logical::Backend`](crate::logical::Backend) that answers
//! Vault. The framework knows nothing of gRPC or OpenAI.

mod backend;
mod builder;
mod call;
mod collections;
mod decode;
mod duration;
mod field;
mod handler;
mod help;
mod integer;
mod kind;
mod lease;
mod lease_requests;
mod limits;
mod locks;
mod openapi;
mod path;
mod pattern;
mod rollback;
mod route;
mod scalars;
mod schema;
mod shapes;
mod values;
mod wal;

pub use backend::{Backend, Engine, Tick};
pub use builder::Builder;
pub use call::Call;
pub use decode::Refusal;
pub use field::{AnyField, Field, FieldInfo, LONGEST_TEXT, MOST_ELEMENTS};
pub use kind::{Kind, Shape};
pub use lease::{LeaseCall, LeaseType};
pub use locks::{LockGuard, Locks};
pub use path::{Help, Path, ResponseField, Shown, show};
pub use values::Name;
pub use wal::{PREFIX as WAL_PREFIX, Swept, WalKind, WalLog};

#[cfg(test)]
mod tests;
