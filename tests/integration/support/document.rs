//! The mount's OpenAPI document, to check responses against the declared fields and types.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use openai_secrets::logical::{Operation, Request, Response};
use serde_json::Value;

use super::python;

/// Declared responses of all operations.
#[derive(Debug)]
pub struct Document {
    answers: Vec<Declared>,
}

/// Declared response of one operation.
#[derive(Debug)]
struct Declared {
    /// Path segments; `None` is a capture.
    path: Vec<Option<String>>,
    method: String,
    statuses: Vec<String>,
    /// Field names and types.
    fields: BTreeMap<String, String>,
}

/// Asserts that a validator accepts the document for the paths below the prefix. Does nothing if the validator is not
/// available.
pub fn is_valid(document: &Value, prefix: &str) {
    let Some(mut validate) =
        python::script("tests/openapi/validate.py", "the OpenAPI document with a validator")
    else {
        return;
    };
    let mut child = validate.arg(prefix).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Schema of an operation's body in any media type; null without a body.
pub fn body_schema(operation: &Value) -> &Value {
    let content = operation["requestBody"]["content"].as_object();
    content.and_then(|content| content.values().next()).map_or(&Value::Null, |body| &body["schema"])
}

impl Document {
    /// Reads the declared responses of a document.
    pub fn of(document: &Value) -> Self {
        let mut answers = Vec::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                answers.extend(Declared::of(path, method, operation));
            }
        }
        Self { answers }
    }

    /// The first difference between a response and its declaration.
    pub fn mismatch(&self, request: &Request, answer: Option<&Response>) -> Option<String> {
        let declared = self.answers.iter().filter(|declared| declared.is_of(request));
        declared.max_by_key(|it| it.literals())?.mismatch(answer)
    }
}

impl Declared {
    /// `None` for an entry that is no operation.
    fn of(path: &str, method: &str, operation: &Value) -> Option<Self> {
        let statuses = operation.get("responses")?.as_object()?.keys().cloned().collect();
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"];
        let fields = schema.as_object().into_iter().flatten();
        let fields = fields.map(|(name, field)| (name.clone(), full_type(field))).collect();
        let segments = path.trim_matches('/').split('/');
        let path = segments.map(|segment| (!segment.starts_with('{')).then(|| segment.to_owned())).collect();
        Some(Self { path, method: method.to_owned(), statuses, fields })
    }

    fn mismatch(&self, answer: Option<&Response>) -> Option<String> {
        let status = match answer {
            Some(_) => "200",
            // A read without a result is a 404.
            None if self.method == "get" => return None,
            None => "204",
        };
        if !self.statuses.iter().any(|declared| declared == status) {
            return Some(format!("undeclared {status}"));
        }
        // A raw body is text, not data.
        let data = answer.map(|answer| &answer.data).filter(|data| !data.contains_key("http_raw_body"))?;
        data.iter().find_map(|(name, value)| {
            let Some(kind) = self.fields.get(name) else { return Some(format!("undeclared {name}")) };
            (!is_of(kind, value)).then(|| format!("{name} as another type than {kind}"))
        })
    }

    fn is_of(&self, request: &Request) -> bool {
        let method = match request.operation {
            Operation::Read => "get",
            Operation::Create | Operation::Update => "post",
            Operation::Patch => "patch",
            Operation::Delete => "delete",
            _ => return false,
        };
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let fits = |(own, sent): (&Option<String>, &&str)| own.as_ref().is_none_or(|own| own == sent);
        self.method == method
            && segments.len() == self.path.len()
            && self.path.iter().zip(&segments).all(fits)
    }

    fn literals(&self) -> usize {
        self.path.iter().flatten().count()
    }
}

/// Type with the item type of an array.
fn full_type(schema: &Value) -> String {
    let kind = schema["type"].as_str().unwrap_or_default();
    match schema["items"]["type"].as_str() {
        Some(item) => format!("{kind} of {item}"),
        None => kind.to_owned(),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    if let Some(item) = kind.strip_prefix("array of ") {
        return value.as_array().is_some_and(|values| values.iter().all(|value| is_of(item, value)));
    }
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
