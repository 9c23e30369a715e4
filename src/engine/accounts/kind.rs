//! The interface of a kind of owner: its reconciliation, its pending work, and the accounts and keys that its records
//! name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::making::{Making, MakingList};
use super::owner::Owner;
use super::retry::RetryState;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Storage, StorageError, Writable};
use crate::openai::{ApiKeyId, OrganizationId, ProjectId, ServiceAccountId};

/// A kind of owner.
#[async_trait]
pub trait Kind: Send + Sync {
    /// An owner without markers, which every tick and every list reads.
    fn always(&self) -> Option<Owner> {
        None
    }

    /// All stored owners of this kind, with unreadable records, too.
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError>;

    /// The key of the lock for changes of the owner.
    fn lock(&self, owner: &Owner) -> String;

    /// Does the due work of the owner and returns the next due time; `None` without future work. The caller holds the
    /// owner's lock. A run may be interrupted anywhere and repeated.
    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error>;

    /// The pending work of the owner.
    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error>;

    /// Does the pending deletions of the owner now, for a request that waits for the result. The caller holds the owner's
    /// lock.
    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, max_wait: Duration) -> Result<(), Error>;

    /// All accounts and keys at OpenAI that the owner's record names, except admin keys.
    async fn holdings(&self, _: Mount<'_>, _: &Owner) -> Result<Vec<Holding>, StorageError> {
        Ok(Vec::new())
    }
}

/// A mount with its storage.
#[derive(Clone, Copy)]
pub struct Mount<'a> {
    /// The mount.
    pub engine: &'a Engine,
    /// Its storage.
    pub storage: &'a dyn Storage,
}

/// One tick's work.
pub struct Turn<'a> {
    /// The mount.
    pub engine: &'a Engine,
    /// True in the mount's last tick.
    pub is_last: bool,
    /// True if the configuration names another organization since the last tick, or if the process is new.
    pub reach_changed: bool,
    tick: &'a Tick,
    no_room: AtomicBool,
}

/// Pending work at OpenAI.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The work.
    pub work: PendingWork,
    /// The unique name, by which `revocations` lists the work.
    pub name: String,
    /// The owner; `None` for a credential.
    pub owner: Option<Owner>,
    /// OpenAI's id of the account; empty if there is none or if the id is unknown.
    pub service_account_id: String,
    /// OpenAI's id of the key; likewise.
    pub api_key_id: String,
    /// The time since which the work is due.
    pub since: DateTime<Utc>,
    /// True if the key has surely expired at OpenAI.
    pub key_dead: bool,
    /// The failed attempts.
    pub retry: RetryState,
}

/// A kind of pending work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingWork {
    /// The deletion of a key or account.
    Deletion,
    /// The look-up of a creation in this organization, whose outcome is unknown.
    LookUp(OrganizationId),
    /// A rotation.
    Rotation,
    /// A change at OpenAI that the owner's record already says.
    Change,
}

/// An account or key at OpenAI that an owner's record names.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// Its organization; `None` if an operator registered it and Vault does not know the organization.
    pub organization_id: Option<OrganizationId>,
    /// Its project.
    pub project_id: Option<ProjectId>,
    /// The account.
    pub service_account_id: Option<ServiceAccountId>,
    /// The key on the account.
    pub api_key_id: Option<ApiKeyId>,
    /// The unique name with which Vault created the account or the key.
    pub name: Option<String>,
    /// True if the owner claims the account, so that no other owner may use the account.
    pub is_claimed: bool,
    /// True if Vault created the account. The account is deleted with its owner.
    pub is_made_account: bool,
}

impl<'a> Turn<'a> {
    /// The work of this tick.
    pub(super) fn new(engine: &'a Engine, tick: &'a Tick, is_last: bool, reach_changed: bool) -> Self {
        Self { engine, is_last, reach_changed, tick, no_room: AtomicBool::new(false) }
    }

