//! Five-field cron expressions in UTC, as in Vault's `rotation_schedule`.
//!
//! This parser accepts the syntax of robfig/cron, which Vault uses, and gives croner plain lists of numbers. It refuses
//! croner's additions (seconds, years, `@daily`, `L`, `W`, `#`). If both day fields are restricted, a day that matches
//! either field counts.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use croner::Cron;

use crate::engine::time::intervals::{Fields, Intervals, Numbers, contains};

/// A cron expression. Clones share croner's table of years (6 KB).
#[derive(Clone, Debug)]
pub struct CronExpression {
    cron: Arc<Cron>,
    fields: Fields,
}

/// An error of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Wrong number of fields.
    #[error("expected 5 fields (minute, hour, day of month, month, day of week), found {0}")]
    FieldCount(usize),
    /// A field is invalid.
    #[error(
        "{text:?} is not a valid {field}: it must be *, a number from {min} to {max}, a range a-b, either with a step \
         /n, or a comma-separated list of these"
    )]
    Field {
        /// The field.
        field: &'static str,
        /// Its text.
        text: String,
        /// The smallest valid number.
        min: u32,
        /// The largest valid number.
        max: u32,
    },
    /// The day never occurs.
    #[error("no month that the expression names has such a day")]
    Never,
}

/// The numbers and names that one of the five fields accepts.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// A name of three letters for each number, from `min`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of month", min: 1, max: 31, names: &[] },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { name: "day of week", min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// First unsupported time. croner would search later times year by year.
const CALENDAR_END: DateTime<Utc> =
    DateTime::from_timestamp(32_503_680_000, 0).expect("3000-01-01 is a date");

