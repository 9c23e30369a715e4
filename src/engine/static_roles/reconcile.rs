//! The worker's part for a static role: looks up creations with an unknown outcome, rotates the key when it is due,
//! deletes replaced keys, and deletes the record when nothing is left of a deleted role.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::ending::{end_due_keys, end_due_keys_in_tick, note_failure, trouble};
use super::record::{STATIC_ROLES, StaticRole};
use super::rotate::{Work, is_the_roles_failure, of_storage};
use super::{deletion, rotate, stored};
use crate::engine::Error;
use crate::engine::accounts::deletion::end_found;
use crate::engine::accounts::kind::{Holding, Kind, Mount, Pending, Turn};
use crate::engine::accounts::listing::Found;
use crate::engine::accounts::lookup::Look;
use crate::engine::accounts::making::Making;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, live_keys, lost};
use crate::engine::config::clients;
use crate::engine::creds::account_user;
use crate::engine::failpoint::failpoint;
use crate::engine::time::backoff;
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, Client, ProjectId, ServiceAccountId, Urgency};

/// Static roles as a kind of owner.
#[derive(Debug)]
pub(in crate::engine) struct StaticRoles;

#[async_trait]
impl Kind for StaticRoles {
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        Ok(STATIC_ROLES.names(storage).await?.into_iter().map(Owner::StaticRole).collect())
    }

    fn lock(&self, owner: &Owner) -> String {
        stored::lock(owner.name())
    }

    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage, name, max_wait) = (turn.engine, turn.storage(), owner.name(), turn.max_wait());
        let Some(mut role) = stored::get(storage, name).await? else { return Ok(None) };
        role.try_now(|retry| turn.is_tried_now(retry));
        let client = match clients::client_of(engine, storage, &role.organization_id).await {
            Ok(client) => client,
            // All work waits for a configuration. When one is written, the worker reconciles all owners.
            Err(Error::NotConfigured) => return Ok(Some(engine.now() + backoff::OUT_OF_REACH)),
            Err(error) => return keep_failure(turn, name, &mut role, &error).await,
        };
        attend(turn, &Work { engine, storage, name, client, max_wait }, &mut role).await?;
        if role.is_over() { Ok(None) } else { role.next_look(name, engine.now()) }
    }

    /// Keys after their grace period, keys of a deleted role, creations with an unknown outcome, and a due rotation.
    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let name = owner.name();
        let Some(role) = stored::get(storage, name).await? else { return Ok(Vec::new()) };
        let (now, is_deleted) = (engine.now(), role.current.is_none());
        let ended = role.ending.iter().filter(|old| is_deleted || old.ends <= now).map(|old| Pending {
            service_account_id: old.service_account_id.to_string(),
            api_key_id: old.api_key_id.to_string(),
            // The key has an end at OpenAI, and both clocks are past it.
            key_dead: old.limited && old.ends < engine.certain_time(),
            ..Pending::deletion(&old.unique_name, Some(owner), old.ends.min(now), &old.retry)
        });
        let mut pending: Vec<_> = ended.chain(Pending::look_ups(owner, &role.making, now)).collect();
        // An unreadable schedule does not hide the other work.
        let overdue = role.overdue_since(name, now).ok().flatten();
        pending.extend(overdue.map(|since| Pending::rotation(owner, since, &role.retry)));
        Ok(pending)
    }

    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, max_wait: Duration) -> Result<(), Error> {
        let Mount { engine, storage } = mount;
        let name = owner.name();
        let Some(mut role) = stored::get(storage, name).await? else { return Ok(()) };
        let client = clients::client_of(engine, storage, &role.organization_id).await?;
        let work = Work { engine, storage, name, client, max_wait };
        stored::mark(storage, name, engine.certain_time()).await?;
        role.try_now(|_| true);
        if role.current.is_none() {
            return deletion::finish(&work, &mut role).await.map(drop);
        }
        let failure = end_due_keys(&work, &mut role).await?;
        match trouble(&role, failure) {
            Some(trouble) => {
                Err(Error::field(format!("a replaced key of static role {name} is not ended: {trouble}")))
            }
            None => Ok(()),
        }
    }

    async fn holdings(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
        let storage = mount.storage;
        let role = stored::get(storage, owner.name()).await?;
        Ok(role.map(|role| role.holdings()).unwrap_or_default())
    }
}

