//! The kinds of value a field can have.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::logical::Data;

use super::decode::{self, Refusal};
use super::values::{LowercaseString, Name, StringSlice};
use super::{duration, integer};

/// A type that a field's value can have.
pub trait Kind: Sized + Send + Sync + 'static {
    /// How a default of this kind is written in a `static`.
    type Default: Copy + Send + Sync + 'static;
    /// What help and the OpenAPI document call it.
    const SHAPE: Shape;
    /// Reads a decoded JSON value as Vault does; `None` where Vault takes the value as not sent.
    fn parse(value: &Value) -> Result<Option<Self>, Refusal>;
    /// The value of a default.
    fn of_default(default: Self::Default) -> Self;
    /// The default as the OpenAPI document shows it.
    fn show_default(default: Self::Default) -> Value;
}

/// The shape of a value, for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    String,
    /// Text in lower case.
    Lowercase,
    /// A name as Vault's paths take it.
    Name,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// An object.
    Map,
    /// A span of time in seconds.
    Duration,
    /// A list of texts.
    Strings,
    /// A list of texts that may also come as one text with commas.
    CommaStrings,
    /// A list of objects.
    Maps,
    /// Texts by name.
    KeyValues,
    /// A point in time.
    Time,
}

impl Shape {
    /// What path help calls it.
    pub fn help_name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Lowercase => "lowercase string",
            Self::Name => "name string",
            Self::Integer => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Map => "map",
            Self::Duration => "duration (sec)",
            Self::Strings | Self::CommaStrings | Self::Maps => "slice",
            Self::KeyValues => "keypair",
            Self::Time => "time",
        }
    }
}

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

impl Kind for LowercaseString {
    type Default = &'static str;
    const SHAPE: Shape = Shape::Lowercase;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::string(value).map(|text| Some(Self::new(&text)))
    }
    fn of_default(default: &'static str) -> Self {
        Self::new(default)
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

impl Kind for f64 {
    type Default = f64;
    const SHAPE: Shape = Shape::Float;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::float(value).map(Some)
    }
    fn of_default(default: f64) -> Self {
        default
    }
    fn show_default(default: f64) -> Value {
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

/// The only default of an object is the empty one.
impl Kind for Data {
    type Default = ();
    const SHAPE: Shape = Shape::Map;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::map(value).map(Some)
    }
    fn of_default((): ()) -> Self {
        Self::new()
    }
    fn show_default((): ()) -> Value {
        Value::Object(Self::new())
    }
}

/// The only default of a list of objects is the empty one.
impl Kind for Vec<Data> {
    type Default = ();
    const SHAPE: Shape = Shape::Maps;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        let objects = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        objects.iter().map(decode::map).collect::<Result<_, _>>().map(Some)
    }
    fn of_default((): ()) -> Self {
        Self::new()
    }
    fn show_default((): ()) -> Value {
        Value::Array(Vec::new())
    }
}

/// A default is in seconds.
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
        // The document's type for it is a text, and its default has to be of that type.
        duration::shown(default).into()
    }
}

impl Kind for StringSlice {
    type Default = &'static [&'static str];
    const SHAPE: Shape = Shape::Strings;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        match value {
            Value::String(text) if text.is_empty() => Ok(Some(Self::default())),
            other => decode::strings(other).map(|texts| Some(Self(texts))),
        }
    }
    fn of_default(default: &'static [&'static str]) -> Self {
        Self(Vec::of_default(default))
    }
    fn show_default(default: &'static [&'static str]) -> Value {
        Value::from(default)
    }
}

impl Kind for Vec<String> {
    type Default = &'static [&'static str];
    const SHAPE: Shape = Shape::CommaStrings;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::comma_strings(value).map(Some)
    }
    fn of_default(default: &'static [&'static str]) -> Self {
        default.iter().map(|text| (*text).to_owned()).collect()
    }
    fn show_default(default: &'static [&'static str]) -> Value {
        Value::from(default)
    }
}

impl Kind for BTreeMap<String, String> {
    type Default = &'static [(&'static str, &'static str)];
    const SHAPE: Shape = Shape::KeyValues;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::key_values(value).map(Some)
    }
    fn of_default(default: &'static [(&'static str, &'static str)]) -> Self {
        default.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
    fn show_default(default: &'static [(&'static str, &'static str)]) -> Value {
        default.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect::<Data>().into()
    }
}

/// A default is in seconds since 1970.
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

