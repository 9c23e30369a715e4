//! Test support: a mount in this process, real servers, a simulated OpenAI, and bounded waiting.

#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod answer;
pub(crate) mod api;
pub(crate) mod callers;
pub(crate) mod cli;
pub(crate) mod cluster;
pub(crate) mod connect_proxy;
pub mod document;
pub(crate) mod go_plugin_storage;
pub(crate) mod host;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod leases;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod library;
pub(crate) mod load;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod logs;
pub(crate) mod memory;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod mount;
pub(crate) mod node;
pub(crate) mod openai;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod prometheus;
pub(crate) mod python;
pub(crate) mod records;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod secrets;
pub(crate) mod server;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod storage;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod system;
pub(crate) mod templates;
pub(crate) mod terraform;
#[allow(dead_code, unreachable_pub, reason = "each test uses only a part of this module")]
pub mod tls_proxy;
pub(crate) mod wait;
pub mod windows;

pub use answer::Answered;
pub use leases::Granted;
pub use mount::Mount;
