//! `static-roles/:name`: accounts that stay, whose keys rotate.
//!
//! `path_static_roles` has the fields, answers and handlers. `settings` is what a role is told, `record` what is stored of it,
//! `stored` what all of them tell, `plan` when something is due; `creation`, `rotate`, `ending` and `deletion` are what
//! happens at OpenAI, and `reconcile` is what the worker does.

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
