//! The creations of an owner whose outcome is unknown. The list is part of the owner's record.
//!
//! *Rule:* a name is stored in the record before OpenAI is called. Three steps remove a name: the write that stores the
//! new key, an undo that OpenAI confirmed, and a look-up in the organization, project and account of the entry.
//!
//! Each entry keeps the failures of its own look-ups. So a look-up that fails for long, as for an account on which somebody
//! has a key, delays no other one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::first_seen;
use super::retry::RetryState;
use crate::engine::failpoint::shortened;
use crate::engine::{Engine, Error};
use crate::openai::{LONGEST_EXPIRY, OrganizationId, ProjectId, ServiceAccountId};

/// Time after which a request is surely over: Vault ends a request after 90 s.
pub(in crate::engine) const LONGEST_REQUEST: Duration = Duration::from_secs(300);
/// Time for which a creation in an unconfigured organization is kept. After that, no key that expires can be live. Static
/// roles keep their creations longer, because their keys need not expire.
pub(in crate::engine) const FORGOTTEN_AFTER: Duration =
    Duration::from_secs(LONGEST_EXPIRY.as_secs() + 86_400);
/// Maximum number of unknown outcomes in an organization. Further creations there are refused until a look-up clears one.
const MOST: usize = 5;

/// A creation with an unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The unique name of the account, or of the key on an existing account.
    pub name: String,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The project; `None` for an admin key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// The account of the key; `None` for an account or an admin key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_id: Option<ServiceAccountId>,
    /// The time of the call to OpenAI.
    pub since: DateTime<Utc>,
    /// The failed look-ups.
    #[serde(default, skip_serializing_if = "RetryState::is_clear")]
    pub retry: RetryState,
}

impl Making {
    /// The time at which the name has settled. A creation in the future means that the clock was ahead then.
    pub fn settles_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.since.min(now) + first_seen::settles_after()
    }

    /// The time of the next look-up: the name has settled, and a failed look-up waits no longer.
    pub fn next_look(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let settles_at = self.settles_at(now);
        self.retry.waits_until(now).map_or(settles_at, |next_try| next_try.max(settles_at))
    }
}

/// The creations of an owner with an unknown outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MakingList(Vec<Making>);

impl MakingList {
    /// True if every outcome is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Making> {
        self.0.iter()
    }

    /// True if the list has this name.
    pub fn names(&self, name: &str) -> bool {
        self.0.iter().any(|making| making.name == name)
    }

    /// The time of the next look-up; `None` for an empty list.
    pub fn next_look(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.iter().map(|making| making.next_look(now)).min()
    }

    /// Allows failed look-ups to be repeated at once, where `is_tried` returns true.
    pub fn try_now(&mut self, is_tried: impl Fn(&RetryState) -> bool) {
        for making in self.0.iter_mut().filter(|making| is_tried(&making.retry)) {
            making.retry.next_try = None;
        }
    }

    /// The creations to look up now: their names have settled, and no failed look-up waits. In the mount's last tick
    /// (`is_last`), each name that this process asked OpenAI for has settled.
    pub fn sought(&self, engine: &Engine, is_last: bool) -> Vec<Making> {
        let (first_seen, now) = (&engine.accounts.first_seen, engine.now());
        let is_sought =
            |making: &&Making| first_seen.has_settled(&making.name, is_last) && !making.retry.waits(now);
        self.0.iter().filter(is_sought).cloned().collect()
    }

    /// Notes the result of a look-up: the outcome of the creation is known (`Ok(true)`), or a later look-up decides, or the
    /// look-up failed.
    pub fn note(&mut self, engine: &Engine, name: &str, looked_up: &Result<bool, Error>) {
        match looked_up {
            Ok(true) => {
                self.end(name);
                engine.accounts.first_seen.forget(name);
            }
            Ok(false) => {}
            Err(error) => self.note_failure(engine, name, error),
        }
    }

    /// Notes a failed look-up of this name.
    pub fn note_failure(&mut self, engine: &Engine, name: &str, error: &Error) {
        tracing::warn!(name, "a creation that was cut off is not undone yet: {error}");
        for making in self.0.iter_mut().filter(|making| making.name == name) {
            making.retry.failed_by(name, error, engine.now(), Duration::ZERO);
        }
    }

    /// Adds an entry, unless too many outcomes are unknown: of an account, or with `account` of a key on it.
    pub fn begin(
        &mut self,
        name: String,
        organization: &OrganizationId,
        project: Option<&ProjectId>,
        account: Option<&ServiceAccountId>,
        since: DateTime<Utc>,
    ) -> Result<Making, Error> {
        let unknown = self.0.iter().filter(|making| making.organization_id == *organization).count();
        if unknown >= MOST {
            return Err(Error::UnknownOutcomes(unknown));
        }
        let making = Making {
            name,
            organization_id: organization.clone(),
            project_id: project.cloned(),
            service_account_id: account.cloned(),
            since,
            retry: RetryState::default(),
        };
        self.0.push(making.clone());
        Ok(making)
    }

    /// Removes the name: its outcome is known.
    pub fn end(&mut self, name: &str) {
        self.0.retain(|making| making.name != name);
    }
}

/// [`LONGEST_REQUEST`], which tests shorten.
pub(in crate::engine) fn longest_request() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", LONGEST_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(list: &mut MakingList, name: &str) -> Result<Making, Error> {
        list.begin(name.to_owned(), &"org-1".parse().unwrap(), None, None, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_sixth_unknown_outcome_is_refused_until_one_is_known() {
        let mut list = MakingList::default();
        for name in ["a", "b", "c", "d", "e"] {
            begin(&mut list, name).unwrap();
        }
        let refused = begin(&mut list, "f").unwrap_err().to_string();
        assert!(refused.contains('5') && !list.names("f"), "{refused}");
        list.end("b");
        begin(&mut list, "f").unwrap();
        assert!(list.names("f") && !list.names("b") && list.iter().count() == 5);
    }

    #[test]
    fn the_list_is_stored_as_an_array() {
        let mut list = MakingList::default();
        assert!(list.is_empty());
        begin(&mut list, "a").unwrap();
        let stored = serde_json::to_value(&list).unwrap();
        assert_eq!(
            stored,
            serde_json::json!([{"name": "a", "organization_id": "org-1", "since": "1970-01-01T00:00:00Z"}])
        );
        assert_eq!(serde_json::from_value::<MakingList>(stored).unwrap(), list);
    }
}
