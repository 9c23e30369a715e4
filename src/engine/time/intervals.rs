//! The shortest and the longest interval between two occurrences of a cron expression, computed from its fields alone.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{Datelike as _, NaiveDate};

/// The numbers of a cron field, as bits; `None` for an unrestricted field.
pub(in crate::engine) type Numbers = Option<u64>;

/// Number of days after which weekdays, months and leap years repeat.
const CYCLE_DAYS: usize = 28 * 366;
const MINUTES_PER_DAY: u64 = 1_440;

/// The five fields of a cron expression.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Fields {
    pub(in crate::engine) minutes: Numbers,
    pub(in crate::engine) hours: Numbers,
    pub(in crate::engine) days: Numbers,
    pub(in crate::engine) months: Numbers,
    pub(in crate::engine) weekdays: Numbers,
}

/// The bounds of the interval between two occurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Intervals {
    pub(in crate::engine) shortest: Duration,
    pub(in crate::engine) longest: Duration,
}

impl Fields {
    /// The bounds. Both are `u64::MAX` seconds if the expression has fewer than two occurrences.
    pub(in crate::engine) fn intervals(&self) -> Intervals {
        let minutes = self.minutes_of_day();
        let within_day = minutes.windows(2).map(|pair| pair[1] - pair[0]);
        let (first, last) = (minutes.first().copied().unwrap_or(0), minutes.last().copied().unwrap_or(0));
        let over_night = self.days_between().into_iter().map(|days| days * MINUTES_PER_DAY - last + first);
        let all: Vec<u64> = within_day.chain(over_night).collect();
        let of_minutes = |minutes: Option<&u64>| {
            Duration::from_secs(minutes.map_or(u64::MAX, |minutes| minutes.saturating_mul(60)))
        };
        Intervals { shortest: of_minutes(all.iter().min()), longest: of_minutes(all.iter().max()) }
    }

    /// The minutes of a day with an occurrence.
    fn minutes_of_day(&self) -> Vec<u64> {
        let minutes = (0..MINUTES_PER_DAY as u32)
            .filter(|minute| contains(self.hours, minute / 60) && contains(self.minutes, minute % 60));
        minutes.map(u64::from).collect()
    }

    /// The distinct numbers of days between two successive days with an occurrence.
    fn days_between(&self) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
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

    /// True if the expression has an occurrence on this day. If both day fields are restricted, either may match.
    fn has_day(&self, day: NaiveDate) -> bool {
        let of_month = contains(self.days, day.day());
        let of_week = contains(self.weekdays, day.weekday().num_days_from_sunday());
        let is_either = self.days.is_some() && self.weekdays.is_some();
        contains(self.months, day.month())
            && if is_either { of_month || of_week } else { of_month && of_week }
    }
}

/// True if a field contains this number.
pub(in crate::engine) fn contains(numbers: Numbers, number: u32) -> bool {
    numbers.is_none_or(|numbers| numbers >> number & 1 == 1)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::time::cron::CronExpression;

    const HOUR: u64 = 3_600;

    fn intervals(expression: &str) -> (u64, u64) {
        let Intervals { shortest, longest } = CronExpression::parse(expression).unwrap().intervals();
        (shortest.as_secs(), longest.as_secs())
    }

    #[test]
    fn the_bounds_follow_the_calendar() {
        for (expression, shortest, longest) in [
            ("* * * * *", 60, 60),
            ("*/7 * * * *", 240, 420),
            ("57,59 * * * *", 120, 3_480),
            ("0 3 * * *", 24 * HOUR, 24 * HOUR),
            ("0 0,23 * * *", HOUR, 23 * HOUR),
            ("0 3 1 * *", 28 * 24 * HOUR, 31 * 24 * HOUR),
            ("0 3 * * 1,2", 24 * HOUR, 6 * 24 * HOUR),
            // If both day fields are restricted, either may match.
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
        fn every_interval_lies_within_the_bounds(
            minute in any_field(0..=59), hour in any_field(0..=23), day in any_field(1..=28), weekday in any_field(0..=6),
            from in 0_i64..2_000_000_000,
        ) {
            let cron = CronExpression::parse(&format!("{minute} {hour} {day} * {weekday}")).unwrap();
            let Intervals { shortest, longest } = cron.intervals();
            let mut last = cron.after(DateTime::<Utc>::from_timestamp(from, 0).unwrap());
            for _ in 0..50 {
                let next = cron.after(last);
                let between = (next - last).to_std().unwrap();
                prop_assert!(between >= shortest && between <= longest, "{between:?} {shortest:?} {longest:?}");
                last = next;
            }
        }
    }
}
