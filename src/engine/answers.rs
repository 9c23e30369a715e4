//! Which credentials this process has answered with, noted where the end of the process does not take it: so the next
//! process can tell what was recorded and handed out from what was only recorded. Vault cannot be asked.
//!
//! A credential's write-ahead entry says what tells that its answer was given ([`Told`]):
//! - the log of the process that made it, a file: noted there right before the answer goes out, while the entry goes
//!   after it. A note is one write into the system's page cache, which outlives a killed process.
//! - where no such file can be had, the entry itself: it goes before the answer, so one that stands was not answered.
//!
//! *Guarantees:* what was answered is never called unanswered: the note comes first, and a log that is gone, of another
//! start of the machine (which may have lost its end), or not ours, tells nothing. What it says nothing about is kept
//! until its own end. A log holds names alone, no secret, and stays small.
//!
//! *Assumption:* nobody puts a running machine's memory back to an earlier moment.
//!
//! *Not told:* a process that ends after the note and before the server has read the answer: then the credential has no
//! lease, and stays until its own end.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failpoint::failpoint;
use crate::framework::Pending;
use crate::logical::StorageError;

/// Where Linux says which start of the machine this is; elsewhere there is no log.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const SUFFIX: &str = ".answers";
/// So many answers may be ahead of the end of their write-ahead entries; those after them wait for it.
const MOST_STANDING: usize = 1_000;
/// A log larger than this is written anew, with what still counts.
const COMPACT_ABOVE: u64 = 1 << 20;
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
}

#[derive(Debug)]
struct Log {
    file: File,
    size: u64,
    /// Those whose write-ahead entries may still stand.
    standing: HashSet<String>,
}

impl Answers {
    /// Without a log.
    pub fn unlogged() -> Self {
        Self { id: Uuid::new_v4(), folder: None, log: OnceLock::new() }
    }

