//! The random parts of a name, drawn before a template is rendered so that rendering itself is pure.

use rand::{Rng, RngExt};

/// The random parts of a rendering, in the context of its template.
pub(super) const DRAWN: &str = "Drawn";

const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LOWERCASE: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// How many characters of `.RandomSuffix` and `random` are enough for a name of its own: 36^8, near 2^41.
const ENOUGH: usize = 8;

/// How many characters of a UUID are: `xxxxxxxx-xxxx`, 2^48.
const ENOUGH_OF_UUID: usize = 13;

/// A source of randomness in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// `.RandomSuffix`: 8 of a-z0-9.
    Suffix,
    /// `random N`: N of A-Za-z0-9, as Vault's.
    Random(usize),
    /// `uuid`
    Uuid,
}

/// A random part of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    text: String,
    enough: usize,
}

impl Draw {
    pub(super) fn draw<R: Rng + ?Sized>(self, rng: &mut R) -> Drawn {
        match self {
            Self::Suffix => Drawn { text: pick(LOWERCASE, ENOUGH, rng), enough: ENOUGH },
            Self::Random(length) => Drawn { text: pick(ALPHANUMERIC, length, rng), enough: ENOUGH },
            Self::Uuid => Drawn {
                text: uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string(),
                enough: ENOUGH_OF_UUID,
            },
        }
    }
}

fn pick<R: Rng + ?Sized>(from: &[u8], length: usize, rng: &mut R) -> String {
    (0..length).map(|_| char::from(from[rng.random_range(0..from.len())])).collect()
}

impl Drawn {
    /// What was drawn.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `name` holds enough of it, in whatever case, to be unique by it.
    pub(super) fn marks(&self, name: &str) -> bool {
        let Some(mark) = self.text.as_bytes().get(..self.enough) else { return false };
        name.as_bytes().windows(mark.len()).any(|part| part.eq_ignore_ascii_case(mark))
    }
}
