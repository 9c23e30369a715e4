//! Stores static roles, each with a marker under the minute in which a tick has to look at it, so that ten thousand
//! idle roles cost a tick the listing of a few folders.
//!
//! *Guarantees:* the record names its marker, and the marker is written before the record: a stored role that has
//! something ahead is never without one. A crash in between leaves one marker too many, which no record names; the
//! tick removes it when its minute comes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{STATIC_ROLES, StaticRole};
use crate::engine::failpoint::failpoint;
use crate::engine::{Error, calendar};
use crate::logical::{Collection, Record, Storage, StorageError};

/// A marker says all it has to say by its place.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {}

impl Record for Marker {
    const VERSION: u32 = 1;
}

static MARKERS: Collection<Marker> = Collection::new("static-due/");

/// Stores the role, with its marker where it belongs at `now`. If that fails, it may still have happened.
pub(in crate::engine) async fn store(
    storage: &dyn Storage,
    name: &str,
    role: &mut StaticRole,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let place = role.place(name, now)?;
    let before = std::mem::replace(&mut role.due, place);
    let moved = before != role.due;
    if let Some(place) = role.due.as_ref().filter(|_| moved) {
        MARKERS.put(storage, place, &Marker {}).await?;
        failpoint!("static.marked");
    }
    STATIC_ROLES.put(storage, name, role).await?;
    if let Some(before) = before.filter(|_| moved) {
        drop_marker(storage, &before).await;
    }
    Ok(())
}

/// Removes the record, then what leads to it.
pub(super) async fn remove(storage: &dyn Storage, name: &str, role: &StaticRole) -> Result<(), StorageError> {
    STATIC_ROLES.delete(storage, name).await?;
    if let Some(place) = &role.due {
        drop_marker(storage, place).await;
    }
    Ok(())
}

/// The markers whose minute has begun, earliest first, at most `most`.
pub(in crate::engine) async fn come(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    let in_a_minute = now + chrono::TimeDelta::minutes(1);
    calendar::due(storage, MARKERS.prefix(), in_a_minute, most).await
}

/// A marker that stays for now is removed as a stale one when its minute comes.
pub(in crate::engine) async fn drop_marker(storage: &dyn Storage, place: &str) {
    let _ = MARKERS.delete(storage, place).await;
}
