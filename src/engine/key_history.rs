//! What the configuration remembers of the admin keys before the present one, and of how rotation went. Pure: it calls
//! nobody.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::accounts::retry::RetryState;
use crate::openai::{AdminKey, AdminKeyId, OrganizationId};

/// So many replaced keys are known again. Older ones are long dead, and OpenAI refuses them itself.
const MOST_RETIRED: usize = 100;

/// The part of the configuration that rotation keeps. Everything in it may be missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyHistory {
    /// The name that rotation gave the present key at OpenAI; none if an operator wrote the key.
    #[serde(rename = "admin_api_key_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Replaced keys that are still to be deleted at OpenAI.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<Retiring>,
    /// SHA-256 of replaced keys, newest last, so that nobody puts one back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// How often in a row rotation failed.
    #[serde(rename = "rotation_failures")]
    pub failures: u32,
    /// Why it failed last.
    #[serde(rename = "last_rotation_error", skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it failed last.
    #[serde(rename = "last_rotation_failure", skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<DateTime<Utc>>,
}

/// A replaced key that is still to be deleted at OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
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

impl KeyHistory {
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
        if let Some(id) = id {
            let organization_id = organization_id.clone();
            self.retiring.push(Retiring {
                id,
                organization_id,
                made: Some(made),
                retry: RetryState::default(),
            });
        }
        self.succeeded();
    }

    /// Rotation failed.
    pub fn failed(&mut self, error: String, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error);
        self.last_failure = Some(now);
    }

    /// Whatever failed before, it is over.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.last_error = None;
        self.last_failure = None;
    }

    /// The ids of the replaced keys that still stand.
    pub fn retiring_ids(&self) -> Vec<String> {
        self.retiring.iter().map(|old| old.id.to_string()).collect()
    }
}

/// A key's 120 random characters cannot be guessed from it.
fn hash(key: &AdminKey) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, key.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AdminKey {
        AdminKey::parse(text).unwrap()
    }

    #[test]
    fn a_retired_key_is_known_again_and_not_readable() {
        let mut history = KeyHistory::default();
        history.failed("why".to_owned(), DateTime::UNIX_EPOCH);
        history.retire(
            &key("sk-admin-old"),
            Some("key_1".parse().unwrap()),
            &"org-1".parse().unwrap(),
            DateTime::UNIX_EPOCH,
        );
        assert!(history.is_retired(&key("sk-admin-old")) && !history.is_retired(&key("sk-admin-new")));
        assert_eq!((history.failures, history.retiring_ids()), (0, vec!["key_1".to_owned()]));
        assert!(!serde_json::to_string(&history).unwrap().contains("sk-"));
    }

    #[test]
    fn what_is_remembered_of_dead_keys_is_bounded() {
        let mut history = KeyHistory::default();
        for number in 0..=MOST_RETIRED {
            history.retire(
                &key(&format!("sk-admin-{number}")),
                None,
                &"org-1".parse().unwrap(),
                DateTime::UNIX_EPOCH,
            );
        }
        assert_eq!((history.retired.len(), history.retiring.len()), (MOST_RETIRED, 0));
        assert!(!history.is_retired(&key("sk-admin-0")) && history.is_retired(&key("sk-admin-1")));
    }
}
