//! The services from the server's side: a fake server calls them over gRPC in memory, and serves storage, system view
//! and events.

mod engine;
mod lifecycle;
mod logs;
mod requests;
mod server;
mod storage;
mod system;

use engine::Mounts;
use server::{Caller, Server};
