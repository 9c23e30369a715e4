//! Read-through cache of the records that every request reads: configuration, projects, roles.
//!
//! *Guarantee:* a record is never stale after this node wrote it, or after Vault reported another node's change
//! ([`Cache::invalidate`]). *Assumption:* nobody else writes the mount's storage while this instance lives. Vault sets
//! up a new instance after a seal, a step-down or a restored snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::logical::{Collection, Data, Record, Storage, StorageError};

/// Maximum number of records in memory. A full cache starts over.
const MAX_RECORDS: usize = 1_000;

/// A [`Collection`] with its recently read records in memory.
#[derive(Debug)]
pub struct Cache<T: 'static> {
    collection: &'static Collection<T>,
    held: RwLock<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    /// Number of changes. A read that began before a change must not store its record.
    generation: u64,
    records: HashMap<String, Arc<T>>,
}

impl<T: Record> Cache<T> {
    /// An empty cache of this collection.
    pub fn new(collection: &'static Collection<T>) -> Self {
        Self { collection, held: RwLock::new(Held { generation: 0, records: HashMap::new() }) }
    }

    /// The record `name`, from memory or from storage, unless it is hidden.
    pub async fn get(&self, storage: &dyn Storage, name: &str) -> Result<Option<Arc<T>>, StorageError> {
        Ok(self.record(storage, name).await?.filter(|record| record.is_visible()))
    }

    /// The record `name` if it is in memory and not hidden. Storage is not read.
    pub fn peek(&self, name: &str) -> Option<Arc<T>> {
        self.held.read().records.get(name).filter(|record| record.is_visible()).cloned()
    }

    /// The record `name` from storage, hidden or not. A write that was reported as failed may have succeeded.
    pub async fn latest(&self, storage: &dyn Storage, name: &str) -> Result<Option<Arc<T>>, StorageError> {
        let generation = self.held.read().generation;
        let latest = self.collection.get(storage, name).await;
        let Ok(Some(record)) = latest else {
            self.forget(name);
            return latest.map(|_| None);
        };
        let record = Arc::new(record);
        self.keep(generation, name, &record);
        // What was read earlier is not kept later.
        self.held.write().generation += 1;
        Ok(Some(record))
    }

    /// The record `name`, from memory or from storage, hidden or not.
    pub async fn record(&self, storage: &dyn Storage, name: &str) -> Result<Option<Arc<T>>, StorageError> {
        let generation = {
            let held = self.held.read();
            if let Some(record) = held.records.get(name) {
                return Ok(Some(Arc::clone(record)));
            }
            held.generation
        };
        let Some(record) = self.collection.get(storage, name).await? else { return Ok(None) };
        let record = Arc::new(record);
        self.keep(generation, name, &record);
        Ok(Some(record))
    }

    /// Like `get`, but an unreadable record counts as missing. One bad entry then does not fail a whole list.
    pub async fn get_readable(
        &self,
        storage: &dyn Storage,
        name: &str,
    ) -> Result<Option<Arc<T>>, StorageError> {
        StorageError::readable(self.get(storage, name).await)
    }

    /// Writes the record `name`.
    pub async fn put(&self, storage: &dyn Storage, name: &str, record: &T) -> Result<(), StorageError> {
        self.forget(name);
        let outcome = self.collection.put(storage, name, record).await;
        self.forget(name);
        outcome
    }

    /// Deletes the record `name`. A missing record is no error.
    pub async fn delete(&self, storage: &dyn Storage, name: &str) -> Result<(), StorageError> {
        let outcome = self.collection.delete(storage, name).await;
        self.forget(name);
        outcome
    }

    /// Every visible record with its name. An unreadable record is an error, because its content is unknown.
    pub async fn all(&self, storage: &dyn Storage) -> Result<Vec<(String, Arc<T>)>, StorageError> {
        let mut all = Vec::new();
        for name in self.collection.names(storage).await? {
            if let Some(record) = self.get(storage, &name).await? {
                all.push((name, record));
            }
        }
        Ok(all)
    }

