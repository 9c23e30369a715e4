//! Vault's tick, once a minute: the engine's periodic work, then a sweep of the write-ahead log.
//!
//! # Guarantees
//! One failure, even a panic, stops neither the sweep nor another entry. Entries are taken oldest first, those that failed in
//! the last tick after all others. No entry is swept while somebody in this process is at work on it or
//! [holds](Engine::holds) it, whatever its age: where the mount goes away the sweep waits for them. An entry goes
//! only after its work was undone, or when it has waited for what
//! would undo it for as long as its kind may; one of an unknown kind, or that cannot be read, is left and reported. The
//! sweep begins nothing more, and cuts off what it began, when the tick's time is up or Vault stops waiting.
//!
//! # Assumptions
//! Vault calls once a minute, one call at a time, and waits 90 seconds. Undoing may be cut off and repeated; the
//! engine's periodic work is not cut off but told its deadline, which leaves the sweep its share. Write-ahead entries
//! are local storage, which the active node of a performance secondary writes, too; a node that may write nothing does
//! nothing.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use crate::logical::{Answer, Error, Kind, Request, Storage, StorageError, Writable};

use super::Backend;
use super::backend::{Engine, Tick};
use super::in_flight;
use super::wal::{self, Record, Swept, Undo};

/// Time for a whole tick; what is left then waits for the next one.
const BUDGET: Duration = Duration::from_secs(75);
/// The engine's share of it.
const PERIODIC_BUDGET: Duration = Duration::from_secs(50);
/// So many entries are undone side by side.
const CONCURRENCY: usize = 4;
/// How often it is looked whether those at work have come to an end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// What the sweep keeps of its time, while it waits for them, for undoing what they leave.
const UNDO_RESERVE: Duration = Duration::from_secs(15);
/// So many failures are spelled out.
const MAX_REPORTED: usize = 10;

/// An entry that is to be undone now.
struct Due<'a, E> {
    key: String,
    record: Record,
    undo: &'a Undo<E>,
}

/// What is to be done about an entry.
enum Found<'a, E> {
    Due(Due<'a, E>),
    /// Somebody in this process is at work on it.
    Held,
    Young,
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
        let failures = catch_panic(periodic).await.unwrap_or_else(|panicked| vec![panicked]);
        failures.into_iter().map(|error| error.about("periodic work")).collect()
    }

    /// Undoes the work of every entry that is old enough.
    async fn sweep(&self, request: &Request, deadline: Instant) -> Vec<Error> {
        let is_last = self.is_last_tick().await;
        let mut failures = Vec::new();
        let (due, held) = self.due(request, deadline, is_last, &mut failures).await;
        self.undo_all(due, request, deadline, &mut failures).await;
        if is_last && !held.is_empty() {
            self.wait_for_release(&held, request, deadline).await;
            let (due, held) = self.due(request, deadline, is_last, &mut Vec::new()).await;
            self.undo_all(due, request, deadline, &mut failures).await;
            failures.extend(
                held.iter().map(|key| Error::internal("a request is still at work on it").about(key)),
            );
        }
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
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        failures.extend(errors);
    }

    /// Waits until nobody is at work on these any more, or until there is just time left to undo something.
    async fn wait_for_release(&self, held: &[String], request: &Request, deadline: Instant) {
        while Instant::now() + UNDO_RESERVE < deadline
            && !request.cancelled.is_cancelled()
            && held.iter().any(|key| self.is_held(key))
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn is_held(&self, key: &str) -> bool {
        in_flight::is_in_flight(key) || self.engine.holds(key)
    }

    /// The entries to undo, oldest first, and the keys of those that somebody is at work on.
    async fn due(
        &self,
        request: &Request,
        deadline: Instant,
        is_last: bool,
        failures: &mut Vec<Error>,
    ) -> (Vec<Due<'_, E>>, Vec<String>) {
        let names = request.storage.list(wal::PREFIX).await;
        let names = names.unwrap_or_else(|error| {
            failures.push(Error::from(error).about("the write-ahead log"));
            Vec::new()
        });
        let immediate = request.data.contains_key("immediate") || is_last;
        let (mut due, mut held) = (Vec::new(), Vec::new());
        for name in names {
            if is_over(request, deadline) {
                break;
            }
            let key = format!("{}{name}", wal::PREFIX);
            match self.examine(&key, &request.storage, immediate).await {
                Ok(Found::Due(entry)) => due.push(entry),
                Ok(Found::Held) => held.push(key),
                Ok(Found::Young) => {}
                Err(error) => failures.push(error),
            }
        }
        // What failed a minute ago does not keep the others from their turn.
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        due.sort_by_key(|due| (failed.contains(&due.key), due.record.created_at, due.key.clone()));
        (due, held)
    }

    /// Whether the mount is being unmounted: its storage goes with it, so what is young is undone now or never.
    async fn is_last_tick(&self) -> bool {
        self.system().tainted().await.unwrap_or(false)
    }

    async fn examine(
        &self,
        key: &str,
        storage: &Arc<dyn Storage>,
        immediate: bool,
    ) -> Result<Found<'_, E>, Error> {
        // Asked first: what is not held then is not written any more.
        let held = self.is_held(key);
        let entry = storage.get(key).await.map_err(|error| Error::from(error).about(key))?;
        let Some(entry) = entry else { return Ok(Found::Young) };
        let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else {
            return Err(Error::internal("it is no write-ahead entry").about(key));
        };
        let Some(undo) = self.wal.get(record.kind.as_str()) else {
            return Err(Error::internal(format!("its kind {:?} is unknown", record.kind)).about(key));
        };
        let age = record.age(Utc::now().timestamp());
        // A clock that jumps makes nothing old that this process wrote a moment ago.
        let age = in_flight::age(key).map_or(age, |known| known.min(age));
        Ok(match (held, immediate || age >= undo.min_age) {
            (true, _) => Found::Held,
            (false, true) => Found::Due(Due { key: key.to_owned(), record, undo }),
            (false, false) => Found::Young,
        })
    }

    /// Undoes one entry's work and deletes the entry, unless time is up.
    async fn attempt(&self, due: Due<'_, E>, request: &Request, deadline: Instant) -> Result<(), Error> {
        if is_over(request, deadline) {
            return Ok(());
        }
        let Due { key, record, undo } = due;
        let age = record.age(Utc::now().timestamp());
        let undoing = async { (undo.run)(self.engine(), (Arc::clone(&request.storage), record.data)).await };
        let undone = tokio::select! {
            undone = catch_panic(undoing) => undone,
            () = tokio::time::sleep_until(deadline) => Err(Error::internal("it took too long")),
            () = request.cancelled.cancelled() => Err(Error::internal("Vault stopped waiting")),
        };
        let deleted = match undone {
            Ok(Swept::Waits) if age <= undo.max_age => Ok(()),
            Ok(swept) => {
                if swept == Swept::Waits {
                    tracing::warn!(kind = %record.kind, "{key} is forgotten: for too long nothing could undo it");
                }
                request
                    .storage
                    .delete(&key)
                    .await
                    .map(|()| in_flight::forget(&key))
                    .map_err(StorageError::into)
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
async fn catch_panic<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("it panicked")))
}

/// One error for all failures; only Vault's log shows it.
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
