//! The token exchange (RFC 8693): a signed token of an issuer for an access token of a service account. No admin key is
//! sent.
//!
//! An access token ends by itself, so a repeated exchange does no harm. Refusals have the form of OAuth (RFC 6749
//! section 5.2); `answer` reads the form of the Admin API.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::answer::Answer;
use super::connect::{self, Timeouts};
use super::error::seconds as whole_seconds;
use super::http::{self, AttemptReport, JSON};
use super::limiter::Limiter;
use super::retry::{self, AttemptInfo, CallOptions};
use super::transport_error::CallContext;
use super::{
    AccessTokenValue, Call, ClientCertificate, Endpoint, Error, IdentityProviderId, NoopObserver, Observer,
    Refusal, ServiceAccountId, SettingsError, SubjectToken, Urgency, redact,
};

/// Maximum wait of an exchange for a rate limit. A repeat after a failure begins within 5 s.
const MAX_WAIT: Duration = Duration::from_secs(20);
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(10) };
/// Tolerated difference between the clocks of the issuer and of OpenAI when a lifetime is checked, in seconds.
const CLOCK_TOLERANCE: i64 = 120;
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const SUBJECT_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A client of the token exchange. Clones share connections and the rate limiter.
#[derive(Clone)]
pub struct TokenExchange {
    http: reqwest::Client,
    endpoint: Endpoint,
    /// Host of the endpoint, for errors.
    host: Arc<str>,
    limiter: Arc<Limiter>,
    observer: Arc<dyn Observer>,
}

/// An access token of a service account. OpenAI takes it where it takes a key of the account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessToken {
    /// The secret value.
    pub value: AccessTokenValue,
    /// Expiry time by the issuer's clock; never later than the subject token's.
    pub expires_at: DateTime<Utc>,
    /// Scopes, separated by spaces; `None` if the token may do everything that the account may do.
    pub scope: Option<String>,
}

/// Reason why an exchange gave no access token. No error quotes a token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// OpenAI refused the subject token, the provider or the rule.
    #[error(transparent)]
    Refused(#[from] Box<ExchangeRefusal>),
    /// A rate limit, for longer than the exchange may wait.
    #[error("OpenAI allows no more token exchanges now: try again in {} s", whole_seconds(*retry_after))]
    Limited {
        /// Time until the rate limit is expected to admit an exchange.
        retry_after: Duration,
    },
    /// No complete answer arrived, or OpenAI failed. A later attempt may succeed.
    #[error("{0}")]
    Unreachable(Error),
    /// An answer that is not one of the token exchange, or an access token that was not asked for.
    #[error("{0}")]
    Unusable(Error),
}

/// A refusal in the form of OAuth.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeRefusal {
    /// `error`, such as `invalid_grant`.
    pub code: String,
    /// `error_description`.
    pub description: Option<String>,
    /// HTTP status: 400, 401 or 403.
    pub status: u16,
    /// OpenAI's id for the request.
    pub request_id: Option<String>,
    /// OpenAI's time from the `Date` header.
    pub date: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Parameters<'a> {
    grant_type: &'static str,
    subject_token: &'a str,
    subject_token_type: &'static str,
    identity_provider_id: &'a IdentityProviderId,
    service_account_id: &'a ServiceAccountId,
}

/// The body of a success.
#[derive(Deserialize)]
struct Granted {
    access_token: AccessTokenValue,
    #[serde(default)]
    issued_token_type: Option<String>,
    token_type: String,
    #[serde(default)]
    expires_in: Option<Number>,
    #[serde(default)]
    expires_at: Option<Number>,
    #[serde(default)]
    scope: Option<String>,
}

/// The body of a refusal.
#[derive(Deserialize)]
struct OAuthError {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl TokenExchange {
    /// OpenAI's URL of the token exchange.
    pub const DEFAULT_ENDPOINT: &'static str = "https://auth.openai.com/oauth/token";

    /// A client of the token exchange at `endpoint`. Nothing is sent yet.
    pub fn new(
        endpoint: Endpoint,
        ca_cert: Option<&str>,
        client_certificate: Option<&ClientCertificate>,
    ) -> Result<Self, SettingsError> {
        Self::with_timeouts(endpoint, ca_cert, client_certificate, TIMEOUTS)
    }

    pub(super) fn with_timeouts(
        endpoint: Endpoint,
        ca_cert: Option<&str>,
        client_certificate: Option<&ClientCertificate>,
        timeouts: Timeouts,
    ) -> Result<Self, SettingsError> {
        let http = connect::client(&endpoint, ca_cert, client_certificate, timeouts)?;
        let limiter = Arc::new(Limiter::new(0));
        let host = endpoint.host().into();
        Ok(Self { http, endpoint, host, limiter, observer: Arc::new(NoopObserver) })
    }

    /// The same client with an observer of its attempts.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Exchanges the token of a provider for an access token of the account.
    pub async fn exchange(
        &self,
        token: &SubjectToken,
        provider: &IdentityProviderId,
        account: &ServiceAccountId,
    ) -> Result<AccessToken, ExchangeError> {
        let parameters = Parameters {
            grant_type: GRANT_TYPE,
            subject_token: token.expose(),
            subject_token_type: SUBJECT_TOKEN_TYPE,
            identity_provider_id: provider,
            service_account_id: account,
        };
        // A plain struct of strings always serializes.
        let body = serde_json::to_vec(&parameters).unwrap_or_default();
        let options = CallOptions { call: Call::ExchangeToken, urgency: Urgency::Issue, max_wait: MAX_WAIT };
        let attempt = |info| self.attempt(token, &body, info);
        let result = retry::with_retries(&self.limiter, options, attempt).await;
        if matches!(result, Err(Error::Throttled { .. } | Error::Unavailable { .. })) {
            self.observer.throttled(options.call, options.urgency);
        }
        result.map_err(ExchangeError::from)
    }

