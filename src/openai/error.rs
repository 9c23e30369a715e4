//! Errors of a call, and the questions that callers ask about them. `Display` passes on OpenAI's message, but never a
//! key or a body.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Call;
use super::call::{Effect, Kind};

/// Reason why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error response.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// A 404 for an object that is less than a minute old. OpenAI may not find the object everywhere yet, so the 404
    /// does not prove that the object is gone.
    #[error("the object is less than a minute old, so OpenAI may not find it yet: {0}")]
    NotFoundYet(Box<Refusal>),
    /// The rate limit would delay the call beyond its deadline. Nothing was sent, or OpenAI refused every attempt
    /// with a rate limit.
    #[error("OpenAI allows no more calls now: try again in {} s", seconds(*retry_after))]
    Throttled {
        /// Time until the rate limit is expected to admit a call.
        retry_after: Duration,
    },
    /// OpenAI failed several times in a row, so the client pauses. Nothing was sent.
    #[error("OpenAI is failing or cannot be reached: try again in {} s", seconds(*retry_after))]
    Unavailable {
        /// Time until the next attempt.
        retry_after: Duration,
    },
    /// No connection was made; nothing was sent.
    #[error("OpenAI cannot be reached: {reason}")]
    Unreachable {
        /// Reason of the connection failure.
        reason: String,
    },
    /// The TLS handshake failed, and nothing was sent; or the server refused this client's certificate, and no creation was
    /// sent.
    #[error("the connection to OpenAI is not trusted: {reason}")]
    Untrusted {
        /// Reason of the TLS failure.
        reason: String,
    },
    /// No complete response arrived in time. The request may have been sent.
    #[error("OpenAI did not answer in time")]
    TimedOut {
        /// The call.
        call: Call,
    },
    /// The connection broke before the response was complete. The request may have been sent.
    #[error("the connection to OpenAI broke before its answer was whole: {reason}")]
    Cut {
        /// The call.
        call: Call,
        /// Reason of the connection failure.
        reason: String,
    },
    /// A success response whose body is not what OpenAI documents.
    #[error("OpenAI's answer cannot be read: {reason}{}", request(request_id.as_deref()))]
    Malformed {
        /// The call.
        call: Call,
        /// The fault of the body, without quoting the body.
        reason: String,
        /// OpenAI's id for the request.
        request_id: Option<String>,
    },
}

/// An error response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The call.
    pub call: Call,
    /// HTTP status.
    pub status: u16,
    /// True if the body has OpenAI's error format. Any other body may come from a proxy.
    pub is_from_openai: bool,
    /// The error message.
    pub message: Option<String>,
    /// OpenAI's error code, such as `invalid_api_key`.
    pub code: Option<String>,
    /// The parameter that OpenAI rejects.
    pub param: Option<String>,
    /// OpenAI's id for the request. OpenAI's support asks for it.
    pub request_id: Option<String>,
    /// Wait time that OpenAI requests.
    pub retry_after: Option<Duration>,
    /// OpenAI's header `x-should-retry`: true or false if OpenAI says so about a repeat.
    pub should_retry: Option<bool>,
    /// OpenAI refused the key, but the key is so new that OpenAI may not know it everywhere yet.
    pub key_is_new: bool,
    /// The server's time from the `Date` header.
    pub date: Option<DateTime<Utc>>,
    /// Advice that the message does not give.
    pub hint: Option<String>,
}

/// The subject of a 401 or 403 from OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The admin key is not, or no longer, a key. Every call fails.
    Key,
    /// One project is asked at the wrong host. Calls about other projects work.
    Project,
    /// This call alone, such as for a missing permission or an address that the project does not allow.
    Call,
}

impl Error {
    /// True if the object does not exist: a 404 in OpenAI's error format. A proxy's 404, or a 404 for an unknown URL,
    /// does not prove that.
    pub fn is_gone(&self) -> bool {
        let is_gone = |refusal: &Refusal| refusal.status == 404 && !refusal.is_unknown_url();
        !self.is_not_found_yet() && self.refusal().is_some_and(is_gone)
    }

