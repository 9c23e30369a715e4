//! In-memory storage that records every write and can crash or fail at any of them.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use openai_secrets::logical::{Entry, InMemory, Storage, StorageError};
use tokio::sync::Notify;

/// In-memory storage that records writes and injects crashes and faults.
#[derive(Debug, Default)]
pub struct Watched {
    inner: Arc<InMemory>,
    state: Mutex<State>,
    stopped: Notify,
    held: Notify,
    released: Notify,
}

/// A kind of access to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A requested write or deletion.
#[derive(Clone, Debug)]
pub enum Write {
    /// A write.
    Put(Entry),
    /// A deletion.
    Delete(String),
}

impl Write {
    fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }
}

/// The write at which a process crashes, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The write does not reach storage.
    Before(usize),
    /// The write reaches storage.
    After(usize),
}

/// The write that fails, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The write is refused.
    Refused(usize),
    /// The write succeeds but is reported as failed.
    Denied(usize),
}

/// Actual outcome of a write that is reported as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The write is committed.
    Done,
    /// The write is lost.
    Lost,
    /// [`Watched::commit_late_writes`] commits the write, as a new leader may do.
    Late,
    /// No failure is reported: it is written.
    Written,
}

#[derive(Debug, Default)]
struct State {
    unread: Vec<Write>,
    writes: usize,
    crash: Option<CrashPoint>,
    failure: Option<Failure>,
    outcomes: (String, usize, VecDeque<WriteOutcome>),
    /// Prefixes of the writable keys; `None` allows all keys.
    writable: Option<Vec<String>>,
    late: Vec<Write>,
    /// The access to hold, and the prefix of its key.
    hold: Option<(Access, String)>,
    /// The list that panics.
    panic: Option<String>,
}

impl Watched {
    pub fn new(inner: Arc<InMemory>) -> Self {
        Self { inner, ..Self::default() }
    }

    /// Holds the next access of this kind to a key with this prefix until [`Watched::release`].
    pub fn hold(&self, access: Access, prefix: &str) {
        self.state.lock().unwrap().hold = Some((access, prefix.to_owned()));
    }

    /// The next list of this prefix panics.
    pub fn panic_at_list(&self, prefix: &str) {
        self.state.lock().unwrap().panic = Some(prefix.to_owned());
    }

    /// Waits for the held access.
    pub async fn held(&self) {
        self.held.notified().await;
    }

