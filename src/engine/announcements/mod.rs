//! The write-ahead entries of a mount's credentials. A read that is alone has an entry of its own. Where many read the
//! same at once, one entry names what they are about to make, and as many again, for those who come next: so that a
//! credential costs a part of a storage write, and hardly one waits for it.
//!
//! *Guarantees:* a name is handed out once, and stands in the log from before that until what was made by it is recorded
//! and answered with, or undone. What is told by its entry ([`Told::ByEntry`]) has an entry of its own.
//!
//! *Assumption:* [`entry::FRESH`], a request and [`spent::IDLE`] together are shorter than a sweep's age.

mod announcement;
mod entry;
mod spent;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub(super) use self::announcement::{ANNOUNCEMENT, Announcement};
pub(super) use self::entry::Announced;
use self::entry::{Books, Entry, FRESH, Spare};
use super::Error;
use super::answers::{Answers, Told};
use crate::logical::{Storage, StorageError};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// As many names as one entry has at most: it stays below 10 KB.
const MOST: usize = 128;

/// What credentials have in common whose names may stand in one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    pub(super) organization_id: OrganizationId,
    pub(super) project_id: ProjectId,
    pub(super) service_account_id: Option<ServiceAccountId>,
    /// What their names are made of.
    pub(super) role_name: String,
    pub(super) project: String,
    pub(super) name_template: String,
    pub(super) ttl: Duration,
}

/// The entries of one mount.
pub(super) struct Announcements {
    books: Books,
    /// What is read right now.
    pools: Mutex<HashMap<Terms, Arc<Pool>>>,
}

/// Spare names for those who read the same. It goes with the last of them.
#[derive(Default)]
struct Pool {
    /// The oldest first.
    spare: Mutex<VecDeque<Spare>>,
    /// Held while an entry with some is written.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Whether the last of them could not be written.
    failed: AtomicBool,
}

/// A read under way. Those of the same terms share what is written.
pub(super) struct Reading {
    of: Arc<Announcements>,
    terms: Terms,
    pool: Arc<Pool>,
}

impl Announcements {
    /// Of a mount in the process with these answers.
    pub(super) fn new(answers: Arc<Answers>) -> Self {
        Self { books: Books { answers, spent: Arc::default() }, pools: Mutex::default() }
    }

    /// Somebody reads.
    pub(super) fn reading(self: &Arc<Self>, terms: Terms) -> Reading {
        let pool = Arc::clone(self.pools().entry(terms.clone()).or_default());
        Reading { of: Arc::clone(self), terms, pool }
    }

    /// Names that stand in an entry which a sweep took away are not to be handed out.
    pub(super) fn drop_spare(&self) {
        let pools: Vec<_> = self.pools().values().cloned().collect();
        for pool in pools {
            pool.spare().clear();
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Terms, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn take(&self) -> Option<Announced> {
        let mut spare = self.spare();
        std::iter::from_fn(|| spare.pop_front()).find(Spare::is_fresh).map(Spare::taken)
    }

    fn spare(&self) -> MutexGuard<'_, VecDeque<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// A name that stands in the log; `new_name` makes one. What is made by it ends when the terms' time to live has
    /// passed from `now` on, or a little later.
    pub(super) async fn announce(
        &self,
        storage: &Arc<dyn Storage>,
        now: DateTime<Utc>,
        new_name: impl Fn() -> Result<String, Error>,
    ) -> Result<Announced, Error> {
        if let Some(announced) = self.pool.take() {
            self.refill(storage, now, new_name)?;
            return Ok(announced);
        }
        if self.readers() > 1
            && let Some(announced) = self.announce_with_others(storage, now, &new_name).await?
        {
            return Ok(announced);
        }
        let name = new_name()?;
        let told = self.of.books.answers.promise(&[&name]);
        let alone = self.announcement(vec![name.clone()], now, told);
        let entry = Entry::write(&self.of.books, storage, alone).await?;
        Ok(Spare::new(entry, name).taken())
    }

    /// One writes for all who wait for it, and after it the next for those who came meanwhile. None if this one is better
    /// alone.
    async fn announce_with_others(
        &self,
        storage: &Arc<dyn Storage>,
        now: DateTime<Utc>,
        new_name: impl Fn() -> Result<String, Error>,
    ) -> Result<Option<Announced>, Error> {
        let mut turn = self.pool.writing.try_lock();
        if turn.is_err() {
            turn = Ok(self.pool.writing.lock().await);
            let announced = self.pool.take();
            // Nobody fails in a row behind others.
            if announced.is_some() || self.pool.failed.load(Ordering::Relaxed) {
                return Ok(announced);
            }
        }
        self.write_some(storage, now, self.names(new_name)?).await?;
        drop(turn);
        Ok(self.pool.take())
    }

    /// Has more names written before the last is taken.
    fn refill(
        &self,
        storage: &Arc<dyn Storage>,
        now: DateTime<Utc>,
        new_name: impl Fn() -> Result<String, Error>,
    ) -> Result<(), Error> {
        let readers = self.readers();
        if readers == 1 || self.pool.spare().len() > readers / 4 {
            return Ok(());
        }
        let Ok(turn) = Arc::clone(&self.pool.writing).try_lock_owned() else { return Ok(()) };
        let (names, storage, reading) = (self.names(new_name)?, Arc::clone(storage), self.again());
        tokio::spawn(async move {
            // If it fails, the next read finds none, and learns why from a write of its own.
            drop(reading.write_some(&storage, now, names).await);
            drop(turn);
        });
        Ok(())
    }

    /// Writes an entry with spare names, unless the log of answers has no room for them.
    async fn write_some(
        &self,
        storage: &Arc<dyn Storage>,
        now: DateTime<Utc>,
        names: Vec<String>,
    ) -> Result<(), StorageError> {
        let told = self.of.books.answers.promise(&names);
        if told == Told::ByEntry {
            return Ok(());
        }
        // They are of use for a while.
        let some = self.announcement(names, now + FRESH, told);
        let written = Entry::write(&self.of.books, storage, some).await;
        self.pool.failed.store(written.is_err(), Ordering::Relaxed);
        self.pool.spare().extend(written?.spare());
        Ok(())
    }

    /// For each of those who read now, and for the next after each.
    fn names(&self, new_name: impl Fn() -> Result<String, Error>) -> Result<Vec<String>, Error> {
        (0..MOST.min(self.readers() * 2)).map(|_| new_name()).collect()
    }

    fn announcement(&self, names: Vec<String>, taken_until: DateTime<Utc>, told: Told) -> Announcement {
        let terms = &self.terms;
        Announcement {
            organization_id: terms.organization_id.clone(),
            project_id: terms.project_id.clone(),
            service_account_id: terms.service_account_id.clone(),
            names,
            ends: taken_until + terms.ttl,
            told,
            announced: Utc::now(),
        }
    }

    /// How many there are, besides the map's count.
    fn readers(&self) -> usize {
        Arc::strong_count(&self.pool) - 1
    }

    /// One more, that goes on when this one is over.
    fn again(&self) -> Self {
        Self { of: Arc::clone(&self.of), terms: self.terms.clone(), pool: Arc::clone(&self.pool) }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // What it has goes when the map is free again.
        let mut pools = self.of.pools();
        let last = if self.readers() == 1 { pools.remove(&self.terms) } else { None };
        drop(pools);
        drop(last);
    }
}

impl fmt::Debug for Announcements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcements").field("books", &self.books).finish_non_exhaustive()
    }
}
