//! The retry state of failing work. Stored flat, among the fields of its record.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::time::backoff;

/// Failures in a row, and the next try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryState {
    /// The number of failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// The reason of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The earliest time of the next attempt.
    #[serde(default, rename = "retry_at", skip_serializing_if = "Option::is_none")]
    pub next_try: Option<DateTime<Utc>>,
}

impl RetryState {
    /// Counts a failed attempt. The wait is at most `longest` (zero for no limit), and is spread by the name.
    pub fn failed(&mut self, name: &str, error: &dyn Display, now: DateTime<Utc>, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error.to_string());
        self.next_try = Some(backoff::retry_at(name, self.failures, now, longest));
    }

    /// Counts a failed attempt with this error. If the organization is out of reach, the next try is in an hour. A list that
    /// is not read to its end is no failure, so the next tick goes on.
    pub fn failed_by(&mut self, name: &str, error: &Error, now: DateTime<Utc>, longest: Duration) {
        self.failed(name, error, now, longest);
        if error.is_out_of_reach() {
            self.next_try = Some(now + backoff::OUT_OF_REACH);
        } else if matches!(error, Error::KeysUnlisted) {
            self.retry_now();
        }
    }

    /// True if the last attempt did not fail.
    pub fn is_clear(&self) -> bool {
        *self == Self::default()
    }

    /// Clears the state after a successful attempt.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Allows the next attempt at once. The last error stays until an attempt succeeds.
    pub fn retry_now(&mut self) {
        (self.failures, self.next_try) = (0, None);
    }

    /// The time of the next try, if it is in the future.
    pub fn waits_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next_try.filter(|at| backoff::is_wait(*at, now))
    }

    /// True if the next try waits because the organization was out of reach.
    pub fn waits_for_reach(&self, now: DateTime<Utc>) -> bool {
        self.next_try.is_some_and(|at| at > now + backoff::LONGEST)
    }

    /// True if the next try is in the future.
    pub fn waits(&self, now: DateTime<Utc>) -> bool {
        self.waits_until(now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Record {
        name: String,
        #[serde(flatten)]
        retry: RetryState,
    }

    #[test]
    fn is_stored_among_the_fields_of_its_record() {
        let now = DateTime::UNIX_EPOCH;
        let mut record: Record = serde_json::from_value(json!({"name": "a"})).unwrap();
        assert_eq!(record.retry, RetryState::default());
        record.retry.failed("a", &"no", now, Duration::ZERO);
        let next_try = backoff::retry_at("a", 1, now, Duration::ZERO);
        let stored = json!({"name": "a", "failures": 1, "last_error": "no", "retry_at": next_try});
        assert_eq!(serde_json::to_value(&record).unwrap(), stored);
        let read: Record = serde_json::from_value(stored).unwrap();
        assert_eq!(read.retry, record.retry);
        record.retry.succeeded();
        assert_eq!(serde_json::to_value(&record).unwrap(), json!({"name": "a", "failures": 0}));
    }

    #[test]
    fn waits_after_a_failure_and_no_longer_than_it_may() {
        let at = |seconds| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        let mut retry = RetryState::default();
        assert!(!retry.waits(at(0)));
        retry.failed("a", &"no", at(0), Duration::from_secs(8));
        assert!(retry.waits(at(1)) && !retry.waits(at(8)));
        retry.failed("a", &"no", at(0), Duration::ZERO);
        assert!(retry.waits(at(30)) && !retry.waits(at(60)), "the second wait is longer");
        // A time beyond the longest back-off was stored before the clock went back.
        assert!(!retry.waits(at(-10_000)));
        retry.retry_now();
        assert!(!retry.waits(at(1)) && retry.failures == 0 && retry.last_error.as_deref() == Some("no"));
    }
}
