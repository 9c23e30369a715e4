//! What OpenAI was asked to make, and whose outcome is not known. The list is part of its owner's record.
//!
//! *Rule:* a name stands in the stored record before OpenAI is asked. A name leaves the record by the write that brings
//! the key in, by an undoing that OpenAI confirmed, or by a look-up in the organization, project and account that stand
//! beside the name.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::failpoint::shortened;
use crate::openai::{LONGEST_EXPIRY, OrganizationId, ProjectId, ServiceAccountId};

/// A write-ahead entry younger than this may belong to a request still running: Vault ends those after 90 s.
pub(in crate::engine) const SWEEP_AGE: Duration = Duration::from_secs(300);
/// A creation in an organization that is no longer configured is remembered for so long: then what it may have made has
/// no key that lives.
pub(in crate::engine) const FORGOTTEN_AFTER: Duration =
    Duration::from_secs(LONGEST_EXPIRY.as_secs() + 86_400);
/// More unknown outcomes are not taken on: OpenAI has to be looked at first.
const MOST: usize = 5;

/// One thing that OpenAI was asked to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The unique name: of the account, or of the key where the account stays.
    pub name: String,
    /// The organization that was asked.
    pub organization_id: OrganizationId,
    /// The project; none for an admin key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// The account that a key is made on; none where an account or an admin key is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_id: Option<ServiceAccountId>,
    /// When OpenAI was asked.
    pub since: DateTime<Utc>,
}

/// All that an owner waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MakingList(Vec<Making>);

impl MakingList {
    /// Tells if every outcome is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Making> {
        self.0.iter()
    }

    /// Tells if this name is in the list.
    pub fn names(&self, name: &str) -> bool {
        self.0.iter().any(|making| making.name == name)
    }

    /// Adds an entry, unless too many outcomes are unknown.
    pub fn begin(&mut self, making: Making) -> Result<(), Error> {
        if self.0.len() >= MOST {
            return Err(Error::UnknownOutcomes(self.0.len()));
        }
        self.0.push(making);
        Ok(())
    }

    /// Drops the entries before this time: what was made then has no key that lives.
    pub fn forget_before(&mut self, time: DateTime<Utc>) {
        self.0.retain(|making| making.since >= time);
    }

    /// The outcome of this name is known.
    pub fn end(&mut self, name: &str) {
        self.0.retain(|making| making.name != name);
    }
}

/// From this age on, no request can be at work on what it began.
pub(in crate::engine) fn sweep_age() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", SWEEP_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(name: &str) -> Making {
        Making {
            name: name.to_owned(),
            organization_id: "org-1".parse().unwrap(),
            project_id: None,
            service_account_id: None,
            since: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_sixth_unknown_outcome_is_refused_until_one_is_known() {
        let mut list = MakingList::default();
        for name in ["a", "b", "c", "d", "e"] {
            list.begin(making(name)).unwrap();
        }
        let refused = list.begin(making("f")).unwrap_err().to_string();
        assert!(refused.contains('5') && !list.names("f"), "{refused}");
        list.end("b");
        list.begin(making("f")).unwrap();
        assert!(list.names("f") && !list.names("b") && list.iter().count() == 5);
    }

    #[test]
    fn the_list_is_stored_as_an_array() {
        let mut list = MakingList::default();
        assert!(list.is_empty());
        list.begin(making("a")).unwrap();
        let stored = serde_json::to_value(&list).unwrap();
        assert_eq!(
            stored,
            serde_json::json!([{"name": "a", "organization_id": "org-1", "since": "1970-01-01T00:00:00Z"}])
        );
        assert_eq!(serde_json::from_value::<MakingList>(stored).unwrap(), list);
    }
}
