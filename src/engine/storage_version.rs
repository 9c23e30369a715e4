//! The version of the mount's storage as a whole: which records there are, and how they belong together.
//!
//! *Guarantee:* a mount whose storage is of a newer version refuses every request, in a sentence. Each record has a
//! version of its own besides, for its fields.
//!
//! *Limitation:* a release of version 1 does not look for this entry. Its tick reports each creation window as a
//! write-ahead entry of an unknown kind, and leaves it.

use serde::Deserialize;

use crate::logical::{Entry, Storage, StorageError};

/// The storage key. The entry is replicated: secondaries read the primary's.
const KEY: &str = "storage-version";
/// The version that this program writes. Version 1 had no such entry, and no creation windows.
const VERSION: u64 = 2;

#[derive(Deserialize)]
struct Stored {
    version: u64,
}

/// Marks the storage as of this version, if it is of an earlier one. Answers why this program must not touch it, if it is
/// of a newer one.
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
                // Another node marks it.
                Ok(()) | Err(StorageError::ReadOnly) => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}
