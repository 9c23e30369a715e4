//! Paths for operators: `health`, `metrics`, `info`, `revocations`, `tidy`; and the tracking of costs.

pub(in crate::engine) mod costs;
pub(in crate::engine) mod dependents;
pub(in crate::engine) mod health;
mod remaining;
pub(in crate::engine) mod revocations;
pub(in crate::engine) mod tidy;
