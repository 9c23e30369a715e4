//! The OpenAI client of the stored configuration, cached until the configuration changes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::engine::config::configuration;
use crate::engine::config::configuration::{Config, ONLY};
use crate::engine::telemetry::metrics::Metrics;
use crate::engine::telemetry::openai_status::OpenAiStatus;
use crate::engine::time::clock::{Clock, Times};
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{
    AdminKey, Attempt, Call, Client, Observer, OrganizationId, Outcome, PROPAGATION_TIME, RecentIds,
    Settings, SettingsError, Urgency,
};

/// The client of the current configuration.
pub(in crate::engine) struct Clients {
    metrics: Arc<Metrics>,
    status: Arc<OpenAiStatus>,
    /// Ids of young accounts and keys. They survive a change of the configuration.
    recent: Arc<RecentIds>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Configured>>,
}

/// A configuration and its client.
#[derive(Clone)]
pub(in crate::engine) struct Configured {
    pub(in crate::engine) config: Arc<Config>,
    pub(in crate::engine) client: Client,
}

/// Records the client's calls in the metrics and in the OpenAI status.
struct Recorder {
    metrics: Arc<Metrics>,
    /// `None` for trial calls, which say nothing about the stored configuration.
    status: Option<Arc<OpenAiStatus>>,
}

impl Observer for Recorder {
    fn attempt(&self, attempt: &Attempt) {
        match &self.status {
            Some(status) if attempt.outcome.is_success() => status.succeeded(attempt.date),
            // Nothing is left to delete, so nothing failed. The test of the key's permissions deletes what never was there.
            Some(_) if attempt.call.is_deletion() && attempt.outcome == Outcome::Status(404) => {}
            Some(status) => {
                let is_foreign = matches!(attempt.outcome, Outcome::Foreign(_));
                status.failed(attempt.call.as_str(), &attempt.outcome.label(), is_foreign, attempt.key);
            }
            None => {}
        }
        self.metrics.api_attempt(attempt);
    }

    fn throttled(&self, call: Call, _: Urgency) {
        self.metrics.api_throttled(call.as_str());
    }
}

impl Clients {
    pub(in crate::engine) fn new(metrics: Arc<Metrics>, status: OpenAiStatus, clock: Arc<dyn Clock>) -> Self {
        let recent = Arc::new(RecentIds::new(Arc::clone(&clock)));
        Self { metrics, status: Arc::new(status), recent, clock, current: Mutex::new(None) }
    }

    /// The outcomes of the last calls to OpenAI.
    pub(in crate::engine) fn openai_status(&self) -> &OpenAiStatus {
        &self.status
    }

    /// Records calls in the metrics and in this status.
    pub(in crate::engine) fn recorder(&self, status: &Arc<OpenAiStatus>) -> Arc<dyn Observer> {
        Arc::new(Recorder { metrics: Arc::clone(&self.metrics), status: Some(Arc::clone(status)) })
    }

    /// A client of a configuration that is not stored yet.
    pub(in crate::engine) fn on_trial(&self, config: &Config) -> Result<Client, Error> {
        self.connect(config, None)
    }

    /// The client with a key that is not stored yet.
    pub(in crate::engine) fn with_key_on_trial(
        &self,
        client: &Client,
        key: &AdminKey,
    ) -> Result<Client, SettingsError> {
        client.with_admin_key(key, Arc::new(Recorder { metrics: Arc::clone(&self.metrics), status: None }))
    }

    /// A client of the stored configuration. A key of a rotation a moment ago is new for it, whichever process rotated.
    fn connect_stored(&self, config: &Config) -> Result<Client, Error> {
        let client = self.connect(config, Some(Arc::clone(&self.status)))?;
        let age = (self.clock.now() - config.last_rotated).abs().to_std();
        if config.keys.name.is_some() && age.is_ok_and(|age| age < PROPAGATION_TIME) {
            client.set_admin_key(&config.admin_api_key)?;
        }
        Ok(client)
    }