    /// Every visible and readable record with its name.
    pub async fn readable(&self, storage: &dyn Storage) -> Result<Vec<(String, Arc<T>)>, StorageError> {
        let mut readable = Vec::new();
        for name in self.collection.names(storage).await? {
            if let Some(record) = self.get_readable(storage, &name).await? {
                readable.push((name, record));
            }
        }
        Ok(readable)
    }

    /// Every name with the `info` of its record. An unreadable record is listed without info.
    pub async fn listed(
        &self,
        storage: &dyn Storage,
        info: impl Fn(&T) -> Data + Send + Sync,
    ) -> Result<Vec<(String, Data)>, StorageError> {
        let mut entries = Vec::new();
        for name in self.collection.names(storage).await? {
            let record = StorageError::readable(self.record(storage, &name).await)?;
            if record.as_ref().is_none_or(|record| record.is_visible()) {
                entries.push((name, record.map(|record| info(&record)).unwrap_or_default()));
            }
        }
        Ok(entries)
    }

    /// Forgets the storage entry `key`, which another node changed.
    pub fn invalidate(&self, key: &str) {
        if let Some(name) = self.collection.name_of(key) {
            self.forget(name);
        }
    }

    fn keep(&self, generation: u64, name: &str, record: &Arc<T>) {
        let mut held = self.held.write();
        if held.generation != generation {
            return;
        }
        if held.records.len() >= MAX_RECORDS {
            held.records.clear();
        }
        held.records.insert(name.to_owned(), Arc::clone(record));
    }

    fn forget(&self, name: &str) {
        let mut held = self.held.write();
        held.generation += 1;
        held.records.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::logical::InMemory;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Word(String);

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Note {
        word: Word,
    }

    impl Record for Note {
        const VERSION: u32 = 1;
    }

    static NOTES: Collection<Note> = Collection::new("note/");

    fn note(word: &str) -> Note {
        Note { word: Word(word.to_owned()) }
    }

    #[tokio::test]
    async fn reads_storage_once_and_again_after_a_change_elsewhere() {
        let (storage, cache) = (InMemory::new(), Cache::new(&NOTES));
        cache.put(&storage, "a", &note("one")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(*cache.get(&storage, "a").await.unwrap().unwrap(), note("one"));
        }
        assert_eq!(storage.calls().gets, 1);

        NOTES.put(&storage, "a", &note("two")).await.unwrap();
        cache.invalidate("note/a");
        assert_eq!(*cache.get(&storage, "a").await.unwrap().unwrap(), note("two"));
    }

    #[tokio::test]
    async fn a_read_that_began_before_a_change_is_not_cached() {
        let (storage, cache) = (InMemory::new(), Cache::new(&NOTES));
        let before = cache.held.read().generation;
        cache.put(&storage, "a", &note("new")).await.unwrap();
        cache.keep(before, "a", &Arc::new(note("old")));
        assert_eq!(*cache.get(&storage, "a").await.unwrap().unwrap(), note("new"));
    }

    #[tokio::test]
    async fn a_failed_write_is_not_cached() {
        let (storage, cache) = (InMemory::new(), Cache::new(&NOTES));
        cache.put(&storage, "a", &note("old")).await.unwrap();
        storage.fail_put("note/");
        cache.put(&storage, "a", &note("new")).await.unwrap_err();
        assert_eq!(*cache.get(&storage, "a").await.unwrap().unwrap(), note("old"));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (storage, cache) = (InMemory::new(), Cache::new(&NOTES));
        for n in 0..=MAX_RECORDS {
            let name = n.to_string();
            cache.put(&storage, &name, &note("x")).await.unwrap();
            cache.get(&storage, &name).await.unwrap();
        }
        assert!(cache.held.read().records.len() <= MAX_RECORDS);
    }
}