    /// The mount's storage.
    pub fn storage(&self) -> &'a dyn Storage {
        &*self.tick.storage
    }

    /// True if no further work may begin.
    pub fn is_over(&self) -> bool {
        self.tick.is_over()
    }

    /// True if OpenAI's rate limit may have room for a creation. Deletions and look-ups do not wait for creations.
    pub fn has_room(&self) -> bool {
        !self.no_room.load(Ordering::Relaxed)
    }

    /// The time from which on no work may begin.
    pub fn deadline(&self) -> Instant {
        self.tick.deadline
    }

    /// Longest wait of a call for its turn at OpenAI: the rest of the tick, so that a low rate limit is used fully.
    pub fn max_wait(&self) -> Duration {
        self.tick.deadline.saturating_duration_since(Instant::now())
    }

    /// True if failed work is retried now, whatever its planned next try.
    pub fn is_tried_now(&self, retry: &RetryState) -> bool {
        self.is_last || self.reach_changed && retry.waits_for_reach(self.engine.now())
    }

    /// Notes that OpenAI's rate limit has no room for a creation.
    pub fn set_no_room(&self) {
        self.no_room.store(true, Ordering::Relaxed);
    }
}

impl Pending {
    /// A creation with an unknown outcome.
    pub fn look_up(
        owner: Option<Owner>,
        name: String,
        organization: OrganizationId,
        since: DateTime<Utc>,
    ) -> Self {
        let error = format!(
            "its creation in organization {organization} was cut off: if it was made, the tick removes it"
        );
        let retry = RetryState { last_error: Some(error), ..RetryState::default() };
        Self::without_ids(PendingWork::LookUp(organization), name, owner, since, retry)
    }

    /// The creations whose names have settled, so that their look-up is due or has failed.
    pub fn look_ups<'a>(
        owner: &'a Owner,
        making: &'a MakingList,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = Self> {
        let is_due = move |making: &&Making| making.settles_at(now) <= now;
        making.iter().filter(is_due).map(|making| {
            let (name, organization) = (making.name.clone(), making.organization_id.clone());
            let pending = Self::look_up(Some(owner.clone()), name, organization, making.since);
            let Some(error) = &making.retry.last_error else { return pending };
            let error = format!(
                "its creation in organization {} was cut off, and is not undone yet: {error}",
                making.organization_id
            );
            Self { retry: RetryState { last_error: Some(error), ..making.retry.clone() }, ..pending }
        })
    }

    /// A due rotation of the owner.
    pub fn rotation(owner: &Owner, since: DateTime<Utc>, retry: &RetryState) -> Self {
        Self::without_ids(PendingWork::Rotation, owner.to_string(), Some(owner.clone()), since, retry.clone())
    }

    /// A change at OpenAI that the owner's record already says.
    pub fn change(owner: &Owner, since: DateTime<Utc>, retry: &RetryState) -> Self {
        Self::without_ids(PendingWork::Change, owner.to_string(), Some(owner.clone()), since, retry.clone())
    }

    /// A deletion at OpenAI under this unique name; of a credential without an owner. The caller adds the ids.
    pub fn deletion(name: &str, owner: Option<&Owner>, since: DateTime<Utc>, retry: &RetryState) -> Self {
        Self::without_ids(PendingWork::Deletion, name.to_owned(), owner.cloned(), since, retry.clone())
    }

    fn without_ids(
        work: PendingWork,
        name: String,
        owner: Option<Owner>,
        since: DateTime<Utc>,
        retry: RetryState,
    ) -> Self {
        let (service_account_id, api_key_id) = (String::new(), String::new());
        Self { work, name, owner, service_account_id, api_key_id, since, key_dead: false, retry }
    }
}

impl Holding {
    /// A place at OpenAI without an account or key.
    pub fn in_project(organization: &OrganizationId, project: Option<&ProjectId>) -> Self {
        Self { organization_id: Some(organization.clone()), project_id: project.cloned(), ..Self::default() }
    }

    /// A claimed account in an organization that Vault may not know.
    pub fn of_account(account: &ServiceAccountId) -> Self {
        Self { service_account_id: Some(account.clone()), is_claimed: true, ..Self::default() }
    }

    /// An unfinished creation. The account of an unfinished key is claimed.
    pub fn making(making: &Making) -> Self {
        Self {
            service_account_id: making.service_account_id.clone(),
            name: Some(making.name.clone()),
            is_claimed: true,
            ..Self::in_project(&making.organization_id, making.project_id.as_ref())
        }
    }
}

/// True if another cluster writes static roles, library sets and the configuration. This cluster may read outdated
/// records of them, so it deletes nothing on their account.
pub(in crate::engine) async fn leaves_owners_alone(engine: &Engine) -> Result<bool, Error> {
    Ok(engine.system.writable().await? < Writable::Everything)
}