/// Vault's framework takes a text only: a number reaches an external plugin as a float, which it refuses.
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

    fn taken<T: Kind>(value: Value) -> T {
        T::parse(&value).unwrap().unwrap()
    }

    fn refusal<T: Kind + std::fmt::Debug>(value: Value) -> String {
        T::parse(&value).unwrap_err().to_string()
    }

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
    fn a_lowercase_string_is_lowered() {
        assert_eq!(&*taken::<LowercaseString>(json!("AbC")), "abc");
        assert_eq!(&*LowercaseString::of_default("AbC"), "abc");
    }

    #[test]
    fn a_name_matches_its_pattern() {
        for name in ["a", "_", "1", "a-b", "a.b", "a..b", "A_1"] {
            assert_eq!(&*taken::<Name>(json!(name)), name);
        }
        assert_eq!(&*taken::<Name>(json!(15)), "15");
        for value in
            [json!(""), Value::Null, json!("-a"), json!("a-"), json!("a b"), json!("a/b"), json!("\u{e4}")]
        {
            assert_eq!(refusal::<Name>(value), "field does not match the formatting rules");
        }
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
    fn a_float_takes_numbers_flags_and_texts() {
        for (value, number) in
            [(json!(1.5), 1.5), (json!("1.5"), 1.5), (json!(true), 1.0), (json!(""), 0.0), (Value::Null, 0.0)]
        {
            assert!((taken::<f64>(value) - number).abs() < f64::EPSILON);
        }
        for text in ["x", "NaN", "inf"] {
            let expected =
                format!("cannot parse '' as float: strconv.ParseFloat: parsing {text:?}: invalid syntax");
            assert_eq!(refusal::<f64>(json!(text)), expected);
        }
        assert_eq!(
            refusal::<f64>(json!("1e999")),
            r#"cannot parse '' as float: strconv.ParseFloat: parsing "1e999": value out of range"#
        );
        assert!(refusal::<f64>(json!({})).starts_with("'' expected type 'float64'"));
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
    fn a_map_takes_objects_and_lists_of_them() {
        for value in [Value::Null, json!({}), json!([]), json!([null])] {
            assert_eq!(taken::<Data>(value), Data::new());
        }
        assert_eq!(Value::Object(taken::<Data>(json!({"a": [1]}))), json!({"a": [1]}));
        assert_eq!(
            Value::Object(taken::<Data>(json!([{"a": 1}, {"a": 2, "b": 3}]))),
            json!({"a": 2, "b": 3})
        );
        assert_eq!(refusal::<Data>(json!("a")), "'' expected a map, got 'string'");
        assert_eq!(refusal::<Data>(json!(1)), "'' expected a map, got 'float64'");
        assert_eq!(refusal::<Data>(json!(["a"])), "'[0]' expected a map, got 'string'");
    }

    #[test]
    fn a_duration_is_in_whole_seconds() {
        assert_eq!(taken::<Duration>(json!("1h30m")), Duration::from_secs(5400));
        assert_eq!(Duration::parse(&Value::Null), Ok(None));
    }

    #[test]
    fn a_list_of_strings_keeps_commas_and_trims() {
        for (value, texts) in [
            (json!([" a ", 1, true]), &["a", "1", "1"][..]),
            (json!("a,b"), &["a,b"]),
            (json!(5), &["5"]),
            (json!(""), &[]),
            (json!([""]), &[""]),
            (json!(["a,b", null]), &["a,b", ""]),
            (json!({}), &[]),
            (Value::Null, &[]),
        ] {
            assert_eq!(taken::<StringSlice>(value).0, texts);
        }
    }

    #[test]
    fn a_comma_list_splits_a_text_but_not_elements() {
        for (value, texts) in [
            (json!("a,,c"), &["a", "", "c"][..]),
            (json!(" a , b"), &["a", "b"]),
            (json!(""), &[]),
            (Value::Null, &[]),
            (json!(["a,b", " c "]), &["a,b", "c"]),
            (json!([]), &[]),
            (json!(5), &["5"]),
        ] {
            assert_eq!(taken::<Vec<String>>(value), texts);
        }
        assert_eq!(
            refusal::<Vec<String>>(json!(["a", {"b": 1}, [2]])),
            "2 error(s) decoding:\n\n\
             * '[1]' expected type 'string', got unconvertible type 'map[string]interface {}', value: 'map[b:1]'\n\
             * '[2]' expected type 'string', got unconvertible type '[]interface {}', value: '[2]'"
        );
    }

    #[test]
    fn key_values_take_objects_and_pairs() {
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for (value, expected) in [
            (json!({"a": 1, "b": true}), pairs(&[("a", "1"), ("b", "1")])),
            (json!("a=b,c=d"), pairs(&[("a", "b,c=d")])),
            (json!(["a=b", "c="]), pairs(&[("a", "b"), ("c", "")])),
            (json!({}), pairs(&[])),
            (Value::Null, pairs(&[])),
        ] {
            assert_eq!(taken::<BTreeMap<String, String>>(value), expected);
        }
        for (value, text) in
            [(json!("x"), r#"invalid key pair "x""#), (json!(["=x"]), r#"invalid key pair "=x""#)]
        {
            assert_eq!(refusal::<BTreeMap<String, String>>(value), text);
        }
        assert!(refusal::<BTreeMap<String, String>>(json!({"a": []})).contains("expected type 'string'"));
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

    #[test]
    fn a_refusal_quotes_no_more_than_a_glimpse() {
        assert!(refusal::<i64>(json!("x".repeat(1_000_000))).len() < 400);
        assert!(refusal::<i64>(json!(vec!["x".repeat(1000); 1000])).len() < 400);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}|[-+0-9a-z.=,]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_makes_any_kind_panic(value in any_value()) {
            let _ = String::parse(&value);
            let _ = LowercaseString::parse(&value);
            let _ = Name::parse(&value);
            let _ = i64::parse(&value);
            let _ = f64::parse(&value);
            let _ = bool::parse(&value);
            let _ = Data::parse(&value);
            let _ = Duration::parse(&value);
            let _ = StringSlice::parse(&value);
            let _ = Vec::<String>::parse(&value);
            let _ = BTreeMap::<String, String>::parse(&value);
            let _ = DateTime::<Utc>::parse(&value);
        }

        #[test]
        fn whatever_is_a_name_is_taken_as_it_is(name in r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,30}[0-9A-Za-z_])?") {
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
