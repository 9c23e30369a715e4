//! From the stored configuration to a client of OpenAI, kept until the configuration changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::accounts::making::Making;
use crate::engine::config::configuration::{Config, ONLY};
use crate::engine::telemetry::metrics::{ApiAttempt, Metrics};
use crate::engine::telemetry::openai_status::Pulse;
use crate::engine::time::clock::Clock;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{
    AdminKey, Attempt, Call, Client, Observer, OrganizationId, Outcome, PROPAGATION_TIME, RecentIds,
    Settings, SettingsError, Urgency,
};

/// After this time OpenAI lists what it was asked to make: the 20 s that were seen, and a moment for the call itself.
pub(in crate::engine) const LONGEST_LAG: Duration = Duration::from_secs(25);

/// The client of the present configuration.
pub(in crate::engine) struct Clients {
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    /// Ids of accounts and keys that this mount made a moment ago. They outlive a change of the configuration.
    recent: Arc<RecentIds>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Configured>>,
}

/// A configuration and the client made of it.
#[derive(Clone)]
pub(in crate::engine) struct Configured {
    pub(in crate::engine) config: Arc<Config>,
    pub(in crate::engine) client: Client,
}

/// Counts what the client does, where it happens.
struct Counted {
    metrics: Arc<Metrics>,
    /// None for what is only tried: it says nothing of the stored configuration.
    pulse: Option<Arc<Pulse>>,
}

impl Observer for Counted {
    fn attempt(&self, attempt: &Attempt) {
        let failure = (!attempt.outcome.is_success()).then(|| attempt.outcome.label());
        if let Some(pulse) = &self.pulse {
            match &failure {
                None => pulse.succeeded(attempt.date),
                Some(code) => {
                    let is_foreign = matches!(attempt.outcome, Outcome::Foreign(_));
                    pulse.failed(attempt.call.as_str(), code, is_foreign, attempt.key);
                }
            }
        }
        self.metrics.api_attempt(&ApiAttempt {
            endpoint: attempt.call.as_str(),
            urgency: word(attempt.urgency),
            failure: failure.as_deref(),
            latency: attempt.latency,
            wait: attempt.wait,
            is_retry: attempt.retries > 0,
        });
    }

    fn throttled(&self, call: Call, _: Urgency) {
        self.metrics.api_throttled(call.as_str());
    }
}

/// The value of the metric's label.
fn word(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Revocation => "revocation",
        Urgency::Rotation => "rotation",
        Urgency::Issue => "issue",
        Urgency::Check => "check",
    }
}

impl Clients {
    pub(in crate::engine) fn new(metrics: Arc<Metrics>, pulse: Pulse, clock: Arc<dyn Clock>) -> Self {
        let recent = Arc::new(RecentIds::new(Arc::clone(&clock)));
        Self { metrics, pulse: Arc::new(pulse), recent, clock, current: Mutex::new(None) }
    }

    /// What the last calls came to.
    pub(in crate::engine) fn pulse(&self) -> &Pulse {
        &self.pulse
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
        client.with_admin_key(key, Arc::new(Counted { metrics: Arc::clone(&self.metrics), pulse: None }))
    }

    fn connect(&self, config: &Config, pulse: Option<Arc<Pulse>>) -> Result<Client, Error> {
        let observer = Arc::new(Counted { metrics: Arc::clone(&self.metrics), pulse });
        let client = Client::new(Settings {
            endpoint: config.endpoint()?,
            admin_key: config.admin_api_key.clone(),
            organization: config.organization_id.clone(),
            ca_cert: Some(config.ca_cert.clone()).filter(|pem| !pem.is_empty()),
            max_requests_per_minute: config.max_requests_per_minute,
            observer,
        })?;
        Ok(client.sharing_recent_ids(Arc::clone(&self.recent)))
    }

    /// A record tells when these ids were made, by our clock. While that is less than a minute ago, OpenAI's 404 for one of
    /// them proves nothing, whichever process made it.
    pub(in crate::engine) fn note_made(&self, ids: &[&str], made: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        // A time ahead of ours is a clock that was put back.
        let age = made.and_then(|made| (now - made).abs().to_std().ok());
        let Some(age) = age.filter(|age| *age < PROPAGATION_TIME) else { return };
        for id in ids {
            self.recent.insert(id, age);
        }
    }

