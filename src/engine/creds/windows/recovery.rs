//! When write-ahead entries of credentials are looked up: after a crash, a failover, or a lost answer of OpenAI.
//!
//! *Guarantees:* of a window of this process only names that were left unsettled are looked up, each [`over_after`] its
//! request. An entry of another process is looked up when this one has known the entry for as long, and once more
//! [`AGAIN`] later. A listing proves something only if it began after that. No clock that people set decides any of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::look::{Batch, Before, Look, Looked};
use super::open::{Over, over_after};
use super::survey::Surveys;
use crate::engine::creds::removal::concerns_all;
use crate::engine::failpoint::{failpoint, shortened};
use crate::engine::{Engine, Error};
use crate::framework::{Swept, Tick, WAL_PREFIX};
use crate::logical::{Storage, StorageError};

/// An entry of another process is looked up a second time so long after the first.
const AGAIN: Duration = Duration::from_secs(300);
/// Where storage is not the newest, that is looked at anew so often.
const DOUBTED_FOR: Duration = Duration::from_secs(3600);
/// Between two looks where the first left something open.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);
/// So many windows are looked up side by side.
const CONCURRENCY: usize = 16;
/// As long as a mount that goes away waits for its requests.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Entries that others left, as this process knows them. All of it may be lost.
#[derive(Default)]
pub(in crate::engine) struct Recovery {
    pub(super) surveys: Surveys,
    /// By key.
    seen: Mutex<HashMap<String, Seen>>,
}

/// An entry of another process. Times are by the monotonic clock.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Since when it is known.
    first: Duration,
    /// When the last look that settled everything, or doubted storage, was over.
    looked: Option<Duration>,
    /// The next look needs a listing that began no earlier.
    not_before: Duration,
    before: Before,
    /// How many credentials two looks saw that storage does not know.
    strangers: usize,
}

impl Recovery {
    /// How many credentials at OpenAI storage should know and does not.
    pub(in crate::engine) fn strangers(&self) -> usize {
        self.seen().values().map(|seen| seen.strangers).max().unwrap_or_default()
    }

    /// The entry is there.
    fn know(&self, key: &str, now: Duration) -> Seen {
        self.seen().entry(key.to_owned()).or_insert(Seen { first: now, ..Seen::default() }).clone()
    }

    fn note(&self, key: &str, looked: Looked, now: Duration) {
        if let Some(seen) = self.seen().get_mut(key) {
            seen.looked(looked, now);
        }
    }

    pub(super) fn forget(&self, key: &str) {
        self.retain(|known| known != key);
    }

