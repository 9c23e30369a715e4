//! Dynamic credentials: `roles/:name`, `creds/:name`, the ledger of what was issued, creation windows, and the end of leases.

pub(in crate::engine) mod credential_end;
pub(in crate::engine) mod deletion;
pub(in crate::engine) mod former;
pub(in crate::engine) mod inventory;
pub(in crate::engine) mod issuer;
pub(in crate::engine) mod ledger;
pub(in crate::engine) mod path_creds;
pub(in crate::engine) mod predecessor_leases;
pub(in crate::engine) mod removal;
pub(in crate::engine) mod roles;
pub(in crate::engine) mod windows;
