//! The tick's part in rotation: finds the static roles whose time has come, and does what is due with each.
//!
//! *Guarantees:* storage decides: every role is read again under its lock, so a tick may be cut off, repeated, or run
//! on another node. The oldest goes first, a few side by side, and nothing begins once the tick's time is up. One
//! failure, even a panic, stops neither the others nor the next tick: it is stored in the role, which then waits; where
//! that cannot be, it is the tick's answer, under the role's name. Only where OpenAI has no room for any call is the rest
//! left for the next tick, without blaming the roles.
//!
//! *Assumptions:* one tick at a time, about once a minute.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use super::static_roles::{self, STATIC_ROLES, StaticRole, Work, due};
use super::{Engine, Error, calendar, configuration};
use crate::framework::Tick;
use crate::logical;

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
}

/// A role to look at, and the marker that led to it.
struct Look {
    name: String,
    marker: Option<String>,
}

/// Part of the tick. Answers every failure that no role could keep.
pub(super) async fn tick(engine: &Engine, tick: &Tick) -> Vec<logical::Error> {
    work(engine, tick).await.unwrap_or_else(|error| vec![error.into()])
}

/// Answers the failures of single roles.
async fn work(engine: &Engine, tick: &Tick) -> Result<Vec<logical::Error>, Error> {
    let (storage, now) = (&*tick.storage, engine.now());
    let went_back = engine.clock_went_back(storage, now).await?;
    let looks: Vec<Look> = if went_back {
        // Markers lie: every role is looked at, and gets a new one.
        STATIC_ROLES.names(storage).await?.into_iter().map(|name| Look { name, marker: None }).collect()
    } else {
        due::come(storage, now, MOST_PER_TICK).await?.into_iter().map(Look::at).collect()
    };
    let shift = Shift { engine, tick, no_room: AtomicBool::new(false) };
    if !looks.is_empty() && engine.config.get(storage, configuration::ONLY).await?.is_none() {
        return Ok(Vec::new());
    }
    let failures = shift.work_on(looks).await;
    // A tick that was cut off begins anew, and so does one that failed.
    if failures.is_empty() && !(went_back && shift.is_over()) {
        engine.note_time(storage, now).await?;
    }
    Ok(failures)
}

impl Look {
    fn at(marker: String) -> Self {
        Self { name: calendar::name_in(&marker).to_owned(), marker: Some(marker) }
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
            return None;
        }
        let failure = match AssertUnwindSafe(self.look(&look)).catch_unwind().await {
            Ok(outcome) => outcome.err()?,
            Err(_) => Error::Panicked,
        };
        Some(logical::Error::from(failure).about(&format!("static role {:?}", look.name)))
    }

    async fn look(&self, look: &Look) -> Result<(), Error> {
        let (storage, name) = (&*self.tick.storage, look.name.as_str());
        let _alone = self.engine.locks.lock(&static_roles::lock(name)).await;
        let role = STATIC_ROLES.get(storage, name).await?;
        if let Some(marker) = &look.marker
            && role.as_ref().is_none_or(|role| role.due.as_ref() != Some(marker))
        {
            due::drop_marker(storage, marker).await;
            return Ok(());
        }
        match role {
            Some(role) => self.attend(name, role).await,
            None => Ok(()),
        }
    }

    /// Does what is due with the role, whose lock is held.
    async fn attend(&self, name: &str, mut role: StaticRole) -> Result<(), Error> {
        let client = match self.engine.client_of(&*self.tick.storage, &role.organization_id).await {
            Ok(client) => client,
            Err(error) => return self.keep_failure(name, &mut role, &error).await,
        };
        let storage = &self.tick.storage;
        let work = Work { engine: self.engine, storage, name, client, patience: self.patience() };
        if role.deleting {
            return self.finish_deletion(&work, &mut role).await;
        }
        let rotation = role.next_rotation(name, self.engine.now())?;
        let failed =
            rotation.is_some_and(|at| at <= self.engine.now()) && !self.rotate(&work, &mut role).await;
        if self.is_over() && !failed {
            return Ok(());
        }
        static_roles::settle(&work, &mut role, failed).await
    }

    /// Answers whether nothing is to be stored of a failure.
    async fn rotate(&self, work: &Work<'_>, role: &mut StaticRole) -> bool {
        let grace = role.settings.grace_period;
        let Err(error) = static_roles::rotate(work, role, grace).await else { return true };
        if error.is_unsent() {
            self.no_room.store(true, Ordering::Relaxed);
            return true;
        }
        tracing::warn!(static_role = %work.name, "rotation failed: {error}");
        role.trouble.note(&error, self.engine.now());
        false
    }

    async fn finish_deletion(&self, work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
        match static_roles::finish_deletion(work, role).await {
            Err(error @ Error::Undeleted { .. }) => {
                tracing::warn!(static_role = %work.name, "{error}");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Stores that OpenAI cannot be asked for this role: all that is due with it failed.
    async fn keep_failure(&self, name: &str, role: &mut StaticRole, error: &Error) -> Result<(), Error> {
        tracing::warn!(static_role = %name, "rotation failed: {error}");
        let now = self.engine.now();
        if role.deleting || role.next_rotation(name, now)?.is_some_and(|at| at <= now) {
            role.trouble.note(error, now);
        }
        for old in role.retiring.iter_mut().filter(|old| old.next(now) <= now) {
            old.trouble.note(error, now);
        }
        due::store(&*self.tick.storage, name, role, now).await
    }
}
