//! How far the present run of `tidy` is, or what the last one did. In memory only: a new process begins anew.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::engine::Error;
use crate::engine::time::rfc3339;
use crate::logical::{Data, data};
use crate::openai::{AdminKeyRecord, ApiKeyId, KeyRecord, ProjectId, ServiceAccount, ServiceAccountId};

/// As many of the accounts and keys found are named.
const NAMED: usize = 1_000;

/// The one run there may be at a time, and what is known of it.
#[derive(Debug, Default)]
pub(in crate::engine) struct Tidying {
    status: parking_lot::Mutex<Status>,
}

#[derive(Debug, Default)]
struct Status {
    state: State,
    order: Order,
    started: Option<DateTime<Utc>>,
    finished: Option<DateTime<Utc>>,
    looked_at: u64,
    keys_looked_at: u64,
    found_count: u64,
    found: Vec<Stray>,
    removed: u64,
    failed: u64,
    last_error: Option<String>,
}

/// What a run was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    pub(super) dry_run: bool,
    pub(super) min_age: Duration,
}

/// What carries the tag.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    /// The project; none for an admin key.
    pub(super) project_id: Option<ProjectId>,
    pub(super) thing: Thing,
}

/// What it is.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    /// An account with all its keys, and one of them that somebody else made, if there is any.
    Account(ServiceAccount, Option<ApiKeyId>),
    /// A key alone, on this account.
    Key(KeyRecord, ServiceAccountId),
    /// An admin key.
    AdminKey(AdminKeyRecord),
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There was none in this process.
    #[default]
    Inactive,
    /// It is under way.
    Running,
    /// It came to its end; single failures are counted.
    Finished,
    /// It could not go on.
    Failed,
    /// The mount went away from this process.
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
    /// Begins a run; false if one is under way.
    pub(super) fn begin(&self, order: &Order, now: DateTime<Utc>) -> bool {
        let mut status = self.status.lock();
        if status.state == State::Running {
            return false;
        }
        *status = Status { state: State::Running, order: *order, started: Some(now), ..Status::default() };
        true
    }

    pub(super) fn looked_at(&self, accounts: usize) {
        self.status.lock().looked_at += accounts as u64;
    }

    pub(super) fn looked_at_keys(&self, keys: usize) {
        self.status.lock().keys_looked_at += keys as u64;
    }

    pub(super) fn found(&self, stray: &Stray) {
        let mut status = self.status.lock();
        status.found_count += 1;
        if status.found.len() < NAMED {
            status.found.push(stray.clone());
        }
    }

    pub(super) fn removed(&self) {
        self.status.lock().removed += 1;
    }

    /// One project, account or key could not be dealt with; the run goes on.
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

    /// What `tidy/status` answers.
    pub(super) fn view(&self) -> Data {
        let status = self.status.lock();
        let time = |time: Option<DateTime<Utc>>| time.map(rfc3339::text).unwrap_or_default();
        data([
            ("state", status.state.word().into()),
            ("started", time(status.started).into()),
            ("finished", time(status.finished).into()),
            ("dry_run", status.order.dry_run.into()),
            ("min_age", status.order.min_age.as_secs().into()),
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

fn view(stray: &Stray) -> Value {
    let project_id = stray.project_id.as_ref().map(ProjectId::as_str);
    match &stray.thing {
        Thing::Account(account, _) => json!({
            "kind": "account",
            "name": account.name,
            "id": account.id.as_str(),
            "project_id": project_id,
            "created_at": rfc3339::text(account.created_at),
        }),
        Thing::Key(key, account) => json!({
            "kind": "key",
            "name": key.name,
            "id": key.id.as_str(),
            "service_account_id": account.as_str(),
            "project_id": project_id,
            "created_at": rfc3339::text(key.created_at),
        }),
        Thing::AdminKey(key) => json!({
            "kind": "admin_key",
            "name": key.name,
            "id": key.id.as_str(),
            "created_at": rfc3339::text(key.created_at),
        }),
    }
}
