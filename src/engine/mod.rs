//! The OpenAI secrets engine: one file per noun of the README.
//!
//! [`Engine`] is one mount. A noun declares its paths, fields and handlers in its own file; this file lists the
//! nouns. State in storage decides; what is in memory here is only a cache of it.

pub mod backoff;
mod cache;
mod calendar;
mod clients;
mod config;
mod creds;
mod error;
pub mod failpoint;
pub mod fingerprint;
mod issuer;
mod ledger;
mod library_sets;
mod listing;
pub mod metrics;
pub mod names;
mod owners;
mod projects;
pub mod rfc3339;
mod roles;
pub mod schedule;
pub mod schedule_fields;
pub mod seconds;
mod static_roles;
pub mod template;
pub mod timetable;

use std::sync::Arc;

use async_trait::async_trait;

use self::cache::Cache;
use self::clients::Clients;
use self::config::Config;
pub use self::error::Error;
use self::listing::Listings;
use self::metrics::Metrics;
use self::names::MountTag;
use self::projects::Project;
use self::roles::Role;
use crate::framework::{self, Backend, Locks, Path, Tick};
use crate::logical::{self, Factory, Setup, SpecialPaths, Storage, SystemView};

/// What `vault path-help` of the mount says first.
const ROOT_HELP: &str = "\
Makes OpenAI API keys that end by themselves. `creds` makes a service account with a key for each lease, on \
`roles` that belong to a `project`; `config` holds the admin key that all of it is done with.";

/// Mounts engines in this process.
#[derive(Debug, Default)]
pub struct Engines;

impl Factory for Engines {
    fn mount(&self, setup: Setup) -> Result<Arc<dyn logical::Backend>, logical::Error> {
        let engine = Arc::new(Engine::new(&setup));
        Ok(Backend::builder(engine, setup.system, ROOT_HELP)
            .paths(paths())
            .lease(&creds::CREDENTIAL, creds::revoke)
            .wal(&issuer::swept(), issuer::sweep)
            .special(special_paths())
            .build())
    }
}

/// Every noun of the engine.
fn paths() -> Vec<Path<Engine>> {
    [
        config::paths(),
        projects::paths(),
        roles::paths(),
        creds::paths(),
        static_roles::paths(),
        library_sets::paths(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn special_paths() -> SpecialPaths {
    SpecialPaths {
        seal_wrap_storage: vec![config::CONFIG.prefix().to_owned()],
        local_storage: vec![framework::WAL_PREFIX.to_owned(), ledger::LEDGER.prefix().to_owned()],
        ..SpecialPaths::default()
    }
}

/// One mount.
pub struct Engine {
    tag: MountTag,
    system: Arc<dyn SystemView>,
    locks: Locks,
    listings: Listings,
    clients: Clients,
    metrics: Arc<Metrics>,
    config: Cache<Config>,
    projects: Cache<Project>,
    roles: Cache<Role>,
}

impl Engine {
    fn new(setup: &Setup) -> Self {
        let metrics = Arc::new(Metrics::new(
            env!("CARGO_PKG_VERSION"),
            option_env!("BUILD_COMMIT").unwrap_or("unknown"),
        ));
        Self {
            tag: MountTag::of(&setup.backend_uuid),
            system: Arc::clone(&setup.system),
            locks: Locks::new(),
            listings: Listings::default(),
            clients: Clients::new(Arc::clone(&metrics)),
            metrics,
            config: Cache::new(&config::CONFIG),
            projects: Cache::new(&projects::PROJECTS),
            roles: Cache::new(&roles::ROLES),
        }
    }

    /// Whether the owner's record names what was made.
    async fn owns(&self, storage: &dyn Storage, creation: &issuer::Creation) -> Result<bool, Error> {
        match &creation.owner {
            issuer::Owner::Ledger(place) => Ok(ledger::LEDGER.contains(storage, place).await?),
        }
    }
}

#[async_trait]
impl framework::Engine for Engine {
    async fn periodic(self: Arc<Self>, tick: Tick) -> Result<(), logical::Error> {
        creds::remove_ended(&self, &tick).await?;
        Ok(())
    }

    fn invalidate(&self, key: &str) {
        self.config.invalidate(key);
        self.projects.invalidate(key);
        self.roles.invalidate(key);
    }
}
