//! When OpenAI last did as asked, and what it last failed with: noted where calls end, told by `health`.
//!
//! In memory: a new process knows nothing until its first call. It knows nothing of calls but their labels.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::clock::Clock;

/// What the last calls to OpenAI came to.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    beat: Mutex<Beat>,
}

/// The state of a [`Pulse`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beat {
    /// When a call last got what it asked for.
    pub(super) last_success: Option<DateTime<Utc>>,
    /// The last failure, even if calls have succeeded since.
    pub(super) last_failure: Option<Failure>,
    /// Since when every call has met trouble of OpenAI's or of the way to it.
    pub(super) failing_since: Option<DateTime<Utc>>,
    /// Whether the last answer about the admin key was that it is not, or no longer, good.
    pub(super) refused: bool,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) at: DateTime<Utc>,
    /// Which call.
    pub(super) endpoint: &'static str,
    /// The HTTP status or the kind of failure.
    pub(super) code: String,
}

impl Pulse {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, beat: Mutex::default() }
    }

    /// A call got what it asked for.
    pub(super) fn succeeded(&self) {
        let now = self.clock.now();
        let mut beat = self.lock();
        beat.last_success = Some(now);
        beat.failing_since = None;
        beat.refused = false;
    }

    /// A call did not.
    pub(super) fn failed(&self, endpoint: &'static str, code: &str) {
        let now = self.clock.now();
        let mut beat = self.lock();
        match code {
            "401" | "403" => beat.refused = true,
            // OpenAI works, and has its reasons: what was asked for is wrong, is not there, or comes too fast.
            _ if code.starts_with('4') => {}
            _ => {
                beat.failing_since.get_or_insert(now);
            }
        }
        beat.last_failure = Some(Failure { at: now, endpoint, code: code.to_owned() });
    }

    pub(super) fn beat(&self) -> Beat {
        self.lock().clone()
    }

    /// A panic while the lock was held leaves plain data, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::WallClock;
    use super::*;

    fn pulse() -> Pulse {
        Pulse::new(Arc::new(WallClock))
    }

    #[test]
    fn trouble_begins_with_the_first_failure_and_ends_with_a_success() {
        let pulse = pulse();
        pulse.failed("project", "503");
        let since = pulse.beat().failing_since;
        assert!(since.is_some());
        pulse.failed("project", "timeout");
        assert_eq!(pulse.beat().failing_since, since);
        pulse.succeeded();
        assert_eq!(pulse.beat().failing_since, None);
        assert_eq!(pulse.beat().last_failure.unwrap().code, "timeout");
    }

    #[test]
    fn a_callers_mistake_or_a_limit_is_no_trouble() {
        let pulse = pulse();
        for code in ["400", "404", "429"] {
            pulse.failed("project", code);
        }
        assert_eq!((pulse.beat().failing_since, pulse.beat().refused), (None, false));
    }

    #[test]
    fn a_refused_key_stays_refused_until_a_call_succeeds() {
        let pulse = pulse();
        pulse.failed("costs", "401");
        pulse.failed("costs", "404");
        assert!(pulse.beat().refused);
        pulse.succeeded();
        assert!(!pulse.beat().refused);
    }
}
