//! The worker: reconciles the owners with due markers.
//!
//! *Guarantees:* storage decides: each owner's record is read again under its lock. So a tick may be interrupted,
//! repeated, or run on another node. Owners that may have live keys come first, and older markers before younger ones.
//! No owner begins after the tick's deadline, and no rotation while OpenAI's rate limit has no room for a creation; the
//! next tick continues. A failure or panic of one owner stops neither other owners nor the next tick. The owner's record
//! keeps the failure, or the tick returns it with the owner's name.
//!
//! *Assumptions:* one tick at a time, about once a minute.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::timeout;

use super::due;
use super::due::Marker;
use super::kind::{Kind, Turn};
use super::owner::Owner;
use crate::engine::{Engine, Error, KINDS, caught, kind_of};
use crate::framework::Tick;
use crate::logical;
use crate::logical::{Storage, StorageError};

/// Number of owners that are reconciled concurrently.
const CONCURRENCY: usize = 16;
/// Maximum wait for a request that holds an owner's lock. The lock is first come, first served, so requests that follow each
/// other without a pause keep the worker from no owner. A request that OpenAI holds up does, until the next tick.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(2);
/// Maximum number of markers that one tick takes.
const MOST_PER_TICK: usize = 5_000;

/// The outcome of a tick.
pub struct Outcome {
    /// The failures that no record keeps.
    pub failures: Vec<logical::Error>,
    /// True if every readable owner of this tick was reconciled, and no rotation lacked room at OpenAI.
    pub is_whole: bool,
}

/// An owner to reconcile, with its due markers.
struct DueOwner {
    owner: Owner,
    markers: Vec<Marker>,
}

/// Part of the tick. All owners are reconciled, with or without a due marker, in three cases: the clock went back
/// (`went_back`), so that a marker may lie far ahead; the configuration names another organization, or the process is
/// new (`reach_changed`); and the mount's last tick. A tick that is killed at such work leaves markers that lie ahead, and
/// the new process finds the owners all the same.
pub async fn tick(engine: &Engine, tick: &Tick, went_back: bool, reach_changed: bool) -> Outcome {
    match run(engine, tick, went_back, reach_changed).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome { failures: vec![error.into()], is_whole: false },
    }
}

async fn run(engine: &Engine, tick: &Tick, went_back: bool, reach_changed: bool) -> Result<Outcome, Error> {
    let turn = Turn::new(engine, tick, engine.system.tainted().await?, reach_changed);
    let mut owners = due_owners(&turn).await?;
    if went_back || turn.is_last || reach_changed {
        add_others(&*tick.storage, &mut owners).await?;
    }
    Ok(work_on(&turn, owners).await)
}

impl DueOwner {
    fn without_marker(owner: Owner) -> Self {
        Self { owner, markers: Vec::new() }
    }

    /// Groups the markers by owner, in the order of their first markers.
    fn by(markers: Vec<Marker>) -> Vec<Self> {
        let (mut owners, mut places) = (Vec::<Self>::new(), HashMap::new());
        for marker in markers {
            let place = *places.entry(marker.owner.clone()).or_insert(owners.len());
            if place == owners.len() {
                owners.push(Self::without_marker(marker.owner.clone()));
            }
            owners[place].markers.push(marker);
        }
        owners
    }
}

async fn due_owners(turn: &Turn<'_>) -> Result<Vec<DueOwner>, StorageError> {
    let mut owners: Vec<DueOwner> =
        KINDS.iter().filter_map(|kind| kind.always()).map(DueOwner::without_marker).collect();
    owners.extend(DueOwner::by(due::markers(turn.storage(), turn.engine.now(), MOST_PER_TICK).await?));
    Ok(owners)
}

/// Adds the owners without a due marker.
async fn add_others(storage: &dyn Storage, owners: &mut Vec<DueOwner>) -> Result<(), StorageError> {
    let known: HashSet<Owner> = owners.iter().map(|due| due.owner.clone()).collect();
    for kind in KINDS {
        let others = kind.all(storage).await?.into_iter().filter(|owner| !known.contains(owner));
        owners.extend(others.map(DueOwner::without_marker));
    }
    Ok(())
}

async fn work_on(turn: &Turn<'_>, owners: Vec<DueOwner>) -> Outcome {
    // A provider has no keys of accounts. Of a set only lent accounts have keys, and loans are owners of their own.
    let may_live = |due: &DueOwner| !matches!(due.owner, Owner::Federation | Owner::LibrarySet(_));
    let (living, rest): (Vec<_>, Vec<_>) = owners.into_iter().partition(may_live);
    let left_out = AtomicBool::new(false);
    // In one stream, so that a slow owner of the first kind does not keep the others waiting in every tick.
    let attempts = living.into_iter().chain(rest).map(|due| attempt(turn, due, &left_out).boxed());
    let attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    let failures = attempts.filter_map(std::future::ready).collect::<Vec<_>>().await;
    Outcome { failures, is_whole: !left_out.into_inner() && turn.has_room() }
}

async fn attempt(turn: &Turn<'_>, due: DueOwner, left_out: &AtomicBool) -> Option<logical::Error> {
    if turn.is_over() {
        left_out.store(true, Ordering::Relaxed);
        return None;
    }
    let failure = match caught(work(turn, kind_of(&due.owner), &due)).await {
        Ok(is_reconciled) => {
            left_out.fetch_or(!is_reconciled, Ordering::Relaxed);
            return None;
        }
        Err(error) => error,
    };
    let is_unreadable = matches!(failure, Error::Storage(StorageError::Malformed { .. }));
    if !is_unreadable && matches!(failure, Error::Panicked | Error::Storage(_)) {
        left_out.store(true, Ordering::Relaxed);
    }
    Some(logical::Error::from(failure).about(&due.owner.described()))
}

/// Returns false if a request held the owner's lock for [`MAX_LOCK_WAIT`]. Then the next tick reconciles the owner.
async fn work(turn: &Turn<'_>, kind: &dyn Kind, due: &DueOwner) -> Result<bool, Error> {
    let key = kind.lock(&due.owner);
    let Ok(_alone) = timeout(MAX_LOCK_WAIT, turn.engine.locks.lock(&key)).await else { return Ok(false) };
    let next = kind.reconcile(turn, &due.owner).await?;
    let is_still_due = next.is_some_and(|next| next <= turn.engine.now());
    if !is_still_due || due.markers.is_empty() {
        due::replace(turn.storage(), &due.owner, &due.markers, next).await?;
    }
    Ok(true)
}
