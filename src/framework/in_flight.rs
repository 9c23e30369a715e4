//! Write-ahead entries that this process wrote: the number of workers, and a reliable age.
//!
//! Keys are random, so one table serves every mount. A key stays in the table until its entry is deleted or belongs
//! to another process.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

static TABLE: LazyLock<Mutex<HashMap<String, EntryState>>> = LazyLock::new(Mutex::default);

/// State of an entry that this process wrote.
#[derive(Clone, Copy, Debug)]
struct EntryState {
    /// Number of workers on the entry.
    workers: usize,
    /// Time of the write, by the monotonic clock.
    written: Instant,
}

/// Marks an entry as in flight until drop.
#[derive(Debug)]
pub(super) struct InFlight {
    key: String,
}

impl InFlight {
    /// Marks an entry that is about to be written.
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
            // The count is 0 if the entry was forgotten meanwhile and begun again.
            state.workers = state.workers.saturating_sub(1);
        }
    }
}

/// True if this process works on the entry.
pub(super) fn is_in_flight(key: &str) -> bool {
    table().get(key).is_some_and(|state| state.workers > 0)
}

/// Age of the entry, if this process wrote it.
pub(super) fn age(key: &str) -> Option<Duration> {
    table().get(key).map(|state| state.written.elapsed())
}

/// Removes a deleted entry. Tests also call this function to simulate another process.
pub fn forget(key: &str) {
    table().remove(key);
}

fn table() -> MutexGuard<'static, HashMap<String, EntryState>> {
    TABLE.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_in_flight_until_its_last_worker_ends_and_has_an_age_until_it_is_deleted() {
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
