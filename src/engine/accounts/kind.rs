//! The interface of a kind of owner: for the worker, for those who list what waits, and for those who ask what a record
//! names at OpenAI.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::first_seen;
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
    /// Tells if the owner is of this kind.
    fn has(&self, owner: &Owner) -> bool;

    /// Tells if a key of such an owner may still live when its time has come. Accounts without keys wait until these are
    /// worked on.
    fn may_have_live_keys(&self) -> bool {
        true
    }

    /// An owner that every tick and every list looks at. The due index has no marker of it.
    fn always(&self) -> Option<Owner> {
        None
    }

    /// Every stored owner of this kind, also one whose record cannot be read.
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError>;

    /// The key of the lock that whoever changes the owner holds.
    fn lock(&self, owner: &Owner) -> String;

    /// Does what is due with the owner, whose lock is held, and answers when the next look is due; none if nothing is
    /// ahead. May be cut off anywhere, and repeated.
    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error>;

    /// Everything that the owner has waiting for OpenAI.
    async fn waiting(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Waiting>, Error>;

    /// Ends now what waits for its end, for somebody who waits for that.
    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, patience: Duration) -> Result<(), Error>;

    /// Everything at OpenAI that the owner's record names, besides admin keys.
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
    /// The mount goes away: no later tick comes.
    pub is_last: bool,
    /// Another organization came into reach.
    pub reach_changed: bool,
    tick: &'a Tick,
    no_room: AtomicBool,
}

/// Something that waits for OpenAI.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What it waits for.
    pub what: What,
    /// The unique name by which it is listed.
    pub name: String,
    /// The owner, unless it was made for a credential.
    pub owner: Option<Owner>,
    /// OpenAI's id of the account; empty if there is none, or if it is not known.
    pub service_account_id: String,
    /// OpenAI's id of the key; likewise.
    pub api_key_id: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// OpenAI has surely ended the key by itself.
    pub key_dead: bool,
    /// How the attempts fare.
    pub retry: RetryState,
}

/// What something waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its end at OpenAI.
    End,
    /// A look-up: OpenAI was asked in this organization to make it, and did not answer.
    LookUp(OrganizationId),
    /// A rotation.
    Rotation,
}

/// Something at OpenAI that an owner's record names.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The organization it is in.
    pub organization_id: OrganizationId,
    /// The project it is in.
    pub project_id: Option<ProjectId>,
    /// The account.
    pub service_account_id: Option<ServiceAccountId>,
    /// The key on the account.
    pub api_key_id: Option<ApiKeyId>,
    /// The unique name under which Vault made the account or the key.
    pub name: Option<String>,
    /// The owner claims the account: nobody else may have it.
    pub is_claimed: bool,
    /// Vault made the account, which goes with the owner.
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

    /// Tells if nothing more may begin.
    pub fn is_over(&self) -> bool {
        self.tick.is_over() || self.no_room.load(Ordering::Relaxed)
    }

    /// From then on nothing may begin.
    pub fn deadline(&self) -> Instant {
        self.tick.deadline
    }

    /// How long a call may wait for its turn: the whole tick, so that a slow pace is made full use of.
    pub fn patience(&self) -> Duration {
        self.tick.deadline.saturating_duration_since(Instant::now())
    }

    /// Tells if what failed is tried now, whenever its next try is planned.
    pub fn is_tried_now(&self, retry: &RetryState) -> bool {
        self.is_last || self.reach_changed && retry.waits_for_reach(self.engine.now())
    }

    /// OpenAI has no room for any call.
    pub fn set_no_room(&self) {
        self.no_room.store(true, Ordering::Relaxed);
    }
}

impl Waiting {
    /// The outcome of a creation is not known.
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
        Self::without_ids(What::LookUp(organization), name, owner, since, retry)
    }

    /// The creations whose names have settled, so that a look-up was due.
    pub fn look_ups<'a>(
        owner: &'a Owner,
        making: &'a MakingList,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = Self> {
        let is_due = move |making: &&Making| {
            (now - making.since).to_std().is_ok_and(|age| age >= first_seen::settles_after())
        };
        making.iter().filter(is_due).map(|making| {
            let (name, organization) = (making.name.clone(), making.organization_id.clone());
            Self::look_up(Some(owner.clone()), name, organization, making.since)
        })
    }

    /// A rotation of the owner is due.
    pub fn rotation(owner: &Owner, since: DateTime<Utc>, retry: &RetryState) -> Self {
        Self::without_ids(What::Rotation, owner.to_string(), Some(owner.clone()), since, retry.clone())
    }

    fn without_ids(
        what: What,
        name: String,
        owner: Option<Owner>,
        since: DateTime<Utc>,
        retry: RetryState,
    ) -> Self {
        let (service_account_id, api_key_id) = (String::new(), String::new());
        Self { what, name, owner, service_account_id, api_key_id, since, key_dead: false, retry }
    }
}

impl Holding {
    /// Nothing but a place at OpenAI.
    pub fn in_project(organization: &OrganizationId, project: Option<&ProjectId>) -> Self {
        Self {
            organization_id: organization.clone(),
            project_id: project.cloned(),
            service_account_id: None,
            api_key_id: None,
            name: None,
            is_claimed: false,
            is_made_account: false,
        }
    }

    /// What is being made. The account of a key that is being made is claimed.
    pub fn making(making: &Making) -> Self {
        Self {
            service_account_id: making.service_account_id.clone(),
            name: Some(making.name.clone()),
            is_claimed: true,
            ..Self::in_project(&making.organization_id, making.project_id.as_ref())
        }
    }
}

/// True if another cluster writes static roles, library sets and the configuration. This cluster may read old records of
/// them, so it undoes nothing by them.
pub(in crate::engine) async fn leaves_owners_alone(engine: &Engine) -> Result<bool, Error> {
    Ok(engine.system.writable().await? < Writable::Everything)
}
