//! The server's system view and event bus over the channel to the server (PROTOCOL 3.5, 3.6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::logical::{Event, ReplicationState, SystemError, SystemView};

use super::host::{Host, status_text};
use super::pb;
use super::ttl_cell::TtlCell;
use super::value;

/// The system view of one mount.
pub(super) struct RemoteSystem {
    host: Arc<Host>,
    max_lease_ttl: TtlCell<Duration>,
    replication_state: TtlCell<ReplicationState>,
}

impl RemoteSystem {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, max_lease_ttl: TtlCell::default(), replication_state: TtlCell::default() }
    }
}

#[async_trait]
impl SystemView for RemoteSystem {
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError> {
        let reply = self.host.system().default_lease_ttl(pb::Empty {}).await?;
        Ok(value::duration(reply.into_inner().ttl))
    }

    async fn max_lease_ttl(&self) -> Result<Duration, SystemError> {
        let fetch = async {
            let reply = self.host.system().max_lease_ttl(pb::Empty {}).await?;
            Ok(value::duration(reply.into_inner().ttl))
        };
        self.max_lease_ttl.get_or_fetch(fetch).await
    }

    async fn tainted(&self) -> Result<bool, SystemError> {
        Ok(default_if_unimplemented(self.host.system().tainted(pb::Empty {}).await)?.tainted)
    }

    async fn local_mount(&self) -> Result<bool, SystemError> {
        Ok(default_if_unimplemented(self.host.system().local_mount(pb::Empty {}).await)?.local)
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemError> {
        let fetch = async {
            let reply = default_if_unimplemented(self.host.system().replication_state(pb::Empty {}).await)?;
            Ok(ReplicationState(reply.state as u32))
        };
        self.replication_state.get_or_fetch(fetch).await
    }

    async fn entity_name(&self, entity_id: &str) -> Result<String, SystemError> {
        let request = pb::EntityInfoArgs { entity_id: entity_id.to_owned() };
        let reply = default_if_unimplemented(self.host.system().entity_info(request).await)?;
        if !reply.err.is_empty() {
            return Err(SystemError(reply.err));
        }
        Ok(reply.entity.unwrap_or_default().name)
    }

    async fn vault_version(&self) -> Result<String, SystemError> {
        let reply = default_if_unimplemented(self.host.system().plugin_env(pb::Empty {}).await)?;
        if !reply.err.is_empty() {
            return Err(SystemError(reply.err));
        }
        Ok(reply.plugin_environment.unwrap_or_default().vault_version)
    }

    async fn send_event(&self, event: Event) -> Result<(), SystemError> {
        if !self.host.may_support_events() {
            return Ok(());
        }
        let request = pb::SendEventRequest {
            event_type: event.kind.to_owned(),
            event: Some(pb::logical::EventData {
                id: Uuid::new_v4().to_string(),
                metadata: Some(text_struct(event.metadata)),
                ..pb::logical::EventData::default()
            }),
        };
        match self.host.events().send_event(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::Unimplemented => {
                self.host.mark_events_unsupported();
                Ok(())
            }
            Err(status) => Err(status.into()),
        }
    }

    async fn deregister_rotation_job(&self, mount_point: &str, path: &str) -> Result<(), SystemError> {
        let place = pb::RotationJobPlace { mount_point: mount_point.to_owned(), req_path: path.to_owned() };
        let request = pb::DeregisterRotationJobRequest { req: Some(place) };
        default_if_unimplemented(self.host.system().deregister_rotation_job(request).await).map(drop)
    }
}

/// The default message (no, none, zero) from a server that does not implement the call.
fn default_if_unimplemented<T: Default>(reply: Result<Response<T>, Status>) -> Result<T, SystemError> {
    match reply {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => Ok(T::default()),
        Err(status) => Err(status.into()),
    }
}

fn text_struct(pairs: Vec<(&'static str, String)>) -> Struct {
    let fields: BTreeMap<String, Value> = pairs
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Value { kind: Some(Kind::StringValue(text)) }))
        .collect();
    Struct { fields }
}

impl From<Status> for SystemError {
    fn from(status: Status) -> Self {
        Self(status_text(&status))
    }
}
