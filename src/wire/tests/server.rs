//! A fake Vault that calls the plugin and serves its mounts.

use std::collections::HashMap;
use std::future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use crate::goplugin::{Channel, Error, Services};
use crate::logical::{Factory, InMemory, Storage, StorageError};
use crate::wire::pb::backend_client::BackendClient;
use crate::wire::pb::events_server::{Events, EventsServer};
use crate::wire::pb::storage_server::StorageServer;
use crate::wire::pb::system_view_server::{SystemView, SystemViewServer};
use crate::wire::{MESSAGE_LIMIT, pb, services};

/// The fake server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) state: Arc<State>,
}

/// The fake server's settings and observations, shared by all broker ids.
#[derive(Default)]
pub(super) struct State {
    pub(super) entries: InMemory,
    /// Behaves as OpenBao: supports pages, but no events.
    pub(super) openbao: bool,
    pub(super) dials: AtomicUsize,
    /// The broker ids of the connections that are open, in the order of their dials.
    pub(super) open: watch::Sender<Vec<u32>>,
    pub(super) failing_dials: AtomicUsize,
    pub(super) page_calls: AtomicUsize,
    pub(super) events: Mutex<Vec<pb::SendEventRequest>>,
    /// The metadata of every storage call.
    pub(super) metadata: Mutex<Vec<MetadataMap>>,
    /// Serves nothing behind the broker, as Vault does while it registers a plugin.
    pub(super) unserved: bool,
    pub(super) replication: i32,
    /// The mount is local to its cluster. If false, the server does not implement the call.
    pub(super) local_mount: bool,
    /// Behaves as a performance secondary: only keys with these prefixes may be written.
    pub(super) writable: Option<&'static [&'static str]>,
    /// The deregistered rotation jobs, on a server with Vault Enterprise's rotation manager.
    pub(super) rotation_manager: Option<Mutex<Vec<pb::RotationJobPlace>>>,
}

/// The server's calls for one mount.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) backend: BackendClient<Channel>,
    id: Option<&'static str>,
}

// === impl Server ===

impl Server {
    pub(super) fn vault() -> Self {
        Self::new(State::default())
    }

    pub(super) fn openbao() -> Self {
        Self::new(State { openbao: true, ..State::default() })
    }

    pub(super) fn new(state: State) -> Self {
        Self { state: Arc::new(state) }
    }

    /// Starts the plugin's services and returns a channel to them.
    pub(super) fn plugin(&self, factory: impl Factory) -> Channel {
        connect(services(Arc::new(factory), self.channels(), "v1.2.3", false))
    }

    /// Starts the plugin's services and sets up one mount without an id.
    pub(super) async fn mount(&self, factory: impl Factory) -> Caller {
        let caller = Caller::new(self.plugin(factory), None);
        assert_eq!(caller.setup(1).await, "");
        caller
    }

    /// The channel to this server's services by broker id.
    pub(super) fn channels(&self) -> impl Fn(u32) -> Channel + Send + Sync + 'static {
        let server = self.clone();
        move |id| {
            let server = server.clone();
            let services = Arc::new(server.services());
            Channel::new(move || future::ready(server.open(id, &services)))
        }
    }

    fn services(&self) -> Services {
        let service = StorageServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let services = Services::default().with(service).with(SystemViewServer::new(self.clone()));
        if self.state.openbao { services } else { services.with(EventsServer::new(self.clone())) }
    }

    fn open(&self, id: u32, services: &Arc<Services>) -> Result<DuplexStream, Error> {
        self.state.dials.fetch_add(1, Ordering::SeqCst);
        let failing = &self.state.failing_dials;
        if failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::NoConnectionInfo(id));
        }
        let (ours, serving) = open(Arc::clone(services));
        let state = Arc::clone(&self.state);
        state.open.send_modify(|open| open.push(id));
        tokio::spawn(async move {
            serving.await.unwrap();
            state.open.send_modify(|open| {
                let ended = open.iter().position(|of| *of == id).unwrap();
                open.remove(ended);
            });
        });
        Ok(ours)
    }

    fn may_write(&self, key: &str) -> bool {
        self.state.writable.is_none_or(|local| local.iter().any(|prefix| key.starts_with(prefix)))
    }

    fn seen<T>(&self, call: &Request<T>) -> Result<(), Status> {
        self.state.metadata.lock().unwrap().push(call.metadata().clone());
        if self.state.unserved {
            return Err(Status::unknown("missing storage implementation: check your plugin setup"));
        }
        Ok(())
    }
}

