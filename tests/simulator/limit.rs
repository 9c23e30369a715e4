//! Limits: so many calls in any second or minute, and what a refused caller is told.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::routes::matches;

/// A limit, as it is posted to `/_sim/limit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `GET`, `POST`, ...; left out, every method.
    #[serde(default)]
    pub method: Option<String>,
    /// The path below `/v1`, as in a fault.
    #[serde(default = "everywhere")]
    pub path: String,
    /// So many calls ...
    pub calls: usize,
    /// ... in any second or minute.
    pub per: Per,
    /// What a refused caller is told.
    #[serde(default)]
    pub retry: Retry,
    /// Whether refused calls count against the limit too, as OpenAI says they do.
    #[serde(default)]
    pub count_refused: bool,
}

/// The length of a limit's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One second.
    Second,
    /// One minute.
    Minute,
}

/// How a refusal says when to come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not at all, which is the most common.
    #[default]
    None,
    /// `Retry-After` in whole seconds, rounded up.
    Seconds,
    /// `Retry-After-Ms`.
    Milliseconds,
    /// `Retry-After` as an HTTP date, rounded up.
    Date,
}

/// A limit at work.
#[derive(Debug)]
pub struct Window {
    limit: Limit,
    taken: VecDeque<Duration>,
}

impl Limit {
    /// So many calls to anything.
    pub fn everywhere(calls: usize, per: Per) -> Self {
        Self::on(&everywhere(), calls, per)
    }

    /// So many calls to the endpoint of this name.
    pub fn on(endpoint: &str, calls: usize, per: Per) -> Self {
        let (method, path) = endpoint.split_once(' ').unwrap_or(("", endpoint));
        let method = Some(method.to_owned()).filter(|method| !method.is_empty());
        Self { method, path: path.to_owned(), calls, per, retry: Retry::None, count_refused: false }
    }

    /// Says when to come back.
    pub fn telling(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Whether the other limit is about the same calls.
    pub fn same_calls(&self, other: &Self) -> bool {
        (&self.method, &self.path) == (&other.method, &other.path)
    }

    fn applies_to(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method) && matches(&self.path, &call.path)
    }
}

impl Window {
    /// Nothing taken yet.
    pub fn new(limit: Limit) -> Self {
        Self { limit, taken: VecDeque::new() }
    }

    /// The limit it keeps.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Takes a place for the call, or says how long until there is one.
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

    /// How long until a place is free: until enough of the calls that count have left the window.
    fn wait(&self, now: Duration, length: Duration) -> Duration {
        let last_to_leave = self.taken.len().checked_sub(self.limit.calls.max(1));
        let since = last_to_leave.and_then(|at| self.taken.get(at)).copied().unwrap_or(now);
        whole_milliseconds((since + length).saturating_sub(now))
    }
}

/// Rounded up: a caller that waits so long does not come too early.
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
    /// The header that tells a caller to wait.
    pub fn header(self, wait: Duration, now: Duration) -> Option<(&'static str, String)> {
        let at = (now + wait).as_nanos().div_ceil(1_000_000_000) as i64;
        match self {
            Self::None => None,
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
