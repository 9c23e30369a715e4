//! Deletes or releases the accounts in a set's `ending`, and looks up the creations in its `making`. This happens after a
//! write or deletion, in the tick, and for an operator's retry.
//!
//! *Guarantees:* an account that Vault created is deleted at OpenAI, and then its claim is released. Both happen under the
//! account's lock. The account stays if another owner claims it or if somebody else has a live key on it. An adopted
//! account is only released. A member is never deleted: the write that makes an account a member takes it out of
//! `ending`.
//!
//! *Unknown outcomes:* a write of storage that failed may still succeed later, as by the next leader. So the record is read
//! again, and is written before any deletion at OpenAI. A former leader fails at this write.
//!
//! *Assumptions:* the caller holds the lock of the set's record ([`sets::lock_set`]).

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::members::Member;
use super::sets;
use super::sets::{Ending, LibrarySet};
use crate::engine::accounts::deletion;
use crate::engine::accounts::kind::{Holding, Kind, Mount, Pending, Turn};
use crate::engine::accounts::lookup::Look;
use crate::engine::accounts::making::Making;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::retry::RetryState;
use crate::engine::accounts::{claims, live_keys, lost, making};
use crate::engine::config::clients;
use crate::engine::config::clients::Configured;
use crate::engine::creds::{account_user, ledger_worker};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::Urgency;

/// Maximum wait of a call for its turn at OpenAI: in a request, and in the tick.
const MAX_WAIT: Duration = Duration::from_secs(20);
const MAX_TICK_WAIT: Duration = Duration::from_secs(5);
/// Maximum time of this work after a write or a deletion. The tick does the rest.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(40);

/// The limits of a run.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Maximum wait of each call for its turn at OpenAI.
    max_wait: Duration,
    /// The time from which on no call begins.
    deadline: Instant,
    /// The tick; `None` for a request.
    turn: Option<&'a Turn<'a>>,
}

impl<'a> Limits<'a> {
    /// For a request, which holds the set's lock, so no write is running.
    fn of_request(max_time: Duration) -> Self {
        Self { max_wait: MAX_WAIT, deadline: Instant::now() + max_time, turn: None }
    }

    fn of_tick(turn: &'a Turn<'a>) -> Self {
        Self { max_wait: MAX_TICK_WAIT, deadline: turn.deadline(), turn: Some(turn) }
    }

    /// True in the mount's last tick.
    fn is_last(self) -> bool {
        self.turn.is_some_and(|turn| turn.is_last)
    }

    /// True if accounts are skipped that a running write may still make members. The mount's last tick waits for no write: it
    /// holds the set's lock, and no later tick deletes the accounts.
    fn waits_for_writes(self) -> bool {
        self.turn.is_some_and(|turn| !turn.is_last)
    }

    /// True if failed work is tried now, whatever its planned next try. A request tries all.
    fn is_tried_now(self, retry: &RetryState) -> bool {
        self.turn.is_none_or(|turn| turn.is_tried_now(retry))
    }

    fn max_wait(self) -> Duration {
        self.max_wait.min(self.left())
    }

    /// Maximum time of one part of a listing of a project's keys.
    fn listing(self) -> Duration {
        live_keys::MAX_WAIT.min(self.left())
    }

    fn left(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// Does the due work of the set, and stores the record. Returns the names of the accounts that are left.
pub(super) async fn reconcile(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    limits: Limits<'_>,
) -> Result<Vec<String>, Error> {
    let Some(mut set) = sets::stored(engine, storage, name).await? else { return Ok(Vec::new()) };
    let now = engine.now();
    let waits = set.retry.waits(now) && !limits.is_tried_now(&set.retry);
    let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut set.ending)
        .into_iter()
        .partition(|ending| !waits && (!limits.waits_for_writes() || ending.due(now) <= now));
    set.making.try_now(|retry| limits.is_tried_now(retry));
    let sought = set.making.sought(engine, limits.is_last());
    set.ending = due.iter().chain(&later).cloned().collect();
    if !due.is_empty() || !sought.is_empty() {
        // This write proves that this node may write.
        sets::put(engine, storage, name, &set).await?;
        failpoint!("set.settling");
        seek(engine, storage, &mut set, &sought, limits).await;
        if !due.is_empty() {
            let (count, mut failure) = (due.len(), None);
            set.ending = delete_or_release_all(engine, storage, name, due, limits, &mut failure).await;
            // After a step forward the waits begin anew: OpenAI may allow only a few calls at a time.
            if set.ending.len() < count {
                set.retry.succeeded();
            }
            set.ending.extend(later);
            note_outcome(engine, storage, name, &mut set, failure).await;
        }
        store(engine, storage, name, &set).await?;
    } else if set.is_over() {
        store(engine, storage, name, &set).await?;
    }
    Ok(set.ending.into_iter().map(|ending| ending.member.name).collect())
}

/// Library sets as a kind of owner.
#[derive(Debug)]
pub(in crate::engine) struct LibrarySets;

#[async_trait]
impl Kind for LibrarySets {
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        Ok(sets::SETS.names(storage).await?.into_iter().map(Owner::LibrarySet).collect())
    }

