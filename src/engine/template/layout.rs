//! Times in Go's layouts, which spell out the moment `Mon Jan 2 15:04:05 MST 2006`, for UTC only.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// What Go's layouts name. Where one is the beginning of another, the longer stands first.
const ELEMENTS: [(&str, Element); 38] = [
    ("January", Element::LongMonth),
    ("Jan", Element::Month),
    ("Monday", Element::LongWeekday),
    ("Mon", Element::Weekday),
    ("MST", Element::Zone),
    ("002", Element::ZeroYearDay),
    ("01", Element::ZeroMonth),
    ("02", Element::ZeroDay),
    ("03", Element::ZeroHour12),
    ("04", Element::ZeroMinute),
    ("05", Element::ZeroSecond),
    ("06", Element::ShortYear),
    ("15", Element::Hour),
    ("1", Element::MonthNumber),
    ("2006", Element::Year),
    ("2", Element::Day),
    ("__2", Element::SpaceYearDay),
    // `_2006` is an underscore before the year.
    ("_2006", Element::UnderscoreYear),
    ("_2", Element::SpaceDay),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
    ("PM", Element::Noon),
    ("pm", Element::LowerNoon),
    ("-07:00:00", Element::Fixed("+00:00:00")),
    ("-070000", Element::Fixed("+000000")),
    ("-07:00", Element::Fixed("+00:00")),
    ("-0700", Element::Fixed("+0000")),
    ("-07", Element::Fixed("+00")),
    ("Z07:00:00", Element::Fixed("Z")),
    ("Z070000", Element::Fixed("Z")),
    ("Z07:00", Element::Fixed("Z")),
    ("Z0700", Element::Fixed("Z")),
    ("Z07", Element::Fixed("Z")),
    (".0", Element::Fraction),
    (",0", Element::Fraction),
    (".9", Element::TrimmedFraction),
    (",9", Element::TrimmedFraction),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[derive(Clone, Copy)]
enum Element {
    Year,
    UnderscoreYear,
    ShortYear,
    LongMonth,
    Month,
    MonthNumber,
    ZeroMonth,
    Day,
    SpaceDay,
    ZeroDay,
    SpaceYearDay,
    ZeroYearDay,
    LongWeekday,
    Weekday,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    Fraction,
    TrimmedFraction,
    Noon,
    LowerNoon,
    Zone,
    Fixed(&'static str),
}

/// The digits of a second's fraction that are known.
pub(super) const MAX_DIGITS: usize = 9;

/// The time in a layout; what the layout does not name is copied. None if a fraction has too many digits.
pub(super) fn format(layout: &str, time: DateTime<Utc>) -> Option<String> {
    let mut text = String::new();
    let mut rest = layout;
    while let Some(next) = rest.chars().next() {
        let (length, element) = element(rest).unwrap_or((next.len_utf8(), None));
        let (written, after) = rest.split_at(length);
        match element {
            Some(Element::Fraction | Element::TrimmedFraction) if written.len() > 1 + MAX_DIGITS => {
                return None;
            }
            Some(element) => text.push_str(&element.write(written, time)),
            None => text.push_str(written),
        }
        rest = after;
    }
    Some(text)
}

/// The element a layout begins with, and its length.
fn element(layout: &str) -> Option<(usize, Option<Element>)> {
    let (written, element) = ELEMENTS.into_iter().find(|(written, _)| layout.starts_with(written))?;
    let after = &layout[written.len()..];
    match element {
        // "Janet" and "Monk" are words.
        Element::Month | Element::Weekday if after.starts_with(|c: char| c.is_ascii_lowercase()) => None,
        Element::Fraction | Element::TrimmedFraction => {
            let digit = &written[1..];
            let others = after.trim_start_matches(digit);
            let ends = !others.starts_with(|c: char| c.is_ascii_digit());
            ends.then_some((layout.len() - others.len(), Some(element)))
        }
        _ => Some((written.len(), Some(element))),
    }
}

impl Element {
    fn write(self, written: &str, time: DateTime<Utc>) -> String {
        let (afternoon, hour12) = time.hour12();
        match self {
            Self::Year => format!("{:04}", time.year()),
            Self::UnderscoreYear => format!("_{:04}", time.year()),
            Self::ShortYear => format!("{:02}", time.year().rem_euclid(100)),
            Self::LongMonth => month(time).to_owned(),
            Self::Month => month(time)[..3].to_owned(),
            Self::MonthNumber => time.month().to_string(),
            Self::ZeroMonth => format!("{:02}", time.month()),
            Self::Day => time.day().to_string(),
            Self::SpaceDay => format!("{:2}", time.day()),
            Self::ZeroDay => format!("{:02}", time.day()),
            Self::SpaceYearDay => format!("{:3}", time.ordinal()),
            Self::ZeroYearDay => format!("{:03}", time.ordinal()),
            Self::LongWeekday => weekday(time).to_owned(),
            Self::Weekday => weekday(time)[..3].to_owned(),
            Self::Hour => format!("{:02}", time.hour()),
            Self::Hour12 => hour12.to_string(),
            Self::ZeroHour12 => format!("{hour12:02}"),
            Self::Minute => time.minute().to_string(),
            Self::ZeroMinute => format!("{:02}", time.minute()),
            Self::Second => time.second().to_string(),
            Self::ZeroSecond => format!("{:02}", time.second()),
            Self::Fraction => fraction(written, time),
            Self::TrimmedFraction => {
                fraction(written, time).trim_end_matches('0').trim_end_matches(['.', ',']).to_owned()
            }
            Self::Noon => if afternoon { "PM" } else { "AM" }.to_owned(),
            Self::LowerNoon => if afternoon { "pm" } else { "am" }.to_owned(),
            Self::Zone => "UTC".to_owned(),
            Self::Fixed(text) => text.to_owned(),
        }
    }
}

fn month(time: DateTime<Utc>) -> &'static str {
    MONTHS[time.month0() as usize]
}

fn weekday(time: DateTime<Utc>) -> &'static str {
    WEEKDAYS[time.weekday().num_days_from_sunday() as usize]
}

/// As many digits of the second's fraction as were written behind the point.
fn fraction(written: &str, time: DateTime<Utc>) -> String {
    let (point, digits) = written.split_at(1);
    let nanoseconds = format!("{:09}", time.nanosecond() % 1_000_000_000);
    format!("{point}{}", &nanoseconds[..digits.len().min(MAX_DIGITS)])
}
