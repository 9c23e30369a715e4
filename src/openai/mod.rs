//! A client of OpenAI's Admin API: one method for each call, typed ids, one error type. [`TokenExchange`] is the client of
//! OpenAI's token exchange, which needs no admin key.
//!
//! [`Client`] is the entry point. Each resource has a file with its calls and types. Every call goes through
//! `Client::send`; the rate limiter decides when the call is sent. The client knows nothing of Vault, leases or
//! mounts.

mod admin_keys;
mod answer;
mod api_keys;
mod call;
mod clock;
mod connect;
mod costs;
mod deletion;
mod endpoint;
mod error;
mod http;
mod ids;
mod key_uses;
mod limiter;
mod observer;
mod pace;
mod page;
mod projects;
mod queue;
mod rate_estimator;
mod rate_limiter;
mod recent_ids;
mod redact;
mod resolver;
mod retry;
mod retry_after;
mod secret;
mod service_accounts;
#[cfg(test)]
mod tests;
mod token_exchange;
mod transport_error;
mod workload_identity;

use std::sync::Arc;
use std::time::Duration;

pub use admin_keys::{AdminKeyOwner, AdminKeyRecord, CreatedAdminKey};
pub use api_keys::{CreatedKey, KeyOwner, KeyRecord, LONGEST_EXPIRY, NewKey, OwnerAccount};
pub use call::Call;
pub use clock::{Clock, WallClock};
pub use connect::SettingsError;
pub use costs::{Amount, CostBucket, CostGroup, CostLine, Costs};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Denial, Error, Refusal};
pub use ids::{
    AdminKeyId, ApiKeyId, FederationRuleId, IdError, IdentityProviderId, OrganizationId, ProjectId,
    ServiceAccountId,
};
pub use observer::{Attempt, KeyVerdict, NoopObserver, Observer, Outcome};
pub use page::Pages;
pub use projects::Project;
pub use recent_ids::{PROPAGATION_TIME, RecentIds};
pub use secret::{AccessTokenValue, AdminKey, ApiKey, ClientKey, KeyError, SubjectToken};
pub use service_accounts::{CreatedServiceAccount, Role, ServiceAccount};
pub use token_exchange::{AccessToken, ExchangeError, ExchangeRefusal, TokenExchange};
pub use workload_identity::{
    FederationRule, FederationRuleChange, IdentityProvider, IdentityProviderChange, NewFederationRule,
    NewIdentityProvider, Permissions,
};

/// Maximum wait of a call unless [`Client::for_work`] sets another one.
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(45);

/// Maximum wait of an issue or a check during an outage. A short wait bridges a restart of OpenAI; after that the
/// caller retries.
const MAX_WAIT_IN_OUTAGE: Duration = Duration::from_secs(5);

/// Upper bound on every maximum wait, so that no time arithmetic overflows.
const MAX_WAIT_LIMIT: Duration = Duration::from_secs(86_400);

/// Settings of a [`Client`].
pub struct Settings {
    /// Base URL of the API.
    pub endpoint: Endpoint,
    /// The key of every call.
    pub admin_key: AdminKey,
    /// The organization of every call.
    pub organization: OrganizationId,
    /// PEM certificates that the client trusts besides the public roots.
    pub ca_cert: Option<String>,
    /// Certificate that the client shows to a server that demands one.
    pub client_certificate: Option<ClientCertificate>,
    /// Maximum calls per minute; 0 means that the client learns the rate from OpenAI's responses.
    pub max_requests_per_minute: u32,
    /// Receives every attempt.
    pub observer: Arc<dyn Observer>,
}

/// A certificate of this client and its private key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// PEM of the certificate and its chain.
    pub certificate: String,
    /// PEM of the private key.
    pub key: ClientKey,
}

/// A client of OpenAI's Admin API. Clones share connections and the rate limiter.
#[derive(Clone)]
pub struct Client {
    inner: Arc<http::Inner>,
    urgency: Urgency,
    max_wait: Duration,
    recent_ids: Arc<RecentIds>,
    /// True if a 404 may concern an object that somebody else created a moment ago.
    retries_not_found: bool,
}

/// Purpose of a call, which sets its priority. Revocations come first, then rotations, then all others, which keep a
/// share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Ends a credential.
    Revocation,
    /// Replaces a credential.
    Rotation,
    /// Creates a credential for a waiting caller.
    Issue,
    /// Reads something.
    Check,
}

impl Urgency {
    /// Maximum wait of a call while OpenAI fails.
    fn max_wait_in_outage(self, max_wait: Duration) -> Duration {
        match self {
            Self::Revocation | Self::Rotation => max_wait,
            Self::Issue | Self::Check => max_wait.min(MAX_WAIT_IN_OUTAGE),
        }
    }
}

impl Client {
    /// A client with these settings. Nothing is sent yet. Its calls have [`Urgency::Issue`] until
    /// [`Client::for_work`] changes that.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        Self::with_timeouts(settings, connect::Timeouts::default())
    }

    fn with_timeouts(settings: Settings, timeouts: connect::Timeouts) -> Result<Self, SettingsError> {
        let inner = Arc::new(http::Inner::new(settings, timeouts)?);
        Ok(Self {
            inner,
            urgency: Urgency::Issue,
            max_wait: DEFAULT_MAX_WAIT,
            recent_ids: Arc::default(),
            retries_not_found: false,
        })
    }

    /// The same client for work of this urgency. `max_wait` limits the time after which a call may still be sent or
    /// repeated. A call that was sent has its own timeout of 30 s. Issues and checks wait less during an outage
    /// because a caller waits for them.
    #[must_use]
    pub fn for_work(&self, urgency: Urgency, max_wait: Duration) -> Self {
        Self { urgency, max_wait: max_wait.min(MAX_WAIT_LIMIT), ..self.clone() }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("inner", &self.inner)
            .field("urgency", &self.urgency)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}
