//! The shortest and the longest time between two occurrences of a timetable, from its fields alone: the same whenever it
//! is asked. Pure.

use std::time::Duration;

use chrono::{Datelike as _, NaiveDate};

/// The numbers that a field of a timetable names, as bits; `None` if it restricts nothing.
pub(in crate::engine) type Numbers = Option<u64>;

/// After so many days weekdays, months and leap years come again as they were.
const CYCLE_DAYS: usize = 28 * 366;
const DAY: u64 = 1_440;

/// What the five fields of a timetable name.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Fields {
    pub(in crate::engine) minutes: Numbers,
    pub(in crate::engine) hours: Numbers,
    pub(in crate::engine) days: Numbers,
    pub(in crate::engine) months: Numbers,
    pub(in crate::engine) weekdays: Numbers,
}

/// The bounds of the time between two occurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Intervals {
    pub(in crate::engine) shortest: Duration,
    pub(in crate::engine) longest: Duration,
}

impl Fields {
    /// The bounds. A timetable that never comes twice has no interval: both are then endless.
    pub(in crate::engine) fn intervals(&self) -> Intervals {
        let times = self.times();
        let within = times.windows(2).map(|pair| pair[1] - pair[0]);
        let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        let over_night = self.days_between().into_iter().map(|days| days * DAY - last + first);
        let (shortest, longest) = within
            .chain(over_night)
            .fold((u64::MAX, 0), |(least, most), minutes| (least.min(minutes), most.max(minutes)));
        let longest = if longest == 0 { u64::MAX } else { longest };
        Intervals { shortest: of_minutes(shortest), longest: of_minutes(longest) }
    }

    /// The minutes of a day at which it comes.
    fn times(&self) -> Vec<u64> {
        let hours = (0..24).filter(|hour| names(self.hours, *hour));
        hours
            .flat_map(|hour| {
                let minutes = (0..60).filter(|minute| names(self.minutes, *minute));
                minutes.map(move |minute| u64::from(hour * 60 + minute))
            })
            .collect()
    }

    /// Every number of days that lies between two days on which it comes.
    fn days_between(&self) -> std::collections::BTreeSet<u64> {
        let mut found = std::collections::BTreeSet::new();
        let mut before: Option<u64> = None;
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default();
        for (number, day) in (0_u64..).zip(start.iter_days().take(CYCLE_DAYS)) {
            if self.has_day(day) {
                found.extend(before.map(|before| number - before));
                before = Some(number);
            }
        }
        found
    }

    /// If both day fields are restricted, a day that matches either counts.
    fn has_day(&self, day: NaiveDate) -> bool {
        let of_month = names(self.days, day.day());
        let of_week = names(self.weekdays, day.weekday().num_days_from_sunday());
        let is_either = self.days.is_some() && self.weekdays.is_some();
        names(self.months, day.month()) && if is_either { of_month || of_week } else { of_month && of_week }
    }
}

fn names(numbers: Numbers, number: u32) -> bool {
    numbers.is_none_or(|numbers| numbers >> number & 1 == 1)
}

fn of_minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::time::cron::Timetable;

    const HOUR: u64 = 3_600;

    fn intervals(expression: &str) -> (u64, u64) {
        let Intervals { shortest, longest } = Timetable::parse(expression).unwrap().intervals();
        (shortest.as_secs(), longest.as_secs())
    }

    #[test]
    fn the_bounds_are_those_of_the_calendar() {
        for (expression, shortest, longest) in [
            ("* * * * *", 60, 60),
            ("*/7 * * * *", 240, 420),
            ("57,59 * * * *", 120, 3_480),
            ("0 3 * * *", 24 * HOUR, 24 * HOUR),
            ("0 0,23 * * *", HOUR, 23 * HOUR),
            ("0 3 1 * *", 28 * 24 * HOUR, 31 * 24 * HOUR),
            ("0 3 * * 1,2", 24 * HOUR, 6 * 24 * HOUR),
            // Either day counts where both are restricted.
            ("0 12 1 * 1", 24 * HOUR, 7 * 24 * HOUR),
            ("0 3 1 1 *", 365 * 24 * HOUR, 366 * 24 * HOUR),
            ("30 4 29 2 *", 1_461 * 24 * HOUR, 1_461 * 24 * HOUR),
        ] {
            assert_eq!(intervals(expression), (shortest, longest), "{expression}");
        }
    }

    fn any_field(numbers: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = String> {
        let number = numbers.clone().prop_map(|number| number.to_string());
        let pair = (numbers.clone(), numbers).prop_map(|(a, b)| format!("{},{}", a.min(b), a.max(b)));
        prop_oneof![3 => Just("*".to_owned()), 2 => number, 2 => pair, 1 => (2_u32..9).prop_map(|n| format!("*/{n}"))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_interval_lies_between_them(
            minute in any_field(0..=59), hour in any_field(0..=23), day in any_field(1..=28), weekday in any_field(0..=6),
            from in 0_i64..2_000_000_000,
        ) {
            let timetable = Timetable::parse(&format!("{minute} {hour} {day} * {weekday}")).unwrap();
            let Intervals { shortest, longest } = timetable.intervals();
            let mut last = timetable.after(DateTime::<Utc>::from_timestamp(from, 0).unwrap());
            for _ in 0..50 {
                let next = timetable.after(last);
                let between = (next - last).to_std().unwrap();
                prop_assert!(between >= shortest && between <= longest, "{between:?} {shortest:?} {longest:?}");
                last = next;
            }
        }
    }
}
