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

/// No text in a template may grow beyond this many bytes, however functions are piled up.
const MAX_TEXT: usize = 256 * 1024;

/// A text would have grown beyond any use.
#[derive(Debug, thiserror::Error)]
#[error("a text in it grows beyond {MAX_TEXT} bytes")]
pub(super) struct Overgrown;

impl Function {
    /// Its result. The arguments were checked by `calls`.
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
fn replace(text: &str, find: &str, replacement: &str) -> Result<String, Overgrown> {
    let grown = text.matches(find).count().saturating_mul(replacement.len());
    if grown > MAX_TEXT { Err(Overgrown) } else { Ok(text.replace(find, replacement)) }
}
