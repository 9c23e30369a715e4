//! The write-ahead entries of a mount's credentials. A read that is alone has an entry of its own. Where many read the
//! same at once, one entry names what they are about to make, and as many again, for those who come next: so that a
//! credential costs a part of a storage write, and hardly one waits for it.
//!
//! *Guarantees:* a name is handed out once, and stands in the log from before that until what was made by it is recorded
//! and answered with, or undone. What is told by its entry ([`Told::ByEntry`]) has an entry of its own.
//!
//! No sweep takes an entry away that is [held](holds): one with a name under way or spare, or that another is to take the
//! place of. Nobody waits longer for others than [`PATIENCE`], nor for a write that takes longer.

mod announcement;
mod entry;
mod holds;
mod spent;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::time::timeout;

pub(super) use self::announcement::{ANNOUNCEMENT, Announcement};
pub(super) use self::entry::Announced;
use self::entry::{Books, Entry, FRESH, Spare};
use super::Error;
use super::answers::{Answers, Told};
use super::clock::Times;
use crate::logical::{Storage, StorageError};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// As many names as one entry has at most: it stays below 10 KB.
const MOST: usize = 128;
/// As long as one waits for what is written for many, before one goes on alone.
const PATIENCE: Duration = Duration::from_secs(2);

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
    times: Arc<Times>,
    /// What is read right now.
    pools: Mutex<HashMap<Terms, Arc<Pool>>>,
}

/// Spare names for those who read the same. It goes with the last of them.
#[derive(Default)]
struct Pool {
    /// Changed with the map locked, so that the last one is seen.
    readers: AtomicUsize,
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
    /// Of a mount in the process with these answers, by these clocks.
    pub(super) fn new(answers: Arc<Answers>, times: Arc<Times>) -> Self {
        Self { books: Books { answers, spent: Arc::default() }, times, pools: Mutex::default() }
    }

    /// Somebody reads.
    pub(super) fn reading(self: &Arc<Self>, terms: Terms) -> Reading {
        let mut pools = self.pools();
        let pool = Arc::clone(pools.entry(terms.clone()).or_default());
        pool.readers.fetch_add(1, Ordering::Relaxed);
        drop(pools);
        Reading { of: Arc::clone(self), terms, pool }
    }

    /// Whether the entry of this key may still be written over, or is counted on.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.books.spent.holds(key)
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
    /// A name that stands in the log; `new_name` makes one. What is made by it now ends when the terms' time to live has
    /// passed, or a little later.
    pub(super) async fn announce(
        &self,
        storage: &Arc<dyn Storage>,
        new_name: impl Fn() -> Result<String, Error>,
    ) -> Result<Announced, Error> {
        if let Some(announced) = self.pool.take() {
            self.refill(storage, new_name)?;
            return Ok(announced);
        }
        if self.readers() > 1
            && let Some(announced) = self.announce_with_others(storage, &new_name).await?
        {
            return Ok(announced);
        }
        let name = new_name()?;
        let told = self.of.books.answers.promise(&[&name]);
        let alone = self.announcement(vec![name.clone()], Duration::ZERO, told);
        let entry = Entry::write(&self.of.books, storage, alone).await?;
        Ok(Spare::new(entry, name).taken())
    }

    /// One writes for all who wait for it, and after it the next for those who came meanwhile. None if this one is better
    /// alone.
    async fn announce_with_others(
        &self,
        storage: &Arc<dyn Storage>,
        new_name: impl Fn() -> Result<String, Error>,
    ) -> Result<Option<Announced>, Error> {
        let mut turn = self.pool.writing.try_lock();
        if turn.is_err() {
            let Ok(its_turn) = timeout(PATIENCE, self.pool.writing.lock()).await else { return Ok(None) };
            turn = Ok(its_turn);
            let announced = self.pool.take();
            // Nobody fails in a row behind others.
            if announced.is_some() || self.pool.failed.load(Ordering::Relaxed) {
                return Ok(announced);
            }
        }
        self.write_some(storage, self.names(new_name)?).await?;
        drop(turn);
        Ok(self.pool.take())
    }

    /// Has more names written before the last is taken.
    fn refill(
        &self,
        storage: &Arc<dyn Storage>,
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
            drop(reading.write_some(&storage, names).await);
            drop(turn);
        });
        Ok(())
    }

    /// Writes an entry with spare names, unless the log of answers has no room for them, or storage takes too long.
    async fn write_some(&self, storage: &Arc<dyn Storage>, names: Vec<String>) -> Result<(), StorageError> {
        let told = self.of.books.answers.promise(&names);
        if told == Told::ByEntry {
            return Ok(());
        }
        let some = self.announcement(names, FRESH, told);
        let written = timeout(PATIENCE, Entry::write(&self.of.books, storage, some)).await;
        self.pool.failed.store(!matches!(written, Ok(Ok(_))), Ordering::Relaxed);
        if let Ok(written) = written {
            self.pool.spare().extend(written?.spare());
        }
        Ok(())
    }

    /// For each of those who read now, and for the next after each.
    fn names(&self, new_name: impl Fn() -> Result<String, Error>) -> Result<Vec<String>, Error> {
        (0..MOST.min(self.readers() * 2)).map(|_| new_name()).collect()
    }

    /// Of names that are taken within this time.
    fn announcement(&self, names: Vec<String>, time: Duration, told: Told) -> Announcement {
        let terms = &self.terms;
        Announcement {
            organization_id: terms.organization_id.clone(),
            project_id: terms.project_id.clone(),
            service_account_id: terms.service_account_id.clone(),
            names,
            ends: self.of.times.latest() + time + terms.ttl,
            told,
            announced: Utc::now(),
        }
    }

    fn readers(&self) -> usize {
        self.pool.readers.load(Ordering::Relaxed)
    }

    /// One more, that goes on when this one is over.
    fn again(&self) -> Self {
        self.of.reading(self.terms.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut pools = self.of.pools();
        let is_last = self.pool.readers.fetch_sub(1, Ordering::Relaxed) == 1;
        // What it has goes when the map is free again.
        let unused = if is_last { pools.remove(&self.terms) } else { None };
        drop(pools);
        drop(unused);
    }
}

impl fmt::Debug for Announcements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcements").field("books", &self.books).finish_non_exhaustive()
    }
}