    /// Continues the held access.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// The writes since the last call of this function.
    pub fn take_writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state.lock().unwrap().unread)
    }

    /// Restarts the count of writes. The process hangs at this write.
    pub fn crash_at(&self, crash: CrashPoint) {
        let mut state = self.state.lock().unwrap();
        (state.writes, state.crash) = (0, Some(crash));
    }

    /// Restarts the count of writes. This write fails.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.state.lock().unwrap();
        (state.writes, state.failure) = (0, Some(failure));
    }

    /// The next writes and deletions of keys with this prefix are reported as failed and have these outcomes.
    pub fn set_write_outcomes(&self, prefix: &str, outcomes: &[WriteOutcome]) {
        self.set_write_outcomes_after(prefix, 0, outcomes);
    }

    /// The same, after so many of them were done.
    pub fn set_write_outcomes_after(&self, prefix: &str, done: usize, outcomes: &[WriteOutcome]) {
        self.state.lock().unwrap().outcomes = (prefix.to_owned(), done, outcomes.iter().copied().collect());
    }

    /// Allows only writes of keys with these prefixes, as on a performance secondary; `None` allows all.
    pub fn restrict_writes(&self, to: Option<Vec<String>>) {
        self.state.lock().unwrap().writable = to;
    }

    fn check_writable(&self, key: &str) -> Result<(), StorageError> {
        let state = self.state.lock().unwrap();
        let refused = state
            .writable
            .as_ref()
            .is_some_and(|local| !local.iter().any(|prefix| key.starts_with(prefix.as_str())));
        if refused { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    /// Commits the late writes.
    pub async fn commit_late_writes(&self) {
        let late = std::mem::take(&mut self.state.lock().unwrap().late);
        for write in late {
            self.apply(write).await.unwrap();
        }
    }

    /// True if the write that was to fail came.
    pub fn take_failed(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let Some(Failure::Refused(at) | Failure::Denied(at)) = state.failure.take() else { return false };
        state.writes > at
    }

    /// Ends a crash. Answers the number of writes since [`Watched::crash_at`].
    pub fn recover(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.crash = None;
        state.writes
    }

    /// Waits until the process hangs at its crash point.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }

    fn note(&self, write: Write) -> usize {
        let mut state = self.state.lock().unwrap();
        state.unread.push(write);
        state.writes += 1;
        state.writes - 1
    }

    fn fail_at(&self, here: Failure) -> Result<(), StorageError> {
        if self.state.lock().unwrap().failure == Some(here) {
            return Err(StorageError::Failed("injected fault".to_owned()));
        }
        Ok(())
    }

    fn decided_outcome(&self, key: &str) -> Option<WriteOutcome> {
        let (prefix, done, outcomes) = &mut self.state.lock().unwrap().outcomes;
        if !key.starts_with(prefix.as_str()) {
            return None;
        }
        if *done > 0 {
            *done -= 1;
            return None;
        }
        outcomes.pop_front()
    }

    async fn hold_at(&self, access: Access, key: &str) {
        let is_meant =
            |(held, prefix): &mut (Access, String)| *held == access && key.starts_with(prefix.as_str());
        let hold = self.state.lock().unwrap().hold.take_if(is_meant);
        if hold.is_some() {
            self.held.notify_one();
            self.released.notified().await;
        }
    }

    async fn do_watched(&self, write: Write) -> Result<(), StorageError> {
        let number = self.note(write.clone());
        self.crash_if_at(CrashPoint::Before(number)).await;
        self.fail_at(Failure::Refused(number))?;
        let decided = self.decided_outcome(write.key());
        let outcome = match decided {
            Some(WriteOutcome::Lost) => Ok(()),
            Some(WriteOutcome::Late) => {
                self.state.lock().unwrap().late.push(write);
                Ok(())
            }
            Some(WriteOutcome::Done | WriteOutcome::Written) | None => self.apply(write).await,
        };
        self.crash_if_at(CrashPoint::After(number)).await;
        self.fail_at(Failure::Denied(number))?;
        if decided.is_some_and(|outcome| outcome != WriteOutcome::Written) {
            Err(StorageError::Failed("the leader stepped down".to_owned()))
        } else {
            outcome
        }
    }

    async fn apply(&self, write: Write) -> Result<(), StorageError> {
        match write {
            Write::Put(entry) => self.inner.put(entry).await,
            Write::Delete(key) => self.inner.delete(&key).await,
        }
    }

    async fn crash_if_at(&self, here: CrashPoint) {
        if self.state.lock().unwrap().crash == Some(here) {
            self.stopped.notify_one();
            pending::<()>().await;
        }
    }
}

/// Real storage is remote, so other tasks may run during each call.
async fn let_others_run() {
    tokio::task::yield_now().await;
}

#[async_trait]
impl Storage for Watched {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let_others_run().await;
        let panic = self.state.lock().unwrap().panic.take_if(|panic| panic == prefix);
        assert!(panic.is_none(), "injected panic");
        self.inner.list(prefix).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let_others_run().await;
        self.hold_at(Access::Read, key).await;
        self.inner.get(key).await
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let_others_run().await;
        self.check_writable(&entry.key)?;
        self.hold_at(Access::Write, &entry.key).await;
        self.do_watched(Write::Put(entry)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let_others_run().await;
        self.check_writable(key)?;
        self.do_watched(Write::Delete(key.to_owned())).await
    }
}
