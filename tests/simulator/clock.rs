//! The simulator's time: the machine's, plus what a test has moved it ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Everything that expires or is limited looks here.
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

    /// Unix seconds, as OpenAI writes every time.
    pub fn seconds(&self) -> u64 {
        self.now().as_secs()
    }

    /// Moves time ahead.
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Moves time back, at most to the machine's.
    pub fn move_back(&self, by: Duration) {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        self.ahead_ms.store(ahead.saturating_sub(by.as_millis() as u64), Ordering::Relaxed);
    }

    /// Back to the machine's time.
    pub fn reset(&self) {
        self.ahead_ms.store(0, Ordering::Relaxed);
    }
}
