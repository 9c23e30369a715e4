//! Names under the minute they are due, so that what is due is found without listing all there is.
//!
//! *Layout:* `<prefix><hour>/<minute>/<name>`, hour counted from 1970 and minute within it. A look lists the few
//! hours, the minutes that have come, and only then names.

use chrono::{DateTime, Utc};

use crate::logical::{Storage, StorageError};

/// Where a name stands: hour, minute and name.
pub(super) fn place(due: DateTime<Utc>, name: &str) -> String {
    let minute = due.timestamp().max(0).div_euclid(60);
    format!("{:08}/{:02}/{name}", minute.div_euclid(60), minute.rem_euclid(60))
}

/// The name in a place.
pub(super) fn name_in(place: &str) -> &str {
    place.splitn(3, '/').nth(2).unwrap_or_default()
}

/// The places under `prefix` whose minute has wholly passed at `now`, earliest first, at most `most`.
pub(super) async fn due(
    storage: &dyn Storage,
    prefix: &str,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    for hour in storage.list(prefix).await? {
        let Some(begins) = number(&hour).and_then(|hour| hour.checked_mul(3600)) else { continue };
        if begins > now.timestamp() {
            break;
        }
        for minute in storage.list(&format!("{prefix}{hour}")).await? {
            let Some(number) = number(&minute) else { continue };
            if begins.saturating_add(number.saturating_mul(60)).saturating_add(60) > now.timestamp() {
                break;
            }
            let names = storage.list_page(&format!("{prefix}{hour}{minute}"), "", most - found.len()).await?;
            found.extend(names.into_iter().map(|name| format!("{hour}{minute}{name}")));
            if found.len() >= most {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The number that a folder's name is; what is none was not put there by us.
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
    async fn finds_what_is_due_earliest_first_and_nothing_else() {
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
    async fn a_look_does_not_list_what_is_not_due() {
        let storage = InMemory::new();
        for n in 0..500 {
            let key = format!("due/{}", place(at("2030-01-01T00:00:00Z"), &n.to_string()));
            storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        }
        assert!(due(&storage, "due/", at("2026-01-01T00:00:00Z"), 10).await.unwrap().is_empty());
        assert_eq!(storage.calls().lists, 1);
    }

    #[tokio::test]
    async fn foreign_names_are_passed_over() {
        let storage = with(&[("2026-03-01T12:00:30Z", "mine")]).await;
        for key in ["due/what/is/this", "due/00000001/x/y", "due/file"] {
            storage.put(Entry { key: key.into(), value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        }
        assert_eq!(due(&storage, "due/", at("2026-03-01T13:00:00Z"), 10).await.unwrap().len(), 1);
    }
}
