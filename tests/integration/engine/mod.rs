//! The engine over in-memory storage and a simulated OpenAI: one file per noun.
#![allow(clippy::unwrap_used, reason = "clippy takes the helpers of tests for no tests")]

mod admin_key;
mod any_order;
mod broken_tls;
mod checkins;
mod checkouts;
mod clocks;
mod config;
mod crashes;
mod creds;
mod endless_lists;
mod fixtures;
mod garbage;
mod growth;
mod help;
mod input;
mod lag;
mod library_crashes;
mod library_keys;
mod library_missing;
mod library_names;
mod library_sets;
mod observed;
mod outcomes;
mod patience;
mod predecessor;
mod projects;
mod random;
mod replication;
mod revocation;
mod revocations;
mod roles;
mod slow_revocations;
mod static_roles;
mod tidy;
mod unknown_writes;
