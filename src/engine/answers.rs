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

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer_log::{self, Log};
use super::failpoint::sync_failpoint;
use super::spent::Spent;
use crate::framework::Pending;
use crate::logical::{Departure, StorageError};

const SUFFIX: &str = ".answers";
/// So many answers may be ahead of the end of their write-ahead entries; those after them go after it.
const MOST_AHEAD: usize = 1_000;
/// No sweep comes so late that it would still need the log of a process that wrote nothing for so long.
const KEPT: Duration = Duration::from_secs(24 * 3600);

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
    folder: Option<PathBuf>,
    log: OnceLock<Option<Mutex<Log>>>,
    /// Write-ahead entries of what was answered with.
    spent: Arc<Spent>,
}

/// An answer that may leave. Dropped with its entry, it did not.
struct Promise {
    answers: Arc<Answers>,
    name: String,
    entry: Option<Pending>,
}

impl Answers {
    /// Without a log.
    pub fn unlogged() -> Self {
        Self { id: Uuid::new_v4(), folder: None, log: OnceLock::new(), spent: Arc::default() }
    }

    /// With a log in a folder of ours in this one, where that can be had.
    pub fn logged_in(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::unlogged() }
    }

    /// What will tell of the answer with a credential that is about to be made.
    pub(super) fn told(&self) -> Told {
        if self.log().is_some() { Told::ByLog(self.id) } else { Told::ByEntry }
    }

    /// Write-ahead entries whose place the next credential's may take.
    pub(super) fn spent(&self) -> &Spent {
        &self.spent
    }

    /// Before the answer, which must not be given if this fails. What is to be done when it leaves, if anything is, goes
    /// with it.
    pub(super) async fn give(
        self: &Arc<Self>,
        name: &str,
        entry: Pending,
    ) -> Result<Option<Departure>, StorageError> {
        if !self.promise(name) {
            entry.commit().await?;
            return Ok(None);
        }
        let promise = Promise { answers: Arc::clone(self), name: name.to_owned(), entry: Some(entry) };
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
                self.read(id).is_ok_and(|names| !names.lines().any(|line| line == name))
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
        self.log.get_or_init(|| self.begin().ok().map(Mutex::new)).as_ref()
    }

    /// The log, empty. What others left long ago goes.
    fn begin(&self) -> io::Result<Log> {
        let folder = self.folder()?;
        if !folder.is_dir() {
            DirBuilder::new().mode(0o700).create(&folder)?;
        }
        let ours = fs::symlink_metadata(&folder)?;
        let log = Log::begin(self.path(self.id)?)?;
        if ours.uid() != log.owner()? || ours.mode() & 0o077 != 0 || !ours.is_dir() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        for other in fs::read_dir(&folder)?.flatten() {
            let age = other.metadata().and_then(|other| other.modified()).ok();
            if age.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > KEPT) {
                // It only takes room.
                drop(fs::remove_file(other.path()));
            }
        }
        Ok(log)
    }

    /// What another process noted.
    fn read(&self, id: Uuid) -> io::Result<String> {
        answer_log::read(&self.path(id)?)
    }

    fn path(&self, id: Uuid) -> io::Result<PathBuf> {
        Ok(self.folder()?.join(format!("{id}{SUFFIX}")))
    }

    fn folder(&self) -> io::Result<PathBuf> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.join("vault-plugin-secrets-openai"))
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
        let spent = Arc::clone(&self.answers.spent);
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;
    use crate::engine::answer_log::COMPACT_ABOVE;
    use crate::engine::issuer::CREATION;
    use crate::engine::spent;
    use crate::logical::{InMemory, Storage};

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// What a process in this folder knows.
        fn process(&self) -> Arc<Answers> {
            Arc::new(Answers::logged_in(self.0.path().to_owned()))
        }

        fn logs(&self) -> PathBuf {
            self.0.path().join("vault-plugin-secrets-openai")
        }
    }

    /// An entry, and the storage that it stands in.
    async fn entry() -> (Arc<InMemory>, Pending) {
        let memory = Arc::new(InMemory::new());
        let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&memory);
        let creation = serde_json::from_value(serde_json::json!({
            "organization_id": "org-1", "project_id": "proj_1", "name": "a", "owner": {"ledger": "1/1/a"},
        }));
        let pending = CREATION.begin(&storage, &creation.unwrap()).await.unwrap();
        (memory, pending)
    }

    /// An answer that is ready; what its entry stood in.
    async fn ready(answers: &Arc<Answers>, name: &str) -> (Told, Departure, Arc<InMemory>) {
        let told = answers.told();
        let (memory, pending) = entry().await;
        (told, answers.give(name, pending).await.unwrap().unwrap(), memory)
    }

    /// An answer that leaves.
    async fn give(answers: &Arc<Answers>, name: &str) -> Told {
        let (told, departure, _) = ready(answers, name).await;
        departure.leave();
        told
    }

    #[tokio::test]
    async fn another_process_knows_what_left_and_what_did_not() {
        let folder = Folder::new();
        let process = folder.process();
        let told = give(&process, "a").await;
        let (_, _waits, _) = ready(&process, "waits").await;
        let next = folder.process();
        assert!(matches!(told, Told::ByLog(_)));
        assert!(!next.was_never_given(told, "a"));
        assert!(next.was_never_given(told, "b"));
        assert!(next.was_never_given(told, "waits"));
    }

    #[tokio::test]
    async fn a_note_that_was_cut_short_names_nobody_and_hides_no_later_one() {
        let folder = Folder::new();
        let process = folder.process();
        let (told, _cut_short, _) = ready(&process, "cut-short").await;
        let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
        let place = fs::read_to_string(&path).unwrap().find("\n\n").unwrap() as u64 + 1;
        File::options().write(true).open(path).unwrap().write_all_at(b"cut-", place).unwrap();
        give(&process, "b").await;
        assert!(!folder.process().was_never_given(told, "b"));
        assert!(folder.process().was_never_given(told, "cut-short"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_process_itself_knows_while_the_entry_stands() {
        let folder = Folder::new();
        let answers = folder.process();
        let (told, departure, memory) = ready(&answers, "a").await;
        memory.fail_delete("wal/");
        departure.leave();
        tokio::time::sleep(spent::IDLE * 3).await;
        assert_eq!(memory.keys().len(), 1);
        assert!(!answers.was_never_given(told, "a"));
        assert!(answers.was_never_given(told, "b"));
    }

    #[tokio::test]
    async fn an_answer_that_may_still_leave_counts_as_given_until_it_is_dropped() {
        let folder = Folder::new();
        let answers = folder.process();
        let (told, departure, memory) = ready(&answers, "a").await;
        assert!(!answers.was_never_given(told, "a"));
        drop(departure);
        tokio::task::yield_now().await;
        assert!(answers.was_never_given(told, "a"));
        assert_eq!(memory.keys().len(), 1, "the sweep is to find it");
    }

    #[tokio::test(start_paused = true)]
    async fn the_entry_goes_after_an_answer_that_left() {
        let folder = Folder::new();
        let (_, departure, memory) = ready(&folder.process(), "a").await;
        assert_eq!(memory.keys().len(), 1);
        departure.leave();
        tokio::time::sleep(spent::IDLE * 3).await;
        assert!(memory.keys().is_empty());
    }

    #[tokio::test]
    async fn too_many_answers_at_once_wait_for_their_entries_to_go() {
        let folder = Folder::new();
        let answers = folder.process();
        let mut on_their_way = Vec::new();
        for number in 0..MOST_AHEAD {
            on_their_way.push(ready(&answers, &number.to_string()).await);
        }
        let (memory, pending) = entry().await;
        assert!(answers.give("a", pending).await.unwrap().is_none());
        assert!(memory.keys().is_empty());
        on_their_way.pop();
        drop(ready(&answers, "b").await);
    }

    #[tokio::test]
    async fn a_log_that_tells_nothing_leaves_everything() {
        let folder = Folder::new();
        let told = give(&folder.process(), "a").await;
        let next = folder.process();
        let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
        fs::write(&path, "another-start\na\n").unwrap();
        assert!(!next.was_never_given(told, "b"), "the machine was started anew");
        fs::remove_file(&path).unwrap();
        assert!(!next.was_never_given(told, "b"), "the log is gone");
        let elsewhere_folder = Folder::new();
        let elsewhere = elsewhere_folder.process();
        assert!(!elsewhere.was_never_given(told, "b"), "another machine");
        assert!(!Answers::unlogged().was_never_given(told, "b"), "no logs here");
        assert!(!next.was_never_given(Told::ByNothing, "b"), "an entry of an older version");
    }

    #[tokio::test]
    async fn without_a_log_the_entry_goes_before_the_answer() {
        let answers = Arc::new(Answers::unlogged());
        assert_eq!(answers.told(), Told::ByEntry);
        let (memory, pending) = entry().await;
        answers.give("a", pending).await.unwrap();
        assert!(memory.keys().is_empty());
        let (memory, pending) = entry().await;
        memory.fail_delete("wal/");
        answers.give("a", pending).await.unwrap_err();
        assert!(answers.was_never_given(Told::ByEntry, "a"));
    }

    #[tokio::test]
    async fn a_folder_of_somebody_else_is_not_written_to() {
        let folder = Folder::new();
        DirBuilder::new().mode(0o777).create(folder.logs()).unwrap();
        fs::set_permissions(folder.logs(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(folder.process().told(), Told::ByEntry);
    }

    /// As many as it takes to have the log written anew.
    fn fill(answers: &Arc<Answers>) {
        for number in 0..COMPACT_ABOVE / 40 + 2 {
            let name = format!("{number:0>40}");
            if answers.promise(&name) {
                answers.note(&name);
                answers.settle(&name);
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_grew_is_written_anew_with_what_counts() {
        let folder = Folder::new();
        let answers = folder.process();
        let told = answers.told();
        for name in ["stands", "waits"] {
            assert!(answers.promise(name));
        }
        answers.note("stands");
        fill(&answers);
        let logs: Vec<_> = fs::read_dir(folder.logs()).unwrap().flatten().collect();
        assert_eq!(logs.len(), 1);
        assert!(logs[0].metadata().unwrap().len() < COMPACT_ABOVE / 2);
        assert!(!folder.process().was_never_given(told, "stands"));
        assert!(folder.process().was_never_given(told, "waits"));
        let told = give(&answers, "after").await;
        answers.note("waits");
        for name in ["stands", "waits", "after"] {
            assert!(!folder.process().was_never_given(told, name), "{name}");
        }
        assert!(folder.process().was_never_given(told, "another"), "the log tells nothing");
    }

    #[tokio::test]
    async fn where_no_room_can_be_had_the_entry_goes_before_the_answer() {
        let folder = Folder::new();
        let answers = folder.process();
        assert!(matches!(answers.told(), Told::ByLog(_)));
        fs::remove_dir_all(folder.logs()).unwrap();
        fill(&answers);
        let (memory, pending) = entry().await;
        assert!(answers.give("a", pending).await.unwrap().is_none());
        assert!(memory.keys().is_empty());
    }

    #[tokio::test]
    async fn old_logs_go() {
        let folder = Folder::new();
        give(&folder.process(), "a").await;
        let old = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
        let file = File::options().append(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - KEPT * 2).unwrap();
        folder.process().told();
        assert!(!old.exists());
    }
}
