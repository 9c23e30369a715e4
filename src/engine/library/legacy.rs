//! Moves the records of earlier releases to their current places: a set's change at `library-change/<set>`, loans at
//! `library-loan/<set>/<account>`, and their markers at `library-due/`.
//!
//! `lending` also reads a loan at its old place. A write or deletion of a set takes over the set's change first.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::lending;
use super::members::Member;
use super::sets::{self, LibrarySet};
use crate::engine::accounts::making;
use crate::engine::time::due_index;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::ServiceAccountId;

/// The accounts of an interrupted change of a set.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    touched: Vec<Member>,
    due: DateTime<Utc>,
}

impl Record for Change {
    const VERSION: u32 = 1;
}

/// A marker of a loan, with the place of the loan.
#[derive(Debug, Serialize, Deserialize)]
struct Due {
    set: String,
    service_account_id: ServiceAccountId,
}

impl Record for Due {
    const VERSION: u32 = 1;
}

static CHANGES: Collection<Change> = Collection::new("library-change/");
static MARKERS: Collection<Due> = Collection::new("library-due/");

/// Maximum number of loans that one tick moves.
const MOST_PER_TICK: usize = 500;

/// Adds the change's accounts that the set does not name to the set's `ending`. The caller holds the set's lock.
pub(super) async fn take_over_change(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<(), StorageError> {
    let Some(change) = CHANGES.get(storage, name).await? else { return Ok(()) };
    let set = engine.library_sets.latest(storage, name).await?;
    let mut set = set.map_or_else(LibrarySet::tombstone, Arc::unwrap_or_clone);
    let left: Vec<Member> = change
        .touched
        .into_iter()
        .filter(|touched| set.accounts().all(|member| member.id != touched.id))
        .collect();
    let now = engine.now();
    set.add_to_ending(&left, now, change.due.min(now + making::longest_request()));
    if !set.is_over() {
        sets::put(engine, storage, name, &set).await?;
    }
    CHANGES.delete(storage, name).await
}

/// Part of the tick: moves the remaining records. An unreadable record, which a newer release may have written, stays and
/// does not stop the others.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let storage = &*tick.storage;
    for name in CHANGES.names(storage).await? {
        if tick.is_over() {
            return Ok(());
        }
        let _alone = sets::lock_set(engine, &name).await;
        StorageError::readable(take_over_change(engine, storage, &name).await)?;
    }
    for place in due_index::due(storage, MARKERS.prefix(), DateTime::<Utc>::MAX_UTC, MOST_PER_TICK).await? {
        if tick.is_over() {
            return Ok(());
        }
        if let Some(marker) = MARKERS.get(storage, &place).await? {
            let account = marker.service_account_id.as_str();
            let moved = lending::move_from_old_place(engine, storage, &marker.set, account).await;
            StorageError::readable(moved)?;
        }
        MARKERS.delete(storage, &place).await?;
    }
    Ok(())
}
