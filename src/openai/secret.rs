//! Values of keys and tokens. Memory is wiped on drop, `Debug` shows nothing, and only `expose` reads the value.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Shortest visible end of a redacted value that identifies a key.
const MIN_VISIBLE_END: usize = 3;

/// An API key of a project. Serialization writes the plain value, so store it only in encrypted storage.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

/// An admin key of the organization, which authenticates calls of the Admin API. Serialization writes the plain
/// value, so store it only in encrypted storage.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey(Zeroizing<String>);

/// An access token of a service account.
#[derive(Clone)]
pub struct AccessTokenValue(Zeroizing<String>);

/// A signed token, by which an issuer identifies an application to the token exchange.
#[derive(Clone)]
pub struct SubjectToken {
    value: Zeroizing<String>,
    signed_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// Reason why a text is not a key. The error never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is empty.
    #[error("the key must not be empty")]
    Empty,
    /// The text has a space, a line break or another character that no key has.
    #[error("the key must be visible ASCII characters only, without spaces or line breaks")]
    BadCharacter,
}

/// The private key of a client certificate, in PEM. Serialization writes the plain value, so store it only in encrypted
/// storage.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(Zeroizing<String>);

macro_rules! secret {
    ($name:ident) => {
        impl $name {
            /// The secret value.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.expose())
            }
        }
    };
}

macro_rules! key {
    ($name:ident) => {
        secret!($name);

        impl $name {
            /// Parses a key.
            pub fn parse(text: impl Into<String>) -> Result<Self, KeyError> {
                let text = Zeroizing::new(text.into());
                if text.is_empty() {
                    return Err(KeyError::Empty);
                }
                if !text.bytes().all(|c| c.is_ascii_graphic()) {
                    return Err(KeyError::BadCharacter);
                }
                Ok(Self(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

key!(ApiKey);
key!(AdminKey);
key!(AccessTokenValue);
secret!(ClientKey);

impl SubjectToken {
    /// A token that was signed and ends at these times by the issuer's clock.
    pub fn new(value: impl Into<String>, signed_at: DateTime<Utc>, expires_at: DateTime<Utc>) -> Self {
        Self { value: Zeroizing::new(value.into()), signed_at, expires_at }
    }

    /// The secret value.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Time of the signature.
    pub fn signed_at(&self) -> DateTime<Utc> {
        self.signed_at
    }

    /// Expiry time (`exp`).
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(redacted)")
    }
}

impl ClientKey {
    /// Takes a PEM text as it is; [`Client::new`](super::Client::new) parses it.
    pub fn new(pem: impl Into<String>) -> Self {
        Self(Zeroizing::new(pem.into()))
    }
}

impl<'de> Deserialize<'de> for ClientKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl AdminKey {
    /// True if the redacted form, such as `sk-admin...def`, can be this key's.
    pub fn fits(&self, redacted: &str) -> bool {
        let masked = |c: char| matches!(c, '.' | '*' | '…');
        let Some((start, rest)) = redacted.split_once(masked) else { return false };
        let end = rest.trim_start_matches(masked);
        let key = self.expose();
        end.len() >= MIN_VISIBLE_END
            && key.len() > start.len() + end.len()
            && key.starts_with(start)
            && key.ends_with(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let key = AdminKey::parse("sk-admin-secret").unwrap();
        assert_eq!(format!("{key:?}"), "AdminKey(redacted)");
        assert_eq!(key.expose(), "sk-admin-secret");
    }

    #[test]
    fn a_key_with_a_line_break_is_refused_without_being_quoted() {
        assert_eq!(ApiKey::parse("").unwrap_err(), KeyError::Empty);
        let error = AdminKey::parse("sk-secret\n").unwrap_err();
        assert_eq!(error, KeyError::BadCharacter);
        assert!(!error.to_string().contains("sk-"));
        let error = serde_json::from_str::<ApiKey>(r#""sk secret""#).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_key_is_found_by_its_redacted_value() {
        let key = AdminKey::parse("sk-admin-0123456789abcdef").unwrap();
        for redacted in ["sk-admin...def", "sk-admin-0************cdef", "sk-…def"] {
            assert!(key.fits(redacted), "{redacted}");
        }
        for redacted in
            ["sk-admin...xyz", "sk-other...def", "sk-admin...", "...", "", "sk-admin-0123456789abcdef"]
        {
            assert!(!key.fits(redacted), "{redacted}");
        }
    }
}
