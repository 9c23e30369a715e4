//! What is stored of library sets: the set, and the change of it that is under way; and what the two tell. Loans are
//! `lending`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::members::Member;
use crate::engine::names::ServiceAccountName;
use crate::engine::project_fields::NamedProject;
use crate::engine::{Engine, Error};
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

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
    #[serde(with = "crate::engine::seconds")]
    pub ttl: Duration,
    /// How long it may last in all.
    #[serde(with = "crate::engine::seconds")]
    pub max_ttl: Duration,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether anybody may check in what another checked out.
    #[serde(default)]
    pub disable_check_in_enforcement: bool,
    /// Whether an account is made for a name that the project has none of.
    #[serde(default = "yes")]
    pub create_missing: bool,
}

/// What the first release did.
fn yes() -> bool {
    true
}

impl Record for LibrarySet {
    const VERSION: u32 = 1;
}

pub(in crate::engine) static SETS: Collection<LibrarySet> = Collection::new("library-set/");

/// A change under way, or one that has still to let accounts go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The accounts it touches.
    pub touched: Vec<Member>,
    /// The tick leaves it alone until then.
    pub due: DateTime<Utc>,
    /// How often letting go failed.
    #[serde(default)]
    pub failures: u32,
    /// Since when accounts are to be let go that could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Record for Change {
    const VERSION: u32 = 1;
}

pub(super) static CHANGES: Collection<Change> = Collection::new("library-change/");

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
}

impl Engine {
    /// A new unique name for what is made at OpenAI for the set.
    pub(super) fn new_name_for_set(&self, set: &str) -> String {
        ServiceAccountName::beginning(&format!("vault-{set}"), &self.tag, &mut rand::rng()).into()
    }
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

/// Whether the library set `name`, or a change of it under way, is stored and names this account.
pub(in crate::engine) async fn names_account(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    account: &ServiceAccountId,
) -> Result<bool, Error> {
    let set = engine.library_sets.get(storage, name).await?;
    if set.is_some_and(|set| set.members.iter().any(|member| member.id == *account)) {
        return Ok(true);
    }
    Ok(touches(storage, name, account).await?)
}

/// Whether the set, or a change of it under way, has the account that was made under this unique name.
pub(in crate::engine) async fn made(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    made_as: &str,
) -> Result<bool, Error> {
    let is_it = |member: &Member| member.made_as.as_deref() == Some(made_as);
    let set = engine.library_sets.get(storage, name).await?;
    if set.is_some_and(|set| set.members.iter().any(is_it)) {
        return Ok(true);
    }
    Ok(touched(storage, name).await?.iter().any(is_it))
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

/// The library sets that have, or still have to delete, accounts that Vault made in this organization.
pub(in crate::engine) async fn with_made_accounts(
    engine: &Engine,
    storage: &dyn Storage,
    organization: &OrganizationId,
) -> Result<Vec<String>, StorageError> {
    let is_made = |member: &Member| member.made_as.is_some() && member.organization_id == *organization;
    let mut found = BTreeSet::new();
    for name in engine.library_sets.names(storage).await? {
        let set = engine.library_sets.get_readable(storage, &name).await?;
        if set.is_some_and(|set| set.members.iter().any(is_made)) {
            found.insert(name);
        }
    }
    for name in CHANGES.names(storage).await? {
        match touched(storage, &name).await {
            Ok(members) if members.iter().any(is_made) => drop(found.insert(name)),
            // It hides no other.
            Ok(_) | Err(StorageError::Malformed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.into_iter().collect())
}

/// OpenAI's ids of the projects that library sets give, or that their accounts are in: what a project's name points at
/// may have changed.
pub(in crate::engine) async fn raw_projects(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Vec<ProjectId>, Error> {
    let mut found = Vec::new();
    for (_, set) in engine.library_sets.all(storage).await? {
        found.extend(set.project_id.clone());
        found.extend(set.members.iter().map(|member| member.project_id.clone()));
    }
    Ok(found)
}

/// The accounts that a change of the set touches, though the set need not name them.
pub(super) async fn touched(storage: &dyn Storage, set: &str) -> Result<Vec<Member>, StorageError> {
    Ok(CHANGES.get(storage, set).await?.map(|change| change.touched).unwrap_or_default())
}

/// Whether a change of the set touches the account.
pub(super) async fn touches(
    storage: &dyn Storage,
    set: &str,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    Ok(touched(storage, set).await?.iter().any(|member| member.id == *account))
}
