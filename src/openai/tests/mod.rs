//! The client against a server on loopback, and the rate limiter against simulated limits.

mod client;
mod federation;
mod rate_limiter;
pub(super) mod server;
mod simulation;
