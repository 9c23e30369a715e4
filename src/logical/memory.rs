//! In-memory storage for tests. The storage behaves like Vault's storage and fails on request.
//!
//! Vault promises no order of a list, so each list has another random order. The order depends on one seed per process.
//! The seed is printed, and `OPENAI_TEST_SEED` sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::sync::OnceLock;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{Entry, Storage, StorageError};

/// In-memory storage with injected faults.
#[derive(Debug, Default)]
pub struct InMemory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    read_only: bool,
    failing_puts: Vec<String>,
    failing_deletes: Vec<String>,
    calls: Calls,
}

/// The number of calls by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Lists.
    pub lists: usize,
    /// Reads.
    pub gets: usize,
    /// Writes.
    pub puts: usize,
    /// Deletions.
    pub deletes: usize,
}

/// The environment variable that repeats the random choices of an earlier run.
const SEED: &str = "OPENAI_TEST_SEED";

/// The seed for random choices of tests in this process. The first call prints the seed.
pub fn test_seed() -> u64 {
    static CHOSEN: OnceLock<u64> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(SEED));
        // The test harness captures `eprintln!` of tests that pass. A closed stderr is ignored.
        let _ = writeln!(std::io::stderr(), "{SEED}={seed} repeats the random choices of this run");
        seed
    })
}

impl InMemory {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses all further writes, as a standby does, or accepts them again.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// The next write of a key that starts with `prefix` fails.
    pub fn fail_put(&self, prefix: &str) {
        self.state().failing_puts.push(prefix.to_owned());
    }

    /// The next deletion of a key that starts with `prefix` fails.
    pub fn fail_delete(&self, prefix: &str) {
        self.state().failing_deletes.push(prefix.to_owned());
    }

    /// Removes all injected faults.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.failing_puts.clear();
        state.failing_deletes.clear();
    }

    /// The keys of all entries.
    pub fn keys(&self) -> Vec<String> {
        self.state().entries.keys().cloned().collect()
    }

    /// The number of calls so far.
    pub fn calls(&self) -> Calls {
        self.state().calls
    }

    /// A copy of all entries, as in a backup.
    pub fn snapshot(&self) -> Vec<Entry> {
        self.state().entries.values().cloned().collect()
    }

    /// Replaces all entries with a snapshot.
    pub fn restore(&self, entries: Vec<Entry>) {
        self.state().entries = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn refuse(&mut self, key: &str, write: bool) -> Result<(), StorageError> {
        if key.contains("..") {
            return Err(StorageError::Failed("relative paths not supported".to_owned()));
        }
        if self.read_only {
            return Err(StorageError::ReadOnly);
        }
        let failing = if write { &mut self.failing_puts } else { &mut self.failing_deletes };
        if let Some(at) = failing.iter().position(|prefix| key.starts_with(prefix.as_str())) {
            failing.remove(at);
            return Err(StorageError::Failed("injected fault".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for InMemory {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut state = self.state();
        state.calls.lists += 1;
        let call = state.calls.lists;
        let children: BTreeSet<String> = state
            .entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, _)| {
                let rest = &key[prefix.len()..];
                rest.find('/').map_or(rest, |slash| &rest[..=slash]).to_owned()
            })
            .collect();
        let mut children: Vec<String> = children.into_iter().collect();
        children.sort_by_cached_key(|child| shuffled(call, child));
        Ok(children)
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let mut state = self.state();
        state.calls.gets += 1;
        Ok(state.entries.get(key).cloned())
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let mut state = self.state();
        state.calls.puts += 1;
        state.refuse(&entry.key, true)?;
        state.entries.insert(entry.key.clone(), entry);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let mut state = self.state();
        state.calls.deletes += 1;
        state.refuse(key, false)?;
        state.entries.remove(key);
        Ok(())
    }
}

/// The sort key of a child in the list with this number.
fn shuffled(call: usize, child: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (test_seed(), call, child).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str) -> Entry {
        Entry { key: key.to_owned(), value: b"{}".to_vec(), seal_wrap: false }
    }

    #[tokio::test]
    async fn lists_immediate_children_and_folders_once_in_any_order() {
        let storage = InMemory::new();
        for key in ["roles/b", "roles/a", "roles/x/1", "roles/x/2", "config"] {
            storage.put(entry(key)).await.unwrap();
        }
        assert_eq!(storage.list_sorted("roles/").await.unwrap(), ["a", "b", "x/"]);
        assert_eq!(storage.list_sorted("").await.unwrap(), ["config", "roles/"]);
        let mut orders = BTreeSet::new();
        for _ in 0..100 {
            orders.insert(storage.list("roles/").await.unwrap());
        }
        assert_eq!(orders.len(), 6, "each order of three children comes");
        assert_eq!(storage.list_page("roles/", "a", 1).await.unwrap(), ["b"]);
    }

    #[tokio::test]
    async fn refuses_writes_on_demand() {
        let storage = InMemory::new();
        storage.fail_put("roles/");
        assert!(matches!(storage.put(entry("roles/a")).await, Err(StorageError::Failed(_))));
        storage.put(entry("roles/a")).await.unwrap();
        storage.set_read_only(true);
        assert!(matches!(storage.delete("roles/a").await, Err(StorageError::ReadOnly)));
    }
}
