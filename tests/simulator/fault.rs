//! Faults: what goes wrong, on which calls, how often, and before or after the work is done.
//!
//! A rule says which calls; an action says what happens to them. Knows no state of the API.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::Call;
use super::routes::matches;

/// A fault, as it is posted to `/_sim/faults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `GET`, `POST`, ...; left out, every method.
    #[serde(default)]
    pub method: Option<String>,
    /// The path below `/v1`: `*` and `{name}` stand for one segment, `**` for all that follow.
    #[serde(default = "everywhere")]
    pub path: String,
    /// This many matching calls pass unharmed first.
    #[serde(default)]
    pub skip: u64,
    /// How many calls it hits; left out, all.
    #[serde(default)]
    pub count: Option<u64>,
    /// Whether the call's work is done.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub action: Action,
}

/// Whether a call that goes wrong has done its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Nothing was done.
    #[default]
    Before,
    /// Everything was done; the caller does not learn it.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Another status, with headers and a body: a text as it is, anything else as JSON; by default OpenAI's error.
    Status {
        /// HTTP status.
        status: u16,
        /// More headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default)]
        body: Option<Value>,
    },
    /// The call takes longer; it then goes on, into the next fault or its own answer.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection closes without an answer.
    Drop,
    /// The connection closes in the middle of the answer's body.
    Cut,
    /// 200 with a page of HTML.
    Html,
    /// 200 with nothing.
    Empty,
    /// 200 with a page of a list that never ends, each time another one.
    Endless,
    /// The answer with two more MiB in it, still good JSON.
    Huge,
    /// Half the answer, as if it were whole.
    Truncated,
    /// The answer with every value of another type.
    WrongTypes,
    /// 307 to somewhere.
    Redirect {
        /// The `Location`.
        location: String,
    },
}

impl Fault {
    /// A fault of the endpoint of this name.
    pub fn on(endpoint: &str, action: Action) -> Self {
        let (method, path) = endpoint.split_once(' ').unwrap_or(("", endpoint));
        let method = Some(method.to_owned()).filter(|method| !method.is_empty());
        Self { method, path: path.to_owned(), skip: 0, count: None, when: When::Before, action }
    }

    /// A fault of every endpoint.
    pub fn everywhere(action: Action) -> Self {
        Self::on(&everywhere(), action)
    }

    /// Hits this many calls.
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Lets this many calls pass first.
    pub fn skipping(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// The work is done all the same.
    pub fn after_the_work(self) -> Self {
        Self { when: When::After, ..self }
    }

    /// Whether the call is one of those that the rule describes.
    pub fn applies_to(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method) && matches(&self.path, &call.path)
    }

    /// Whether it hits this call of those that it concerns; counts it.
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

    /// Whether it will not hit anything any more.
    pub fn is_exhausted(&self) -> bool {
        self.count == Some(0)
    }
}

impl Action {
    /// A status with OpenAI's error body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: BTreeMap::new(), body: None }
    }

    /// A status with this body.
    pub fn status_with(status: u16, body: impl Into<Value>) -> Self {
        Self::Status { status, headers: BTreeMap::new(), body: Some(body.into()) }
    }

    /// A call that takes longer.
    pub fn delay(by: Duration) -> Self {
        Self::Delay { ms: by.as_millis() as u64 }
    }

    /// Whether it changes the real answer, so that the work has to be done.
    pub fn needs_the_answer(&self) -> bool {
        matches!(self, Self::Cut | Self::Huge | Self::Truncated | Self::WrongTypes)
    }
}

fn everywhere() -> String {
    "/**".to_owned()
}
