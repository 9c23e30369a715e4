//! Label values of closed sets.

/// Declares an enum of label values, each with its word. The list of all values counts them in order.
macro_rules! labels {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of_one])* $value,)* }

        impl $name {
            pub(super) const ALL: [Self; [$($word),*].len()] = [$(Self::$value),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    };
}

labels! {
    /// The kind of rotated key.
    RotationKind {
        /// The admin key of the mount.
        AdminKey = "admin_key",
        /// The key of a static role.
        StaticRole = "static_role",
        /// The key that signs identity tokens.
        SigningKey = "signing_key",
    }
}

labels! {
    /// The result of a rotation.
    RotationResult {
        /// The new key is stored.
        Done = "done",
        /// The rotation failed and will be retried.
        Failed = "failed",
    }
}

labels! {
    /// The result of a check-out.
    CheckOutResult {
        /// An account was checked out.
        Lent = "lent",
        /// No account was free, or the requested account was not.
        Refused = "refused",
        /// OpenAI or Vault's storage failed.
        Failed = "failed",
    }
}

labels! {
    /// The result of a token exchange.
    ExchangeResult {
        /// OpenAI gave an access token.
        Done = "done",
        /// OpenAI refused the signed token, the provider or the rule.
        Refused = "refused",
        /// A rate limit refused the exchange.
        Limited = "limited",
        /// OpenAI could not be reached, or failed.
        Failed = "failed",
        /// The answer was not usable.
        Unusable = "unusable",
    }
}
