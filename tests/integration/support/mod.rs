//! What the tests stand on: a mount in this process, real servers, a simulated OpenAI, and waiting that ends.

#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod answer;
pub(crate) mod api;
pub(crate) mod callers;
pub(crate) mod cli;
pub(crate) mod cluster;
pub mod document;
pub(crate) mod go_plugin_storage;
pub(crate) mod host;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod leases;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod library;
pub(crate) mod load;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod logs;
pub(crate) mod memory;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod mount;
pub(crate) mod openai;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod prometheus;
pub(crate) mod python;
pub(crate) mod records;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod secrets;
pub(crate) mod server;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod storage;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod system;
pub(crate) mod templates;
pub(crate) mod terraform;
#[allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
pub mod tls_proxy;
pub(crate) mod wait;

pub use answer::Answered;
pub use leases::Granted;
pub use mount::Mount;
