//! A write-ahead entry that stands for the credentials it names, and what becomes of it when none of them is under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::announcement::{ANNOUNCEMENT, Announcement};
use super::spent::{Place, Spent};
use crate::engine::answers::{Answers, Told};
use crate::engine::failpoint::sync_failpoint;
use crate::engine::issuer::Creation;
use crate::logical::{Departure, Storage, StorageError};

/// An entry's spare names are of use for so long. With a request it is well below a sweep's age.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// Where entries of a mount go when they are spent, and what tells of their answers.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) answers: Arc<Answers>,
    pub(super) spent: Arc<Spent>,
}

/// A name that stands in the log and that nobody makes anything by yet.
pub(super) struct Spare {
    entry: Arc<Entry>,
    name: String,
}

/// The name by which a request makes a credential. Dropped before that was answered with or undone, its write-ahead
/// entry stays, and a sweep undoes what was made.
#[must_use = "unless it is answered with or forgotten, a sweep undoes what was made"]
pub(in crate::engine) struct Announced {
    entry: Arc<Entry>,
    name: String,
    is_over: bool,
}

/// An entry. It lives as long as one of its names is spare or under way.
pub(super) struct Entry {
    books: Books,
    storage: Arc<dyn Storage>,
    announcement: Announcement,
    written: Instant,
    /// None before it is written.
    place: Option<Place>,
    /// Names whose requests ended with no end: what they made may stand.
    unended: Mutex<Vec<String>>,
}

impl Entry {
    /// Writes it. Dropped before that is done, what stands is an entry that names nothing that was made.
    pub(super) async fn write(
        books: &Books,
        storage: &Arc<dyn Storage>,
        announcement: Announcement,
    ) -> Result<Arc<Self>, StorageError> {
        let mut entry = Self {
            books: books.clone(),
            storage: Arc::clone(storage),
            announcement,
            written: Instant::now(),
            place: None,
            unended: Mutex::default(),
        };
        entry.place = Some(books.spent.begin(&ANNOUNCEMENT, storage, &entry.announcement).await?);
        Ok(Arc::new(entry))
    }

    /// All its names, which nobody makes anything by yet.
    pub(super) fn spare(self: Arc<Self>) -> Vec<Spare> {
        self.announcement.names.iter().map(|name| Spare::new(Arc::clone(&self), name.clone())).collect()
    }
}

impl Spare {
    pub(super) fn new(entry: Arc<Entry>, name: String) -> Self {
        Self { entry, name }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.entry.written.elapsed() < FRESH
    }

    /// Somebody makes a credential by it.
    pub(super) fn taken(self) -> Announced {
        Announced { entry: self.entry, name: self.name, is_over: false }
    }
}

impl Announced {
    /// The unique name.
    pub(in crate::engine) fn name(&self) -> &str {
        &self.name
    }

    /// When what is made ends at the latest; it gives the place in the ledger.
    pub(in crate::engine) fn ends(&self) -> DateTime<Utc> {
        self.entry.announcement.ends
    }

    /// What is about to be made.
    pub(in crate::engine) fn creation(&self) -> Creation {
        self.entry.announcement.creation(&self.name)
    }

    /// Nothing stands at OpenAI by this name. An entry that stays costs the sweep one look later, nothing more: its
    /// failure is not the caller's.
    pub(in crate::engine) async fn forget(self) {
        if let Some(place) = self.over() {
            let _ = place.pending.commit().await;
        }
    }

    /// Before the answer, which must not be given if this fails. What is to be done when it leaves, if anything is, goes
    /// with it: then the name is of no more use.
    pub(in crate::engine) async fn give(self) -> Result<Option<Departure>, StorageError> {
        if let Told::ByLog(_) = self.entry.announcement.told {
            return Ok(Some(Departure::new(|| self.leave())));
        }
        if let Some(place) = self.over() {
            place.pending.commit().await?;
        }
        Ok(None)
    }

    /// The answer leaves.
    fn leave(mut self) {
        self.entry.books.answers.note(&self.name);
        if sync_failpoint!("creds.noted") {
            return;
        }
        self.is_over = true;
    }

    /// It is of no more use; what is to be ended at once, if its entry is for it alone.
    fn over(mut self) -> Option<Place> {
        self.is_over = true;
        let entry = Arc::get_mut(&mut self.entry)?;
        if entry.announcement.names.len() == 1 { entry.place.take() } else { None }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if !self.is_over {
            self.entry.books.answers.disown(&self.name);
            let mut unended = self.entry.unended.lock().unwrap_or_else(PoisonError::into_inner);
            unended.push(std::mem::take(&mut self.name));
        }
    }
}

impl Drop for Entry {
    /// It is spent if all came to an end. Else it stays, for what did not.
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.announcement.names);
        self.books.answers.withdraw(&names);
        let unended = std::mem::take(self.unended.get_mut().unwrap_or_else(PoisonError::into_inner));
        let Some(place) = self.place.take() else { return };
        // Without a runtime the process is at its end.
        let Ok(runtime) = Handle::try_current() else { return };
        let ended: Vec<_> = names.into_iter().filter(|name| !unended.contains(name)).collect();
        if ended.is_empty() {
            return;
        }
        let answers = Arc::clone(&self.books.answers);
        if unended.is_empty() {
            self.books.spent.keep(place, Box::new(move || answers.settle(&ended)));
        } else {
            let shorter = Announcement { names: unended, ..self.announcement.clone() };
            let storage = Arc::clone(&self.storage);
            runtime.spawn(async move {
                // Should that fail, the longer one stands: what else it names is owned, or was never made.
                let key = place.pending.key().to_owned();
                if ANNOUNCEMENT.begin_at(&storage, key, &shorter).await.is_ok() {
                    answers.settle(&ended);
                }
            });
        }
    }
}
