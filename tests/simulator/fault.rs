//! Faults: the affected calls, the number of hits, and the failure before or after the work.
//!
//! A rule selects calls; an action defines the failure. This file knows no API state.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::Call;
use super::routes::matches;

/// A fault in the format of `/_sim/faults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `GET`, `POST`, ...; every method if missing.
    #[serde(default)]
    pub method: Option<String>,
    /// Path below `/v1`. `*` and `{name}` match one segment, `**` matches all remaining segments.
    #[serde(default = "everywhere")]
    pub path: String,
    /// Number of matching calls that pass first.
    #[serde(default)]
    pub skip: u64,
    /// Number of calls that fail; all if missing.
    #[serde(default)]
    pub count: Option<u64>,
    /// Failure before or after the work.
    #[serde(default)]
    pub when: When,
    /// The failure.
    pub action: Action,
}

/// Time of a failure relative to the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The work is not done.
    #[default]
    Before,
    /// The work is done, but the caller gets no success.
    After,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Another status with headers and a body. A text is sent as it is, other values as JSON. The default body is
    /// OpenAI's error.
    Status {
        /// HTTP status.
        status: u16,
        /// Additional headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default)]
        body: Option<Value>,
    },
    /// Delays the call. The next fault or the normal response follows.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Closes the connection without a response.
    Drop,
    /// Closes the connection in the middle of the response body.
    Cut,
    /// Status 200 with an HTML page.
    Html,
    /// Status 200 with an empty body.
    Empty,
    /// Status 200 with a page of an endless list. Each page is different.
    Endless,
    /// The response with two more MiB, still valid JSON.
    Huge,
    /// Half of the response body, with a matching length.
    Truncated,
    /// The response with a wrong type for every value.
    WrongTypes,
    /// Redirects with status 307.
    Redirect {
        /// Value of the `Location` header.
        location: String,
    },
}

impl Fault {
    /// A fault of this endpoint.
    pub fn on(endpoint: &str, action: Action) -> Self {
        let (method, path) = endpoint.split_once(' ').unwrap_or(("", endpoint));
        let method = Some(method.to_owned()).filter(|method| !method.is_empty());
        Self { method, path: path.to_owned(), skip: 0, count: None, when: When::Before, action }
    }

    /// A fault of every endpoint.
    pub fn everywhere(action: Action) -> Self {
        Self::on(&everywhere(), action)
    }

    /// Limits the number of calls that fail.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Sets the number of calls that pass first.
    #[must_use]
    pub fn skipping(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Fails after the work.
    #[must_use]
    pub fn after_the_work(self) -> Self {
        Self { when: When::After, ..self }
    }

    /// True if the rule selects this call.
    pub fn applies_to(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method) && matches(&self.path, &call.path)
    }

    /// Counts a selected call. Answers true if the call fails.
    pub fn hit(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.count {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// True if the fault cannot hit again.
    pub fn is_exhausted(&self) -> bool {
        self.count == Some(0)
    }
}

impl Action {
    /// A status with OpenAI's error body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: BTreeMap::new(), body: None }
    }

    /// A status with OpenAI's error body, and with the header that says that a repeat is of no use. A client fails at once.
    pub fn final_status(status: u16) -> Self {
        let headers = BTreeMap::from([("x-should-retry".to_owned(), "false".to_owned())]);
        Self::Status { status, headers, body: None }
    }

    /// A status with this body.
    pub fn status_with(status: u16, body: impl Into<Value>) -> Self {
        Self::Status { status, headers: BTreeMap::new(), body: Some(body.into()) }
    }

    /// A delay.
    pub fn delay(by: Duration) -> Self {
        Self::Delay { ms: by.as_millis() as u64 }
    }

    /// True if the action changes the real response, so the work must be done.
    pub fn needs_the_answer(&self) -> bool {
        matches!(self, Self::Cut | Self::Huge | Self::Truncated | Self::WrongTypes)
    }
}

fn everywhere() -> String {
    "/**".to_owned()
}
