//! Strict readers of a call's JSON body and query. They refuse everything that OpenAI's schema does not allow.
//!
//! This file knows types and ranges. Each endpoint knows its own fields.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::call::Call;
use super::refusal::Refusal;

/// `expires_in_seconds`: one second to one year.
const LIFETIME: RangeInclusive<i64> = 1..=31_536_000;

/// Fields of a JSON body. Each reader removes its field; fields that are left at [`Fields::end`] are unknown.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a required body.
    pub fn of(call: &Call) -> Result<Self, Refusal> {
        let kind = call.content_type.as_deref().unwrap_or("none");
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Refusal::wrong_content_type(kind));
        }
        match serde_json::from_slice(&call.body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(Refusal::unreadable_body()),
        }
    }

    /// The fields of an optional body.
    pub fn of_optional(call: &Call) -> Result<Self, Refusal> {
        if call.body.is_empty() { Ok(Self(Map::new())) } else { Self::of(call) }
    }

    /// Treats null in these fields as not sent. Every other field refuses null.
    pub fn nullable(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, value| !(value.is_null() && names.contains(&name.as_str())));
        self
    }

    /// A non-empty text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(Refusal::empty(name)),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::wrong_type(name, "a string", &other)),
        }
    }

    /// A required text.
    pub fn required_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::missing(name))
    }

    /// One of these words.
    pub fn choice(&mut self, name: &str, allowed: &[&str]) -> Result<Option<String>, Refusal> {
        match self.text(name)? {
            Some(sent) if !allowed.contains(&sent.as_str()) => Err(Refusal::not_one_of(name, allowed, &sent)),
            sent => Ok(sent),
        }
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(Refusal::wrong_type(name, "a boolean", &other)),
        }
    }

    /// A list of non-empty texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| item_text(name, item)).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(Refusal::wrong_type(name, "an array of strings", &other)),
        }
    }

    /// `expires_in_seconds`.
    pub fn lifetime(&mut self) -> Result<Option<u64>, Refusal> {
        let name = "expires_in_seconds";
        let Some(sent) = self.0.remove(name) else { return Ok(None) };
        if !sent.is_i64() && !sent.is_u64() {
            return Err(Refusal::wrong_type(name, "an integer", &sent));
        }
        within(name, sent.as_i64().unwrap_or(i64::MAX), LIFETIME).map(|seconds| Some(seconds.unsigned_abs()))
    }

    /// Any value.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Refuses fields that no reader removed.
    pub fn end(self) -> Result<(), Refusal> {
        self.0.keys().next().map_or(Ok(()), |name| Err(Refusal::unknown(name)))
    }
}

fn item_text(name: &str, item: Value) -> Result<String, Refusal> {
    match item {
        Value::String(text) if text.is_empty() => Err(Refusal::empty(name)),
        Value::String(text) => Ok(text),
        other => Err(Refusal::wrong_type(name, "an array of strings", &other)),
    }
}

fn within(name: &str, sent: i64, range: RangeInclusive<i64>) -> Result<i64, Refusal> {
    if sent < *range.start() {
        Err(Refusal::below(name, *range.start(), sent))
    } else if sent > *range.end() {
        Err(Refusal::above(name, *range.end(), sent))
    } else {
        Ok(sent)
    }
}

/// Readers of the query.
impl Call {
    /// Refuses unknown parameters, and repeated parameters that are not lists. A list may be written as `name[]`.
    pub fn expect_query(&self, known: &[&str]) -> Result<(), Refusal> {
        let mut seen = Vec::new();
        for (name, _) in &self.query {
            let plain = name.strip_suffix("[]").unwrap_or(name);
            let list = LISTS.contains(&plain);
            if !known.contains(&plain) || (name != plain && !list) {
                return Err(Refusal::unknown(name));
            }
            if seen.contains(&plain) && !list {
                return Err(Refusal::invalid(name, format!("Parameter '{name}' was sent more than once.")));
            }
            seen.push(plain);
        }
        Ok(())
    }

    /// A parameter with one value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a list parameter.
    pub fn parameters(&self, name: &str) -> Vec<&str> {
        let named = |known: &str| known.strip_suffix("[]").unwrap_or(known) == name;
        self.query.iter().filter(|(known, _)| named(known)).map(|(_, value)| value.as_str()).collect()
    }

    /// An integer parameter.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let wrong = |text: &str| Refusal::wrong_type(name, "an integer", &Value::from(text));
        self.parameter(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    /// The `limit` parameter, checked against its range.
    pub fn limit(&self, default: i64, maximum: i64) -> Result<usize, Refusal> {
        let sent = self.integer("limit")?.unwrap_or(default);
        within("limit", sent, 1..=maximum).map(|limit| limit.unsigned_abs() as usize)
    }

    /// A parameter with one of these words.
    pub fn one_of(&self, name: &str, allowed: &[&str]) -> Result<Option<&str>, Refusal> {
        match self.parameter(name) {
            Some(sent) if !allowed.contains(&sent) => Err(Refusal::not_one_of(name, allowed, sent)),
            sent => Ok(sent),
        }
    }
}

/// List parameters.
const LISTS: [&str; 3] = ["project_ids", "api_key_ids", "group_by"];
