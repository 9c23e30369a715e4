//! The functions of Vault's username templates, as handlebars helpers. Random parts are drawn beforehand (`draw`).

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, PathAndJson, RenderContext, RenderErrorReason, ScopedJson,
};
use serde_json::Value as Json;

use super::{layout, printf};
use crate::engine::fingerprint;

/// The variable of the time in the template's context.
pub(super) const NOW: &str = "Now";

/// Maximum length of an argument or result, in bytes. A name has 64 characters.
const MAX_TEXT: usize = 4096;
/// Maximum length of a `random` text.
const MAX_RANDOM: i64 = 512;
/// Number of hash characters at the end of a `truncate_sha256` text (PROTOCOL 10).
const HASH_LENGTH: usize = 8;

/// A function with its parameters, in Vault's order.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub(super) name: &'static str,
    parameters: &'static [Kind],
    apply: fn(&Call<'_>) -> Result<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

/// The arguments of a call, and the time of the rendering.
struct Call<'a> {
    name: &'static str,
    arguments: &'a [&'a Json],
    now: DateTime<Utc>,
}

const TEXT: &[Kind] = &[Kind::Text];
const LENGTH_AND_TEXT: &[Kind] = &[Kind::Number, Kind::Text];

static FUNCTIONS: [Function; 13] = [
    Function::new("base64", TEXT, |call| Ok(STANDARD.encode(call.text(0)))),
    Function::new("lowercase", TEXT, |call| Ok(call.text(0).to_lowercase())),
    Function::new("printf", TEXT, |call| printf::format(call.text(0), &call.arguments[1..], MAX_TEXT)),
    // Only checks the length; `draw` makes the text.
    Function::new("random", &[Kind::Number], |call| call.length(1, MAX_RANDOM).map(|_| String::new())),
    Function::new("replace", &[Kind::Text; 3], |call| replace(call.text(2), call.text(0), call.text(1))),
    Function::new("sha256", TEXT, |call| Ok(fingerprint::sha256(call.text(0)))),
    Function::new("timestamp", TEXT, |call| layout::format(call.text(0), call.now)),
    Function::new("truncate", LENGTH_AND_TEXT, |call| {
        Ok(truncate(call.text(1), call.length(1, i64::MAX)?).to_owned())
    }),
    Function::new("truncate_sha256", LENGTH_AND_TEXT, |call| {
        Ok(truncate_sha256(call.text(1), call.length(HASH_LENGTH as i64 + 1, i64::MAX)?))
    }),
    Function::new("unix_time", &[], |call| Ok(call.now.timestamp().to_string())),
    Function::new("unix_time_millis", &[], |call| Ok(call.now.timestamp_millis().to_string())),
    Function::new("uppercase", TEXT, |call| Ok(call.text(0).to_uppercase())),
    // `draw` makes the text.
    Function::new("uuid", &[], |_| Ok(String::new())),
];

/// All functions. Texts are not escaped for HTML, and a missing variable is an error.
pub(super) static HELPERS: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut registry = Handlebars::new();
    registry.register_escape_fn(handlebars::no_escape);
    registry.set_strict_mode(true);
    for function in FUNCTIONS {
        registry.register_helper(function.name, Box::new(function));
    }
    registry
});

/// The function of this name.
pub(super) fn named(name: &str) -> Option<Function> {
    FUNCTIONS.into_iter().find(|function| function.name == name)
}

/// The names of all functions, separated by commas.
pub(super) fn names() -> String {
    FUNCTIONS.map(|function| function.name).join(", ")
}

impl Function {
    const fn new(
        name: &'static str,
        parameters: &'static [Kind],
        apply: fn(&Call<'_>) -> Result<String, String>,
    ) -> Self {
        Self { name, parameters, apply }
    }

    /// Refuses invalid arguments. An argument whose value is not known yet is passed as an empty text.
    pub(super) fn check(self, arguments: &[&Json]) -> Result<(), String> {
        self.run(arguments, DateTime::UNIX_EPOCH).map(drop)
    }

    fn run(self, arguments: &[&Json], now: DateTime<Utc>) -> Result<String, String> {
        let Self { name, parameters, apply } = self;
        let (given, is_variadic) = (arguments.len(), name == "printf");
        if given < parameters.len() || (given > parameters.len() && !is_variadic) {
            return Err(format!("{name} takes {} arguments, but was given {given}", parameters.len()));
        }
        for (index, (kind, argument)) in parameters.iter().zip(arguments).enumerate() {
            if (*kind == Kind::Number) != argument.is_number() {
                let kind = if *kind == Kind::Number { "number" } else { "text" };
                return Err(format!("argument {} of {name} must be a {kind}", index + 1));
            }
        }
        let mut texts = arguments.iter().filter_map(|argument| argument.as_str());
        if texts.any(|text| text.len() > MAX_TEXT) {
            return Err(too_long());
        }
        let result = apply(&Call { name, arguments, now })?;
        if result.len() > MAX_TEXT { Err(too_long()) } else { Ok(result) }
    }
}

impl HelperDef for Function {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        let arguments: Vec<&Json> = helper.params().iter().map(PathAndJson::value).collect();
        let now = context.data()[NOW].as_i64().and_then(DateTime::from_timestamp_millis);
        self.run(&arguments, now.unwrap_or_default())
            .map(|text| ScopedJson::Derived(Json::String(text)))
            .map_err(|problem| RenderErrorReason::Other(problem).into())
    }
}

impl<'a> Call<'a> {
    fn text(&self, index: usize) -> &'a str {
        self.arguments.get(index).and_then(|argument| argument.as_str()).unwrap_or_default()
    }

    /// The first argument, a length.
    fn length(&self, min: i64, max: i64) -> Result<usize, String> {
        let length = self.arguments.first().and_then(|argument| argument.as_i64()).unwrap_or_default();
        if !(min..=max).contains(&length) {
            return Err(format!("the length given to {} must be from {min} to {max}", self.name));
        }
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

fn too_long() -> String {
    format!("a text in it grows beyond {MAX_TEXT} bytes")
}

/// The first characters. Vault counts bytes, which is the same for the characters of a name.
fn truncate(text: &str, length: usize) -> &str {
    text.char_indices().nth(length).map_or(text, |(end, _)| &text[..end])
}

fn truncate_sha256(text: &str, length: usize) -> String {
    if truncate(text, length).len() == text.len() {
        return text.to_owned();
    }
    let kept = truncate(text, length - HASH_LENGTH);
    let hash = fingerprint::sha256(&text[kept.len()..]);
    format!("{kept}{}", truncate(&hash, HASH_LENGTH))
}

/// Checks the length first, because a short template could request gigabytes.
fn replace(text: &str, find: &str, replacement: &str) -> Result<String, String> {
    let inserted = text.matches(find).count().saturating_mul(replacement.len());
    if inserted > MAX_TEXT { Err(too_long()) } else { Ok(text.replace(find, replacement)) }
}
