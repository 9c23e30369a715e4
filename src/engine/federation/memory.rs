//! Memory of the federation: the cached records, and the state of token exchanges. A restart clears it.

use std::sync::Arc;

use super::exchange::Exchanges;
use super::record::{FEDERATION, Federation};
use super::role::{FEDERATED_ROLES, FederatedRole};
use crate::engine::cache::Cache;
use crate::engine::time::clock::Times;

/// The memory of this room.
pub(in crate::engine) struct Memory {
    pub(super) stored: Cache<Federation>,
    pub(in crate::engine) roles: Cache<FederatedRole>,
    pub(super) exchanges: Exchanges,
}

impl Memory {
    /// Nothing yet.
    pub(in crate::engine) fn new(times: &Arc<Times>) -> Self {
        Self {
            stored: Cache::new(&FEDERATION),
            roles: Cache::new(&FEDERATED_ROLES),
            exchanges: Exchanges::new(Arc::clone(times)),
        }
    }

    /// Forgets what another node changed in storage.
    pub(in crate::engine) fn invalidate(&self, key: &str) {
        if key == FEDERATION.prefix() {
            self.stored.invalidate(key);
        }
        self.roles.invalidate(key);
        if let Some(role) = FEDERATED_ROLES.name_of(key) {
            self.exchanges.forget(role);
        }
    }
}
