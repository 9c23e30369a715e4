//! The plugin on real servers: each story runs on OpenBao, and once more on Vault where there is one.

mod admin_key;
mod answers;
mod by_hand;
mod clients;
mod cluster;
#[cfg(feature = "failpoints")]
mod crashes;
mod credentials;
mod events;
mod failover;
mod federation;
mod habits;
mod library;
mod logs;
mod monitoring;
mod mounts;
mod moves;
mod pages;
mod policies;
mod predecessor;
mod proxies;
mod refusals;
mod restarts;
mod second_engine;
mod secrets;
mod static_roles;
mod tick;
mod upgrades;
