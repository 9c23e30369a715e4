//! `static-roles/:name`: permanent accounts with rotating keys.
//!
//! - `path_static_roles` and `static_creds` are the paths.
//! - `record` is the stored record, with its `settings`. `stored` reads and writes it. `plan` computes due times.
//! - `creation`, `rotate`, `ending` and `deletion` call OpenAI. `reconcile` is the worker's part.

mod creation;
mod deletion;
mod ending;
mod path_static_roles;
mod plan;
mod reconcile;
mod record;
mod rotate;
mod settings;
pub(in crate::engine) mod static_creds;
mod stored;

pub(super) use self::path_static_roles::paths;
pub(super) use self::reconcile::StaticRoles;
pub(super) use self::record::STATIC_ROLES;
pub(super) use self::stored::of_project;
