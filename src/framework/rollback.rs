//! Vault's tick, once a minute: the engine's periodic work, then a sweep of the write-ahead log.
//!
//! # Guarantees
//! - One failure, even a panic, stops neither the sweep nor other entries.
//! - The sweep undoes the oldest entries first; entries that failed in the last tick come after all others.
//! - An entry is deleted only after its undo succeeded, or after it has waited for its kind's maximum age, which no wrong
//!   clock of this machine shortens. An unknown or unreadable entry stays and is reported.
//! - When the tick's time is up or Vault stops waiting, the sweep starts nothing more and cancels running undos.
//!
//! # Assumptions
//! - Vault makes one call at a time, once a minute, and waits 90 seconds.
//! - An undo may be cancelled and repeated. The engine's periodic work is not cancelled; it gets a deadline that
//!   leaves time for the sweep.
//! - Write-ahead entries are local storage, which the active node of a performance secondary may write. A node
//!   without writable storage does nothing.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use crate::logical::{Answer, Error, Kind, Request, Storage, StorageError, Writable};

use super::Backend;
use super::backend::{Engine, Tick};
use super::wal::{self, Record, Swept, Undo};

/// Time for a whole tick; the next tick continues the work.
const BUDGET: Duration = Duration::from_secs(75);
/// Part of that time for the engine's periodic work.
const PERIODIC_BUDGET: Duration = Duration::from_secs(50);
/// Number of entries that are undone concurrently.
const CONCURRENCY: usize = 4;
/// Number of failures that the error lists.
const MAX_REPORTED: usize = 10;

/// An entry to undo now.
struct Due<'a, E> {
    key: String,
    record: Record,
    undo: &'a Undo<E>,
}

impl<E: Engine> Backend<E> {
    /// Runs one tick.
    pub(super) async fn rollback(&self, request: Request) -> Answer {
        let deadline = Instant::now() + BUDGET;
        let writable = self.system().writable().await?;
        if writable == Writable::Nothing {
            return Ok(None);
        }
        let mut failures = self.periodic(&request, writable).await;
        failures.extend(self.sweep(&request, deadline).await);
        failures.retain(|error| !matches!(error.kind(), Kind::ReadOnly | Kind::UnsupportedOperation));
        summary(&failures).map_or(Ok(None), Err)
    }

    async fn periodic(&self, request: &Request, writable: Writable) -> Vec<Error> {
        let storage = Arc::clone(&request.storage);
        let deadline = Instant::now() + PERIODIC_BUDGET;
        let (mount_point, cancelled) = (request.mount_point.clone(), request.cancelled.clone());
        let tick = Tick { storage, mount_point, cancelled, deadline, writable };
        let periodic = async { Ok(self.engine().periodic(tick).await) };
        let failures = catch_panic(periodic).await.unwrap_or_else(|panicked| vec![panicked]);
        failures.into_iter().map(|error| error.about("periodic work")).collect()
    }

    /// Undoes every entry that is old enough.
    async fn sweep(&self, request: &Request, deadline: Instant) -> Vec<Error> {
        let is_last = self.is_last_tick().await;
        let mut failures = Vec::new();
        let due = self.due(request, deadline, is_last, &mut failures).await;
        self.undo_all(due, request, deadline, &mut failures).await;
        failures
    }

    async fn undo_all(
        &self,
        due: Vec<Due<'_, E>>,
        request: &Request,
        deadline: Instant,
        failures: &mut Vec<Error>,
    ) {
        let attempts = due.into_iter().map(|due| {
            async {
                let key = due.key.clone();
                self.attempt(due, request, deadline).await.map_err(|error| (key, error))
            }
            .boxed()
        });
        let attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        let failed: Vec<_> = attempts.collect::<Vec<_>>().await.into_iter().filter_map(Result::err).collect();
        let (keys, errors): (HashSet<_>, Vec<_>) = failed.into_iter().unzip();
        *self.failed.lock() = keys;
        failures.extend(errors);
    }

