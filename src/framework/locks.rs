//! Async locks by key. A lock exists only while somebody holds or awaits it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by key. Clones share the locks.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    table: Arc<Table>,
}

/// Holds the lock of one key until drop.
#[derive(Debug)]
pub struct LockGuard {
    // Fields drop in this order: the lock is released before its reference count.
    _held: OwnedMutexGuard<()>,
    _reference: Reference,
}

#[derive(Debug, Default)]
struct Table {
    locks: Mutex<HashMap<String, Shared>>,
}

/// A lock and the number of its holders and waiters.
#[derive(Debug, Default)]
struct Shared {
    lock: Arc<AsyncMutex<()>>,
    references: usize,
}

/// One reference to a lock, of a holder or a waiter. The last reference removes the lock from the table, also when a
/// waiter gives up.
#[derive(Debug)]
struct Reference {
    table: Arc<Table>,
    key: String,
}

impl Locks {
    /// A table without locks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the lock of `key`, first come, first served.
    pub async fn lock(&self, key: &str) -> LockGuard {
        let (reference, lock) = Reference::take(&self.table, key);
        LockGuard { _held: lock.lock_owned().await, _reference: reference }
    }
}

impl Reference {
    fn take(table: &Arc<Table>, key: &str) -> (Self, Arc<AsyncMutex<()>>) {
        let mut locks = table.lock();
        let shared = locks.entry(key.to_owned()).or_default();
        shared.references += 1;
        (Self { table: Arc::clone(table), key: key.to_owned() }, Arc::clone(&shared.lock))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let mut locks = self.table.lock();
        let Some(shared) = locks.get_mut(&self.key) else { return };
        shared.references -= 1;
        if shared.references == 0 {
            locks.remove(&self.key);
        }
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shared>> {
        self.locks.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Locks {
        /// Number of keys that are locked or awaited.
        fn count(&self) -> usize {
            self.table.lock().len()
        }
    }

    #[tokio::test]
    async fn one_key_lets_one_in_at_a_time_and_another_key_does_not_wait() {
        let locks = Locks::new();
        let first = locks.lock("a").await;
        let mut waiting = Box::pin(locks.lock("a"));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(locks.lock("b").await);
        drop(first);
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_lock_goes_with_its_last_holder() {
        let locks = Locks::new();
        let guard = locks.lock("a").await;
        assert_eq!(locks.count(), 1);
        drop(guard);
        assert_eq!(locks.count(), 0);
    }

    #[tokio::test]
    async fn a_waiter_who_gives_up_leaves_nothing() {
        let locks = Locks::new();
        let first = locks.lock("a").await;
        let mut waiting = Box::pin(locks.lock("a"));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(first);
        drop(waiting);
        assert_eq!(locks.count(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_tasks_take_turns() {
        let (locks, inside) = (Locks::new(), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..200).map(|_| {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let _guard = locks.lock("a").await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(locks.count(), 0);
    }
}
