//! A mount's storage over the channel to the server (PROTOCOL 3.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::logical::{self, Entry, Storage, StorageError};

use super::host::{Host, status_text};
use super::pb;

/// Metadata that a request passes on to its storage calls: the snapshot to read, and the replication state that the
/// caller requires (PROTOCOL 3.9).
const FORWARDED_METADATA: [&str; 4] =
    ["snapshot_id", "index_state_cluster_id", "index_state_local", "index_state_replicated"];

/// The mount's storage, for one request or for the mount.
pub(super) struct RemoteStorage {
    host: Arc<Host>,
    metadata: MetadataMap,
    wal_indexes: WalIndexes,
}

/// The server's replication log positions after this request's writes. Positions only grow, so the largest is the
/// latest.
#[derive(Default)]
struct WalIndexes {
    local: AtomicU64,
    replicated: AtomicU64,
}

// === impl RemoteStorage ===

impl RemoteStorage {
    /// Storage that belongs to no request.
    pub(super) fn of_mount(host: Arc<Host>) -> Self {
        Self { host, metadata: MetadataMap::new(), wal_indexes: WalIndexes::default() }
    }

    /// Storage for the request with this metadata.
    pub(super) fn of_request(host: Arc<Host>, incoming: &MetadataMap) -> Self {
        let mut storage = Self::of_mount(host);
        for name in FORWARDED_METADATA {
            if let Some(value) = incoming.get(name) {
                storage.metadata.insert(name, value.clone());
            }
        }
        storage
    }

    /// The position after the request's last write, if the request wrote and the server reports positions.
    pub(super) fn wal_index(&self) -> Option<pb::WalIndex> {
        let index = pb::WalIndex {
            local_index: self.wal_indexes.local.load(Ordering::Acquire),
            replicated_index: self.wal_indexes.replicated.load(Ordering::Acquire),
        };
        (index != pb::WalIndex::default()).then_some(index)
    }

    fn call<T>(&self, args: T) -> Request<T> {
        let mut call = Request::new(args);
        if !self.metadata.is_empty() {
            *call.metadata_mut() = self.metadata.clone();
        }
        call
    }

    /// A page from the server, or `None` if the server does not support pages.
    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Option<Vec<String>>, StorageError> {
        if !self.host.may_support_pages() {
            return Ok(None);
        }
        let args = pb::StorageListPageArgs {
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            limit: limit.try_into().unwrap_or(i32::MAX),
        };
        match self.host.storage().list_page(self.call(args)).await {
            Ok(reply) => keys(reply.into_inner()).map(Some),
            Err(status) if status.code() == Code::Unimplemented => {
                self.host.mark_pages_unsupported();
                Ok(None)
            }
            Err(status) => Err(status.into()),
        }
    }
}

#[async_trait]
impl Storage for RemoteStorage {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let args = pb::StorageListArgs { prefix: prefix.to_owned() };
        keys(self.host.storage().list(self.call(args)).await?.into_inner())
    }

    async fn list_page(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StorageError> {
        if limit == 0 {
            return Ok(Vec::new()); // the server interprets zero as no limit
        }
        match self.page(prefix, after, limit).await? {
            Some(keys) => Ok(keys),
            None => Ok(logical::page(self.list(prefix).await?, after, limit)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let args = pb::StorageGetArgs { key: key.to_owned() };
        let reply = self.host.storage().get(self.call(args)).await?.into_inner();
        check_error(&reply.err)?;
        Ok(reply.entry.map(|pb::StorageEntry { key, value, seal_wrap }| Entry { key, value, seal_wrap }))
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let Entry { key, value, seal_wrap } = entry;
        let args = pb::StoragePutArgs { entry: Some(pb::StorageEntry { key, value, seal_wrap }) };
        let reply = self.host.storage().put(self.call(args)).await?.into_inner();
        check_error(&reply.err)?;
        self.wal_indexes.record(reply.wal_index);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let args = pb::StorageDeleteArgs { key: key.to_owned() };
        let reply = self.host.storage().delete(self.call(args)).await?.into_inner();
        check_error(&reply.err)?;
        self.wal_indexes.record(reply.wal_index);
        Ok(())
    }
}

// === impl WalIndexes ===

impl WalIndexes {
    fn record(&self, index: Option<pb::WalIndex>) {
        let Some(index) = index else { return };
        self.local.fetch_max(index.local_index, Ordering::AcqRel);
        self.replicated.fetch_max(index.replicated_index, Ordering::AcqRel);
    }
}

/// Converts the error text of a reply. An empty text means success.
fn check_error(error: &str) -> Result<(), StorageError> {
    if error.is_empty() { Ok(()) } else { Err(StorageError::from_text(error)) }
}

/// The listed keys in sorted order. Vault promises no order: with PostgreSQL storage the order is arbitrary.
fn keys(mut reply: pb::StorageListReply) -> Result<Vec<String>, StorageError> {
    check_error(&reply.err)?;
    reply.keys.sort_unstable();
    Ok(reply.keys)
}

impl From<Status> for StorageError {
    /// The channel failed, or the server serves no storage for this mount.
    fn from(status: Status) -> Self {
        Self::from_text(&status_text(&status))
    }
}
