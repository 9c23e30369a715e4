//! All pending work except credentials of the ledger: one list for `revocations`, `health` and the metrics. Each call
//! reads storage, so the list is right at once after a failover.
//!
//! The due index leads to each owner with pending work, because the next try is never further ahead than [`HORIZON`].
//! The write-ahead entries of creation windows are the other source.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::due;
use super::kind::{Mount, Pending, PendingWork};
use crate::engine::time::backoff;
use crate::engine::{Engine, Error, KINDS, OVERDUE_ENTRIES, kind_of};
use crate::framework::WalLog;
use crate::logical::{Storage, StorageError};

/// Longest time until a next try.
pub const HORIZON: Duration = backoff::OUT_OF_REACH;
/// Number of owners that are read concurrently.
const CONCURRENCY: usize = 16;
/// Maximum number of write-ahead entries that are read.
const MOST_ENTRIES: usize = 1_000;

/// The work that is pending at this time, sorted by name; of at most `most` owners.
pub async fn all(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<Pending>, Error> {
    let markers = due::markers(storage, now + HORIZON, most).await?;
    let mut owners: BTreeSet<_> = markers.into_iter().map(|marker| marker.owner).collect();
    owners.extend(KINDS.iter().filter_map(|kind| kind.always()));
    let reads = owners.into_iter().map(|owner| {
        async move { readable(kind_of(&owner).pending(Mount { engine, storage }, &owner).await) }.boxed()
    });
    let reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    let mut pending = reads.try_collect::<Vec<_>>().await?.concat();
    pending.extend(of_entries(storage, now).await?);
    pending.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(pending)
}

/// An unreadable record does not hide others.
fn readable(pending: Result<Vec<Pending>, Error>) -> Result<Vec<Pending>, Error> {
    match pending {
        Err(Error::Storage(StorageError::Malformed { .. })) => Ok(Vec::new()),
        pending => pending,
    }
}

/// Creations whose write-ahead entry should be deleted by now. Creations that share an entry count once.
async fn of_entries(storage: &dyn Storage, now: DateTime<Utc>) -> Result<Vec<Pending>, StorageError> {
    let log = WalLog::read(storage, MOST_ENTRIES).await?;
    Ok(OVERDUE_ENTRIES.iter().flat_map(|overdue| overdue(&log, now)).collect())
}

impl Pending {
    /// True if `revocations` lists the work.
    pub fn is_listed(&self) -> bool {
        !matches!(self.work, PendingWork::Rotation | PendingWork::Change)
    }
}
