//! Write-ahead entries of this process: whether somebody is at work on one, and how old it surely is.
//!
//! Keys are random, so one table serves every mount. A key stays until its entry is gone, or is another process' affair.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

static TABLE: LazyLock<Mutex<HashMap<String, EntryState>>> = LazyLock::new(Mutex::default);

/// What this process knows of an entry that it wrote.
#[derive(Clone, Copy, Debug)]
struct EntryState {
    /// How many are at work on it.
    workers: usize,
    /// When it was written, by a clock that nobody sets.
    written: Instant,
}

/// As long as this lives, somebody is at work on the entry.
#[derive(Debug)]
pub(super) struct InFlight {
    key: String,
}

impl InFlight {
    /// Work begins, for which an entry is about to be written.
    pub(super) fn begin(key: &str) -> Self {
        let mut table = table();
        let state = table.entry(key.to_owned()).or_insert(EntryState { workers: 0, written: Instant::now() });
        (state.workers, state.written) = (state.workers + 1, Instant::now());
        Self { key: key.to_owned() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(state) = table().get_mut(&self.key) {
            // None where the entry was forgotten meanwhile and begun again.
            state.workers = state.workers.saturating_sub(1);
        }
    }
}

/// Whether somebody in this process is at work on the entry.
pub(super) fn is_in_flight(key: &str) -> bool {
    table().get(key).is_some_and(|state| state.workers > 0)
}

/// How long ago this process wrote the entry, if it did.
pub(super) fn age(key: &str) -> Option<Duration> {
    table().get(key).map(|state| state.written.elapsed())
}

/// The entry is gone. Tests call it where they play that the process is another one, which knows nothing of the entry.
pub fn forget(key: &str) {
    table().remove(key);
}

/// A panic while the lock was held leaves the table whole, so a poisoned lock is taken as it is.
fn table() -> MutexGuard<'static, HashMap<String, EntryState>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_at_work_until_the_last_hand_leaves_and_has_an_age_until_it_is_gone() {
        let first = InFlight::begin("wal/workers");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!((is_in_flight("wal/workers"), age("wal/workers")), (true, Some(Duration::from_secs(9))));
        let second = InFlight::begin("wal/workers");
        assert_eq!(age("wal/workers"), Some(Duration::ZERO), "it was written anew");
        drop(first);
        assert!(is_in_flight("wal/workers"));
        drop(second);
        assert_eq!((is_in_flight("wal/workers"), age("wal/workers")), (false, Some(Duration::ZERO)));
        forget("wal/workers");
        assert_eq!(age("wal/workers"), None);
    }
}
