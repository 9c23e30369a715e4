//! The backend: dispatches each request to the engine's function.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::logical::{
    self, Answer, Error, Operation, Request, Response, SpecialPaths, Storage, SystemView, Writable,
};

use super::call::{self, Call};
use super::handler::Handler;
use super::lease::LeaseHandlers;
use super::path::Route;
use super::route::{Found, Router};
use super::wal::Undo;

/// An engine's hooks besides its paths. Every hook has a default.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Called once when storage is readable, also on a read-only standby.
    async fn initialize(self: Arc<Self>) -> Result<(), Error> {
        Ok(())
    }

    /// Called once a minute on a node that may write at least the mount's local storage: see [`Tick::writable`].
    /// Answers every failure.
    async fn periodic(self: Arc<Self>, _tick: Tick) -> Vec<Error> {
        Vec::new()
    }

    /// A time that has surely passed. A write-ahead entry reaches its maximum age by this time and by this machine's clock.
    fn surely_passed(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// Called with the mount point of each request, such as `openai/`. A mount can be moved.
    fn observe_mount_point(&self, _mount_point: &str) {}

    /// The reason to refuse every request except help, if there is one.
    fn refusal(&self) -> Option<Error> {
        None
    }

    /// Another node changed the storage entry `key`.
    fn invalidate(&self, _key: &str) {}

    /// The mount leaves this process. Vault may call this hook twice, or never.
    async fn cleanup(&self) {}
}

/// One run of the periodic work.
pub struct Tick {
    /// Storage of the mount.
    pub storage: Arc<dyn Storage>,
    /// Current mount point, such as `openai/`.
    pub mount_point: String,
    /// Triggered when Vault no longer waits.
    pub cancelled: CancellationToken,
    /// End of the tick's time; the next tick continues the work.
    pub deadline: Instant,
    /// Storage that this node may write, never `Nothing`. The active node of a performance secondary writes only
    /// local storage.
    pub writable: Writable,
}

impl Tick {
    /// True if the tick must begin no more work.
    pub fn is_over(&self) -> bool {
        self.cancelled.is_cancelled() || Instant::now() >= self.deadline
    }
}

/// A backend built from an engine's declarations.
pub struct Backend<E> {
    pub(super) engine: Arc<E>,
    pub(super) system: Arc<dyn SystemView>,
    pub(super) router: Router,
    pub(super) routes: Vec<Route<E>>,
    pub(super) leases: HashMap<&'static str, LeaseHandlers<E>>,
    pub(super) wal: HashMap<&'static str, Undo<E>>,
    pub(super) rotate: Option<Handler<E, Request, ()>>,
    pub(super) special: SpecialPaths,
    pub(super) root_help: String,
    /// Write-ahead entries whose undo failed in the last tick.
    pub(super) failed: Mutex<HashSet<String>>,
}

impl<E: Engine> Backend<E> {
    pub(super) fn engine(&self) -> Arc<E> {
        Arc::clone(&self.engine)
    }

    pub(super) fn system(&self) -> &dyn SystemView {
        self.system.as_ref()
    }

