//! The backend service: finds the mount of a call, converts the messages, calls the engine, and logs each error once.
//!
//! Each call is isolated: a panic fails only its own call, and a call runs to its end even if the caller goes away.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::goplugin::Channel;
use crate::logical::{self, Backend, Error, Factory, Operation, Setup};

use super::error::{self, Origin};
use super::host::Host;
use super::instances::{Instance, Instances, multiplex_id};
use super::pb;
use super::storage::RemoteStorage;
use super::system::RemoteSystem;
use super::{convert, task};

/// The protocol's number for a secrets engine.
const SECRETS_ENGINE: u32 = 1;

/// The longest time before Cleanup is answered. The server may hold its lock on all plugins until then (PROTOCOL 6).
const CLEANUP_MAX_WAIT: Duration = Duration::from_secs(1);

/// The backend service of this process for all mounts.
pub(super) struct Service {
    factory: Arc<dyn Factory>,
    channel: Channels,
    instances: Instances,
    metadata_mode: bool,
}

/// The channel to the server's services by broker id.
type Channels = Box<dyn Fn(u32) -> Channel + Send + Sync>;

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn new(factory: Arc<dyn Factory>, channel: Channels, metadata_mode: bool) -> Self {
        Self { factory, channel, instances: Instances::default(), metadata_mode }
    }

    /// The mount of a call that needs the server. In metadata mode such calls are refused.
    fn working(&self, metadata: &MetadataMap) -> Result<Instance, Status> {
        if self.metadata_mode {
            return Err(Status::unknown("plugin server can not perform action while in metadata mode"));
        }
        self.instances.find(metadata)
    }

    /// Creates a mount with the factory. No channel is opened.
    async fn mount(&self, args: pb::SetupArgs) -> Result<Instance, Error> {
        let host = Arc::new(Host::new((self.channel)(args.broker_id)));
        let setup = Setup {
            config: args.config,
            backend_uuid: args.backend_uuid,
            storage: Arc::new(RemoteStorage::of_mount(Arc::clone(&host))),
            system: Arc::new(RemoteSystem::new(Arc::clone(&host))),
        };
        let origin = Origin::call("setup");
        let backend = task::caught(async { self.factory.mount(setup) })
            .await
            .unwrap_or_else(|panic| Err(origin.panicked(panic)))
            .inspect_err(|error| origin.report(error))?;
        Ok(Instance { backend, host })
    }
}

#[tonic::async_trait]
impl pb::backend_server::Backend for Service {
    /// A second Setup with the same id replaces the first mount, because the server serves the newer broker id.
    async fn setup(&self, request: Request<pb::SetupArgs>) -> Reply<pb::SetupReply> {
        let (metadata, _, args) = request.into_parts();
        let id = multiplex_id(&metadata)?;
        match self.mount(args).await {
            Ok(instance) => {
                if let Some(replaced) = self.instances.insert(id, instance) {
                    cleanup(replaced.backend).await;
                }
                Ok(Response::new(pb::SetupReply::default()))
            }
            Err(error) => Ok(Response::new(pb::SetupReply { err: error::text(&error) })),
        }
    }

