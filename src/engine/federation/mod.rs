//! Workload identity federation: the mount is an issuer whose signed tokens OpenAI takes instead of keys.
//!
//! - `path_federation` has the path `config/federation`, `settings` its fields, and `record` its stored form. `provider`
//!   calls OpenAI for the provider, `rotation` replaces the signing key, and `kind` has the worker's part.
//! - `role` is the record of a role with access tokens. `role_writes` writes and deletes roles for `creds/path_roles.rs`.
//!   `role_registration` and `role_ending` call OpenAI for roles, and `role_kind` has the worker's part.
//! - `tokens` answers `creds/:name` and `identity-token/:name`. `signing` and `token` sign, `exchange` asks OpenAI.
//! - `observation` collects the state of the federation for `health` and the metrics.

pub(in crate::engine) mod exchange;
mod kind;
pub(in crate::engine) mod memory;
pub(in crate::engine) mod observation;
mod path_federation;
mod provider;
pub(in crate::engine) mod record;
pub(in crate::engine) mod role;
mod role_ending;
mod role_kind;
mod role_registration;
mod role_work;
pub(in crate::engine) mod role_writes;
mod rotation;
mod settings;
mod signing;
mod token;
pub(in crate::engine) mod tokens;

pub(super) use self::kind::Federated;
pub(super) use self::path_federation::paths;
pub(super) use self::role_kind::FederatedRoles;
