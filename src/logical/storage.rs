//! A mount's storage: bytes under keys, kept by Vault.

use async_trait::async_trait;

/// A mount's storage (PROTOCOL 3.4). Keys are relative to the mount; none contains `..`.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The immediate children under `prefix`, in any order; what has children itself ends in `/`. `prefix` is empty
    /// or ends in `/`. Vault promises no order: a reader that needs one calls [`Storage::list_sorted`].
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// The same children, sorted by their bytes.
    async fn list_sorted(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut keys = self.list(prefix).await?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Up to `limit` children after the child `after`, sorted. Where the server cannot page (Vault), the whole
    /// list is fetched and cut.
    async fn list_page(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StorageError> {
        Ok(page(self.list(prefix).await?, after, limit))
    }

    /// The entry under `key`, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError>;

    /// Writes an entry, in place of an earlier one.
    async fn put(&self, entry: Entry) -> Result<(), StorageError>;

    /// Deletes an entry; deleting none is fine.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;
}

/// Cuts a page out of a whole list in any order: the first `limit` keys behind `after`, sorted.
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
    /// Its key within the mount. No secret belongs in it.
    pub key: String,
    /// Its bytes; they may hold secrets.
    pub value: Vec<u8>,
    /// Whether the seal shall encrypt it once more.
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

/// Why storage did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// This node may not write; the request is to be forwarded.
    #[error("{}", StorageError::READ_ONLY)]
    ReadOnly,
    /// Vault's storage refused or failed, in its own words.
    #[error("storage: {0}")]
    Failed(String),
    /// The entry under this key cannot be read by this version.
    #[error("storage entry {key:?} cannot be read: {reason}")]
    Malformed {
        /// The entry's key.
        key: String,
        /// Why, without any of its content.
        reason: String,
    },
}

impl StorageError {
    /// The exact text by which both servers know that a request must be forwarded (PROTOCOL 8.7).
    pub const READ_ONLY: &str = "cannot write to readonly storage";

    /// Reads an error text of Vault's storage.
    pub fn from_text(text: &str) -> Self {
        if text.contains(Self::READ_ONLY) { Self::ReadOnly } else { Self::Failed(text.to_owned()) }
    }
}
