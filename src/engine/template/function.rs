//! The functions a template can call, with Vault's names, order of arguments and results.
//!
//! They are pure; what is random is drawn beforehand, and the time is handed in.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::draw::Draw;
use super::error::Problem;
use super::layout;
use super::parser::Expression;
use super::printf;

/// No text in a template may grow beyond this many bytes, however functions are piled up.
const MAX_TEXT: usize = 256 * 1024;

/// The longest text that `random` gives.
pub(super) const MAX_RANDOM: i64 = 512;

/// How many characters of a hash `truncate_sha256` puts at the end (PROTOCOL 10).
const HASH_LENGTH: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Base64,
    Lowercase,
    Printf,
    Random,
    Replace,
    Sha256,
    Timestamp,
    Truncate,
    TruncateSha256,
    UnixTime,
    UnixTimeMillis,
    Uppercase,
    Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
}

/// A text would have grown beyond any use.
#[derive(Debug, thiserror::Error)]
#[error("a text in it grows beyond {MAX_TEXT} bytes")]
pub(super) struct Overgrown;

impl Function {
    pub(super) const ALL: [Self; 13] = [
        Self::Base64,
        Self::Lowercase,
        Self::Printf,
        Self::Random,
        Self::Replace,
        Self::Sha256,
        Self::Timestamp,
        Self::Truncate,
        Self::TruncateSha256,
        Self::UnixTime,
        Self::UnixTimeMillis,
        Self::Uppercase,
        Self::Uuid,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Lowercase => "lowercase",
            Self::Printf => "printf",
            Self::Random => "random",
            Self::Replace => "replace",
            Self::Sha256 => "sha256",
            Self::Timestamp => "timestamp",
            Self::Truncate => "truncate",
            Self::TruncateSha256 => "truncate_sha256",
            Self::UnixTime => "unix_time",
            Self::UnixTimeMillis => "unix_time_millis",
            Self::Uppercase => "uppercase",
            Self::Uuid => "uuid",
        }
    }

    /// The arguments as a template writes them; `printf` takes any more behind its format.
    fn takes(self) -> &'static [Kind] {
        match self {
            Self::UnixTime | Self::UnixTimeMillis | Self::Uuid => &[],
            Self::Random => &[Kind::Number],
            Self::Truncate | Self::TruncateSha256 => &[Kind::Number, Kind::Text],
            Self::Replace => &[Kind::Text, Kind::Text, Kind::Text],
            Self::Base64
            | Self::Lowercase
            | Self::Printf
            | Self::Sha256
            | Self::Timestamp
            | Self::Uppercase => &[Kind::Text],
        }
    }

    /// Whether it is given the time, in milliseconds, behind the arguments that the template writes.
    pub(super) fn needs_time(self) -> bool {
        matches!(self, Self::Timestamp | Self::UnixTime | Self::UnixTimeMillis)
    }

    /// The bounds of the length that is its first argument.
    fn lengths(self) -> Option<(i64, i64)> {
        match self {
            Self::Random => Some((1, MAX_RANDOM)),
            Self::Truncate => Some((1, i64::MAX)),
            Self::TruncateSha256 => Some((HASH_LENGTH as i64 + 1, i64::MAX)),
            _ => None,
        }
    }

    /// Its result. The arguments were checked by [`call`].
    pub(super) fn apply(self, arguments: &[&Json]) -> Result<String, Overgrown> {
        let text = |index| text(arguments, index);
        let number = |index| number(arguments, index);
        let result = match self {
            Self::Base64 => STANDARD.encode(text(0)),
            Self::Lowercase => text(0).to_lowercase(),
            Self::Uppercase => text(0).to_uppercase(),
            Self::Printf => printf::format(text(0), &arguments[1..]),
            Self::Replace => replace(text(2), text(0), text(1))?,
            Self::Sha256 => sha256(text(0)),
            Self::Timestamp => layout::format(text(0), moment(number(1))),
            Self::UnixTime => moment(number(0)).timestamp().to_string(),
            Self::UnixTimeMillis => number(0).to_string(),
            Self::Truncate => truncate(text(1), length(number(0))).to_owned(),
            Self::TruncateSha256 => truncate_sha256(text(1), length(number(0))),
            // Drawn beforehand: no template calls them.
            Self::Random | Self::Uuid => String::new(),
        };
        if result.len() > MAX_TEXT { Err(Overgrown) } else { Ok(result) }
    }
}

