//! The tick's part in rotation: finds the static roles whose time has come, and does what is due with each.
//!
//! *Guarantees:* storage decides: every role is read again under its lock, so a tick may be cut off, repeated, or run
//! on another node. The oldest goes first, a few side by side, and nothing begins once the tick's time is up. One
//! failure, even a panic, stops neither the others nor the next tick: it is stored in the role, which then waits; where
//! that cannot be, it is the tick's answer, under the role's name. Only where OpenAI has no room for any call is the rest
//! left for the next tick, without blaming the roles.
//!
//! *Assumptions:* one tick at a time, about once a minute.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use super::accounts::due::{self, Marker};
use super::accounts::owner::Owner;
use super::static_roles::{self, STATIC_ROLES, StaticRole, Work};
use super::{Engine, Error, configuration};
use crate::framework::Tick;
use crate::logical::{self, StorageError};

/// As many roles are worked on side by side.
const ABREAST: usize = 16;
/// As many as one tick takes on.
const MOST_PER_TICK: usize = 5_000;

/// One tick's work.
struct Shift<'a> {
    engine: &'a Engine,
    tick: &'a Tick,
    /// OpenAI has no room for any call.
    no_room: AtomicBool,
    /// A role was not looked at, though it could be read.
    left_out: AtomicBool,
}

/// What a tick came to.
pub(super) struct Outcome {
    /// Every failure that no role could keep.
    pub(super) failures: Vec<logical::Error>,
    /// Whether every role was looked at that there was to look at and that can be read.
    pub(super) is_whole: bool,
}

/// A role to look at, and the markers that led to it.
struct Look {
    name: String,
    markers: Vec<Marker>,
}

/// Part of the tick. After the clock was put back every role is looked at: its marker may stand in a far future.
pub(super) async fn tick(engine: &Engine, tick: &Tick, went_back: bool) -> Outcome {
    work(engine, tick, went_back)
        .await
        .unwrap_or_else(|error| Outcome { failures: vec![error.into()], is_whole: false })
}

async fn work(engine: &Engine, tick: &Tick, went_back: bool) -> Result<Outcome, Error> {
    let (storage, now) = (&*tick.storage, engine.now());
    let looks: Vec<Look> = if went_back {
        STATIC_ROLES.names(storage).await?.into_iter().map(Look::at).collect()
    } else {
        Look::by(due::come(storage, now, MOST_PER_TICK).await?)
    };
    if !looks.is_empty() && engine.config.get(storage, configuration::ONLY).await?.is_none() {
        return Ok(Outcome { failures: Vec::new(), is_whole: false });
    }
    let shift = Shift { engine, tick, no_room: AtomicBool::new(false), left_out: AtomicBool::new(false) };
    let failures = shift.work_on(looks).await;
    Ok(Outcome { failures, is_whole: !shift.left_out.load(Ordering::Relaxed) })
}

impl Look {
    fn at(name: String) -> Self {
        Self { name, markers: Vec::new() }
    }

    /// One for each role, in the order of their first markers.
    fn by(markers: Vec<Marker>) -> Vec<Self> {
        let (mut looks, mut places) = (Vec::<Self>::new(), HashMap::new());
        for marker in markers {
            let Some(name) = static_roles::role_of(marker.owner.clone()) else { continue };
            let place = *places.entry(name.clone()).or_insert(looks.len());
            if place == looks.len() {
                looks.push(Self::at(name));
            }
            looks[place].markers.push(marker);
        }
        looks
    }
}

