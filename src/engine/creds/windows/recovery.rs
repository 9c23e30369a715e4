//! Look-ups of write-ahead entries: when they run, and when an entry is deleted.
//!
//! *Guarantees:* of a window of this process, only unsettled names are looked up, each [`settles_after`] after its
//! request. An entry of another process (a crash, another leader) is looked up when this process has known it for as
//! long, and again [`SECOND_LOOK_UP_DELAY`] later. A listing counts only if it began after the look-up was due. No
//! adjustable clock decides any of this.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::look_up::{Batch, Earlier, LookUp, Outcome};
use super::open::DueWindow;
use crate::engine::accounts::first_seen::settles_after;
use crate::engine::config::clients;
use crate::engine::creds::ledger_worker::concerns_all;
use crate::engine::failpoint::{failpoint, shortened};
use crate::engine::{Engine, Error};
use crate::framework::{Swept, Tick, WAL_PREFIX};
use crate::logical::{Storage, StorageError};

/// Time between the first and the second look-up of an entry of another process.
const SECOND_LOOK_UP_DELAY: Duration = Duration::from_secs(300);
/// Interval of further look-ups while storage is outdated.
const OUTDATED_INTERVAL: Duration = Duration::from_secs(3600);
/// Time until the next look-up after one with an unsettled outcome.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Number of windows that are looked up concurrently.
const CONCURRENCY: usize = 16;
/// Time for which a tainted mount waits for its requests.
const TAINTED_WAIT: Duration = Duration::from_secs(60);

/// Entries of other processes, as far as this process knows them. A restart loses this state without harm.
#[derive(Default)]
pub(in crate::engine) struct Recovery {
    /// By storage key.
    entries: Mutex<HashMap<String, KnownEntry>>,
}

/// An entry of another process. Times are by the monotonic clock.
#[derive(Clone, Debug, Default)]
struct KnownEntry {
    /// Time since when this process has known the entry.
    known_since: Duration,
    /// Time of the last look-up that settled everything or found storage outdated.
    looked_up: Option<Duration>,
    /// The next look-up needs a listing that began at this time or later.
    not_before: Duration,
    earlier: Earlier,
    /// Number of credentials that storage does not know, if storage is outdated.
    unknown: usize,
}

impl Recovery {
    /// Number of credentials at OpenAI that outdated storage does not know.
    pub(in crate::engine) fn unknown_credentials(&self) -> usize {
        self.entries.lock().values().map(|entry| entry.unknown).max().unwrap_or_default()
    }

    /// The state of an entry, which is known from now on.
    fn know(&self, key: &str, now: Duration) -> KnownEntry {
        let new = KnownEntry { known_since: now, ..KnownEntry::default() };
        self.entries.lock().entry(key.to_owned()).or_insert(new).clone()
    }

    fn record_outcome(&self, key: &str, outcome: Outcome, now: Duration) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.record_outcome(outcome, now);
        }
    }

    pub(super) fn forget(&self, key: &str) {
        self.retain(|known| known != key);
    }

    /// Forgets all other entries.
    fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut entries = self.entries.lock();
        entries.retain(|key, _| keep(key));
        if entries.is_empty() {
            *entries = HashMap::new();
        }
    }
}

/// Learns the stored entries when the mount is set up, so that their look-ups are due early.
pub(in crate::engine) async fn begin(engine: &Engine) -> Result<(), StorageError> {
    let now = engine.clock.monotonic();
    for name in engine.storage.list(WAL_PREFIX).await? {
        engine.recovery.know(&format!("{WAL_PREFIX}{name}"), now);
    }
    Ok(())
}

