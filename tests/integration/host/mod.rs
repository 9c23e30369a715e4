//! The plugin on real servers: each story runs on OpenBao, and once more on Vault where there is one.

mod answers;
mod by_hand;
mod cluster;
#[cfg(feature = "failpoints")]
mod crashes;
mod credentials;
mod logs;
mod mounts;
mod refusals;
mod restarts;
