//! What the tests stand on: real servers, a simulated OpenAI, and waiting that ends.

pub(crate) mod api;
pub(crate) mod cluster;
pub(crate) mod host;
pub(crate) mod load;
pub(crate) mod openai;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod records;
pub(crate) mod server;
pub(crate) mod wait;
