//! Kinds of field values.

use serde_json::Value;

use super::decode::Refusal;

/// A type of field values.
pub trait Kind: Sized + Send + Sync + 'static {
    /// Form of a default in a `static`.
    type Default: Copy + Send + Sync + 'static;
    /// Shape for help and the OpenAPI document.
    const SHAPE: Shape;
    /// Parses a decoded JSON value as Vault does. `None` means that Vault treats the value as not sent.
    fn parse(value: &Value) -> Result<Option<Self>, Refusal>;
    /// A duplicate element of a list.
    fn repeated(&self) -> Option<&str> {
        None
    }
    /// The value of a default.
    fn of_default(default: Self::Default) -> Self;
    /// The default for the OpenAPI document.
    fn show_default(default: Self::Default) -> Value;
}

/// Shape of a value, for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    String,
    /// A name that matches Vault's name pattern.
    Name,
    /// A whole number.
    Integer,
    /// True or false.
    Bool,
    /// An object.
    Map,
    /// A duration in seconds.
    Duration,
    /// A list of texts.
    Strings,
    /// A list of texts, or one text with commas.
    CommaStrings,
    /// A list of objects.
    Maps,
    /// An object with text values.
    KeyValues,
    /// A point in time.
    Time,
}

impl Shape {
    /// The name of the shape in path help.
    pub fn help_name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Name => "name string",
            Self::Integer => "int",
            Self::Bool => "bool",
            Self::Map => "map",
            Self::Duration => "duration (sec)",
            Self::Strings | Self::CommaStrings | Self::Maps => "slice",
            Self::KeyValues => "keypair",
            Self::Time => "time",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::framework::Name;
    use crate::logical::Data;

    pub(in crate::framework) fn taken<T: Kind>(value: Value) -> T {
        T::parse(&value).unwrap().unwrap()
    }

    pub(in crate::framework) fn refusal<T: Kind + std::fmt::Debug>(value: Value) -> String {
        T::parse(&value).unwrap_err().to_string()
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
            let _ = Name::parse(&value);
            let _ = i64::parse(&value);
            let _ = bool::parse(&value);
            let _ = Data::parse(&value);
            let _ = Duration::parse(&value);
            let _ = Vec::<String>::parse(&value);
            let _ = BTreeMap::<String, String>::parse(&value);
            let _ = DateTime::<Utc>::parse(&value);
        }
    }
}
