//! Formats UTC times in Go's layouts, which are written as the time `Mon Jan 2 15:04:05 MST 2006`.

use std::fmt::Write as _;

use chrono::{DateTime, Timelike, Utc};

/// Maximum number of digits of a second's fraction.
const MAX_DIGITS: usize = 9;

/// The elements of Go's layouts with chrono's specifiers. An element precedes its own prefixes.
const ELEMENTS: [(&str, &str); 34] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("1", "%-m"),
    ("2006", "%Y"),
    ("2", "%-d"),
    ("__2", "%_j"),
    // `_2006` is an underscore before the year.
    ("_2006", "_%Y"),
    ("_2", "%e"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("-07:00:00", "+00:00:00"),
    ("-070000", "+000000"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00:00", "Z"),
    ("Z070000", "Z"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
];

/// The time in a layout. Other text is copied.
pub(super) fn format(layout: &str, time: DateTime<Utc>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = layout;
    while let Some(next) = rest.chars().next() {
        if let Some((fraction, after)) = fraction(rest) {
            text.push_str(&format_fraction(fraction, time)?);
            rest = after;
        } else if let Some((element, after)) = element(rest) {
            // Cannot fail: chrono knows all of these specifiers.
            let _ = write!(text, "{}", time.format(element));
            rest = after;
        } else {
            text.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok(text)
}

/// The element at the start of a layout, and the rest.
fn element(layout: &str) -> Option<(&'static str, &str)> {
    let (name, specifier) = ELEMENTS.into_iter().find(|(name, _)| layout.starts_with(name))?;
    let after = &layout[name.len()..];
    // "Janet" and "Monk" are words.
    let is_word = matches!(name, "Jan" | "Mon") && after.starts_with(|c: char| c.is_ascii_lowercase());
    (!is_word).then_some((specifier, after))
}

/// The fraction of a second at the start of a layout: a point or comma with zeros or nines, and no other digit after them.
fn fraction(layout: &str) -> Option<(&str, &str)> {
    let digits = layout.strip_prefix(['.', ','])?;
    let digit = digits.chars().next().filter(|digit| matches!(digit, '0' | '9'))?;
    let after = digits.trim_start_matches(digit);
    let ends = !after.starts_with(|c: char| c.is_ascii_digit());
    ends.then(|| layout.split_at(layout.len() - after.len()))
}

/// The fraction with the layout's number of digits. Nines omit trailing zeros.
fn format_fraction(fraction: &str, time: DateTime<Utc>) -> Result<String, String> {
    let (point, digits) = fraction.split_at(1);
    if digits.len() > MAX_DIGITS {
        return Err(format!(
            "a fraction of a second in the layout of timestamp has at most {MAX_DIGITS} digits"
        ));
    }
    let nanoseconds = format!("{:09}", time.nanosecond() % 1_000_000_000);
    let text = format!("{point}{}", &nanoseconds[..digits.len()]);
    let trimmed = text.trim_end_matches('0').trim_end_matches(['.', ',']);
    Ok(if digits.starts_with('9') { trimmed.to_owned() } else { text })
}
