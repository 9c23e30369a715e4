//! Write-ahead entries of windows of other processes: of a process that died, or of an earlier leader. `own.rs` handles the
//! windows of this process.
//!
//! This process does not know which requests of the window created something. So it looks up all names with the window's
//! id, twice:
//! 1. 3 minutes after the mount is initialized, when the other process' requests have ended ([`settles_after`]). A listing
//!    then shows what OpenAI created for them.
//! 2. 8 minutes after the mount is initialized. OpenAI may carry out a request late, and a listing may lag.
//!
//! An entry that appears later counts from the tick that first finds the entry.
//!
//! *Guarantees:* the entry is deleted only after two look-ups that settled everything. A listing counts only if it began
//! after the look-up was due. No adjustable clock decides any of this.
//!
//! *Assumption:* Vault sets up a new instance of the engine on the node that becomes the leader. So an entry that an
//! instance finds is of another process, unless the instance itself opened the window.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::look_up::{Batch, Earlier, LookUp, Outcome};
use crate::engine::accounts::first_seen::settles_after;
use crate::engine::config::clients;
use crate::engine::failpoint::{failpoint, shortened};
use crate::engine::{Engine, Error, fingerprint};
use crate::framework::{Swept, WAL_PREFIX};
use crate::logical::{Storage, StorageError};

/// Time between the first and the second look-up of an entry of another process.
const SECOND_LOOK_UP_DELAY: Duration = Duration::from_secs(300);
/// Interval of further look-ups while storage is outdated.
const OUTDATED_INTERVAL: Duration = Duration::from_secs(3600);
/// Time for which an ended credential is remembered. A long listing takes several ticks.
const REMEMBERED_FOR: Duration = Duration::from_secs(900);
/// Time until the next look-up after one with an unsettled outcome.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Entries of other processes, as far as this process knows them. A restart loses this state without harm.
#[derive(Default)]
pub(in crate::engine) struct Recovery {
    /// By storage key.
    entries: Mutex<HashMap<String, KnownEntry>>,
    /// The credentials that this process ended while it knew such entries: the time of the end by the monotonic clock, by
    /// the fingerprint of the name.
    ended: Mutex<HashMap<u64, Duration>>,
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

    /// Notes that OpenAI ended this credential for the mount. OpenAI may list the credential a little longer, and the
    /// ledger has no record of it.
    pub(in crate::engine) fn note_ended(&self, name: &str, now: Duration) {
        if !self.entries.lock().is_empty() {
            self.ended.lock().insert(fingerprint::number(name), now);
        }
    }

    /// True if this process ended the credential a moment ago.
    pub(super) fn has_ended(&self, name: &str) -> bool {
        self.ended.lock().contains_key(&fingerprint::number(name))
    }

    /// Forgets ends that no listing shows any more, and frees their memory.
    pub(super) fn drop_old_ends(&self, now: Duration) {
        let mut ended = self.ended.lock();
        ended.retain(|_, at| now.saturating_sub(*at) < REMEMBERED_FOR);
        ended.shrink_to_fit();
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

    /// Forgets an entry that is about to be deleted.
    fn forget(&self, key: &str) {
        let mut entries = self.entries.lock();
        entries.remove(key);
        if entries.is_empty() {
            *entries = HashMap::new();
            *self.ended.lock() = HashMap::new();
        }
    }
}

/// Learns the stored entries when the mount is set up, so that their look-ups are due early.
pub(in crate::engine) async fn begin(engine: &Engine) -> Result<(), StorageError> {
    let now = engine.clock.monotonic();
    for name in engine.storage.list(WAL_PREFIX).await? {
        engine.creds.recovery.know(&format!("{WAL_PREFIX}{name}"), now);
    }
    Ok(())
}

/// The sweep of an entry of another process. The entry is deleted after two look-ups that settled everything.
pub(super) async fn sweep(engine: &Engine, storage: &dyn Storage, batch: &Batch) -> Result<Swept, Error> {
    let (key, now) = (&batch.entry, engine.clock.monotonic());
    let entry = engine.creds.recovery.know(key, now);
    let Some(since) = entry.due(now) else { return Ok(Swept::Waits) };
    let organization = &batch.target.organization_id;
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
        engine.creds.recovery.forget(key);
        return Ok(Swept::Done);
    }
    engine.creds.recovery.record_outcome(key, outcome, now);
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
                (self.earlier, self.unknown) = (Earlier { found_unknown: false, keyless }, 0);
                self.not_before = now + wait;
            }
            Outcome::MaybeOutdated => {
                (self.earlier.found_unknown, self.not_before) = (true, now + RETRY_INTERVAL);
            }
            Outcome::Outdated { unknown, keyless } => {
                (self.looked_up, self.unknown) = (Some(now), unknown);
                self.earlier = Earlier { found_unknown: true, keyless };
            }
        }
    }
}