/// A channel to the services over in-memory pipes.
pub(super) fn connect(services: Services) -> Channel {
    let services = Arc::new(services);
    Channel::new(move || future::ready(Ok(open(Arc::clone(&services)).0)))
}

/// Serves one connection, and returns its other end.
fn open(services: Arc<Services>) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(async move { services.serve(theirs, &CancellationToken::new()).await });
    (ours, serving)
}

fn text(result: Result<(), StorageError>) -> String {
    match result {
        Err(StorageError::Failed(text)) => text,
        Err(error) => error.to_string(),
        Ok(()) => String::new(),
    }
}

#[tonic::async_trait]
impl pb::storage_server::Storage for Server {
    async fn list(
        &self,
        call: Request<pb::StorageListArgs>,
    ) -> Result<Response<pb::StorageListReply>, Status> {
        self.seen(&call)?;
        let mut keys = self.state.entries.list(&call.into_inner().prefix).await.unwrap();
        // Vault promises no order. The reverse order exposes code that relies on sorted keys.
        keys.sort_unstable();
        keys.reverse();
        Ok(Response::new(pb::StorageListReply { keys, err: String::new() }))
    }

    async fn get(&self, call: Request<pb::StorageGetArgs>) -> Result<Response<pb::StorageGetReply>, Status> {
        self.seen(&call)?;
        let entry = self.state.entries.get(&call.into_inner().key).await.unwrap();
        let entry =
            entry.map(|found| pb::StorageEntry { key: found.key, value: found.value, seal_wrap: false });
        Ok(Response::new(pb::StorageGetReply { entry, err: String::new() }))
    }

    async fn put(&self, call: Request<pb::StoragePutArgs>) -> Result<Response<pb::StoragePutReply>, Status> {
        self.seen(&call)?;
        let pb::StorageEntry { key, value, seal_wrap } = call.into_inner().entry.unwrap();
        if !self.may_write(&key) {
            let err = StorageError::READ_ONLY.to_owned();
            return Ok(Response::new(pb::StoragePutReply { err, wal_index: None }));
        }
        let err = text(self.state.entries.put(crate::logical::Entry { key, value, seal_wrap }).await);
        let puts = self.state.entries.calls().puts as u64;
        let wal_index = Some(pb::WalIndex { local_index: 100 + puts, replicated_index: 200 });
        Ok(Response::new(pb::StoragePutReply { err, wal_index }))
    }

    async fn delete(
        &self,
        call: Request<pb::StorageDeleteArgs>,
    ) -> Result<Response<pb::StorageDeleteReply>, Status> {
        self.seen(&call)?;
        let key = call.into_inner().key;
        if !self.may_write(&key) {
            let err = StorageError::READ_ONLY.to_owned();
            return Ok(Response::new(pb::StorageDeleteReply { err, wal_index: None }));
        }
        let err = text(self.state.entries.delete(&key).await);
        Ok(Response::new(pb::StorageDeleteReply { err, wal_index: None }))
    }

    async fn list_page(
        &self,
        call: Request<pb::StorageListPageArgs>,
    ) -> Result<Response<pb::StorageListReply>, Status> {
        self.state.page_calls.fetch_add(1, Ordering::SeqCst);
        if !self.state.openbao {
            return Err(Status::unimplemented("unknown method ListPage"));
        }
        let args = call.into_inner();
        let mut keys =
            self.state.entries.list_page(&args.prefix, &args.after, args.limit as usize).await.unwrap();
        keys.reverse();
        Ok(Response::new(pb::StorageListReply { keys, err: String::new() }))
    }
}

