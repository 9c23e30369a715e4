//! What time it is. The engine decides by the wall clock; tests put a clock in its place that they move.

use std::fmt::Debug;

use chrono::{DateTime, Utc};

/// Tells the time by which the engine decides what has ended and what is due.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
