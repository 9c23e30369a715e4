//! The number of each role's live credentials: those that the ledger has, whose end has not come and which OpenAI has not
//! ended before.
//!
//! *Cost:* memory holds 16 bytes for each live credential (100,000: 1.6 MB, in the hash map up to 4 MB). Creation and end
//! of a credential change one entry. A new process reads the ledger's records of the future once, at most [`PER_TICK`]
//! in a tick. So 100,000 records take 10 minutes, and until then the numbers are too low; answers warn of that, and the
//! metric is absent. A standby reads no records, and its answers always warn. A request reads no record.
//!
//! *Guarantee:* when the ledger is read, each number is exact: every change is idempotent by the credential's name. But a
//! new process does not count a credential whose early revocation waits for OpenAI. A wrong clock hides a credential only
//! while it is wrong: records are passed over, and credentials are forgotten, only after their end has surely come.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::engine::creds::ledger::{self, Credential, LEDGER};
use crate::engine::{Engine, Error, fingerprint};
use crate::framework::Tick;
use crate::logical::{Storage, StorageError, Writable};

/// Records that one tick reads.
const PER_TICK: usize = 10_000;

/// The live credentials of a mount.
#[derive(Default)]
pub(in crate::engine) struct LiveCredentials {
    counted: Mutex<Counted>,
}

/// The live credentials of one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct OfRole {
    pub(in crate::engine) count: u64,
    /// End of the last one.
    pub(in crate::engine) until: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Counted {
    /// End by the fingerprint of the credential's name, by role.
    roles: HashMap<String, HashMap<u64, i64>>,
    ledger: Reading,
}

/// Progress of the reading of the ledger.
enum Reading {
    /// All places up to this one are read; empty before the begin.
    UpTo {
        place: String,
        /// Credentials that ended meanwhile. Their records may have been read before.
        ended: HashSet<u64>,
    },
    Done,
}

impl Default for Reading {
    fn default() -> Self {
        Self::UpTo { place: String::new(), ended: HashSet::new() }
    }
}

impl LiveCredentials {
    /// Counts a credential.
    pub(in crate::engine) fn add(&self, credential: &Credential) {
        self.counted.lock().add(credential);
    }

    /// Counts a credential no more.
    pub(in crate::engine) fn remove(&self, credential: &Credential) {
        let (mut counted, name) = (self.counted.lock(), fingerprint::number(&credential.name));
        if let Some(live) = counted.roles.get_mut(&credential.role) {
            live.remove(&name);
        }
        if let Reading::UpTo { ended, .. } = &mut counted.ledger {
            ended.insert(name);
        }
    }

    /// The credentials of a role that are live at `now`.
    pub(in crate::engine) fn of_role(&self, role: &str, now: DateTime<Utc>) -> OfRole {
        self.counted.lock().of_role(role, now)
    }

    /// The number of credentials of each role that are live at `now`; `None` until the ledger is read. Forgets those that
    /// ended before `certain`.
    fn by_role(&self, now: DateTime<Utc>, certain: DateTime<Utc>) -> Option<Vec<(String, u64)>> {
        let mut counted = self.counted.lock();
        if !matches!(counted.ledger, Reading::Done) {
            return None;
        }
        Some(counted.numbers(now, certain))
    }

    async fn is_complete(&self, storage: &dyn Storage) -> bool {
        if matches!(self.counted.lock().ledger, Reading::Done) {
            return true;
        }
        // After a failure the numbers only count as incomplete.
        let is_empty = storage.list(LEDGER.prefix()).await.is_ok_and(|hours| hours.is_empty());
        if is_empty {
            self.counted.lock().ledger = Reading::Done;
        }
        is_empty
    }

    /// Goes on reading the records of credentials that end after `certain`.
    async fn read(&self, tick: &Tick, certain: DateTime<Utc>) -> Result<(), StorageError> {
        let after = match &self.counted.lock().ledger {
            Reading::UpTo { place, .. } if place.is_empty() => ledger::place(certain, ""),
            Reading::UpTo { place, .. } => place.clone(),
            Reading::Done => return Ok(()),
        };
        let storage = &*tick.storage;
        let places = ledger::places(storage, &after, PER_TICK).await?;
        for place in &places {
            if tick.is_over() {
                return Ok(());
            }
            let credential = match LEDGER.get(storage, place).await {
                // An unreadable record does not hide others.
                Err(StorageError::Malformed { .. }) => None,
                entry => entry?.map(|entry| entry.credential),
            };
            self.counted.lock().note_read(place, credential.as_ref());
        }
        if places.len() < PER_TICK {
            self.counted.lock().ledger = Reading::Done;
        }
        Ok(())
    }
}

impl Counted {
    fn add(&mut self, credential: &Credential) {
        let (name, end) = (fingerprint::number(&credential.name), credential.ends.timestamp());
        if let Some(live) = self.roles.get_mut(&credential.role) {
            live.insert(name, end);
        } else {
            self.roles.insert(credential.role.clone(), HashMap::from([(name, end)]));
        }
    }

    fn note_read(&mut self, read: &str, credential: Option<&Credential>) {
        let Reading::UpTo { place, ended } = &mut self.ledger else { return };
        read.clone_into(place);
        let credential = credential.filter(|one| !ended.contains(&fingerprint::number(&one.name)));
        if let Some(credential) = credential {
            self.add(credential);
        }
    }

    fn of_role(&self, role: &str, now: DateTime<Utc>) -> OfRole {
        let Some(live) = self.roles.get(role) else { return OfRole::default() };
        let ends = live.values().copied().filter(|end| *end > now.timestamp());
        let until = ends.clone().max().and_then(|end| DateTime::from_timestamp(end, 0));
        OfRole { count: ends.count() as u64, until }
    }

    /// A role without live credentials is answered with 0 once.
    fn numbers(&mut self, now: DateTime<Utc>, certain: DateTime<Utc>) -> Vec<(String, u64)> {
        for live in self.roles.values_mut() {
            live.retain(|_, end| *end > certain.timestamp());
            live.shrink_to(live.len() * 2);
        }
        let numbers = self.roles.keys().map(|role| (role.clone(), self.of_role(role, now).count)).collect();
        self.roles.retain(|_, live| !live.is_empty());
        numbers
    }
}

/// Part of the tick: goes on reading the ledger, and updates the metric.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    engine.creds.live.read(tick, engine.certain_time()).await?;
    measure(engine);
    Ok(())
}

/// Sets the metric, if the ledger is read.
pub(in crate::engine) fn measure(engine: &Engine) {
    if let Some(numbers) = engine.creds.live.by_role(engine.now(), engine.certain_time()) {
        engine.metrics.live_credentials(&numbers);
    }
}

/// True if the numbers are complete: the ledger is read, or empty. A node that does not write the ledger counts nothing.
pub(in crate::engine) async fn is_complete(engine: &Engine, storage: &dyn Storage) -> bool {
    let writes_ledger = engine.system.writable().await.is_ok_and(|it| it >= Writable::LocalOnly);
    writes_ledger && engine.creds.live.is_complete(storage).await
}
