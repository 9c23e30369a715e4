//! The status of OpenAI, as the last calls show it: the last success, the last failure, and refusals of the admin key.
//! `health` reports it. It is kept in memory, so a new process knows nothing before its first call.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::engine::time::clock::Times;
use crate::openai::KeyVerdict;

/// Records the outcomes of calls to OpenAI.
#[derive(Debug)]
pub(in crate::engine) struct OpenAiStatus {
    times: Arc<Times>,
    outcomes: Mutex<Outcomes>,
}

/// The outcomes of the last calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Outcomes {
    /// Time of the last successful call.
    pub(in crate::engine) last_success: Option<DateTime<Utc>>,
    /// The last failure, even if calls have succeeded since.
    pub(in crate::engine) last_failure: Option<Failure>,
    /// Start of the outage of OpenAI or of the network; `None` if a call has succeeded since.
    pub(in crate::engine) failing_since: Option<DateTime<Utc>>,
    /// True if OpenAI refused the stored admin key and no call has succeeded since.
    pub(in crate::engine) refused: bool,
    /// The last call that OpenAI forbade, if no call has succeeded since.
    forbidden: Option<&'static str>,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Failure {
    pub(in crate::engine) at: DateTime<Utc>,
    /// The call.
    pub(in crate::engine) endpoint: &'static str,
    /// The HTTP status or the kind of failure.
    pub(in crate::engine) code: String,
    /// True if a proxy answered instead of OpenAI.
    pub(in crate::engine) is_foreign: bool,
}

impl Failure {
    /// The failure as a sentence.
    pub(in crate::engine) fn in_words(&self) -> String {
        if self.is_foreign {
            return format!("the answer is not from OpenAI ({})", self.code);
        }
        let words = match self.code.as_str() {
            "timeout" => "OpenAI did not answer in time",
            "connect" => "no connection to OpenAI",
            "tls" => "the connection to OpenAI is not trusted",
            "cut" => "the connection to OpenAI broke before the answer was whole",
            "oversized" | "malformed" => "OpenAI's answer cannot be read",
            "abandoned" => "the caller disconnected before OpenAI answered",
            "400" => "OpenAI refused what was asked for (400)",
            "401" => "OpenAI refused the admin key (401)",
            "403" => "the admin key may not do this at OpenAI (403)",
            "404" => "OpenAI does not have the object (404)",
            "429" => "OpenAI's rate limit was reached (429)",
            code if code.starts_with('5') => return format!("OpenAI failed ({code})"),
            code => return format!("OpenAI answered {code}"),
        };
        words.to_owned()
    }
}

impl OpenAiStatus {
    pub(in crate::engine) fn new(times: Arc<Times>) -> Self {
        Self { times, outcomes: Mutex::default() }
    }

    /// Records a successful call, with OpenAI's time if the response had a date.
    pub(in crate::engine) fn succeeded(&self, date: Option<DateTime<Utc>>) {
        let now = self.times.answered(date);
        let mut outcomes = self.outcomes.lock();
        outcomes.last_success = Some(now);
        outcomes.clear_failures();
    }

    /// Records that an admin key was stored. `proven` is true if OpenAI accepted the key in a trial call.
    pub(in crate::engine) fn key_stored(&self, proven: bool) {
        let now = self.times.now();
        let mut outcomes = self.outcomes.lock();
        outcomes.clear_failures();
        if proven {
            outcomes.last_success = Some(now);
        }
    }

    /// Records a failed call.
    pub(in crate::engine) fn failed(
        &self,
        endpoint: &'static str,
        code: &str,
        is_foreign: bool,
        key: KeyVerdict,
    ) {
        let now = self.times.now();
        let mut outcomes = self.outcomes.lock();
        match key {
            KeyVerdict::Refused => outcomes.refused = true,
            KeyVerdict::Forbidden => outcomes.refused |= outcomes.forbids_another_call(endpoint),
            KeyVerdict::Good => {}
        }
        // A 4xx of OpenAI is no outage: the request is wrong, its object is missing, or requests come too fast.
        if is_foreign || !code.starts_with('4') {
            outcomes.failing_since.get_or_insert(now);
        }
        outcomes.last_failure = Some(Failure { at: now, endpoint, code: code.to_owned(), is_foreign });
    }

    pub(in crate::engine) fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().clone()
    }
}

impl Outcomes {
    /// True during an outage, and while OpenAI refuses the stored key.
    pub(in crate::engine) fn are_failing(&self) -> bool {
        self.failing_since.is_some() || self.refused
    }

    /// True unless the last calls show that OpenAI accepts the stored key.
    pub(in crate::engine) fn is_key_doubtful(&self) -> bool {
        self.refused || self.last_success.is_none()
    }

    fn clear_failures(&mut self) {
        (self.failing_since, self.refused, self.forbidden) = (None, false, None);
    }

    /// Records that OpenAI forbade this call. True if OpenAI forbade another call before. A single forbidden call may only
    /// mean that the key lacks one permission.
    fn forbids_another_call(&mut self, endpoint: &'static str) -> bool {
        self.forbidden.replace(endpoint).is_some_and(|other| other != endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::clock::WallClock;

    fn status() -> OpenAiStatus {
        OpenAiStatus::new(Arc::new(Times::new(Arc::new(WallClock))))
    }

    #[test]
    fn an_outage_starts_with_the_first_failure_and_ends_with_a_success() {
        let status = status();
        status.failed("project", "503", false, KeyVerdict::Good);
        let since = status.outcomes().failing_since;
        assert!(since.is_some());
        status.failed("project", "timeout", false, KeyVerdict::Good);
        assert_eq!(status.outcomes().failing_since, since);
        status.succeeded(None);
        assert_eq!(status.outcomes().failing_since, None);
        assert_eq!(status.outcomes().last_failure.unwrap().code, "timeout");
    }

    #[test]
    fn an_invalid_request_or_a_rate_limit_is_no_outage() {
        let status = status();
        for code in ["400", "404", "429"] {
            status.failed("project", code, false, KeyVerdict::Good);
        }
        assert_eq!((status.outcomes().failing_since, status.outcomes().refused), (None, false));
    }

    #[test]
    fn a_refused_key_stays_refused_until_a_call_succeeds() {
        let status = status();
        status.failed("costs", "401", false, KeyVerdict::Refused);
        status.failed("costs", "404", false, KeyVerdict::Good);
        assert!(status.outcomes().refused);
        status.succeeded(None);
        assert!(!status.outcomes().refused);
    }
}
