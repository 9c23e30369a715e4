//! Requests from Vault.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Data, Storage};

/// The operation of a request (PROTOCOL 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// A write to a target that does not exist yet.
    Create,
    /// A read.
    Read,
    /// A write to an existing target, or to a path without an existence check.
    Update,
    /// A partial write.
    Patch,
    /// A deletion.
    Delete,
    /// A list. The path ends in `/`.
    List,
    /// Path help. With an empty path: the help and OpenAPI document of the whole mount.
    Help,
    /// HTTP HEAD.
    Header,
    /// The end of a lease.
    Revoke,
    /// The extension of a lease.
    Renew,
    /// Vault's tick, once a minute: periodic work and the write-ahead log.
    Rollback,
    /// A rotation by Vault Enterprise's rotation manager.
    Rotate,
    /// OpenBao's query before every request for another name of the path.
    ResolvePath,
    /// OpenBao's recursive list.
    Scan,
    /// Any other operation. No path supports it.
    Other,
}

impl Operation {
    /// Parses Vault's name of an operation.
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
    /// Vault's id of the HTTP request. Empty for requests that Vault itself makes.
    pub id: String,
    /// The operation.
    pub operation: Operation,
    /// The path within the mount, without a leading slash. The path of a list ends in `/`.
    pub path: String,
    /// The fields of the body or query.
    pub data: Data,
    /// The mount's path, such as `openai/`. A move of the mount changes the path.
    pub mount_point: String,
    /// A salted hash of the caller's token, for comparisons only.
    pub client_token: String,
    /// The accessor of the caller's token.
    pub client_token_accessor: String,
    /// The caller's display name.
    pub display_name: String,
    /// The caller's identity entity. Empty if there is none.
    pub entity_id: String,
    /// The lease, for renew and revoke.
    pub secret: Option<Secret>,
    /// Request headers that the mount's tuning allows.
    pub headers: HashMap<String, Vec<String>>,
    /// The mount's storage, bound to this request.
    pub storage: Arc<dyn Storage>,
    /// Cancelled when the caller hangs up or Vault's time limit passes. The handler still runs to its end. The code
    /// that then holds an undeliverable answer must undo it.
    pub cancelled: CancellationToken,
}

impl Request {
    /// A request with an operation, a path and storage. All other fields are empty.
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

/// Omits data and lease, because both may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("operation", &self.operation)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A stored lease in a renew or revoke request.
#[derive(Clone)]
pub struct Secret {
    /// Vault's id of the lease. Empty on renewal, and if Vault could not store the lease.
    pub lease_id: String,
    /// The plugin's own data in the lease. Users never see this data.
    pub internal: Data,
    /// The lease's current time to live.
    pub ttl: Duration,
    /// The longest life since `issue_time`. Zero means Vault's limit.
    pub max_ttl: Duration,
    /// The extension that the user requests. Zero if not given.
    pub increment: Duration,
    /// True if the lease may be renewed.
    pub renewable: bool,
    /// The start of the lease.
    pub issue_time: Option<DateTime<Utc>>,
}

/// Omits the internal data.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("lease_id", &self.lease_id)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