    /// Per-tick work: what is no longer recent takes no memory.
    pub(in crate::engine) fn upkeep(&self) {
        self.recent.evict_expired();
    }

    /// The configuration is gone, and with it what was learned.
    pub(in crate::engine) fn forget(&self) {
        *self.lock() = None;
    }

    fn of(&self, config: Arc<Config>) -> Result<Configured, Error> {
        let mut current = self.lock();
        // Who read the configuration just before it changed must not bring the key back that was replaced.
        if let Some(configured) = current.as_ref().filter(|held| held.config.revision >= config.revision) {
            return Ok(configured.clone());
        }
        let client = match current.as_ref().filter(|held| held.config.connects_like(&config)) {
            Some(held) => held.pass_on(&config)?,
            None => self.connect(&config, Some(Arc::clone(&self.pulse)))?,
        };
        let configured = Configured { config, client };
        *current = Some(configured.clone());
        Ok(configured)
    }

    /// A panic while the lock was held leaves what is there whole.
    fn lock(&self) -> MutexGuard<'_, Option<Configured>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configured {
    /// The client goes on, with all it has learned of OpenAI's pace. What waits for its turn with the key before takes
    /// the new one, too: rotation fails nobody's request.
    fn pass_on(&self, config: &Config) -> Result<Client, Error> {
        if !self.config.has_key_of(config) {
            self.client.set_admin_key(&config.admin_api_key)?;
        }
        Ok(self.client.clone())
    }
}

impl Engine {
    /// A record tells when these ids were made: see [`Clients::note_made`].
    pub(in crate::engine) fn note_made(&self, ids: &[&str], made: impl Into<Option<DateTime<Utc>>>) {
        self.clients.note_made(ids, made.into(), self.now());
    }

    /// Waits until what was begun then is surely in OpenAI's lists, if it was made. The time is the machine's.
    pub(in crate::engine) async fn let_appear(&self, begun: Option<DateTime<Utc>>) {
        let age = begun.and_then(|begun| (Utc::now() - begun).abs().to_std().ok());
        let left = age.map_or(Duration::ZERO, |age| LONGEST_LAG.saturating_sub(age));
        if !left.is_zero() {
            self.clients.clock.pause(left).await;
        }
    }

    /// Waits until what was being made is surely in OpenAI's lists, if it was made.
    pub(in crate::engine) async fn let_making_appear(&self, making: &Making) {
        let age = (self.now() - making.since).to_std().unwrap_or_default();
        let left = LONGEST_LAG.saturating_sub(age);
        if !left.is_zero() {
            self.clients.clock.pause(left).await;
        }
    }

    /// The configuration and its client.
    pub(in crate::engine) async fn configured(&self, storage: &dyn Storage) -> Result<Configured, Error> {
        let config = self.config.get(storage, ONLY).await?.ok_or(Error::NotConfigured)?;
        self.clients.of(config)
    }

    /// The same, for whoever makes something that has no end. Refuses where storage has no configuration although this
    /// process remembers one, as after a move between namespaces of OpenBao: the record of what is made would be lost.
    pub(in crate::engine) async fn configured_in_storage(
        &self,
        storage: &dyn Storage,
    ) -> Result<Configured, Error> {
        let configured = self.configured(storage).await?;
        if self.stored_config(storage).await?.is_some() {
            return Ok(configured);
        }
        Err(Error::field(
            "the configuration is not in the mount's storage any more: if the mount was moved to another namespace, reload \
             the plugin for it (bao plugin reload -mounts)",
        ))
    }

    /// The client, for what lives in this organization: under another one's key everything there looks gone.
    pub(in crate::engine) async fn client_of(
        &self,
        storage: &dyn Storage,
        organization: &OrganizationId,
    ) -> Result<Client, Error> {
        let Configured { config, client } = self.configured(storage).await?;
        if config.organization_id == *organization {
            return Ok(client);
        }
        Err(Error::OtherOrganization {
            organization: organization.clone(),
            configured: config.organization_id.clone(),
        })
    }

    /// The same for a sweep, which waits if there is none under the present configuration: an operator may change it.
    pub(in crate::engine) async fn client_in_reach(
        &self,
        storage: &dyn Storage,
        organization: &OrganizationId,
    ) -> Result<Option<Client>, Error> {
        match self.client_of(storage, organization).await {
            Err(Error::NotConfigured | Error::OtherOrganization { .. }) => Ok(None),
            client => client.map(Some),
        }
    }
}