    /// Makes one attempt and reports it to the observer.
    async fn attempt(
        &self,
        token: &SubjectToken,
        body: &[u8],
        info: AttemptInfo,
    ) -> Result<AccessToken, Error> {
        let call = Call::ExchangeToken;
        let mut report = AttemptReport::new(&*self.observer, call, Urgency::Issue, info);
        let context =
            CallContext { call, host: &self.host, setting: "token_endpoint", secret: token.expose() };
        let request = self.http.post(self.endpoint.url());
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, JSON).body(body.to_vec());
        match http::receive(request, &context).await {
            Ok(answer) => {
                let result = read(&answer, token);
                report.date = answer.date().filter(|_| result.is_ok());
                report.outcome = http::answered(answer.status, &result);
                result
            }
            Err((outcome, error)) => {
                report.outcome = outcome;
                Err(error)
            }
        }
    }
}

impl Granted {
    /// The access token, or the fault of the answer.
    fn take(self, subject: &SubjectToken) -> Result<AccessToken, &'static str> {
        if !self.token_type.eq_ignore_ascii_case("bearer") {
            return Err("its token_type is not Bearer");
        }
        if self.issued_token_type.is_some_and(|kind| kind != ACCESS_TOKEN_TYPE) {
            return Err("its issued_token_type is not that of an access token");
        }
        let signed_at = subject.signed_at().timestamp();
        let by_lifetime = self.expires_in.map(|lifetime| signed_at.saturating_add(seconds(&lifetime)));
        let ends = || by_lifetime.into_iter().chain(self.expires_at.as_ref().map(seconds));
        let (Some(first), Some(last)) = (ends().min(), ends().max()) else {
            return Err("it has no expires_in");
        };
        if first <= signed_at {
            return Err("its access token has already ended");
        }
        if last > subject.expires_at().timestamp().saturating_add(CLOCK_TOLERANCE) {
            return Err("its access token lives longer than the subject token");
        }
        let end = DateTime::from_timestamp_secs(first).map(|end| end.min(subject.expires_at()));
        let expires_at = end.ok_or("its expires_at is no time")?;
        Ok(AccessToken { value: self.access_token, expires_at, scope: self.scope })
    }
}

impl From<Error> for ExchangeError {
    fn from(error: Error) -> Self {
        if let Some(refusal) = error.refusal().and_then(ExchangeRefusal::of) {
            return Self::Refused(Box::new(refusal));
        }
        match error.retry_after() {
            Some(retry_after) if error.is_limited() => Self::Limited { retry_after },
            _ if error.is_limited() => Self::Limited { retry_after: Duration::ZERO },
            _ if matches!(error, Error::Malformed { .. }) => Self::Unusable(error),
            _ if error.status().is_some_and(|status| (300..500).contains(&status)) => Self::Unusable(error),
            _ => Self::Unreachable(error),
        }
    }
}

impl ExchangeRefusal {
    fn of(refusal: &Refusal) -> Option<Self> {
        let Refusal { is_from_openai, status, code, message, request_id, date, .. } = refusal;
        if !is_from_openai || !matches!(status, 400 | 401 | 403) {
            return None;
        }
        let code = code.clone().unwrap_or_else(|| "no code".to_owned());
        let (description, request_id) = (message.clone(), request_id.clone());
        Some(Self { code, description, status: *status, request_id, date: *date })
    }
}

impl std::error::Error for ExchangeRefusal {}

impl std::fmt::Display for ExchangeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, description, status, request_id, .. } = self;
        match description {
            Some(description) => write!(f, "{description} ({code}, HTTP {status})")?,
            None => write!(f, "{code} (HTTP {status})")?,
        }
        request_id.as_ref().map_or(Ok(()), |id| write!(f, " (request {id})"))
    }
}

impl std::fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenExchange").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The access token of a success, or the error that the answer describes.
fn read(answer: &Answer, token: &SubjectToken) -> Result<AccessToken, Error> {
    let (call, secret) = (Call::ExchangeToken, token.expose());
    if !(200..300).contains(&answer.status) {
        return Err(Box::new(refusal(answer, secret)).into());
    }
    let granted: Granted = answer.value(call, secret)?;
    granted.take(token).map_err(|reason| answer.malformed(call, secret, reason.to_owned()))
}

/// The refusal of an error response, in the form of OAuth or of the Admin API.
fn refusal(answer: &Answer, secret: &str) -> Refusal {
    let refusal = answer.refusal(Call::ExchangeToken, secret);
    match serde_json::from_slice::<OAuthError>(&answer.body) {
        Ok(OAuthError { error, error_description }) if matches!(answer.status, 400 | 401 | 403) => Refusal {
            is_from_openai: true,
            code: Some(redact::sentence(&error, secret)),
            message: error_description.map(|text| redact::sentence(&text, secret)),
            ..refusal
        },
        _ if answer.status == 404 || refusal.is_foreign() => {
            let hint = "no answer of a token exchange: check token_endpoint".to_owned();
            Refusal { hint: Some(hint), ..refusal }
        }
        _ => refusal,
    }
}

/// Whole seconds of a JSON number, rounded down.
fn seconds(number: &Number) -> i64 {
    number.as_i64().or_else(|| number.as_f64().map(|number| number.floor() as i64)).unwrap_or(i64::MAX)
}
