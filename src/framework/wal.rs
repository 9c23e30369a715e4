//! The write-ahead log. An entry announces a change in another system, so that a crash leaves nothing behind.
//!
//! # Guarantees
//! A sweep deletes an entry only after its undo, or at the maximum age of its kind. The engine writes an entry by
//! [`WalKind::write`], and may delete the entry itself.
//!
//! # Assumptions
//! Work ends before its entry reaches the minimum age of its kind, or the undo itself waits. An undo may be repeated.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::logical::{Entry, Error, Storage, StorageError};

use super::handler::{Handler, boxed};

/// Storage folder of the entries, which have random names as in Vault's framework (PROTOCOL 8.9).
pub const PREFIX: &str = "wal/";

/// A kind of entry: its data, and the age from which a sweep undoes it.
#[derive(Debug)]
pub struct WalKind<T> {
    name: &'static str,
    min_age: Duration,
    max_age: Duration,
    entry: PhantomData<fn() -> T>,
}

/// A snapshot of the log by key, read once for several kinds. `None` marks an unreadable entry.
pub struct WalLog(Vec<(String, Option<Record>)>);

/// Result of an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// The work is recorded or undone, so the entry is deleted.
    Done,
    /// The entry cannot be undone yet, which is no failure. The entry stays until its kind's maximum age.
    Waits,
}

/// An entry in storage format.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<T = Value> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: T,
    /// Creation time in seconds since 1970.
    pub(super) created_at: i64,
}

/// Undo function of one kind, and its ages.
pub(super) struct Undo<E> {
    pub(super) min_age: Duration,
    pub(super) max_age: Duration,
    /// It takes the storage, the entry's key and its data.
    pub(super) run: Handler<E, (Arc<dyn Storage>, String, Value), Swept>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync> WalKind<T> {
    /// A kind with this name. Entries younger than `min_age` are not swept, because their work may go on.
    pub const fn new(name: &'static str, min_age: Duration) -> Self {
        Self { name, min_age, max_age: Duration::MAX, entry: PhantomData }
    }

    /// Deletes entries that still wait at this age.
    #[must_use]
    pub const fn forgotten_after(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// The same kind with another minimum age.
    #[must_use]
    pub const fn swept_from(&self, min_age: Duration) -> Self {
        Self { name: self.name, min_age, max_age: self.max_age, entry: PhantomData }
    }

    /// Name of the kind.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Every entry of this kind, of any age. An unreadable entry is an error, because its owner is unknown.
    pub fn entries(&self, log: &WalLog) -> Result<Vec<T>, StorageError> {
        let mut entries = Vec::new();
        for (key, record) in &log.0 {
            let malformed =
                |reason: &str| StorageError::Malformed { key: key.clone(), reason: reason.to_owned() };
            let Some(record) = record else { return Err(malformed("it is no write-ahead entry")) };
            if record.kind == self.name {
                let data = T::deserialize(&record.data);
                entries.push(data.map_err(|_| malformed("its data is not what this version expects"))?);
            }
        }
        Ok(entries)
    }

    /// Writes an entry at this key under [`PREFIX`], over an earlier one, before the work begins. The entry must hold no
    /// secret. Its undo is called from the kind's minimum age on: the engine itself keeps track of requests that still
    /// need the entry.
    pub async fn write(&self, storage: &dyn Storage, key: String, entry: &T) -> Result<(), StorageError> {
        let record = Record { kind: self.name.to_owned(), data: entry, created_at: Utc::now().timestamp() };
        let value = serde_json::to_vec(&record)
            .map_err(|error| StorageError::Malformed { key: key.clone(), reason: error.to_string() })?;
        storage.put(Entry { key, value, seal_wrap: false }).await
    }

    /// Every readable entry of this kind, of any age.
    pub fn known(&self, log: &WalLog) -> impl Iterator<Item = T> {
        self.readable(log).map(|(_, _, data)| data)
    }

    /// Entries that a sweep should have removed, with their ages.
    pub fn overdue(&self, log: &WalLog) -> Vec<(T, Duration)> {
        let now = Utc::now().timestamp();
        let aged = self.readable(log).map(|(_, record, data)| (data, record.age(now)));
        aged.filter(|(_, age)| *age >= self.min_age).collect()
    }

    /// The readable entries of this kind, with their keys.
    fn readable<'a>(&self, log: &'a WalLog) -> impl Iterator<Item = (&'a String, &'a Record, T)> {
        let records = log.0.iter().filter_map(|(key, record)| Some((key, record.as_ref()?)));
        let ours = records.filter(|(_, record)| record.kind == self.name);
        ours.filter_map(|(key, record)| Some((key, record, T::deserialize(&record.data).ok()?)))
    }
}

impl WalLog {
    /// Reads at most `most` entries.
    pub async fn read(storage: &dyn Storage, most: usize) -> Result<Self, StorageError> {
        let mut found = Vec::new();
        for name in storage.list_page(PREFIX, "", most).await? {
            let key = format!("{PREFIX}{name}");
            if let Some(entry) = storage.get(&key).await? {
                found.push((key, serde_json::from_slice(&entry.value).ok()));
            }
        }
        Ok(Self(found))
    }
}

impl<E: Send + Sync + 'static> Undo<E> {
    pub(super) fn new<T, Done, Err, F>(
        kind: &WalKind<T>,
        undo: impl Fn(Arc<E>, Arc<dyn Storage>, String, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<Done, Err>> + Send + 'static,
        Done: Into<Swept>,
        Err: Into<Error>,
    {
        let run = move |engine, (storage, key, data)| {
            let undoing = serde_json::from_value(data).map(|entry: T| undo(engine, storage, key, entry));
            async move {
                match undoing {
                    Ok(undoing) => undoing.await.map(Into::into).map_err(Into::into),
                    Err(_) => Err(Error::internal("its data is not what this version expects")),
                }
            }
        };
        Self { min_age: kind.min_age, max_age: kind.max_age, run: boxed(run) }
    }
}

impl From<()> for Swept {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl<T> Record<T> {
    /// Age of the entry. The age of an entry from the future is its distance from now, so a clock that jumped back
    /// does not delay the sweep for long.
    pub(super) fn age(&self, now: i64) -> Duration {
        Duration::from_secs(now.abs_diff(self.created_at))
    }

    /// True if the entry is older than `age` at `now`. An entry from the future is not.
    pub(super) fn is_older(&self, age: Duration, now: i64) -> bool {
        now > self.created_at && self.age(now) > age
    }
}
