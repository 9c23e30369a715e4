//! The OpenAI secrets engine.
//!
//! [`Engine`] is one mount: its caches, its clients, its locks. Each folder declares its paths, fields and handlers, and
//! this file lists them. Storage holds the state. A new process derives again what only memory holds.
//!
//! # The folders, from top to bottom
//! A folder uses the folders below it and the files beside this one. Where a folder needs one above it, it declares a
//! trait, and this file names the implementation. A folder keeps its caches and locks in its `Memory`. Only the folder and
//! those above it use that. A test holds these rules.
//!
//! ```text
//! operator/      health, metrics, info, revocations, tidy, costs
//! library/       library sets, loans, check-out and check-in
//! static_roles/  static roles, static credentials, their rotation
//! creds/         roles, credentials, creation windows, the ledger, the end of leases
//! federation/    the issuer of tokens, roles with access tokens, their provider and rules at OpenAI
//! config/        the configuration, its admin key, projects, clients of OpenAI
//! accounts/      the worker, the due index, look-ups by name, claims on accounts
//! telemetry/     metrics, events, the metrics listener, OpenAI's status
//! naming/        names of accounts and keys, and their templates
//! time/          clocks, schedules, back-off, durations in records
//! ```

mod accounts;
mod build;
mod cache;
mod config;
mod creds;
mod error;
pub mod failpoint;
mod federation;
pub mod fingerprint;
mod library;
pub mod naming;
mod operator;
mod static_roles;
mod storage_version;
pub mod telemetry;
pub mod time;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::accounts::kind::{Kind, Pending};
use self::accounts::owner::Owner;
use self::accounts::worker;
use self::cache::Cache;
use self::config::dependents::Dependents;
use self::creds::windows::{LEGACY_ENTRY, WINDOW};
pub use self::error::Error;
use self::library::sets::LibrarySet;
use self::naming::names::MountTag;
use self::operator::tidy::Tidying;
use self::telemetry::events::Events;
use self::telemetry::listener::{Listener, Source};
use self::telemetry::metrics::Metrics;
use self::time::clock::{Clock, Times, WallClock};
use crate::framework::{self, Backend, Locks, Path, Tick, WalLog};
use crate::logical::{self, Factory, Setup, SpecialPaths, Storage, SystemView, Writable};

/// The help text of the mount (`vault path-help openai`).
const ROOT_HELP: &str = "\
Issues OpenAI API keys in three ways. creds/<role> makes a service account with a key for each lease, and deletes both \
when the lease ends. static-creds/<role> returns the current key of a permanent account, and Vault rotates that key. \
library-sets/<set>/check-out lends an account of a set to one borrower at a time. config holds the admin key for all calls \
to OpenAI. With config/federation, roles can also hand out access tokens, and no key exists.

Begin with:

    $ vault write openai/config admin_api_key=sk-admin-... organization_id=org-123456
    $ vault write openai/project/research project_id=proj_abc123
    $ vault write openai/roles/app project=research
    $ vault read openai/creds/app

For troubleshooting, health shows problems, and revocations lists pending deletions.";

/// Mounts engines in this process.
#[derive(Debug)]
pub struct Engines {
    version: &'static str,
    clock: Arc<dyn Clock>,
    listener: Option<Arc<Listener>>,
}

impl Default for Engines {
    fn default() -> Self {
        Self::by(Arc::new(WallClock))
    }
}

impl Engines {
    /// Engines with this clock.
    pub fn by(clock: Arc<dyn Clock>) -> Self {
        Self { version: build::VERSION, clock, listener: None }
    }

