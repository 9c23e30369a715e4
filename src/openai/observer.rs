//! The observer of calls, for metrics. Labels are enums, so their number is bounded.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Call, Urgency};

/// Receives every finished HTTP attempt. The client calls it synchronously, so it must not block.
pub trait Observer: Send + Sync + 'static {
    /// An attempt has ended.
    fn attempt(&self, attempt: &Attempt);

    /// A call was refused without being sent, because the rate limit would delay it beyond its deadline.
    fn throttled(&self, call: Call, urgency: Urgency) {
        let _ = (call, urgency);
    }
}

/// One HTTP attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The call.
    pub call: Call,
    /// Purpose of the call.
    pub urgency: Urgency,
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// Conclusion about the client's key.
    pub key: KeyVerdict,
    /// Time from sending to the end of the response.
    pub latency: Duration,
    /// Time that the call waited for the rate limiter.
    pub wait: Duration,
    /// Number of earlier attempts of the same call.
    pub retries: u32,
    /// OpenAI's time from the `Date` header of a success; `None` without one.
    pub date: Option<DateTime<Utc>>,
}

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A complete response with this status.
    Status(u16),
    /// A complete response with this 4xx status that is not in OpenAI's error format, as from a proxy. A 429 counts as
    /// [`Outcome::Status`].
    Foreign(u16),
    /// No complete response arrived in time.
    Timeout,
    /// No connection was made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection broke before the response was complete.
    Cut,
    /// The response was longer than any response of the Admin API.
    Oversized,
    /// A success response with an invalid body.
    Malformed,
    /// The caller dropped the attempt.
    Abandoned,
}

/// Conclusion about a client's key from a response. The refusal of a new key or of a replaced key proves nothing:
/// OpenAI may not know a new key everywhere yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// No evidence against the key.
    Good,
    /// OpenAI does not allow this call with the key; other calls may work.
    Forbidden,
    /// OpenAI does not accept the key.
    Refused,
}

/// Ignores every attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Outcome {
    /// Value of the metric label `code`: the status or a word.
    pub fn label(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Status(status) | Self::Foreign(status) => return Cow::Owned(status.to_string()),
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Cut => "cut",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Abandoned => "abandoned",
        })
    }

    /// True for a 2xx response.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

impl Observer for NoopObserver {
    fn attempt(&self, _: &Attempt) {}
}
