//! What time it is. The engine decides by the wall clock; tests put a clock in its place that they move.

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Tells the time by which the engine decides what has ended and what is due.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now, by the clock that people set.
    fn now(&self) -> DateTime<Utc>;

    /// The time since some moment of this process, by a clock that nobody sets.
    fn monotonic(&self) -> Duration {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGINNING.elapsed()
    }

    /// Waits until so much time has passed.
    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
