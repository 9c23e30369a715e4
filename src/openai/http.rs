//! Sends one call over HTTP and reads the response, with limits on time and size. `limiter` decides when a call is
//! sent, `retry` decides about repeats.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use zeroize::{Zeroize, Zeroizing};

use super::answer::Answer;
use super::call::Request;
use super::connect::Timeouts;
use super::key_uses::KeyUses;
use super::limiter::Limiter;
use super::retry::{self, AttemptInfo, CallOptions};
use super::transport_error::CallContext;
use super::{
    AdminKey, Attempt, Call, Client, Denial, Endpoint, Error, KeyVerdict, Observer, OrganizationId, Outcome,
    Settings, SettingsError, Urgency,
};
use super::{answer, connect};

/// Time until OpenAI knows a new key everywhere.
const KEY_PROPAGATION_TIME: Duration = Duration::from_secs(60);
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// State that the clones of a client share.
pub(super) struct Inner {
    http: reqwest::Client,
    endpoint: Endpoint,
    /// Host of the endpoint, for errors.
    host: String,
    organization: OrganizationId,
    credentials: RwLock<Arc<Credentials>>,
    limiter: Arc<Limiter>,
    key_uses: Arc<KeyUses>,
    observer: Arc<dyn Observer>,
}

/// The key of the calls, and the headers made of it.
struct Credentials {
    admin_key: AdminKey,
    headers: HeaderMap,
    /// End of the time in which the key counts as new; `None` for the key from the settings.
    new_until: Option<Instant>,
}

/// Reports an attempt to the observer on drop, so an abandoned attempt is reported too.
pub(super) struct AttemptReport<'a> {
    observer: &'a dyn Observer,
    call: Call,
    urgency: Urgency,
    info: AttemptInfo,
    sent: Instant,
    pub(super) outcome: Outcome,
    key: KeyVerdict,
    pub(super) date: Option<DateTime<Utc>>,
}

impl Inner {
    pub(super) fn new(settings: Settings, timeouts: Timeouts) -> Result<Self, SettingsError> {
        let Settings {
            endpoint,
            admin_key,
            organization,
            ca_cert,
            client_certificate,
            max_requests_per_minute,
            observer,
        } = settings;
        Ok(Self {
            http: connect::client(&endpoint, ca_cert.as_deref(), client_certificate.as_ref(), timeouts)?,
            credentials: RwLock::new(Credentials::new(&admin_key, &organization, None)?),
            host: endpoint.host(),
            endpoint,
            organization,
            limiter: Arc::new(Limiter::new(max_requests_per_minute)),
            key_uses: Arc::default(),
            observer,
        })
    }

    /// The same connections and limits with another key.
    fn with_admin_key(&self, key: &AdminKey, observer: Arc<dyn Observer>) -> Result<Self, SettingsError> {
        Ok(Self {
            http: self.http.clone(),
            endpoint: self.endpoint.clone(),
            host: self.host.clone(),
            organization: self.organization.clone(),
            credentials: RwLock::new(Credentials::new(key, &self.organization, None)?),
            limiter: Arc::clone(&self.limiter),
            key_uses: Arc::clone(&self.key_uses),
            observer,
        })
    }

