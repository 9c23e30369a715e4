//! Vault's backend protocol in protobuf, to and from [`crate::logical`], and nothing else.
//!
//! [`services`] serves the engines that a [`Factory`] mounts; [`Dial`] is the way back to the server, from which
//! each mount's storage and system view come. No protobuf type leaves this module, and nothing here knows what
//! a path, a field or OpenAI is, or how a plugin process starts.

mod broker;
mod convert;
mod error;
mod host;
mod instances;
mod multiplexing;
mod pb;
mod peeked_body;
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

use tonic::service::Routes;

use crate::logical::Factory;

pub use host::{Dial, DialError};

/// The largest message either way: the server's own limit (PROTOCOL 9). A request's body alone may be 32 MiB.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// The services of a secrets engine plugin: the backend protocol, the plugin's version and its word that one
/// process serves several mounts.
///
/// `version` is told as it is, so it starts with `v` (PROTOCOL 8.12). In `metadata_mode` the server only asks
/// what the plugin is, and everything that would need a server behind it is refused (PROTOCOL 5.3).
pub fn services(
    factory: Arc<dyn Factory>,
    dial: impl Dial,
    version: &'static str,
    metadata_mode: bool,
) -> Routes {
    let backend = service::Service::new(factory, Arc::new(dial), metadata_mode);
    let backend = pb::backend_server::BackendServer::new(backend)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    Routes::new(backend).add_service(version::service(version)).add_service(multiplexing::service())
}
