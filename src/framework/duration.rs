//! Durations in Vault's formats: seconds, `90s`, `1h30m`, `1.5h`, or whole days such as `2d`.

use std::time::Duration;

use serde_json::Value;

use super::decode::{self, Refusal};
use super::integer;

/// Largest duration in Go, which counts nanoseconds in 64 bits.
const MOST_NANOSECONDS: u128 = i64::MAX as u128;
const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A signed duration in nanoseconds.
struct Span {
    negative: bool,
    nanoseconds: u128,
}

/// Reads a duration, truncated to whole seconds. `null` counts as not sent.
pub(super) fn parse(value: &Value) -> Result<Option<Duration>, Refusal> {
    let span = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => decode::truncated(number).map_or(Err(too_long()), Span::of_seconds)?,
        Value::String(text) => parse_text(text)?,
        _ => return Err(Refusal::new("could not parse duration from input")),
    };
    span.positive().map(Some)
}

fn parse_text(text: &str) -> Result<Span, Refusal> {
    if text.is_empty() {
        return Span::of_seconds(0);
    }
    match integer::parse_decimal(text) {
        Ok(seconds) => return Span::of_seconds(seconds),
        Err(integer::Fault::Range) => return Err(too_long()),
        Err(integer::Fault::Syntax) => {}
    }
    match text.strip_suffix('d') {
        Some(days) => parse_days(days),
        None => parse_units(text),
    }
}

fn parse_days(days: &str) -> Result<Span, Refusal> {
    let days = integer::parse_decimal(days)
        .map_err(|fault| Refusal::new(format!("strconv.ParseInt: parsing {days:?}: {}", fault.text())))?;
    Span::of_seconds(days.checked_mul(SECONDS_PER_DAY).ok_or_else(too_long)?)
}

/// Reads a sequence of numbers with units, as Go writes durations.
fn parse_units(text: &str) -> Result<Span, Refusal> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid(text));
    }
    let mut nanoseconds = 0;
    while !rest.is_empty() {
        let part;
        (part, rest) = parse_unit(rest, text)?;
        nanoseconds += part;
        if nanoseconds > MOST_NANOSECONDS {
            return Err(invalid(text));
        }
    }
    Ok(Span { negative: text.starts_with('-'), nanoseconds })
}

