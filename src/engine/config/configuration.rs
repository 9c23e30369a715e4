//! The stored configuration. `path_config` writes it, and `admin_rotation` replaces its key.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::config::admin_keys::AdminKeys;
use crate::engine::config::{checks, predecessor};
use crate::engine::time::schedule::Schedule;
use crate::engine::time::schedule_fields::ScheduleFields;
use crate::engine::time::{rfc3339, seconds};
use crate::engine::{Engine, Error};
use crate::logical::{Collection, Record, Storage, SystemError};
use crate::openai::{AdminKey, AdminKeyId, ClientCertificate, ClientKey, Endpoint, OrganizationId};

/// The stored configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The admin key.
    pub admin_api_key: AdminKey,
    /// OpenAI's id of the admin key, if known. Rotation deletes the old key by its id.
    #[serde(default)]
    pub admin_api_key_id: Option<AdminKeyId>,
    /// The organization of the admin key.
    pub organization_id: OrganizationId,
    /// URL of the API.
    #[serde(default = "default_endpoint")]
    pub api_endpoint: String,
    /// PEM certificates trusted besides the public roots; empty for none.
    #[serde(default)]
    pub ca_cert: String,
    /// PEM of the certificate that is shown to a server that demands one; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_cert: String,
    /// PEM of its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ClientKey>,
    /// True if a write tries key and organization.
    #[serde(default = "yes")]
    pub verify_connection: bool,
    /// Period of the automatic rotation; zero for none.
    #[serde(default, with = "crate::engine::time::seconds")]
    pub automatic_rotation_period: Duration,
    /// Time after the scheduled time within which a rotation may start; zero for no limit.
    #[serde(default, with = "crate::engine::time::seconds")]
    pub automatic_rotation_window: Duration,
    /// Cron expression of the automatic rotation; empty for none.
    #[serde(default)]
    pub rotation_schedule: String,
    /// True if the automatic rotation is disabled, also with a period or cron expression.
    #[serde(default)]
    pub disable_automated_rotation: bool,
    /// Lifetime at OpenAI of an admin key that a rotation creates; zero for that of the key before it.
    #[serde(default, with = "crate::engine::time::seconds")]
    pub admin_key_ttl: Duration,
    /// Time at which the admin key expires at OpenAI, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_key_expires_at: Option<DateTime<Utc>>,
    /// Time between the end of a lease and the expiry of its key at OpenAI.
    #[serde(default = "default_margin", with = "crate::engine::time::seconds")]
    pub key_expiry_margin: Duration,
    /// The revocation mode.
    #[serde(default)]
    pub revocation_mode: RevocationMode,
    /// OpenAI's rate limit; zero to learn it.
    #[serde(default)]
    pub max_requests_per_minute: u32,
    /// True if the projects' costs are read.
    #[serde(default)]
    pub quota_tracking: bool,
    /// Time at which the admin key was last set or rotated.
    pub last_rotated: DateTime<Utc>,
    /// Grows with every change, so that an older copy is recognized. It follows the clock, so that it also grows after the
    /// configuration was deleted and written anew.
    #[serde(default)]
    pub revision: u64,
    /// True if Vault Enterprise's rotation manager may have a job of the Go plugin, which would also rotate the admin key.
    /// Set from the Go plugin's entry until the job is removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotation_job: bool,
    /// The other admin keys, and the retry state of the rotation.
    #[serde(flatten)]
    pub keys: AdminKeys,
}

/// The time at which a revocation returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationMode {
    /// After OpenAI has deleted the key.
    #[default]
    Strict,
    /// At once. The tick deletes the key.
    Queue,
}

impl Record for Config {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
    fn import_legacy(entry: serde_json::Value) -> Result<serde_json::Value, serde_json::Error> {
        predecessor::config(entry)
    }
}

pub(in crate::engine) static CONFIG: Collection<Config> = Collection::new("config");
/// The name of the only record.
pub(in crate::engine) const ONLY: &str = "";
/// The lock for changes of the configuration.
pub(in crate::engine) const LOCK: &str = "config";

/// Largest margin with which a key expires before Vault gives up its lease, even with wrong clocks and slow attempts. See
/// `credential_end`.
pub(in crate::engine) const LONGEST_SAFE_MARGIN: Duration = Duration::from_secs(150);

fn default_endpoint() -> String {
    Endpoint::DEFAULT.to_owned()
}

fn default_margin() -> Duration {
    Duration::from_secs(60)
}

fn yes() -> bool {
    true
}

