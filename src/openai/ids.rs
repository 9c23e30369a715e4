//! Ids of OpenAI's objects, one type for each kind, so that a call cannot mix them up. An id contains no character
//! that could change a URL or a header.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id, in bytes. OpenAI's ids are far shorter.
const MAX_LENGTH: usize = 256;

/// Reason why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The text is too long.
    #[error("an id must not be longer than {MAX_LENGTH} characters")]
    TooLong,
    /// The text has a character other than letters, digits and `-_.:~@`, or is `.` or `..`.
    #[error("an id must be made of ASCII letters, digits and -_.:~@ only")]
    BadCharacter,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as OpenAI sends it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A project, `proj_...`.
    ProjectId
);
id!(
    /// A service account of a project.
    ServiceAccountId
);
id!(
    /// An API key of a project's user or service account.
    ApiKeyId
);
id!(
    /// An admin key of the organization.
    AdminKeyId
);
id!(
    /// An organization, `org-...`.
    OrganizationId
);
id!(
    /// A workload identity provider of the organization, `idp_...`.
    IdentityProviderId
);
id!(
    /// A federation rule of a workload identity provider.
    FederationRuleId
);

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_LENGTH {
        return Err(IdError::TooLong);
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.:~@".contains(&c);
    if !text.bytes().all(allowed) || text == "." || text == ".." {
        return Err(IdError::BadCharacter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_openai_are_taken_as_they_are() {
        for id in ["proj_abc", "user-abc.def", "key_1", "svc_acct:x~y@z"] {
            assert_eq!(id.parse::<ProjectId>().unwrap().as_str(), id);
        }
    }

    #[test]
    fn what_could_change_a_url_or_a_header_is_no_id() {
        for id in ["a/b", "..", ".", "a?b", "a#b", "a%2fb", "a b", "a\nb", "é", "a\\b"] {
            assert_eq!(id.parse::<ProjectId>(), Err(IdError::BadCharacter), "{id}");
        }
        assert_eq!("".parse::<ProjectId>(), Err(IdError::Empty));
        assert_eq!("x".repeat(257).parse::<ProjectId>(), Err(IdError::TooLong));
    }

    #[test]
    fn ids_are_checked_when_they_are_read_from_json() {
        assert!(serde_json::from_str::<ApiKeyId>(r#""key_1""#).is_ok());
        assert!(serde_json::from_str::<ApiKeyId>(r#""../x""#).is_err());
        assert_eq!(serde_json::to_string(&"key_1".parse::<ApiKeyId>().unwrap()).unwrap(), r#""key_1""#);
    }
}