/// Part of the tick: works on the windows of this process.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let is_tainted = engine.system.tainted().await?;
    if is_tainted {
        let wait = timeout_at(Instant::now() + TAINTED_WAIT, engine.windows.wait_until_empty());
        // After a timeout the entries of the remaining requests stay.
        let _ = wait.await;
    }
    forget_deleted(engine, &*tick.storage).await?;
    // Concurrently, so that a project that OpenAI does not list delays no other window.
    let due = engine.windows.due(is_tainted).into_iter();
    let work = due.map(|due| work_off(engine, &*tick.storage, due, is_tainted).boxed()).collect::<Vec<_>>();
    let mut work = stream::iter(work).buffer_unordered(CONCURRENCY);
    let mut failure = None;
    // The next tick repeats interrupted work. A tainted mount has no next tick.
    let deadline = if is_tainted { tick.deadline + TAINTED_WAIT } else { tick.deadline };
    while let Ok(Some(result)) = timeout_at(deadline, work.next()).await {
        match result {
            Ok(()) => {}
            Err(error) if concerns_all(engine, &error) => return Err(error),
            Err(error) => failure = Some(error),
        }
        if tick.cancelled.is_cancelled() {
            break;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Forgets entries that another node has deleted.
async fn forget_deleted(engine: &Engine, storage: &dyn Storage) -> Result<(), Error> {
    if !engine.recovery.entries.lock().is_empty() {
        let names: HashSet<_> = storage.list(WAL_PREFIX).await?.into_iter().collect();
        engine.recovery.retain(|key| key.strip_prefix(WAL_PREFIX).is_some_and(|name| names.contains(name)));
    }
    Ok(())
}

/// Looks up the unsettled names of a window, and deletes the entry once nothing needs the entry.
async fn work_off(
    engine: &Engine,
    storage: &dyn Storage,
    due: DueWindow,
    is_tainted: bool,
) -> Result<(), Error> {
    let DueWindow { window, unsettled, listed_since } = due;
    if !unsettled.is_empty() {
        if is_tainted {
            engine.clock.pause(listed_since.saturating_sub(engine.clock.monotonic())).await;
        }
        let batch = Batch::of(&window);
        let organization = &batch.triple.organization_id;
        // Without a client for this organization the work waits for another configuration.
        let Some(client) = clients::client_in_reach(engine, storage, organization).await? else {
            return Ok(());
        };
        let look_up = LookUp::new(engine, storage, &client, &batch, listed_since);
        if !look_up.of_names(&unsettled).await? {
            engine.windows.postpone(&window, &unsettled);
            return Ok(());
        }
    }
    if engine.windows.settle(&window, &unsettled, is_tainted) {
        failpoint!("sweep.own_window_over");
        storage.delete(&window.key()).await?;
        engine.windows.remove(&window);
    }
    Ok(())
}

/// The sweep of an entry of another process. The entry is deleted after two look-ups that settled everything.
pub(super) async fn sweep(engine: &Engine, storage: &dyn Storage, batch: &Batch) -> Result<Swept, Error> {
    let (key, now) = (&batch.entry, engine.clock.monotonic());
    let entry = engine.recovery.know(key, now);
    let Some(since) = entry.due(now) else { return Ok(Swept::Waits) };
    let organization = &batch.triple.organization_id;
    let Some(client) = clients::client_in_reach(engine, storage, organization).await? else {
        return Ok(Swept::Waits);
    };

    let outcome = match LookUp::new(engine, storage, &client, batch, since).of_all(&entry.earlier).await? {
        // Credentials of other clusters of this mount are unknown here as well, so they say nothing about storage.
        Outcome::Outdated { keyless, .. } if engine.system.is_shared().await? => {
            if keyless.is_empty() {
                Outcome::Settled
            } else {
                Outcome::Unsettled { keyless }
            }
        }
        outcome => outcome,
    };
    if matches!(outcome, Outcome::Settled) && entry.is_last(since) {
        failpoint!("sweep.window_over");
        engine.recovery.forget(key);
        return Ok(Swept::Done);
    }
    engine.recovery.record_outcome(key, outcome, now);
    Ok(Swept::Waits)
}

fn second_look_up_delay() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", SECOND_LOOK_UP_DELAY)
}

impl KnownEntry {
    /// Earliest start of the listing for the look-up that is due now; `None` if no look-up is due.
    fn due(&self, now: Duration) -> Option<Duration> {
        let (first, second) = (self.first_due(), self.second_due());
        let due = match self.looked_up {
            Some(looked_up) if self.unknown > 0 => looked_up + OUTDATED_INTERVAL,
            Some(_) => second,
            None if now >= second => second,
            None => first,
        };
        let due = due.max(self.not_before);
        (now >= due).then_some(due)
    }

    fn first_due(&self) -> Duration {
        self.known_since + settles_after()
    }

    fn second_due(&self) -> Duration {
        self.first_due() + second_look_up_delay()
    }

    /// True if a look-up with a listing since this time is the last one.
    fn is_last(&self, since: Duration) -> bool {
        since >= self.second_due()
    }

    fn record_outcome(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Settled => {
                (self.looked_up, self.earlier, self.unknown) = (Some(now), Earlier::default(), 0);
            }
            Outcome::Unsettled { keyless } => {
                let wait = if keyless.is_empty() { RETRY_INTERVAL } else { second_look_up_delay() };
                (self.earlier, self.unknown) = (Earlier { unknown: None, keyless }, 0);
                self.not_before = now + wait;
            }
            Outcome::MaybeOutdated { unknown } => {
                (self.earlier.unknown, self.not_before) = (Some(unknown), now + RETRY_INTERVAL);
            }
            Outcome::Outdated { unknown, keyless } => {
                (self.looked_up, self.unknown) = (Some(now), unknown.len());
                self.earlier = Earlier { unknown: Some(unknown), keyless };
            }
        }
    }
}