impl Config {
    /// True if the clients of both configurations differ at most in the key.
    pub(in crate::engine) fn connects_like(&self, other: &Self) -> bool {
        self.organization_id == other.organization_id
            && self.api_endpoint == other.api_endpoint
            && self.ca_cert == other.ca_cert
            && self.client_cert == other.client_cert
            && self.client_key == other.client_key
            && self.max_requests_per_minute == other.max_requests_per_minute
    }

    /// The certificate that a client of this configuration shows, if any.
    pub(in crate::engine) fn client_certificate(&self) -> Option<ClientCertificate> {
        let key = self.client_key.clone()?;
        Some(ClientCertificate { certificate: self.client_cert.clone(), key })
    }

    /// True if both reach OpenAI in the same way, so that no new trial is needed.
    pub(in crate::engine) fn reaches_like(&self, other: &Self) -> bool {
        self.admin_api_key == other.admin_api_key
            && self.admin_api_key_id == other.admin_api_key_id
            && self.connects_like(&Self {
                max_requests_per_minute: self.max_requests_per_minute,
                ..other.clone()
            })
    }

    /// The parsed `api_endpoint`.
    pub(in crate::engine) fn endpoint(&self) -> Result<Endpoint, Error> {
        checks::parsed(&self.api_endpoint, "api_endpoint")
    }

    /// The schedule of the automatic rotation; `None` for none.
    pub(in crate::engine) fn schedule(&self) -> Result<Option<Schedule>, Error> {
        self.schedule_fields().schedule().map_err(|error| Error::field(error.to_string()))
    }

    /// The fields of the schedule.
    pub(in crate::engine) fn schedule_fields(&self) -> ScheduleFields {
        let by_schedule = !self.rotation_schedule.trim().is_empty();
        ScheduleFields {
            rotation_period: Some(self.automatic_rotation_period),
            rotation_schedule: Some(self.rotation_schedule.clone()),
            // `admin_schedule` also applies the window to a period, which Vault's fields do not allow.
            rotation_window: Some(self.automatic_rotation_window).filter(|_| by_schedule),
        }
    }

    /// Replaces the key by an operator's key. The same key changes nothing. A key that a rotation made is deleted, because
    /// nobody else has it.
    pub(in crate::engine) fn take_key(&mut self, key: AdminKey, now: DateTime<Utc>) -> Result<(), Error> {
        if key == self.admin_api_key {
            return Ok(());
        }
        self.refuse_retired("admin_api_key", &key)?;
        let (old, id) = (std::mem::replace(&mut self.admin_api_key, key), self.admin_api_key_id.take());
        if self.keys.name.take().is_some() {
            self.keys.retire(&old, id, &self.organization_id, self.last_rotated, now);
        }
        self.admin_key_expires_at = None;
        self.last_rotated = now;
        self.keys.retry.succeeded();
        Ok(())
    }

    /// Refuses a replaced key. Terraform, for one, repeats a whole configuration and would restore the old key.
    pub(in crate::engine) fn refuse_retired(&self, field: &str, key: &AdminKey) -> Result<(), Error> {
        if !self.keys.is_retired(key) {
            return Ok(());
        }
        Err(Error::field(format!(
            "{field}: rotation has retired this key (the current one is from {}); omit the field or give a new key",
            rfc3339::text(self.last_rotated)
        )))
    }

    /// A warning that Vault may give up strict revocations before the keys expire.
    pub(in crate::engine) fn warn_of_margin(&self) -> Option<String> {
        let is_long = self.key_expiry_margin > LONGEST_SAFE_MARGIN;
        (is_long && self.revocation_mode == RevocationMode::Strict).then(|| {
            format!(
                "key_expiry_margin is above {}: if OpenAI cannot be reached for longer than that, leases that end \
                 meanwhile may become irrevocable at Vault before their keys expire; with revocation_mode=queue they \
                 do not",
                seconds::text(LONGEST_SAFE_MARGIN)
            )
        })
    }

    /// A warning that the Go plugin's rotation job could not be removed.
    pub(in crate::engine) fn warn_of_rotation_job(&self) -> Option<String> {
        self.rotation_job.then(|| {
            "the rotation job that the Go plugin registered at Vault could not be removed; the next write of config \
             tries again, and until then Vault also requests rotations"
                .to_owned()
        })
    }

    /// A warning about a replaced key of another organization, which the current key cannot delete.
    pub(in crate::engine) fn warn_of_retiring(&self) -> Option<String> {
        let mut others = self.keys.ending.iter().filter(|old| old.organization_id != self.organization_id);
        let other = others.next()?;
        Some(format!(
            "admin key {} of organization {} was replaced and still exists; the admin key of organization {} cannot \
             delete it",
            other.id, other.organization_id, self.organization_id
        ))
    }
}

