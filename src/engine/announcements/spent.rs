//! Write-ahead entries of credentials that are recorded and answered with. The next one's entry is written over one of them,
//! so that under load a credential costs one storage write less; what no other took the place of for [`IDLE`] is taken
//! away.
//!
//! Each mount has its own: an entry stands in the storage of one mount, and another's request writes into another.
//!
//! *Guarantees:* an entry is here once, or not at all. Its [`Gone`] is called when it is surely gone, and else never.
//!
//! *Assumption:* a request and [`IDLE`] together are shorter than a sweep's age: no sweep takes away an entry while it
//! is written over.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::framework::{Pending, WalKind};
use crate::logical::{Storage, StorageError};

/// How long an entry waits for another to take its place.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// Told that an entry is gone.
pub(super) type Gone = Box<dyn FnOnce() + Send>;

/// The entries of one mount.
#[derive(Default)]
pub(in crate::engine) struct Spent(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// Those spent last come last, and are taken first: what is more than the load needs stays idle.
    spent: Vec<Entry>,
    /// Whether somebody looks after the idle ones.
    tended: bool,
}

struct Entry {
    pending: Pending,
    gone: Gone,
    since: Instant,
}

impl Spent {
    /// As [`WalKind::begin`], in the place of a spent entry if there is one.
    pub(in crate::engine) async fn begin<T: Serialize + DeserializeOwned + Send + Sync>(
        &self,
        kind: &WalKind<T>,
        storage: &Arc<dyn Storage>,
        entry: &T,
    ) -> Result<Pending, StorageError> {
        let Some(Entry { pending, gone, .. }) = self.take() else {
            return kind.begin(storage, entry).await;
        };
        let begun = kind.begin_over(storage, pending, entry).await?;
        gone();
        Ok(begun)
    }

    /// Keeps an entry, whose work is done and recorded, for another to take its place.
    pub(super) fn keep(self: &Arc<Self>, pending: Pending, gone: Gone) {
        let mut entries = self.entries();
        entries.spent.push(Entry { pending, gone, since: Instant::now() });
        if !std::mem::replace(&mut entries.tended, true) {
            tokio::spawn(Arc::clone(self).tend());
        }
    }

    fn take(&self) -> Option<Entry> {
        self.entries().spent.pop()
    }

    /// Takes idle entries away, until none is left.
    async fn tend(self: Arc<Self>) {
        loop {
            sleep(IDLE).await;
            let Some(idle) = self.idle() else { return };
            for Entry { pending, gone, .. } in idle {
                // If it stays, a sweep looks at it once and takes it away.
                if pending.commit().await.is_ok() {
                    gone();
                }
            }
        }
    }

    /// Those idle for long enough; none if there is no entry at all, and nobody tends them any more.
    fn idle(&self) -> Option<Vec<Entry>> {
        let mut entries = self.entries();
        entries.tended = !entries.spent.is_empty();
        let count = entries.spent.partition_point(|entry| entry.since.elapsed() >= IDLE);
        let idle = entries.spent.drain(..count).collect();
        entries.tended.then_some(idle)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

        async fn begin(&self) -> Result<Pending, StorageError> {
            let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&self.memory);
            self.spent.begin(&WORK, &storage, &"a".to_owned()).await
        }

        fn keep(&self, pending: Pending) {
            let gone = Arc::clone(&self.gone);
            self.spent.keep(
                pending,
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
        second.commit().await.unwrap();
        third.commit().await.unwrap();
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
    async fn what_may_stand_is_not_said_to_be_gone() {
        let stage = Stage::new();
        let pending = stage.begin().await.unwrap();
        stage.keep(pending);
        stage.memory.fail_put("wal/");
        assert!(stage.begin().await.is_err());
        sleep(IDLE * 3).await;
        assert_eq!(stage.entries_and_gone(), (1, 0), "nobody knows which entry stands");
        let pending = stage.begin().await.unwrap();
        stage.memory.fail_delete("wal/");
        stage.keep(pending);
        sleep(IDLE * 3).await;
        assert_eq!(stage.entries_and_gone(), (2, 0));
    }
}
