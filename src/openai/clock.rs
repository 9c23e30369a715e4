//! The clock that the client and its users share. Tests replace the clock.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};

/// Wall-clock time, monotonic time and waiting.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall-clock time. An administrator may set this clock.
    fn now(&self) -> DateTime<Utc>;

    /// Time since a fixed moment, by a clock that cannot be set. On Linux the clock runs while the machine is suspended.
    fn monotonic(&self) -> Duration {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let time = clock_gettime(CLOCK);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
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
