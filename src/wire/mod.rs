//! Vault's backend protocol in protobuf, translated to and from [`crate::logical`].
//!
//! [`services`] serves the engines that a [`Factory`] mounts. The server provides storage and the system view of each
//! mount. Protobuf types stay inside this module. This module does not know paths, fields, OpenAI or the start of a plugin
//! process.

mod convert;
mod error;
mod host;
mod instances;
mod multiplexing;
mod pb;
mod service;
mod storage;
mod system;
mod task;
#[cfg(test)]
mod tests;
mod ttl_cell;
mod value;
mod version;

use std::sync::Arc;

use crate::goplugin::{Channel, Services};
use crate::logical::Factory;

/// The largest message in both directions, equal to the server's limit (PROTOCOL 9). The body of a request alone may be
/// 32 MiB.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// The services of a secrets engine plugin: the backend protocol, the plugin's version, and the support of several
/// mounts per process.
///
/// `channel` connects to the services that the server has for one mount, by their broker id. `version` is reported
/// unchanged, so it must start with `v` (PROTOCOL 8.12). In `metadata_mode` the server only queries the plugin's
/// metadata, and calls that need the server are refused (PROTOCOL 5.3).
pub fn services(
    factory: Arc<dyn Factory>,
    channel: impl Fn(u32) -> Channel + Send + Sync + 'static,
    version: &'static str,
    metadata_mode: bool,
) -> Services {
    let backend = service::Service::new(factory, Box::new(channel), metadata_mode);
    let backend = pb::backend_server::BackendServer::new(backend)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    Services::default().with(backend).with(version::service(version)).with(multiplexing::service())
}
