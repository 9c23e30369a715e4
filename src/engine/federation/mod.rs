//! Workload identity federation: the mount is an issuer whose signed tokens OpenAI takes instead of keys.
//!
//! - `path_federation` is `config/federation`, with its `settings` and its `record`. `provider` is what happens at OpenAI,
//!   `rotation` replaces the signing key, `kind` is what the worker does.
//! - `role` is the record of a role with access tokens. `role_writes` writes and deletes roles for `creds/path_roles.rs`,
//!   `role_registration` and `role_ending` are what happens at OpenAI, `role_kind` is what the worker does.
//! - `tokens` answers `creds/:name` and `identity-token/:name`. `signing` and `token` sign, `exchange` asks OpenAI.
//! - `observation` is what `health` and the metrics tell.

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
