//! The time at which this process first saw the name of a creation, by the monotonic clock.
//!
//! A look-up at OpenAI decides about a name only when the name has settled. Then no request of this node or of an
//! earlier leader still uses the name, and OpenAI's lists contain the created account or key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::failpoint::shortened;
use crate::engine::time::clock::Clock;

/// Vault ends a request after 90 s. OpenAI's lists have lagged by 20 s.
const SETTLES_AFTER: Duration = Duration::from_secs(180);

/// Longest time for which a name is kept, so that a process of months keeps few names. An expired name has to settle
/// again.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The names that this process knows.
#[derive(Debug)]
pub struct FirstSeen {
    clock: Arc<dyn Clock>,
    names: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Duration,
    /// True if this process asked OpenAI for the name.
    is_ours: bool,
}

/// The time after which a name has settled.
pub fn settles_after() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", SETTLES_AFTER)
}

impl FirstSeen {
    /// No names yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, names: Mutex::default() }
    }

    /// This process is about to ask OpenAI for the name.
    pub fn begin(&self, name: &str) {
        let at = self.clock.monotonic();
        let mut names = self.names.lock();
        names.retain(|_, seen| at.saturating_sub(seen.at) < MAX_AGE);
        names.insert(name.to_owned(), Seen { at, is_ours: true });
    }

    /// True if the name has settled. The time counts from [`FirstSeen::begin`], or else from the first call of this
    /// function or of [`FirstSeen::age`]. In the mount's last tick (`is_last`), each name that this process asked OpenAI for
    /// has settled.
    pub fn has_settled(&self, name: &str, is_last: bool) -> bool {
        is_last && self.seen(name).is_ours || self.age(name) >= settles_after()
    }

    /// The time for which this process has known the name, at least from this call on. The request of the creation began at
    /// least that long ago.
    pub fn age(&self, name: &str) -> Duration {
        self.clock.monotonic().saturating_sub(self.seen(name).at)
    }

    fn seen(&self, name: &str) -> Seen {
        let now = Seen { at: self.clock.monotonic(), is_ours: false };
        *self.names.lock().entry(name.to_owned()).or_insert(now)
    }

    /// The outcome of the name is known.
    pub fn forget(&self, name: &str) {
        self.names.lock().remove(name);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use chrono::{DateTime, Utc};

    use super::*;

    /// A clock that stands at so many seconds.
    #[derive(Debug, Default)]
    pub(in crate::engine::accounts) struct Seconds(pub(in crate::engine::accounts) AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> DateTime<Utc> {
            // The wall clock jumps.
            DateTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed) * 1_000)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_name_settles_three_minutes_after_this_process_knew_of_it() {
        let clock = Arc::new(Seconds::default());
        let names = FirstSeen::new(Arc::<Seconds>::clone(&clock));
        names.begin("ours");
        clock.0.store(100, Ordering::Relaxed);
        assert!(!names.has_settled("ours", false) && !names.has_settled("found", false));
        assert!(names.has_settled("ours", true) && !names.has_settled("found", true));
        clock.0.store(180, Ordering::Relaxed);
        assert!(names.has_settled("ours", false) && !names.has_settled("found", false));
        clock.0.store(280, Ordering::Relaxed);
        assert!(names.has_settled("found", false));
        assert_eq!(["ours", "found", "unknown"].map(|name| names.age(name).as_secs()), [280, 180, 0]);
        names.forget("found");
        assert!(!names.has_settled("found", false));
    }

    #[test]
    fn names_of_the_last_hour_alone_are_kept() {
        let clock = Arc::new(Seconds::default());
        let names = FirstSeen::new(Arc::<Seconds>::clone(&clock));
        for minute in 0..600 {
            clock.0.store(minute * 60, Ordering::Relaxed);
            names.begin(&format!("vault-admin-{minute}"));
        }
        assert_eq!(names.names.lock().len(), 60);
    }
}
