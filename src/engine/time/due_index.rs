//! Names in storage under the minute at which they are due. A reader finds due names without listing all names.
//!
//! *Layout:* `<prefix><hour>/<minute>/<name>`, with the hour since 1970 and the minute of that hour. A reader lists the
//! hours, then the minutes of past hours, then the names of past minutes.

use chrono::{DateTime, Utc};

use crate::logical::{Storage, StorageError};

/// The key of a name, without the prefix.
pub(in crate::engine) fn place(due: DateTime<Utc>, name: &str) -> String {
    let minute = due.timestamp().max(0).div_euclid(60);
    format!("{:08}/{:02}/{name}", minute.div_euclid(60), minute.rem_euclid(60))
}

/// The name in a key.
pub(in crate::engine) fn name_in(place: &str) -> &str {
    place.splitn(3, '/').nth(2).unwrap_or_default()
}

/// The start of a key's minute; `None` for a foreign key.
pub(in crate::engine) fn minute_of(place: &str) -> Option<DateTime<Utc>> {
    let mut numbers = place.splitn(3, '/').map(str::parse::<i64>);
    let (hour, minute) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    DateTime::from_timestamp(hour.checked_mul(60)?.checked_add(minute)?.checked_mul(60)?, 0)
}

/// Every name under `prefix`, due or not. This lists every minute, so no request may call it.
pub(in crate::engine) async fn names(
    storage: &dyn Storage,
    prefix: &str,
) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    for hour in storage.list_sorted(prefix).await? {
        if number(&hour).is_none() {
            continue;
        }
        for minute in storage.list_sorted(&format!("{prefix}{hour}")).await? {
            if number(&minute).is_some() {
                names.extend(storage.list_sorted(&format!("{prefix}{hour}{minute}")).await?);
            }
        }
    }
    Ok(names)
}

/// The first `most` keys under `prefix` whose minute is over at `now`, earliest first.
pub(in crate::engine) async fn due(
    storage: &dyn Storage,
    prefix: &str,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    due_after(storage, prefix, now, "", most).await
}

/// Like [`due`], for keys after `after`.
pub(in crate::engine) async fn due_after(
    storage: &dyn Storage,
    prefix: &str,
    now: DateTime<Utc>,
    after: &str,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    for hour in storage.list_sorted(prefix).await? {
        let Some(begins) = number(&hour).and_then(|hour| hour.checked_mul(3600)) else { continue };
        if begins > now.timestamp() {
            break;
        }
        if is_before(&hour, after) {
            continue;
        }
        for minute in storage.list_sorted(&format!("{prefix}{hour}")).await? {
            let Some(number) = number(&minute) else { continue };
            if begins.saturating_add(number.saturating_mul(60)).saturating_add(60) > now.timestamp() {
                break;
            }
            let folder = format!("{hour}{minute}");
            if is_before(&folder, after) {
                continue;
            }
            let passed = after.strip_prefix(folder.as_str()).unwrap_or_default();
            let most_here = most - found.len();
            let names = storage.list_page(&format!("{prefix}{folder}"), passed, most_here).await?;
            found.extend(names.into_iter().map(|name| format!("{hour}{minute}{name}")));
            if found.len() >= most {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// True if all keys of the folder come before this key.
fn is_before(folder: &str, place: &str) -> bool {
    folder < place && !place.starts_with(folder)
}

/// The number in a folder's name; `None` for a foreign folder.
fn number(folder: &str) -> Option<i64> {
    folder.strip_suffix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::{Entry, InMemory};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    async fn with(names: &[(&str, &str)]) -> InMemory {
        let storage = InMemory::new();
        for (due, name) in names {
            let key = format!("due/{}", place(at(due), name));
            storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        }
        storage
    }

    #[tokio::test]
    async fn only_due_names_are_found_earliest_first() {
        let storage = with(&[
            ("2026-03-01T12:00:30Z", "second"),
            ("2026-03-01T11:59:00Z", "first"),
            ("2026-03-01T12:01:00Z", "this minute"),
            ("2026-03-01T13:00:00Z", "next hour"),
        ])
        .await;
        let now = at("2026-03-01T12:01:59Z");
        let found = due(&storage, "due/", now, 10).await.unwrap();
        assert_eq!(found.iter().map(|place| name_in(place)).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(due(&storage, "due/", now, 1).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn later_hours_are_not_listed() {
        let storage = InMemory::new();
        for n in 0..500 {
            let key = format!("due/{}", place(at("2030-01-01T00:00:00Z"), &n.to_string()));
            storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        }
        assert!(due(&storage, "due/", at("2026-01-01T00:00:00Z"), 10).await.unwrap().is_empty());
        assert_eq!(storage.calls().lists, 1);
    }

    #[test]
    fn a_key_contains_its_minute() {
        let due = at("2026-03-01T12:01:59Z");
        assert_eq!(minute_of(&place(due, "a/b")), Some(at("2026-03-01T12:01:00Z")));
        for place in ["", "x/1/a", "1", "99999999999999999/1/a"] {
            assert_eq!(minute_of(place), None, "{place}");
        }
    }

    #[tokio::test]
    async fn a_second_search_continues_after_the_first() {
        let storage = with(&[
            ("1970-01-01T00:00:00Z", "asked"),
            ("2026-03-01T11:59:00Z", "a"),
            ("2026-03-01T11:59:30Z", "b"),
            ("2026-03-01T12:00:00Z", "a"),
        ])
        .await;
        let now = at("2026-03-01T13:00:00Z");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let found = due_after(&storage, "due/", now, &after, 1).await.unwrap();
            let Some(place) = found.first() else { break };
            seen.push(name_in(place).to_owned());
            after.clone_from(place);
        }
        assert_eq!(seen, ["asked", "a", "b", "a"]);
    }

    #[tokio::test]
    async fn foreign_keys_are_ignored() {
        let storage = with(&[("2026-03-01T12:00:30Z", "mine")]).await;
        for key in ["due/what/is/this", "due/00000001/x/y", "due/file"] {
            storage.put(Entry { key: key.into(), value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        }
        assert_eq!(due(&storage, "due/", at("2026-03-01T13:00:00Z"), 10).await.unwrap().len(), 1);
        assert_eq!(names(&storage, "due/").await.unwrap(), ["mine"]);
    }
}
