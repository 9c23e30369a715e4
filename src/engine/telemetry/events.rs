//! Events on the server's event bus, if the server has one. Best effort: no request waits for an event, and an event that
//! cannot be sent is dropped. Events contain no secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::logical::{Event, SystemView};

/// Maximum number of events that wait for the server. Further events are dropped.
const MAX_PENDING: usize = 64;
/// Maximum time for the server to accept an event.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum EventKind {
    /// A credential was created.
    CredsCreate,
    /// OpenAI did not create a credential.
    CredsCreateFail,
    /// A credential was revoked.
    CredsRevoke,
    /// The key of a static role, or the signing key, was rotated.
    Rotate,
    /// The rotation of a static role's key, or of the signing key, failed.
    RotateFail,
    /// The admin key was rotated.
    RootRotate,
    /// The rotation of the admin key failed.
    RootRotateFail,
    /// An account of a library set was checked out.
    CheckOut,
    /// OpenAI created no key for a check-out.
    CheckOutFail,
    /// A check-out is over, and its key is deleted.
    CheckIn,
    /// The configuration was written.
    ConfigWrite,
    /// The configuration was deleted.
    ConfigDelete,
    /// A role was written.
    RoleWrite,
    /// A role was deleted.
    RoleDelete,
}

/// Sends events in the background.
pub(in crate::engine) struct Events {
    system: Arc<dyn SystemView>,
    pending: Arc<Semaphore>,
}

impl EventKind {
    /// The kind of event, the operation, and true if the data at `path` changed.
    fn facts(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::CredsCreate => ("openai/creds-create", "read", false),
            Self::CredsCreateFail => ("openai/creds-create-fail", "read", false),
            Self::CredsRevoke => ("openai/creds-revoke", "revoke", false),
            Self::Rotate => ("openai/rotate", "rotate", true),
            Self::RotateFail => ("openai/rotate-fail", "rotate", false),
            Self::RootRotate => ("openai/root-rotate", "rotate", true),
            Self::RootRotateFail => ("openai/root-rotate-fail", "rotate", false),
            Self::CheckOut => ("openai/check-out", "update", true),
            Self::CheckOutFail => ("openai/check-out-fail", "update", false),
            Self::CheckIn => ("openai/check-in", "update", true),
            Self::ConfigWrite => ("openai/config-write", "update", true),
            Self::ConfigDelete => ("openai/config-delete", "delete", true),
            Self::RoleWrite => ("openai/role-write", "update", true),
            Self::RoleDelete => ("openai/role-delete", "delete", true),
        }
    }

    /// The server puts the mount's path before `path` and `data_path` (PROTOCOL 11).
    fn event(self, path: &str) -> Event {
        let (kind, operation, modified) = self.facts();
        let mut metadata = vec![
            ("path", path.to_owned()),
            ("operation", operation.to_owned()),
            ("modified", modified.to_string()),
        ];
        if modified && operation != "delete" {
            metadata.push(("data_path", path.to_owned()));
        }
        Event { kind, metadata }
    }
}

impl Events {
    pub(in crate::engine) fn new(system: Arc<dyn SystemView>) -> Self {
        Self { system, pending: Arc::new(Semaphore::new(MAX_PENDING)) }
    }

    /// Sends an event about this path of the mount.
    pub(in crate::engine) fn emit(&self, event_kind: EventKind, path: &str) {
        self.send(event_kind.event(path));
    }

    /// Sends an event about a role or library set, with the set's or role's `metadata` as JSON.
    pub(in crate::engine) fn emit_with(
        &self,
        event_kind: EventKind,
        path: &str,
        metadata: &BTreeMap<String, String>,
    ) {
        let mut event = event_kind.event(path);
        if !metadata.is_empty() {
            event.metadata.push(("metadata", json!(metadata).to_string()));
        }
        self.send(event);
    }

    fn send(&self, event: Event) {
        let Ok(permit) = Arc::clone(&self.pending).try_acquire_owned() else {
            tracing::debug!(kind = event.kind, "an event is dropped: the server takes events too slowly");
            return;
        };
        let system = Arc::clone(&self.system);
        tokio::spawn(async move {
            let kind = event.kind;
            match tokio::time::timeout(MAX_WAIT, system.send_event(event)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(kind, %error, "an event was not sent"),
                Err(_) => tracing::debug!(kind, "the server did not take an event in time"),
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::logical::{FixedSystem, ReplicationState, SystemError};

    /// A server that accepts events while its gate has permits.
    struct SlowSystem {
        accepted: mpsc::UnboundedSender<&'static str>,
        gate: Arc<Semaphore>,
    }

    #[async_trait]
    impl SystemView for SlowSystem {
        async fn default_lease_ttl(&self) -> Result<Duration, SystemError> {
            FixedSystem::default().default_lease_ttl().await
        }
        async fn max_lease_ttl(&self) -> Result<Duration, SystemError> {
            FixedSystem::default().max_lease_ttl().await
        }
        async fn tainted(&self) -> Result<bool, SystemError> {
            Ok(false)
        }
        async fn local_mount(&self) -> Result<bool, SystemError> {
            Ok(false)
        }
        async fn replication_state(&self) -> Result<ReplicationState, SystemError> {
            Ok(ReplicationState::default())
        }
        async fn vault_version(&self) -> Result<String, SystemError> {
            Ok(String::new())
        }
        async fn send_event(&self, event: Event) -> Result<(), SystemError> {
            let _open = self.gate.acquire().await;
            self.accepted.send(event.kind).map_err(|error| SystemError(error.to_string()))
        }
        async fn deregister_rotation_job(&self, _: &str, _: &str) -> Result<(), SystemError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_delays_no_request_and_pending_events_are_bounded() {
        let (accepted, mut arrived) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let events = Events::new(Arc::new(SlowSystem { accepted, gate: Arc::clone(&gate) }));
        for _ in 0..MAX_PENDING + 5 {
            events.send(EventKind::RoleWrite.event("roles/a"));
        }
        assert_eq!(events.pending.available_permits(), 0);
        tokio::time::sleep(MAX_WAIT + Duration::from_secs(1)).await;
        assert_eq!(events.pending.available_permits(), MAX_PENDING);

        gate.add_permits(1);
        events.send(EventKind::CredsCreate.event("creds/a"));
        assert_eq!(arrived.recv().await, Some("openai/creds-create"));
    }

    #[test]
    fn metadata_contains_the_data_path_only_after_a_change() {
        let event = EventKind::RoleWrite.event("roles/a");
        assert!(event.metadata.contains(&("data_path", "roles/a".to_owned())));
        assert!(event.metadata.contains(&("modified", "true".to_owned())));
        let event = EventKind::CredsCreate.event("creds/a");
        assert!(event.metadata.iter().all(|(name, _)| *name != "data_path"));
    }
}