/// Largest number of days of each month.
const MONTH_LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl CronExpression {
    /// Parses an expression.
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        let texts: Vec<&str> = expression.split_ascii_whitespace().collect();
        let texts: [&str; 5] =
            texts.try_into().map_err(|texts: Vec<&str>| CronError::FieldCount(texts.len()))?;
        let mut numbers = [None; 5];
        for ((numbers, field), text) in numbers.iter_mut().zip(&FIELDS).zip(texts) {
            *numbers = field.parse(text)?;
        }
        let plain = FIELDS.iter().zip(numbers).map(|(field, numbers)| field.format(numbers));
        let plain = plain.collect::<Vec<_>>().join(" ");
        let [minutes, hours, days, months, weekdays] = numbers;
        if weekdays.is_none() && !some_month_has_one_of(days, months) {
            return Err(CronError::Never);
        }
        let cron: Cron = plain.parse().map_err(|_| CronError::Never)?;
        let fields = Fields { minutes, hours, days, months, weekdays };
        Ok(Self { cron: Arc::new(cron), fields })
    }

    /// The shortest and the longest interval between two occurrences.
    pub(in crate::engine) fn intervals(&self) -> Intervals {
        self.fields.intervals()
    }

    /// The first occurrence after `time`, from 1970 on; `MAX_UTC` for a time after the year 2999.
    pub fn after(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        if time >= CALENDAR_END {
            return DateTime::<Utc>::MAX_UTC;
        }
        let time = time.max(DateTime::UNIX_EPOCH).trunc_subsecs(0);
        self.cron.find_next_occurrence(&time, false).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The last occurrence at or before `time`, up to the year 2999; `MIN_UTC` for a time before 1970.
    pub fn at_or_before(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        if time < DateTime::UNIX_EPOCH {
            return DateTime::<Utc>::MIN_UTC;
        }
        let time = time.min(CALENDAR_END).trunc_subsecs(0);
        self.cron.find_previous_occurrence(&time, true).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// True if one of the months has one of the days.
fn some_month_has_one_of(days: Numbers, months: Numbers) -> bool {
    let first = days.map_or(1, u64::trailing_zeros);
    (1..=12).zip(MONTH_LENGTHS).any(|(month, length)| contains(months, month) && first <= length)
}

impl Field {
    fn parse(&self, text: &str) -> Result<Numbers, CronError> {
        let mut numbers = Some(0);
        for item in text.split(',') {
            let item = self.item(item).ok_or_else(|| CronError::Field {
                field: self.name,
                text: text.to_owned(),
                min: self.min,
                max: self.max,
            })?;
            // A star in a list makes the whole list a star.
            numbers = numbers.zip(item).map(|(numbers, item)| numbers | item);
        }
        Ok(numbers)
    }

    /// Parses `*`, `a` or `a-b`, each with an optional `/step`. A step above 1 restricts a star; `a/step` runs to the
    /// field's largest number.
    fn item(&self, text: &str) -> Option<Numbers> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let star = matches!(range, "*" | "?");
        let (first, last) = match range.split_once('-') {
            _ if star => (self.min, self.max),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => (self.number(range)?, self.max),
            None => (self.number(range)?, self.number(range)?),
        };
        let step = step.map_or(Some(1), parse_digits)?;
        if first > last || step == 0 {
            return None;
        }
        let numbers = (first..=last).step_by(step as usize).fold(0, |numbers, number| numbers | 1 << number);
        Some((!star || step > 1).then_some(numbers))
    }

    fn number(&self, text: &str) -> Option<u32> {
        let index = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match index {
            Some(index) => self.min + index as u32,
            None => parse_digits(text)?,
        };
        (self.min..=self.max).contains(&number).then_some(number)
    }

    fn format(&self, numbers: Numbers) -> String {
        if numbers.is_none() {
            return "*".to_owned();
        }
        let named = (self.min..=self.max).filter(|number| contains(numbers, *number));
        named.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    }
}

/// Parses digits only. `str::parse` would also accept a sign.
fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn after(expression: &str, time: &str) -> DateTime<Utc> {
        CronExpression::parse(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
            .after(at(time))
    }

    #[test]
    fn the_next_occurrence_follows_the_calendar() {
        for (expression, time, next) in [
            ("* * * * *", "2025-06-01T12:00:00Z", "2025-06-01T12:01:00Z"),
            ("* * * * *", "2025-06-01T12:00:59.999Z", "2025-06-01T12:01:00Z"),
            ("0 3 * * *", "2025-06-01T03:00:00Z", "2025-06-02T03:00:00Z"),
            ("*/20 9-17/4 * * *", "2025-06-01T09:40:00Z", "2025-06-01T13:00:00Z"),
            ("50/5 * * * *", "2025-06-01T12:51:00Z", "2025-06-01T12:55:00Z"),
            ("5,10 0 1,15 * *", "2025-06-01T00:05:00Z", "2025-06-01T00:10:00Z"),
            // Month ends and the leap day.
            ("0 0 31 * *", "2025-01-31T00:00:00Z", "2025-03-31T00:00:00Z"),
            ("0 0 29 2 *", "2025-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("59 23 31 12 *", "2025-06-01T00:00:00Z", "2025-12-31T23:59:00Z"),
            // Names, in any case.
            ("0 0 * JAN Mon", "2025-06-01T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 * * sun-tue", "2025-06-03T00:00:00Z", "2025-06-08T00:00:00Z"),
            // The start and the end of daylight saving time do not change UTC.
            ("30 2 * * *", "2025-03-29T02:30:00Z", "2025-03-30T02:30:00Z"),
            ("30 2 * * *", "2025-03-08T02:30:00Z", "2025-03-09T02:30:00Z"),
            ("30 1 * * *", "2025-10-25T01:30:00Z", "2025-10-26T01:30:00Z"),
        ] {
            assert_eq!(after(expression, time), at(next), "{expression} after {time}");
        }
    }

    #[test]
    fn a_day_that_matches_either_restricted_day_field_counts() {
        // 2025-06-06 is a Friday, before the 13th.
        assert_eq!(after("0 0 13 * FRI", "2025-06-01T00:00:00Z"), at("2025-06-06T00:00:00Z"));
        // A star restricts only with a step above 1.
        assert_eq!(after("0 0 */10 * FRI", "2025-06-01T00:00:00Z"), at("2025-06-06T00:00:00Z"));
        assert_eq!(after("0 0 13 * */1", "2025-06-01T00:00:00Z"), at("2025-06-13T00:00:00Z"));
        assert_eq!(after("0 0 13 * ?", "2025-06-01T00:00:00Z"), at("2025-06-13T00:00:00Z"));
        assert_eq!(after("0 0 30 2 MON", "2025-06-01T00:00:00Z"), at("2026-02-02T00:00:00Z"));
    }

    #[test]
    fn the_last_occurrence_may_be_now() {
        let cron = CronExpression::parse("0 3 * * *").unwrap();
        assert_eq!(cron.at_or_before(at("2025-06-02T03:00:00.5Z")), at("2025-06-02T03:00:00Z"));
        assert_eq!(cron.at_or_before(at("2025-06-02T02:59:59Z")), at("2025-06-01T03:00:00Z"));
    }

    #[test]
    fn times_outside_the_calendar_do_not_panic() {
        let cron = CronExpression::parse("0 0 29 2 *").unwrap();
        assert_eq!(cron.after(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
        assert_eq!(cron.after(DateTime::<Utc>::MIN_UTC), at("1972-02-29T00:00:00Z"));
        assert_eq!(cron.at_or_before(DateTime::<Utc>::MAX_UTC), at("2996-02-29T00:00:00Z"));
        assert_eq!(cron.at_or_before(DateTime::<Utc>::MIN_UTC), DateTime::<Utc>::MIN_UTC);
    }

    #[test]
    fn an_error_names_the_invalid_field() {
        for (expression, sentence) in [
            ("", "expected 5 fields (minute, hour, day of month, month, day of week), found 0"),
            ("0 0 * * * *", "found 6"),
            ("@daily", "found 1"),
            ("60 * * * *", "\"60\" is not a valid minute: it must be *, a number from 0 to 59"),
            ("* 24 * * *", "is not a valid hour"),
            ("* * 0 * *", "is not a valid day of month"),
            ("* * L * *", "is not a valid day of month"),
            ("* * 15W * *", "is not a valid day of month"),
            ("* * * JANUARY *", "is not a valid month"),
            ("* MON * * *", "is not a valid hour"),
            ("* * * * 7", "is not a valid day of week"),
            ("* * * * FRI#2", "is not a valid day of week"),
            ("5-1 * * * *", "is not a valid minute"),
            ("*/0 * * * *", "is not a valid minute"),
            ("1, * * * *", "is not a valid minute"),
            ("+5 * * * *", "is not a valid minute"),
            ("1-2-3 * * * *", "is not a valid minute"),
            ("0 0 30 2 *", "no month that the expression names has such a day"),
            ("0 0 31 4,6 *", "no month that the expression names has such a day"),
        ] {
            let error = CronExpression::parse(expression).expect_err(expression).to_string();
            assert!(error.contains(sentence), "{expression}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "([0-9*,/? -]|mon|L|\\PC){0,24}") {
            CronExpression::parse(&text).ok();
        }

        #[test]
        fn the_next_occurrence_matches_and_none_lies_between(
            minute in 0..60_u32, hour in 0..24_u32, day in 1..29_u32, seconds in 0_i64..4_000_000_000,
        ) {
            let cron = CronExpression::parse(&format!("{minute} {hour} {day} * *")).unwrap();
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let next = cron.after(time);
            prop_assert_eq!(next.format("%-M %-H %-d %S").to_string(), format!("{minute} {hour} {day} 00"));
            prop_assert!(next > time && next - time <= chrono::TimeDelta::days(31));
            prop_assert!(cron.at_or_before(time) <= time);
            prop_assert_eq!(cron.after(cron.at_or_before(time)), next);
        }
    }
}
