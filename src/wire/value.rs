//! Values in messages: JSON in strings, durations in nanoseconds, timestamps, headers (PROTOCOL 3.7, 3.8).

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use crate::logical::Data;

use super::pb::Header;

/// A string that must hold a JSON object or `null` and does not. The error quotes no content, because the content may
/// be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object, from line {line} column {column}")]
pub(super) struct NotAnObject {
    line: usize,
    column: usize,
}

/// Go's encoding of an absent object.
const NULL: &str = "null";

/// Go's zero time, the first second of the year 1. Go sends it for "no time".
pub(super) const ZERO_TIME: Timestamp = Timestamp { seconds: -62_135_596_800, nanos: 0 };

/// Parses a JSON object. `null` and an empty string become an empty object.
pub(super) fn data(json: &str) -> Result<Data, NotAnObject> {
    if json.is_empty() || json == NULL {
        return Ok(Data::new());
    }
    serde_json::from_str::<Option<Data>>(json)
        .map(Option::unwrap_or_default)
        .map_err(|error| NotAnObject { line: error.line(), column: error.column() })
}

/// Encodes a JSON object. An empty object becomes `null`, as in Go.
pub(super) fn json(data: &Data) -> String {
    if data.is_empty() {
        return NULL.to_owned();
    }
    // A map from strings to JSON values always serializes. The server refuses an empty string.
    serde_json::to_string(data).unwrap_or_else(|_| NULL.to_owned())
}

/// Converts a duration from the protocol. A negative one becomes zero.
pub(super) fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(nanoseconds.try_into().unwrap_or(0))
}

/// Converts a duration for the protocol. Durations over 292 years become the largest value.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    duration.as_nanos().try_into().unwrap_or(i64::MAX)
}

/// Converts a time from the protocol. Go's zero time and invalid times become `None`.
pub(super) fn time(timestamp: Timestamp) -> Option<DateTime<Utc>> {
    if timestamp == ZERO_TIME {
        return None;
    }
    DateTime::from_timestamp(timestamp.seconds, timestamp.nanos.try_into().ok()?)
}

/// Converts headers from the protocol.
pub(super) fn headers(headers: HashMap<String, Header>) -> HashMap<String, Vec<String>> {
    headers.into_iter().map(|(name, values)| (name, values.header)).collect()
}

/// Converts headers to the protocol.
pub(super) fn header_messages(headers: HashMap<String, Vec<String>>) -> HashMap<String, Header> {
    headers.into_iter().map(|(name, header)| (name, Header { header })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_nothing_are_the_empty_object() {
        for empty in ["", "null", " null ", "{}", "\n{ }\t"] {
            assert_eq!(data(empty).unwrap(), Data::new(), "{empty:?}");
        }
        assert_eq!(json(&Data::new()), "null");
    }

    #[test]
    fn oddly_written_objects_are_read() {
        let read = data("\r\n{ \"a\" :1 ,\"\\u0062\":[ 1.50,-0,1e3 ] ,\"c\":{\"d\":null}}").unwrap();
        assert_eq!(json(&read), r#"{"a":1,"b":[1.5,-0.0,1000.0],"c":{"d":null}}"#);
    }

    #[test]
    fn large_integers_keep_every_digit() {
        let text = r#"{"least":-9223372036854775808,"most":18446744073709551615}"#;
        assert_eq!(json(&data(text).unwrap()), text);
    }

    #[test]
    fn what_is_no_object_is_refused_without_quoting_it() {
        for text in
            [r#""sk-secret""#, r#"["sk-secret"]"#, r#"{"a":sk-secret}"#, r#"{"a":1e400}"#, "{", "{}{}"]
        {
            let refusal = data(text).unwrap_err().to_string();
            assert!(refusal.starts_with("not a JSON object") && !refusal.contains("sk-"), "{refusal}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert!(data(&deep).is_err());
    }

    #[test]
    fn durations_are_nanoseconds_and_never_wrap() {
        assert_eq!(nanoseconds(Duration::from_secs(90)), 90_000_000_000);
        assert_eq!(duration(90_000_000_000), Duration::from_secs(90));
        assert_eq!(nanoseconds(Duration::MAX), i64::MAX);
        assert_eq!(duration(-1), Duration::ZERO);
    }

    #[test]
    fn only_times_of_the_calendar_are_times() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 5 };
        assert_eq!(time(at).unwrap().timestamp_nanos_opt(), Some(1_700_000_000_000_000_005));
        assert_eq!(time(Timestamp::default()).unwrap(), DateTime::UNIX_EPOCH);
        for none in
            [ZERO_TIME, Timestamp { seconds: i64::MAX, nanos: 0 }, Timestamp { seconds: 0, nanos: -1 }]
        {
            assert_eq!(time(none), None);
        }
    }
}
