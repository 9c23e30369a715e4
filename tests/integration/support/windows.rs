//! What names tell of creation windows, worked out here from what is stored and not by the engine's own code.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use openai_secrets::logical::InMemory;
use serde_json::Value;
use uuid::Uuid;

/// How many digits an id has in a name.
const WIDTH: usize = 5;

/// The ids of the stored windows, as names have them.
pub fn stored(storage: &InMemory) -> BTreeSet<String> {
    let entries = storage.snapshot().into_iter().filter(|entry| entry.key.starts_with("wal/"));
    let entries = entries.filter_map(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
    let windows = entries.filter(|entry| entry["type"] == "window");
    windows.map(|entry| id(entry["data"]["id"].as_str().expect("a window has an id"))).collect()
}

/// The id of the window that a name tells of, if it does.
pub fn of(name: &str) -> Option<&str> {
    let (front, _tag) = name.rsplit_once('-')?;
    let (_, stamp) = front.rsplit_once('-')?;
    (stamp.len() == 2 * WIDTH).then(|| &stamp[WIDTH..])
}

/// Where the ledger has a record of the credential of this name: at its end, or where what was revoked waits.
pub fn places(name: &str) -> [String; 2] {
    let minute = name.rsplit('-').nth(1).and_then(|stamp| i64::from_str_radix(stamp.get(..WIDTH)?, 36).ok());
    let minute = minute.unwrap_or_default();
    [format!("ledger/{:08}/{:02}/{name}", minute / 60, minute % 60), format!("ledger/00000000/00/{name}")]
}

/// What stands before the tag in the name of a credential that ends then, of the window with this id.
pub fn stamp(ends: DateTime<Utc>, window: Uuid) -> String {
    format!("{}{}", digits(u128::from(ends.timestamp().unsigned_abs()) / 60), id(&window.to_string()))
}

fn id(uuid: &str) -> String {
    digits(uuid.parse::<Uuid>().expect("the id is a UUID").as_u128())
}

/// The last digits of the number in base 36.
fn digits(mut number: u128) -> String {
    let mut digits = Vec::new();
    for _ in 0..WIDTH {
        digits.push(char::from_digit((number % 36) as u32, 36).expect("a digit"));
        number /= 36;
    }
    digits.into_iter().rev().collect()
}
