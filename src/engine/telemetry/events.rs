//! What other programs are told of through the server's event bus, where it has one. Nobody waits for it and nothing
//! depends on it: an event that cannot be sent is dropped. No secrets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::logical::{Event, SystemView};

/// A slow server has no more than this to take in; what comes on top is dropped.
const MOST_UNDER_WAY: usize = 64;
/// Then the server is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Happening {
    /// A credential was made.
    CredsCreate,
    /// OpenAI did not make one.
    CredsCreateFail,
    /// A credential was ended.
    CredsRevoke,
    /// The key of a static role was rotated.
    Rotate,
    /// It was to be, and was not.
    RotateFail,
    /// The admin key was rotated.
    RootRotate,
    /// It was to be, and was not.
    RootRotateFail,
    /// An account of a library set was lent.
    CheckOut,
    /// It was to be, and OpenAI made no key.
    CheckOutFail,
    /// A loan is over, and its key is dead.
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

/// Sends events without delaying whoever has something to tell.
pub(in crate::engine) struct Events {
    system: Arc<dyn SystemView>,
    room: Arc<Semaphore>,
}

impl Happening {
    fn kind(self) -> &'static str {
        match self {
            Self::CredsCreate => "openai/creds-create",
            Self::CredsCreateFail => "openai/creds-create-fail",
            Self::CredsRevoke => "openai/creds-revoke",
            Self::Rotate => "openai/rotate",
            Self::RotateFail => "openai/rotate-fail",
            Self::RootRotate => "openai/root-rotate",
            Self::RootRotateFail => "openai/root-rotate-fail",
            Self::CheckOut => "openai/check-out",
            Self::CheckOutFail => "openai/check-out-fail",
            Self::CheckIn => "openai/check-in",
            Self::ConfigWrite => "openai/config-write",
            Self::ConfigDelete => "openai/config-delete",
            Self::RoleWrite => "openai/role-write",
            Self::RoleDelete => "openai/role-delete",
        }
    }

    /// The operation, and whether what `path` shows has changed by it.
    fn operation(self) -> (&'static str, bool) {
        match self {
            Self::CredsCreate | Self::CredsCreateFail => ("read", false),
            Self::CredsRevoke => ("revoke", false),
            Self::Rotate | Self::RootRotate => ("rotate", true),
            Self::RotateFail | Self::RootRotateFail => ("rotate", false),
            Self::CheckOutFail => ("update", false),
            Self::CheckOut | Self::CheckIn | Self::ConfigWrite | Self::RoleWrite => ("update", true),
            Self::ConfigDelete | Self::RoleDelete => ("delete", true),
        }
    }

    /// The server puts the mount's path before `path` and `data_path` (PROTOCOL 11).
    fn event(self, path: &str) -> Event {
        let (operation, modified) = self.operation();
        let mut metadata = vec![
            ("path", path.to_owned()),
            ("operation", operation.to_owned()),
            ("modified", modified.to_string()),
        ];
        if modified && operation != "delete" {
            metadata.push(("data_path", path.to_owned()));
        }
        Event { kind: self.kind(), metadata }
    }
}

impl Events {
    pub(in crate::engine) fn new(system: Arc<dyn SystemView>) -> Self {
        Self { system, room: Arc::new(Semaphore::new(MOST_UNDER_WAY)) }
    }

    fn send(&self, event: Event) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::debug!(kind = event.kind, "the server takes events too slowly: one is dropped");
            return;
        };
        let system = Arc::clone(&self.system);
        tokio::spawn(async move {
            let kind = event.kind;
            match tokio::time::timeout(PATIENCE, system.send_event(event)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(kind, %error, "an event was not sent"),
                Err(_) => tracing::debug!(kind, "the server did not take an event in time"),
            }
            drop(place);
        });
    }
}

impl Engine {
    /// Tells the server's event bus what happened at this path of the mount.
    pub(in crate::engine) fn tell(&self, happening: Happening, path: &str) {
        self.events.send(happening.event(path));
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::logical::{FixedSystem, ReplicationState, SystemError};

    /// A server that takes in events only while told to.
    struct Slow {
        taken: mpsc::UnboundedSender<&'static str>,
        gate: Arc<Semaphore>,
    }

    #[async_trait]
    impl SystemView for Slow {
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
            self.taken.send(event.kind).map_err(|error| SystemError(error.to_string()))
        }
        async fn deregister_rotation_job(&self, _: &str, _: &str) -> Result<(), SystemError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_no_events_holds_up_nobody_and_fills_no_memory() {
        let (taken, mut arrived) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let events = Events::new(Arc::new(Slow { taken, gate: Arc::clone(&gate) }));
        for _ in 0..MOST_UNDER_WAY + 5 {
            events.send(Happening::RoleWrite.event("roles/a"));
        }
        assert_eq!(events.room.available_permits(), 0);
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert_eq!(events.room.available_permits(), MOST_UNDER_WAY);

        gate.add_permits(1);
        events.send(Happening::CredsCreate.event("creds/a"));
        assert_eq!(arrived.recv().await, Some("openai/creds-create"));
    }

    #[test]
    fn metadata_says_what_was_done_and_where_to_read_it() {
        let event = Happening::RoleWrite.event("roles/a");
        assert!(event.metadata.contains(&("data_path", "roles/a".to_owned())));
        assert!(event.metadata.contains(&("modified", "true".to_owned())));
        let event = Happening::CredsCreate.event("creds/a");
        assert!(event.metadata.iter().all(|(name, _)| *name != "data_path"));
    }
}
