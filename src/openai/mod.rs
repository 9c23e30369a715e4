//! A client of OpenAI's Admin API: one method per call, typed ids, one error. It knows nothing of Vault, leases or
//! mounts.
//!
//! [`Client`] is the entry; the calls stand with their types in the file of their resource. Every call goes through
//! `send`, behind which the governor decides when it may leave.

mod admin_keys;
mod answer;
mod api_keys;
mod call;
mod connect;
mod costs;
mod deletion;
mod endpoint;
mod error;
mod http;
mod ids;
mod limiter;
mod observer;
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
mod transport_error;

use std::sync::Arc;
use std::time::Duration;

pub use admin_keys::{AdminKeyOwner, AdminKeyRecord, CreatedAdminKey};
pub use api_keys::{CreatedKey, KeyOwner, KeyRecord, LONGEST_EXPIRY, NewKey, OwnerAccount};
pub use call::Call;
pub use connect::SettingsError;
pub use costs::{Amount, CostBucket, CostLine, Costs, CostsQuery};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Refusal};
pub use ids::{AdminKeyId, ApiKeyId, IdError, OrganizationId, ProjectId, ServiceAccountId};
pub use observer::{Attempt, KeyVerdict, NoopObserver, Observer, Outcome};
pub use page::Pages;
pub use projects::Project;
pub use recent_ids::{PROPAGATION_TIME, Passing, RecentIds};
pub use secret::{AdminKey, ApiKey, KeyError};
pub use service_accounts::{CreatedServiceAccount, Role, ServiceAccount};

/// How long a call may wait for its turn unless [`Client::for_work`] says otherwise.
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(45);

/// How long somebody who waits is kept waiting while OpenAI fails or cannot be reached: a moment may bridge a restart of
/// its; more seldom helps, and whoever asked can ask again.
const MAX_WAIT_IN_OUTAGE: Duration = Duration::from_secs(5);

/// No patience is longer, so that no clock can overflow.
const MAX_WAIT_LIMIT: Duration = Duration::from_secs(86_400);

/// What a [`Client`] is made from.
pub struct Settings {
    /// Where the API is.
    pub endpoint: Endpoint,
    /// The key that every call carries.
    pub admin_key: AdminKey,
    /// The organization that every call names.
    pub organization: OrganizationId,
    /// Certificates in PEM that are trusted besides the public roots.
    pub ca_cert: Option<String>,
    /// No more calls than this leave in a minute; 0 = learn the pace from OpenAI's answers.
    pub max_requests_per_minute: u32,
    /// ErrorField of every attempt.
    pub observer: Arc<dyn Observer>,
}

/// A handle on OpenAI's Admin API. Clones share connections and pace.
#[derive(Clone)]
pub struct Client {
    inner: Arc<http::Inner>,
    urgency: Urgency,
    max_wait: Duration,
    recent_ids: Arc<RecentIds>,
    /// Whether a 404 may be about something that somebody else made a moment ago.
    retries_not_found: bool,
}

/// What a call is for: revocations go before rotations, those before the rest, which keeps a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Ends a credential.
    Revocation,
    /// Replaces a credential.
    Rotation,
    /// Makes a credential that somebody waits for.
    Issue,
    /// Looks something up.
    Check,
}

impl Urgency {
    /// How much of its patience a call keeps while OpenAI fails.
    fn max_wait_in_outage(self, max_wait: Duration) -> Duration {
        match self {
            Self::Revocation | Self::Rotation => max_wait,
            Self::Issue | Self::Check => max_wait.min(MAX_WAIT_IN_OUTAGE),
        }
    }
}

impl Client {
    /// A client of these settings. Nothing is sent yet. Its calls are of [`Urgency::Issue`] until
    /// [`Client::for_work`] says otherwise.
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

    /// The same client for work of this urgency. `patience` is how long after a call is made it may still be sent
    /// or sent again; a call already sent then has its own time limit of 30 s on top. Issues and checks wait less while
    /// OpenAI fails, as somebody waits for them.
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
