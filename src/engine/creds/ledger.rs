//! The ledger: a record of each credential until OpenAI has ended the credential. Due records are found by their end,
//! without a list of the whole ledger.
//!
//! Vault's lease owns a credential. The ledger helps when Vault loses the lease: Vault died before it stored the lease,
//! or was restored from a backup. The tick removes credentials that outlive their end.
//!
//! *Layout:* a record is stored under the minute of its credential's end. An early revocation that cannot end the
//! credential at once moves the record to minute 0, which is due before all others. So a credential's end and name give
//! both places.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::accounts::retry::RetryState;
use crate::engine::time::due_index;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{ApiKeyId, OrganizationId, ProjectId, ServiceAccountId};

/// An issued credential with the ids that end it. Stored with the lease and in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credential {
    /// Id of its organization. A 404 from another organization proves nothing.
    pub organization_id: OrganizationId,
    /// Id of its project.
    pub project_id: ProjectId,
    /// Id of the account.
    pub service_account_id: ServiceAccountId,
    /// Id of the key.
    pub api_key_id: ApiKeyId,
    /// Unique name of the account, or of the key on a role's account.
    pub name: String,
    /// True if the account was created for the credential and is deleted with it.
    pub with_account: bool,
    /// Name of the role.
    pub role: String,
    /// Planned end: the time before the creation plus the ttl. The lease ends up to 90 s later. The planned end determines
    /// the place in the ledger.
    pub ends: DateTime<Utc>,
    /// Expiry of the key at OpenAI.
    pub expires: Option<DateTime<Utc>>,
    /// Time of the creation; early releases did not store one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
}

/// A ledger record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The credential.
    #[serde(flatten)]
    pub credential: Credential,
    /// Time of an early revocation.
    #[serde(default, rename = "asked", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// Retry state of the removal.
    #[serde(flatten)]
    pub retry: RetryState,
}

impl Credential {
    /// Place of its record, without an early revocation.
    pub(in crate::engine) fn place(&self) -> String {
        place(self.ends, &self.name)
    }

    /// Ids in the calls that end the credential.
    pub(in crate::engine) fn ids(&self) -> [&str; 2] {
        [self.service_account_id.as_str(), self.api_key_id.as_str()]
    }

    /// True if the key has expired at OpenAI.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Record for Entry {
    const VERSION: u32 = 1;
}

impl Entry {
    /// The record of a new credential.
    pub(in crate::engine) fn new(credential: Credential) -> Self {
        Self { credential, revoked_at: None, retry: RetryState::default() }
    }

    /// Time since when the removal has been due.
    pub(in crate::engine) fn since(&self) -> DateTime<Utc> {
        self.revoked_at.unwrap_or(self.credential.ends)
    }

    /// Records a failed removal.
    pub(in crate::engine) fn failed(&mut self, error: &Error, now: DateTime<Utc>) {
        self.retry.failed_by(&self.credential.name, error, now, Duration::ZERO);
    }
}

/// Number of names on a page. Vault reads the whole folder for each page, and all early revocations are in one folder.
/// Small pages would make the work grow with the square of the folder's size.
pub(in crate::engine) const PAGE: usize = 16_384;
/// Number of early revocations that are read to find the oldest one.
const MAX_READ: usize = 256;

/// Time at which minute 0, the place of early revocations, has passed.
const EARLY_IS_DUE: DateTime<Utc> = DateTime::from_timestamp_nanos(60_000_000_000);

pub(in crate::engine) static LEDGER: Collection<Entry> = Collection::new("ledger/");

/// Place of a record, by the credential's end and name.
pub(in crate::engine) fn place(ends: DateTime<Utc>, name: &str) -> String {
    due_index::place(ends, name)
}

/// Names of all credentials in the ledger. Lists the whole ledger, which is too slow for a request.
pub(in crate::engine) async fn names(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    due_index::names(storage, LEDGER.prefix()).await
}

/// At most `most` places of records with any end, after the place `after`.
pub(in crate::engine) async fn places(
    storage: &dyn Storage,
    after: &str,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    due(storage, DateTime::<Utc>::MAX_UTC, after, most).await
}

/// Due time encoded in the place; `None` for early revocations.
pub(in crate::engine) fn due_since(place: &str) -> Option<DateTime<Utc>> {
    due_index::minute_of(place).filter(|minute| *minute > DateTime::UNIX_EPOCH)
}

/// Time from which [`due`] finds the record at this place; `None` for early revocations, which are always due.
pub(in crate::engine) fn due_from(place: &str) -> Option<DateTime<Utc>> {
    due_since(place).map(|minute| minute + TimeDelta::minutes(1))
}

/// Place of the record after an early revocation.
pub(in crate::engine) fn early_place(name: &str) -> String {
    due_index::place(DateTime::UNIX_EPOCH, name)
}

/// True if the ledger has a credential of this name that ends in the minute of `ends`. Makes two reads in this order:
/// a record that moves is written at its new place, minute 0, before it is deleted at its old place.
pub(in crate::engine) async fn is_recorded(
    storage: &dyn Storage,
    ends: DateTime<Utc>,
    name: &str,
) -> Result<bool, StorageError> {
    Ok(LEDGER.contains(storage, &place(ends, name)).await?
        || LEDGER.contains(storage, &early_place(name)).await?)
}

/// At most `most` places of records that are due at `now`, after the place `after`: first all early revocations, then
/// the oldest records.
pub(in crate::engine) async fn due(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    after: &str,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    let now = now.max(EARLY_IS_DUE);
    due_index::due_after(storage, LEDGER.prefix(), now, after, most).await
}

/// Number of due records, at most `most`, and the due time of the oldest. Counts by the names alone. Of early
/// revocations, only the first [`MAX_READ`] are read.
pub(in crate::engine) async fn pending(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<(usize, Option<DateTime<Utc>>), StorageError> {
    let (mut count, mut oldest, mut after) = (0, None, String::new());
    while count < most {
        let places = due(storage, now, &after, PAGE.min(most - count)).await?;
        let Some(last) = places.last() else { break };
        if count == 0 {
            oldest = oldest_of(storage, &places).await?;
        }
        count += places.len();
        after.clone_from(last);
    }
    Ok((count, oldest))
}

async fn oldest_of(storage: &dyn Storage, places: &[String]) -> Result<Option<DateTime<Utc>>, StorageError> {
    let mut oldest: Option<DateTime<Utc>> = None;
    for place in places.iter().take(MAX_READ) {
        let since = match due_since(place) {
            Some(since) => return Ok(Some(oldest.map_or(since, |oldest| oldest.min(since)))),
            None => match LEDGER.get(storage, place).await {
                // An unreadable record does not hide others.
                Err(StorageError::Malformed { .. }) => None,
                entry => entry?.map(|entry| entry.since()),
            },
        };
        oldest = oldest.into_iter().chain(since).min();
    }
    Ok(oldest)
}
