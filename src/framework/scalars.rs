//! Field kinds with one value.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::decode::{self, Refusal};
use super::kind::{Kind, Shape};
use super::values::Name;
use super::{duration, integer};

impl Kind for String {
    type Default = &'static str;
    const SHAPE: Shape = Shape::String;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::string(value).map(Some)
    }
    fn of_default(default: &'static str) -> Self {
        default.to_owned()
    }
    fn show_default(default: &'static str) -> Value {
        Value::from(default)
    }
}

impl Kind for Name {
    type Default = &'static str;
    const SHAPE: Shape = Shape::Name;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        Self::new(decode::string(value)?).map(Some)
    }
    fn of_default(default: &'static str) -> Self {
        Self::declared(default)
    }
    fn show_default(default: &'static str) -> Value {
        Value::from(default)
    }
}

impl Kind for i64 {
    type Default = i64;
    const SHAPE: Shape = Shape::Integer;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::int(value).map(Some)
    }
    fn of_default(default: i64) -> Self {
        default
    }
    fn show_default(default: i64) -> Value {
        Value::from(default)
    }
}

impl Kind for bool {
    type Default = bool;
    const SHAPE: Shape = Shape::Bool;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::bool(value).map(Some)
    }
    fn of_default(default: bool) -> Self {
        default
    }
    fn show_default(default: bool) -> Value {
        Value::from(default)
    }
}

/// Defaults are in seconds.
impl Kind for Duration {
    type Default = u64;
    const SHAPE: Shape = Shape::Duration;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        duration::parse(value)
    }
    fn of_default(default: u64) -> Self {
        Self::from_secs(default)
    }
    fn show_default(default: u64) -> Value {
        // The document declares a string, so the default must be a string.
        duration::format_seconds(default).into()
    }
}

/// Defaults are in seconds since 1970.
impl Kind for DateTime<Utc> {
    type Default = i64;
    const SHAPE: Shape = Shape::Time;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        time(value)
    }
    fn of_default(default: i64) -> Self {
        Self::from_timestamp(default, 0).unwrap_or_default()
    }
    fn show_default(default: i64) -> Value {
        Value::from(Self::of_default(default).to_rfc3339())
    }
}