    /// With a log in a folder of ours in this one, where that can be had.
    pub fn logged_in(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::unlogged() }
    }

    /// What will tell of the answer with a credential that is about to be made.
    pub(super) fn told(&self) -> Told {
        if self.log().is_some() { Told::ByLog(self.id) } else { Told::ByEntry }
    }

    /// Right before the answer. If this fails, it must not be given.
    pub(super) async fn give(
        self: &Arc<Self>,
        told: Told,
        name: &str,
        entry: Pending,
    ) -> Result<(), StorageError> {
        if told != Told::ByLog(self.id) || !self.note(name) {
            let ended = entry.commit().await;
            self.settle(name);
            return ended;
        }
        failpoint!("creds.noted");
        let (answers, name) = (Arc::clone(self), name.to_owned());
        let ending = tokio::spawn(async move {
            if entry.commit().await.is_ok() {
                answers.settle(&name);
            }
        });
        if self.is_far_ahead() {
            // It does not fail: an entry that stays costs a sweep one look.
            let _ = ending.await;
        }
        Ok(())
    }

    /// Whether the answer was surely not given: to be asked when the request that made it must be over.
    pub(super) fn was_never_given(&self, told: Told, name: &str) -> bool {
        match told {
            Told::ByNothing => false,
            Told::ByEntry => true,
            Told::ByLog(id) => self.log().is_some_and(|log| {
                if id == self.id {
                    return !lock(log).standing.contains(name);
                }
                self.read(id).is_ok_and(|names| !names.lines().any(|line| line == name))
            }),
        }
    }

    fn is_far_ahead(&self) -> bool {
        self.log().is_some_and(|log| lock(log).standing.len() > MOST_STANDING)
    }

    fn note(&self, name: &str) -> bool {
        let Some(log) = self.log() else { return false };
        let mut log = lock(log);
        // First here: whatever becomes of the write, this process never calls it unanswered.
        log.standing.insert(name.to_owned());
        // On a line of its own, also after one that a full disk cut off.
        log.append(&format!("\n{name}")).and_then(|()| self.compact(&mut log)).is_ok()
    }

    fn settle(&self, name: &str) {
        if let Some(log) = self.log() {
            lock(log).standing.remove(name);
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
        let log = self.begin_in(HashSet::new())?;
        if ours.uid() != log.file.metadata()?.uid() || ours.mode() & 0o077 != 0 || !ours.is_dir() {
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

    /// A log with these names, in place of what there was.
    fn begin_in(&self, standing: HashSet<String>) -> io::Result<Log> {
        let path = self.path(self.id)?;
        let beside = path.with_extension("new");
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&beside)?;
        let mut log = Log { file, size: 0, standing: HashSet::new() };
        log.append(boot()?.trim())?;
        for name in &standing {
            log.append(name)?;
        }
        fs::rename(&beside, &path)?;
        Ok(Log { standing, ..log })
    }

    fn compact(&self, log: &mut Log) -> io::Result<()> {
        if log.size > COMPACT_ABOVE {
            let standing = std::mem::take(&mut log.standing);
            match self.begin_in(standing.clone()) {
                Ok(new) => *log = new,
                Err(error) => {
                    log.standing = standing;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What another process noted since the machine started.
    fn read(&self, id: Uuid) -> io::Result<String> {
        let text = fs::read_to_string(self.path(id)?)?;
        match text.split_once('\n') {
            Some((start, names)) if start == boot()?.trim() => Ok(names.to_owned()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn path(&self, id: Uuid) -> io::Result<PathBuf> {
        Ok(self.folder()?.join(format!("{id}{SUFFIX}")))
    }

    fn folder(&self) -> io::Result<PathBuf> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.join("vault-plugin-secrets-openai"))
    }
}

impl Log {
    /// One write: a process that is killed leaves it whole or not at all.
    fn append(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        self.size += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

fn boot() -> io::Result<String> {
    fs::read_to_string(BOOT)
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;
    use crate::engine::issuer::CREATION;
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

    async fn give(answers: &Arc<Answers>, name: &str) -> Told {
        let told = answers.told();
        let (_, pending) = entry().await;
        answers.give(told, name, pending).await.unwrap();
        told
    }

    #[tokio::test]
    async fn another_process_knows_what_was_answered_and_what_was_not() {
        let folder = Folder::new();
        let told = give(&folder.process(), "a").await;
        let next = folder.process();
        assert!(matches!(told, Told::ByLog(_)));
        assert!(!next.was_never_given(told, "a"));
        assert!(next.was_never_given(told, "b"));
    }

    #[tokio::test]
    async fn a_note_that_was_cut_off_hides_no_later_one() {
        let folder = Folder::new();
        let process = folder.process();
        give(&process, "a").await;
        let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"\nof-a-full-di").unwrap();
        let told = give(&process, "b").await;
        assert!(!folder.process().was_never_given(told, "b"));
    }

    #[tokio::test]
    async fn the_process_itself_knows_while_the_entry_stands() {
        let folder = Folder::new();
        let answers = folder.process();
        let (memory, pending) = entry().await;
        memory.fail_delete("wal/");
        let told = answers.told();
        answers.give(told, "a", pending).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!answers.was_never_given(told, "a"));
        assert!(answers.was_never_given(told, "b"));
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
        answers.give(Told::ByEntry, "a", pending).await.unwrap();
        assert!(memory.keys().is_empty());
        let (memory, pending) = entry().await;
        memory.fail_delete("wal/");
        answers.give(Told::ByEntry, "a", pending).await.unwrap_err();
        assert!(answers.was_never_given(Told::ByEntry, "a"));
    }

    #[tokio::test]
    async fn a_folder_of_somebody_else_is_not_written_to() {
        let folder = Folder::new();
        DirBuilder::new().mode(0o777).create(folder.logs()).unwrap();
        fs::set_permissions(folder.logs(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(folder.process().told(), Told::ByEntry);
    }

    #[tokio::test]
    async fn a_log_that_grew_is_written_anew_with_what_counts() {
        let folder = Folder::new();
        let answers = folder.process();
        let told = answers.told();
        answers.note("stands");
        for number in 0..COMPACT_ABOVE / 40 + 2 {
            let name = format!("{number:0>40}");
            assert!(answers.note(&name));
            answers.settle(&name);
        }
        let logs: Vec<_> = fs::read_dir(folder.logs()).unwrap().flatten().collect();
        assert_eq!(logs.len(), 1);
        assert!(logs[0].metadata().unwrap().len() < COMPACT_ABOVE / 2);
        assert!(!folder.process().was_never_given(told, "stands"));
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
