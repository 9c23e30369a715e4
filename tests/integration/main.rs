//! Every test that needs more than one file of ours: the engine over in-memory storage, real hosts, the house
//! rules.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by failing")]
#![allow(clippy::print_stdout, reason = "the harness shows it when the test fails")]

mod bootstrap;
mod bounds;
mod circles;
#[cfg(feature = "failpoints")]
mod crashes;
mod engine;
mod host;
mod layers;
mod openapi;
mod readme;
mod rooms;
#[path = "simulator/mod.rs"]
mod simulator_test;
mod support;
mod torture;

use openai_simulator as simulator;
