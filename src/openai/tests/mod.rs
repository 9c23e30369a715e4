//! The parts together: the client against a server on loopback, and the pace against simulated limits.

mod client;
mod rate_limiter;
pub(super) mod server;
mod simulation;
