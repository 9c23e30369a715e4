//! Durations as whole seconds, for storage and responses, and as text for sentences.
//!
//! Use with `#[serde(with = "seconds")]` on a [`Duration`] or `#[serde(with = "seconds::option")]` on an optional one.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Serializes the whole seconds.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_secs().serialize(serializer)
}

/// Parses whole seconds.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// The duration in the format of Vault's command line, which every field accepts: `1h30m`, `48h`, `45s`, `0s`.
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&count.to_string());
        text.push(unit);
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// For optional durations.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serializes the whole seconds or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs()).serialize(serializer)
    }

    /// Parses whole seconds or null. A field that may be absent also needs `#[serde(default)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Record {
        #[serde(with = "super")]
        ttl: Duration,
        #[serde(with = "super::option", default)]
        window: Option<Duration>,
    }

    #[test]
    fn durations_are_stored_as_whole_seconds() {
        let record = Record { ttl: Duration::from_millis(90_700), window: Some(Duration::from_secs(5)) };
        let stored = serde_json::to_value(&record).unwrap();
        assert_eq!(stored, json!({"ttl": 90, "window": 5}));
        let read: Record = serde_json::from_value(stored).unwrap();
        assert_eq!((read.ttl.as_secs(), read.window), (90, record.window));
    }

    #[test]
    fn a_missing_duration_is_none_and_a_negative_one_is_refused() {
        let read: Record = serde_json::from_value(json!({"ttl": 1})).unwrap();
        assert_eq!(read.window, None);
        assert!(serde_json::from_value::<Record>(json!({"ttl": -1})).is_err());
        assert!(serde_json::from_value::<Record>(json!({"ttl": 1, "window": null})).is_ok());
    }

    #[test]
    fn text_omits_zero_units() {
        for (seconds, expected) in [(0, "0s"), (45, "45s"), (5400, "1h30m"), (172_800, "48h"), (3601, "1h1s")]
        {
            assert_eq!(text(Duration::from_secs(seconds)), expected);
        }
    }
}
