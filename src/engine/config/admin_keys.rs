//! The admin keys in the configuration's record besides the current one: creations with an unknown outcome, replaced keys to
//! delete, hashes of replaced keys, and the retry state of the rotation. Pure data.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::retry::RetryState;
use crate::engine::time::backoff;
use crate::openai::{AdminKey, AdminKeyId, OrganizationId};

/// Maximum number of hashes of replaced keys. OpenAI itself refuses the older keys, because they are deleted.
const MAX_RETIRED: usize = 100;
/// The name that sets the jitter of retries after failed rotations.
pub const NAME: &str = "admin-key";

/// The rotation's part of the configuration. All of its fields are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct AdminKeys {
    /// The name of the current key at OpenAI if rotation made the key; `None` if an operator wrote it.
    #[serde(rename = "admin_api_key_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Creations of keys at OpenAI with an unknown outcome.
    #[serde(skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Replaced keys that wait for their deletion at OpenAI.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// SHA-256 hashes of replaced keys, newest last. A write of a replaced key is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// The retry state of the rotation.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// A replaced key that waits for its deletion at OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// OpenAI's id of the key.
    pub id: AdminKeyId,
    /// The organization of the key. A 404 from another organization proves nothing.
    pub organization_id: OrganizationId,
    /// Time of the creation or of the first use; `None` in records of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
    /// Time of the replacement; `None` in records of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<DateTime<Utc>>,
    /// The retry state of the deletion.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// The stored form of this release or an earlier one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    admin_api_key_name: Option<String>,
    making: MakingList,
    #[serde(alias = "retiring")]
    ending: Vec<Ending>,
    retired: Vec<String>,
    #[serde(alias = "rotation_failures")]
    failures: u32,
    #[serde(alias = "last_rotation_error")]
    last_error: Option<String>,
    retry_at: Option<DateTime<Utc>>,
    /// Earlier releases stored the time of the last failure instead of the next try.
    last_rotation_failure: Option<DateTime<Utc>>,
}

impl From<Stored> for AdminKeys {
    fn from(stored: Stored) -> Self {
        let next_try = |last| backoff::retry_at(NAME, stored.failures, last, Duration::ZERO);
        let before = stored.last_rotation_failure.map(next_try);
        Self {
            name: stored.admin_api_key_name,
            making: stored.making,
            ending: stored.ending,
            retired: stored.retired,
            retry: RetryState {
                failures: stored.failures,
                last_error: stored.last_error,
                next_try: stored.retry_at.or(before),
            },
        }
    }
}

impl AdminKeys {
    /// True if rotation replaced this key.
    pub fn is_retired(&self, key: &AdminKey) -> bool {
        self.retired.contains(&hash(key))
    }

    /// Records that `key` is replaced. Writes of the key are then refused. With a known id, the key is deleted.
    pub fn retire(
        &mut self,
        key: &AdminKey,
        id: Option<AdminKeyId>,
        organization_id: &OrganizationId,
        made: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        self.retired.push(hash(key));
        let surplus = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..surplus);
        self.ending.extend(id.map(|id| Ending {
            id,
            organization_id: organization_id.clone(),
            made: Some(made),
            replaced: Some(now),
            retry: RetryState::default(),
        }));
        self.retry.succeeded();
    }

    /// The ids of the replaced keys that wait for their deletion.
    pub fn ending_ids(&self) -> Vec<String> {
        self.ending.iter().map(|old| old.id.to_string()).collect()
    }
}

/// The hash does not reveal the key, which has 120 random characters.
fn hash(key: &AdminKey) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, key.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn key(text: &str) -> AdminKey {
        AdminKey::parse(text).unwrap()
    }

    #[test]
    fn a_retired_key_is_recognized_and_not_readable() {
        let mut keys = AdminKeys::default();
        keys.retry.failed(NAME, &"why", NOW, Duration::ZERO);
        keys.retire(
            &key("sk-admin-old"),
            Some("key_1".parse().unwrap()),
            &"org-1".parse().unwrap(),
            NOW,
            NOW,
        );
        assert!(keys.is_retired(&key("sk-admin-old")) && !keys.is_retired(&key("sk-admin-new")));
        assert_eq!((keys.retry.failures, keys.ending_ids()), (0, vec!["key_1".to_owned()]));
        assert!(!serde_json::to_string(&keys).unwrap().contains("sk-"));
    }

    #[test]
    fn the_hashes_of_replaced_keys_are_bounded() {
        let mut keys = AdminKeys::default();
        for number in 0..=MAX_RETIRED {
            keys.retire(&key(&format!("sk-admin-{number}")), None, &"org-1".parse().unwrap(), NOW, NOW);
        }
        assert_eq!((keys.retired.len(), keys.ending.len()), (MAX_RETIRED, 0));
        assert!(!keys.is_retired(&key("sk-admin-0")) && keys.is_retired(&key("sk-admin-1")));
    }

    #[test]
    fn the_record_of_the_previous_release_is_read() {
        let stored = json!({
            "admin_api_key_name": "vault-admin-x", "retired": ["hash"], "rotation_failures": 2,
            "retiring": [{"id": "key_1", "organization_id": "org-1", "failures": 1, "last_error": "no"}],
            "last_rotation_error": "why", "last_rotation_failure": NOW,
        });
        let keys: AdminKeys = serde_json::from_value(stored).unwrap();
        assert_eq!((keys.ending_ids(), keys.ending[0].retry.failures), (vec!["key_1".to_owned()], 1));
        assert_eq!((keys.retry.failures, keys.retry.last_error.as_deref()), (2, Some("why")));
        assert!(keys.retry.waits(NOW) && !keys.retry.waits(NOW + chrono::TimeDelta::minutes(1)));
        let again: AdminKeys = serde_json::from_value(json!(keys)).unwrap();
        assert_eq!(json!(again), json!(keys));
    }
}
