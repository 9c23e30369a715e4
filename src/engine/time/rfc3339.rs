//! Times in responses and storage: RFC 3339 in UTC, in whole seconds: `2025-06-01T12:00:00Z`.
//!
//! Use with `#[serde(with = "rfc3339")]`.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, Serializer};

/// The time as text, without the fraction of a second.
pub fn text(time: DateTime<Utc>) -> String {
    time.trunc_subsecs(0).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Serializes the time as text.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

/// Parses any RFC 3339 time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Record {
        #[serde(with = "super")]
        at: DateTime<Utc>,
    }

    #[test]
    fn times_are_stored_in_whole_seconds_and_utc() {
        let read: Record = serde_json::from_value(json!({"at": "2025-06-01T14:00:00.9+02:00"})).unwrap();
        assert_eq!(text(read.at), "2025-06-01T12:00:00Z");
        assert_eq!(serde_json::to_value(&read).unwrap(), json!({"at": "2025-06-01T12:00:00Z"}));
    }

    #[test]
    fn an_invalid_time_is_refused() {
        for at in ["", "2025-06-01", "2025-13-01T00:00:00Z", "yesterday"] {
            assert!(serde_json::from_value::<Record>(json!({ "at": at })).is_err(), "{at}");
        }
    }
}