impl Shift<'_> {
    fn is_over(&self) -> bool {
        self.tick.is_over() || self.no_room.load(Ordering::Relaxed)
    }

    /// As long as a call may wait for its turn: the whole tick, so that a slow pace is made full use of.
    fn patience(&self) -> Duration {
        self.tick.deadline.saturating_duration_since(Instant::now())
    }

    async fn work_on(&self, looks: Vec<Look>) -> Vec<logical::Error> {
        let attempts = looks.into_iter().map(|look| self.attempt(look).boxed());
        let attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(ABREAST);
        attempts.filter_map(std::future::ready).collect().await
    }

    async fn attempt(&self, look: Look) -> Option<logical::Error> {
        if self.is_over() {
            self.leave_out();
            return None;
        }
        let failure = match AssertUnwindSafe(self.look(&look)).catch_unwind().await {
            Ok(outcome) => outcome.err()?,
            Err(_) => Error::Panicked,
        };
        if !matches!(failure, Error::Storage(StorageError::Malformed { .. })) {
            self.leave_out();
        }
        Some(logical::Error::from(failure).about(&format!("static role {:?}", look.name)))
    }

    fn leave_out(&self) {
        self.left_out.store(true, Ordering::Relaxed);
    }

    async fn look(&self, look: &Look) -> Result<(), Error> {
        let (storage, name) = (&*self.tick.storage, look.name.as_str());
        // Somebody is at work on it for a request: the next tick looks again.
        let Some(_alone) = self.engine.locks.try_lock(&static_roles::lock(name)) else {
            self.leave_out();
            return Ok(());
        };
        let mut role = STATIC_ROLES.get(storage, name).await?;
        if let Some(present) = &mut role
            && self.attend(name, present).await?
        {
            role = None;
        }
        self.move_markers(look, role.as_ref()).await
    }

    /// Puts a marker where the next look is due, in the place of those that led here. While something is due they stay.
    async fn move_markers(&self, look: &Look, role: Option<&StaticRole>) -> Result<(), Error> {
        let now = self.engine.now();
        let next = role.map(|role| role.next_look(&look.name, now)).transpose()?.flatten();
        if next.is_some_and(|next| next <= now) && !look.markers.is_empty() {
            return Ok(());
        }
        let owner = Owner::StaticRole(look.name.clone());
        Ok(due::move_on(&*self.tick.storage, &owner, &look.markers, next).await?)
    }

    /// Does what is due with the role, whose lock is held. Answers whether the role is gone then.
    async fn attend(&self, name: &str, role: &mut StaticRole) -> Result<bool, Error> {
        let client = match self.engine.client_of(&*self.tick.storage, &role.organization_id).await {
            Ok(client) => client,
            Err(error) => return self.keep_failure(name, role, &error).await.map(|()| false),
        };
        let storage = &self.tick.storage;
        let work = Work { engine: self.engine, storage, name, client, patience: self.patience() };
        if role.deleting {
            return self.finish_deletion(&work, role).await;
        }
        // By a wrong clock alone a key would end long before its readers come back.
        let is_due = self.engine.times.agree(|now| {
            let next = role.next_rotation(name, now)?;
            Ok::<_, Error>(next.is_some_and(|at| at <= now))
        })?;
        let failed = is_due && self.fails_to_rotate(&work, role).await?;
        if self.is_over() && !failed {
            return Ok(false);
        }
        static_roles::settle(&work, role, failed).await.map(|()| false)
    }

    /// Answers whether the role is to be stored because of a failure. What storage itself failed at is the error.
    async fn fails_to_rotate(&self, work: &Work<'_>, role: &mut StaticRole) -> Result<bool, Error> {
        let error = match static_roles::rotate(work, role, role.next_grace()).await {
            Ok(cut_short) => {
                if let Some(key) = cut_short {
                    tracing::warn!(static_role = %work.name, "{}", static_roles::ended_early(&key));
                }
                return Ok(false);
            }
            Err(error) => error,
        };
        if error.is_unsent() {
            self.no_room.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        tracing::warn!(static_role = %work.name, "rotation failed: {error}");
        if static_roles::is_the_roles_failure(&error) { Ok(true) } else { Err(error) }
    }

    async fn finish_deletion(&self, work: &Work<'_>, role: &mut StaticRole) -> Result<bool, Error> {
        match static_roles::finish_deletion(work, role).await {
            Err(error @ Error::Undeleted { .. }) => {
                tracing::warn!(static_role = %work.name, "{error}");
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }

    /// Stores that OpenAI cannot be asked for this role: all that is due with it failed.
    async fn keep_failure(&self, name: &str, role: &mut StaticRole, error: &Error) -> Result<(), Error> {
        tracing::warn!(static_role = %name, "rotation failed: {error}");
        let now = self.engine.now();
        if role.deleting || role.next_rotation(name, now)?.is_some_and(|at| at <= now) {
            role.retry.failed(name, error, now, role.longest_wait()?);
        }
        for old in role.retiring.iter_mut().filter(|old| old.next(now) <= now) {
            static_roles::note_failure(old, error, now);
        }
        Ok(STATIC_ROLES.put(&*self.tick.storage, name, role).await?)
    }
}
