//! Typed records under a storage prefix.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Entry, Storage, StorageError};

const UNEXPECTED: &str = "its fields are not what this version expects";

/// Records of type `T` under one prefix, one for each name, stored as JSON with a version.
///
/// A prefix without a trailing `/` holds a single record under the empty name.
#[derive(Debug)]
pub struct Collection<T> {
    prefix: &'static str,
    legacy_prefix: Option<&'static str>,
    record: PhantomData<fn() -> T>,
}

/// A stored type. Its JSON has a `version` field. An entry of a newer version is refused.
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// The version that this program writes. This program reads all versions up to this one.
    const VERSION: u32;
    /// True if the seal encrypts the entry once more. Records with keys need this.
    const SEAL_WRAP: bool = false;
    /// True if readers see the record. A tombstone is hidden: it names accounts that still have to go.
    fn is_visible(&self) -> bool {
        true
    }
    /// Converts an entry without a version, which another program wrote, into this program's form.
    fn import_legacy(entry: Value) -> Result<Value, serde_json::Error> {
        Ok(entry)
    }
}

#[derive(Serialize)]
struct Stored<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

impl<T: Record> Collection<T> {
    /// The collection under `prefix`.
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, legacy_prefix: None, record: PhantomData }
    }

    /// The same collection for a type whose records another program kept under `prefix`. Those records are read, listed
    /// and deleted, too.
    #[must_use]
    pub const fn with_legacy_prefix(self, prefix: &'static str) -> Self {
        Self { legacy_prefix: Some(prefix), ..self }
    }

    /// The prefix, for special paths and invalidation.
    pub const fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The storage key of `name`.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The record name in a storage key, if the key belongs to this collection.
    pub fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let legacy_prefix = || key.strip_prefix(self.legacy_prefix?);
        key.strip_prefix(self.prefix).or_else(legacy_prefix)
    }

    /// Reads the record `name`.
    pub async fn get(&self, storage: &dyn Storage, name: &str) -> Result<Option<T>, StorageError> {
        let Some(entry) = self.entry(storage, name).await? else { return Ok(None) };
        Self::decode(&entry.key, &entry.value).map(Some)
    }

    async fn entry(&self, storage: &dyn Storage, name: &str) -> Result<Option<Entry>, StorageError> {
        match (storage.get(&self.key(name)).await?, self.legacy_key(name)) {
            (None, Some(key)) => storage.get(&key).await,
            (found, _) => Ok(found),
        }
    }

    fn legacy_key(&self, name: &str) -> Option<String> {
        self.legacy_prefix.map(|prefix| format!("{prefix}{name}"))
    }

    /// Writes the record `name` and replaces an earlier one.
    pub async fn put(&self, storage: &dyn Storage, name: &str, record: &T) -> Result<(), StorageError> {
        let key = self.key(name);
        let value = serde_json::to_vec(&Stored { version: T::VERSION, record })
            .map_err(|error| StorageError::Malformed { key: key.clone(), reason: error.to_string() })?;
        storage.put(Entry { key, value, seal_wrap: T::SEAL_WRAP }).await
    }

    /// Deletes the record `name`. A missing record is not an error.
    pub async fn delete(&self, storage: &dyn Storage, name: &str) -> Result<(), StorageError> {
        // The legacy record goes first. Otherwise a failed second deletion would bring the old record back.
        if let Some(key) = self.legacy_key(name) {
            storage.delete(&key).await?;
        }
        storage.delete(&self.key(name)).await
    }

    /// The names of all records, sorted.
    pub async fn names(&self, storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
        let mut names = storage.list_sorted(self.prefix).await?;
        if let Some(prefix) = self.legacy_prefix {
            names.extend(storage.list(prefix).await?);
            names.sort_unstable();
            names.dedup();
        }
        Ok(names)
    }

    /// True if the record `name` exists.
    pub async fn contains(&self, storage: &dyn Storage, name: &str) -> Result<bool, StorageError> {
        Ok(self.entry(storage, name).await?.is_some())
    }

    /// Parses JSON from Go's encoder or this program. An error never quotes the content.
    fn decode(key: &str, bytes: &[u8]) -> Result<T, StorageError> {
        let malformed = |reason: String| StorageError::Malformed { key: key.to_owned(), reason };
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("not JSON, at byte {}", error.column())))?;
        let Some(version) = value.get("version") else {
            return T::import_legacy(value)
                .and_then(serde_json::from_value)
                .map_err(|_| malformed(UNEXPECTED.to_owned()));
        };
        let Some(version) = version.as_u64().filter(|version| *version > 0) else {
            return Err(malformed("its version is no number that this plugin writes".to_owned()));
        };
        if version > u64::from(T::VERSION) {
            return Err(malformed(format!(
                "a newer release of this plugin wrote version {version}, and this release reads up to version {}",
                T::VERSION
            )));
        }
        serde_json::from_value(value).map_err(|_| malformed(UNEXPECTED.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::InMemory;
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Color {
        name: String,
    }

    impl Record for Color {
        const VERSION: u32 = 2;
    }

    static COLORS: Collection<Color> = Collection::new("color/");
    static PAINTS: Collection<Color> = Collection::new("color/").with_legacy_prefix("paint/");

    #[tokio::test]
    async fn keeps_records_with_their_version() {
        let storage = InMemory::new();
        COLORS.put(&storage, "a", &Color { name: "red".into() }).await.unwrap();
        assert_eq!(COLORS.get(&storage, "a").await.unwrap(), Some(Color { name: "red".into() }));
        assert_eq!(storage.get("color/a").await.unwrap().unwrap().value, br#"{"version":2,"name":"red"}"#);
        assert_eq!(COLORS.names(&storage).await.unwrap(), ["a"]);
    }

    #[tokio::test]
    async fn refuses_a_newer_version_and_garbage_without_quoting_it() {
        let storage = InMemory::new();
        for (value, says) in [
            (&br#"{"version":3,"name":"red"}"#[..], "newer release"),
            (&br#"{"version":-1,"name":"red"}"#[..], "its version is no number"),
            (&br#"{"version":0,"name":"red"}"#[..], "its version is no number"),
            (&br#"{"version":1.5,"name":"red"}"#[..], "its version is no number"),
            (&br#"{"version":"x","name":"red"}"#[..], "its version is no number"),
            (&br#"{"version":null,"name":"red"}"#[..], "its version is no number"),
            (&b"sk-secret"[..], "not JSON"),
            (&br#"{"name":["sk-secret"]}"#[..], "not what this version expects"),
        ] {
            storage
                .put(Entry { key: "color/a".into(), value: value.to_vec(), seal_wrap: false })
                .await
                .unwrap();
            let error = COLORS.get(&storage, "a").await.unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("sk-secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_another_program_kept_is_found_listed_superseded_and_deleted() {
        let storage = InMemory::new();
        for key in ["paint/a", "paint/b"] {
            let value = br#"{"name":"old"}"#.to_vec();
            storage.put(Entry { key: key.into(), value, seal_wrap: false }).await.unwrap();
        }
        let name = async |name| PAINTS.get(&storage, name).await.unwrap().map(|color| color.name);
        assert_eq!(COLORS.get(&storage, "a").await.unwrap(), None);
        assert_eq!(name("a").await.as_deref(), Some("old"));
        PAINTS.put(&storage, "a", &Color { name: "new".into() }).await.unwrap();
        assert_eq!(name("a").await.as_deref(), Some("new"));
        assert_eq!(PAINTS.names(&storage).await.unwrap(), ["a", "b"]);
        assert_eq!((PAINTS.name_of("paint/a"), PAINTS.name_of("color/a")), (Some("a"), Some("a")));

        storage.fail_delete("color/");
        PAINTS.delete(&storage, "a").await.unwrap_err();
        assert_eq!(name("a").await.as_deref(), Some("new"));
        PAINTS.delete(&storage, "a").await.unwrap();
        assert!(!PAINTS.contains(&storage, "a").await.unwrap());
    }
}
