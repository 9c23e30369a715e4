//! The worker's part of a federated role: it completes interrupted steps, ends deleted roles, and looks for
//! accounts whose creation was cut off.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::provider::MAX_WAIT;
use super::role::{FEDERATED_ROLES, FederatedRole, lock};
use super::role_work::{Work, mark, next_look, waiting};
use super::{role_ending, role_registration};
use crate::engine::Error;
use crate::engine::accounts::kind::{Holding, Kind, Mount, Pending, Turn};
use crate::engine::accounts::making::Making;
use crate::engine::accounts::owner::Owner;
use crate::engine::time::backoff;
use crate::logical::{Storage, StorageError};

/// The roles with access tokens, as the worker knows them.
#[derive(Debug)]
pub(in crate::engine) struct FederatedRoles;

#[async_trait]
impl Kind for FederatedRoles {
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        Ok(FEDERATED_ROLES.names(storage).await?.into_iter().map(Owner::FederatedRole).collect())
    }

    fn lock(&self, owner: &Owner) -> String {
        lock(owner.name())
    }

    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage, name) = (turn.engine, turn.storage(), owner.name());
        let Some(role) = engine.federation.roles.latest(storage, name).await? else { return Ok(None) };
        let now = engine.now();
        if role.is_settled() {
            return Ok(None);
        }
        let mut role = (*role).clone();
        role.making.try_now(|retry| turn.is_tried_now(retry));
        let sought = role.making.sought(engine, turn.is_last);
        let waits = role.retry.waits(now) && !turn.is_tried_now(&role.retry);
        if sought.is_empty() && (waits || role.has_only_look_ups_left() && !role.is_over()) {
            return Ok(next_look(&role, now));
        }
        match Work::new(engine, storage, name, &role, turn.max_wait().min(MAX_WAIT)).await {
            Ok(work) => attend(turn, &work, &mut role, &sought, waits).await?,
            // All work waits for a configuration. When one is written, the worker reconciles all owners.
            Err(Error::NotConfigured) => return Ok(Some(now + backoff::OUT_OF_REACH)),
            Err(error) => {
                for making in &sought {
                    role.making.note_failure(engine, &making.name, &error);
                }
                if !waits {
                    role.retry.failed_by(name, &error, now, Duration::ZERO);
                }
                engine.federation.roles.put(storage, name, &role).await?;
            }
        }
        if role.is_over() { Ok(None) } else { Ok(next_look(&role, engine.now())) }
    }

    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let role = engine.federation.roles.record(storage, owner.name()).await?;
        Ok(role.map(|role| waiting(&role, owner.name(), engine.now())).unwrap_or_default())
    }

    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, max_wait: Duration) -> Result<(), Error> {
        let (Mount { engine, storage }, name) = (mount, owner.name());
        let Some(role) = engine.federation.roles.latest(storage, name).await? else { return Ok(()) };
        if role.deleted.is_none() {
            return Ok(());
        }
        let mut role = (*role).clone();
        let work = Work::new(engine, storage, name, &role, max_wait.min(MAX_WAIT)).await?;
        mark(engine, storage, name).await?;
        role_ending::end(&work, &mut role).await?;
        if role.is_over() {
            return Ok(());
        }
        Err(Error::field(format!(
            "federated role {name}: what a creation that was cut off has made is looked for by the tick"
        )))
    }

    async fn holdings(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
        let Mount { engine, storage } = mount;
        let role = engine.federation.roles.record(storage, owner.name()).await?;
        Ok(role.map(|role| role.holdings()).unwrap_or_default())
    }
}

/// Looks for the sought creations, and does all else that is due with the role, unless a failure of that `waits`. Failures
/// at OpenAI are kept in the record.
async fn attend(
    turn: &Turn<'_>,
    work: &Work<'_>,
    role: &mut FederatedRole,
    sought: &[Making],
    waits: bool,
) -> Result<(), Error> {
    // The record is written first: a node that no longer leads fails here.
    work.put(role).await?;
    role_ending::look_up(work, role, sought).await?;
    if waits && !role.is_over() {
        return work.put(role).await;
    }
    if role.deleted.is_some() {
        return match role_ending::end(work, role).await {
            Err(error) if !role.is_over() && !matches!(error, Error::Storage(_)) => {
                warn(work, &error);
                Ok(())
            }
            outcome => outcome,
        };
    }
    let outcome = if turn.is_last { Ok(()) } else { role_registration::register(work, role, false).await };
    match outcome {
        Err(error @ Error::Storage(_)) => return Err(error),
        Err(error) => {
            warn(work, &error);
            role.retry.failed_by(work.name, &error, work.engine.now(), Duration::ZERO);
        }
        Ok(()) => role.retry.succeeded(),
    }
    work.put(role).await
}

fn warn(work: &Work<'_>, error: &Error) {
    tracing::warn!(role = %work.name, "a federated role is not as written at OpenAI yet: {error}");
}
