//! The record of a library set: its settings, its members, its creations with an unknown outcome, and the accounts that
//! leave it. `lending` stores the loans.
//!
//! *The rule:* the record names an account before any call to OpenAI changes the account. `making` has the creations
//! with an unknown outcome. `ending` has accounts that are not members: not yet, or no longer. The last step of a write
//! moves its accounts to `members`. `reconcile` deletes or releases the accounts in `ending`. A deleted set, or a set
//! without a complete first write, is a tombstone, which readers do not see. A new set of that name inherits the
//! tombstone's `making` and `ending`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::members::Member;
use crate::engine::accounts::due;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::metadata::Metadata;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::time::backoff;
use crate::engine::{Engine, Error};
use crate::framework::LockGuard;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::ProjectId;

/// A set of accounts that are lent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LibrarySet {
    /// The project's name in Vault; empty if the set gives the raw id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the set gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The accounts, in the order of their names in the write.
    pub members: Vec<Member>,
    /// Default duration of a check-out.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// Longest duration of a check-out with its renewals.
    #[serde(with = "crate::engine::time::seconds")]
    pub max_ttl: Duration,
    /// Description by the operator.
    #[serde(default)]
    pub description: String,
    /// Labels of the operator.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// True if any caller may check in an account.
    #[serde(default)]
    pub disable_check_in_enforcement: bool,
    /// True if a write creates an account for each name that the project does not have.
    #[serde(default = "first_release_create_missing")]
    pub create_missing: bool,
    /// Creations of accounts with an unknown outcome.
    #[serde(default, skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Accounts that are not members. They are deleted or released, unless a running write makes them members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// Failed attempts to delete or release accounts.
    #[serde(flatten)]
    pub retry: RetryState,
    /// True if readers see no set: the set was deleted, or its first write is incomplete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tombstone: bool,
}

/// An account that is not a member of its set: not yet, or no longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    /// The account.
    #[serde(flatten)]
    pub member: Member,
    /// The time at which the account was added to this list.
    pub since: DateTime<Utc>,
    /// Until this time, a running write of the set may make the account a member.
    pub not_before: DateTime<Utc>,
}

impl Ending {
    /// The time from which on no write makes the account a member. A time far ahead means that the clock was ahead then.
    pub(super) fn due(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if backoff::is_wait(self.not_before, now) { self.not_before } else { self.not_before.min(now) }
    }
}

/// The first release had no such field and always created accounts.
fn first_release_create_missing() -> bool {
    true
}

impl Record for LibrarySet {
    const VERSION: u32 = 1;
    fn is_visible(&self) -> bool {
        !self.is_tombstone
    }
}

pub(in crate::engine) static SETS: Collection<LibrarySet> = Collection::new("library-set/");

impl LibrarySet {
    /// The names of the accounts that Vault created for the set.
    pub(super) fn made_accounts(&self) -> Vec<&str> {
        let made = self.members.iter().filter(|member| member.is_made());
        made.map(|member| member.name.as_str()).collect()
    }

    /// The project's name or id in the set's settings.
    pub(super) fn named_project(&self) -> NamedProject {
        NamedProject { project: self.project.clone(), project_id: self.project_id.clone() }
    }

    /// Refuses another project while accounts of the set are in the old one.
    pub(super) fn check_move(&self, old: Option<&Self>, project_id: &ProjectId) -> Result<(), Error> {
        let moved = |old: &Self| (&old.project, &old.project_id) != (&self.project, &self.project_id);
        let away = |old: &Self| old.members.iter().any(|member| member.project_id != *project_id);
        if old.is_some_and(|old| moved(old) && away(old)) {
            return Err(Error::field(
                "project and project_id must stay the set's own, as its accounts are in that project: write another set",
            ));
        }
        Ok(())
    }

