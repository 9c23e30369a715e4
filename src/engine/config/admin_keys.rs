//! The admin keys besides the current one, as the configuration's record holds them: what OpenAI was asked to make, what
//! has to be deleted, what must not come back, and how rotation fares. Pure: it calls nobody.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::retry::RetryState;
use crate::engine::time::backoff;
use crate::openai::{AdminKey, AdminKeyId, OrganizationId};

/// So many replaced keys are known again. Older ones are long dead, and OpenAI refuses them itself.
const MOST_RETIRED: usize = 100;
/// The name by which the waits after failed rotations are spread.
pub const NAME: &str = "admin-key";

/// The part of the configuration that rotation keeps. Everything in it may be missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct AdminKeys {
    /// The name that rotation gave the current key at OpenAI; none if an operator wrote the key.
    #[serde(rename = "admin_api_key_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Keys that OpenAI was asked to make, with an unknown outcome.
    #[serde(skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Replaced keys that are still to be deleted at OpenAI.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// SHA-256 of replaced keys, newest last, so that nobody puts one back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// Rotations that failed in a row.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// A replaced key that is still to be deleted at OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// OpenAI's id of it.
    pub id: AdminKeyId,
    /// Where it lives: another organization's 404 proves nothing.
    pub organization_id: OrganizationId,
    /// When it was made, or came into use; releases before did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
    /// How its deletion fares.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// The stored form, of this release or of one before.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
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
    /// Releases before kept the time of the last failure instead of the next try's.
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
    /// Whether rotation replaced this key once.
    pub fn is_retired(&self, key: &AdminKey) -> bool {
        let hash = hash(key);
        self.retired.contains(&hash)
    }

    /// Rotation replaces `key`: it is never taken again, and deleted if its id is known.
    pub fn retire(
        &mut self,
        key: &AdminKey,
        id: Option<AdminKeyId>,
        organization_id: &OrganizationId,
        made: DateTime<Utc>,
    ) {
        self.retired.push(hash(key));
        let surplus = self.retired.len().saturating_sub(MOST_RETIRED);
        self.retired.drain(..surplus);
        self.ending.extend(id.map(|id| Ending {
            id,
            organization_id: organization_id.clone(),
            made: Some(made),
            retry: RetryState::default(),
        }));
        self.retry.succeeded();
    }

    /// The ids of the replaced keys that still stand.
    pub fn ending_ids(&self) -> Vec<String> {
        self.ending.iter().map(|old| old.id.to_string()).collect()
    }
}

/// A key's 120 random characters cannot be guessed from it.
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
    fn a_retired_key_is_known_again_and_not_readable() {
        let mut keys = AdminKeys::default();
        keys.retry.failed(NAME, &"why", NOW, Duration::ZERO);
        keys.retire(&key("sk-admin-old"), Some("key_1".parse().unwrap()), &"org-1".parse().unwrap(), NOW);
        assert!(keys.is_retired(&key("sk-admin-old")) && !keys.is_retired(&key("sk-admin-new")));
        assert_eq!((keys.retry.failures, keys.ending_ids()), (0, vec!["key_1".to_owned()]));
        assert!(!serde_json::to_string(&keys).unwrap().contains("sk-"));
    }

    #[test]
    fn what_is_remembered_of_dead_keys_is_bounded() {
        let mut keys = AdminKeys::default();
        for number in 0..=MOST_RETIRED {
            keys.retire(&key(&format!("sk-admin-{number}")), None, &"org-1".parse().unwrap(), NOW);
        }
        assert_eq!((keys.retired.len(), keys.ending.len()), (MOST_RETIRED, 0));
        assert!(!keys.is_retired(&key("sk-admin-0")) && keys.is_retired(&key("sk-admin-1")));
    }

    #[test]
    fn what_the_release_before_stored_is_read() {
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
