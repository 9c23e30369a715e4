//! The record of a library set: its settings, its accounts, what OpenAI was asked to make for it, and what has to go.
//! Loans are `lending`'s.
//!
//! *The rule:* an account stands in the record before anything is done to it at OpenAI. `making` names an account that
//! OpenAI was asked for; `ending` names one that is no member: not yet, or no more. The write that brings an account in
//! moves it to `members`; all else is let go by `reconcile`. A set that was deleted, or whose first write has not come
//! through, is a tombstone, which readers do not see. A new set of that name inherits what the tombstone holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::members::Member;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::retry::RetryState;
use crate::engine::accounts::{due, first_seen};
use crate::engine::config::metadata::Metadata;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::{Engine, Error};
use crate::framework::LockGuard;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::ProjectId;

/// A set of accounts that are lent out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LibrarySet {
    /// The project's name in Vault; empty if the set gives the raw id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the set gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The accounts, in the order of their names in the write.
    pub members: Vec<Member>,
    /// How long a check-out lasts if the borrower does not say.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// How long it may last in all.
    #[serde(with = "crate::engine::time::seconds")]
    pub max_ttl: Duration,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Labels of the operator.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Whether anybody may check in what another checked out.
    #[serde(default)]
    pub disable_check_in_enforcement: bool,
    /// Whether an account is made for a name that the project has none of.
    #[serde(default = "yes")]
    pub create_missing: bool,
    /// Accounts that OpenAI was asked to make, with an unknown outcome.
    #[serde(default, skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Accounts that are no members and have to go, unless a write that is under way takes them in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// Failures in a row to let accounts go.
    #[serde(flatten)]
    pub retry: RetryState,
    /// Readers see no set: it was deleted, or its first write has not come through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tombstone: bool,
}

/// An account that is no member of its set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    /// The account.
    #[serde(flatten)]
    pub member: Member,
    /// When it came here.
    pub since: DateTime<Utc>,
    /// Until then a write of the set may be under way that takes it in.
    pub not_before: DateTime<Utc>,
}

/// What the first release did.
fn yes() -> bool {
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
    /// The names of the accounts that Vault made for the set.
    pub(super) fn made_accounts(&self) -> Vec<&str> {
        let made = self.members.iter().filter(|member| member.is_made());
        made.map(|member| member.name.as_str()).collect()
    }

    /// How it names its project.
    pub(super) fn named_project(&self) -> NamedProject {
        NamedProject { project: self.project.clone(), project_id: self.project_id.clone() }
    }

    /// A set stays where its accounts are.
    pub(super) fn check_move(&self, old: Option<&Self>, project_id: &ProjectId) -> Result<(), Error> {
        let moved = |old: &Self| (&old.project, &old.project_id) != (&self.project, &self.project_id);
        let away = |old: &Self| old.members.iter().any(|member| member.project_id != *project_id);
        if old.is_some_and(|old| moved(old) && away(old)) {
            return Err(Error::field(
                "project and project_id must stay the set's own, as its accounts live there: make another set",
            ));
        }
        Ok(())
    }

    /// All accounts that the record names.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(self.ending.iter().map(|ending| &ending.member))
    }

    /// These accounts have to go, unless a write takes them in before `not_before`.
    pub(super) fn let_go(&mut self, accounts: &[Member], now: DateTime<Utc>, not_before: DateTime<Utc>) {
        let new: HashSet<_> = accounts.iter().map(|member| &member.id).collect();
        self.ending.retain(|old| !new.contains(&old.member.id));
        let ending = |member: &Member| Ending { member: member.clone(), since: now, not_before };
        self.ending.extend(accounts.iter().map(ending));
    }

    /// The accounts are the set's from now on.
    pub(super) fn take_in(&mut self, members: Vec<Member>) {
        let named: HashSet<_> = members.iter().map(|member| &member.id).collect();
        self.ending.retain(|old| !named.contains(&old.member.id));
        self.members = members;
    }

    /// Everything at OpenAI that the record names.
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

    /// Tells if the record holds nothing that anybody needs.
    pub(super) fn is_over(&self) -> bool {
        self.is_tombstone && self.making.is_empty() && self.ending.is_empty()
    }

    /// When the tick has something to do for it, if ever.
    pub(super) fn next_look(&self) -> Option<DateTime<Utc>> {
        let making = self.making.iter().map(|making| making.since + first_seen::settles_after());
        let first = making.chain(self.ending.iter().map(|ending| ending.not_before)).min()?;
        Some(self.retry.next_try.map_or(first, |next_try| next_try.max(first)))
    }

    /// What a set that is not there, or not yet, has: nothing.
    pub(super) fn tombstone() -> Self {
        Self {
            project: String::new(),
            project_id: None,
            members: Vec::new(),
            ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            description: String::new(),
            metadata: Metadata::new(),
            disable_check_in_enforcement: false,
            create_missing: true,
            making: MakingList::default(),
            ending: Vec::new(),
            retry: RetryState::default(),
            is_tombstone: true,
        }
    }
}

/// Holds off every other change of the set's record. Unlike the lock of the loans it is held over calls to OpenAI.
pub(super) async fn lock_set(engine: &Engine, set: &str) -> LockGuard {
    engine.locks.lock(&lock(set)).await
}

/// A new unique name for what is made at OpenAI for the set.
pub(super) fn new_name_for_set(engine: &Engine, set: &str) -> String {
    ServiceAccountName::beginning(&format!("vault-{set}"), &engine.tag, &mut rand::rng()).into()
}

/// Held by whoever changes the set's record.
pub(super) fn lock(set: &str) -> String {
    format!("library-set/{set}")
}

/// The set, which must be there.
pub(super) async fn find(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Arc<LibrarySet>, Error> {
    let set = engine.library_sets.get(storage, name).await?;
    set.ok_or_else(|| Error::NotFound { kind: "library set", name: name.to_owned() })
}

/// The record as storage has it now, tombstone or not, for whoever holds its lock and changes it. An earlier write may
/// have come through although it was reported as failed.
pub(super) async fn stored(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Option<LibrarySet>, StorageError> {
    Ok(engine.library_sets.latest(storage, name).await?.map(Arc::unwrap_or_clone))
}

/// Stores the record, and before it the marker that it needs.
pub(super) async fn put(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    set: &LibrarySet,
) -> Result<(), StorageError> {
    if let Some(next_look) = set.next_look() {
        due::mark(storage, &Owner::LibrarySet(name.to_owned()), next_look).await?;
    }
    engine.library_sets.put(storage, name, set).await
}

/// The library sets that name this project.
pub(in crate::engine) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let named = engine.library_sets.all(storage).await?.into_iter().filter(|(_, set)| set.project == project);
    Ok(named.map(|(name, _)| format!("library set {name}")).collect())
}