/// Does all due work of the role.
async fn attend(turn: &Turn<'_>, work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    look_up(turn, work, role).await?;
    let work = &work.within(turn.max_wait());
    // The readers of a mount that goes would not find the new key.
    if !turn.is_last
        && !turn.is_over()
        && role.is_due(work.name, &work.engine.times)?
        && turn.has_room()
        && let Err(error) = rotate(work, role).await
    {
        if error.is_unsent() {
            turn.set_no_room();
        } else if is_the_roles_failure(&error) {
            tracing::warn!(static_role = %work.name, "rotation failed: {error}");
        } else {
            return Err(error);
        }
    }
    if turn.is_over() || role.is_over() {
        return Ok(());
    }
    if let Some(error) = end_due_keys_in_tick(&work.within(turn.max_wait()), role).await? {
        tracing::warn!(static_role = %work.name, "a key is not ended or limited yet: {error}");
    }
    Ok(())
}

async fn rotate(work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    if let Some(key) = rotate::rotate(work, role, role.next_grace()?, None).await? {
        tracing::warn!(static_role = %work.name, "{}", rotate::ended_early(&key));
    }
    Ok(())
}

/// Looks up the creations with an unknown outcome, and deletes the keys and accounts that exist. The record keeps failures.
async fn look_up(turn: &Turn<'_>, work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    let (before, mut accounts) = (role.making.clone(), Vec::new());
    for making in before.sought(work.engine, turn.is_last) {
        if turn.is_over() {
            break;
        }
        let looked_up = find_and_end(&work.within(turn.max_wait()), role, &making).await;
        role.making.note(work.engine, &making.name, &looked_up);
        match looked_up {
            Ok(true) => accounts.extend(making.service_account_id),
            Err(error) if of_storage(&error) => return Err(error),
            Ok(false) | Err(_) => {}
        }
    }
    if role.making == before {
        return Ok(());
    }
    stored::store(work.engine, work.storage, work.name, role, &accounts).await
}

/// Returns true if the outcome is known: the name does not exist, its key or account is deleted, or its key is used and
/// ends later. The same if somebody else uses the account by now.
async fn find_and_end(work: &Work<'_>, role: &mut StaticRole, making: &Making) -> Result<bool, Error> {
    let Some(project) = &making.project_id else { return Ok(false) };
    let client = clients::client_of(work.engine, work.storage, &making.organization_id).await?;
    let client = client.for_work(Urgency::Revocation, work.max_wait);
    let found = match lost::find(work.engine, &client, making).await.map_err(Error::Revocation)? {
        Look::Later => return Ok(false),
        Look::Done(None) => return Ok(true),
        Look::Done(Some(found)) => found,
    };
    let (account, is_account) = (found.account.clone(), making.service_account_id.is_none());
    let _no_claim = claims::lock(&work.engine.locks, &account).await;
    if is_account && is_taken(work, &account).await? {
        return Ok(true);
    }
    // The deletion of a role ends all of its keys, also one that is in use.
    if let Some(key) = used_key(work, &client, project, &found).await?
        && !role.deleted
    {
        if role.current.is_none() {
            return Err(Error::FirstKeyUsed(key));
        }
        tracing::warn!(
            static_role = %work.name, name = making.name,
            "key {key} of a creation that was cut off is in use, so storage was restored from a backup: it ends later"
        );
        if is_account {
            claims::claim_locked(work.engine, work.storage, &account, &work.owner()).await?;
        }
        role.end_later(making, account, key, work.engine.latest_time())?;
        return Ok(true);
    }
    confirm(work, role, making).await?;
    clients::note_made(work.engine, &found.ids().collect::<Vec<_>>(), making.since);
    end_found(&client, project, &found).await.map_err(Error::Revocation)?;
    failpoint!("static.undone");
    if is_account {
        // A claim that stays is void.
        let _ = claims::release_locked(work.storage, &account, &work.owner()).await;
    }
    Ok(true)
}

