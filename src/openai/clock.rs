//! The clock that the client and its users share. Tests replace the clock.

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Wall-clock time, monotonic time and waiting.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall-clock time. An administrator may set this clock.
    fn now(&self) -> DateTime<Utc>;

    /// Time since a fixed moment of this process, by a clock that cannot be set.
    fn monotonic(&self) -> Duration {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGINNING.elapsed()
    }

    /// Waits until this time has passed.
    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
