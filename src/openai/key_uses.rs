//! Times of last use of keys. The client notes them from each list that somebody reads for another purpose; it makes no
//! call for them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{ApiKeyId, Client, KeyRecord};

/// Maximum number of noted keys. Beyond it, the keys that were not used for the longest time are forgotten: most of them no
/// longer exist.
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
        used.extend(keys.iter().filter_map(|key| Some((key.id.clone(), key.last_used_at?))));
        forget_oldest(&mut used);
    }

    fn forget(&self, key: &ApiKeyId) {
        self.used.lock().remove(key);
    }

    fn of(&self, key: &ApiKeyId) -> Option<DateTime<Utc>> {
        self.used.lock().get(key).copied()
    }
}

/// Forgets the oldest uses beyond the maximum.
fn forget_oldest(used: &mut HashMap<ApiKeyId, DateTime<Utc>>) {
    let mut excess = used.len().saturating_sub(MAX_KEYS);
    if excess == 0 {
        return;
    }
    let mut times: Vec<_> = used.values().copied().collect();
    let (_, last, _) = times.select_nth_unstable(excess - 1);
    used.retain(|_, at| {
        let is_kept = excess == 0 || *at > *last;
        excess -= usize::from(!is_kept);
        is_kept
    });
}

impl Client {
    /// Time of the last use of the key, as far as a list showed one.
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

    #[test]
    fn keys_that_are_used_no_more_make_room_for_others() {
        let uses = KeyUses::default();
        let old: Vec<_> = (0..MAX_KEYS).map(|number| record(&format!("old_{number}"), Some(1))).collect();
        uses.note(&old);
        uses.note(&[record("key_1", Some(10)), record("key_2", Some(20))]);
        let at = |id: &str| uses.of(&id.parse().unwrap()).map(|at| at.timestamp());
        assert_eq!((at("key_1"), at("key_2")), (Some(10), Some(20)));
        assert_eq!(uses.used.lock().len(), MAX_KEYS);
    }
}
