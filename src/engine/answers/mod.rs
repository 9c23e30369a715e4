//! Which credentials this process has answered with, noted where the end of the process does not take it: so the next
//! process can tell what was recorded and handed out from what was only recorded. Vault cannot be asked.
//!
//! A credential's write-ahead entry says what tells that its answer was given ([`Told`]):
//! - the log of the process that made it, a file: noted there as the answer leaves, right before the server can have it
//!   ([`Departure`](crate::logical::Departure)), while the entry goes after it.
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
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::folder::Folder;
use self::log::Log;

/// So many names may stand in write-ahead entries that the log tells of; those after them go after their entries.
const MOST_AHEAD: usize = 8_000;

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

impl Answers {
    /// Without a log.
    pub fn unlogged() -> Self {
        Self { id: Uuid::new_v4(), folder: None, log: OnceLock::new() }
    }

    /// With a log in a folder of ours in this one, where that can be had.
    pub fn logged_in(folder: PathBuf) -> Self {
        Self { folder: Some(Folder::within(&folder)), ..Self::unlogged() }
    }

    /// Before credentials of these names are made: what will tell of the answers with them. Only the log takes more than
    /// one.
    pub(super) fn promise(&self, names: &[impl AsRef<str>]) -> Told {
        let Some(log) = self.log() else { return Told::ByEntry };
        let mut log = lock(log);
        if log.ahead() + names.len() > MOST_AHEAD {
            return Told::ByEntry;
        }
        for (count, name) in names.iter().enumerate() {
            if log.promise(name.as_ref()).is_err() {
                for name in &names[..count] {
                    log.withdraw(name.as_ref());
                }
                return Told::ByEntry;
            }
        }
        Told::ByLog(self.id)
    }

    /// The answer leaves.
    pub(super) fn note(&self, name: &str) {
        let noted = self.log().map_or(Ok(()), |log| lock(log).note(name));
        if let Err(error) = noted {
            // As long as this process lives, it knows.
            tracing::warn!(%error, name, "it could not be noted that a credential is handed out");
        }
    }

    /// Nothing is made by these names.
    pub(super) fn withdraw(&self, names: &[impl AsRef<str>]) {
        if let Some(log) = self.log() {
            let mut log = lock(log);
            for name in names {
                log.withdraw(name.as_ref());
            }
        }
    }

    /// An answer that was promised, and perhaps ready, does not leave: what was made for it is a sweep's.
    pub(super) fn disown(&self, name: &str) {
        if let Some(log) = self.log() {
            lock(log).disown(name);
        }
    }

    /// What was made for an answer that did not leave is gone.
    pub(super) fn forget(&self, name: &str) {
        if let Some(log) = self.log() {
            lock(log).forget(name);
        }
    }

    /// The write-ahead entry of these is gone: nobody will ask.
    pub(super) fn settle(&self, names: &[impl AsRef<str>]) {
        if let Some(log) = self.log() {
            let mut log = lock(log);
            for name in names {
                log.settle(name.as_ref());
            }
        }
    }

    /// Whether the answer was surely not given: to be asked when the request that made it must be over.
    pub(super) fn was_never_given(&self, told: Told, name: &str) -> bool {
        match told {
            Told::ByNothing => false,
            Told::ByEntry => true,
            Told::ByLog(id) => self.log().is_some_and(|log| {
                if id == self.id {
                    // An answer may still be on its way out, however old its request.
                    return lock(log).is_unsent(name);
                }
                let names = self.folder.as_ref().and_then(|folder| folder.read(id).ok());
                names.is_some_and(|names| !names.lines().any(|line| line == name))
            }),
        }
    }

    /// How many names the log tells of.
    #[cfg(test)]
    pub(super) fn ahead(&self) -> usize {
        self.log().map_or(0, |log| lock(log).ahead())
    }

    fn log(&self) -> Option<&Mutex<Log>> {
        let begin = || Some(Mutex::new(self.folder.as_ref()?.begin(self.id).ok()?));
        self.log.get_or_init(begin).as_ref()
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