impl Expression {
    fn kind(&self) -> Kind {
        match self {
            Self::Number(_) => Kind::Number,
            Self::Text(_) | Self::Variable(_) | Self::Draw(_) | Self::Call(..) => Kind::Text,
        }
    }
}

/// The names of all functions, for a sentence.
pub(super) fn names() -> String {
    Function::ALL.map(Function::name).join(", ")
}

/// A call, if the function takes these arguments.
pub(super) fn call(function: Function, arguments: Vec<Expression>) -> Result<Expression, Problem> {
    check_arguments(function, &arguments)?;
    check_length(function, &arguments)?;
    match (function, arguments.as_slice()) {
        (Function::Uuid, _) => Ok(Expression::Draw(Draw::Uuid)),
        (Function::Random, [Expression::Number(length), ..]) => {
            Ok(Expression::Draw(Draw::Random(self::length(*length))))
        }
        (Function::Printf, [Expression::Text(format), values @ ..]) => {
            let numbers: Vec<bool> = values.iter().map(|value| value.kind() == Kind::Number).collect();
            printf::check(format, &numbers)?;
            Ok(Expression::Call(function, arguments))
        }
        (Function::Printf, _) => Err(Problem::FormatNotWritten),
        _ => Ok(Expression::Call(function, arguments)),
    }
}

fn check_arguments(function: Function, arguments: &[Expression]) -> Result<(), Problem> {
    let takes = function.takes();
    let name = function.name();
    let more = function == Function::Printf && arguments.len() > takes.len();
    if arguments.len() != takes.len() && !more {
        return Err(Problem::ArgumentCount { function: name, takes: takes.len(), given: arguments.len() });
    }
    match takes.iter().zip(arguments).position(|(kind, argument)| *kind != argument.kind()) {
        None => Ok(()),
        Some(index) => Err(Problem::ArgumentKind {
            function: name,
            argument: index + 1,
            takes: match takes[index] {
                Kind::Text => "text",
                Kind::Number => "number",
            },
        }),
    }
}

fn check_length(function: Function, arguments: &[Expression]) -> Result<(), Problem> {
    match (function.lengths(), arguments.first()) {
        (Some((least, most)), Some(Expression::Number(length))) if !(least..=most).contains(length) => {
            Err(Problem::Length { function: function.name(), least, most })
        }
        _ => Ok(()),
    }
}

// What follows trusts `call` to have checked kinds and counts, and has an answer to anything all the same.

fn text<'a>(arguments: &[&'a Json], index: usize) -> &'a str {
    arguments.get(index).and_then(|argument| argument.as_str()).unwrap_or_default()
}

fn number(arguments: &[&Json], index: usize) -> i64 {
    arguments.get(index).and_then(|argument| argument.as_i64()).unwrap_or_default()
}

fn length(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn moment(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// The first characters. Vault counts bytes, which is the same for what a name may hold.
fn truncate(text: &str, length: usize) -> &str {
    text.char_indices().nth(length).map_or(text, |(end, _)| &text[..end])
}

fn truncate_sha256(text: &str, length: usize) -> String {
    if truncate(text, length).len() == text.len() {
        return text.to_owned();
    }
    let kept = truncate(text, length - HASH_LENGTH);
    let hash = sha256(&text[kept.len()..]);
    format!("{kept}{}", truncate(&hash, HASH_LENGTH))
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Bytes in lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Counts before it builds: a short template must not ask for gigabytes.
fn replace(text: &str, find: &str, replacement: &str) -> Result<String, Overgrown> {
    let grown = text.matches(find).count().saturating_mul(replacement.len());
    if grown > MAX_TEXT { Err(Overgrown) } else { Ok(text.replace(find, replacement)) }
}
