//! Vault's tick, once a minute: the engine's periodic work, then a sweep of the write-ahead log.
//!
//! # Guarantees
//! One failure, even a panic, stops neither the sweep nor another entry. Entries are taken oldest first. An entry goes
//! only after its work was undone and nothing in this process [holds](Engine::holds) it, or when it has waited for what
//! would undo it for as long as its kind may; one of an unknown kind, or that cannot be read, is left and reported. The
//! sweep begins nothing more, and cuts off what it began, when the tick's time is up or Vault stops waiting.
//!
//! # Assumptions
//! Vault calls once a minute, one call at a time, and waits 90 seconds. Undoing may be cut off and repeated; the
//! engine's periodic work is not cut off but told its deadline, which leaves the sweep its share. Write-ahead entries
//! are local storage, which the active node of a performance secondary writes, too; a node that may write nothing does
//! nothing.

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

/// Time for a whole tick; what is left then waits for the next one.
const BUDGET: Duration = Duration::from_secs(75);
/// The engine's share of it.
const PERIODIC_BUDGET: Duration = Duration::from_secs(50);
/// So many entries are undone side by side.
const ABREAST: usize = 4;
/// So many failures are spelled out.
const TOLD: usize = 10;

/// An entry that is to be undone now.
struct Due<'a, E> {
    key: String,
    record: Record,
    undo: &'a Undo<E>,
    /// Work that counts on it goes on.
    held: bool,
}

impl<E: Engine> Backend<E> {
    /// One tick.
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
        let failures = contained(periodic).await.unwrap_or_else(|panicked| vec![panicked]);
        failures.into_iter().map(|error| error.about("periodic work")).collect()
    }

    /// Undoes the work of every entry that is old enough.
    async fn sweep(&self, request: &Request, deadline: Instant) -> Vec<Error> {
        let mut failures = Vec::new();
        let due = self.due(request, deadline, &mut failures).await;
        let attempts = due.into_iter().map(|due| self.attempt(due, request, deadline).boxed());
        let attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(ABREAST);
        failures.extend(attempts.collect::<Vec<_>>().await.into_iter().filter_map(Result::err));
        failures
    }

    /// The entries to undo, oldest first.
    async fn due(&self, request: &Request, deadline: Instant, failures: &mut Vec<Error>) -> Vec<Due<'_, E>> {
        let names = request.storage.list(wal::PREFIX).await;
        let names = names.unwrap_or_else(|error| {
            failures.push(Error::from(error).about("the write-ahead log"));
            Vec::new()
        });
        let immediate = request.data.contains_key("immediate") || self.is_last_tick().await;
        let mut due = Vec::new();
        for name in names {
            if is_over(request, deadline) {
                break;
            }
            match self.examine(format!("{}{name}", wal::PREFIX), &request.storage, immediate).await {
                Ok(entry) => due.extend(entry),
                Err(error) => failures.push(error),
            }
        }
        due.sort_by(|a, b| (a.record.created_at, &a.key).cmp(&(b.record.created_at, &b.key)));
        due
    }

    /// Whether the mount is being unmounted: its storage goes with it, so what is young is undone now or never.
    async fn is_last_tick(&self) -> bool {
        self.system().tainted().await.unwrap_or(false)
    }

    async fn examine(
        &self,
        key: String,
        storage: &Arc<dyn Storage>,
        immediate: bool,
    ) -> Result<Option<Due<'_, E>>, Error> {
        // Asked first: what is not held then is not written any more.
        let held = self.engine.holds(&key);
        let entry = storage.get(&key).await.map_err(|error| Error::from(error).about(&key))?;
        let Some(entry) = entry else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else {
            return Err(Error::internal("it is no write-ahead entry").about(&key));
        };
        let Some(undo) = self.wal.get(record.kind.as_str()) else {
            return Err(Error::internal(format!("its kind {:?} is unknown", record.kind)).about(&key));
        };
        let due = immediate || !held && record.age(Utc::now().timestamp()) >= undo.min_age;
        Ok(due.then_some(Due { key, record, undo, held }))
    }

    /// Undoes one entry's work and deletes the entry, unless time is up.
    async fn attempt(&self, due: Due<'_, E>, request: &Request, deadline: Instant) -> Result<(), Error> {
        if is_over(request, deadline) {
            return Ok(());
        }
        let Due { key, record, undo, held } = due;
        let age = record.age(Utc::now().timestamp());
        let undoing = async { (undo.run)(self.engine(), (Arc::clone(&request.storage), record.data)).await };
        let undone = tokio::select! {
            undone = contained(undoing) => undone,
            () = tokio::time::sleep_until(deadline) => Err(Error::internal("it took too long")),
            () = request.cancelled.cancelled() => Err(Error::internal("Vault stopped waiting")),
        };
        let deleted = match undone {
            Ok(_) if held => Ok(()),
            Ok(Swept::Waits) if age <= undo.max_age => Ok(()),
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

/// Whether the rest must wait for the next tick.
fn is_over(request: &Request, deadline: Instant) -> bool {
    request.cancelled.is_cancelled() || Instant::now() >= deadline
}

/// Makes a panic that one's error.
async fn contained<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("it panicked")))
}

/// One error for all failures; only Vault's log shows it.
fn summary(failures: &[Error]) -> Option<Error> {
    let told: Vec<&str> = failures.iter().take(TOLD).map(Error::message).collect();
    let details: Vec<&str> = failures.iter().take(TOLD).filter_map(Error::detail).collect();
    if told.is_empty() {
        return None;
    }
    let more = if failures.len() > TOLD { "; and more" } else { "" };
    let error = Error::internal(format!("{} failed: {}{more}", failures.len(), told.join("; ")));
    Some(if details.is_empty() { error } else { error.with_detail(details.join("; ")) })
}