/// The key of the creation if somebody called OpenAI with it. Nobody knows a lost key, so a restored backup has lost the
/// record of this key. Fails if a lost account has more keys than the one with which it was made: somebody made the others.
async fn used_key(
    work: &Work<'_>,
    client: &Client,
    project: &ProjectId,
    found: &Found,
) -> Result<Option<ApiKeyId>, Error> {
    if let Some(key) = &found.key {
        return Ok(found.was_used.then(|| key.clone()));
    }
    let within = live_keys::MAX_WAIT.min(work.max_wait);
    let listed = work.engine.accounts.listings.keys_of(client, project, &found.account, within).await;
    let mut listed = listed.map_err(Error::Revocation)?.ok_or(Error::KeysUnlisted)?;
    listed.retain(|key| key.expires_at.is_none_or(|end| end > work.engine.certain_time()));
    listed.sort_by_key(|key| key.created_at);
    if let Some(key) = listed.get(1).and_then(|second| second.key.clone()) {
        return Err(Error::AccountHasKeys { account: found.account.clone(), key });
    }
    for key in listed.into_iter().filter_map(|key| key.key) {
        // The listing may be some minutes old.
        match client.key(project, &key).await {
            Ok(record) if record.last_used_at.is_some() => return Ok(Some(key)),
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(Error::Revocation(error)),
        }
    }
    Ok(None)
}

/// True if somebody adopted the account of a creation with an unknown outcome. Fails while another owner may be about to
/// adopt the account.
async fn is_taken(work: &Work<'_>, account: &ServiceAccountId) -> Result<bool, Error> {
    if account_user::user_of(work.engine, work.storage, account).await?.is_some() {
        return Ok(true);
    }
    claims::refuse_claimed(work.engine, work.storage, account, &work.owner()).await?;
    Ok(false)
}

/// Writes the record and reads it again, before a deletion at OpenAI. A former leader fails here. Fails as well if the
/// stored record is another role's, or if its `making` lacks the name. Then nothing more may be written in this turn.
async fn confirm(work: &Work<'_>, role: &mut StaticRole, making: &Making) -> Result<(), Error> {
    STATIC_ROLES.put(work.storage, work.name, role).await?;
    match stored::get(work.storage, work.name).await? {
        Some(stored) if stored.id == role.id && stored.making.names(&making.name) => {
            *role = stored;
            Ok(())
        }
        _ => Err(Error::Superseded(work.name.to_owned())),
    }
}

/// Stores that no client can be made for this role: all its due work failed.
async fn keep_failure(
    turn: &Turn<'_>,
    name: &str,
    role: &mut StaticRole,
    error: &Error,
) -> Result<Option<DateTime<Utc>>, Error> {
    let (engine, now) = (turn.engine, turn.engine.now());
    if role.next_rotation(name, now)?.is_some_and(|at| at <= now) {
        tracing::warn!(static_role = %name, "rotation failed: {error}");
        role.retry.failed_by(name, error, now, role.longest_wait()?);
    }
    for old in role.ending.iter_mut().filter(|old| old.next(now) <= now) {
        note_failure(old, error, now);
    }
    for making in role.making.sought(engine, turn.is_last) {
        role.making.note_failure(engine, &making.name, error);
    }
    stored::store(engine, turn.storage(), name, role, &[]).await?;
    role.next_look(name, now)
}
