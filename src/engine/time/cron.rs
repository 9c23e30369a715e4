//! Five-field cron expressions in UTC, as Vault's `rotation_schedule` takes them.
//!
//! The fields are read here, as robfig/cron (which Vault uses) reads them, and handed to croner as plain lists of
//! numbers: croner's own additions (seconds, years, `@daily`, `L`, `W`, `#`) are not Vault's and are refused.
//! If both day fields are restricted, a day that matches either counts.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use croner::Cron;

use crate::engine::time::intervals::{Fields, Intervals, Numbers};

/// When something is due, again and again. Clones share what is large (croner keeps a table of years, 6 KB).
#[derive(Clone, Debug)]
pub struct Timetable {
    cron: Arc<Cron>,
    fields: Fields,
}

/// Why an expression is no timetable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// It has too few or too many fields.
    #[error("expected 5 fields (minute, hour, day of month, month, day of week), found {0}")]
    FieldCount(usize),
    /// One of its fields cannot be read.
    #[error(
        "{text:?} is no {field}: it must be *, a number from {least} to {most}, a range a-b, either with a step /n, or \
         a list of these with commas"
    )]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        text: String,
        /// The smallest number it may hold.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// No year has such a day.
    #[error("there is never such a day")]
    Never,
}

/// What one of the five fields may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Three letters for each number, from the least.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of month", least: 1, most: 31, words: &[] },
    Field {
        name: "month",
        least: 1,
        most: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field {
        name: "day of week",
        least: 0,
        most: 6,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Times from here on are nonsense, and croner would walk there year by year.
const CALENDAR_END: DateTime<Utc> =
    DateTime::from_timestamp(32_503_680_000, 0).expect("3000-01-01 is a date");

/// How many days each month can have.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Timetable {
    /// Reads an expression.
    pub fn parse(expression: &str) -> Result<Self, TimetableError> {
        let texts: Vec<&str> = expression.split_ascii_whitespace().collect();
        let texts: [&str; 5] =
            texts.try_into().map_err(|texts: Vec<&str>| TimetableError::FieldCount(texts.len()))?;
        let mut numbers = [None; 5];
        let mut plain = String::new();
        for (index, field) in FIELDS.iter().enumerate() {
            numbers[index] = field.read(texts[index])?;
            field.write(numbers[index], &mut plain);
        }
        let [minutes, hours, days, months, weekdays] = numbers;
        if weekdays.is_none() && !some_month_has_one_of(days, months) {
            return Err(TimetableError::Never);
        }
        let cron: Cron = plain.parse().map_err(|_| TimetableError::Never)?;
        let fields = Fields { minutes, hours, days, months, weekdays };
        Ok(Self { cron: Arc::new(cron), fields })
    }

    /// The bounds of the time between two of its times.
    pub(in crate::engine) fn intervals(&self) -> Intervals {
        self.fields.intervals()
    }

    /// The first time after this one, from 1970 on; the end of time if the year 3000 comes first.
    pub fn after(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let none = DateTime::<Utc>::MAX_UTC;
        if time >= CALENDAR_END {
            return none;
        }
        let time = time.max(DateTime::UNIX_EPOCH).trunc_subsecs(0);
        self.cron.find_next_occurrence(&time, false).unwrap_or(none)
    }

    /// The last time before or at this one, at most the year 3000; the beginning of time if 1970 comes first.
    pub fn at_or_before(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let none = DateTime::<Utc>::MIN_UTC;
        if time < DateTime::UNIX_EPOCH {
            return none;
        }
        let time = time.min(CALENDAR_END).trunc_subsecs(0);
        self.cron.find_previous_occurrence(&time, true).unwrap_or(none)
    }
}

fn some_month_has_one_of(days: Numbers, months: Numbers) -> bool {
    let first = days.map_or(1, u64::trailing_zeros);
    (1..=12)
        .zip(LONGEST)
        .any(|(month, length)| months.is_none_or(|months| months >> month & 1 == 1) && first <= length)
}

impl Field {
    fn read(&self, text: &str) -> Result<Numbers, TimetableError> {
        let mut numbers = Some(0);
        for item in text.split(',') {
            let item = self.item(item).ok_or_else(|| TimetableError::Field {
                field: self.name,
                text: text.to_owned(),
                least: self.least,
                most: self.most,
            })?;
            // A star in a list makes it all a star.
            numbers = numbers.zip(item).map(|(numbers, item)| numbers | item);
        }
        Ok(numbers)
    }

    /// `*`, `a`, `a-b`, each with or without `/step`. A step above 1 restricts a star; `a/step` runs to the end.
    fn item(&self, text: &str) -> Option<Numbers> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let star = matches!(range, "*" | "?");
        let (first, last) = match range.split_once('-') {
            _ if star => (self.least, self.most),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => (self.number(range)?, self.most),
            None => (self.number(range)?, self.number(range)?),
        };
        let step = step.map_or(Some(1), whole)?;
        if first > last || step == 0 {
            return None;
        }
        let numbers = (first..=last).step_by(step as usize).fold(0, |numbers, number| numbers | 1 << number);
        Some(if star && step == 1 { None } else { Some(numbers) })
    }

    fn number(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match word {
            Some(index) => self.least + index as u32,
            None => whole(text)?,
        };
        (self.least..=self.most).contains(&number).then_some(number)
    }

    fn write(&self, numbers: Numbers, plain: &mut String) {
        let mut separator = if plain.is_empty() { "" } else { " " };
        let Some(numbers) = numbers else {
            plain.push_str(separator);
            plain.push('*');
            return;
        };
        for number in (self.least..=self.most).filter(|number| numbers >> number & 1 == 1) {
            // Writing to a String cannot fail.
            let _ = write!(plain, "{separator}{number}");
            separator = ",";
        }
    }
}

