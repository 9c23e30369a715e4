//! Vault's concepts as plain Rust types: requests, responses, errors, storage, the system view, and the [`Backend`]
//! that answers requests. This module does not know gRPC, paths, fields or OpenAI.

mod collection;
mod error;
mod memory;
mod request;
mod response;
mod storage;
mod system;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use collection::{Collection, Record};
pub use error::{Error, Kind};
pub use memory::{Calls, InMemory, test_seed};
pub use request::{Operation, Request, Secret};
pub use response::{Lease, Response, data};
pub use storage::{Entry, Storage, StorageError, page};
pub use system::{Event, FixedSystem, ReplicationState, SystemError, SystemView, Writable};

/// A JSON object. Vault uses objects for the data of requests, responses and leases.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// A mount's answer to one request: a response, or nothing (404 on a read, 204 on a write).
pub type Answer = Result<Option<Response>, Error>;

/// One mounted secrets engine.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The paths and storage keys with special treatment by Vault. Vault reads them once, at mount.
    fn special_paths(&self) -> SpecialPaths;

    /// Called once per instance after storage became writable. The node may be a read-only standby.
    async fn initialize(&self) -> Result<(), Error>;

    /// Answers one request of any operation.
    async fn handle(&self, request: Request) -> Answer;

    /// Checks whether the target of an update exists. `None` if the path has no existence check.
    async fn exists(&self, request: Request) -> Result<Option<bool>, Error>;

    /// Another node changed the storage entry `key`. The mount drops its cached copy.
    fn invalidate(&self, key: &str);

    /// The mount leaves this process. May be called twice, or never.
    async fn cleanup(&self);
}

/// Creates a [`Backend`] for each mount in this process.
pub trait Factory: Send + Sync + 'static {
    /// Creates a mount. While Vault registers the plugin, storage and system view do not work. So this function must
    /// not read them.
    fn mount(&self, setup: Setup) -> Result<Arc<dyn Backend>, Error>;
}

/// Vault's description of a new mount.
pub struct Setup {
    /// `plugin_name`, `plugin_version` and similar keys, and every `-options` pair of the mount.
    pub config: HashMap<String, String>,
    /// The mount's id, stable for its life. Empty while Vault registers the plugin.
    pub backend_uuid: String,
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// Vault's system view.
    pub system: Arc<dyn SystemView>,
}

/// API paths and storage keys with special treatment by Vault. A trailing `*` (paths) or `/` (keys) makes an entry a
/// prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialPaths {
    /// API paths that need `sudo`.
    pub root: Vec<String>,
    /// API paths that need no token.
    pub unauthenticated: Vec<String>,
    /// Storage keys that are not replicated to secondaries.
    pub local_storage: Vec<String>,
    /// Storage keys that the seal encrypts once more.
    pub seal_wrap_storage: Vec<String>,
}