    fn lock(&self, owner: &Owner) -> String {
        sets::lock(owner.name())
    }

    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage, name) = (turn.engine, turn.storage(), owner.name());
        let Some(set) = engine.library_sets.latest(storage, name).await? else { return Ok(None) };
        if set.next_look(engine.now()).is_none() && !set.is_over() {
            return Ok(None);
        }
        reconcile(engine, storage, name, Limits::of_tick(turn)).await?;
        let set = engine.library_sets.record(storage, name).await?;
        Ok(set.and_then(|set| set.next_look(engine.now())))
    }

    /// Accounts that Vault created for the set and that left it, and creations with an unknown outcome.
    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let Some(set) = engine.library_sets.record(storage, owner.name()).await? else {
            return Ok(Vec::new());
        };
        let now = engine.now();
        let ending = set.ending.iter().filter(|ending| ending.due(now) <= now);
        let ending = ending.filter(|ending| ending.member.is_made()).map(|ending| {
            let name = ending.member.made_as.as_ref().unwrap_or(&ending.member.name);
            Pending {
                service_account_id: ending.member.id.to_string(),
                // A free account has no key.
                key_dead: true,
                ..Pending::deletion(name, Some(owner), ending.since.min(now), &set.retry)
            }
        });
        Ok(ending.chain(Pending::look_ups(owner, &set.making, now)).collect())
    }

    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, max_wait: Duration) -> Result<(), Error> {
        let (Mount { engine, storage }, set) = (mount, owner.name());
        let left = reconcile(engine, storage, set, Limits::of_request(max_wait)).await?;
        if left.is_empty() {
            return Ok(());
        }
        let record = engine.library_sets.record(storage, set).await?;
        let reason = record.and_then(|record| record.retry.last_error.clone()).unwrap_or_default();
        Err(Error::field(format!(
            "accounts that left library set {set} are not deleted ({}): {reason}",
            left.join(", ")
        )))
    }

    async fn holdings(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
        let Mount { engine, storage } = mount;
        let set = engine.library_sets.record(storage, owner.name()).await?;
        Ok(set.map(|set| set.holdings()).unwrap_or_default())
    }
}

/// Stores the record, or deletes an empty tombstone.
async fn store(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    set: &LibrarySet,
) -> Result<(), StorageError> {
    if set.is_over() {
        return engine.library_sets.delete(storage, name).await;
    }
    sets::put(engine, storage, name, set).await
}

/// Notes the outcome of the deletions and releases: a failure, or `None`.
async fn note_outcome(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    set: &mut LibrarySet,
    failure: Option<Error>,
) {
    let now = engine.now();
    match failure {
        // The set has such work in the configured organization, too. That work does not wait the hour of the other one.
        Some(error) if error.is_out_of_reach() && is_any_in_reach(engine, storage, set).await => {
            set.retry.failed(name, &error, now, Duration::ZERO);
        }
        Some(error) => set.retry.failed_by(name, &error, now, Duration::ZERO),
        None => set.retry.succeeded(),
    }
}

/// True if an account has to be deleted in the organization that the configuration names.
async fn is_any_in_reach(engine: &Engine, storage: &dyn Storage, set: &LibrarySet) -> bool {
    let Ok(Configured { config, .. }) = clients::configured(engine, storage).await else { return false };
    set.ending.iter().any(|ending| ending.member.organization_id == config.organization_id)
}

/// True if further calls to OpenAI would fail, too.
fn is_hopeless(engine: &Engine, failure: Option<&Error>) -> bool {
    failure.is_some_and(|error| ledger_worker::concerns_all(engine, error))
}

/// Looks up the creations, and deletes the accounts that exist. The record keeps failures.
async fn seek(
    engine: &Engine,
    storage: &dyn Storage,
    set: &mut LibrarySet,
    sought: &[Making],
    limits: Limits<'_>,
) {
    let mut looked_up = Ok(true);
    for making in sought {
        if limits.is_over() || is_hopeless(engine, looked_up.as_ref().err()) {
            return;
        }
        looked_up = undo(engine, storage, making, limits).await;
        set.making.note(engine, &making.name, &looked_up);
    }
}

/// Keeps the failure that decides the next try. It is the last one, but an organization out of reach, which waits for an
/// hour, delays no other work.
fn note(failure: &mut Option<Error>, error: Error) {
    if failure.is_none() || !error.is_out_of_reach() {
        *failure = Some(error);
    }
}

