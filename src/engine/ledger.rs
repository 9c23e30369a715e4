//! What was handed out stays on record here until it is gone, found by its end without listing it all.
//!
//! Vault's lease is the owner of a credential; this ledger is for the day when Vault lost it (it died before it
//! recorded the lease, or was restored from a backup): what outlives its own end is removed by the tick.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::calendar;
use super::issuer::Handed;
use crate::logical::{Collection, Record, Storage, StorageError};

/// One credential that was handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What is to be ended.
    #[serde(flatten)]
    pub handed: Handed,
    /// How often its removal failed since its end.
    #[serde(default)]
    pub failures: u32,
    /// Why it failed last, in OpenAI's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Not to be tried again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<DateTime<Utc>>,
}

impl Record for Entry {
    const VERSION: u32 = 1;
}

pub(super) static LEDGER: Collection<Entry> = Collection::new("ledger/");

/// Where the record of a credential stands: by its end, under its own name.
pub(super) fn place(ends: DateTime<Utc>, name: &str) -> String {
    calendar::place(ends, name)
}

/// Records whose end has passed at `now`, oldest first, at most `most`.
pub(super) async fn ended(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    calendar::due(storage, LEDGER.prefix(), now, most).await
}
