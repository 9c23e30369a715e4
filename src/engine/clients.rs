//! From the stored configuration to a client of OpenAI, kept until the configuration changes.

use std::sync::{Arc, Mutex, PoisonError};

use super::config::Config;
use super::metrics::{ApiAttempt, Metrics};
use super::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{Attempt, Call, Client, Endpoint, Observer, OrganizationId, Settings, Urgency};

/// The client of the present configuration.
pub(super) struct Clients {
    metrics: Arc<Metrics>,
    current: Mutex<Option<Configured>>,
}

/// A configuration and the client made of it.
#[derive(Clone)]
pub(super) struct Configured {
    pub(super) config: Arc<Config>,
    pub(super) client: Client,
}

/// Counts what the client does, where it happens.
struct Counted(Arc<Metrics>);

impl Observer for Counted {
    fn attempt(&self, attempt: &Attempt) {
        let failure = (!attempt.outcome.is_success()).then(|| attempt.outcome.label());
        self.0.api_attempt(&ApiAttempt {
            endpoint: attempt.call.as_str(),
            urgency: word(attempt.urgency),
            failure: failure.as_deref(),
            latency: attempt.latency,
            wait: attempt.wait,
            is_retry: attempt.retries > 0,
        });
    }

    fn throttled(&self, call: Call, _: Urgency) {
        self.0.api_throttled(call.as_str());
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
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, current: Mutex::new(None) }
    }

    /// A client of this configuration, which need not be stored yet.
    pub(super) fn connect(&self, config: &Config) -> Result<Client, Error> {
        let observer = Arc::new(Counted(Arc::clone(&self.metrics)));
        Ok(Client::new(Settings {
            endpoint: Endpoint::parse(&config.api_endpoint)
                .map_err(|error| Error::field(format!("api_endpoint: {error}")))?,
            admin_key: config.admin_api_key.clone(),
            organization: config.organization_id.clone(),
            ca_cert: Some(config.ca_cert.clone()).filter(|pem| !pem.is_empty()),
            max_requests_per_minute: config.max_requests_per_minute,
            observer,
        })?)
    }

    fn of(&self, config: Arc<Config>) -> Result<Configured, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(configured) = current.as_ref().filter(|held| Arc::ptr_eq(&held.config, &config)) {
            return Ok(configured.clone());
        }
        let same = current.as_ref().filter(|held| held.config.connects_like(&config));
        let client = match same {
            // The client goes on, with all it has learned of OpenAI's pace.
            Some(held) => held.client.clone(),
            None => self.connect(&config)?,
        };
        let configured = Configured { config, client };
        *current = Some(configured.clone());
        Ok(configured)
    }
}

impl Engine {
    /// The configuration and its client.
    pub(super) async fn configured(&self, storage: &dyn Storage) -> Result<Configured, Error> {
        let config = self.config.get(storage, "").await?.ok_or(Error::NotConfigured)?;
        self.clients.of(config)
    }

    /// The client, for what lives in this organization: under another one's key everything there looks gone.
    pub(super) async fn client_of(
        &self,
        storage: &dyn Storage,
        organization: &OrganizationId,
    ) -> Result<Client, Error> {
        let Configured { config, client } = self.configured(storage).await?;
        if config.organization_id == *organization {
            return Ok(client);
        }
        Err(Error::field(format!(
            "this belongs to organization {organization}, but config names {}: its end cannot be told from there",
            config.organization_id
        )))
    }
}
