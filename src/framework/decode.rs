//! Reads JSON values as leniently as Vault's framework, with the same error texts (PROTOCOL 8.3).
//!
//! Two differences from Vault's framework: whole numbers keep all digits, and an integer out of range is an error.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Number, Value};

use crate::logical::Data;

use super::integer;

/// Reason why a value is invalid, in Vault's words. The text quotes the value, so callers must not show it for a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// Longest quote of a value, in characters.
const MAX_QUOTED: usize = 200;

impl Refusal {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn repeated(element: &str) -> Self {
        Self(format!("must not repeat {:?}", truncate(element.to_owned())))
    }

    /// `at` is the place inside the value, such as `[0]`; empty for the value itself.
    fn unconvertible(at: &str, expected: &str, value: &Value) -> Self {
        let (got, shown) = (go_type(value), truncate(go_text(value)));
        Self(format!("'{at}' expected type '{expected}', got unconvertible type '{got}', value: '{shown}'"))
    }

    fn unparsable(at: &str, kind: &str, function: &str, input: &str, reason: &str) -> Self {
        let input = truncate(input.to_owned());
        Self(format!("cannot parse '{at}' as {kind}: strconv.{function}: parsing {input:?}: {reason}"))
    }

    fn not_a_map(at: &str, value: &Value) -> Self {
        Self(format!("'{at}' expected a map, got '{}'", go_kind(value)))
    }

    /// Joins the refusals of several elements.
    fn elements(refusals: Vec<Self>) -> Self {
        let mut lines: Vec<String> = refusals.into_iter().map(|refusal| format!("* {}", refusal.0)).collect();
        lines.sort();
        let count = lines.len();
        lines.truncate(10);
        Self(format!("{count} error(s) decoding:\n\n{}", lines.join("\n")))
    }
}

pub(super) fn string(value: &Value) -> Result<String, Refusal> {
    string_at("", value)
}

fn string_at(at: &str, value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(if *flag { "1" } else { "0" }.to_owned()),
        Value::Number(number) => Ok(plain(number)),
        Value::Array(_) | Value::Object(_) => Err(Refusal::unconvertible(at, "string", value)),
    }
}

pub(super) fn int(value: &Value) -> Result<i64, Refusal> {
    match value {
        Value::Null => Ok(0),
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => truncated(number).ok_or_else(|| {
            Refusal::unparsable("", "int", "ParseInt", &plain(number), integer::Fault::Range.text())
        }),
        Value::String(text) if text.is_empty() => Ok(0),
        Value::String(text) => integer::parse(text)
            .map_err(|fault| Refusal::unparsable("", "int", "ParseInt", text, fault.text())),
        Value::Array(_) | Value::Object(_) => Err(Refusal::unconvertible("", "int", value)),
    }
}

pub(super) fn bool(value: &Value) -> Result<bool, Refusal> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(Refusal::unparsable("", "bool", "ParseBool", text, integer::Fault::Syntax.text())),
        },
        Value::Array(_) | Value::Object(_) => Err(Refusal::unconvertible("", "bool", value)),
    }
}

/// A list's elements as trimmed text. A scalar counts as a list of one. Empty elements are dropped; Vault's framework
/// keeps those that a trailing comma makes.
pub(super) fn strings(value: &Value) -> Result<Vec<String>, Refusal> {
    let elements = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(elements) => elements.as_slice(),
        Value::Object(map) if map.is_empty() => return Ok(Vec::new()),
        scalar => std::slice::from_ref(scalar),
    };
    let texts = elements
        .iter()
        .enumerate()
        .map(|(index, element)| string_at(&format!("[{index}]"), element).map(|text| text.trim().to_owned()));
    collect_all(texts).map(non_empty)
}

/// Like [`strings`], but splits a single text at its commas.
pub(super) fn comma_strings(value: &Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(non_empty(text.split(',').map(|part| part.trim().to_owned()).collect())),
        other => strings(other),
    }
}

/// An object. The objects of a list are merged.
pub(super) fn map(value: &Value) -> Result<Data, Refusal> {
    let mut merged = Data::new();
    match value {
        Value::Null => {}
        Value::Object(map) => return Ok(map.clone()),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate().filter(|(_, element)| !element.is_null()) {
                let map =
                    element.as_object().ok_or_else(|| Refusal::not_a_map(&format!("[{index}]"), element))?;
                merged.extend(map.clone());
            }
        }
        scalar => return Err(Refusal::not_a_map("", scalar)),
    }
    Ok(merged)
}

/// An object with text values, or texts of the form `key=value`.
pub(super) fn key_values(value: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    if let Ok(map) = map(value) {
        let texts = map.into_iter().map(|(key, value)| Ok((key, string(&value)?)));
        if let Ok(pairs) = texts.collect::<Result<_, Refusal>>() {
            return Ok(pairs);
        }
    }
    untrimmed(value)?.iter().map(|pair| key_value(pair)).collect()
}

fn untrimmed(value: &Value) -> Result<Vec<String>, Refusal> {
    let elements = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = elements.iter().enumerate();
    collect_all(texts.map(|(index, element)| string_at(&format!("[{index}]"), element)))
}

fn key_value(pair: &str) -> Result<(String, String), Refusal> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Refusal(format!("invalid key pair {:?}", truncate(pair.to_owned())))),
    }
}

fn non_empty(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

/// The first duplicate text.
pub(super) fn repeated(texts: &[String]) -> Option<&str> {
    let mut seen = HashSet::new();
    texts.iter().map(String::as_str).find(|text| !seen.insert(*text))
}

/// All texts, or all refusals.
fn collect_all(texts: impl Iterator<Item = Result<String, Refusal>>) -> Result<Vec<String>, Refusal> {
    let mut refusals = Vec::new();
    let taken = texts.filter_map(|text| text.map_err(|refusal| refusals.push(refusal)).ok()).collect();
    if refusals.is_empty() { Ok(taken) } else { Err(Refusal::elements(refusals)) }
}

/// The shortest exact decimal form of a number, without exponent.
fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

/// A number without its fraction, if the result is an `i64`.
pub(super) fn truncated(number: &Number) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match number.as_f64() {
        Some(float) if number.is_f64() => (-LIMIT..LIMIT).contains(&float).then_some(float as i64),
        _ => number.as_i64(),
    }
}

/// Go's type name of a decoded JSON value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        scalar => go_kind(scalar),
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// A value in Go's print format.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => plain(number),
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let texts: Vec<String> = elements.iter().take(MAX_QUOTED).map(go_text).collect();
            format!("[{}]", texts.join(" "))
        }
        Value::Object(map) => {
            let texts = map.iter().take(MAX_QUOTED).map(|(key, value)| format!("{key}:{}", go_text(value)));
            format!("map[{}]", texts.collect::<Vec<_>>().join(" "))
        }
    }
}

fn truncate(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
