//! The current time, by this machine's clock and by OpenAI's.
//!
//! *Guarantee:* a wrong clock of this machine neither expires anything early nor stops any work. A stored expiry counts
//! from the later clock (`Times::latest`) and is past when both clocks say so (`Times::certain`). All other times follow
//! OpenAI's clock if the clocks differ (`Times::now`).
//!
//! OpenAI's time is the `Date` of its last response to this process, plus the monotonic time since then. The result is
//! never ahead of OpenAI's clock: a response takes time to arrive, and a monotonic clock may stop while the machine
//! sleeps. If the endpoint never sends a `Date`, this machine's clock alone decides.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

pub use crate::openai::{Clock, WallClock};

/// The time by both clocks.
#[derive(Debug)]
pub(in crate::engine) struct Times {
    clock: Arc<dyn Clock>,
    openai: Mutex<Option<Reading>>,
}

/// The last reading of OpenAI's clock.
#[derive(Clone, Copy, Debug)]
struct Reading {
    date: DateTime<Utc>,
    /// True if the date comes from a response; false if it is this machine's time for want of one.
    is_openais: bool,
    /// Arrival of the response, by the monotonic clock.
    arrived: Duration,
}

/// Largest difference at which the two clocks count as equal.
const TOLERANCE: TimeDelta = TimeDelta::seconds(60);
/// Largest difference between two dates in whole seconds that may mean the same moment.
const WHOLE_SECONDS: TimeDelta = TimeDelta::seconds(2);
/// Age from which a reading is old.
const MAX_AGE: Duration = Duration::from_secs(600);

impl Times {
    /// Times by this clock, without a reading of OpenAI's clock.
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, openai: Mutex::default() }
    }

    /// The current time: by this machine's clock, or by OpenAI's if the clocks differ.
    pub(in crate::engine) fn now(&self) -> DateTime<Utc> {
        agreed(self.clock.now(), self.openai())
    }

    /// The time of a token, which OpenAI compares with its own clock: by this machine's clock, or by OpenAI's if the clocks
    /// differ by more than `tolerance`.
    pub(in crate::engine) fn of_token(&self, tolerance: TimeDelta) -> DateTime<Utc> {
        within(tolerance, self.clock.now(), self.openai())
    }

    /// Records a successful response with its `Date`, if it had one, and answers the current time.
    pub(in crate::engine) fn answered(&self, date: Option<DateTime<Utc>>) -> DateTime<Utc> {
        // Each clock is read once: this runs with every response.
        let (now, arrived) = (self.clock.now(), self.clock.monotonic());
        let mut reading = self.openai.lock();
        if let Some(date) = date {
            // A date has no fraction of a second, so a later one may seem to be earlier.
            let before = reading.and_then(|reading| reading.at(arrived));
            let before = before.filter(|before| *before > date && *before - date < WHOLE_SECONDS);
            *reading = Some(Reading { date: before.unwrap_or(date), is_openais: true, arrived });
        } else if reading.is_none_or(|before| !before.is_openais) {
            *reading = Some(Reading { date: now, is_openais: false, arrived });
        }
        agreed(now, reading.and_then(|reading| reading.at(arrived)))
    }

    /// True if `is_due` is true for both clocks. False while OpenAI's time is unknown.
    pub(in crate::engine) fn agree<E>(
        &self,
        is_due: impl Fn(DateTime<Utc>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (now, Some(openai)) = (self.clock.now(), self.openai()) else { return Ok(false) };
        Ok(is_due(now)? && ((now - openai).abs() <= TOLERANCE || is_due(openai)?))
    }

    /// The earlier of both clocks: every earlier moment has passed. 1970 while OpenAI's time is unknown.
    pub(in crate::engine) fn certain(&self) -> DateTime<Utc> {
        self.openai().map_or(DateTime::UNIX_EPOCH, |openai| openai.min(self.clock.now()))
    }

    /// The later of both clocks: a duration that counts from this time is never cut short.
    pub(in crate::engine) fn latest(&self) -> DateTime<Utc> {
        self.openai().map_or_else(|| self.clock.now(), |openai| openai.max(self.clock.now()))
    }

    /// True if OpenAI's clock must be read: its time is unknown, or it is behind this machine's clock and the reading is
    /// old.
    pub(in crate::engine) fn are_in_doubt(&self) -> bool {
        let Some(openai) = self.openai() else { return true };
        let since = self.openai.lock().map_or(Duration::ZERO, |reading| reading.arrived);
        self.clock.now() - openai > TOLERANCE && self.clock.monotonic().saturating_sub(since) > MAX_AGE
    }

    fn openai(&self) -> Option<DateTime<Utc>> {
        let reading = (*self.openai.lock())?;
        reading.at(self.clock.monotonic())
    }
}

