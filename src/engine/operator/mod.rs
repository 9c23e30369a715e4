//! Tells operators how the mount is doing, and works for them: `health`, `metrics`, `revocations`, `tidy`, costs.

pub(in crate::engine) mod costs;
pub(in crate::engine) mod dependents;
pub(in crate::engine) mod health;
pub(in crate::engine) mod revocations;
pub(in crate::engine) mod tidy;
mod unended;
