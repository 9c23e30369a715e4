//! What time it is, by this machine's clock and by OpenAI's.
//!
//! *Guarantee:* a wrong clock of this machine ends nothing and stops nothing. What ends by time ends when both clocks say
//! so (`Times::certain`). An end that is stored is counted from the later of the two (`Times::latest`), anything else
//! from OpenAI's where they differ (`Times::now`).
//!
//! OpenAI's time is the `Date` of its last answer to this mount's process, plus the time since then by the monotonic
//! clock, which nobody sets. It is never ahead of OpenAI's clock: an answer is under way for a while, and a monotonic
//! clock may stand still while the machine sleeps. An endpoint that never sends a `Date` leaves this machine's clock alone
//! to decide.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

pub use crate::openai::{Clock, WallClock};

/// The time by both clocks.
#[derive(Debug)]
pub(in crate::engine) struct Times {
    clock: Arc<dyn Clock>,
    answer: Mutex<Option<Answer>>,
}

/// The last answer of OpenAI's that told the time.
#[derive(Clone, Copy, Debug)]
struct Answer {
    date: DateTime<Utc>,
    /// True if the answer carried this date; else the date is this machine's own time.
    was_told: bool,
    /// When it arrived, by the monotonic clock.
    arrived: Duration,
}

/// A smaller difference between the two clocks means nothing.
const TOLERATED: TimeDelta = TimeDelta::seconds(60);
/// Two dates that were told in whole seconds differ by less for the same moment, give or take the way of an answer.
const WHOLE_SECONDS: TimeDelta = TimeDelta::seconds(2);
/// An answer this young is not asked for again.
const FRESH: Duration = Duration::from_secs(600);