impl Reading {
    /// OpenAI's time at this time of the monotonic clock.
    fn at(self, monotonic: Duration) -> Option<DateTime<Utc>> {
        self.date.checked_add_signed(TimeDelta::from_std(monotonic.saturating_sub(self.arrived)).ok()?)
    }
}

/// This machine's time, or OpenAI's if the two differ.
fn agreed(now: DateTime<Utc>, openai: Option<DateTime<Utc>>) -> DateTime<Utc> {
    within(TOLERANCE, now, openai)
}

/// This machine's time, or OpenAI's if the two differ by more than this.
fn within(tolerance: TimeDelta, now: DateTime<Utc>, openai: Option<DateTime<Utc>>) -> DateTime<Utc> {
    openai.filter(|openai| (now - *openai).abs() > tolerance).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Seconds of the wall clock and of the monotonic clock.
    #[derive(Debug, Default)]
    struct TestClock {
        wall: AtomicI64,
        monotonic: AtomicI64,
    }

    impl Clock for TestClock {
        fn now(&self) -> DateTime<Utc> {
            at(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.monotonic.load(Ordering::Relaxed).unsigned_abs())
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn all(times: &Times) -> [DateTime<Utc>; 3] {
        [times.certain(), times.now(), times.latest()]
    }

    fn set(clock: &TestClock, wall: i64, monotonic: i64) {
        clock.wall.store(wall, Ordering::Relaxed);
        clock.monotonic.store(monotonic, Ordering::Relaxed);
    }

    #[test]
    fn an_expiry_takes_both_clocks_and_the_current_time_is_openais() {
        let clock = Arc::new(TestClock::default());
        let times = Times::new(Arc::<TestClock>::clone(&clock));
        set(&clock, 9_000, 5);
        assert_eq!(all(&times), [0, 9_000, 9_000].map(at), "OpenAI's time is unknown");
        times.answered(Some(at(1_000)));
        assert_eq!(all(&times), [1_000, 1_000, 9_000].map(at));
        set(&clock, 900, 95);
        assert_eq!(all(&times), [900, 1_090, 1_090].map(at));
        times.answered(Some(at(1_089)));
        assert_eq!(all(&times), [900, 1_090, 1_090].map(at), "whole seconds do not set the time back");
        set(&clock, 1_750, 700);
        assert_eq!(all(&times), [1_695, 1_750, 1_750].map(at), "a small difference is tolerated");
    }

    #[test]
    fn openais_clock_is_in_doubt_if_unknown_or_if_behind_with_an_old_reading() {
        let clock = Arc::new(TestClock::default());
        let times = Times::new(Arc::<TestClock>::clone(&clock));
        assert!(times.are_in_doubt());
        times.answered(Some(at(0)));
        for (wall, monotonic, in_doubt) in
            [(9_000, 5, false), (9_000, 601, true), (660, 601, false), (5, 601, false)]
        {
            set(&clock, wall, monotonic);
            assert_eq!(times.are_in_doubt(), in_doubt, "{wall} {monotonic}");
        }
    }

    #[test]
    fn without_a_date_the_machines_clock_decides() {
        let clock = Arc::new(TestClock::default());
        let times = Times::new(Arc::<TestClock>::clone(&clock));
        set(&clock, 9_000, 5);
        times.answered(None);
        assert_eq!(all(&times), [9_000; 3].map(at));
        times.answered(Some(at(1_000)));
        times.answered(None);
        assert_eq!(all(&times), [1_000, 1_000, 9_000].map(at), "an earlier date still counts");
    }

    #[test]
    fn work_is_due_when_both_clocks_agree() {
        let clock = Arc::new(TestClock::default());
        let times = Times::new(Arc::<TestClock>::clone(&clock));
        let due = |times: &Times| times.agree(|now| Ok::<_, ()>(now >= at(500)));
        set(&clock, 600, 0);
        assert_eq!(due(&times), Ok(false), "OpenAI's time is unknown");
        for (wall, openai, is_due) in
            [(600, 400, false), (400, 600, false), (600, 600, true), (500, 499, true)]
        {
            set(&clock, wall, 0);
            times.answered(Some(at(openai)));
            assert_eq!(due(&times), Ok(is_due), "{wall} {openai}");
        }
    }
}
