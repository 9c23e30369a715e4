//! The random parts of a name. They are drawn before a template is rendered, so that rendering is pure.

use rand::{Rng, RngExt};

/// The variable of the random parts in the template's context.
pub(super) const DRAWN: &str = "Drawn";

const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LOWERCASE: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Number of characters of `.RandomSuffix` or `random` that make a name unique: 36^8, near 2^41.
const UNIQUE_LENGTH: usize = 8;

/// Number of characters of a UUID that make a name unique: `xxxxxxxx-xxxx`, 2^48.
const UNIQUE_LENGTH_OF_UUID: usize = 13;

/// A source of randomness in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// `.RandomSuffix`: 8 characters of a-z0-9.
    Suffix,
    /// `random N`: N characters of A-Za-z0-9, as in Vault.
    Random(usize),
    /// `uuid`.
    Uuid,
}

/// A random part of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    text: String,
    unique_length: usize,
}

impl Draw {
    pub(super) fn draw<R: Rng + ?Sized>(self, rng: &mut R) -> Drawn {
        match self {
            Self::Suffix => Drawn { text: pick(LOWERCASE, UNIQUE_LENGTH, rng), unique_length: UNIQUE_LENGTH },
            Self::Random(length) => {
                Drawn { text: pick(ALPHANUMERIC, length, rng), unique_length: UNIQUE_LENGTH }
            }
            Self::Uuid => Drawn {
                text: uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string(),
                unique_length: UNIQUE_LENGTH_OF_UUID,
            },
        }
    }
}

fn pick<R: Rng + ?Sized>(from: &[u8], length: usize, rng: &mut R) -> String {
    (0..length).map(|_| char::from(from[rng.random_range(0..from.len())])).collect()
}

impl Drawn {
    /// The random text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if `name` contains enough of the text, in any case, to be unique.
    pub(super) fn makes_unique(&self, name: &str) -> bool {
        let Some(start) = self.text.as_bytes().get(..self.unique_length) else { return false };
        name.as_bytes().windows(start.len()).any(|part| part.eq_ignore_ascii_case(start))
    }
}