/// Nanoseconds of the first number and unit in `rest`, and the remaining text.
fn parse_unit<'a>(rest: &'a str, text: &str) -> Result<(u128, &'a str), Refusal> {
    let (whole, rest) = digits(rest);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid(text));
    }
    let end = rest.find(|character: char| character == '.' || character.is_ascii_digit());
    let (unit, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let nanoseconds = amount(whole, fraction, nanoseconds_of(unit, text)?);
    nanoseconds.map(|nanoseconds| (nanoseconds, rest)).ok_or_else(|| invalid(text))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanoseconds_of(unit: &str, text: &str) -> Result<u128, Refusal> {
    match unit {
        "ns" => Ok(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Ok(1_000),
        "ms" => Ok(1_000_000),
        "s" => Ok(NANOSECONDS_PER_SECOND),
        "m" => Ok(60 * NANOSECONDS_PER_SECOND),
        "h" => Ok(3_600 * NANOSECONDS_PER_SECOND),
        "" => Err(Refusal::new(format!("time: missing unit in duration {text:?}"))),
        other => Err(Refusal::new(format!("time: unknown unit {other:?} in duration {text:?}"))),
    }
}

/// Nanoseconds of `whole.fraction` units; `None` on overflow.
fn amount(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // 18 digits are finer than a nanosecond in every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let numerator = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let denominator = 10_u128.pow(fraction.len() as u32);
    Some(u128::from(whole) * unit + numerator * unit / denominator)
}

fn invalid(text: &str) -> Refusal {
    Refusal::new(format!("time: invalid duration {text:?}"))
}

fn too_long() -> Refusal {
    Refusal::new("multiplication of durations resulted in overflow, one operand may be too large")
}

impl Span {
    fn of_seconds(seconds: i64) -> Result<Self, Refusal> {
        let nanoseconds = u128::from(seconds.unsigned_abs()) * NANOSECONDS_PER_SECOND;
        if nanoseconds > MOST_NANOSECONDS {
            return Err(too_long());
        }
        Ok(Self { negative: seconds < 0, nanoseconds })
    }

    fn positive(&self) -> Result<Duration, Refusal> {
        let seconds = (self.nanoseconds / NANOSECONDS_PER_SECOND) as u64;
        if self.negative && seconds > 0 {
            return Err(Refusal::new(format!("cannot provide negative value '-{seconds}'")));
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// A number of seconds in short form: `24h`, `90s`.
pub(super) fn format_seconds(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0 => (0, 's'),
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, 'h'),
        _ if seconds.is_multiple_of(60) => (seconds / 60, 'm'),
        _ => (seconds, 's'),
    };
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn seconds(value: Value) -> Result<Option<u64>, String> {
        parse(&value).map(|span| span.map(|span| span.as_secs())).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn every_writing_that_vault_takes_is_read() {
        for (value, expected) in [
            (json!(90), 90),
            (json!(90.7), 90),
            (json!(-0.5), 0),
            (json!("90"), 90),
            (json!("1h30m"), 5_400),
            (json!("1.5h"), 5_400),
            (json!(".5h"), 1_800),
            (json!("1.h"), 3_600),
            (json!("1d"), 86_400),
            (json!("30d"), 2_592_000),
            (json!("500ms"), 0),
            (json!("-500ms"), 0),
            (json!("1999ms1000000us"), 2),
            (json!("1999ms1000000\u{b5}s"), 2),
            (json!("1000000000ns"), 1),
            (json!("+1m"), 60),
            (json!(""), 0),
            (json!("0"), 0),
            (json!("1.99999999999999999999999999s"), 1),
            (json!(9_223_372_036_u64), 9_223_372_036),
        ] {
            assert_eq!(seconds(value.clone()), Ok(Some(expected)), "{value}");
        }
    }

    #[test]
    fn null_is_not_sent() {
        assert_eq!(seconds(Value::Null), Ok(None));
    }

    #[test]
    fn refusals_are_in_the_words_of_vault() {
        for (value, text) in [
            (json!("x"), r#"time: invalid duration "x""#),
            (json!("-"), r#"time: invalid duration "-""#),
            (json!("1h."), r#"time: invalid duration "1h.""#),
            (json!("9223372037s"), r#"time: invalid duration "9223372037s""#),
            (json!("90.7"), r#"time: missing unit in duration "90.7""#),
            (json!("1d12h"), r#"time: unknown unit "d" in duration "1d12h""#),
            (json!("1y"), r#"time: unknown unit "y" in duration "1y""#),
            (json!("1.5d"), r#"strconv.ParseInt: parsing "1.5": invalid syntax"#),
            (json!("-1h"), "cannot provide negative value '-3600'"),
            (json!(-3600), "cannot provide negative value '-3600'"),
            (json!("-2d"), "cannot provide negative value '-172800'"),
            (json!(true), "could not parse duration from input"),
            (json!([60]), "could not parse duration from input"),
            (json!({"a": 1}), "could not parse duration from input"),
        ] {
            assert_eq!(seconds(value.clone()), Err(text.to_owned()), "{value}");
        }
        for value in [json!(9_223_372_037_u64), json!(1e300), json!("99999999999999999999"), json!("999999d")]
        {
            assert!(seconds(value.clone()).unwrap_err().contains("resulted in overflow"), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[-+0-9.nuµmshd]{0,40}") {
            let _ = parse(&Value::String(text));
        }

        #[test]
        fn whole_seconds_are_read_back(number in 0_u64..9_223_372_036) {
            prop_assert_eq!(seconds(json!(number)), Ok(Some(number)));
            prop_assert_eq!(seconds(json!(format!("{number}s"))), Ok(Some(number)));
        }

        #[test]
        fn hours_and_minutes_add_up(hours in 0_u64..2_000_000, minutes in 0_u64..1_000) {
            prop_assert_eq!(seconds(json!(format!("{hours}h{minutes}m"))), Ok(Some(hours * 3600 + minutes * 60)));
        }
    }
}
