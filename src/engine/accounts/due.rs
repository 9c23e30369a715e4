//! The due index: an empty marker at `due/<hour>/<minute>/<owner>` for each owner with future work.
//!
//! *Guarantees:* a marker is written before the record that needs the marker. So a stored owner with future work always
//! has a marker. The record decides, and the marker is a hint: when the marker's minute comes, the worker deletes a
//! marker that no record needs. A marker may lie ahead of its owner's work only while the worker reconciles all owners,
//! and after a crash the next process reconciles all owners.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::owner::Owner;
use crate::engine::time::due_index;
use crate::logical::{Collection, Record, Storage, StorageError};

/// The content of a marker: only its place has a meaning.
#[derive(Debug, Serialize, Deserialize)]
struct Empty {}

impl Record for Empty {
    const VERSION: u32 = 1;
}

static MARKERS: Collection<Empty> = Collection::new("due/");
/// The index of static roles in earlier releases, by role name. Its markers are read and deleted.
const FORMER: &str = "static-due/";

/// A stored marker.
#[derive(Clone, Debug)]
pub struct Marker {
    /// The owner whose record is due.
    pub owner: Owner,
    prefix: &'static str,
    place: String,
}

/// Stores a marker: the worker reconciles the owner in the minute of `at`.
pub async fn mark(storage: &dyn Storage, owner: &Owner, at: DateTime<Utc>) -> Result<(), StorageError> {
    let place = due_index::place(at, &owner.to_string());
    if !MARKERS.contains(storage, &place).await? {
        MARKERS.put(storage, &place, &Empty {}).await?;
    }
    Ok(())
}

/// Replaces these markers of the owner by one at `next`, or deletes them.
pub async fn replace(
    storage: &dyn Storage,
    owner: &Owner,
    instead_of: &[Marker],
    next: Option<DateTime<Utc>>,
) -> Result<(), StorageError> {
    let mut stays = None;
    if let Some(next) = next {
        mark(storage, owner, next).await?;
        stays = Some(due_index::place(next, &owner.to_string()));
    }
    let stays = |marker: &Marker| marker.prefix == MARKERS.prefix() && Some(&marker.place) == stays.as_ref();
    for marker in instead_of.iter().filter(|marker| !stays(marker)) {
        // The next tick deletes a marker that this deletion misses.
        let _ = storage.delete(&format!("{}{}", marker.prefix, marker.place)).await;
    }
    Ok(())
}

/// The markers whose minute has begun at `now`, earliest first, at most `most`.
pub async fn markers(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<Marker>, StorageError> {
    // The index finds the minutes that are over.
    let minute_later = now + TimeDelta::minutes(1);
    let mut found = Vec::new();
    for prefix in [MARKERS.prefix(), FORMER] {
        let places = due_index::due(storage, prefix, minute_later, most).await?;
        found.extend(places.into_iter().filter_map(|place| Marker::at(prefix, place)));
    }
    found.sort_by(|one, other| one.place.cmp(&other.place));
    found.truncate(most);
    Ok(found)
}

impl Marker {
    fn at(prefix: &'static str, place: String) -> Option<Self> {
        let name = due_index::name_in(&place);
        let owner = if prefix == FORMER { Owner::StaticRole(name.to_owned()) } else { name.parse().ok()? };
        Some(Self { owner, prefix, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::{Entry, InMemory};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn role(name: &str) -> Owner {
        Owner::StaticRole(name.to_owned())
    }

    async fn owners(storage: &InMemory, now: i64) -> Vec<Owner> {
        markers(storage, at(now), 10).await.unwrap().into_iter().map(|marker| marker.owner).collect()
    }

    #[tokio::test]
    async fn an_owner_is_found_from_its_minute_on_until_its_marker_is_dropped() {
        let storage = InMemory::new();
        mark(&storage, &role("later"), at(7_300)).await.unwrap();
        mark(&storage, &role("soon"), at(130)).await.unwrap();
        mark(&storage, &Owner::Config, at(60)).await.unwrap();
        assert_eq!(storage.keys()[0], "due/00000000/01/config");
        assert_eq!(owners(&storage, 59).await, []);
        assert_eq!(owners(&storage, 119).await, [Owner::Config]);
        assert_eq!(owners(&storage, 120).await, [Owner::Config, role("soon")]);
        let found = markers(&storage, at(120), 10).await.unwrap();
        replace(&storage, &Owner::Config, &found[..1], None).await.unwrap();
        replace(&storage, &role("soon"), &found[1..], Some(at(9_000))).await.unwrap();
        assert_eq!(owners(&storage, 10_000).await, [role("later"), role("soon")]);
    }

    #[tokio::test]
    async fn a_marker_stays_where_the_next_look_is_due_in_the_same_minute() {
        let storage = InMemory::new();
        mark(&storage, &role("a"), at(65)).await.unwrap();
        let found = markers(&storage, at(70), 10).await.unwrap();
        replace(&storage, &role("a"), &found, Some(at(95))).await.unwrap();
        assert_eq!(owners(&storage, 95).await, [role("a")]);
    }

    #[tokio::test]
    async fn a_marker_that_stands_is_not_written_again() {
        let storage = InMemory::new();
        for _ in 0..3 {
            mark(&storage, &role("a"), at(60)).await.unwrap();
        }
        assert_eq!(storage.calls().puts, 1);
    }

    #[tokio::test]
    async fn a_marker_of_an_earlier_release_is_found_and_dropped() {
        let storage = InMemory::new();
        let key = format!("static-due/{}", due_index::place(at(60), "app"));
        storage.put(Entry { key, value: b"{\"version\":1}".to_vec(), seal_wrap: false }).await.unwrap();
        mark(&storage, &role("other"), at(0)).await.unwrap();
        let found = markers(&storage, at(200), 10).await.unwrap();
        assert_eq!(
            found.iter().map(|marker| marker.owner.clone()).collect::<Vec<_>>(),
            [role("other"), role("app")]
        );
        replace(&storage, &role("other"), &found[..1], None).await.unwrap();
        replace(&storage, &role("app"), &found[1..], Some(at(60))).await.unwrap();
        assert_eq!(storage.keys(), ["due/00000000/01/static-role:app"]);
    }
}
