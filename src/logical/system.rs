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
    /// What of the mount's storage this node may write. Where the answer is plain the mount is not asked about.
    async fn writable(&self) -> Result<Writable, SystemError> {
        match self.replication_state().await?.writable() {
            Writable::LocalOnly if self.local_mount().await? => Ok(Writable::Everything),
            writable => Ok(writable),
        }
    }
    /// Whether other clusters have the mount as well, each with local storage of its own.
    async fn is_shared(&self) -> Result<bool, SystemError> {
        Ok(self.replication_state().await?.is_replicated() && !self.local_mount().await?)
    }
    /// The server's version, such as `1.21.4`.
    async fn vault_version(&self) -> Result<String, SystemError>;
    /// Tells the server's event bus. A server without one is no error.
    async fn send_event(&self, event: Event) -> Result<(), SystemError>;
    /// Has Vault Enterprise's rotation manager forget the job for this path of the mount. That there is no job, or no
    /// rotation manager, is no error.
    async fn deregister_rotation_job(&self, mount_point: &str, path: &str) -> Result<(), SystemError>;
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

/// What of a mount's storage a node may write, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writable {
    /// Nothing: a performance standby, or part of a disaster-recovery secondary.
    Nothing,
    /// Only what [`SpecialPaths::local_storage`](super::SpecialPaths::local_storage) names, which each cluster keeps for
    /// itself: the active node of a performance secondary.
    LocalOnly,
    /// Everything.
    Everything,
}

/// This node's part in replication: Vault's bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationState(pub u32);

impl ReplicationState {
    const PERFORMANCE_PRIMARY: u32 = 1 << 5;
    const PERFORMANCE_SECONDARY: u32 = 1 << 6;
    const DR_SECONDARY: u32 = 1 << 9;
    const PERFORMANCE_BOOTSTRAPPING: u32 = 1 << 10;
    const PERFORMANCE_STANDBY: u32 = 1 << 14;

    /// What a node in this state may write of a mount that is not local to its cluster.
    fn writable(self) -> Writable {
        if self.has(Self::PERFORMANCE_STANDBY | Self::DR_SECONDARY) {
            Writable::Nothing
        } else if self.has(Self::PERFORMANCE_SECONDARY) {
            Writable::LocalOnly
        } else {
            Writable::Everything
        }
    }

    /// Whether the cluster shares its mounts with others by performance replication.
    fn is_replicated(self) -> bool {
        self.has(Self::PERFORMANCE_PRIMARY | Self::PERFORMANCE_SECONDARY | Self::PERFORMANCE_BOOTSTRAPPING)
    }

    /// Whether one of these bits is set.
    fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
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
    async fn deregister_rotation_job(&self, _mount_point: &str, _path: &str) -> Result<(), SystemError> {
        Ok(())
    }
}
