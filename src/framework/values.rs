//! The field type for names.

use std::fmt;
use std::ops::Deref;

use super::decode::Refusal;

/// Longest name in a write, in bytes.
pub(super) const LONGEST_NAME: usize = 128;

/// A name that matches Vault's name pattern and is valid in a storage key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a text.
    pub fn new(text: String) -> Result<Self, Refusal> {
        if !Self::matches(&text) {
            Err(Refusal::new("field does not match the formatting rules"))
        } else if text.contains("..") {
            Err(Refusal::new("a name must not contain \"..\", which the server's storage refuses"))
        } else {
            Ok(Self(text))
        }
    }

    /// A default. Building the backend checks it.
    pub(super) fn declared(default: &str) -> Self {
        Self(default.to_owned())
    }

    /// True if the text matches the pattern: ASCII letters, digits and `_`; between them also `-` and `.`.
    pub fn matches(text: &str) -> bool {
        let word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
        match text.as_bytes() {
            [] => false,
            [only] => word(*only),
            [first, middle @ .., last] => {
                word(*first)
                    && word(*last)
                    && middle.iter().all(|byte| word(*byte) || matches!(byte, b'-' | b'.'))
            }
        }
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
