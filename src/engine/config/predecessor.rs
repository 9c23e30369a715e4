//! Converts the entries of the Go plugin of the same name to this plugin's form. `predecessor_leases` handles its leases.
//!
//! *Guarantees:* a read does not change the Go plugin's entries, so the mount can go back to the Go plugin. A write stores
//! this plugin's form.
//!
//! *The Go plugin's form:* entries have no version and count durations in nanoseconds, and a role has OpenAI's id of its
//! project.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::engine::time::cron::CronExpression;
use crate::engine::time::schedule::{MIN_PERIOD, MIN_WINDOW};
use crate::openai::{AdminKeyId, Endpoint, LONGEST_EXPIRY, ProjectId};

/// The prefix of the Go plugin's roles.
pub(in crate::engine) const ROLES: &str = "roles/";

/// The Go plugin's defaults for a role.
const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
const DEFAULT_MAX_TTL: Duration = Duration::from_secs(86_400);

/// The Go plugin's configuration. Key and organization are copied unchanged.
#[derive(Deserialize)]
struct Config {
    admin_api_key: Value,
    #[serde(default)]
    admin_api_key_id: String,
    organization_id: Value,
    #[serde(default)]
    api_endpoint: String,
    last_rotated_time: DateTime<Utc>,
    #[serde(default)]
    rotation_schedule: String,
    #[serde(default, deserialize_with = "nanoseconds")]
    rotation_period: Duration,
    #[serde(default, deserialize_with = "nanoseconds")]
    rotation_window: Duration,
    #[serde(default)]
    disable_automated_rotation: bool,
}

/// The Go plugin's role.
#[derive(Deserialize)]
struct Role {
    project_id: ProjectId,
    service_account_name_template: String,
    #[serde(default)]
    service_account_description: String,
    #[serde(default, deserialize_with = "nanoseconds")]
    ttl: Duration,
    #[serde(default, deserialize_with = "nanoseconds")]
    max_ttl: Duration,
}

fn nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    i64::deserialize(deserializer).map(|count| Duration::from_nanos(u64::try_from(count).unwrap_or(0)))
}

/// Converts the Go plugin's configuration. Any other entry is returned unchanged.
pub(in crate::engine) fn config(entry: Value) -> Result<Value, serde_json::Error> {
    if entry.get("last_rotated_time").is_none() {
        return Ok(entry);
    }
    let old: Config = serde_json::from_value(entry)?;
    let schedule = valid_schedule(old.rotation_schedule);
    let period = if schedule.is_empty() { at_least(MIN_PERIOD, old.rotation_period) } else { Duration::ZERO };
    let endpoint = if old.api_endpoint.is_empty() { Endpoint::DEFAULT } else { &old.api_endpoint };
    Ok(json!({
        "admin_api_key": old.admin_api_key,
        "admin_api_key_id": old.admin_api_key_id.parse::<AdminKeyId>().ok(),
        "organization_id": old.organization_id,
        "api_endpoint": endpoint,
        "last_rotated": old.last_rotated_time,
        "rotation_schedule": schedule,
        "automatic_rotation_period": period.as_secs(),
        "automatic_rotation_window": at_least(MIN_WINDOW, old.rotation_window).as_secs(),
        "disable_automated_rotation": old.disable_automated_rotation,
        "rotation_job": true,
    }))
}

/// Converts the Go plugin's role. An entry with `project` is this plugin's own and is returned unchanged.
pub(in crate::engine) fn role(entry: Value) -> Result<Value, serde_json::Error> {
    if entry.get("project").is_some() {
        return Ok(entry);
    }
    let old: Role = serde_json::from_value(entry)?;
    let max_ttl = if old.max_ttl.is_zero() { DEFAULT_MAX_TTL } else { old.max_ttl.min(LONGEST_EXPIRY) };
    let ttl = if old.ttl.is_zero() { DEFAULT_TTL } else { old.ttl };
    Ok(json!({
        "project_id": old.project_id,
        "service_account_name_template": old.service_account_name_template,
        "service_account_description": old.service_account_description,
        "ttl": ttl.min(max_ttl).as_secs(),
        "max_ttl": max_ttl.as_secs(),
    }))
}

