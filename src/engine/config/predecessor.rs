//! What the Go plugin of the same name stored before this one took its mount over, as entries of ours. How its leases end
//! is `predecessor_leases`'.
//!
//! *Guarantees:* its entries are read where they stand and never changed, so that it finds them again if it is put back;
//! a write makes one of ours.
//!
//! *Its ways:* entries carry no version and count time in nanoseconds; a role gives OpenAI's id of its project.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::engine::time::cron::Timetable;
use crate::engine::time::schedule::{MIN_PERIOD, MIN_WINDOW};
use crate::openai::{AdminKeyId, Endpoint, LONGEST_EXPIRY, ProjectId};

/// Where its roles stand.
pub(in crate::engine) const ROLES: &str = "roles/";

/// What it gives a role whose times are not set.
const TTL: Duration = Duration::from_secs(3_600);
const MAX_TTL: Duration = Duration::from_secs(86_400);

/// Its configuration. The key and the organization are taken as they are.
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

/// A role of its.
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

/// Its configuration as an entry of ours; what is not its stays as it is.
pub(in crate::engine) fn config(entry: Value) -> Result<Value, serde_json::Error> {
    if entry.get("last_rotated_time").is_none() {
        return Ok(entry);
    }
    let its: Config = serde_json::from_value(entry)?;
    let schedule = readable(its.rotation_schedule);
    let period = if schedule.is_empty() { at_least(MIN_PERIOD, its.rotation_period) } else { Duration::ZERO };
    let endpoint = if its.api_endpoint.is_empty() { Endpoint::DEFAULT } else { &its.api_endpoint };
    Ok(json!({
        "admin_api_key": its.admin_api_key,
        "admin_api_key_id": its.admin_api_key_id.parse::<AdminKeyId>().ok(),
        "organization_id": its.organization_id,
        "api_endpoint": endpoint,
        "last_rotated": its.last_rotated_time,
        "rotation_schedule": schedule,
        "automatic_rotation_period": period.as_secs(),
        "automatic_rotation_window": at_least(MIN_WINDOW, its.rotation_window).as_secs(),
        "disable_automated_rotation": its.disable_automated_rotation,
        "rotation_job": true,
    }))
}

/// A role of its as an entry of ours; what is not its, since it names a project of ours, stays as it is.
pub(in crate::engine) fn role(entry: Value) -> Result<Value, serde_json::Error> {
    if entry.get("project").is_some() {
        return Ok(entry);
    }
    let its: Role = serde_json::from_value(entry)?;
    let max_ttl = if its.max_ttl.is_zero() { MAX_TTL } else { its.max_ttl.min(LONGEST_EXPIRY) };
    let ttl = if its.ttl.is_zero() { TTL } else { its.ttl };
    Ok(json!({
        "project_id": its.project_id,
        "service_account_name_template": its.service_account_name_template,
        "service_account_description": its.service_account_description,
        "ttl": ttl.min(max_ttl).as_secs(),
        "max_ttl": max_ttl.as_secs(),
    }))
}

/// A schedule that cannot be kept here must not stand in the way of everything else.
fn readable(schedule: String) -> String {
    if schedule.trim().is_empty() {
        return String::new();
    }
    match Timetable::parse(&schedule) {
        Ok(_) => schedule,
        Err(error) => {
            tracing::warn!("the Go plugin's rotation_schedule is dropped: {error}");
            String::new()
        }
    }
}

/// Zero stands for none.
fn at_least(least: Duration, duration: Duration) -> Duration {
    if duration.is_zero() { duration } else { duration.max(least) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::configuration;
    use crate::engine::config::configuration::{CONFIG, ONLY};
    use crate::engine::creds::roles;
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

    async fn role_of(ttl: i64, max_ttl: i64) -> roles::Role {
        let entry = json!({
            "project_id": "proj_1", "service_account_name_template": "{{.RoleName}}",
            "service_account_description": "d", "ttl": ttl, "max_ttl": max_ttl
        });
        let storage = InMemory::new();
        let entry =
            logical::Entry { key: "roles/a".into(), value: entry.to_string().into(), seal_wrap: false };
        storage.put(entry).await.unwrap();
        roles::ROLES.get(&storage, "a").await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_rotation_that_cannot_be_kept_as_it_is_comes_close_or_goes() {
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
    async fn an_id_that_is_none_and_an_empty_endpoint_stand_for_nothing() {
        let config = config_of(json!({"admin_api_key_id": "not an id", "api_endpoint": ""})).await;
        assert_eq!(config.admin_api_key_id, None);
        assert_eq!(config.api_endpoint, Endpoint::DEFAULT);
        assert_eq!(config.last_rotated, "2025-06-01T10:00:00.5Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[tokio::test]
    async fn times_that_openai_or_we_do_not_take_become_some_that_they_do() {
        const HOUR: i64 = 3_600_000_000_000;
        for (its, ours) in [
            ((HOUR, 2 * HOUR), (3_600, 7_200)),
            ((0, 0), (3_600, 86_400)),
            ((0, HOUR / 2), (1_800, 1_800)),
            ((20_000 * HOUR, 20_000 * HOUR), (31_536_000, 31_536_000)),
            ((-1, HOUR), (3_600, 3_600)),
        ] {
            let role = role_of(its.0, its.1).await;
            assert_eq!((role.ttl.as_secs(), role.max_ttl.as_secs()), ours, "{its:?}");
        }
    }
}