    /// Sets the version.
    #[must_use]
    pub fn of_release(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// Serves the metrics of all mounts at this listener.
    #[must_use]
    pub fn heard_at(self, listener: Option<Arc<Listener>>) -> Self {
        Self { listener, ..self }
    }
}

impl Factory for Engines {
    fn mount(&self, setup: Setup) -> Result<Arc<dyn logical::Backend>, logical::Error> {
        let engine = Arc::new(Engine::new(self, &setup));
        if let Some(listener) = &self.listener {
            let mount: Weak<Engine> = Arc::downgrade(&engine);
            listener.add(mount);
        }
        Ok(Backend::builder(engine, setup.system, ROOT_HELP)
            .paths(paths())
            .renewable_lease(&library::leases::CHECK_OUT, library::leases::revoke, library::leases::renew)
            .lease(&creds::path_creds::CREDENTIAL, creds::credential_end::revoke)
            .lease(&creds::predecessor_leases::CREDENTIAL, creds::predecessor_leases::revoke)
            .wal(&creds::former::swept(), creds::former::sweep)
            .wal(&WINDOW, creds::windows::sweep)
            .wal_by_key(&LEGACY_ENTRY, creds::windows::sweep_legacy)
            .wal(&config::former::swept(), config::former::sweep)
            .rotate(config::admin_key::rotate_for_vault)
            .special(special_paths())
            .build())
    }
}

/// All paths of the engine.
fn paths() -> Vec<Path<Engine>> {
    [
        config::path_config::paths(),
        config::admin_key::paths(),
        config::projects::paths(),
        federation::paths(),
        federation::tokens::paths(),
        creds::path_roles::paths(),
        creds::path_creds::paths(),
        operator::revocations::paths(),
        static_roles::paths(),
        static_roles::static_creds::paths(),
        library::paths(),
        operator::tidy::paths(),
        operator::health::paths(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All kinds of owners that the worker reconciles.
const KINDS: &[&dyn Kind] = &[
    &config::admin_key::Configuration,
    &federation::Federated,
    &federation::FederatedRoles,
    &static_roles::StaticRoles,
    &library::returns::Loans,
    &library::reconcile::LibrarySets,
];

/// The kind that the owner is of.
fn kind_of(owner: &Owner) -> &'static dyn Kind {
    match owner {
        Owner::Config => &config::admin_key::Configuration,
        Owner::Federation => &federation::Federated,
        Owner::FederatedRole(_) => &federation::FederatedRoles,
        Owner::StaticRole(_) => &static_roles::StaticRoles,
        Owner::Loan { .. } => &library::returns::Loans,
        Owner::LibrarySet(_) => &library::reconcile::LibrarySets,
    }
}

/// Everything that depends on the configuration.
const DEPENDENTS: &dyn Dependents = &operator::dependents::AllRooms;

/// Lists the write-ahead entries of one kind whose creations should be settled by now.
type OverdueEntries = fn(&WalLog, DateTime<Utc>) -> Vec<Pending>;

/// One for each kind of entry.
const OVERDUE_ENTRIES: &[OverdueEntries] = &[creds::former::overdue, creds::windows::overdue];

fn special_paths() -> SpecialPaths {
    SpecialPaths {
        seal_wrap_storage: vec![
            config::configuration::CONFIG.prefix().to_owned(),
            federation::record::FEDERATION.prefix().to_owned(),
            static_roles::STATIC_ROLES.prefix().to_owned(),
        ],
        local_storage: vec![framework::WAL_PREFIX.to_owned(), creds::ledger::LEDGER.prefix().to_owned()],
        ..SpecialPaths::default()
    }
}

/// One mount: what all rooms share, and the memory of each room.
pub struct Engine {
    version: &'static str,
    tag: MountTag,
    system: Arc<dyn SystemView>,
    /// The mount's storage, for work without a request.
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    times: Arc<Times>,
    locks: Locks,
    metrics: Arc<Metrics>,
    events: Events,
    listener: Option<Arc<Listener>>,
    /// The mount point; empty before the first request.
    mount_point: Mutex<String>,
    /// Cancelled when this process unloads the mount.
    gone: CancellationToken,
    /// Set when the configuration names another organization, and at the start: an earlier process may have ended before
    /// its ticks knew of that. The next ticks retry everything that waits for that.
    reach_changed: AtomicBool,
    /// The reason to refuse every request: a newer release wrote the mount's storage.
    refusal: OnceLock<String>,
    accounts: accounts::memory::Memory,
    config: config::memory::Memory,
    federation: federation::memory::Memory,
    creds: creds::memory::Memory,
    library_sets: Cache<LibrarySet>,
    tidying: Tidying,
}

impl Engine {
    fn new(engines: &Engines, setup: &Setup) -> Self {
        let Engines { version, clock, listener } = engines;
        let metrics = Arc::new(Metrics::new(version, build::COMMIT));
        let times = Arc::new(Times::new(Arc::clone(clock)));
        Self {
            version,
            tag: MountTag::of(&setup.backend_uuid),
            system: Arc::clone(&setup.system),
            storage: Arc::clone(&setup.storage),
            clock: Arc::clone(clock),
            locks: Locks::new(),
            events: Events::new(Arc::clone(&setup.system)),
            listener: listener.clone(),
            mount_point: Mutex::default(),
            gone: CancellationToken::new(),
            reach_changed: AtomicBool::new(true),
            refusal: OnceLock::new(),
            accounts: accounts::memory::Memory::new(clock),
            config: config::memory::Memory::new(&metrics, &times, clock),
            federation: federation::memory::Memory::new(&times),
            creds: creds::memory::Memory::new(clock),
            library_sets: Cache::new(&library::sets::SETS),
            tidying: Tidying::default(),
            times,
            metrics,
        }
    }

    /// The current time. Not for expiries, because this machine's clock may be wrong.
    fn now(&self) -> DateTime<Utc> {
        self.times.now()
    }

    /// The earlier of this machine's clock and OpenAI's. Expiries are compared with this.
    fn certain_time(&self) -> DateTime<Utc> {
        self.times.certain()
    }

    /// The later of this machine's clock and OpenAI's. Stored expiries count from this.
    fn latest_time(&self) -> DateTime<Utc> {
        self.times.latest()
    }

    /// The mount point; empty before the first request.
    fn mount_point(&self) -> String {
        self.mount_point.lock().clone()
    }

    /// The part of a tick that writes replicated storage. A performance secondary writes only its credentials.
    async fn work_of_primary(&self, tick: &Tick, reach_changed: bool) -> Vec<logical::Error> {
        if tick.writable == Writable::LocalOnly {
            return Vec::new();
        }
        let (reconciled, moved, found, measured, tracked) = tokio::join!(
            caught(async { Ok(self.reconcile_owners(tick, reach_changed).await) }),
            caught(library::legacy::tick(self, tick)),
            caught(library::missing::tick(self, tick)),
            caught(library::status::tick(self, tick)),
            caught(operator::costs::track(self, tick)),
        );
        let mut failures = reconciled.unwrap_or_else(|panicked| vec![panicked.into()]);
        let others = [moved, found, measured, tracked].into_iter().filter_map(Result::err);
        failures.extend(others.map(logical::Error::from));
        failures
    }

    async fn reconcile_owners(&self, tick: &Tick, reach_changed: bool) -> Vec<logical::Error> {
        let (storage, begun) = (&*tick.storage, self.now());
        let went_back = config::clock_watch::clock_went_back(self, storage, begun).await;
        let worked = worker::tick(self, tick, matches!(went_back, Ok(true)), reach_changed).await;
        if reach_changed && !worked.is_whole {
            self.reach_changed.store(true, Ordering::Relaxed);
        }
        // If the clock went back, its time is stored only after all owners are checked, by OpenAI's clock, too. Else the next
        // tick repeats that.
        let is_checked = worked.is_whole && self.times.latest_known().is_some();
        let noted = match went_back {
            Ok(went_back) if !went_back || is_checked => {
                config::clock_watch::note_time(self, storage, begun).await
            }
            went_back => went_back.map(drop),
        };
        noted.err().into_iter().map(logical::Error::from).chain(worked.failures).collect()
    }
}

/// Runs `work`. A panic of the work is its failure.
async fn caught<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Error::Panicked))
}

