//! When OpenAI last did as asked, and what it last failed with: noted where calls end, told by `health`.
//!
//! In memory: a new process knows nothing until its first call. It knows nothing of calls but their labels.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::engine::time::clock::Times;
use crate::openai::KeyVerdict;

/// What the last calls to OpenAI came to.
#[derive(Debug)]
pub(in crate::engine) struct Pulse {
    times: Arc<Times>,
    beat: Mutex<Beat>,
}

/// The state of a [`Pulse`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Beat {
    /// When a call last got what it asked for.
    pub(in crate::engine) last_success: Option<DateTime<Utc>>,
    /// The last failure, even if calls have succeeded since.
    pub(in crate::engine) last_failure: Option<Failure>,
    /// Since when every call has met trouble of OpenAI's or of the way to it.
    pub(in crate::engine) failing_since: Option<DateTime<Utc>>,
    /// Whether the last answer about the stored admin key was that it is not, or no longer, good.
    pub(in crate::engine) refused: bool,
    /// The call that was last not allowed, if none has succeeded since.
    forbidden: Option<&'static str>,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Failure {
    pub(in crate::engine) at: DateTime<Utc>,
    /// Which call.
    pub(in crate::engine) endpoint: &'static str,
    /// The HTTP status or the kind of failure.
    pub(in crate::engine) code: String,
    /// Whether a proxy answered with that status instead of OpenAI.
    pub(in crate::engine) is_foreign: bool,
}

impl Failure {
    /// What went wrong, for people.
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
            "abandoned" => "the caller went away before OpenAI answered",
            "400" => "OpenAI refused what was asked for (400)",
            "401" => "OpenAI refused the admin key (401)",
            "403" => "the admin key may not do this at OpenAI (403)",
            "404" => "it is not there at OpenAI (404)",
            "429" => "OpenAI's limit of calls was reached (429)",
            code if code.starts_with('5') => return format!("OpenAI failed ({code})"),
            code => return format!("OpenAI answered {code}"),
        };
        words.to_owned()
    }
}

impl Pulse {
    pub(in crate::engine) fn new(times: Arc<Times>) -> Self {
        Self { times, beat: Mutex::default() }
    }

    /// A call got what it asked for, and perhaps OpenAI's time.
    pub(in crate::engine) fn succeeded(&self, date: Option<DateTime<Utc>>) {
        self.times.answered(date);
        let now = self.times.now();
        let mut beat = self.lock();
        beat.last_success = Some(now);
        beat.trusts();
    }

    /// A key was stored, or found good again. `proven`: OpenAI took it in a trial, which was not noted here.
    pub(in crate::engine) fn key_stored(&self, proven: bool) {
        let now = self.times.now();
        let mut beat = self.lock();
        beat.trusts();
        beat.last_success = if proven { Some(now) } else { beat.last_success };
    }

    /// A call did not get what it asked for.
    pub(in crate::engine) fn failed(
        &self,
        endpoint: &'static str,
        code: &str,
        is_foreign: bool,
        key: KeyVerdict,
    ) {
        let now = self.times.now();
        let mut beat = self.lock();
        match key {
            KeyVerdict::Refused => beat.refused = true,
            KeyVerdict::Forbidden => beat.refused |= beat.forbids_besides(endpoint),
            KeyVerdict::Good => {}
        }
        // With a status of 4xx OpenAI works: what was asked for is wrong, is not there, or comes too fast.
        if is_foreign || !code.starts_with('4') {
            beat.failing_since.get_or_insert(now);
        }
        beat.last_failure = Some(Failure { at: now, endpoint, code: code.to_owned(), is_foreign });
    }

    pub(in crate::engine) fn beat(&self) -> Beat {
        self.lock().clone()
    }

    /// A panic while the lock was held leaves plain data, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// Whether nothing says that OpenAI takes the stored key.
    pub(in crate::engine) fn doubts_the_key(&self) -> bool {
        self.refused || self.last_success.is_none()
    }

    fn trusts(&mut self) {
        (self.failing_since, self.refused, self.forbidden) = (None, false, None);
    }

    /// Notes that the call is not allowed; answers whether another one was not either. One alone may have reasons of its
    /// own, such as a permission that the key lacks.
    fn forbids_besides(&mut self, endpoint: &'static str) -> bool {
        self.forbidden.replace(endpoint).is_some_and(|other| other != endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::clock::WallClock;

    fn pulse() -> Pulse {
        Pulse::new(Arc::new(Times::new(Arc::new(WallClock))))
    }

    #[test]
    fn trouble_begins_with_the_first_failure_and_ends_with_a_success() {
        let pulse = pulse();
        pulse.failed("project", "503", false, KeyVerdict::Good);
        let since = pulse.beat().failing_since;
        assert!(since.is_some());
        pulse.failed("project", "timeout", false, KeyVerdict::Good);
        assert_eq!(pulse.beat().failing_since, since);
        pulse.succeeded(None);
        assert_eq!(pulse.beat().failing_since, None);
        assert_eq!(pulse.beat().last_failure.unwrap().code, "timeout");
    }

    #[test]
    fn a_callers_mistake_or_a_limit_is_no_trouble() {
        let pulse = pulse();
        for code in ["400", "404", "429"] {
            pulse.failed("project", code, false, KeyVerdict::Good);
        }
        assert_eq!((pulse.beat().failing_since, pulse.beat().refused), (None, false));
    }

    #[test]
    fn a_refused_key_stays_refused_until_a_call_succeeds() {
        let pulse = pulse();
        pulse.failed("costs", "401", false, KeyVerdict::Refused);
        pulse.failed("costs", "404", false, KeyVerdict::Good);
        assert!(pulse.beat().refused);
        pulse.succeeded(None);
        assert!(!pulse.beat().refused);
    }
}
