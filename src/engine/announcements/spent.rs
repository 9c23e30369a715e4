//! Write-ahead entries of credentials that are recorded and answered with. The next one's entry is written over one of them,
//! so that under load a credential costs one storage write less; what no other took the place of for [`IDLE`] is taken
//! away.
//!
//! Each mount has its own: an entry stands in the storage of one mount, and another's request writes into another.
//!
//! *Guarantees:* an entry is here once, or not at all. Its [`Gone`] is called when it is surely gone, and else never. One
//! that could not be written over is not written over again, as the write may come late.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::holds::{Hold, Holds};
use crate::framework::{Pending, WalKind, new_wal_key};
use crate::logical::{Storage, StorageError};

/// How long an entry waits for another to take its place.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// How long it is tried to take one away: then it is a sweep's.
const TENDED: Duration = Duration::from_secs(600);

/// Told that an entry is gone.
pub(super) type Gone = Box<dyn FnOnce() + Send>;

/// An entry that is held.
pub(super) struct Place {
    pub(super) pending: Pending,
    _hold: Hold,
}

/// The entries of one mount.
#[derive(Default)]
pub(super) struct Spent {
    holds: Holds,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Those spent last come last, and are taken first: what is more than the load needs stays idle.
    spent: Vec<Entry>,
    /// What is only to be taken away.
    rest: Vec<Entry>,
    /// Whether somebody looks after them.
    tended: bool,
}

struct Entry {
    place: Place,
    gone: Gone,
    since: Instant,
}

/// An entry that is written over. Unless that is known to be done, it is only to be taken away.
struct Taken<'a> {
    from: &'a Arc<Spent>,
    entry: Option<Entry>,
}

impl Spent {
    /// As [`WalKind::begin`], in the place of a spent entry if there is one.
    pub(super) async fn begin<T: Serialize + DeserializeOwned + Send + Sync>(
        self: &Arc<Self>,
        kind: &WalKind<T>,
        storage: &Arc<dyn Storage>,
        entry: &T,
    ) -> Result<Place, StorageError> {
        let spent = self.entries().spent.pop();
        let Some(spent) = spent else {
            let key = new_wal_key();
            let hold = self.holds.hold(key.clone());
            let pending = kind.begin_at(storage, key, entry).await?;
            return Ok(Place { pending, _hold: hold });
        };
        let key = spent.place.pending.key().to_owned();
        let taken = Taken { from: self, entry: Some(spent) };
        let pending = kind.begin_at(storage, key, entry).await?;
        Ok(taken.written(pending))
    }

    /// Keeps an entry, whose work is done and recorded, for another to take its place.
    pub(super) fn keep(self: &Arc<Self>, place: Place, gone: Gone) {
        self.with(|entries| entries.spent.push(Entry { place, gone, since: Instant::now() }));
    }