/// Only texts are valid. Vault's framework refuses numbers too, because they reach an external plugin as floats.
fn time(value: &Value) -> Result<Option<DateTime<Utc>>, Refusal> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err(Refusal::new("could not parse time from input type")),
    };
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Some(time.to_utc()));
    }
    let seconds = integer::parse_decimal(text).ok();
    match seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        Some(time) => Ok(Some(time)),
        None => Err(Refusal::new("could not parse string as date and time")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::framework::kind::tests::{refusal, taken};

    #[test]
    fn a_string_takes_any_scalar() {
        for (value, text) in [
            (json!("a"), "a"),
            (json!(1.5), "1.5"),
            (json!(5), "5"),
            (json!(1e21), "1000000000000000000000"),
            (json!(0.000_000_1), "0.0000001"),
            (json!(9_007_199_254_740_993_i64), "9007199254740993"),
            (json!(true), "1"),
            (json!(false), "0"),
            (Value::Null, ""),
        ] {
            assert_eq!(taken::<String>(value), text);
        }
        assert_eq!(
            refusal::<String>(json!([5, "a", null, true])),
            "'' expected type 'string', got unconvertible type '[]interface {}', value: '[5 a <nil> true]'"
        );
        assert_eq!(
            refusal::<String>(json!({"b": 1.5, "a": [2]})),
            "'' expected type 'string', got unconvertible type 'map[string]interface {}', value: 'map[a:[2] b:1.5]'"
        );
    }

    #[test]
    fn a_name_matches_its_pattern() {
        for name in ["a", "_", "1", "a-b", "a.b", "a.-.b", "A_1"] {
            assert_eq!(&*taken::<Name>(json!(name)), name);
        }
        assert_eq!(&*taken::<Name>(json!(15)), "15");
        for value in
            [json!(""), Value::Null, json!("-a"), json!("a-"), json!("a b"), json!("a/b"), json!("\u{e4}")]
        {
            assert_eq!(refusal::<Name>(value), "field does not match the formatting rules");
        }
        assert!(refusal::<Name>(json!("a..b")).contains("\"..\""));
    }

    #[test]
    fn an_integer_takes_numbers_flags_and_the_texts_of_go() {
        for (value, number) in [
            (json!(5), 5),
            (json!(1.9), 1),
            (json!(-1.9), -1),
            (json!(true), 1),
            (json!(false), 0),
            (json!("0x10"), 16),
            (json!("010"), 8),
            (json!(""), 0),
            (Value::Null, 0),
            (json!(i64::MIN), i64::MIN),
        ] {
            assert_eq!(taken::<i64>(value), number);
        }
        for (value, text) in [
            (json!("x"), r#"cannot parse '' as int: strconv.ParseInt: parsing "x": invalid syntax"#),
            (json!("1.9"), r#"cannot parse '' as int: strconv.ParseInt: parsing "1.9": invalid syntax"#),
            (
                json!("9223372036854775808"),
                r#"cannot parse '' as int: strconv.ParseInt: parsing "9223372036854775808": value out of range"#,
            ),
            (
                json!(u64::MAX),
                r#"cannot parse '' as int: strconv.ParseInt: parsing "18446744073709551615": value out of range"#,
            ),
            (
                json!([5, 6]),
                "'' expected type 'int', got unconvertible type '[]interface {}', value: '[5 6]'",
            ),
        ] {
            assert_eq!(refusal::<i64>(value), text);
        }
        assert!(refusal::<i64>(json!(1e300)).ends_with("value out of range"));
    }

    #[test]
    fn a_flag_takes_the_texts_of_go() {
        for value in [json!(true), json!(2), json!(0.1), json!("1"), json!("t"), json!("T"), json!("TRUE")] {
            assert!(taken::<bool>(value));
        }
        for value in [json!(false), json!(0), json!("0"), json!("f"), json!("False"), json!(""), Value::Null]
        {
            assert!(!taken::<bool>(value));
        }
        assert_eq!(
            refusal::<bool>(json!("yes")),
            r#"cannot parse '' as bool: strconv.ParseBool: parsing "yes": invalid syntax"#
        );
        assert_eq!(
            refusal::<bool>(json!([])),
            "'' expected type 'bool', got unconvertible type '[]interface {}', value: '[]'"
        );
    }

    #[test]
    fn a_duration_is_in_whole_seconds() {
        assert_eq!(taken::<Duration>(json!("1h30m")), Duration::from_secs(5400));
        assert_eq!(Duration::parse(&Value::Null), Ok(None));
    }

    #[test]
    fn a_time_is_a_text_and_null_is_not_sent() {
        let time = taken::<DateTime<Utc>>(json!("2026-01-02T03:04:05.5+01:00"));
        assert_eq!(time.to_rfc3339(), "2026-01-02T02:04:05.500+00:00");
        assert_eq!(taken::<DateTime<Utc>>(json!("1700000000")).timestamp(), 1_700_000_000);
        assert_eq!(DateTime::<Utc>::parse(&Value::Null), Ok(None));
        for value in [json!(1_700_000_000), json!(true)] {
            assert_eq!(refusal::<DateTime<Utc>>(value), "could not parse time from input type");
        }
        for value in [json!("yesterday"), json!(""), json!("9223372036854775807")] {
            assert_eq!(refusal::<DateTime<Utc>>(value), "could not parse string as date and time");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_is_taken_as_it_is(name in r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,30}[0-9A-Za-z_])?") {
            prop_assume!(!name.contains(".."));
            prop_assert_eq!(&*taken::<Name>(json!(name)), name.as_str());
        }

        #[test]
        fn what_was_written_is_read_back(text in "\\PC*", flag: bool, number: i64) {
            prop_assert_eq!(taken::<String>(json!(text)), text);
            prop_assert_eq!(taken::<bool>(json!(flag)), flag);
            prop_assert_eq!(taken::<i64>(json!(number)), number);
        }
    }
}
