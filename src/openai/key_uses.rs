//! When keys were last used, as OpenAI's lists told it. The client notes it from each list that somebody reads for another
//! purpose; no call is made for it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{ApiKeyId, Client, KeyRecord};

/// Maximum number of keys that are noted. A list of more keys than that does not fill the memory.
const MAX_KEYS: usize = 10_000;

/// Times of last use by key.
#[derive(Debug, Default)]
pub(super) struct KeyUses {
    used: Mutex<HashMap<ApiKeyId, DateTime<Utc>>>,
}

impl KeyUses {
    /// Notes the uses that a page of a list shows.
    pub(super) fn note(&self, keys: &[KeyRecord]) {
        let mut used = self.used.lock();
        for (key, at) in keys.iter().filter_map(|key| Some((&key.id, key.last_used_at?))) {
            if used.len() < MAX_KEYS || used.contains_key(key) {
                used.insert(key.clone(), at);
            }
        }
    }

    fn forget(&self, key: &ApiKeyId) {
        self.used.lock().remove(key);
    }

    fn of(&self, key: &ApiKeyId) -> Option<DateTime<Utc>> {
        self.used.lock().get(key).copied()
    }
}

impl Client {
    /// When the key was last used, as far as a list has told it.
    pub fn last_use(&self, key: &ApiKeyId) -> Option<DateTime<Utc>> {
        self.key_uses().of(key)
    }

    /// The key is gone.
    pub(super) fn forget_use(&self, key: &ApiKeyId) {
        self.key_uses().forget(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(id: &str, used: Option<i64>) -> KeyRecord {
        serde_json::from_value(json!({"id": id, "created_at": 1, "last_used_at": used})).unwrap()
    }

    #[test]
    fn a_later_list_replaces_an_earlier_one_and_never_used_is_unknown() {
        let uses = KeyUses::default();
        uses.note(&[record("key_1", Some(10)), record("key_2", None)]);
        uses.note(&[record("key_1", Some(20))]);
        let at = |id: &str| uses.of(&id.parse().unwrap()).map(|at| at.timestamp());
        assert_eq!((at("key_1"), at("key_2"), at("key_3")), (Some(20), None, None));
        uses.forget(&"key_1".parse().unwrap());
        assert_eq!(at("key_1"), None);
    }

    #[test]
    fn a_long_list_does_not_fill_the_memory() {
        let uses = KeyUses::default();
        let many: Vec<_> =
            (0..MAX_KEYS + 10).map(|number| record(&format!("key_{number}"), Some(1))).collect();
        uses.note(&many);
        assert_eq!(uses.used.lock().len(), MAX_KEYS);
        uses.note(&[record("key_0", Some(2))]);
        assert_eq!(uses.of(&"key_0".parse().unwrap()).map(|at| at.timestamp()), Some(2));
    }
}
