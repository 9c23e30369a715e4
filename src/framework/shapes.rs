//! JSON schemas of the OpenAPI document (PROTOCOL 8.11).

use std::iter;

use serde_json::{Map, Value, json};

use super::field::AnyField;
use super::{ResponseField, Shape};
use crate::logical::data;

/// A schema: a JSON object.
pub(super) type Schema = Map<String, Value>;

/// Keywords in the schema of a parameter. All other keywords are for bodies.
const OF_PARAMETERS: [&str; 6] = ["type", "items", "pattern", "default", "enum", "x-vault-displayAttrs"];

/// Schema of a shape.
pub(super) fn of_shape(shape: Shape) -> Schema {
    let (kind, more) = match shape {
        Shape::String => ("string", None),
        Shape::Name => ("string", Some(("pattern", json!(r"\w([\w.-]*\w)?")))),
        Shape::Integer => ("integer", None),
        Shape::Bool => ("boolean", None),
        Shape::Map => ("object", Some(("format", json!("map")))),
        Shape::Duration => ("string", Some(("format", json!("duration")))),
        Shape::Strings | Shape::CommaStrings => ("array", Some(("items", json!({"type": "string"})))),
        Shape::Maps => ("array", Some(("items", json!({"type": "object"})))),
        Shape::KeyValues => ("object", Some(("format", json!("kvpairs")))),
        Shape::Time => ("string", Some(("format", json!("date-time")))),
    };
    data(iter::once(("type", Value::from(kind))).chain(more))
}

/// Schema of a shape in a response. Requests accept several formats; responses use one.
fn of_answered(shape: Shape) -> Schema {
    of_shape(if shape == Shape::Duration { Shape::Integer } else { shape })
}

/// Schema of a body field under one of its names.
pub(super) fn of_field(name: &str, field: &dyn AnyField) -> Schema {
    let info = field.info();
    let mut schema = described(of_shape(info.shape), &info.description_as(name), info.sensitive);
    if let Some(default) = field.default_value() {
        schema.insert("default".to_owned(), default);
    }
    if !info.allowed.is_empty() {
        schema.insert("enum".to_owned(), Value::from(info.allowed));
    }
    if info.is_deprecated_as(name) {
        schema.insert("deprecated".to_owned(), Value::from(true));
    }
    schema
}

/// Example body: defaults, and required fields with empty values. Other fields are omitted.
pub(super) fn offered(fields: &[(&str, &dyn AnyField)]) -> Schema {
    let value = |name: &str, field: &dyn AnyField| {
        let info = field.info();
        let empty = info.is_required_as(name).then(|| empty(info.shape));
        field.default_value().or(empty).filter(|_| !info.is_deprecated_as(name))
    };
    let fields = fields.iter().filter_map(|(name, field)| Some((*name, value(name, *field)?)));
    data(fields)
}

/// An empty value of this shape.
fn empty(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Name | Shape::Duration | Shape::Time => json!(""),
        Shape::Integer => json!(0),
        Shape::Bool => json!(false),
        Shape::Map | Shape::KeyValues => json!({}),
        Shape::Strings | Shape::CommaStrings | Shape::Maps => json!([]),
    }
}

/// A field in a path or a query string.
pub(super) fn parameter(name: &str, field: &dyn AnyField, place: &str) -> Value {
    let info = field.info();
    let mut schema = of_field(name, field);
    schema.retain(|key, _| OF_PARAMETERS.contains(&key.as_str()));
    let mut parameter = described(Schema::new(), &info.description_as(name), false);
    parameter.insert("name".to_owned(), Value::from(name));
    parameter.insert("in".to_owned(), Value::from(place));
    parameter.insert("schema".to_owned(), Value::Object(schema));
    if place == "path" || info.required {
        parameter.insert("required".to_owned(), Value::from(true));
    }
    if info.is_deprecated_as(name) {
        parameter.insert("deprecated".to_owned(), Value::from(true));
    }
    Value::Object(parameter)
}

/// The parameter that turns a read into a list.
pub(super) fn list_parameter() -> Value {
    json!({
        "name": "list",
        "description": "Must be set to `true`",
        "in": "query",
        "required": true,
        "schema": {"type": "string", "enum": ["true"]},
    })
}

/// Schema of an object with these properties.
pub(super) fn of_object(properties: Schema, mut required: Vec<&str>) -> Schema {
    required.sort_unstable();
    let mut schema = Schema::new();
    schema.insert("type".to_owned(), Value::from("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::from(required));
    }
    schema
}

/// Schema of a response.
pub(super) fn of_answer(fields: &[ResponseField]) -> Schema {
    let properties = fields.iter().map(|field| {
        let schema = described(of_answered(field.shape), field.description, field.sensitive);
        (field.name, Value::Object(schema))
    });
    of_object(data(properties), Vec::new())
}

/// Schema of a list response.
pub(super) fn of_list() -> Schema {
    let keys = Value::Object(of_shape(Shape::Strings));
    of_object(data([("keys", keys)]), Vec::new())
}

fn described(mut schema: Schema, description: &str, sensitive: bool) -> Schema {
    if !description.is_empty() {
        schema.insert("description".to_owned(), Value::from(one_line(description)));
    }
    if sensitive {
        schema.insert("x-vault-displayAttrs".to_owned(), json!({"sensitive": true}));
    }
    schema
}

/// A text with each run of whitespace replaced by one space.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
