//! The whole protocol in one process: a plugin as [`super::serve`] runs it, and a host that starts it, connects,
//! and serves what it dials back to.

mod departures;
mod host;
mod multiplexed;
mod plain;
mod write_coalescing;