    /// Forgets the other entries, and everything that was listed once no entry is left to look up.
    fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut seen = self.seen();
        if seen.is_empty() {
            return;
        }
        seen.retain(|key, _| keep(key));
        if seen.is_empty() {
            *seen = HashMap::new();
            self.surveys.forget();
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entries that are there when the mount is set up are known from then on.
pub(in crate::engine) async fn begin(engine: &Engine) -> Result<(), StorageError> {
    let now = engine.clock.monotonic();
    for name in engine.storage.list(WAL_PREFIX).await? {
        engine.recovery.know(&format!("{WAL_PREFIX}{name}"), now);
    }
    Ok(())
}

/// Part of the tick: the windows of this process.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let mount_goes = engine.system.tainted().await?;
    if mount_goes {
        let wait = timeout_at(Instant::now() + LAST_WAIT, engine.windows.are_empty());
        // Those who stay longer are left to their entries.
        let _ = wait.await;
    }
    forget_gone(engine, &*tick.storage).await?;
    // Side by side: a project that OpenAI does not list keeps no other window from its turn.
    let over = engine.windows.over(mount_goes).into_iter();
    let ends = over.map(|over| end(engine, &*tick.storage, over, mount_goes).boxed()).collect::<Vec<_>>();
    let mut ends = stream::iter(ends).buffer_unordered(CONCURRENCY);
    let mut failure = None;
    // What is cut off is repeated by the next tick; a mount that goes away has none.
    let deadline = if mount_goes { tick.deadline + LAST_WAIT } else { tick.deadline };
    while let Ok(Some(ended)) = timeout_at(deadline, ends.next()).await {
        match ended {
            Ok(()) => {}
            Err(error) if concerns_all(&error) => return Err(error),
            Err(error) => failure = Some(error),
        }
        if tick.cancelled.is_cancelled() {
            break;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Forgets entries that somebody else has worked off, and listings that are of no use any more.
async fn forget_gone(engine: &Engine, storage: &dyn Storage) -> Result<(), Error> {
    engine.recovery.surveys.forget_old(engine.clock.monotonic());
    if !engine.recovery.seen().is_empty() {
        let names: HashSet<_> = storage.list(WAL_PREFIX).await?.into_iter().collect();
        engine.recovery.retain(|key| key.strip_prefix(WAL_PREFIX).is_some_and(|name| names.contains(name)));
    }
    Ok(())
}

/// Settles names that the window left, and deletes its entry once nothing needs it.
async fn end(engine: &Engine, storage: &dyn Storage, over: Over, mount_goes: bool) -> Result<(), Error> {
    let Over { window, unsettled, since } = over;
    if !unsettled.is_empty() {
        if mount_goes {
            engine.clock.pause(since.saturating_sub(engine.clock.monotonic())).await;
        }
        let batch = Batch::of(&window);
        let organization = &batch.triple.organization_id;
        let Some(client) = engine.client_in_reach(storage, organization).await? else { return Ok(()) };
        if !Look::new(engine, storage, &client, &batch, since).at_unsettled(&unsettled).await? {
            engine.windows.put_off(&window, &unsettled);
            return Ok(());
        }
    }
    if engine.windows.settle(&window, &unsettled, mount_goes) {
        failpoint!("sweep.own_window_over");
        storage.delete(&window.key()).await?;
        engine.windows.forget(&window);
    }
    Ok(())
}

/// The sweep of an entry that another process left.
pub(super) async fn sweep(engine: &Engine, storage: &dyn Storage, batch: &Batch) -> Result<Swept, Error> {
    let (key, now) = (&batch.entry, engine.clock.monotonic());
    let seen = engine.recovery.know(key, now);
    let Some(since) = seen.due(now) else { return Ok(Swept::Waits) };
    let organization = &batch.triple.organization_id;
    let Some(client) = engine.client_in_reach(storage, organization).await? else { return Ok(Swept::Waits) };

    let looked = match Look::new(engine, storage, &client, batch, since).at_all(&seen.before).await? {
        // Credentials of the other clusters that share the mount look alike: nothing is said of them.
        Looked::Doubted { keyless, .. } if engine.system.is_shared().await? => {
            if keyless.is_empty() {
                Looked::Settled
            } else {
                Looked::Open { keyless }
            }
        }
        looked => looked,
    };
    if matches!(looked, Looked::Settled) && seen.is_last(since) {
        failpoint!("sweep.window_over");
        engine.recovery.forget(key);
        return Ok(Swept::Done);
    }
    engine.recovery.note(key, looked, now);
    Ok(Swept::Waits)
}

fn again() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", AGAIN)
}

impl Seen {
    /// Since when a listing must have begun for the look that is due now; none if none is.
    fn due(&self, now: Duration) -> Option<Duration> {
        let first = self.first + over_after();
        let last = first + again();
        let due = match self.looked {
            Some(looked) if self.strangers > 0 => looked + DOUBTED_FOR,
            Some(_) => last,
            None if now >= last => last,
            None => first,
        };
        let due = due.max(self.not_before);
        (now >= due).then_some(due)
    }

    /// Whether no look is needed after one with a listing of that time.
    fn is_last(&self, since: Duration) -> bool {
        since >= self.first + over_after() + again()
    }

    fn looked(&mut self, looked: Looked, now: Duration) {
        match looked {
            Looked::Settled => {
                (self.looked, self.before, self.strangers) = (Some(now), Before::default(), 0);
            }
            Looked::Open { keyless } => {
                self.not_before = now + if keyless.is_empty() { BETWEEN_LOOKS } else { again() };
                (self.before, self.strangers) = (Before { suspects: None, keyless }, 0);
            }
            Looked::Suspected(suspects) => {
                (self.before.suspects, self.not_before) = (Some(suspects), now + BETWEEN_LOOKS);
            }
            Looked::Doubted { strangers, keyless } => {
                (self.looked, self.strangers) = (Some(now), strangers.len());
                self.before = Before { suspects: Some(strangers), keyless };
            }
        }
    }
}
