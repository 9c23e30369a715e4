//! Size limits of values. One pass measures a value before anything else reads it, so the cost of a request is
//! bounded by its size.

use serde_json::Value;

use super::field::FieldInfo;
use super::kind::Shape;
use super::values::LONGEST_NAME;

/// Reason why a value is too large, without quoting it.
pub(super) fn excess(info: &FieldInfo, name: &str, value: &Value) -> Option<String> {
    let too_many = |count: usize| {
        let most = info.most;
        (count > most).then(|| format!("{name} must name at most {most} elements, not {count}"))
    };
    let too_long = |text: &str| {
        let longest = if info.shape == Shape::Name { LONGEST_NAME } else { info.longest };
        let length = text.len();
        (length > longest).then(|| format!("{name} must be at most {longest} bytes long, not {length}"))
    };
    let within = |value: &Value| excess(info, name, value);
    match value {
        Value::String(text) if info.shape == Shape::CommaStrings => too_many(text.split(',').count())
            .or_else(|| text.split(',').find_map(|part| too_long(part.trim()))),
        Value::String(text) => too_long(text),
        Value::Array(elements) => too_many(elements.len()).or_else(|| elements.iter().find_map(within)),
        Value::Object(map) => too_many(map.len())
            .or_else(|| map.iter().find_map(|(key, value)| too_long(key).or_else(|| within(value)))),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::framework::{AnyField as _, Field, Name};

    static TEXT: Field<String> = Field::new("text", "").longest(5);
    static LIST: Field<Vec<String>> = Field::new("list", "").longest(5).most(3);
    static NAME: Field<Name> = Field::new("name", "");

    #[test]
    fn a_text_is_measured_in_bytes() {
        let excess = |value| excess(TEXT.info(), "text", &value);
        assert_eq!(excess(json!("12345")), None);
        assert_eq!(excess(json!("123456")).unwrap(), "text must be at most 5 bytes long, not 6");
        assert!(excess(json!("\u{e4}\u{e4}\u{e4}")).is_some());
        assert_eq!(excess(json!(123_456_789)), None);
    }

    #[test]
    fn a_list_is_counted_and_its_elements_measured_in_every_form() {
        let excess = |value| excess(LIST.info(), "list", &value);
        for fits in [json!("a,b,c"), json!(["a", "b", "c"]), json!("12345 , 12345"), json!("")] {
            assert_eq!(excess(fits.clone()), None, "{fits}");
        }
        for many in [json!("a,b,c,d"), json!(["a", "b", "c", 1]), json!([["a", "b", "c", "d"]])] {
            assert_eq!(excess(many).unwrap(), "list must name at most 3 elements, not 4");
        }
        for long in [json!("123456"), json!(["a", "123456"]), json!({"123456": 1}), json!({"a": "123456"})] {
            assert_eq!(excess(long).unwrap(), "list must be at most 5 bytes long, not 6");
        }
    }

    #[test]
    fn a_name_is_short() {
        let excess = |length| excess(NAME.info(), "name", &"x".repeat(length).into());
        assert_eq!(
            (excess(128), excess(129).unwrap().as_str()),
            (None, "name must be at most 128 bytes long, not 129")
        );
    }
}