    /// The current key.
    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read())
    }

    #[cfg(test)]
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes one attempt. If OpenAI refuses a key that was replaced meanwhile, the refused attempt changed nothing,
    /// so the call is sent again with the new key.
    async fn attempt<T: DeserializeOwned>(
        &self,
        request: &Request,
        urgency: Urgency,
        info: AttemptInfo,
    ) -> Result<T, Error> {
        let credentials = self.credentials();
        let result = self.attempt_with(&credentials, request, urgency, info).await;
        let present = self.credentials();
        let replaced = !Arc::ptr_eq(&credentials, &present);
        match result {
            Err(error) if replaced && error.status() == Some(401) && !error.is_unknown_outcome() => {
                self.attempt_with(&present, request, urgency, info).await
            }
            result => result,
        }
    }

    /// Makes one attempt with this key and reports it to the observer.
    async fn attempt_with<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        request: &Request,
        urgency: Urgency,
        info: AttemptInfo,
    ) -> Result<T, Error> {
        let mut report = AttemptReport::new(&*self.observer, request.call, urgency, info);
        let (outcome, mut result) = match self.exchange(credentials, request).await {
            Ok(answer) => {
                let result = answer.read(request.call, &self.endpoint, credentials.admin_key.expose());
                // A proxy may answer errors with a `Date` of its own clock.
                report.date = answer.date().filter(|_| result.is_ok());
                (answered(answer.status, &result), result)
            }
            Err((outcome, error)) => (outcome, Err(error)),
        };
        if let Err(Error::Refused(refusal)) = &mut result {
            refusal.key_is_new = credentials.is_new() && refusal.refuses_key();
        }
        report.outcome = outcome;
        report.key = self.verdict(credentials, &result);
        result
    }

    /// Conclusion about the current key.
    fn verdict<T>(&self, credentials: &Credentials, result: &Result<T, Error>) -> KeyVerdict {
        match result {
            Err(error) if error.refuses_key() => {
                let counts =
                    std::ptr::eq(credentials, Arc::as_ptr(&self.credentials())) && !credentials.is_new();
                if counts { KeyVerdict::Refused } else { KeyVerdict::Good }
            }
            Err(error) if error.denial() == Some(Denial::Project) => KeyVerdict::Good,
            Err(error) if error.denial().is_some() => KeyVerdict::Forbidden,
            _ => KeyVerdict::Good,
        }
    }

    /// Sends the request and reads the whole response.
    async fn exchange(
        &self,
        credentials: &Credentials,
        request: &Request,
    ) -> Result<Answer, (Outcome, Error)> {
        let (call, secret) = (request.call, credentials.admin_key.expose());
        let context = CallContext { call, host: &self.host, setting: "api_endpoint", secret };
        receive(self.outgoing(credentials, request), &context).await
    }

    fn outgoing(&self, credentials: &Credentials, request: &Request) -> reqwest::RequestBuilder {
        let segments: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let mut url = self.endpoint.join(&segments);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let builder = self.http.request(request.method.clone(), url).headers(credentials.headers.clone());
        match &request.body {
            Some(body) => builder.header(CONTENT_TYPE, JSON).body(body.clone()),
            None => builder,
        }
    }
}

impl Credentials {
    fn new(
        admin_key: &AdminKey,
        organization: &OrganizationId,
        new_until: Option<Instant>,
    ) -> Result<Arc<Self>, SettingsError> {
        let headers = headers(admin_key, organization.as_str())?;
        Ok(Arc::new(Self { admin_key: admin_key.clone(), headers, new_until }))
    }

