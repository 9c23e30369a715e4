//! What Vault tells of itself and its mounts.

use std::time::Duration;

use async_trait::async_trait;

/// Vault's view of the system (PROTOCOL 3.5), as far as an engine needs it.
#[async_trait]
pub trait SystemView: Send + Sync + 'static {
    /// The mount's default lease time. It can change at any time by tuning.
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError>;
    /// The mount's longest lease time. It can change at any time by tuning.
    async fn max_lease_ttl(&self) -> Result<Duration, SystemError>;
    /// Whether the mount is being unmounted.
    async fn tainted(&self) -> Result<bool, SystemError>;
    /// Whether the mount is local to its cluster.
    async fn local_mount(&self) -> Result<bool, SystemError>;
    /// This node's part in replication.
    async fn replication_state(&self) -> Result<ReplicationState, SystemError>;
    /// The server's version, such as `1.21.4`.
    async fn vault_version(&self) -> Result<String, SystemError>;
    /// Tells the server's event bus. A server without one is no error.
    async fn send_event(&self, event: Event) -> Result<(), SystemError>;
}

/// The system view did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("system view: {0}")]
pub struct SystemError(pub String);

impl From<SystemError> for super::Error {
    fn from(error: SystemError) -> Self {
        Self::internal(error.to_string())
    }
}

/// An event for the server's bus (PROTOCOL 11). No secrets.
#[derive(Clone, Debug)]
pub struct Event {
    /// Such as `openai/creds-create`.
    pub kind: &'static str,
    /// Text pairs; `path` is the API path within the mount that caused it.
    pub metadata: Vec<(&'static str, String)>,
}

/// This node's part in replication: Vault's bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationState(pub u32);

impl ReplicationState {
    const PERFORMANCE_SECONDARY: u32 = 1 << 6;
    const DR_SECONDARY: u32 = 1 << 9;
    const PERFORMANCE_STANDBY: u32 = 1 << 14;

    /// A standby of this cluster that may read but not write.
    pub fn is_performance_standby(self) -> bool {
        self.0 & Self::PERFORMANCE_STANDBY != 0
    }

    /// Part of a secondary cluster.
    pub fn is_performance_secondary(self) -> bool {
        self.0 & Self::PERFORMANCE_SECONDARY != 0
    }

    /// Part of a disaster-recovery secondary.
    pub fn is_dr_secondary(self) -> bool {
        self.0 & Self::DR_SECONDARY != 0
    }

    /// Whether this node may write the mount's replicated storage.
    #[cfg(test)]
    pub fn may_write(self, local_mount: bool) -> bool {
        (local_mount || !self.is_performance_secondary())
            && !self.is_dr_secondary()
            && !self.is_performance_standby()
    }
}

/// A system view with fixed answers, for tests.
#[derive(Clone, Debug)]
pub struct FixedSystem {
    /// The mount's default lease time.
    pub default_lease_ttl: Duration,
    /// The mount's longest lease time.
    pub max_lease_ttl: Duration,
    /// This node's part in replication.
    pub replication_state: ReplicationState,
}

impl Default for FixedSystem {
    /// Vault's own defaults: 768 hours for both.
    fn default() -> Self {
        let month = Duration::from_secs(768 * 3600);
        Self {
            default_lease_ttl: month,
            max_lease_ttl: month,
            replication_state: ReplicationState::default(),
        }
    }
}

#[async_trait]
impl SystemView for FixedSystem {
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError> {
        Ok(self.default_lease_ttl)
    }
    async fn max_lease_ttl(&self) -> Result<Duration, SystemError> {
        Ok(self.max_lease_ttl)
    }
    async fn tainted(&self) -> Result<bool, SystemError> {
        Ok(false)
    }
    async fn local_mount(&self) -> Result<bool, SystemError> {
        Ok(false)
    }
    async fn replication_state(&self) -> Result<ReplicationState, SystemError> {
        Ok(self.replication_state)
    }
    async fn vault_version(&self) -> Result<String, SystemError> {
        Ok("1.21.4".to_owned())
    }
    async fn send_event(&self, _event: Event) -> Result<(), SystemError> {
        Ok(())
    }
}
