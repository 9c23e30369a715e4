//! What Vault asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Data, Storage};

/// What a request wants done (PROTOCOL 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// A write of what does not exist yet.
    Create,
    /// A read.
    Read,
    /// A write of what exists, or to a path without an existence check.
    Update,
    /// A partial write.
    Patch,
    /// A deletion.
    Delete,
    /// A list; its path ends in `/`.
    List,
    /// Path help, or with an empty path the whole mount's help and OpenAPI document.
    Help,
    /// HTTP HEAD.
    Header,
    /// The end of a lease.
    Revoke,
    /// The extension of a lease.
    Renew,
    /// Vault's tick, once a minute: periodic work and the write-ahead log.
    Rollback,
    /// Vault Enterprise's rotation manager asks for a rotation.
    Rotate,
    /// OpenBao asks, before every request, whether the path has another name.
    ResolvePath,
    /// OpenBao's recursive list.
    Scan,
    /// Anything else; no path answers it.
    Other,
}

impl Operation {
    /// Reads Vault's own word for an operation.
    pub fn parse(word: &str) -> Self {
        match word {
            "create" => Self::Create,
            "read" => Self::Read,
            "update" => Self::Update,
            "patch" => Self::Patch,
            "delete" => Self::Delete,
            "list" => Self::List,
            "help" => Self::Help,
            "header" => Self::Header,
            "revoke" => Self::Revoke,
            "renew" => Self::Renew,
            "rollback" => Self::Rollback,
            "rotate" => Self::Rotate,
            "resolve-path" => Self::ResolvePath,
            "scan" => Self::Scan,
            _ => Self::Other,
        }
    }
}

/// One request to a mount.
#[derive(Clone)]
pub struct Request {
    /// Vault's id of the HTTP request; empty for what Vault asks by itself.
    pub id: String,
    /// What is to be done.
    pub operation: Operation,
    /// The path within the mount, without a leading slash; a list's ends in `/`.
    pub path: String,
    /// The body or query.
    pub data: Data,
    /// Where the mount is, such as `openai/`. It changes when the mount is moved.
    pub mount_point: String,
    /// A salted hash of the caller's token: good to compare, not to use.
    pub client_token: String,
    /// The accessor of the caller's token.
    pub client_token_accessor: String,
    /// The caller's display name.
    pub display_name: String,
    /// The caller's identity entity; empty where there is none.
    pub entity_id: String,
    /// The lease, for renew and revoke.
    pub secret: Option<Secret>,
    /// Request headers that the mount's tuning passes on.
    pub headers: HashMap<String, Vec<String>>,
    /// The mount's storage, bound to this request.
    pub storage: Arc<dyn Storage>,
    /// Cancelled when the caller hung up or Vault's time limit passed. The handler goes on to its end all the
    /// same; whoever then holds an answer that nobody takes undoes it.
    pub cancelled: CancellationToken,
}

impl Request {
    /// A request with nothing but operation, path and storage; the rest is empty.
    pub fn new(operation: Operation, path: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        Self {
            id: String::new(),
            operation,
            path: path.into(),
            data: Data::new(),
            mount_point: String::new(),
            client_token: String::new(),
            client_token_accessor: String::new(),
            display_name: String::new(),
            entity_id: String::new(),
            secret: None,
            headers: HashMap::new(),
            storage,
            cancelled: CancellationToken::new(),
        }
    }
}

/// Shows neither data nor lease: both may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("operation", &self.operation)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A lease as Vault stored it, in a renew or revoke request.
#[derive(Clone)]
pub struct Secret {
    /// Vault's id of the lease; empty on renewal and when Vault could not store the lease.
    pub lease_id: String,
    /// What we gave Vault to keep with the lease; never shown to users.
    pub internal: Data,
    /// The lease's present time to live.
    pub ttl: Duration,
    /// The longest life from `issue_time`; zero leaves it to Vault.
    pub max_ttl: Duration,
    /// How much longer the user asks for; zero if not said.
    pub increment: Duration,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// When the lease began.
    pub issue_time: Option<DateTime<Utc>>,
}

/// Shows no internal data.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("lease_id", &self.lease_id)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
