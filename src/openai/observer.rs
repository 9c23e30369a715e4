//! Who is told of what was sent, for metrics. Labels are enums, so that they stay few.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Call, Urgency};

/// ErrorField of every HTTP attempt once it is over. Called on the path of the call: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// One attempt is over.
    fn attempt(&self, attempt: &Attempt);

    /// A call was refused unsent, because its turn would come too late.
    fn throttled(&self, call: Call, urgency: Urgency) {
        let _ = (call, urgency);
    }
}

/// One HTTP attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// What was called.
    pub call: Call,
    /// For what.
    pub urgency: Urgency,
    /// What came of it.
    pub outcome: Outcome,
    /// What that says of the client's key.
    pub key: KeyVerdict,
    /// From sending to the end of the answer.
    pub latency: Duration,
    /// How long it had waited for its turn.
    pub wait: Duration,
    /// How many attempts of the same call went before.
    pub retries: u32,
    /// What time it was by OpenAI's clock when it answered, if it did what was asked and said so.
    pub date: Option<DateTime<Utc>>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// An answer with this status, read to its end.
    Status(u16),
    /// No whole answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// A connection, but no trust.
    Tls,
    /// The connection broke before the answer was whole.
    Cut,
    /// The answer was longer than any answer is.
    Oversized,
    /// The answer said success but not what is needed.
    Malformed,
    /// The caller went away while it was under way.
    Abandoned,
}

/// What an answer says of the key that a client has. A new key is given time to be known everywhere at OpenAI, and the
/// refusal of a key that was replaced meanwhile says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// Nothing against it.
    Good,
    /// This call is not allowed with it; others may be.
    Forbidden,
    /// It is not, or no longer, a key.
    Refused,
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Outcome {
    /// The value of a metric's `code` label: the status or a word.
    pub fn label(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Status(status) => return Cow::Owned(status.to_string()),
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Cut => "cut",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Abandoned => "abandoned",
        })
    }

    /// Whether the attempt got what it asked for.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

impl Observer for NoopObserver {
    fn attempt(&self, _: &Attempt) {}
}
