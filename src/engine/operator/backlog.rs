//! What should have been done by now, found by the minute it has been due since: bounded reads of storage, so that it
//! is right at once after a failover and cheap enough for every scrape.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::config::admin_schedule;
use crate::engine::config::configuration::ONLY;
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::creds::removal;
use crate::engine::operator::pending;
use crate::engine::{Engine, Error, static_roles};
use crate::logical::{Storage, StorageError};

/// More is not counted: then this number means at least so many.
pub(in crate::engine) const MOST: usize = 1_000;
/// So many records are read to find the oldest of what was asked for.
const FIRST_FEW: usize = 256;

/// Things that are due, and since when the first of them has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Backlog {
    pub(in crate::engine) count: usize,
    pub(in crate::engine) oldest: Option<DateTime<Utc>>,
}

impl Backlog {
    /// Of things that are due, each since then.
    fn of(due: &[DateTime<Utc>]) -> Self {
        Self { count: due.len(), oldest: due.iter().min().copied() }
    }

    /// How long the first has been due; zero if nothing is.
    pub(in crate::engine) fn age(&self, now: DateTime<Utc>) -> Duration {
        self.oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default()
    }
}

/// Credentials that have ended, or were revoked, and that are not known to be gone at OpenAI: by the names of the records
/// alone, at most `most`. Since when the oldest is due is, for what was asked for, the oldest of the first few.
pub(in crate::engine) async fn deletions(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Backlog, Error> {
    let (mut backlog, mut after) = (Backlog::default(), String::new());
    loop {
        let room = most - backlog.count;
        if room == 0 {
            return Ok(backlog);
        }
        let places = ledger::ended(storage, now, &after, removal::PAGE.min(room)).await?;
        let Some(last) = places.last() else { return Ok(backlog) };
        if backlog.count == 0 {
            backlog.oldest = oldest_of(storage, &places).await?;
        }
        backlog.count += places.len();
        after.clone_from(last);
    }
}

/// All that waits for its end at OpenAI, as `revocations` lists it, and the age of what is not a creation that was cut off.
pub(in crate::engine) async fn waiting(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
) -> Result<Backlog, Error> {
    let deletions = deletions(storage, now, MOST).await?;
    let others = pending::known(engine, storage, MOST).await?;
    // `health` reports the age of unfinished creations on its own.
    let since = others.iter().filter(|waiting| !waiting.is_creation()).map(|waiting| waiting.since);
    let oldest = since.chain(deletions.oldest).min();
    Ok(Backlog { count: (deletions.count + others.len()).min(MOST), oldest })
}

async fn oldest_of(storage: &dyn Storage, places: &[String]) -> Result<Option<DateTime<Utc>>, Error> {
    let mut oldest = None;
    for place in places.iter().take(FIRST_FEW) {
        if let Some(since) = ledger::due_since(place) {
            return Ok(Some(oldest.map_or(since, |oldest| since.min(oldest))));
        }
        match LEDGER.get(storage, place).await {
            Ok(Some(entry)) => {
                oldest = Some(oldest.map_or(entry.since(), |oldest| entry.since().min(oldest)));
            }
            // It hides no other.
            Ok(None) | Err(StorageError::Malformed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(oldest)
}

/// Rotations of the admin key and of static roles whose time has passed.
pub(in crate::engine) async fn overdue_rotations(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
) -> Result<Backlog, Error> {
    let mut due = static_roles::overdue(storage, now, MOST).await?;
    if let Some(config) = engine.config.get(storage, ONLY).await? {
        due.extend(admin_schedule::overdue_since(&config, now)?);
    }
    Ok(Backlog::of(&due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_as_old_as_its_first() {
        let at = |seconds| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        let backlog = Backlog::of(&[at(50), at(20), at(90)]);
        assert_eq!((backlog.count, backlog.age(at(100)).as_secs()), (3, 80));
        assert_eq!(backlog.age(at(10)), Duration::ZERO);
        assert_eq!(Backlog::of(&[]).age(at(100)), Duration::ZERO);
    }
}
