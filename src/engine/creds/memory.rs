//! Memory of credentials: the cached roles, the open windows, the ledger's worker, the count of live credentials, and
//! refused lifetimes. A restart clears it.

use std::sync::Arc;

use super::ledger_worker::LedgerWorker;
use super::live::LiveCredentials;
use super::refused_lifetimes::RefusedLifetimes;
use super::role::{ROLES, Role};
use super::windows::{Recovery, Windows};
use crate::engine::cache::Cache;
use crate::engine::time::clock::Clock;

/// The memory of this folder.
pub(in crate::engine) struct Memory {
    pub(super) windows: Arc<Windows>,
    pub(in crate::engine) recovery: Recovery,
    pub(in crate::engine) roles: Cache<Role>,
    pub(in crate::engine) ledger_worker: LedgerWorker,
    pub(super) live: LiveCredentials,
    pub(super) refused_lifetimes: RefusedLifetimes,
}

impl Memory {
    /// Nothing yet.
    pub(in crate::engine) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            windows: Arc::new(Windows::new(Arc::clone(clock))),
            recovery: Recovery::default(),
            roles: Cache::new(&ROLES),
            ledger_worker: LedgerWorker::default(),
            live: LiveCredentials::default(),
            refused_lifetimes: RefusedLifetimes::new(clock),
        }
    }

    /// Forgets what another node changed in storage.
    pub(in crate::engine) fn invalidate(&self, key: &str) {
        self.roles.invalidate(key);
    }

    /// Ends the work in the background.
    pub(in crate::engine) fn stop(&self) {
        self.ledger_worker.stop();
    }
}