    fn route<'a>(&self, path: &'a str) -> Option<(&Route<E>, Found<'a>)> {
        let found = self.router.find(path)?;
        Some((&self.routes[found.path], found))
    }

    /// Dispatches a request to its path's handler. Rare branches are boxed so that the future of a normal request
    /// stays small.
    async fn dispatch(&self, mut request: Request) -> Answer {
        let (route, found) = self.route(&request.path).ok_or_else(Error::unsupported_path)?;
        if request.operation == Operation::Help {
            return Box::pin(self.path_help(route, &request)).await;
        }
        let endpoint = route.path.operations.get(&request.operation);
        let endpoint = endpoint.ok_or_else(Error::unsupported_operation)?;
        if let Some(needed) = route.path.needs.get(&request.operation) {
            self.refuse_unless_writable(*needed).await?;
        }
        let unused = route.schema.insert_captures(&mut request.data, &found.captured);
        let writes = matches!(request.operation, Operation::Create | Operation::Update | Operation::Patch);
        route.schema.validate(&mut request.data, writes).map_err(|reason| call::refused(&reason))?;
        let origin = Origin::of(&request);
        let mut answer = endpoint(self.engine(), Call { request }).await;
        if let (Ok(answer @ None), true) = (&mut answer, writes && !unused.is_empty()) {
            // Vault's framework sends no warning here. A mistyped field name would then go unnoticed.
            *answer = Some(Response::default());
        }
        if let Ok(Some(response)) = &mut answer {
            unused.warn(response);
            if origin.cancelled.is_cancelled()
                && let Some(lease) = response.lease.take()
            {
                return Box::pin(self.revoke_undelivered(lease, origin.into_request())).await;
            }
        }
        answer
    }

    /// Makes Vault forward the request from a node that may not write the needed storage (PROTOCOL 8.2, 8.7).
    async fn refuse_unless_writable(&self, needed: Writable) -> Result<(), Error> {
        if self.system.writable().await? < needed { Err(Error::read_only()) } else { Ok(()) }
    }

    /// Handles a call of the rotation manager.
    async fn rotate(&self, request: Request) -> Answer {
        let rotate = self.rotate.as_ref().ok_or_else(Error::unsupported_operation)?;
        self.refuse_unless_writable(Writable::Everything).await?;
        rotate(self.engine(), request).await.map(|()| None)
    }
}

/// Parts of a request that outlive the handler.
struct Origin {
    path: String,
    storage: Arc<dyn Storage>,
    cancelled: CancellationToken,
}

impl Origin {
    fn of(request: &Request) -> Self {
        let (path, storage) = (request.path.clone(), Arc::clone(&request.storage));
        Self { path, storage, cancelled: request.cancelled.clone() }
    }

    /// A revocation request without a caller, so nobody cancels it.
    fn into_request(self) -> Request {
        Request::new(Operation::Revoke, self.path, self.storage)
    }
}

#[async_trait]
impl<E: Engine> logical::Backend for Backend<E> {
    fn special_paths(&self) -> SpecialPaths {
        self.special.clone()
    }

    async fn initialize(&self) -> Result<(), Error> {
        self.engine().initialize().await
    }

    async fn handle(&self, request: Request) -> Answer {
        let mount = request.mount_point.clone();
        if !mount.is_empty() {
            self.engine.observe_mount_point(&mount);
        }
        let refusal = self.engine.refusal().filter(|_| request.operation != Operation::Help);
        if let Some(error) = refusal {
            return Err(error.at_mount(&mount));
        }
        let answer = match request.operation {
            // OpenBao sends this before every request. The error means that no path has an alias.
            Operation::ResolvePath => Err(Error::unsupported_operation()),
            Operation::Renew => self.renew(request).await,
            Operation::Revoke => self.revoke(request).await,
            Operation::Rollback => self.rollback(request).await,
            Operation::Rotate => self.rotate(request).await,
            Operation::Help if request.path.is_empty() => self.root_help(&request).await,
            _ => self.dispatch(request).await,
        };
        // An error may be told long after it happened, and in a warning.
        answer.map(|it| it.map(|it| it.at_mount(&mount))).map_err(|error| error.at_mount(&mount))
    }

    /// The error of an invalid value lacks the prefix that `handle` adds, as in Vault's framework (PROTOCOL 8.3).
    async fn exists(&self, mut request: Request) -> Result<Option<bool>, Error> {
        let Some((route, found)) = self.route(&request.path) else { return Ok(None) };
        let Some(exists) = &route.path.exists else { return Ok(None) };
        route.schema.insert_captures(&mut request.data, &found.captured);
        route.schema.validate(&mut request.data, false).map_err(Error::bad_request)?;
        exists(self.engine(), Call { request }).await.map(Some)
    }

    fn invalidate(&self, key: &str) {
        self.engine.invalidate(key);
    }

    async fn cleanup(&self) {
        self.engine.cleanup().await;
    }
}
