//! The worker: takes the owners whose marker has come, and has each reconciled.
//!
//! *Guarantees:* storage decides: each owner's record is read again under its lock, so a tick may be cut off, repeated,
//! or run on another node. The oldest goes first, some side by side, and nothing begins once the tick's time is up. One
//! failure, even a panic, stops neither the others nor the next tick: the owner's record keeps it, or else it is part of
//! the tick's answer, under the owner's name. Where OpenAI has no room for any call, the rest is left for the next tick.
//!
//! *Assumptions:* one tick at a time, about once a minute.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use super::due::{self, Marker};
use super::owner::Owner;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{self, Storage, StorageError};

/// So many owners are worked on side by side.
const CONCURRENCY: usize = 16;
/// So many markers are taken in one tick.
const MOST_PER_TICK: usize = 5_000;

/// A kind of owner, as the worker needs it.
#[async_trait]
pub trait Kind: Send + Sync {
    /// Tells if the owner is of this kind.
    fn has(&self, owner: &Owner) -> bool;

    /// Every stored owner of this kind.
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError>;

    /// The key of the lock that whoever changes the owner holds.
    fn lock(&self, owner: &Owner) -> String;

    /// Does what is due with the owner, whose lock is held, and answers when the next look is due; none if nothing is
    /// ahead. May be cut off anywhere, and repeated.
    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error>;
}

/// One tick's work.
pub struct Turn<'a> {
    /// The mount.
    pub engine: &'a Engine,
    tick: &'a Tick,
    kinds: &'a [&'a dyn Kind],
    no_room: AtomicBool,
    left_out: AtomicBool,
}

/// The outcome of a tick.
pub struct Outcome {
    /// Every failure that no record keeps.
    pub failures: Vec<logical::Error>,
    /// Tells if every owner was looked at that there was to look at and that can be read.
    pub is_whole: bool,
}

/// An owner to look at, and the markers that led to it.
struct Look {
    owner: Owner,
    markers: Vec<Marker>,
}

/// Part of the tick. After the clock was put back every owner is looked at: its marker may stand in a far future.
pub async fn tick(engine: &Engine, tick: &Tick, kinds: &[&dyn Kind], went_back: bool) -> Outcome {
    let (no_room, left_out) = (AtomicBool::new(false), AtomicBool::new(false));
    let turn = Turn { engine, tick, kinds, no_room, left_out };
    match turn.looks(went_back).await {
        Ok(looks) => turn.work_on(looks).await,
        Err(error) => Outcome { failures: vec![Error::from(error).into()], is_whole: false },
    }
}

impl Look {
    /// One for each owner, in the order of their first markers.
    fn by(markers: Vec<Marker>) -> Vec<Self> {
        let (mut looks, mut places) = (Vec::<Self>::new(), HashMap::new());
        for marker in markers {
            let place = *places.entry(marker.owner.clone()).or_insert(looks.len());
            if place == looks.len() {
                looks.push(Self { owner: marker.owner.clone(), markers: Vec::new() });
            }
            looks[place].markers.push(marker);
        }
        looks
    }
}

impl Turn<'_> {
    /// The mount's storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.tick.storage
    }

    /// Tells if nothing more may begin.
    pub fn is_over(&self) -> bool {
        self.tick.is_over() || self.no_room.load(Ordering::Relaxed)
    }

    /// How long a call may wait for its turn: the whole tick, so that a slow pace is made full use of.
    pub fn patience(&self) -> Duration {
        self.tick.deadline.saturating_duration_since(Instant::now())
    }

    /// OpenAI has no room for any call.
    pub fn set_no_room(&self) {
        self.no_room.store(true, Ordering::Relaxed);
    }

    async fn looks(&self, went_back: bool) -> Result<Vec<Look>, StorageError> {
        let storage = &*self.tick.storage;
        if !went_back {
            return Ok(Look::by(due::come(storage, self.engine.now(), MOST_PER_TICK).await?));
        }
        let mut looks = Vec::new();
        for kind in self.kinds {
            let owners = kind.all(storage).await?;
            looks.extend(owners.into_iter().map(|owner| Look { owner, markers: Vec::new() }));
        }
        Ok(looks)
    }

    async fn work_on(self, looks: Vec<Look>) -> Outcome {
        let attempts = looks.into_iter().map(|look| self.attempt(look).boxed());
        let attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        let failures = attempts.filter_map(std::future::ready).collect().await;
        Outcome { failures, is_whole: !self.left_out.load(Ordering::Relaxed) }
    }

    async fn attempt(&self, look: Look) -> Option<logical::Error> {
        let kind = self.kinds.iter().find(|kind| kind.has(&look.owner))?;
        if self.is_over() {
            self.leave_out();
            return None;
        }
        let failure = match AssertUnwindSafe(self.look(*kind, &look)).catch_unwind().await {
            Ok(outcome) => outcome.err()?,
            Err(_) => Error::Panicked,
        };
        if !matches!(failure, Error::Storage(StorageError::Malformed { .. })) {
            self.leave_out();
        }
        Some(logical::Error::from(failure).about(&look.owner.described()))
    }

    async fn look(&self, kind: &dyn Kind, look: &Look) -> Result<(), Error> {
        // Somebody is at work on it for a request: the next tick looks again.
        let Some(_alone) = self.engine.locks.try_lock(&kind.lock(&look.owner)) else {
            self.leave_out();
            return Ok(());
        };
        let next = kind.reconcile(self, &look.owner).await?;
        if next.is_some_and(|next| next <= self.engine.now()) && !look.markers.is_empty() {
            return Ok(());
        }
        Ok(due::move_on(&*self.tick.storage, &look.owner, &look.markers, next).await?)
    }

    fn leave_out(&self) {
        self.left_out.store(true, Ordering::Relaxed);
    }
}