#[async_trait]
impl framework::Engine for Engine {
    async fn initialize(self: Arc<Self>) -> Result<(), logical::Error> {
        tracing::info!(version = self.version, tag = self.tag.as_str(), "OpenAI secrets engine ready");
        // Not earlier: while Vault only registers the plugin, another process may use the address.
        if let Some(listener) = &self.listener {
            listener.start();
        }
        // If storage fails now, the next start marks it.
        if let Ok(Some(refusal)) = storage_version::claim(&*self.storage).await {
            return Err(logical::Error::internal(self.refusal.get_or_init(|| refusal).clone()));
        }
        // After a failure the first sweep learns the entries.
        let _ = creds::windows::begin(&self).await;
        // A new mount has nothing to count.
        creds::live::is_complete(&self, &*self.storage).await;
        Ok(())
    }

    fn refusal(&self) -> Option<logical::Error> {
        self.refusal.get().map(|refusal| logical::Error::internal(refusal.clone()))
    }

    async fn periodic(self: Arc<Self>, tick: Tick) -> Vec<logical::Error> {
        self.metrics.upkeep();
        self.config.clients.upkeep();
        self.accounts.listings.drop_old();
        config::clock_watch::ask_openai(&self, &tick).await;
        let reach_changed = self.reach_changed.swap(false, Ordering::Relaxed);
        // Concurrently, so that a slow, failed or panicking part does not delay the others.
        let (created, removed, counted, others) = tokio::join!(
            caught(creds::windows::tick(&self, &tick)),
            caught(creds::ledger_worker::tick(&self, &tick, reach_changed)),
            caught(creds::live::tick(&self, &tick)),
            self.work_of_primary(&tick, reach_changed),
        );
        config::clock_watch::ask_while_failing(&self, &tick).await;
        let failures = [created, removed, counted].into_iter().filter_map(Result::err);
        failures.map(logical::Error::from).chain(others).collect()
    }

    fn surely_passed(&self) -> DateTime<Utc> {
        self.certain_time()
    }

    fn observe_mount_point(&self, mount_point: &str) {
        let mut known = self.mount_point.lock();
        if *known != mount_point {
            mount_point.clone_into(&mut known);
        }
    }

    fn invalidate(&self, key: &str) {
        self.config.invalidate(key);
        self.creds.invalidate(key);
        self.federation.invalidate(key);
        self.library_sets.invalidate(key);
    }

    async fn cleanup(&self) {
        self.creds.stop();
        self.gone.cancel();
    }
}

#[async_trait]
impl Source for Engine {
    /// The mount point, or the tag before the first request, which contains the mount point.
    fn mount(&self) -> String {
        let mount_point = self.mount_point();
        if mount_point.is_empty() { self.tag.to_string() } else { mount_point }
    }

    async fn text(&self) -> Result<String, String> {
        operator::health::metrics_text(self, &*self.storage).await.map_err(|error| error.to_string())
    }
}
