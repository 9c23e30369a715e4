//! Everything that waits for OpenAI, besides the credentials of the ledger: one list for `revocations`, `health` and the
//! metrics. It is read from storage anew each time, so it is right at once after a failover.
//!
//! The due index leads to each owner that has something waiting, as the next try is never further ahead than
//! [`HORIZON`]. The write-ahead entries of creation windows are the other source.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::due;
use super::kind::{Mount, Waiting, What};
use crate::engine::time::backoff;
use crate::engine::{Engine, Error, KINDS, OVERDUE_ENTRIES, kind_of};
use crate::framework::WalLog;
use crate::logical::{Storage, StorageError};

/// The longest time that a next try is ahead.
pub const HORIZON: Duration = backoff::OUT_OF_REACH;
/// As many owners are read at once.
const CONCURRENCY: usize = 16;
/// More write-ahead entries are not read.
const MOST_ENTRIES: usize = 1_000;

/// All that waits at this time, by name; of owners at most `most`.
pub async fn all(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<Waiting>, Error> {
    let markers = due::come(storage, now + HORIZON, most).await?;
    let mut owners: BTreeSet<_> = markers.into_iter().map(|marker| marker.owner).collect();
    owners.extend(KINDS.iter().filter_map(|kind| kind.always()));
    let reads = owners.into_iter().filter_map(|owner| {
        let kind = kind_of(&owner)?;
        Some(async move { readable(kind.waiting(Mount { engine, storage }, &owner).await) }.boxed())
    });
    let reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    let mut waiting = reads.try_collect::<Vec<_>>().await?.concat();
    waiting.extend(of_entries(storage, now).await?);
    waiting.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(waiting)
}

/// A record that cannot be read hides no other.
fn readable(waiting: Result<Vec<Waiting>, Error>) -> Result<Vec<Waiting>, Error> {
    match waiting {
        Err(Error::Storage(StorageError::Malformed { .. })) => Ok(Vec::new()),
        waiting => waiting,
    }
}

/// Creations whose write-ahead entry should be gone by now. Those that share an entry count as one.
async fn of_entries(storage: &dyn Storage, now: DateTime<Utc>) -> Result<Vec<Waiting>, StorageError> {
    let log = WalLog::read(storage, MOST_ENTRIES).await?;
    Ok(OVERDUE_ENTRIES.iter().flat_map(|overdue| overdue(&log, now)).collect())
}

impl Waiting {
    /// Tells if `revocations` lists it.
    pub fn is_listed(&self) -> bool {
        self.what != What::Rotation
    }
}