    async fn r#type(&self, request: Request<pb::Empty>) -> Reply<pb::TypeReply> {
        self.instances.find(request.metadata())?;
        Ok(Response::new(pb::TypeReply { r#type: SECRETS_ENGINE }))
    }

    async fn special_paths(&self, request: Request<pb::Empty>) -> Reply<pb::SpecialPathsReply> {
        let backend = self.instances.find(request.metadata())?.backend;
        let paths = catch_panic("special paths", async move { backend.special_paths() }).await?;
        Ok(Response::new(pb::SpecialPathsReply { paths: Some(convert::special_paths(paths)) }))
    }

    async fn initialize(&self, request: Request<pb::InitializeArgs>) -> Reply<pb::InitializeReply> {
        let backend = self.working(request.metadata())?.backend;
        let origin = Origin::call("initialize");
        let outcome = task::detached(|_| async move {
            task::caught(backend.initialize())
                .await
                .unwrap_or_else(|panic| Err(origin.panicked(panic)))
                .inspect_err(|error| origin.report(error))
        });
        let err = outcome.await?.err().as_ref().map(error::message);
        Ok(Response::new(pb::InitializeReply { err }))
    }

    async fn handle_request(&self, request: Request<pb::HandleRequestArgs>) -> Reply<pb::HandleRequestReply> {
        let instance = self.working(request.metadata())?;
        let (metadata, _, args) = request.into_parts();
        let asked = args.request.unwrap_or_default();
        if is_never_supported(Operation::parse(&asked.operation)) {
            return Ok(Response::new(error::reply(&Error::unsupported_operation())));
        }
        let storage = Arc::new(RemoteStorage::of_request(instance.host, &metadata));
        let handled = task::detached(|cancelled| handle(instance.backend, asked, storage, cancelled));
        Ok(Response::new(handled.await?))
    }

    async fn handle_existence_check(
        &self,
        request: Request<pb::HandleExistenceCheckArgs>,
    ) -> Reply<pb::HandleExistenceCheckReply> {
        let instance = self.working(request.metadata())?;
        let (metadata, _, args) = request.into_parts();
        let asked = args.request.unwrap_or_default();
        let storage = Arc::new(RemoteStorage::of_request(instance.host, &metadata));
        let reply = task::detached(|cancelled| exists(instance.backend, asked, storage, cancelled)).await?;
        Ok(Response::new(reply))
    }

    async fn invalidate_key(&self, request: Request<pb::InvalidateKeyArgs>) -> Reply<pb::Empty> {
        let backend = self.working(request.metadata())?.backend;
        let key = request.into_inner().key;
        catch_panic("invalidate key", async move { backend.invalidate(&key) }).await?;
        Ok(Response::new(pb::Empty {}))
    }

    /// Vault calls Cleanup twice. The second call does nothing.
    async fn cleanup(&self, request: Request<pb::Empty>) -> Reply<pb::Empty> {
        if let Some(instance) = self.instances.remove(request.metadata())? {
            cleanup(instance.backend).await;
        }
        Ok(Response::new(pb::Empty {}))
    }
}

/// Operations that no path supports: OpenBao's resolve-path before each request (PROTOCOL 8.13), OpenBao's recursive
/// list, and operations of later servers. They are refused before any other work.
fn is_never_supported(operation: Operation) -> bool {
    matches!(operation, Operation::ResolvePath | Operation::Scan | Operation::Other)
}

/// Passes a request to its mount, and converts the answer or the error to a reply.
async fn handle(
    backend: Arc<dyn Backend>,
    asked: pb::Request,
    storage: Arc<RemoteStorage>,
    cancelled: CancellationToken,
) -> pb::HandleRequestReply {
    let origin = Origin::of(&asked);
    let request = convert::request(asked, storage.clone(), cancelled);
    let reply = match ask(&origin, request, |request| backend.handle(request)).await {
        Ok(response) => {
            pb::HandleRequestReply { response: response.map(convert::response), ..Default::default() }
        }
        Err(error) => {
            origin.report(&error);
            error::reply(&error)
        }
    };
    pb::HandleRequestReply { wal_index: storage.wal_index(), ..reply }
}

/// Checks with a mount whether the target of a write exists.
async fn exists(
    backend: Arc<dyn Backend>,
    asked: pb::Request,
    storage: Arc<RemoteStorage>,
    cancelled: CancellationToken,
) -> pb::HandleExistenceCheckReply {
    let origin = Origin::of(&asked);
    let request = convert::request(asked, storage, cancelled);
    match ask(&origin, request, |request| backend.exists(request)).await {
        Ok(exists) => pb::HandleExistenceCheckReply {
            check_found: exists.is_some(),
            exists: exists.unwrap_or_default(),
            err: None,
        },
        Err(error) => {
            origin.report(&error);
            pb::HandleExistenceCheckReply { err: Some(error::message(&error)), ..Default::default() }
        }
    }
}

/// Runs `answer` on a request that parsed. A panic becomes an error.
async fn ask<T, F: Future<Output = Result<T, Error>>>(
    origin: &Origin,
    request: Result<logical::Request, Error>,
    answer: impl FnOnce(logical::Request) -> F,
) -> Result<T, Error> {
    task::caught(answer(request?)).await.unwrap_or_else(|panic| Err(origin.panicked(panic)))
}

/// Cleans up a mount. A cleanup that takes too long continues in the background.
async fn cleanup(backend: Arc<dyn Backend>) {
    let cleaning = task::detached(|_| async move {
        let origin = Origin::call("cleanup");
        if let Err(panic) = task::caught(async { backend.cleanup().await }).await {
            origin.report(&origin.panicked(panic));
        }
    });
    if tokio::time::timeout(CLEANUP_MAX_WAIT, cleaning).await.is_err() {
        tracing::warn!(
            "the cleanup of a mount takes longer than the server should wait and continues in the background"
        );
    }
}

/// Runs `work`, which fails only by a panic. A panic becomes the call's gRPC error.
async fn catch_panic<T>(operation: &str, work: impl Future<Output = T>) -> Result<T, Status> {
    task::caught(work).await.map_err(|panic| {
        let origin = Origin::call(operation);
        let error = origin.panicked(panic);
        origin.report(&error);
        Status::internal(error::text(&error))
    })
}
