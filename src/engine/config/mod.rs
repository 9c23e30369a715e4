//! The configuration: `config`, the admin key and its rotation, named projects, and the client of OpenAI's Admin API.

pub(in crate::engine) mod admin_key;
pub(in crate::engine) mod admin_keys;
pub(in crate::engine) mod admin_reconcile;
pub(in crate::engine) mod admin_rotation;
pub(in crate::engine) mod admin_schedule;
pub(in crate::engine) mod check;
pub(in crate::engine) mod checks;
pub(in crate::engine) mod clients;
pub(in crate::engine) mod clock_watch;
pub(in crate::engine) mod config_fields;
pub(in crate::engine) mod configuration;
pub(in crate::engine) mod dependents;
pub(in crate::engine) mod former;
pub(in crate::engine) mod key_records;
pub(in crate::engine) mod memory;
pub(in crate::engine) mod metadata;
pub(in crate::engine) mod named_projects;
pub(in crate::engine) mod path_config;
pub(in crate::engine) mod predecessor;
pub(in crate::engine) mod project_fields;
pub(in crate::engine) mod projects;