#[tonic::async_trait]
impl SystemView for Server {
    async fn default_lease_ttl(&self, call: Request<pb::Empty>) -> Result<Response<pb::TtlReply>, Status> {
        self.seen(&call)?;
        Ok(Response::new(pb::TtlReply { ttl: Duration::from_secs(3600).as_nanos() as i64 }))
    }
    async fn max_lease_ttl(&self, _: Request<pb::Empty>) -> Result<Response<pb::TtlReply>, Status> {
        Ok(Response::new(pb::TtlReply { ttl: Duration::from_secs(7200).as_nanos() as i64 }))
    }
    async fn tainted(&self, _: Request<pb::Empty>) -> Result<Response<pb::TaintedReply>, Status> {
        Ok(Response::new(pb::TaintedReply { tainted: true }))
    }
    async fn local_mount(&self, _: Request<pb::Empty>) -> Result<Response<pb::LocalMountReply>, Status> {
        if !self.state.local_mount {
            return Err(Status::unimplemented("unknown method LocalMount"));
        }
        Ok(Response::new(pb::LocalMountReply { local: true }))
    }
    async fn replication_state(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::ReplicationStateReply>, Status> {
        Ok(Response::new(pb::ReplicationStateReply { state: self.state.replication }))
    }
    async fn entity_info(
        &self,
        call: Request<pb::EntityInfoArgs>,
    ) -> Result<Response<pb::EntityInfoReply>, Status> {
        let entity = match call.into_inner().entity_id.as_str() {
            "entity-1" => Some(pb::logical::Entity { name: "alice".to_owned() }),
            _ => None,
        };
        Ok(Response::new(pb::EntityInfoReply { entity, err: String::new() }))
    }
    async fn plugin_env(&self, _: Request<pb::Empty>) -> Result<Response<pb::PluginEnvReply>, Status> {
        let vault_version = "1.21.4".to_owned();
        let plugin_environment = Some(pb::PluginEnvironment { vault_version });
        Ok(Response::new(pb::PluginEnvReply { plugin_environment, err: String::new() }))
    }
    async fn deregister_rotation_job(
        &self,
        call: Request<pb::DeregisterRotationJobRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let Some(jobs) = &self.state.rotation_manager else {
            return Err(Status::unimplemented("unknown method DeregisterRotationJob"));
        };
        let place = call.into_inner().req.unwrap();
        if place.req_path == "broken" {
            return Err(Status::internal("error deregistering rotation job"));
        }
        jobs.lock().unwrap().push(place);
        Ok(Response::new(pb::Empty {}))
    }
}

#[tonic::async_trait]
impl Events for Server {
    async fn send_event(&self, call: Request<pb::SendEventRequest>) -> Result<Response<pb::Empty>, Status> {
        self.state.events.lock().unwrap().push(call.into_inner());
        Ok(Response::new(pb::Empty {}))
    }
}

// === impl Caller ===

impl Caller {
    pub(super) fn new(plugin: Channel, id: Option<&'static str>) -> Self {
        let backend = BackendClient::new(plugin)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Self { backend, id }
    }

    pub(super) fn call<T>(&self, message: T) -> Request<T> {
        let mut call = Request::new(message);
        if let Some(id) = self.id {
            call.metadata_mut().insert("multiplex_id", AsciiMetadataValue::from_static(id));
        }
        call
    }

    /// Sets up the mount. Returns the error text, which is empty on success.
    pub(super) async fn setup(&self, broker_id: u32) -> String {
        let config = HashMap::from([("plugin_name".to_owned(), "openai".to_owned())]);
        let args = pb::SetupArgs { broker_id, config, backend_uuid: "uuid-1".to_owned() };
        self.backend.clone().setup(self.call(args)).await.unwrap().into_inner().err
    }

    pub(super) async fn ask(&self, operation: &str, path: &str) -> pb::HandleRequestReply {
        self.send(operation, path, "null").await.unwrap()
    }

    pub(super) async fn send(
        &self,
        operation: &str,
        path: &str,
        data: &str,
    ) -> Result<pb::HandleRequestReply, Status> {
        let args = request(operation, path, data);
        let reply = self.backend.clone().handle_request(self.call(args)).await?;
        Ok(reply.into_inner())
    }

    pub(super) async fn cleanup(&self) -> Result<(), Status> {
        self.backend.clone().cleanup(self.call(pb::Empty {})).await.map(drop)
    }
}

pub(super) fn request(operation: &str, path: &str, data: &str) -> pb::HandleRequestArgs {
    let request = pb::Request {
        id: "request-1".to_owned(),
        operation: operation.to_owned(),
        path: path.to_owned(),
        data: data.to_owned(),
        mount_point: "openai/".to_owned(),
        ..pb::Request::default()
    };
    pb::HandleRequestArgs { request: Some(request) }
}
