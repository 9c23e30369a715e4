//! The simulator's clock: the time of this machine plus an offset that tests set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock for all expiry times and rate limits.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicU64,
}

impl Clock {
    /// Time since 1970.
    pub fn now(&self) -> Duration {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        real + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Unix seconds, OpenAI's format of times.
    pub fn seconds(&self) -> u64 {
        self.now().as_secs()
    }

    /// Moves the clock ahead.
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Moves the clock back, at most to the time of this machine.
    pub fn move_back(&self, by: Duration) {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        self.ahead_ms.store(ahead.saturating_sub(by.as_millis() as u64), Ordering::Relaxed);
    }

    /// Returns to the time of this machine.
    pub fn reset(&self) {
        self.ahead_ms.store(0, Ordering::Relaxed);
    }
}
