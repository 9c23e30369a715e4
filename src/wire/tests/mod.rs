//! The services as a server uses them: a fake server calls them over gRPC in memory and serves storage, system
//! view and events back.

mod engine;
mod lifecycle;
mod logs;
mod requests;
mod server;
mod storage;
mod system;

use engine::Mounts;
use server::{Caller, Server};
