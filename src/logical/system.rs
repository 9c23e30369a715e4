//! Vault's system view: facts about the server and its mounts.

use std::time::Duration;

use async_trait::async_trait;

/// The part of Vault's system view that an engine needs (PROTOCOL 3.5).
#[async_trait]
pub trait SystemView: Send + Sync + 'static {
    /// The mount's default lease TTL. Tuning can change the TTL at any time.
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError>;
    /// The mount's maximum lease TTL. Tuning can change the TTL at any time.
    async fn max_lease_ttl(&self) -> Result<Duration, SystemError>;
    /// True while Vault unmounts the mount.
    async fn tainted(&self) -> Result<bool, SystemError>;
    /// True if the mount is local to its cluster.
    async fn local_mount(&self) -> Result<bool, SystemError>;
    /// This node's role in replication.
    async fn replication_state(&self) -> Result<ReplicationState, SystemError>;
    /// The part of the mount's storage that this node may write. The server is asked about the mount only if the answer
    /// depends on the mount.
    async fn writable(&self) -> Result<Writable, SystemError> {
        match self.replication_state().await?.writable() {
            Writable::LocalOnly if self.local_mount().await? => Ok(Writable::Everything),
            writable => Ok(writable),
        }
    }
    /// True if other clusters have the mount, too, each with its own local storage.
    async fn is_shared(&self) -> Result<bool, SystemError> {
        Ok(self.replication_state().await?.is_replicated() && !self.local_mount().await?)
    }
    /// The name of the identity entity with this id; empty if there is none.
    async fn entity_name(&self, _entity_id: &str) -> Result<String, SystemError> {
        Ok(String::new())
    }
    /// The server's version, such as `1.21.4`.
    async fn vault_version(&self) -> Result<String, SystemError>;
    /// Sends an event to the server's event bus. Succeeds if the server has no event bus.
    async fn send_event(&self, event: Event) -> Result<(), SystemError>;
    /// Removes the job for this path of the mount from Vault Enterprise's rotation manager. Succeeds if there is no job
    /// or no rotation manager.
    async fn deregister_rotation_job(&self, mount_point: &str, path: &str) -> Result<(), SystemError>;
}

/// A call of the system view failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("system view: {0}")]
pub struct SystemError(pub String);

impl From<SystemError> for super::Error {
    fn from(error: SystemError) -> Self {
        Self::internal(error.to_string())
    }
}

/// An event for the server's event bus (PROTOCOL 11). Events must not hold secrets.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event type, such as `openai/creds-create`.
    pub kind: &'static str,
    /// Pairs of texts. `path` is the API path within the mount that caused the event.
    pub metadata: Vec<(&'static str, String)>,
}

/// The part of a mount's storage that a node may write, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writable {
    /// Nothing: a performance standby, or a node of a disaster-recovery secondary.
    Nothing,
    /// Only keys in [`SpecialPaths::local_storage`](super::SpecialPaths::local_storage), which each cluster keeps for
    /// itself. This is the active node of a performance secondary.
    LocalOnly,
    /// Everything.
    Everything,
}

/// This node's role in replication, as Vault's bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationState(pub u32);

impl ReplicationState {
    const PERFORMANCE_PRIMARY: u32 = 1 << 5;
    const PERFORMANCE_SECONDARY: u32 = 1 << 6;
    const DR_SECONDARY: u32 = 1 << 9;
    const PERFORMANCE_BOOTSTRAPPING: u32 = 1 << 10;
    const PERFORMANCE_STANDBY: u32 = 1 << 14;

    /// The part of a mount's storage that a node in this state may write, if the mount is not local to its cluster.
    fn writable(self) -> Writable {
        if self.has(Self::PERFORMANCE_STANDBY | Self::DR_SECONDARY) {
            Writable::Nothing
        } else if self.has(Self::PERFORMANCE_SECONDARY) {
            Writable::LocalOnly
        } else {
            Writable::Everything
        }
    }

    /// True if the cluster shares its mounts with others by performance replication.
    fn is_replicated(self) -> bool {
        self.has(Self::PERFORMANCE_PRIMARY | Self::PERFORMANCE_SECONDARY | Self::PERFORMANCE_BOOTSTRAPPING)
    }

    /// True if at least one of these bits is set.
    fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// A system view with fixed answers, for tests.
#[derive(Clone, Debug)]
pub struct FixedSystem {
    /// The mount's default lease TTL.
    pub default_lease_ttl: Duration,
    /// The mount's maximum lease TTL.
    pub max_lease_ttl: Duration,
    /// This node's role in replication.
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
