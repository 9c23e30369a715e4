//! Field kinds with several values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::logical::{Data, data};

use super::decode::{self, Refusal};
use super::kind::{Kind, Shape};

/// The only possible default of an object is the empty object.
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

/// The only possible default of a list of objects is the empty list.
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

impl Kind for Vec<String> {
    type Default = &'static [&'static str];
    const SHAPE: Shape = Shape::CommaStrings;
    fn parse(value: &Value) -> Result<Option<Self>, Refusal> {
        decode::comma_strings(value).map(Some)
    }
    fn repeated(&self) -> Option<&str> {
        decode::repeated(self)
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
        match value {
            Value::String(text) if text.is_empty() => Ok(Some(Self::new())),
            other => decode::key_values(other).map(Some),
        }
    }
    fn of_default(default: &'static [(&'static str, &'static str)]) -> Self {
        default.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
    fn show_default(default: &'static [(&'static str, &'static str)]) -> Value {
        data(default.iter().map(|(key, value)| (*key, Value::from(*value)))).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::framework::kind::tests::{refusal, taken};

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
    fn a_comma_list_splits_a_text_but_not_elements() {
        for (value, texts) in [
            (json!("a,,c"), &["a", "c"][..]),
            (json!("a,"), &["a"]),
            (json!(" , ,"), &[]),
            (json!(["a", "", null]), &["a"]),
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
            (json!(""), pairs(&[])),
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
}
