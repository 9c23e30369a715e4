//! Vault's vocabulary as plain Rust: requests, responses, errors, storage, the system view, and the
//! [`Backend`] that answers requests. It knows nothing of gRPC, of paths and fields, or of OpenAI.

mod collection;
mod departure;
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
pub use departure::Departure;
pub use error::{Error, Kind};
pub use memory::{Calls, InMemory, test_seed};
pub use request::{Operation, Request, Secret};
pub use response::{Lease, Response, WrapInfo};
pub use storage::{Entry, Storage, StorageError, page};
pub use system::{Event, FixedSystem, ReplicationState, SystemError, SystemView, Writable};

/// A JSON object, as Vault carries data in requests, responses and leases.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// What a mount answers to one request: nothing (404 on a read, 204 on a write) or a response.
pub type Answer = Result<Option<Response>, Error>;

/// One mounted secrets engine.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The paths and storage keys that Vault treats specially; read once at mount.
    fn special_paths(&self) -> SpecialPaths;

    /// Called once per instance after storage became writable. It may run on a read-only standby.
    async fn initialize(&self) -> Result<(), Error>;

    /// Answers one request, of any operation.
    async fn handle(&self, request: Request) -> Answer;

    /// Whether what an update names exists: `None` where the path has no existence check.
    async fn exists(&self, request: Request) -> Result<Option<bool>, Error>;

    /// Another node changed the storage entry `key`: forget what was cached of it.
    fn invalidate(&self, key: &str);

    /// The mount goes away from this process. May be called twice, or never.
    async fn cleanup(&self);
}

/// Makes a [`Backend`] for each mount that Vault sets up in this process.
pub trait Factory: Send + Sync + 'static {
    /// `setup` has neither storage nor system view that work while Vault merely registers the plugin, so
    /// nothing may be read here.
    fn mount(&self, setup: Setup) -> Result<Arc<dyn Backend>, Error>;
}

/// What Vault says of a mount when it sets it up.
pub struct Setup {
    /// `plugin_name`, `plugin_version` and the like, and every `-options` pair of the mount.
    pub config: HashMap<String, String>,
    /// The mount's own id, stable for its life; empty while Vault registers the plugin.
    pub backend_uuid: String,
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// What Vault tells of itself.
    pub system: Arc<dyn SystemView>,
}

/// Paths of the API and keys of the storage that Vault treats specially. A trailing `*` (paths) or `/`
/// (keys) makes an entry a prefix.
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