    /// True if a rate limit refused the call. [`Error::retry_after`] may name the wait time.
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Throttled { .. }) || self.status() == Some(429)
    }

    /// Wait time before the next attempt, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after } => Some(*retry_after),
            _ => self.refusal()?.retry_after,
        }
    }

    /// True if OpenAI refuses the key or its permissions. A repeat fails until the key changes.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.status(), Some(401 | 403)) && self.refusal().is_some_and(|it| it.is_from_openai)
    }

    /// True for a 4xx that is not in OpenAI's error format: a proxy answered, so nothing shows that OpenAI is there.
    pub(super) fn is_foreign(&self) -> bool {
        self.refusal().is_some_and(Refusal::is_foreign)
    }

    /// True if OpenAI does not accept the key. OpenAI did nothing.
    pub fn refuses_key(&self) -> bool {
        self.refusal().is_some_and(Refusal::refuses_key)
    }

    /// The subject of a 401 or 403; `None` for any other error. A 403 that names a field of the request is about the
    /// field's value, such as an organization's policy on the lifetime of keys.
    pub fn denial(&self) -> Option<Denial> {
        let refusal = self.refusal().filter(|_| self.is_unauthorized())?;
        if refusal.status == 403 && refusal.param.is_some() {
            return None;
        }
        Some(match refusal.code.as_deref() {
            Some("invalid_api_key") if refusal.status == 401 => Denial::Key,
            Some("incorrect_hostname") => Denial::Project,
            _ => Denial::Call,
        })
    }

    /// True for a 401 that names no code. If every call gets one, OpenAI does not accept the key.
    pub fn is_unexplained_401(&self) -> bool {
        self.status() == Some(401) && self.is_unauthorized() && self.code().is_none()
    }

    /// True if a later attempt may succeed because the request itself is valid.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Cut { .. }
            | Self::NotFoundYet(_) => true,
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Untrusted { .. } | Self::Malformed { .. } => false,
        }
    }

    /// True if the call changes something and OpenAI may have done it although no success arrived. Only some failures
    /// prove that OpenAI did nothing.
    pub fn is_unknown_outcome(&self) -> bool {
        let call = match self {
            // Nothing was sent, or a 404 changed nothing.
            Self::NotFoundYet(_)
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::Untrusted { .. } => return false,
            Self::Refused(refusal) if refusal.proves_not_executed() => return false,
            Self::Refused(refusal) => refusal.call,
            Self::TimedOut { call } | Self::Cut { call, .. } | Self::Malformed { call, .. } => *call,
        };
        call.effect() != Effect::None
    }

    /// True if the object of a failed creation may exist. OpenAI sometimes makes what it refuses, except where it refuses the
    /// key or sets a rate limit.
    pub fn may_have_created(&self) -> bool {
        let is_refused = self.status().is_some() && !self.is_unauthorized() && !self.is_limited();
        self.is_unknown_outcome() || is_refused
    }

    /// True for a 404 about an object so new that the 404 proves nothing.
    pub fn is_not_found_yet(&self) -> bool {
        matches!(self, Self::NotFoundYet(_))
    }

    /// The same error as [`Error::NotFoundYet`], if OpenAI sent an error response.
    pub(super) fn not_found_yet(self) -> Self {
        match self {
            Self::Refused(refusal) => Self::NotFoundYet(refusal),
            other => other,
        }
    }

    /// HTTP status of the error response, if one arrived.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// OpenAI's id for the request. OpenAI's support asks for it.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Malformed { request_id, .. } => request_id.as_deref(),
            _ => self.refusal()?.request_id.as_deref(),
        }
    }

    /// OpenAI's word on a repeat of the call, if it sent one.
    pub(super) fn should_retry(&self) -> Option<bool> {
        self.refusal()?.should_retry
    }

    /// OpenAI's error code, such as `invalid_api_key`.
    pub fn code(&self) -> Option<&str> {
        self.refusal()?.code.as_deref()
    }

    pub(super) fn malformed(call: Call, reason: impl Into<String>) -> Self {
        Self::Malformed { call, reason: reason.into(), request_id: None }
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::NotFoundYet(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Refusal {
    pub(super) fn refuses_key(&self) -> bool {
        self.status == 401 && self.code.as_deref() == Some("invalid_api_key")
    }

    /// True for a 404 about the URL instead of an object: from a proxy, or from OpenAI for an unknown path. A wrong
    /// endpoint causes such a 404.
    pub(super) fn is_unknown_url(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        let is_unknown_address = self.code.as_deref() == Some("unknown_url")
            || message.starts_with("Invalid URL")
            || message.starts_with("Unknown request URL");
        self.status == 404 && (!self.is_from_openai || is_unknown_address)
    }

    pub(super) fn is_about_default_project(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        self.call.effect() == Effect::Creation && message.contains("default project")
    }

    /// A rate limit is a limit, whoever sets it.
    pub(super) fn is_foreign(&self) -> bool {
        !self.is_from_openai && self.status != 429 && matches!(self.status, 400..=499)
    }

    /// True if the owner of the admin key may not manage workload identity providers and their rules.
    pub(super) fn is_about_federation_permission(&self) -> bool {
        let is_permission = self.is_from_openai && self.code.as_deref() != Some("incorrect_hostname");
        self.call.kind() == Kind::Federation && self.status == 403 && is_permission
    }

    /// A proxy's 404 is a fault of the proxy, not of the request.
    fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599) || (self.status == 404 && !self.is_from_openai)
    }

    /// True if the response proves that OpenAI did not execute the call: a rate limit, or a rejection in OpenAI's
    /// error format. A server error, a redirect or a proxy's response proves nothing.
    fn proves_not_executed(&self) -> bool {
        self.status == 429 || (self.is_from_openai && matches!(self.status, 400..=407 | 409..=499))
    }
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, message, hint, request_id, .. } = self;
        match (hint, message) {
            (Some(hint), Some(message)) => write!(f, "{hint} ({message})")?,
            (Some(hint), None) => f.write_str(hint)?,
            (None, Some(message)) => write!(f, "{message} (HTTP {status})")?,
            (None, None) if (300..400).contains(status) => {
                write!(f, "the endpoint answered with a redirect, which is not followed (HTTP {status})")?;
            }
            (None, None) => write!(f, "a response that is not from OpenAI (HTTP {status})")?,
        }
        f.write_str(&request(request_id.as_deref()))
    }
}

/// Whole seconds, rounded up to at least 1: "try again in 0 s" would be wrong.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1) as u64
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}
