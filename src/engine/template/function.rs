//! The functions a template can call, with Vault's names and order of arguments. What they give is `results`'.

/// The longest text that `random` gives.
const MAX_RANDOM: i64 = 512;

/// How many characters of a hash `truncate_sha256` puts at the end (PROTOCOL 10).
pub(super) const HASH_LENGTH: usize = 8;

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
    pub(super) fn takes(self) -> &'static [Kind] {
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
    pub(super) fn lengths(self) -> Option<(i64, i64)> {
        match self {
            Self::Random => Some((1, MAX_RANDOM)),
            Self::Truncate => Some((1, i64::MAX)),
            Self::TruncateSha256 => Some((HASH_LENGTH as i64 + 1, i64::MAX)),
            _ => None,
        }
    }
}

/// The names of all functions, for a sentence.
pub(super) fn names() -> String {
    Function::ALL.map(Function::name).join(", ")
}
