//! The version of the mount's storage as a whole: the set of records and their relations. Each record also has a version
//! for its own fields.
//!
//! *Guarantee:* a mount refuses every request if its storage has a newer version. The error says so.
//!
//! *Limitation:* a release of version 1 does not read this entry. Its tick reports each creation window as a write-ahead
//! entry of an unknown kind, and leaves the window.

use serde::Deserialize;

use crate::logical::{Entry, Storage, StorageError};

/// The storage key. The entry is replicated: secondaries read the primary's.
const KEY: &str = "storage-version";
/// The version that this program writes. Version 1 had neither this entry nor creation windows.
const VERSION: u64 = 2;

#[derive(Deserialize)]
struct Stored {
    version: u64,
}

/// Marks older storage as of this version. For newer storage returns the reason to refuse every request.
pub(super) async fn claim(storage: &dyn Storage) -> Result<Option<String>, StorageError> {
    let stored =
        storage.get(KEY).await?.and_then(|entry| serde_json::from_slice::<Stored>(&entry.value).ok());
    match stored {
        Some(Stored { version }) if version > VERSION => Ok(Some(format!(
            "the storage of this mount is of version {version}, which a newer release of this plugin wrote, and this \
             release knows up to version {VERSION}: run the newer release again"
        ))),
        Some(Stored { version }) if version == VERSION => Ok(None),
        Some(_) | None => {
            let value = format!("{{\"version\":{VERSION}}}").into_bytes();
            match storage.put(Entry { key: KEY.to_owned(), value, seal_wrap: false }).await {
                // The primary marks the storage.
                Ok(()) | Err(StorageError::ReadOnly) => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}
