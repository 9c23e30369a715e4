//! Per-tick work of library sets and loans: what the due index leads to. Keys that may still live come before accounts
//! that are only to be tidied up. One failure never stops the rest.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::{legacy, lending, reconcile, returns};
use crate::engine::accounts::due::{self, Marker};
use crate::engine::accounts::owner::Owner;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Storage, StorageError};

/// So many markers are taken up in one tick.
const MOST_PER_TICK: usize = 500;
/// So many owners are worked on at once.
const CONCURRENCY: usize = 4;

/// Does what is due. After the clock was put back the times of all loans are corrected first; answers whether there was
/// time for that.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick, went_back: bool) -> Result<bool, Error> {
    let moved = legacy::tend(engine, tick).await;
    let is_whole = !went_back || correct_times(engine, tick).await?;
    let is_last = engine.system.tainted().await?;
    let (mut loans, mut sets) = (BTreeMap::new(), BTreeMap::new());
    if is_last {
        let names = engine.library_sets.names(&*tick.storage).await?;
        sets.extend(names.into_iter().map(|name| (Owner::LibrarySet(name), Vec::new())));
    }
    for marker in due::come(&*tick.storage, engine.now(), MOST_PER_TICK).await? {
        let kind = match &marker.owner {
            Owner::Loan { .. } => &mut loans,
            Owner::LibrarySet(_) => &mut sets,
            Owner::Config | Owner::StaticRole(_) => continue,
        };
        kind.entry(marker.owner.clone()).or_insert_with(Vec::new).push(marker);
    }
    let mut outcome = moved;
    for owners in [loans, sets] {
        let looks =
            owners.into_iter().map(|(owner, markers)| look(engine, tick, is_last, owner, markers).boxed());
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        while let Some(looked) = looks.next().await {
            outcome = outcome.and(looked);
        }
    }
    outcome.map(|()| is_whole)
}

/// Does the owner's next steps, and drops the markers that led to it once another one leads to the next look.
async fn look(
    engine: &Engine,
    tick: &Tick,
    is_last: bool,
    owner: Owner,
    markers: Vec<Marker>,
) -> Result<(), Error> {
    let storage = &*tick.storage;
    if tick.is_over() {
        return Ok(());
    }
    let next = match &owner {
        Owner::Loan { set, account, loan } => returns::attend(engine, storage, (set, account, loan)).await?,
        Owner::LibrarySet(name) => reconcile::attend(engine, storage, name, (tick.deadline, is_last)).await?,
        Owner::Config | Owner::StaticRole(_) => None,
    };
    Ok(due::move_on(storage, &owner, &markers, next).await?)
}

/// Corrects what was stored under a clock that was ahead: it would hold an account for as long as it was. One record that
/// cannot be read hides no other. Answers whether there was time for all.
async fn correct_times(engine: &Engine, tick: &Tick) -> Result<bool, Error> {
    let storage = &*tick.storage;
    for name in engine.library_sets.names(storage).await? {
        mark_again(engine, storage, &name, engine.now()).await?;
    }
    for set in lending::sets(storage).await? {
        for account in lending::taken(storage, &set).await? {
            if tick.is_over() {
                return Ok(false);
            }
            match lending::put_right(engine, storage, &set, &account).await {
                Err(StorageError::Malformed { .. }) => {}
                outcome => outcome?,
            }
        }
    }
    Ok(true)
}

/// A set that has something ahead is looked at now.
async fn mark_again(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let set = match engine.library_sets.record(storage, name).await {
        Err(StorageError::Malformed { .. }) => return Ok(()),
        set => set?,
    };
    match set.and_then(|set| set.next_look()) {
        Some(_) => due::mark(storage, &Owner::LibrarySet(name.to_owned()), now).await.map(drop),
        None => Ok(()),
    }
}