    /// Whether an entry is under way, or here.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.holds.has(key)
    }

    fn with(self: &Arc<Self>, change: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries();
        change(&mut entries);
        if !std::mem::replace(&mut entries.tended, true) {
            tokio::spawn(Arc::clone(self).tend());
        }
    }

    /// Takes away what is idle, until nothing is left.
    async fn tend(self: Arc<Self>) {
        loop {
            sleep(IDLE).await;
            let Some(idle) = self.idle() else { return };
            for entry in idle {
                if entry.place.pending.commit().await.is_ok() {
                    (entry.gone)();
                } else if entry.since.elapsed() < TENDED {
                    self.entries().rest.push(entry);
                }
            }
        }
    }

    /// Those to be taken away; none if there is no entry at all, and nobody tends them any more.
    fn idle(&self) -> Option<Vec<Entry>> {
        let mut entries = self.entries();
        entries.tended = !(entries.spent.is_empty() && entries.rest.is_empty());
        let mut idle = std::mem::take(&mut entries.rest);
        let count = entries.spent.partition_point(|entry| entry.since.elapsed() >= IDLE);
        idle.extend(entries.spent.drain(..count));
        entries.tended.then_some(idle)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// Another stands in its place.
    fn written(mut self, pending: Pending) -> Place {
        let Some(Entry { place, gone, .. }) = self.entry.take() else {
            unreachable!("it is there until it is dropped")
        };
        gone();
        Place { pending, ..place }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.from.with(|entries| entries.rest.push(entry));
        }
    }
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spent").field(&self.entries().spent.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::logical::InMemory;

    static WORK: WalKind<String> = WalKind::new("work", Duration::from_secs(60));

    /// A mount's storage, and how many entries were said to be gone.
    struct Stage {
        memory: Arc<InMemory>,
        spent: Arc<Spent>,
        gone: Arc<AtomicUsize>,
    }

    impl Stage {
        fn new() -> Self {
            Self { memory: Arc::new(InMemory::new()), spent: Arc::default(), gone: Arc::default() }
        }

        async fn begin(&self) -> Result<Place, StorageError> {
            let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&self.memory);
            self.spent.begin(&WORK, &storage, &"a".to_owned()).await
        }

        fn keep(&self, place: Place) {
            let gone = Arc::clone(&self.gone);
            self.spent.keep(
                place,
                Box::new(move || {
                    gone.fetch_add(1, Ordering::Relaxed);
                }),
            );
        }

        fn entries_and_gone(&self) -> (usize, usize) {
            (self.memory.keys().len(), self.gone.load(Ordering::Relaxed))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_entry_takes_the_place_of_a_spent_one() {
        let stage = Stage::new();
        let first = stage.begin().await.unwrap();
        let second = stage.begin().await.unwrap();
        assert_eq!(stage.entries_and_gone(), (2, 0));
        stage.keep(first);
        let third = stage.begin().await.unwrap();
        assert_eq!(stage.entries_and_gone(), (2, 1));
        second.pending.commit().await.unwrap();
        third.pending.commit().await.unwrap();
        assert_eq!(stage.entries_and_gone(), (0, 1), "the third stands where the first stood");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_needs_goes_and_what_is_at_work_stays() {
        let stage = Stage::new();
        let idle = stage.begin().await.unwrap();
        let at_work = stage.begin().await.unwrap();
        stage.keep(idle);
        sleep(IDLE / 2).await;
        assert_eq!(stage.entries_and_gone(), (2, 0));
        sleep(IDLE * 3).await;
        assert_eq!(stage.entries_and_gone(), (1, 1));
        stage.keep(at_work);
        sleep(IDLE * 3).await;
        assert_eq!(stage.entries_and_gone(), (0, 2), "it is tended again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_over_goes_and_no_other_takes_its_place() {
        let stage = Stage::new();
        let place = stage.begin().await.unwrap();
        let key = place.pending.key().to_owned();
        stage.keep(place);
        stage.memory.fail_put("wal/");
        assert!(stage.begin().await.is_err());
        assert_eq!(stage.entries_and_gone(), (1, 0), "nobody knows which entry stands");
        let next = stage.begin().await.unwrap();
        assert_ne!(next.pending.key(), key);
        sleep(IDLE * 3).await;
        assert_eq!(stage.entries_and_gone(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_taken_away_is_tried_again_for_a_while() {
        let stage = Stage::new();
        let place = stage.begin().await.unwrap();
        let key = place.pending.key().to_owned();
        stage.keep(place);
        stage.memory.set_read_only(true);
        sleep(TENDED / 2).await;
        assert!(stage.spent.holds(&key));
        stage.memory.set_read_only(false);
        sleep(IDLE * 2).await;
        assert_eq!(stage.entries_and_gone(), (0, 1));
        assert!(!stage.spent.holds(&key));

        let place = stage.begin().await.unwrap();
        let key = place.pending.key().to_owned();
        stage.keep(place);
        stage.memory.set_read_only(true);
        sleep(TENDED * 2).await;
        assert_eq!(stage.entries_and_gone(), (1, 1));
        assert!(!stage.spent.holds(&key), "it is a sweep's");
    }
}