/// The schedule, or an empty text for an invalid one, which must not make the whole configuration unusable.
fn valid_schedule(schedule: String) -> String {
    if schedule.trim().is_empty() {
        return String::new();
    }
    match CronExpression::parse(&schedule) {
        Ok(_) => schedule,
        Err(error) => {
            tracing::warn!("the Go plugin's rotation_schedule is dropped: {error}");
            String::new()
        }
    }
}

/// The duration, raised to the minimum unless it is zero, which means none.
fn at_least(min: Duration, duration: Duration) -> Duration {
    if duration.is_zero() { duration } else { duration.max(min) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::configuration;
    use crate::engine::config::configuration::{CONFIG, ONLY};
    use crate::engine::creds::role;
    use crate::logical::{self, InMemory, Storage as _};

    async fn config_of(changes: Value) -> configuration::Config {
        let mut entry = json!({
            "admin_api_key": "sk-admin-x", "admin_api_key_id": "key_1", "organization_id": "org-1",
            "api_endpoint": "https://api.openai.com/v1", "last_rotated_time": "2025-06-01T12:00:00.5+02:00",
            "rotation_schedule": "", "rotation_window": 0, "rotation_period": 0,
            "disable_automated_rotation": false, "rotation_policy": ""
        });
        let Value::Object(changes) = changes else { panic!("an object") };
        entry.as_object_mut().unwrap().extend(changes);
        let storage = InMemory::new();
        let entry = logical::Entry { key: "config".into(), value: entry.to_string().into(), seal_wrap: true };
        storage.put(entry).await.unwrap();
        CONFIG.get(&storage, ONLY).await.unwrap().unwrap()
    }

    async fn role_of(ttl: i64, max_ttl: i64) -> role::Role {
        let entry = json!({
            "project_id": "proj_1", "service_account_name_template": "{{.RoleName}}",
            "service_account_description": "d", "ttl": ttl, "max_ttl": max_ttl
        });
        let storage = InMemory::new();
        let entry =
            logical::Entry { key: "roles/a".into(), value: entry.to_string().into(), seal_wrap: false };
        storage.put(entry).await.unwrap();
        role::ROLES.get(&storage, "a").await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn an_unsupported_rotation_is_adjusted_or_dropped() {
        let short = config_of(json!({"rotation_period": 10_000_000_000_i64})).await;
        assert_eq!(short.automatic_rotation_period, MIN_PERIOD);
        let cron = json!({"rotation_schedule": "0 3 * * 0", "rotation_window": 60_000_000_000_i64});
        let cron = config_of(cron).await;
        assert_eq!(
            (cron.rotation_schedule.as_str(), cron.automatic_rotation_window),
            ("0 3 * * 0", MIN_WINDOW)
        );
        assert!(cron.schedule().unwrap().is_some());
        let odd = config_of(json!({"rotation_schedule": "@daily"})).await;
        assert!(odd.schedule().unwrap().is_none());
    }

    #[tokio::test]
    async fn an_invalid_id_is_dropped_and_an_empty_endpoint_is_the_default() {
        let config = config_of(json!({"admin_api_key_id": "not an id", "api_endpoint": ""})).await;
        assert_eq!(config.admin_api_key_id, None);
        assert_eq!(config.api_endpoint, Endpoint::DEFAULT);
        assert_eq!(config.last_rotated, "2025-06-01T10:00:00.5Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[tokio::test]
    async fn missing_or_unsupported_ttls_are_adjusted() {
        const HOUR: i64 = 3_600_000_000_000;
        for (old, new) in [
            ((HOUR, 2 * HOUR), (3_600, 7_200)),
            ((0, 0), (3_600, 86_400)),
            ((0, HOUR / 2), (1_800, 1_800)),
            ((20_000 * HOUR, 20_000 * HOUR), (31_536_000, 31_536_000)),
            ((-1, HOUR), (3_600, 3_600)),
        ] {
            let role = role_of(old.0, old.1).await;
            assert_eq!((role.ttl.as_secs(), role.max_ttl.as_secs()), new, "{old:?}");
        }
    }
}
