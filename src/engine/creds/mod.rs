//! Dynamic credentials: `roles/:name`, `creds/:name` and the end of their leases.
//!
//! - `path_roles` and `path_creds` are the paths. The head of `path_creds` says what a crash leaves after each step.
//! - `role` is the record of a role.
//! - `windows` covers a credential from the call to OpenAI until its record in the `ledger`.
//! - `credential_end` revokes leases, `predecessor_leases` those of the Go plugin.
//! - `ledger_worker` removes ended credentials whose revocation was queued, failed or never came.
//! - `issuer` creates keys and accounts at OpenAI, and `accounts/deletion` ends them. `inventory` knows all their owners,
//!   and `account_user` the user of one account.
//! - `live` counts the live credentials of each role. `scopes`, `caller` and `refused_lifetimes` are parts of a read.
//! - `former` sweeps the write-ahead entries of early version-1 releases.

pub(in crate::engine) mod account_user;
pub(in crate::engine) mod caller;
pub(in crate::engine) mod credential_end;
pub(in crate::engine) mod former;
pub(in crate::engine) mod inventory;
pub(in crate::engine) mod issuer;
pub(in crate::engine) mod ledger;
pub(in crate::engine) mod ledger_worker;
pub(in crate::engine) mod live;
pub(in crate::engine) mod memory;
pub(in crate::engine) mod path_creds;
pub(in crate::engine) mod path_roles;
pub(in crate::engine) mod predecessor_leases;
pub(in crate::engine) mod refused_lifetimes;
pub(in crate::engine) mod role;
pub(in crate::engine) mod scopes;
pub(in crate::engine) mod windows;
