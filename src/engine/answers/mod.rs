//! Which credentials this process has answered with, noted where the end of the process does not take it: so the next
//! process can tell what was recorded and handed out from what was only recorded. Vault cannot be asked.
//!
//! A credential's write-ahead entry says what tells that its answer was given ([`Told`]):
//! - the log of the process that made it, a file: noted there as the answer leaves, right before the server can have it
//!   ([`Departure`]), while the entry goes after it.
//! - where no such file can be had, the entry itself: it goes before the answer, so one that stands was not answered.
//!
//! *Guarantees:* what was answered is never called unanswered: the note comes first, and a log that is gone, of another
//! start of the machine (which may have lost its end), or not ours, tells nothing. What it says nothing about is kept
//! until its own end. What never left is not noted, so the sweep ends it. A note cannot fail for want of room, which is
//! had before; where there is none, the entry goes first.
//!
//! *Assumption:* nobody puts a running machine's memory back to an earlier moment.
//!
//! *Not told:* a process that ends between two system calls, the note's and that with the answer; and an answer that the
//! server never read, or not to its end, because it ended too. Then the credential has no lease, and stays until its own
//! end. Where the entry goes first that moment is as long as one write to storage.

mod folder;
mod log;
mod spent;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::folder::Folder;
use self::log::Log;
pub(super) use self::spent::Spent;
use super::failpoint::sync_failpoint;
use crate::framework::Pending;
use crate::logical::{Departure, StorageError};

/// So many answers may be ahead of the end of their write-ahead entries; those after them go after it.
const MOST_AHEAD: usize = 1_000;

/// What tells whether the answer with a credential was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Nothing: so it counts as given once it is recorded.
    #[default]
    ByNothing,
    /// Its write-ahead entry, which goes before it is given.
    ByEntry,
    /// The log of the process of this id.
    ByLog(Uuid),
}

/// The answers of one process.
#[derive(Debug)]
pub struct Answers {
    id: Uuid,
    /// Where logs are; none if none can be kept.
    folder: Option<Folder>,
    log: OnceLock<Option<Mutex<Log>>>,
}

/// An answer that may leave. Dropped with its entry, it did not.
struct Promise {
    answers: Arc<Answers>,
    spent: Arc<Spent>,
    name: String,
    entry: Option<Pending>,
}

impl Answers {
    /// Without a log.
    pub fn unlogged() -> Self {
        Self { id: Uuid::new_v4(), folder: None, log: OnceLock::new() }
    }

    /// With a log in a folder of ours in this one, where that can be had.
    pub fn logged_in(folder: PathBuf) -> Self {
        Self { folder: Some(Folder::within(&folder)), ..Self::unlogged() }
    }

    /// What will tell of the answer with a credential that is about to be made.
    pub(super) fn told(&self) -> Told {
        if self.log().is_some() { Told::ByLog(self.id) } else { Told::ByEntry }
    }

    /// Before the answer, which must not be given if this fails. What is to be done when it leaves, if anything is, goes
    /// with it; then the entry is one of the `spent` ones of its mount.
    pub(super) async fn give(
        self: &Arc<Self>,
        spent: &Arc<Spent>,
        name: &str,
        entry: Pending,
    ) -> Result<Option<Departure>, StorageError> {
        if !self.promise(name) {
            entry.commit().await?;
            return Ok(None);
        }
        let (answers, spent) = (Arc::clone(self), Arc::clone(spent));
        let promise = Promise { answers, spent, name: name.to_owned(), entry: Some(entry) };
        Ok(Some(Departure::new(|| promise.keep())))
    }

    /// Whether the answer was surely not given: to be asked when the request that made it must be over.
    pub(super) fn was_never_given(&self, told: Told, name: &str) -> bool {
        match told {
            Told::ByNothing => false,
            Told::ByEntry => true,
            Told::ByLog(id) => self.log().is_some_and(|log| {
                if id == self.id {
                    // An answer may still be on its way out, however old its request.
                    return !lock(log).has(name);
                }
                let names = self.folder.as_ref().and_then(|folder| folder.read(id).ok());
                names.is_some_and(|names| !names.lines().any(|line| line == name))
            }),
        }
    }

    /// Whether the answer can be noted when it leaves: never without a log.
    fn promise(&self, name: &str) -> bool {
        let Some(log) = self.log() else { return false };
        let mut log = lock(log);
        log.ahead() < MOST_AHEAD && log.promise(name).is_ok()
    }

    fn note(&self, name: &str) {
        let noted = self.log().map_or(Ok(()), |log| lock(log).note(name));
        if let Err(error) = noted {
            // As long as this process lives, it knows.
            tracing::warn!(%error, name, "it could not be noted that a credential is handed out");
        }
    }

    fn withdraw(&self, name: &str) {
        if let Some(log) = self.log() {
            lock(log).withdraw(name);
        }
    }

    fn settle(&self, name: &str) {
        if let Some(log) = self.log() {
            lock(log).settle(name);
        }
    }

    fn log(&self) -> Option<&Mutex<Log>> {
        let begin = || Some(Mutex::new(self.folder.as_ref()?.begin(self.id).ok()?));
        self.log.get_or_init(begin).as_ref()
    }
}

impl Promise {
    /// The answer leaves. Its entry is spent: it goes behind its back, or when the next takes its place.
    fn keep(mut self) {
        let Some(entry) = self.entry.take() else { return };
        self.answers.note(&self.name);
        if sync_failpoint!("creds.noted") {
            return;
        }
        let spent = Arc::clone(&self.spent);
        spent.keep(entry, Box::new(move || self.answers.settle(&self.name)));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.entry.is_some() {
            self.answers.withdraw(&self.name);
        }
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
