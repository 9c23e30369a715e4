//! The simulated server's lease store.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use openai_secrets::logical::{Data, Lease, Secret};
use serde_json::Value;

/// A stored lease.
#[derive(Clone)]
pub struct Granted {
    pub id: String,
    /// Internal data of the lease.
    pub internal: Data,
    pub ttl: Duration,
    pub max_ttl: Duration,
    pub renewable: bool,
    pub issued: DateTime<Utc>,
    /// The key that was issued with the lease.
    pub api_key: String,
}

/// The leases that were not revoked.
#[derive(Debug, Default)]
pub struct LeaseStore {
    leases: BTreeMap<String, Granted>,
    given: u64,
}

impl Granted {
    /// The lease in a renewal or revocation request.
    pub fn secret(&self, increment: Duration) -> Secret {
        Secret {
            lease_id: self.id.clone(),
            internal: self.internal.clone(),
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            increment,
            renewable: self.renewable,
            issue_time: Some(self.issued),
        }
    }
}

/// `Debug` omits the key.
impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").field("id", &self.id).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl LeaseStore {
    /// Stores a new lease.
    pub fn insert(&mut self, path: &str, lease: &Lease, data: &Data, now: DateTime<Utc>) -> Granted {
        self.given += 1;
        let granted = Granted {
            id: format!("openai/{path}/{}", self.given),
            internal: lease.internal.clone(),
            ttl: lease.ttl,
            max_ttl: lease.max_ttl,
            renewable: lease.renewable,
            issued: now,
            api_key: data.get("api_key").and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        self.leases.insert(granted.id.clone(), granted.clone());
        granted
    }

    /// Replaces a lease by the response to its renewal.
    pub fn renew(&mut self, id: &str, lease: &Lease) -> Option<Granted> {
        let kept = self.leases.get_mut(id)?;
        (kept.internal, kept.ttl, kept.max_ttl) = (lease.internal.clone(), lease.ttl, lease.max_ttl);
        Some(kept.clone())
    }

    /// Removes a lease.
    pub fn remove(&mut self, id: &str) {
        self.leases.remove(id);
    }

    /// The stored leases.
    pub fn all(&self) -> impl Iterator<Item = &Granted> {
        self.leases.values()
    }
}
