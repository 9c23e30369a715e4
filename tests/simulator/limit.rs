//! Rate limits per second or minute, and the wait time in a refusal.
//!
//! OpenAI was seen to limit each endpoint by itself, and to name the wait time in the message alone. So does this simulator
//! unless a test asks for headers.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::refusal::Refusal;
use super::reply::Reply;
use super::routes::matches;

/// A limit in the format of `/_sim/limit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `GET`, `POST`, ...; every method if missing.
    #[serde(default)]
    pub method: Option<String>,
    /// Path pattern below `/v1`, as in a fault.
    #[serde(default = "everywhere")]
    pub path: String,
    /// Maximum number of calls in a window.
    pub calls: usize,
    /// Length of the sliding window.
    pub per: Per,
    /// Form of the wait time in a refusal.
    #[serde(default)]
    pub retry: Retry,
    /// Refused calls count against the limit, as OpenAI documents.
    #[serde(default)]
    pub count_refused: bool,
}

/// Length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One second.
    Second,
    /// One minute.
    Minute,
}

/// Form of the wait time in a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No header; the message ends in `try again after 6.937 seconds.` This is the form that was seen most.
    #[default]
    Message,
    /// No wait time at all; the message ends in `try again later.`
    None,
    /// No wait time at all; the message begins `You're making too many requests`.
    TooMany,
    /// `Retry-After` in whole seconds, rounded up.
    Seconds,
    /// `Retry-After-Ms`.
    Milliseconds,
    /// `Retry-After` as an HTTP date, rounded up.
    Date,
}

/// A limit with its recent calls.
#[derive(Debug)]
pub struct Window {
    limit: Limit,
    taken: VecDeque<Duration>,
}

impl Limit {
    /// A limit for all endpoints together.
    pub fn everywhere(calls: usize, per: Per) -> Self {
        Self::on(&everywhere(), calls, per)
    }

    /// A limit for one endpoint.
    pub fn on(endpoint: &str, calls: usize, per: Per) -> Self {
        let (method, path) = endpoint.split_once(' ').unwrap_or(("", endpoint));
        let method = Some(method.to_owned()).filter(|method| !method.is_empty());
        Self { method, path: path.to_owned(), calls, per, retry: Retry::default(), count_refused: false }
    }

    /// Sets the form of the wait time.
    #[must_use]
    pub fn telling(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// True if the other limit selects the same calls.
    pub fn same_calls(&self, other: &Self) -> bool {
        (&self.method, &self.path) == (&other.method, &other.path)
    }

    fn applies_to(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method) && matches(&self.path, &call.path)
    }
}

impl Window {
    /// A window without calls.
    pub fn new(limit: Limit) -> Self {
        Self { limit, taken: VecDeque::new() }
    }

    /// The limit of this window.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Counts the call, or answers the time until the limit allows it.
    pub fn take(&mut self, call: &Call, now: Duration) -> Result<(), Duration> {
        if !self.limit.applies_to(call) {
            return Ok(());
        }
        let length = self.limit.per.length();
        while self.taken.front().is_some_and(|first| *first + length <= now) {
            self.taken.pop_front();
        }
        let full = self.taken.len() >= self.limit.calls;
        if !full || self.limit.count_refused {
            self.taken.push_back(now);
        }
        if full { Err(self.wait(now, length)) } else { Ok(()) }
    }

    /// Time until enough counted calls have left the window.
    fn wait(&self, now: Duration, length: Duration) -> Duration {
        let last_to_leave = self.taken.len().checked_sub(self.limit.calls.max(1));
        let since = last_to_leave.and_then(|at| self.taken.get(at)).copied().unwrap_or(now);
        whole_milliseconds((since + length).saturating_sub(now))
    }
}

/// Rounds up, so that a caller who waits this long does not come too early.
fn whole_milliseconds(wait: Duration) -> Duration {
    Duration::from_millis(wait.as_nanos().div_ceil(1_000_000) as u64)
}

impl Per {
    fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// The refusal of a call that may come again after `wait`.
    pub fn reply(self, wait: Duration, now: Duration) -> Reply {
        let message = match self {
            Self::Message => format!(
                "You've exceeded the rate limit, please slow down and try again after {:.3} seconds.",
                wait.as_secs_f64()
            ),
            Self::TooMany => "You're making too many requests. Please slow down.".to_owned(),
            _ => "You've exceeded the rate limit, please slow down and try again later.".to_owned(),
        };
        let reply = Reply::of(Err(Refusal::limited(message)));
        match self.header(wait, now) {
            Some((name, value)) => reply.with(name, value),
            None => reply,
        }
    }

    fn header(self, wait: Duration, now: Duration) -> Option<(&'static str, String)> {
        let at = (now + wait).as_nanos().div_ceil(1_000_000_000) as i64;
        match self {
            Self::Message | Self::None | Self::TooMany => None,
            Self::Seconds => Some(("retry-after", wait.as_millis().div_ceil(1000).to_string())),
            Self::Milliseconds => Some(("retry-after-ms", wait.as_millis().to_string())),
            Self::Date => DateTime::from_timestamp(at, 0)
                .map(|at| ("retry-after", at.format("%a, %d %b %Y %H:%M:%S GMT").to_string())),
        }
    }
}

fn everywhere() -> String {
    "/**".to_owned()
}