impl Times {
    /// By this clock, before OpenAI's is known.
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, answer: Mutex::default() }
    }

    /// The time now: by this machine's clock, or by OpenAI's where the two differ.
    pub(in crate::engine) fn now(&self) -> DateTime<Utc> {
        let now = self.clock.now();
        self.openai().filter(|openai| (now - *openai).abs() > TOLERATED).unwrap_or(now)
    }

    /// OpenAI did as asked; perhaps its answer said what time it was.
    pub(in crate::engine) fn answered(&self, date: Option<DateTime<Utc>>) {
        let (now, arrived, before) = (self.clock.now(), self.clock.monotonic(), self.openai());
        let mut answer = self.lock();
        if let Some(date) = date {
            // A date has no parts of a second: it does not take back what an earlier one said.
            let before = before.filter(|before| *before > date && *before - date < WHOLE_SECONDS);
            *answer = Some(Answer { date: before.unwrap_or(date), was_told: true, arrived });
        } else if answer.is_none_or(|before| !before.was_told) {
            *answer = Some(Answer { date: now, was_told: false, arrived });
        }
    }

    /// Tells if something is due by both clocks; `is_due` answers for one time. False while OpenAI's time is unknown.
    pub(in crate::engine) fn agree<E>(
        &self,
        is_due: impl Fn(DateTime<Utc>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (now, Some(openai)) = (self.clock.now(), self.openai()) else { return Ok(false) };
        Ok(is_due(now)? && ((now - openai).abs() <= TOLERATED || is_due(openai)?))
    }

    /// The earlier time of both clocks: whatever lies before it has passed. 1970 while OpenAI's time is unknown.
    pub(in crate::engine) fn certain(&self) -> DateTime<Utc> {
        self.openai().map_or(DateTime::UNIX_EPOCH, |openai| openai.min(self.clock.now()))
    }

    /// The later of both clocks: what is given time from here on has at least that much.
    pub(in crate::engine) fn latest(&self) -> DateTime<Utc> {
        self.openai().map_or_else(|| self.clock.now(), |openai| openai.max(self.clock.now()))
    }

    /// Whether OpenAI's clock has to be asked for: it is not known, or says that less time has passed than ours, and
    /// its last answer is old.
    pub(in crate::engine) fn are_in_doubt(&self) -> bool {
        let Some(openai) = self.openai() else { return true };
        let since = self.lock().map_or(Duration::ZERO, |answer| answer.arrived);
        self.clock.now() - openai > TOLERATED && self.clock.monotonic().saturating_sub(since) > FRESH
    }

    fn openai(&self) -> Option<DateTime<Utc>> {
        let Answer { date, arrived, .. } = (*self.lock())?;
        date.checked_add_signed(TimeDelta::from_std(self.clock.monotonic().saturating_sub(arrived)).ok()?)
    }

    /// A panic while the lock was held leaves plain data, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Seconds by each clock.
    #[derive(Debug, Default)]
    struct Hands {
        wall: AtomicI64,
        passed: AtomicI64,
    }

    impl Clock for Hands {
        fn now(&self) -> DateTime<Utc> {
            at(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.passed.load(Ordering::Relaxed).unsigned_abs())
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn told(times: &Times) -> [DateTime<Utc>; 3] {
        [times.certain(), times.now(), times.latest()]
    }

    fn set(hands: &Hands, wall: i64, passed: i64) {
        hands.wall.store(wall, Ordering::Relaxed);
        hands.passed.store(passed, Ordering::Relaxed);
    }

    #[test]
    fn an_end_takes_both_clocks_and_a_wait_counts_from_openais() {
        let hands = Arc::new(Hands::default());
        let times = Times::new(Arc::<Hands>::clone(&hands));
        set(&hands, 9_000, 5);
        assert_eq!(told(&times), [0, 9_000, 9_000].map(at), "nothing is known of OpenAI's clock");
        times.answered(Some(at(1_000)));
        assert_eq!(told(&times), [1_000, 1_000, 9_000].map(at));
        set(&hands, 900, 95);
        assert_eq!(told(&times), [900, 1_090, 1_090].map(at));
        times.answered(Some(at(1_089)));
        assert_eq!(told(&times), [900, 1_090, 1_090].map(at), "a second is not taken back");
        set(&hands, 1_750, 700);
        assert_eq!(told(&times), [1_695, 1_750, 1_750].map(at), "a little means nothing");
    }

    #[test]
    fn openai_is_asked_where_its_clock_is_not_known_or_was_not_heard_of_for_long_and_is_behind() {
        let hands = Arc::new(Hands::default());
        let times = Times::new(Arc::<Hands>::clone(&hands));
        assert!(times.are_in_doubt());
        times.answered(Some(at(0)));
        for (wall, passed, in_doubt) in
            [(9_000, 5, false), (9_000, 601, true), (660, 601, false), (5, 601, false)]
        {
            set(&hands, wall, passed);
            assert_eq!(times.are_in_doubt(), in_doubt, "{wall} {passed}");
        }
    }

    #[test]
    fn where_no_answer_says_the_time_the_machines_clock_decides() {
        let hands = Arc::new(Hands::default());
        let times = Times::new(Arc::<Hands>::clone(&hands));
        set(&hands, 9_000, 5);
        times.answered(None);
        assert_eq!(told(&times), [9_000; 3].map(at));
        times.answered(Some(at(1_000)));
        times.answered(None);
        assert_eq!(told(&times), [1_000, 1_000, 9_000].map(at), "one that did is believed");
    }

    #[test]
    fn what_is_due_is_due_by_both_clocks() {
        let hands = Arc::new(Hands::default());
        let times = Times::new(Arc::<Hands>::clone(&hands));
        let due = |times: &Times| times.agree(|now| Ok::<_, ()>(now >= at(500)));
        set(&hands, 600, 0);
        assert_eq!(due(&times), Ok(false), "nothing is known of OpenAI's clock");
        for (wall, openai, is_due) in
            [(600, 400, false), (400, 600, false), (600, 600, true), (500, 499, true)]
        {
            set(&hands, wall, 0);
            times.answered(Some(at(openai)));
            assert_eq!(due(&times), Ok(is_due), "{wall} {openai}");
        }
    }
}