    fn connect(&self, config: &Config, status: Option<Arc<OpenAiStatus>>) -> Result<Client, Error> {
        let observer = Arc::new(Recorder { metrics: Arc::clone(&self.metrics), status });
        let client = Client::new(Settings {
            endpoint: config.endpoint()?,
            admin_key: config.admin_api_key.clone(),
            organization: config.organization_id.clone(),
            ca_cert: Some(config.ca_cert.clone()).filter(|pem| !pem.is_empty()),
            client_certificate: config.client_certificate(),
            max_requests_per_minute: config.max_requests_per_minute,
            observer,
        })?;
        Ok(client.sharing_recent_ids(Arc::clone(&self.recent)))
    }

    /// Notes the creation time of these ids from a record. For a minute after its creation, OpenAI's 404 for an id proves
    /// nothing, whichever process created the object.
    fn note_made(&self, ids: &[&str], made: DateTime<Utc>, times: &Times) {
        // A creation time in the future means that the clock was set back.
        let age = (times.now() - made).abs().to_std().unwrap_or_default();
        for id in ids {
            if age < PROPAGATION_TIME {
                self.recent.insert(id, age);
            } else if !times.are_known() {
                self.recent.insert_made(id, made);
            }
        }
    }

    /// Per-tick work: drops ids that are no longer young.
    pub(in crate::engine) fn upkeep(&self) {
        self.recent.evict_expired();
    }

    /// Drops the client and its learned rate limit, because the configuration is gone.
    pub(in crate::engine) fn forget(&self) {
        *self.current.lock() = None;
    }

    fn of(&self, config: Arc<Config>) -> Result<Configured, Error> {
        let mut current = self.current.lock();
        // A reader of the previous configuration must not restore the replaced key.
        if let Some(configured) = current.as_ref().filter(|held| held.config.revision >= config.revision) {
            return Ok(configured.clone());
        }
        let client = match current.as_ref().filter(|held| held.config.connects_like(&config)) {
            Some(held) => held.client_for(&config)?,
            None => self.connect_stored(&config)?,
        };
        let configured = Configured { config, client };
        *current = Some(configured.clone());
        Ok(configured)
    }
}

impl Configured {
    /// The same client with the new key. It keeps the learned rate limit, and queued calls use the new key, so a rotation
    /// fails no request.
    fn client_for(&self, config: &Config) -> Result<Client, Error> {
        if self.config.admin_api_key != config.admin_api_key {
            self.client.set_admin_key(&config.admin_api_key)?;
        }
        Ok(self.client.clone())
    }
}

/// See [`Clients::note_made`].
pub(in crate::engine) fn note_made(engine: &Engine, ids: &[&str], made: impl Into<Option<DateTime<Utc>>>) {
    if let Some(made) = made.into() {
        engine.config.clients.note_made(ids, made, &engine.times);
    }
}

/// The configuration and its client.
pub(in crate::engine) async fn configured(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Configured, Error> {
    let config = engine.config.stored.get(storage, ONLY).await?.ok_or(Error::NotConfigured)?;
    engine.config.clients.of(config)
}

/// Like [`configured`], for the creation of objects without expiry. Refused if storage has no configuration
/// although this process remembers one, as after a move between OpenBao namespaces. A new object's record would be
/// lost.
pub(in crate::engine) async fn configured_in_storage(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Configured, Error> {
    let configured = configured(engine, storage).await?;
    if configuration::stored_config(engine, storage).await?.is_some() {
        return Ok(configured);
    }
    Err(Error::field(
        "the configuration is no longer in the mount's storage: if the mount was moved to another namespace, reload \
         the plugin for it (bao plugin reload -mounts)",
    ))
}

/// The client for objects of this organization. With another organization's key every object there would look deleted.
pub(in crate::engine) async fn client_of(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<Client, Error> {
    let Configured { config, client } = configured(engine, storage).await?;
    if config.organization_id == *organization {
        return Ok(client);
    }
    Err(Error::OtherOrganization {
        organization: organization.clone(),
        configured: config.organization_id.clone(),
    })
}

/// Like [`client_of`], but `None` if the current configuration does not reach the organization. An operator may
/// change it later.
pub(in crate::engine) async fn client_in_reach(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<Option<Client>, Error> {
    match client_of(engine, storage, organization).await {
        Err(Error::NotConfigured | Error::OtherOrganization { .. }) => Ok(None),
        client => client.map(Some),
    }
}
