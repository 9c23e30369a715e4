//! Builds a backend from an engine's declarations.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::logical::{self, Error, Request, Response, SpecialPaths, Storage, SystemView};

use super::backend::{Backend, Engine};
use super::handler::{Handler, boxed};
use super::lease::LeaseHandlers;
use super::path::Route;
use super::route::Router;
use super::wal::{Swept, Undo};
use super::{LeaseCall, LeaseType, Path, WalKind};

/// Collects an engine's declarations; [`Builder::build`] makes the backend.
pub struct Builder<E> {
    engine: Arc<E>,
    system: Arc<dyn SystemView>,
    root_help: String,
    paths: Vec<Path<E>>,
    leases: HashMap<&'static str, LeaseHandlers<E>>,
    wal: HashMap<&'static str, Undo<E>>,
    rotate: Option<Handler<E, Request, ()>>,
    special: SpecialPaths,
}

impl<E: Engine> Backend<E> {
    /// A builder without declarations.
    pub fn builder(engine: Arc<E>, system: Arc<dyn SystemView>, root_help: &str) -> Builder<E> {
        Builder::new(engine, system, root_help)
    }
}

impl<E: Engine> Builder<E> {
    fn new(engine: Arc<E>, system: Arc<dyn SystemView>, root_help: &str) -> Self {
        Self {
            engine,
            system,
            root_help: root_help.to_owned(),
            paths: Vec::new(),
            leases: HashMap::new(),
            wal: HashMap::new(),
            rotate: None,
            special: SpecialPaths::default(),
        }
    }

    /// Adds paths.
    #[must_use]
    pub fn paths(mut self, paths: Vec<Path<E>>) -> Self {
        self.paths.extend(paths);
        self
    }

    /// Adds a lease type whose leases cannot be renewed.
    #[must_use]
    pub fn lease<Err, F>(
        self,
        lease: &'static LeaseType,
        revoke: impl Fn(Arc<E>, LeaseCall) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Err>> + Send + 'static,
        Err: Into<Error>,
    {
        self.lease_handlers(lease, LeaseHandlers { revoke: boxed(revoke), renew: None })
    }

    /// Adds a lease type whose leases can be renewed.
    #[must_use]
    pub fn renewable_lease<RevokeErr, RevokeF, RenewErr, RenewF>(
        self,
        lease: &'static LeaseType,
        revoke: impl Fn(Arc<E>, LeaseCall) -> RevokeF + Send + Sync + 'static,
        renew: impl Fn(Arc<E>, LeaseCall) -> RenewF + Send + Sync + 'static,
    ) -> Self
    where
        RevokeF: Future<Output = Result<(), RevokeErr>> + Send + 'static,
        RevokeErr: Into<Error>,
        RenewF: Future<Output = Result<Response, RenewErr>> + Send + 'static,
        RenewErr: Into<Error>,
    {
        self.lease_handlers(lease, LeaseHandlers { revoke: boxed(revoke), renew: Some(boxed(renew)) })
    }

    /// Adds a kind of write-ahead entry and its undo function.
    #[must_use]
    pub fn wal<T, Done, Err, F>(
        self,
        kind: &WalKind<T>,
        undo: impl Fn(Arc<E>, Arc<dyn Storage>, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<Done, Err>> + Send + 'static,
        Done: Into<Swept>,
        Err: Into<Error>,
    {
        self.wal_by_key(kind, move |engine, storage, _, entry| undo(engine, storage, entry))
    }

    /// The same, for an undo that needs the entry's storage key.
    #[must_use]
    pub fn wal_by_key<T, Done, Err, F>(
        mut self,
        kind: &WalKind<T>,
        undo: impl Fn(Arc<E>, Arc<dyn Storage>, String, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<Done, Err>> + Send + 'static,
        Done: Into<Swept>,
        Err: Into<Error>,
    {
        let earlier = self.wal.insert(kind.name(), Undo::new(kind, undo));
        assert!(earlier.is_none(), "two kinds of write-ahead entry are called {:?}", kind.name());
        self
    }

    /// Handles calls of Vault Enterprise's rotation manager.
    #[must_use]
    pub fn rotate<Err, F>(mut self, rotate: impl Fn(Arc<E>, Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Err>> + Send + 'static,
        Err: Into<Error>,
    {
        self.rotate = Some(boxed(rotate));
        self
    }

    /// Sets the paths and storage keys that Vault treats specially.
    #[must_use]
    pub fn special(mut self, special: SpecialPaths) -> Self {
        self.special = special;
        self
    }

    /// Builds the backend.
    ///
    /// # Panics
    /// On an invalid declaration, at every start of the program: two paths for the same requests, a capture without a
    /// field, or a duplicate name.
    pub fn build(self) -> Arc<dyn logical::Backend> {
        let routes: Vec<_> = self.paths.into_iter().flat_map(Path::spelled_out).map(Route::new).collect();
        let router = Router::new(routes.iter().map(|route| &route.pattern));
        Arc::new(Backend {
            engine: self.engine,
            system: self.system,
            router,
            routes,
            leases: self.leases,
            wal: self.wal,
            rotate: self.rotate,
            special: self.special,
            root_help: self.root_help,
            failed: Mutex::default(),
        })
    }

    fn lease_handlers(mut self, lease: &LeaseType, handlers: LeaseHandlers<E>) -> Self {
        let earlier = self.leases.insert(lease.name(), handlers);
        assert!(earlier.is_none(), "two lease types are called {:?}", lease.name());
        self
    }
}
