//! The worker's part of the federation: it completes the registration, rotates the signing key, and deletes the provider
//! of a deleted record. Each tick reads the one record, so it needs no marker.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::provider::{self, MAX_WAIT, Work};
use super::record::{Federation, LOCK, ONLY, Provider};
use super::rotation;
use crate::engine::accounts::kind::{Holding, Kind, Mount, Pending, Turn};
use crate::engine::accounts::owner::Owner;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};

/// Warning or error of a deletion that cannot end yet: OpenAI may still create the provider.
pub(super) const STILL_LOOKED_FOR: &str = "the provider of config/federation, whose creation was cut off, is looked for at OpenAI by the tick, once a minute";

/// The federation, as the worker knows it.
#[derive(Debug)]
pub(in crate::engine) struct Federated;

#[async_trait]
impl Kind for Federated {
    fn always(&self) -> Option<Owner> {
        Some(Owner::Federation)
    }

    async fn all(&self, _: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        Ok(vec![Owner::Federation])
    }

    fn lock(&self, _: &Owner) -> String {
        LOCK.to_owned()
    }

    async fn reconcile(&self, turn: &Turn<'_>, _: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage, now) = (turn.engine, turn.storage(), turn.engine.now());
        let Some(federation) = engine.federation.stored.latest(storage, ONLY).await? else {
            return Ok(None);
        };
        let waits = federation.retry.waits(now) && !turn.is_tried_now(&federation.retry);
        if waits || !is_due(engine, &federation, now) || turn.is_last && federation.deleted.is_none() {
            return Ok(None);
        }
        let mut federation = (*federation).clone();
        let work = match Work::new(engine, storage, &federation, turn.max_wait().min(MAX_WAIT)).await {
            Ok(work) => work,
            Err(Error::NotConfigured) => return Ok(None),
            Err(error) => return keep(turn, &mut federation, error).await,
        };
        // The record is written first: a node that no longer leads fails here.
        if federation.deleted.is_some() {
            work.put(&federation).await?;
        }
        match attend(&work, &mut federation).await {
            Ok(()) => Ok(None),
            Err(error @ Error::Storage(_)) => Err(error),
            Err(error) => keep(turn, &mut federation, error).await,
        }
    }

    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let Some(federation) = engine.federation.stored.record(storage, ONLY).await? else {
            return Ok(Vec::new());
        };
        Ok(waiting(&federation, owner, engine.now()))
    }

    async fn end_now(&self, mount: Mount<'_>, _: &Owner, max_wait: Duration) -> Result<(), Error> {
        let Mount { engine, storage } = mount;
        let federation = engine.federation.stored.latest(storage, ONLY).await?;
        let Some(federation) = federation.filter(|federation| federation.deleted.is_some()) else {
            return Ok(());
        };
        let work = Work::new(engine, storage, &federation, max_wait).await?;
        if end(&work, &federation).await? { Ok(()) } else { Err(Error::field(STILL_LOOKED_FOR)) }
    }

    async fn holdings(&self, mount: Mount<'_>, _: &Owner) -> Result<Vec<Holding>, StorageError> {
        let Mount { engine, storage } = mount;
        let federation = engine.federation.stored.record(storage, ONLY).await?;
        Ok(federation.map(|federation| federation.holdings()).unwrap_or_default())
    }
}

/// True if something is to be done.
fn is_due(engine: &Engine, federation: &Federation, now: DateTime<Utc>) -> bool {
    !federation.is_settled()
        || federation.next_rotation(now).is_some_and(|next| next <= now)
        || !rotation::ended(federation, engine).is_empty()
}

async fn attend(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    if federation.deleted.is_some() {
        return end(work, federation).await.map(drop);
    }
    provider::register(work, federation).await?;
    if federation.next.is_none() && is_rotation_due(work.engine, federation) {
        rotation::begin(federation, work.engine.now())?;
        work.put(federation).await?;
    }
    rotation::advance(work, federation).await?;
    if federation.retry.failures > 0 {
        federation.retry.succeeded();
        work.put(federation).await?;
    }
    Ok(())
}

/// True if a rotation is due by both clocks. By hand perhaps no call has told OpenAI's time, and nothing changes at OpenAI.
fn is_rotation_due(engine: &Engine, federation: &Federation) -> bool {
    let is_due = |now| federation.next_rotation(now).is_some_and(|next| next <= now);
    if federation.provider.is_managed() { engine.times.agree(is_due, is_due) } else { is_due(engine.now()) }
}

/// Deletes the provider, and the record with it. Answers false while the provider's creation may be under way.
pub(super) async fn end(work: &Work<'_>, federation: &Federation) -> Result<bool, Error> {
    if !provider::delete(work, federation).await? {
        return Ok(false);
    }
    work.engine.federation.stored.delete(work.storage, ONLY).await?;
    failpoint!("federation.removed");
    Ok(true)
}

/// Stores why the work failed.
async fn keep(
    turn: &Turn<'_>,
    federation: &mut Federation,
    error: Error,
) -> Result<Option<DateTime<Utc>>, Error> {
    tracing::warn!("config/federation is not as written at OpenAI yet: {error}");
    if federation.next.is_some() {
        rotation::failed(turn.engine);
    }
    federation.retry.failed_by("federation", &error, turn.engine.now(), Duration::ZERO);
    turn.engine.federation.stored.put(turn.storage(), ONLY, federation).await?;
    Ok(None)
}

/// The pending work of the federation at OpenAI.
fn waiting(federation: &Federation, owner: &Owner, now: DateTime<Utc>) -> Vec<Pending> {
    let mut waiting = Vec::new();
    let Provider::Managed { name, since, id, is_applied, .. } = &federation.provider else {
        return rotation_of(federation, owner, now).into_iter().collect();
    };
    if let Some(deleted) = federation.deleted {
        let deletion = Pending::deletion(name, Some(owner), deleted.min(now), &federation.retry);
        waiting.push(Pending { key_dead: true, ..deletion });
    } else if id.is_none() || !is_applied {
        let since = federation.changed.unwrap_or(*since).min(now);
        waiting.push(Pending::change(owner, since, &federation.retry));
    }
    waiting.extend(rotation_of(federation, owner, now));
    waiting
}

/// A rotation that is due or under way.
fn rotation_of(federation: &Federation, owner: &Owner, now: DateTime<Utc>) -> Option<Pending> {
    let begun = federation.next.as_ref().map(|next| next.key.made);
    let since = begun.into_iter().chain(federation.next_rotation(now)).min()?;
    (since <= now).then(|| Pending::rotation(owner, since, &federation.retry))
}
