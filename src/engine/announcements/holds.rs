//! Write-ahead entries that this process may still write over or end: no sweep takes one of them away.
//!
//! *Guarantee:* what is not held is never held again: a hold begins before its entry is first written.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keys of a mount's entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<HashSet<String>>>);

/// As long as this lives, the entry is held.
pub(super) struct Hold {
    holds: Holds,
    key: String,
}

impl Holds {
    /// Holds an entry that is about to be written for the first time.
    pub(super) fn hold(&self, key: String) -> Hold {
        self.keys().insert(key.clone());
        Hold { holds: self.clone(), key }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys().contains(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.keys().remove(&self.key);
    }
}
