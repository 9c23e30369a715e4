//! The whole protocol in one process: a plugin as [`super::serve`] runs it, and a host. The host starts the plugin,
//! connects, and serves the ids that the plugin dials.

mod channel;
mod frames;
mod host;
mod multiplexed;
mod plain;
mod services;