/// Digits only: Rust would also read a sign.
fn whole(text: &str) -> Option<u32> {
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
        Timetable::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}")).after(at(time))
    }

    #[test]
    fn the_next_time_is_the_calendars() {
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
            // Summer time in Europe and America begins: UTC does not mind.
            ("30 2 * * *", "2025-03-29T02:30:00Z", "2025-03-30T02:30:00Z"),
            ("30 2 * * *", "2025-03-08T02:30:00Z", "2025-03-09T02:30:00Z"),
            ("30 1 * * *", "2025-10-25T01:30:00Z", "2025-10-26T01:30:00Z"),
        ] {
            assert_eq!(after(expression, time), at(next), "{expression} after {time}");
        }
    }

    #[test]
    fn of_two_restricted_day_fields_either_counts() {
        // 2025-06-06 is a Friday, before the 13th.
        assert_eq!(after("0 0 13 * FRI", "2025-06-01T00:00:00Z"), at("2025-06-06T00:00:00Z"));
        // A stepped star restricts, a plain or single-stepped one does not.
        assert_eq!(after("0 0 */10 * FRI", "2025-06-01T00:00:00Z"), at("2025-06-06T00:00:00Z"));
        assert_eq!(after("0 0 13 * */1", "2025-06-01T00:00:00Z"), at("2025-06-13T00:00:00Z"));
        assert_eq!(after("0 0 13 * ?", "2025-06-01T00:00:00Z"), at("2025-06-13T00:00:00Z"));
        assert_eq!(after("0 0 30 2 MON", "2025-06-01T00:00:00Z"), at("2026-02-02T00:00:00Z"));
    }

    #[test]
    fn the_last_time_may_be_now() {
        let timetable = Timetable::parse("0 3 * * *").unwrap();
        assert_eq!(timetable.at_or_before(at("2025-06-02T03:00:00.5Z")), at("2025-06-02T03:00:00Z"));
        assert_eq!(timetable.at_or_before(at("2025-06-02T02:59:59Z")), at("2025-06-01T03:00:00Z"));
    }

    #[test]
    fn the_ends_of_the_calendar_are_no_trouble() {
        let timetable = Timetable::parse("0 0 29 2 *").unwrap();
        assert_eq!(timetable.after(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
        assert_eq!(timetable.after(DateTime::<Utc>::MIN_UTC), at("1972-02-29T00:00:00Z"));
        assert_eq!(timetable.at_or_before(DateTime::<Utc>::MAX_UTC), at("2996-02-29T00:00:00Z"));
        assert_eq!(timetable.at_or_before(DateTime::<Utc>::MIN_UTC), DateTime::<Utc>::MIN_UTC);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_field() {
        for (expression, sentence) in [
            ("", "expected 5 fields (minute, hour, day of month, month, day of week), found 0"),
            ("0 0 * * * *", "found 6"),
            ("@daily", "found 1"),
            ("60 * * * *", "\"60\" is no minute: it must be *, a number from 0 to 59"),
            ("* 24 * * *", "is no hour"),
            ("* * 0 * *", "is no day of month"),
            ("* * L * *", "is no day of month"),
            ("* * 15W * *", "is no day of month"),
            ("* * * JANUARY *", "is no month"),
            ("* MON * * *", "is no hour"),
            ("* * * * 7", "is no day of week"),
            ("* * * * FRI#2", "is no day of week"),
            ("5-1 * * * *", "is no minute"),
            ("*/0 * * * *", "is no minute"),
            ("1, * * * *", "is no minute"),
            ("+5 * * * *", "is no minute"),
            ("1-2-3 * * * *", "is no minute"),
            ("0 0 30 2 *", "there is never such a day"),
            ("0 0 31 4,6 *", "there is never such a day"),
        ] {
            let error = Timetable::parse(expression).expect_err(expression).to_string();
            assert!(error.contains(sentence), "{expression}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9*,/? -]|mon|L|\\PC){0,24}") {
            Timetable::parse(&text).ok();
        }

        #[test]
        fn the_next_time_matches_and_nothing_lies_between(
            minute in 0..60_u32, hour in 0..24_u32, day in 1..29_u32, seconds in 0_i64..4_000_000_000,
        ) {
            let timetable = Timetable::parse(&format!("{minute} {hour} {day} * *")).unwrap();
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let next = timetable.after(time);
            prop_assert_eq!(next.format("%-M %-H %-d %S").to_string(), format!("{minute} {hour} {day} 00"));
            prop_assert!(next > time && next - time <= chrono::TimeDelta::days(31));
            prop_assert!(timetable.at_or_before(time) <= time);
            prop_assert_eq!(timetable.after(timetable.at_or_before(time)), next);
        }
    }
}
