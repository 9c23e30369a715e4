//! Rotation schedules: a period, or a cron expression with an optional window. Pure: the caller passes the time.
//!
//! **Guarantees**
//! - A due rotation stays due until the time of the last rotation changes. One rotation makes up for all missed ones.
//! - With a window, a rotation starts only within the window after a scheduled time, or waits for the next window.
//! - A clock set back by less than the shortest interval causes no early rotation. A last rotation further in the future
//!   blocks nothing: one rotation is due at once or, with a window, in the next window. So no wait exceeds two intervals.
//! - A role's spread delays its rotations by a small fixed time and never makes them early.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::engine::fingerprint;
use crate::engine::time::cron::CronExpression;

/// The shortest period. Vault's periodic call, which drives all rotations, comes once a minute.
pub const MIN_PERIOD: Duration = Duration::from_secs(60);

/// The shortest window. A shorter one could fall between two of Vault's periodic calls.
pub const MIN_WINDOW: Duration = Duration::from_secs(120);

/// The longest spread. A spread is also at most a twentieth of the period and a quarter of the window. Ticks come a
/// minute apart, so all roles of one minute are due within the next two ticks. OpenAI's rate limit then sets the speed.
pub const MAX_SPREAD: Duration = Duration::from_secs(20);

/// A rotation schedule.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// A fixed time after the last rotation.
    Period(Duration),
    /// At the times of a cron expression.
    Cron {
        /// The cron expression.
        cron: CronExpression,
        /// The time after a scheduled time within which a rotation may start; `None` for no limit.
        window: Option<Duration>,
    },
}

impl Schedule {
    /// The first scheduled time after a rotation, without spread and window.
    pub fn next_after(&self, last: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Period(period) => later(last, *period),
            Self::Cron { cron, .. } => cron.after(last),
        }
    }

    /// The time from which the next rotation may start. A time in the past means that the rotation is overdue.
    pub fn next(&self, now: DateTime<Utc>, last: DateTime<Utc>, spread: Duration) -> DateTime<Utc> {
        let time = earlier(now, spread);
        let planned = match self {
            Self::Cron { cron, window: Some(window) } => {
                let (opened, coming) = (cron.at_or_before(time), cron.after(time));
                let is_open = later(opened, *window) > now;
                if is_open && self.is_wanted(time, last) {
                    opened
                } else if self.is_wanted(coming, last) {
                    coming
                } else {
                    cron.after(coming)
                }
            }
            _ if self.is_in_the_future(last, time) => time,
            _ => self.next_after(last),
        };
        later(planned, spread)
    }

    /// The same schedule without a window.
    #[must_use]
    pub fn without_window(&self) -> Self {
        match self {
            Self::Period(period) => Self::Period(*period),
            Self::Cron { cron, .. } => Self::Cron { cron: cron.clone(), window: None },
        }
    }

    /// The delay of the role with this name, so that roles with the same schedule do not all start at once.
    pub fn spread(&self, name: &str) -> Duration {
        let period = self.approximate_period(DateTime::UNIX_EPOCH);
        let window = match self {
            Self::Cron { window: Some(window), .. } => *window / 4,
            _ => Duration::MAX,
        };
        let most = MAX_SPREAD.min(period / 20).min(window).as_secs();
        Duration::from_secs(fingerprint::number(name) % (most + 1))
    }

    /// The planned lifetime of a key from this time, in whole seconds and at least 1. For a cron expression this is the
    /// interval around `at`, so it is constant until the next rotation.
    pub fn approximate_period(&self, at: DateTime<Utc>) -> Duration {
        let seconds = match self {
            Self::Period(period) => period.as_secs(),
            Self::Cron { cron, .. } => {
                let interval = cron.after(at) - cron.at_or_before(at);
                interval.num_seconds().unsigned_abs()
            }
        };
        Duration::from_secs(seconds.max(1))
    }

    /// The shortest interval between two scheduled times.
    pub fn shortest_interval(&self) -> Duration {
        match self {
            Self::Period(period) => *period,
            Self::Cron { cron, .. } => cron.intervals().shortest,
        }
    }

    /// The longest interval between two scheduled times. The window and the spread can delay a rotation further.
    pub fn longest_interval(&self) -> Duration {
        match self {
            Self::Period(period) => *period,
            Self::Cron { cron, .. } => cron.intervals().longest,
        }
    }

    /// True if a rotation is due at this scheduled time.
    fn is_wanted(&self, time: DateTime<Utc>, last: DateTime<Utc>) -> bool {
        self.next_after(last) <= time || self.is_in_the_future(last, time)
    }

    /// True if the last rotation is so far in the future that its clock was wrong. The shortest interval is tolerated.
    /// The tolerance never exceeds the window after the next, so an announced rotation is still due when its window
    /// opens.
    fn is_in_the_future(&self, last: DateTime<Utc>, time: DateTime<Utc>) -> bool {
        last > time && last >= later(time, self.shortest_interval())
    }
}