    fn is_new(&self) -> bool {
        self.new_until.is_some_and(|until| Instant::now() < until)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with another key of the organization and another observer. The observer is separate because the new
    /// key's results say nothing about this client's key. Both clients share connections and limits, so the learned
    /// rate and the maximum rate apply to both.
    pub fn with_admin_key(&self, key: &AdminKey, observer: Arc<dyn Observer>) -> Result<Self, SettingsError> {
        let inner = Arc::new(self.inner.with_admin_key(key, observer)?);
        Ok(Self { inner, ..self.clone() })
    }

    /// Replaces the key of this client and its clones, also for calls that already wait. A call that OpenAI refuses
    /// for the old key is sent again with the new key. For one minute, a call that OpenAI refuses for the new key is
    /// sent again, because OpenAI may not know that key everywhere yet.
    pub fn set_admin_key(&self, key: &AdminKey) -> Result<(), SettingsError> {
        let credentials =
            Credentials::new(key, &self.inner.organization, Some(Instant::now() + KEY_PROPAGATION_TIME))?;
        *self.inner.credentials.write() = credentials;
        Ok(())
    }

    /// The organization of every call.
    pub fn organization(&self) -> &OrganizationId {
        &self.inner.organization
    }

    pub(super) fn key_uses(&self) -> &KeyUses {
        &self.inner.key_uses
    }

    /// Sends the call when the rate limit admits it, and repeats the call where a repeat is safe.
    pub(super) async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let mut retries = self.not_found_retries();
        loop {
            // Checked before the call: the object may no longer be recent when the response arrives.
            let is_recent = self.is_recent(&request);
            let error = match self.send_with_retries(&request, retries.max_wait()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_recent = is_recent || self.was_recent(&request, &error);
            if let Some(error) = retries.resolve(is_recent, error).await {
                return Err(error);
            }
        }
    }

    async fn send_with_retries<T: DeserializeOwned>(
        &self,
        request: &Request,
        max_wait: Duration,
    ) -> Result<T, Error> {
        let inner = &*self.inner;
        let options = CallOptions { call: request.call, urgency: self.urgency, max_wait };
        let attempt = |info| inner.attempt(request, self.urgency, info);
        let result = retry::with_retries(&inner.limiter, options, attempt).await;
        if matches!(result, Err(Error::Throttled { .. } | Error::Unavailable { .. })) {
            inner.observer.throttled(request.call, self.urgency);
        }
        result
    }
}

impl<'a> AttemptReport<'a> {
    pub(super) fn new(observer: &'a dyn Observer, call: Call, urgency: Urgency, info: AttemptInfo) -> Self {
        let (outcome, key) = (Outcome::Abandoned, KeyVerdict::Good);
        Self { observer, call, urgency, info, sent: Instant::now(), outcome, key, date: None }
    }
}

impl Drop for AttemptReport<'_> {
    fn drop(&mut self) {
        let Self { observer, call, urgency, info, sent, outcome, key, date } = *self;
        let AttemptInfo { wait, retries } = info;
        let latency = sent.elapsed();
        observer.attempt(&Attempt { call, urgency, outcome, key, latency, wait, retries, date });
    }
}

/// Sends the request and reads the whole response.
pub(super) async fn receive(
    request: reqwest::RequestBuilder,
    context: &CallContext<'_>,
) -> Result<Answer, (Outcome, Error)> {
    let mut response = request.send().await.map_err(|error| context.failed(&error))?;
    let (announced, max) = (response.content_length().unwrap_or(0), context.call.max_body());
    let (status, headers) = (response.status().as_u16(), mem::take(response.headers_mut()));
    if announced > max as u64 {
        return Err(oversized(context, &headers));
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced as usize));
    while let Some(chunk) = response.chunk().await.map_err(|error| context.failed(&error))? {
        if body.len() + chunk.len() > max {
            return Err(oversized(context, &headers));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

fn oversized(context: &CallContext<'_>, headers: &HeaderMap) -> (Outcome, Error) {
    let error = Error::Malformed {
        call: context.call,
        reason: format!("it is longer than {} MiB", context.call.max_body() >> 20),
        request_id: answer::request_id(headers, context.secret),
    };
    (Outcome::Oversized, error)
}

fn headers(admin_key: &AdminKey, organization: &str) -> Result<HeaderMap, SettingsError> {
    let invalid = |_| SettingsError::Library { reason: "a setting does not fit into a header".to_owned() };
    let mut bearer = format!("Bearer {}", admin_key.expose());
    let authorization = HeaderValue::from_str(&bearer).map_err(invalid);
    bearer.zeroize();
    let mut authorization = authorization?;
    authorization.set_sensitive(true);
    let organization = HeaderValue::from_str(organization).map_err(invalid)?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, authorization), (ORGANIZATION, organization), (ACCEPT, JSON)]))
}

/// Outcome of a complete response with this status.
pub(super) fn answered<T>(status: u16, result: &Result<T, Error>) -> Outcome {
    match result {
        Err(Error::Malformed { .. }) => Outcome::Malformed,
        Err(error) if error.is_foreign() => Outcome::Foreign(status),
        _ => Outcome::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_with_the_key_is_marked_sensitive() {
        let headers = headers(&AdminKey::parse("sk-admin-secret").unwrap(), "org-1").unwrap();
        assert!(headers[AUTHORIZATION].is_sensitive() && !format!("{headers:?}").contains("sk-"));
    }
}