    /// All accounts in the record: members and others.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(self.ending.iter().map(|ending| &ending.member))
    }

    /// Adds these accounts to `ending`, except members: a failed write must not end a member that it names by another name.
    /// Until `not_before`, a write may still make the accounts members.
    pub(super) fn add_to_ending(
        &mut self,
        accounts: &[Member],
        now: DateTime<Utc>,
        not_before: DateTime<Utc>,
    ) {
        let members: HashSet<_> = self.members.iter().map(|member| &member.id).collect();
        let new: HashSet<_> =
            accounts.iter().map(|member| &member.id).filter(|id| !members.contains(id)).collect();
        self.ending.retain(|old| !new.contains(&old.member.id));
        let ending = |member: &Member| Ending { member: member.clone(), since: now, not_before };
        self.ending.extend(accounts.iter().filter(|member| new.contains(&member.id)).map(ending));
    }

    /// Makes these accounts the set's members.
    pub(super) fn set_members(&mut self, members: Vec<Member>) {
        let named: HashSet<_> = members.iter().map(|member| &member.id).collect();
        self.ending.retain(|old| !named.contains(&old.member.id));
        self.members = members;
    }

    /// All accounts at OpenAI that the record names.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let accounts = self.accounts().map(|member| Holding {
            service_account_id: Some(member.id.clone()),
            name: member.made_as.clone(),
            is_claimed: true,
            is_made_account: member.is_made(),
            ..Holding::in_project(&member.organization_id, Some(&member.project_id))
        });
        accounts.chain(self.making.iter().map(Holding::making)).collect()
    }

    /// True if the record can be deleted.
    pub(super) fn is_over(&self) -> bool {
        self.is_tombstone && self.making.is_empty() && self.ending.is_empty()
    }

    /// The time of the next work of the tick; `None` if there is no work.
    pub(super) fn next_look(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ending = self.ending.iter().map(|ending| ending.due(now)).min();
        let ending = ending.map(|due| self.retry.waits_until(now).map_or(due, |next_try| next_try.max(due)));
        self.making.next_look(now).into_iter().chain(ending).min()
    }

    /// An empty tombstone, from which a first write starts.
    pub(super) fn tombstone() -> Self {
        Self { create_missing: true, is_tombstone: true, ..Self::default() }
    }
}

/// The key of the lock for changes of the set's record.
pub(super) fn lock(set: &str) -> String {
    format!("library-set/{set}")
}

/// Locks the set's record. Unlike the lock of loans, this lock is held during calls to OpenAI.
pub(super) async fn lock_set(engine: &Engine, set: &str) -> LockGuard {
    engine.locks.lock(&lock(set)).await
}

/// A new unique name for an account or key of the set.
pub(super) fn new_name_for_set(engine: &Engine, set: &str) -> String {
    ServiceAccountName::beginning(&format!("vault-{set}"), &engine.tag, &mut rand::rng()).into()
}

/// The set of this name, or an error.
pub(super) async fn find(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Arc<LibrarySet>, Error> {
    let set = engine.library_sets.get(storage, name).await?;
    set.ok_or_else(|| Error::NotFound { kind: "library set", name: name.to_owned() })
}

/// The stored record, also of a tombstone. A change under the lock starts from it, not from the cache: a write that was
/// reported as failed may have succeeded.
pub(super) async fn stored(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Option<LibrarySet>, StorageError> {
    Ok(engine.library_sets.latest(storage, name).await?.map(Arc::unwrap_or_clone))
}

/// Stores the record, after the marker that the record needs.
pub(super) async fn put(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    set: &LibrarySet,
) -> Result<(), StorageError> {
    // By both clocks: under a clock that is ahead, the marker would lie far in the future.
    if let Some(next_look) = set.next_look(engine.certain_time()) {
        due::mark(storage, &Owner::LibrarySet(name.to_owned()), next_look).await?;
    }
    engine.library_sets.put(storage, name, set).await
}

/// The library sets with this project.
pub(in crate::engine) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let named = engine.library_sets.all(storage).await?.into_iter().filter(|(_, set)| set.project == project);
    Ok(named.map(|(name, _)| format!("library set {name}")).collect())
}
