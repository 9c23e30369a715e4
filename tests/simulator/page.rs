//! List pages: `after`, `limit`, `has_more`, `first_id`, `last_id`.
//!
//! A page can start after a deleted object. A cursor that is not an id is an error.

use serde_json::{Value, json};

use super::call::Call;
use super::id;
use super::refusal::Refusal;

/// One page: the first `limit` items. Every item has an `id`.
pub fn page(items: impl IntoIterator<Item = Value>, limit: usize) -> Value {
    let mut data: Vec<Value> = items.into_iter().take(limit + 1).collect();
    let has_more = data.len() > limit;
    data.truncate(limit);
    let id_of = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let (first_id, last_id) = (id_of(data.first()), id_of(data.last()));
    json!({"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more})
}

/// Merges existing and recently deleted objects by serial number, at most one page.
pub fn merged<'a, T>(
    there: impl Iterator<Item = (u64, &'a T)>,
    recently_deleted: impl Iterator<Item = (u64, &'a T)>,
    limit: usize,
) -> Vec<&'a T> {
    let mut all: Vec<(u64, &T)> = there.take(limit + 1).chain(recently_deleted.take(limit + 1)).collect();
    all.sort_by_key(|(serial, _)| *serial);
    all.into_iter().map(|(_, thing)| thing).collect()
}

/// Serial number of the `after` cursor.
pub fn cursor(call: &Call, prefix: &str) -> Result<Option<u64>, Refusal> {
    let read = |sent| id::serial(prefix, sent).ok_or_else(|| unknown_cursor("after", sent));
    call.parameter("after").map(read).transpose()
}

/// A page of objects whose ids have no serial number.
pub fn page_by_id(items: Vec<Value>, call: &Call, limit: usize) -> Result<Value, Refusal> {
    let at = |name: &str| {
        let found = |sent: &str| {
            items.iter().position(|item| item["id"] == sent).ok_or_else(|| unknown_cursor(name, sent))
        };
        call.parameter(name).map(found).transpose()
    };
    let start = at("after")?.map_or(0, |after| after + 1);
    let end = at("before")?.unwrap_or(items.len());
    Ok(page(items.into_iter().take(end).skip(start), limit))
}

fn unknown_cursor(name: &str, sent: &str) -> Refusal {
    Refusal::invalid(name, format!("Invalid '{name}': '{sent}' is not an object of this list."))
}
