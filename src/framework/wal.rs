//! The write-ahead log: a record of what is about to be done elsewhere, so that a crash leaves nothing behind.
//!
//! # Guarantees
//! An entry is stored before [`WalKind::begin`] returns, and goes only by [`Pending::commit`], by
//! [`WalKind::begin_at`], or after its work was undone.
//!
//! # Assumptions
//! Work ends, one way or the other, before its entry is as old as its kind's minimum age; undoing may be repeated.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::logical::{Entry, Error, Storage, StorageError};

use super::handler::{Handler, boxed};
use super::in_flight::{self, InFlight};

/// Where entries are kept, under random names, as Vault's framework keeps them (PROTOCOL 8.9).
pub const PREFIX: &str = "wal/";

/// A kind of entry: what it holds and how old it must be before its work is undone.
#[derive(Debug)]
pub struct WalKind<T> {
    name: &'static str,
    min_age: Duration,
    max_age: Duration,
    entry: PhantomData<fn() -> T>,
}

/// The log as it stood at one time, by key: read once for all kinds that are looked for in it. None is no entry at all.
pub struct WalLog(Vec<(String, Option<Record>)>);

/// What a sweep of an entry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Its work stands or is undone: the entry goes.
    Done,
    /// It cannot be undone from here as things are, which is nobody's failure: the entry stays until that changes, or
    /// until it is as old as its kind may become.
    Waits,
}

/// An entry whose work goes on. Dropped without [`Pending::commit`] it stays, and a sweep undoes the work.
#[must_use = "unless it is committed the entry stays, and a sweep undoes the work"]
pub struct Pending {
    storage: Arc<dyn Storage>,
    key: String,
    /// None where the work is not this one's.
    in_flight: Option<InFlight>,
}

/// An entry as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<T = Value> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: T,
    /// In seconds since 1970.
    pub(super) created_at: i64,
}

/// How the engine undoes the work of one kind of entry.
pub(super) struct Undo<E> {
    pub(super) min_age: Duration,
    pub(super) max_age: Duration,
    pub(super) run: Handler<E, (Arc<dyn Storage>, Value), Swept>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync> WalKind<T> {
    /// Entries of this name. Those younger than `min_age` are left alone, as their work may go on.
    pub const fn new(name: &'static str, min_age: Duration) -> Self {
        Self { name, min_age, max_age: Duration::MAX, entry: PhantomData }
    }

    /// Entries that still wait at this age are forgotten.
    #[must_use]
    pub const fn forgotten_after(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// The same kind, swept from another age on.
    #[must_use]
    pub const fn swept_from(&self, min_age: Duration) -> Self {
        Self { name: self.name, min_age, max_age: self.max_age, entry: PhantomData }
    }

    /// The kind's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Every entry of this kind, of any age: what is under way or still to be undone. One that cannot be read is an
    /// error, as nobody knows what it speaks for.
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

    /// Writes an entry before the work begins. It must hold no secret.
    pub async fn begin(&self, storage: &Arc<dyn Storage>, entry: &T) -> Result<Pending, StorageError> {
        self.begin_at(storage, new_key(), entry).await
    }

    /// As [`WalKind::begin`], at a [new key](new_key), or in the place of an entry whose work is done and recorded, or
    /// undone: one write for the end of that one and the beginning of this. If it fails, either of them may stand.
    pub async fn begin_at(
        &self,
        storage: &Arc<dyn Storage>,
        key: String,
        entry: &T,
    ) -> Result<Pending, StorageError> {
        let record = Record { kind: self.name.to_owned(), data: entry, created_at: Utc::now().timestamp() };
        let value = serde_json::to_vec(&record)
            .map_err(|error| StorageError::Malformed { key: key.clone(), reason: error.to_string() })?;
        let in_flight = Some(InFlight::begin(&key));
        if let Err(error) = storage.put(Entry { key: key.clone(), value, seal_wrap: false }).await {
            drop(in_flight);
            in_flight::forget(&key);
            return Err(error);
        }
        Ok(Pending { storage: Arc::clone(storage), key, in_flight })
    }

    /// The entries of this kind, of any age: for who cannot wait for a sweep, and knows that none of their work goes
    /// on. What cannot be read is left to the sweep, which reports it.
    pub async fn pending(&self, storage: &Arc<dyn Storage>) -> Result<Vec<(T, Pending)>, StorageError> {
        let log = WalLog::read(&**storage, usize::MAX).await?;
        let pending =
            |key: &String| Pending { storage: Arc::clone(storage), key: key.clone(), in_flight: None };
        Ok(self.readable(&log).map(|(key, _, data)| (data, pending(key))).collect())
    }

    /// Every entry of this kind that can be read, of any age.
    pub fn known(&self, log: &WalLog) -> impl Iterator<Item = T> {
        self.readable(log).map(|(_, _, data)| data)
    }

    /// The entries that a sweep should have done away with, and how old each is.
    pub fn overdue(&self, log: &WalLog) -> Vec<(T, Duration)> {
        let now = Utc::now().timestamp();
        let aged = self.readable(log).map(|(_, record, data)| (data, record.age(now)));
        aged.filter(|(_, age)| *age >= self.min_age).collect()
    }

    /// The entries of this kind that can be read, with their keys.
    fn readable<'a>(&self, log: &'a WalLog) -> impl Iterator<Item = (&'a String, &'a Record, T)> {
        let records = log.0.iter().filter_map(|(key, record)| Some((key, record.as_ref()?)));
        let ours = records.filter(|(_, record)| record.kind == self.name);
        ours.filter_map(|(key, record)| Some((key, record, T::deserialize(&record.data).ok()?)))
    }
}

impl WalLog {
    /// Looks at no more than `most` entries.
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

/// Where no entry stands yet.
pub fn new_key() -> String {
    format!("{PREFIX}{}", uuid::Uuid::new_v4())
}

impl Pending {
    /// Where it stands.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The work is done and recorded elsewhere, or undone: the entry goes. If this fails it may be tried again.
    pub async fn commit(&self) -> Result<(), StorageError> {
        self.storage.delete(&self.key).await?;
        if self.in_flight.is_some() {
            in_flight::forget(&self.key);
        }
        Ok(())
    }
}

impl<E: Send + Sync + 'static> Undo<E> {
    pub(super) fn new<T, Done, Err, F>(
        kind: &WalKind<T>,
        undo: impl Fn(Arc<E>, Arc<dyn Storage>, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<Done, Err>> + Send + 'static,
        Done: Into<Swept>,
        Err: Into<Error>,
    {
        let run = move |engine, (storage, data)| {
            let undoing = serde_json::from_value(data).map(|entry: T| undo(engine, storage, entry));
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
    /// How long ago it was written. If the clock jumped, an entry from the future is as old as it is early: else
    /// it would wait for the clock to come back.
    pub(super) fn age(&self, now: i64) -> Duration {
        Duration::from_secs(now.abs_diff(self.created_at))
    }
}