/// A time plus a duration; `MAX_UTC` on overflow.
fn later(time: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|delta| time.checked_add_signed(delta))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// A time minus a spread; `MIN_UTC` on overflow.
fn earlier(time: DateTime<Utc>, spread: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(spread)
        .ok()
        .and_then(|delta| time.checked_sub_signed(delta))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Schedule {
        /// True if a rotation may start now.
        fn due(&self, now: DateTime<Utc>, last: DateTime<Utc>, spread: Duration) -> bool {
            self.next(now, last, spread) <= now
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);
    const NONE: Duration = Duration::ZERO;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2025-06-{text}Z").parse().unwrap()
    }

    fn cron(expression: &str, window: Option<Duration>) -> Schedule {
        Schedule::Cron { cron: CronExpression::parse(expression).unwrap(), window }
    }

    #[test]
    fn a_rotation_is_due_at_the_end_of_its_period() {
        let schedule = Schedule::Period(HOUR);
        let last = at("01T12:00:00");
        assert!(!schedule.due(at("01T12:59:59"), last, NONE));
        assert!(schedule.due(at("01T13:00:00"), last, NONE));
        // Years later one rotation is overdue.
        assert_eq!(schedule.next("2031-01-01T00:00:00Z".parse().unwrap(), last, NONE), at("01T13:00:00"));
    }

    #[test]
    fn one_rotation_makes_up_for_all_missed_ones() {
        let schedule = cron("0 3 * * *", None);
        let now = at("10T17:00:00");
        assert!(schedule.due(now, at("01T03:00:05"), NONE));
        assert!(!schedule.due(now, now, NONE));
        assert_eq!(schedule.next(now, now, NONE), at("11T03:00:00"));
    }

    #[test]
    fn after_its_window_a_rotation_waits_for_the_next_scheduled_time() {
        let schedule = cron("0 3 * * *", Some(HOUR));
        let last = at("01T03:00:05");
        for (now, next) in [
            ("02T02:59:59", "02T03:00:00"),
            ("02T03:00:00", "02T03:00:00"),
            ("02T03:59:59", "02T03:00:00"),
            ("02T04:00:00", "03T03:00:00"),
            ("05T04:00:00", "06T03:00:00"),
            ("06T03:30:00", "06T03:00:00"),
        ] {
            assert_eq!(schedule.next(at(now), last, NONE), at(next), "{now}");
        }
    }

    #[test]
    fn a_spread_delays_a_rotation_within_its_window() {
        let schedule = cron("0 3 * * *", Some(HOUR));
        let (last, spread) = (at("01T03:02:00"), Duration::from_secs(90));
        assert!(!schedule.due(at("02T03:01:29"), last, spread));
        assert!(schedule.due(at("02T03:01:30"), last, spread));
        assert!(schedule.due(at("02T03:59:59"), last, spread));
        assert_eq!(schedule.next(at("02T04:00:00"), last, spread), at("03T03:01:30"));
        // Between a scheduled time and the end of the spread no rotation starts.
        assert_eq!(schedule.next(at("03T03:01:00"), last, spread), at("03T03:01:30"));
    }

    #[test]
    fn a_names_spread_is_a_small_fixed_part_of_the_period() {
        for (schedule, most) in [
            (Schedule::Period(HOUR * 24), 20),
            (Schedule::Period(Duration::from_secs(300)), 15),
            (Schedule::Period(MIN_PERIOD), 3),
            (cron("0 3 * * *", None), 20),
            (cron("0 3 * * *", Some(MIN_WINDOW)), 20),
            (cron("* * * * *", None), 3),
        ] {
            let spread = |index: u32| schedule.spread(&format!("role-{index}")).as_secs();
            let spreads: Vec<u64> = (0..500).map(spread).collect();
            assert_eq!(spreads, (0..500).map(spread).collect::<Vec<_>>());
            assert!(spreads.iter().all(|spread| *spread <= most), "{schedule:?}");
            let spread_out = |spread: &u64| *spread > most / 2;
            assert!(spreads.iter().any(spread_out) && !spreads.iter().all(spread_out), "{schedule:?}");
        }
    }

    #[test]
    fn a_clock_set_back_neither_repeats_nor_stops_rotation() {
        let schedule = Schedule::Period(HOUR);
        let now = at("10T12:00:00");
        // By less than a period: the schedule is unchanged.
        assert_eq!(schedule.next(now, at("10T12:40:00"), NONE), at("10T13:40:00"));
        // By years: one rotation at once, then as usual.
        assert!(schedule.due(now, "2035-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(100)));
        assert!(!schedule.due(now, now, NONE));
        let nightly = cron("0 3 * * *", Some(HOUR));
        let future = "2035-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(nightly.next(now, future, NONE), at("11T03:00:00"));
        assert!(nightly.due(at("11T03:00:00"), future, NONE));
        assert!(nightly.due(at("11T03:00:10"), DateTime::<Utc>::MAX_UTC, Duration::from_secs(7)));
    }

    #[test]
    fn a_rotation_announced_for_a_window_is_due_when_the_window_opens() {
        let nightly = cron("0 3 * * *", Some(HOUR));
        for last in ["11T03:00:05", "12T02:59:59", "12T03:00:00", "12T12:00:00", "13T12:00:00", "20T03:00:05"]
        {
            let next = nightly.next(at("10T12:00:00"), at(last), NONE);
            assert!(nightly.due(next, at(last), NONE), "announced {next} after {last}");
            assert!(next <= at("12T03:00:00"), "{next} after {last}");
        }
        // A last rotation eight years ahead does not skip the next leap day.
        let leap_day = cron("0 0 29 2 *", Some(HOUR));
        let (now, last) = ("2025-06-01T00:00:00Z".parse().unwrap(), "2033-06-01T00:00:00Z".parse().unwrap());
        let next = leap_day.next(now, last, NONE);
        assert_eq!(next, "2028-02-29T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
        assert!(leap_day.due(next, last, NONE));
    }

    #[test]
    fn a_clock_put_back_over_a_scheduled_time_rotates_nothing_again_in_a_window_that_is_always_open() {
        let daily = cron("0 3 * * *", Some(HOUR * 24));
        assert_eq!(daily.next(at("10T02:59:55"), at("10T03:00:05"), NONE), at("11T03:00:00"));
    }

    #[test]
    fn the_period_of_a_cron_expression_is_the_interval_around_the_time() {
        let weekdays = cron("0 3 * * MON-FRI", None);
        // 2025-06-06 is a Friday.
        assert_eq!(weekdays.approximate_period(at("05T03:00:00")), HOUR * 24);
        assert_eq!(weekdays.approximate_period(at("06T03:00:05")), HOUR * 72);
        assert_eq!(weekdays.approximate_period(at("08T23:00:00")), HOUR * 72);
        assert_eq!(Schedule::Period(HOUR).approximate_period(at("01T00:00:00")), HOUR);
        assert!(weekdays.approximate_period(DateTime::<Utc>::MAX_UTC) >= Duration::from_secs(1));
    }

    fn any_schedule() -> impl Strategy<Value = Schedule> {
        prop_oneof![
            (60_u64..10_000_000).prop_map(|period| Schedule::Period(Duration::from_secs(period))),
            (
                prop::sample::select(vec![
                    "* * * * *",
                    "*/7 * * * *",
                    "0 3 * * *",
                    "0 0 29 2 *",
                    "5 4 31 * MON"
                ]),
                prop::option::of(120_u64..100_000)
            )
                .prop_map(|(text, window)| cron(text, window.map(Duration::from_secs))),
        ]
    }

    fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
        prop_oneof![
            (0_i64..4_000_000_000).prop_map(|seconds| DateTime::from_timestamp(seconds, 5).unwrap()),
            Just(DateTime::<Utc>::MIN_UTC),
            Just(DateTime::<Utc>::MAX_UTC),
        ]
    }

    proptest! {
        // The search for a leap day is slow in a debug build.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_rotation_follows_at_once_and_every_wait_ends(
            schedule in any_schedule(), now in 0_i64..4_000_000_000, last in any_time(), name in "[a-z]{1,9}",
        ) {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let spread = schedule.spread(&name);
            prop_assert!(!schedule.due(now, now, spread), "just rotated");
            let next = schedule.next(now, last, spread);
            prop_assert_eq!(schedule.due(now, last, spread), next <= now);
            // The wait ends for any time of the last rotation, and the rotation is then due.
            let longest = schedule.next_after(schedule.next_after(now)) + spread;
            prop_assert!(next <= longest, "{next} is after {longest}");
            prop_assert!(schedule.due(next.max(now), last, spread));
        }

        #[test]
        fn no_rotation_is_early(schedule in any_schedule(), last in 0_i64..4_000_000_000, name in "[a-z]{1,9}") {
            let last = DateTime::from_timestamp(last, 0).unwrap();
            let spread = schedule.spread(&name);
            let next = schedule.next(last, last, spread);
            prop_assert_eq!(next, schedule.next_after(last) + spread);
            prop_assert!(!schedule.due(next - TimeDelta::seconds(1), last, spread));
            prop_assert!(spread <= schedule.approximate_period(DateTime::UNIX_EPOCH) / 20);
        }

        #[test]
        fn a_tick_each_minute_falls_into_every_window(window in 120_u64..4_000, phase in 0_i64..60, name in "[a-z]{1,9}") {
            let schedule = cron("0 3 * * *", Some(Duration::from_secs(window)));
            let spread = schedule.spread(&name);
            let mut ticks = (0..1440).map(|minute| at("02T00:00:00") + TimeDelta::seconds(60 * minute + phase));
            prop_assert!(ticks.any(|now| schedule.due(now, at("01T03:00:00"), spread)));
        }
    }
}
