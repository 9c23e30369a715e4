//! The write-ahead log: a record of what is about to be done elsewhere, so that a crash leaves nothing behind.
//!
//! # Guarantees
//! An entry is stored before [`WalKind::begin`] returns, and goes only by [`Pending::commit`] or after its work was
//! undone.
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

/// Where entries are kept, under random names, as Vault's framework keeps them (PROTOCOL 8.9).
pub const PREFIX: &str = "wal/";

/// A kind of entry: what it holds and how old it must be before its work is undone.
#[derive(Debug)]
pub struct WalKind<T> {
    name: &'static str,
    min_age: Duration,
    entry: PhantomData<fn() -> T>,
}

/// An entry whose work goes on. Dropped without [`Pending::commit`] it stays, and a sweep undoes the work.
#[must_use = "unless it is committed the entry stays, and a sweep undoes the work"]
pub struct Pending {
    storage: Arc<dyn Storage>,
    key: String,
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
    pub(super) run: Handler<E, (Arc<dyn Storage>, Value), ()>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync> WalKind<T> {
    /// Entries of this name. Those younger than `min_age` are left alone, as their work may go on.
    pub const fn new(name: &'static str, min_age: Duration) -> Self {
        Self { name, min_age, entry: PhantomData }
    }

    /// The kind's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How old an entry must be.
    pub const fn min_age(&self) -> Duration {
        self.min_age
    }

    /// Writes an entry before the work begins. It must hold no secret.
    pub async fn begin(&self, storage: &Arc<dyn Storage>, entry: &T) -> Result<Pending, StorageError> {
        let key = format!("{PREFIX}{}", uuid::Uuid::new_v4());
        let record = Record { kind: self.name.to_owned(), data: entry, created_at: Utc::now().timestamp() };
        let value = serde_json::to_vec(&record)
            .map_err(|error| StorageError::Malformed { key: key.clone(), reason: error.to_string() })?;
        storage.put(Entry { key: key.clone(), value, seal_wrap: false }).await?;
        Ok(Pending { storage: Arc::clone(storage), key })
    }
}

impl Pending {
    /// The work is done and recorded elsewhere, or undone: the entry goes.
    pub async fn commit(self) -> Result<(), StorageError> {
        self.storage.delete(&self.key).await
    }
}

impl<E: Send + Sync + 'static> Undo<E> {
    pub(super) fn new<T, Err, F>(
        kind: &WalKind<T>,
        undo: impl Fn(Arc<E>, Arc<dyn Storage>, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<(), Err>> + Send + 'static,
        Err: Into<Error>,
    {
        let run = move |engine, (storage, data)| {
            let undoing = serde_json::from_value(data).map(|entry: T| undo(engine, storage, entry));
            async move {
                match undoing {
                    Ok(undoing) => undoing.await.map_err(Into::into),
                    Err(_) => Err(Error::internal("its data is not what this version expects")),
                }
            }
        };
        Self { min_age: kind.min_age, run: boxed(run) }
    }
}

impl<T> Record<T> {
    /// How long ago it was written. If the clock jumped, an entry from the future is as old as it is early: else
    /// it would wait for the clock to come back.
    pub(super) fn age(&self, now: i64) -> Duration {
        Duration::from_secs(now.abs_diff(self.created_at))
    }
}