/// Deletes the account if it exists. Returns true if the outcome is known. An account that somebody uses by now stays.
/// Refuses an account with a live key, which is somebody else's. A creation in an organization out of reach is forgotten
/// after a year.
async fn undo(
    engine: &Engine,
    storage: &dyn Storage,
    making: &Making,
    limits: Limits<'_>,
) -> Result<bool, Error> {
    let client = match clients::client_of(engine, storage, &making.organization_id).await {
        Err(error)
            if error.is_out_of_reach() && making.since + making::FORGOTTEN_AFTER < engine.certain_time() =>
        {
            return Ok(true);
        }
        client => client?,
    };
    let Some(project) = &making.project_id else { return Ok(true) };
    let listing = client.for_work(Urgency::Check, limits.listing());
    let client = client.for_work(Urgency::Revocation, limits.max_wait());
    let account = match lost::find(engine, &client, making).await.map_err(Error::Revocation)? {
        Look::Later => return Ok(false),
        Look::Done(None) => return Ok(true),
        Look::Done(Some(found)) => found.account,
    };
    let _alone = claims::lock(&engine.locks, &account).await;
    // A role has no claim.
    if claims::is_claimed(storage, &account).await?
        || account_user::user_of(engine, storage, &account).await?.is_some()
    {
        return Ok(true);
    }
    clients::note_made(engine, &[account.as_str()], making.since);
    live_keys::refuse_used(engine, &listing, project, &account, &[], limits.listing()).await?;
    deletion::end_account(&client, project, &account).await.map_err(Error::Revocation)?;
    failpoint!("set.undone");
    Ok(true)
}

/// Deletes or releases these accounts. Returns the accounts that are left.
async fn delete_or_release_all(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    due: Vec<Ending>,
    limits: Limits<'_>,
    failure: &mut Option<Error>,
) -> Vec<Ending> {
    let mut left = Vec::new();
    // Asked for at the same time, the keys of all accounts of a project come from one list.
    for made in due.iter().map(|ending| &ending.member).filter(|member| member.is_made()) {
        engine.accounts.listings.ask(&made.id);
    }
    for ending in due {
        let member = &ending.member;
        // A release needs no call of OpenAI.
        if member.is_made() && (limits.is_over() || is_hopeless(engine, failure.as_ref())) {
            left.push(ending);
            continue;
        }
        if let Err(error) = delete_or_release(engine, storage, set, member, limits).await {
            tracing::warn!(
                set,
                account = member.name,
                "an account that left its set is not deleted or released yet: {error}"
            );
            note(failure, error);
            left.push(ending);
        }
    }
    left
}

/// Deletes an account that Vault created, and releases its claim. Skips an account that another owner claims, and refuses one
/// with a live key.
async fn delete_or_release(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    member: &Member,
    limits: Limits<'_>,
) -> Result<(), Error> {
    let _no_claim = claims::lock(&engine.locks, &member.id).await;
    let ours = Owner::LibrarySet(set.to_owned());
    if claims::claimants(storage, &member.id).await?.iter().any(|owner| *owner != ours) {
        return Ok(());
    }
    if member.is_made() {
        let (client, project) =
            (clients::client_of(engine, storage, &member.organization_id).await?, &member.project_id);
        let (listing, within) = (client.for_work(Urgency::Check, limits.listing()), limits.listing());
        clients::note_made(engine, &[member.id.as_str()], member.joined);
        live_keys::refuse_used(engine, &listing, project, &member.id, &[], within).await?;
        let client = client.for_work(Urgency::Revocation, limits.max_wait());
        deletion::end_account(&client, project, &member.id).await.map_err(Error::Revocation)?;
        failpoint!("set.account_ended");
    }
    Ok(claims::release_locked(storage, &member.id, &ours).await?)
}

/// After a successful write or deletion. Returns a warning if accounts are left.
pub(super) async fn finish(engine: &Engine, storage: &dyn Storage, set: &str) -> Option<String> {
    match reconcile(engine, storage, set, Limits::of_request(MAX_REQUEST_TIME)).await {
        Ok(left) if left.is_empty() => None,
        Ok(left) => Some(format!("still to be deleted at OpenAI, and Vault retries: {}", left.join(", "))),
        Err(_) => Some("accounts that left the set are deleted or released later".to_owned()),
    }
}

/// After a failed write. Returns the error, wrapped in [`Error::LeftBehind`] if the tick has to undo the rest.
pub(super) async fn undo_write(engine: &Engine, storage: &dyn Storage, set: &str, error: Error) -> Error {
    match error {
        // Vault forwards the request to a node that may write.
        Error::Storage(StorageError::ReadOnly) => return error,
        // The write may still succeed. The tick decides by the stored record.
        Error::Storage(StorageError::Failed(_)) => return Error::LeftBehind(Box::new(error)),
        _ => {}
    }
    match reconcile(engine, storage, set, Limits::of_request(MAX_REQUEST_TIME)).await {
        Ok(left) if left.is_empty() => error,
        _ if matches!(error, Error::LeftBehind(_)) => error,
        _ => Error::LeftBehind(Box::new(error)),
    }
}
