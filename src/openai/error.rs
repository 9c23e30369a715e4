//! What can go wrong in a call, with the questions that callers ask of it. `Display` is fit for callers: it passes on
//! OpenAI's own words, and never a key or a body.

use std::time::Duration;

use super::Call;
use super::call::Effect;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An answer that is no success.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// A 404 for something that was made less than a minute ago: it may not be found everywhere yet, so this does not
    /// say that it is gone.
    #[error("OpenAI does not find everywhere yet what was made less than a minute ago: {0}")]
    NotFoundYet(Box<Refusal>),
    /// Its turn would come too late; nothing was sent, or what was sent was turned down for the pace alone.
    #[error("OpenAI allows no more calls now: try again in {} s", seconds(*retry_after))]
    Throttled {
        /// When there may be room.
        retry_after: Duration,
    },
    /// OpenAI failed several times in a row and is given a rest; nothing was sent.
    #[error("OpenAI is failing or cannot be reached: try again in {} s", seconds(*retry_after))]
    Unavailable {
        /// When it is tried again.
        retry_after: Duration,
    },
    /// No connection could be made; nothing was sent.
    #[error("OpenAI cannot be reached: {reason}")]
    Unreachable {
        /// What the connection failed with.
        reason: String,
    },
    /// The TLS handshake failed, so nothing was sent.
    #[error("the connection to OpenAI is not trusted: {reason}")]
    Untrusted {
        /// What TLS failed with.
        reason: String,
    },
    /// The call may have been sent, but no whole answer came in time.
    #[error("OpenAI did not answer in time")]
    TimedOut {
        /// What was called.
        call: Call,
    },
    /// The call may have been sent, but the connection broke before the answer was whole.
    #[error("the connection to OpenAI broke before its answer was whole: {reason}")]
    Cut {
        /// What was called.
        call: Call,
        /// What the connection failed with.
        reason: String,
    },
    /// The answer said success, but is not what OpenAI answers.
    #[error("OpenAI's answer cannot be read: {reason}{}", request(request_id.as_deref()))]
    Malformed {
        /// What was called.
        call: Call,
        /// What is wrong with it, without quoting it.
        reason: String,
        /// OpenAI's name for the request.
        request_id: Option<String>,
    },
}

/// An answer that is no success.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// What was called.
    pub call: Call,
    /// The HTTP status.
    pub status: u16,
    /// Whether the body has OpenAI's own form. Any other may come from something on the way.
    pub is_from_openai: bool,
    /// The sentence in it.
    pub message: Option<String>,
    /// OpenAI's code for it, such as `invalid_api_key`.
    pub code: Option<String>,
    /// The parameter that OpenAI complains of.
    pub param: Option<String>,
    /// OpenAI's name for the request, for its support.
    pub request_id: Option<String>,
    /// When OpenAI says to come back.
    pub retry_after: Option<Duration>,
    /// The key was refused, but is so new that OpenAI may not know it everywhere yet.
    pub key_is_new: bool,
    /// What to check, where the answer is a 404 that comes from no resource of OpenAI's.
    pub hint: Option<String>,
}

impl Error {
    /// What was asked for does not exist: a 404 in OpenAI's own words. A proxy's 404, or one for an address that
    /// OpenAI does not have, says nothing of that.
    pub fn is_gone(&self) -> bool {
        let is_gone = |refusal: &Refusal| refusal.status == 404 && !refusal.is_unknown_url();
        !self.is_not_found_yet() && self.refusal().is_some_and(is_gone)
    }

    /// OpenAI takes no more calls for now; [`Error::retry_after`] may say for how long.
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Throttled { .. }) || self.status() == Some(429)
    }

    /// When to come back, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after } => Some(*retry_after),
            _ => self.refusal()?.retry_after,
        }
    }

    /// The key is not, or no longer, good for the call. Sending it again is useless until another key is set.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.status(), Some(401 | 403)) && self.refusal().is_some_and(|it| it.is_from_openai)
    }

    /// The key is not, or no longer, a key of OpenAI's: nothing was done.
    pub fn refuses_key(&self) -> bool {
        self.refusal().is_some_and(Refusal::refuses_key)
    }

    /// It may go better later, as nothing is wrong with the call itself.
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

    /// The call changes something and may have been carried out, although no success was heard of. So it is with every
    /// failure but those that prove the contrary.
    pub fn is_unknown_outcome(&self) -> bool {
        let call = match self {
            // Nothing was sent; a 404 did nothing.
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

    /// Whether it is a 404 that proves nothing.
    pub fn is_not_found_yet(&self) -> bool {
        matches!(self, Self::NotFoundYet(_))
    }

    /// The same, if it is a 404 about something recent.
    pub(super) fn not_found_yet(self) -> Self {
        match self {
            Self::Refused(refusal) => Self::NotFoundYet(refusal),
            other => other,
        }
    }

    /// The HTTP status, if there was an answer that is no success.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// OpenAI's name for the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Malformed { request_id, .. } => request_id.as_deref(),
            _ => self.refusal()?.request_id.as_deref(),
        }
    }

    /// OpenAI's code, such as `invalid_api_key`.
    pub fn code(&self) -> Option<&str> {
        self.refusal()?.code.as_deref()
    }

    pub(super) fn malformed(call: Call, reason: impl Into<String>) -> Self {
        Self::Malformed { call, reason: reason.into(), request_id: None }
    }

    fn refusal(&self) -> Option<&Refusal> {
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

    /// A 404 that comes from no resource of OpenAI's: something on the way does not know the address, or OpenAI does
    /// not, which a wrong endpoint brings about.
    pub(super) fn is_unknown_url(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        let is_unknown_address = self.code.as_deref() == Some("unknown_url")
            || message.starts_with("Invalid URL")
            || message.starts_with("Unknown request URL");
        self.status == 404 && (!self.is_from_openai || is_unknown_address)
    }

    /// A proxy's 404 is a fault of the way, not of the call.
    fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599) || (self.status == 404 && !self.is_from_openai)
    }

    /// Whether it proves that the call was not carried out: a limit, or OpenAI's own word that something is wrong with
    /// the call. A failure behind the door, a redirect, or an answer of something on the way proves nothing.
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
            (None, None) => write!(f, "an answer that is not OpenAI's own (HTTP {status})")?,
        }
        f.write_str(&request(request_id.as_deref()))
    }
}

/// Whole seconds, never 0: "try again in 0 s" would be a lie.
fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1) as u64
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}
