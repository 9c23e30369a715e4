//! A mount's storage in Vault: bytes under keys.

use async_trait::async_trait;

/// A mount's storage (PROTOCOL 3.4). Keys are relative to the mount. No key contains `..`.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The immediate children under `prefix`, in any order. A child with own children ends in `/`. `prefix` is empty or
    /// ends in `/`. Readers that need an order call [`Storage::list_sorted`].
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// The same children, sorted by their bytes.
    async fn list_sorted(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut keys = self.list(prefix).await?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Up to `limit` children after the child `after`, sorted. If the server does not support pages (Vault), the whole
    /// list is fetched and cut.
    async fn list_page(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StorageError> {
        Ok(page(self.list(prefix).await?, after, limit))
    }

    /// The entry under `key`, if it exists.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError>;

    /// Writes an entry and replaces an earlier one.
    async fn put(&self, entry: Entry) -> Result<(), StorageError>;

    /// Deletes an entry. A missing entry is not an error.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;
}

/// A page of a complete list in any order: the first `limit` keys after `after`, sorted.
pub fn page(mut keys: Vec<String>, after: &str, limit: usize) -> Vec<String> {
    keys.sort_unstable();
    let start = keys.partition_point(|key| key.as_str() <= after);
    keys.drain(..start);
    keys.truncate(limit);
    keys
}

/// A storage entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key within the mount. Keys must not hold secrets.
    pub key: String,
    /// The content, which may hold secrets.
    pub value: Vec<u8>,
    /// True if the seal must encrypt the entry once more.
    pub seal_wrap: bool,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// The reason why a storage call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// This node may not write. The request must be forwarded.
    #[error("{}", StorageError::READ_ONLY)]
    ReadOnly,
    /// Vault's storage refused or failed, with this error text.
    #[error("storage: {0}")]
    Failed(String),
    /// This version cannot read the entry under this key.
    #[error("storage entry {key:?} cannot be read: {reason}")]
    Malformed {
        /// The entry's key.
        key: String,
        /// The reason, without any content of the entry.
        reason: String,
    },
}

impl StorageError {
    /// The exact text by which both servers recognize a request to forward (PROTOCOL 8.7).
    pub const READ_ONLY: &str = "cannot write to readonly storage";

    /// The same outcome, but an unreadable entry counts as missing.
    pub fn readable<T: Default>(outcome: Result<T, Self>) -> Result<T, Self> {
        match outcome {
            Err(Self::Malformed { .. }) => Ok(T::default()),
            outcome => outcome,
        }
    }

    /// Converts an error text of Vault's storage.
    pub fn from_text(text: &str) -> Self {
        if text.contains(Self::READ_ONLY) { Self::ReadOnly } else { Self::Failed(text.to_owned()) }
    }
}