    /// The entries to undo, oldest first.
    async fn due(
        &self,
        request: &Request,
        deadline: Instant,
        is_last: bool,
        failures: &mut Vec<Error>,
    ) -> Vec<Due<'_, E>> {
        let names = request.storage.list(wal::PREFIX).await;
        let names = names.unwrap_or_else(|error| {
            failures.push(Error::from(error).about("the write-ahead log"));
            Vec::new()
        });
        let immediate = request.data.contains_key("immediate") || is_last;
        let mut due = Vec::new();
        for name in names {
            if is_over(request, deadline) {
                break;
            }
            let key = format!("{}{name}", wal::PREFIX);
            match self.examine(&key, &request.storage, immediate).await {
                Ok(entry) => due.extend(entry),
                Err(error) => failures.push(error),
            }
        }
        // Entries that failed in the last tick come last, so they do not delay the others.
        let failed = self.failed.lock().clone();
        due.sort_by_key(|due| (failed.contains(&due.key), due.record.created_at, due.key.clone()));
        due
    }

    /// True if the mount is being unmounted. Its storage is deleted too, so young entries are undone now.
    async fn is_last_tick(&self) -> bool {
        self.system().tainted().await.unwrap_or(false)
    }

    /// The entry, if it is old enough.
    async fn examine(
        &self,
        key: &str,
        storage: &Arc<dyn Storage>,
        immediate: bool,
    ) -> Result<Option<Due<'_, E>>, Error> {
        let entry = storage.get(key).await.map_err(|error| Error::from(error).about(key))?;
        let Some(entry) = entry else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else {
            return Err(Error::internal("it is no write-ahead entry").about(key));
        };
        let Some(undo) = self.wal.get(record.kind.as_str()) else {
            return Err(Error::internal(format!("its kind {:?} is unknown", record.kind)).about(key));
        };
        let is_due = immediate || record.age(Utc::now().timestamp()) >= undo.min_age;
        Ok(is_due.then(|| Due { key: key.to_owned(), record, undo }))
    }

    /// Undoes one entry and deletes it, unless time is up.
    async fn attempt(&self, due: Due<'_, E>, request: &Request, deadline: Instant) -> Result<(), Error> {
        if is_over(request, deadline) {
            return Ok(());
        }
        let Due { key, record, undo } = due;
        let now = Utc::now().min(self.engine.surely_passed());
        let is_over_age = record.is_older(undo.max_age, now.timestamp());
        let entry = (Arc::clone(&request.storage), key.clone(), record.data);
        let undoing = async { (undo.run)(self.engine(), entry).await };
        let undone = tokio::select! {
            undone = catch_panic(undoing) => undone,
            () = tokio::time::sleep_until(deadline) => Err(Error::internal("it took too long")),
            () = request.cancelled.cancelled() => Err(Error::internal("Vault stopped waiting")),
        };
        let deleted = match undone {
            Ok(Swept::Waits) if !is_over_age => Ok(()),
            Ok(swept) => {
                if swept == Swept::Waits {
                    tracing::warn!(kind = %record.kind, "{key} is forgotten: for too long nothing could undo it");
                }
                request.storage.delete(&key).await.map_err(StorageError::into)
            }
            Err(error) => Err(error),
        };
        deleted.map_err(|error| error.about(&format!("{key} ({})", record.kind)))
    }
}

/// True if the next tick must continue the work.
fn is_over(request: &Request, deadline: Instant) -> bool {
    request.cancelled.is_cancelled() || Instant::now() >= deadline
}

/// Turns a panic into an error.
async fn catch_panic<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("it panicked")))
}

/// One error for all failures. Only Vault's log shows it.
fn summary(failures: &[Error]) -> Option<Error> {
    let told: Vec<&str> = failures.iter().take(MAX_REPORTED).map(Error::message).collect();
    let details: Vec<&str> = failures.iter().take(MAX_REPORTED).filter_map(Error::detail).collect();
    if told.is_empty() {
        return None;
    }
    let more = if failures.len() > MAX_REPORTED { "; and more" } else { "" };
    let error = Error::internal(format!("{} failed: {}{more}", failures.len(), told.join("; ")));
    Some(if details.is_empty() { error } else { error.with_detail(details.join("; ")) })
}
