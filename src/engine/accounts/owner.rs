//! The name of an owner: one segment of a storage key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An owner of keys or accounts at OpenAI. The names of roles and sets and the ids of loans contain no colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The configuration: the admin key.
    Config,
    /// The workload identity provider of the mount, with its signing keys.
    Federation,
    /// The role of this name that hands out access tokens.
    FederatedRole(String),
    /// The static role of this name.
    StaticRole(String),
    /// The library set of this name.
    LibrarySet(String),
    /// A loan.
    Loan {
        /// The library set.
        set: String,
        /// OpenAI's id of the account.
        account: String,
        /// The loan's own id.
        loan: String,
    },
}

/// The text does not name an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOwner;

impl Owner {
    /// The owner in a sentence.
    pub fn described(&self) -> String {
        match self {
            Self::Config => "the configuration".to_owned(),
            Self::Federation => "config/federation".to_owned(),
            Self::FederatedRole(name) => format!("federated role {name}"),
            Self::StaticRole(name) => format!("static role {name}"),
            Self::LibrarySet(name) => format!("library set {name}"),
            Self::Loan { set, loan, .. } => format!("check-out {loan} of library set {set}"),
        }
    }

    /// The name of the role or set that it is, or belongs to.
    pub fn name(&self) -> &str {
        match self {
            Self::Config => "config",
            Self::Federation => "config/federation",
            Self::FederatedRole(name)
            | Self::StaticRole(name)
            | Self::LibrarySet(name)
            | Self::Loan { set: name, .. } => name,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Federation => f.write_str("federation"),
            Self::FederatedRole(name) => write!(f, "federated-role:{name}"),
            Self::StaticRole(name) => write!(f, "static-role:{name}"),
            Self::LibrarySet(name) => write!(f, "library-set:{name}"),
            Self::Loan { set, account, loan } => write!(f, "loan:{set}:{account}:{loan}"),
        }
    }
}

impl FromStr for Owner {
    type Err = NoOwner;

    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["config"] => Ok(Self::Config),
            ["federation"] => Ok(Self::Federation),
            ["federated-role", name] => Ok(Self::FederatedRole(name.to_owned())),
            ["static-role", name] => Ok(Self::StaticRole(name.to_owned())),
            ["library-set", name] => Ok(Self::LibrarySet(name.to_owned())),
            ["loan", set, ref account @ .., loan] if !account.is_empty() => {
                let (set, account, loan) = (set.to_owned(), account.join(":"), loan.to_owned());
                Ok(Self::Loan { set, account, loan })
            }
            _ => Err(NoOwner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_back_from_its_text() {
        let [set, account, loan] = ["pool", "svc:acct:1", "loan-1"].map(str::to_owned);
        for owner in [
            Owner::Config,
            Owner::Federation,
            Owner::FederatedRole("a.b-c".to_owned()),
            Owner::StaticRole("a.b-c".to_owned()),
            Owner::LibrarySet("pool".to_owned()),
            Owner::Loan { set, account, loan },
        ] {
            assert!(!owner.to_string().contains('/'));
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        for text in ["", "config:x", "static-role", "loan:a:b", "else:a"] {
            assert_eq!(text.parse::<Owner>(), Err(NoOwner), "{text}");
        }
    }
}
