//! What the functions of a template give: as Vault's do.
//!
//! They are pure; what is random is drawn beforehand, and the time is handed in.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::function::{Function, HASH_LENGTH};
use super::layout;
use super::printf::{self, hex};

/// The longest text that a function takes or gives, in bytes. A name has 64 characters.
const MAX_TEXT: usize = 4096;

/// A function cannot give its result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// A text is too long to be part of a name.
    #[error("a text in it grows beyond {MAX_TEXT} bytes")]
    Overgrown,
    /// A layout asks for parts of a second that no clock tells.
    #[error("a fraction of a second in the layout of timestamp has at most {} digits", layout::MAX_DIGITS)]
    TooManyDigits,
}

impl Function {
    /// Its result. The arguments were checked by `calls`.
    pub(super) fn apply(self, arguments: &[&Json]) -> Result<String, Unfit> {
        if arguments.iter().any(|argument| argument.as_str().is_some_and(|text| text.len() > MAX_TEXT)) {
            return Err(Unfit::Overgrown);
        }
        let text = |index| text(arguments, index);
        let number = |index| number(arguments, index);
        let result = match self {
            Self::Base64 => STANDARD.encode(text(0)),
            Self::Lowercase => text(0).to_lowercase(),
            Self::Uppercase => text(0).to_uppercase(),
            Self::Printf => printf::format(text(0), &arguments[1..], MAX_TEXT).ok_or(Unfit::Overgrown)?,
            Self::Replace => replace(text(2), text(0), text(1))?,
            Self::Sha256 => sha256(text(0)),
            Self::Timestamp => layout::format(text(0), moment(number(1))).ok_or(Unfit::TooManyDigits)?,
            Self::UnixTime => moment(number(0)).timestamp().to_string(),
            Self::UnixTimeMillis => number(0).to_string(),
            Self::Truncate => truncate(text(1), length(number(0))).to_owned(),
            Self::TruncateSha256 => truncate_sha256(text(1), length(number(0))),
            // Drawn beforehand: no template calls them.
            Self::Random | Self::Uuid => String::new(),
        };
        if result.len() > MAX_TEXT { Err(Unfit::Overgrown) } else { Ok(result) }
    }
}

// What follows trusts `calls` to have checked kinds and counts, and has an answer to anything all the same.

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

/// Counts before it builds: a short template must not ask for gigabytes.
fn replace(text: &str, find: &str, replacement: &str) -> Result<String, Unfit> {
    let grown = text.matches(find).count().saturating_mul(replacement.len());
    if grown > MAX_TEXT { Err(Unfit::Overgrown) } else { Ok(text.replace(find, replacement)) }
}
