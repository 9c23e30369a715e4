//! The state of the current or last run of `tidy`. It is in memory only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::engine::Error;
use crate::engine::time::rfc3339;
use crate::logical::{Data, data};
use crate::openai::{AdminKeyRecord, KeyRecord, ProjectId, ServiceAccount, ServiceAccountId};

/// Number of found accounts and keys that the status lists.
const MAX_LISTED: usize = 1_000;

/// The current or last run. At most one run is active.
#[derive(Debug, Default)]
pub(in crate::engine) struct Tidying {
    status: parking_lot::Mutex<Status>,
}

#[derive(Debug, Default)]
struct Status {
    state: State,
    options: Options,
    started: Option<DateTime<Utc>>,
    finished: Option<DateTime<Utc>>,
    looked_at: u64,
    keys_looked_at: u64,
    found_count: u64,
    found: Vec<Candidate>,
    removed: u64,
    failed: u64,
    last_error: Option<String>,
}

/// The options of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) dry_run: bool,
    pub(super) min_age: Duration,
}

/// An account or key with the mount's tag.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The project; `None` for an admin key.
    pub(super) project_id: Option<ProjectId>,
    pub(super) object: Object,
}

/// The account or key of a candidate.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// An account with its unexpired keys.
    Account(ServiceAccount, Vec<KeyRecord>),
    /// A key on this account.
    Key(KeyRecord, ServiceAccountId),
    /// An admin key.
    AdminKey(AdminKeyRecord),
}

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// No run in this process yet.
    #[default]
    Inactive,
    /// The run is active.
    Running,
    /// The run is complete. Failures of single accounts, keys and projects are counted.
    Finished,
    /// The run was aborted by an error.
    Failed,
    /// This process unloaded the mount.
    Stopped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl Tidying {
    /// Begins a run. Returns false if another run is active.
    pub(super) fn begin(&self, options: &Options, now: DateTime<Utc>) -> bool {
        let mut status = self.status.lock();
        if status.state == State::Running {
            return false;
        }
        *status =
            Status { state: State::Running, options: *options, started: Some(now), ..Status::default() };
        true
    }

    pub(super) fn looked_at(&self, accounts: usize) {
        self.status.lock().looked_at += accounts as u64;
    }

    pub(super) fn looked_at_keys(&self, keys: usize) {
        self.status.lock().keys_looked_at += keys as u64;
    }

    pub(super) fn found(&self, candidate: &Candidate) {
        let mut status = self.status.lock();
        status.found_count += 1;
        if status.found.len() < MAX_LISTED {
            status.found.push(candidate.clone());
        }
    }

    pub(super) fn removed(&self) {
        self.status.lock().removed += 1;
    }

    /// Counts a failure of one project, account or key. The run continues.
    pub(super) fn failed(&self, error: &Error) {
        let mut status = self.status.lock();
        status.failed += 1;
        status.last_error = Some(error.to_string());
    }

    pub(super) fn end(&self, state: State, error: Option<&Error>, now: DateTime<Utc>) {
        let mut status = self.status.lock();
        status.state = state;
        status.finished = Some(now);
        if let Some(error) = error {
            status.last_error = Some(error.to_string());
        }
    }

    /// The answer of `tidy/status`.
    pub(super) fn view(&self) -> Data {
        let status = self.status.lock();
        let time = |time: Option<DateTime<Utc>>| time.map(rfc3339::text).unwrap_or_default();
        data([
            ("state", status.state.word().into()),
            ("started", time(status.started).into()),
            ("finished", time(status.finished).into()),
            ("dry_run", status.options.dry_run.into()),
            ("min_age", status.options.min_age.as_secs().into()),
            ("looked_at", status.looked_at.into()),
            ("keys_looked_at", status.keys_looked_at.into()),
            ("found_count", status.found_count.into()),
            ("found", status.found.iter().map(view).collect()),
            ("removed", status.removed.into()),
            ("failed", status.failed.into()),
            ("last_error", status.last_error.as_deref().unwrap_or_default().into()),
        ])
    }
}

fn view(candidate: &Candidate) -> Value {
    let project_id = candidate.project_id.as_ref().map(ProjectId::as_str);
    match &candidate.object {
        Object::Account(account, _) => json!({
            "kind": "account",
            "name": account.name,
            "id": account.id.as_str(),
            "project_id": project_id,
            "created_at": rfc3339::text(account.created_at),
        }),
        Object::Key(key, account) => json!({
            "kind": "key",
            "name": key.name,
            "id": key.id.as_str(),
            "service_account_id": account.as_str(),
            "project_id": project_id,
            "created_at": rfc3339::text(key.created_at),
        }),
        Object::AdminKey(key) => json!({
            "kind": "admin_key",
            "name": key.name,
            "id": key.id.as_str(),
            "created_at": rfc3339::text(key.created_at),
        }),
    }
}
