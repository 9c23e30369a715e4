//! What was handed out stays on record here until it is gone, found by its end without listing it all.
//!
//! Vault's lease is the owner of a credential; this ledger is for the day when Vault lost it (it died before it
//! recorded the lease, or was restored from a backup): what outlives its own end is removed by the tick.
//!
//! *Layout:* a record stands under the minute of its end. One whose end was asked for earlier, and could not be had at
//! once, moves to the minute 0, where it is due at once and before all others; so its place is known from its name.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::accounts::retry::RetryState;
use crate::engine::time::calendar;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{ApiKeyId, OrganizationId, ProjectId, ServiceAccountId};

/// What somebody got, and what ends it: kept with the lease and in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handed {
    /// The organization it lives in: another one's 404 proves nothing.
    pub organization_id: OrganizationId,
    /// The project it lives in.
    pub project_id: ProjectId,
    /// The account.
    pub service_account_id: ServiceAccountId,
    /// The key.
    pub api_key_id: ApiKeyId,
    /// Its unique name.
    pub name: String,
    /// Whether the account was made with it and goes with it.
    pub with_account: bool,
    /// The role or set it was handed out by.
    pub role: String,
    /// When the lease ends; it gives the place in the ledger.
    pub ends: DateTime<Utc>,
    /// When OpenAI ends the key by itself.
    pub expires: Option<DateTime<Utc>>,
    /// When it was made; releases before did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
}

/// One credential that was handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What is to be ended.
    #[serde(flatten)]
    pub handed: Handed,
    /// When its end was asked for, if that was before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<DateTime<Utc>>,
    /// How its removal fares since then.
    #[serde(flatten)]
    pub retry: RetryState,
}

impl Handed {
    /// Where its record stands until its end is asked for before its time.
    pub(in crate::engine) fn place(&self) -> String {
        place(self.ends, &self.name)
    }

    /// What OpenAI is asked about to end it.
    pub(in crate::engine) fn ids(&self) -> [&str; 2] {
        [self.service_account_id.as_str(), self.api_key_id.as_str()]
    }

    /// Whether OpenAI has ended the key by itself at `now`.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Record for Entry {
    const VERSION: u32 = 1;
}

impl Entry {
    /// The record of what was just handed out.
    pub(in crate::engine) fn new(handed: Handed) -> Self {
        Self { handed, asked: None, retry: RetryState::default() }
    }

    /// Since when it is to be removed.
    pub(in crate::engine) fn since(&self) -> DateTime<Utc> {
        self.asked.unwrap_or(self.handed.ends)
    }

    /// Its removal failed.
    pub(in crate::engine) fn failed(&mut self, error: &Error, now: DateTime<Utc>) {
        self.retry.failed_by(&self.handed.name, error, now, Duration::ZERO);
    }
}

/// So many names are listed at once. Vault lists a folder whole for each part of it, and all that was asked for at once
/// is in one: with small parts the work would grow by the square.
pub(in crate::engine) const PAGE: usize = 16_384;
/// So many records are read to find the oldest of what was asked for.
const FIRST_FEW: usize = 256;

/// From then on the minute of what was asked for has passed.
const ASKED_IS_DUE: DateTime<Utc> = DateTime::from_timestamp_nanos(60_000_000_000);

pub(in crate::engine) static LEDGER: Collection<Entry> = Collection::new("ledger/");

/// Where the record of a credential stands: by its end, under its own name.
pub(in crate::engine) fn place(ends: DateTime<Utc>, name: &str) -> String {
    calendar::place(ends, name)
}

/// The unique names of all that is on record, whatever its end. It lists all there is: not for a request.
pub(in crate::engine) async fn names(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    calendar::names(storage, LEDGER.prefix()).await
}

/// Places of all records, whatever their end; at most `most`.
pub(in crate::engine) async fn places(
    storage: &dyn Storage,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    calendar::due_after(storage, LEDGER.prefix(), DateTime::<Utc>::MAX_UTC, "", most).await
}

/// Since when what stands at this place has been due, as far as the place tells: for what was asked for it does not.
pub(in crate::engine) fn due_since(place: &str) -> Option<DateTime<Utc>> {
    calendar::minute_of(place).filter(|minute| *minute > DateTime::UNIX_EPOCH)
}

/// Where the record stands once its end was asked for before its time.
pub(in crate::engine) fn asked_place(name: &str) -> String {
    calendar::place(DateTime::UNIX_EPOCH, name)
}

/// Whether a credential of this name is on record that ends in the same minute as `ends`: two reads, in this order. A
/// record that moves is written at its new place, the minute 0, before it is deleted at its old one.
pub(in crate::engine) async fn is_recorded(
    storage: &dyn Storage,
    ends: DateTime<Utc>,
    name: &str,
) -> Result<bool, StorageError> {
    Ok(LEDGER.contains(storage, &place(ends, name)).await?
        || LEDGER.contains(storage, &asked_place(name)).await?)
}

/// Places of records that are to be removed at `now`, after the place `after`: what was asked for first, whatever the
/// time, then the oldest; at most `most`.
pub(in crate::engine) async fn ended(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    after: &str,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    let now = now.max(ASKED_IS_DUE);
    calendar::due_after(storage, LEDGER.prefix(), now, after, most).await
}

/// Credentials that have ended, or were revoked, and that are not known to be gone at OpenAI: how many, by the names of the
/// records alone, at most `most`; and since when the oldest is due. That is, for what was asked for, the oldest of the
/// first few.
pub(in crate::engine) async fn waiting(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<(usize, Option<DateTime<Utc>>), StorageError> {
    let (mut count, mut oldest, mut after) = (0, None, String::new());
    while count < most {
        let places = ended(storage, now, &after, PAGE.min(most - count)).await?;
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
    for place in places.iter().take(FIRST_FEW) {
        let since = match due_since(place) {
            Some(since) => return Ok(Some(oldest.map_or(since, |oldest| oldest.min(since)))),
            None => match LEDGER.get(storage, place).await {
                // It hides no other.
                Err(StorageError::Malformed { .. }) => None,
                entry => entry?.map(|entry| entry.since()),
            },
        };
        oldest = oldest.into_iter().chain(since).min();
    }
    Ok(oldest)
}
