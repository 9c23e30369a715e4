//! How often something that is tried again failed, and when it is tried next. Stored flat, among the fields of the record
//! that it is part of.
//!
//! A static role keeps when it was tried last instead (`static_roles::record`): its wait is no longer than its period,
//! which a write may change meanwhile.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::backoff;

/// Failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setbacks {
    /// How many.
    #[serde(default)]
    pub failures: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Not to be tried again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<DateTime<Utc>>,
}

impl Setbacks {
    /// One more attempt failed. The wait is spread by the name.
    pub fn note(&mut self, name: &str, error: &dyn Display, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error.to_string());
        self.retry_at = Some(backoff::retry_at(name, self.failures, now, Duration::ZERO));
    }

    /// Until when it is to be left alone, if it is.
    pub fn waits_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.retry_at.filter(|at| backoff::is_wait(*at, now))
    }

    /// Whether it is to be left alone for now.
    pub fn waits(&self, now: DateTime<Utc>) -> bool {
        self.waits_until(now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::key_history::Retiring;
    use crate::engine::ledger::Entry;

    /// Reads a record as it is stored, has it fail, and gives what is stored then.
    fn failed<T: Serialize + DeserializeOwned>(stored: &Value, fail: impl Fn(&mut T)) -> Value {
        let mut record: T = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), *stored);
        fail(&mut record);
        serde_json::to_value(&record).unwrap()
    }

    #[test]
    fn they_are_stored_among_the_fields_of_their_record() {
        let now = DateTime::UNIX_EPOCH;
        let mut key = json!({"id": "key_1", "organization_id": "org-1", "failures": 0});
        let stored = failed(&key, |old: &mut Retiring| old.setbacks.note("key_1", &"no", now));
        let retry_at = json!(backoff::retry_at("key_1", 1, now, Duration::ZERO));
        for (name, value) in [("failures", json!(1)), ("last_error", json!("no")), ("retry_at", retry_at)] {
            key[name] = value;
        }
        assert_eq!(stored, key);

        let credential = json!({
            "organization_id": "org-1", "project_id": "proj_1", "service_account_id": "svc_1", "api_key_id": "key_1",
            "name": "a", "with_account": true, "role": "app", "ends": now, "expires": null, "failures": 0,
        });
        let stored = failed(&credential, |entry: &mut Entry| entry.setbacks.note("a", &"no", now));
        assert_eq!((&stored["failures"], &stored["last_error"]), (&json!(1), &json!("no")));
        assert!(stored["retry_at"].is_string() && stored.get("setbacks").is_none(), "{stored}");
    }
}