/// The configuration from storage. Every change of the admin key starts from this, because a write that was reported as
/// failed may have succeeded after the cache was filled.
pub(in crate::engine) async fn stored_config(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Option<Arc<Config>>, Error> {
    Ok(engine.config.stored.latest(storage, ONLY).await?)
}

/// Removes the Go plugin's rotation job from Vault, if there may be one.
pub(in crate::engine) async fn end_rotation_job(
    engine: &Engine,
    config: &mut Config,
) -> Result<(), SystemError> {
    if config.rotation_job {
        engine.system.deregister_rotation_job(&engine.mount_point(), CONFIG.prefix()).await?;
        config.rotation_job = false;
    }
    Ok(())
}

/// Stores a changed configuration. The caller holds [`LOCK`].
pub(in crate::engine) async fn store_config(
    engine: &Engine,
    storage: &dyn Storage,
    config: &mut Config,
) -> Result<(), Error> {
    if let Err(error) = end_rotation_job(engine, config).await {
        tracing::warn!(%error, "the Go plugin's rotation job could not be removed from Vault");
    }
    let before = engine.config.stored.get_readable(storage, ONLY).await?;
    if before.is_none_or(|before| before.organization_id != config.organization_id) {
        engine.reach_changed.store(true, Ordering::Relaxed);
    }
    let clock = u64::try_from(engine.now().timestamp_millis()).unwrap_or_default();
    config.revision = clock.max(config.revision.saturating_add(1));
    Ok(engine.config.stored.put(storage, ONLY, config).await?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::config::admin_schedule;
    use crate::logical::{Entry, InMemory};

    /// A record of a release without admin key rotation.
    const OLD: &str = r#"{"version":1,"admin_api_key":"sk-admin-x","admin_api_key_id":"key_1",
        "organization_id":"org-1","api_endpoint":"https://api.openai.com/v1","ca_cert":"","verify_connection":true,
        "automatic_rotation_period":86400,"automatic_rotation_window":0,"rotation_schedule":"",
        "disable_automated_rotation":false,"key_expiry_margin":60,"revocation_mode":"queue",
        "max_requests_per_minute":120,"quota_tracking":false,"last_rotated":"2025-06-01T12:00:00.123456789Z"}"#;

    async fn stored(value: &str) -> Config {
        let storage = InMemory::new();
        let entry = Entry { key: "config".into(), value: value.as_bytes().to_vec(), seal_wrap: true };
        storage.put(entry).await.unwrap();
        CONFIG.get(&storage, ONLY).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_configuration_of_an_older_release_is_read() {
        let config = stored(OLD).await;
        assert_eq!(config.admin_api_key_id.as_ref().unwrap().as_str(), "key_1");
        assert_eq!(config.revocation_mode, RevocationMode::Queue);
        assert_eq!((config.revision, config.keys.retry.failures), (0, 0));
        assert!(config.keys.ending.is_empty() && config.keys.name.is_none());
        let next = admin_schedule::next(&config, config.last_rotated).unwrap().unwrap();
        assert_eq!(rfc3339::text(next), "2025-06-02T12:00:00Z");
    }

    #[tokio::test]
    async fn the_shortest_configuration_is_read_with_its_defaults() {
        let short = r#"{"admin_api_key":"sk-admin-x","organization_id":"org-1","last_rotated":"2025-06-01T12:00:00Z"}"#;
        let config = stored(short).await;
        assert!(config.verify_connection && config.api_endpoint == Endpoint::DEFAULT);
        assert_eq!(config.key_expiry_margin, default_margin());
    }

    #[tokio::test]
    async fn the_rotations_fields_are_stored_and_read_back() {
        let (storage, mut config) = (InMemory::new(), stored(OLD).await);
        let old = config.admin_api_key.clone();
        config.keys.retire(
            &old,
            config.admin_api_key_id.clone(),
            &config.organization_id,
            config.last_rotated,
            config.last_rotated,
        );
        config.keys.retry.failed("admin-key", &"why", config.last_rotated, Duration::ZERO);
        config.keys.name = Some("vault-admin-x".to_owned());
        CONFIG.put(&storage, ONLY, &config).await.unwrap();
        let read = CONFIG.get(&storage, ONLY).await.unwrap().unwrap();
        assert_eq!(json!(read), json!(config));
        assert!(read.refuse_retired("admin_api_key", &old).unwrap_err().to_string().contains("retired"));
    }
}
