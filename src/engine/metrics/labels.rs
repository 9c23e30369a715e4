//! What metrics are told apart by: closed sets, each value's text in one match that the compiler keeps whole.

/// What was rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationKind {
    /// The admin key of the mount.
    AdminKey,
    /// The key of a static role.
    StaticRole,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationResult {
    /// The new key is in place.
    Done,
    /// It will be tried again.
    Failed,
}

/// How a check-out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutResult {
    /// An account was lent.
    Lent,
    /// None was free, or the one asked for was not.
    Refused,
    /// OpenAI or Vault's storage failed.
    Failed,
}

/// A number that is what it is now, computed from storage when metrics are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// How long the most overdue rotation has been due, in seconds.
    RotationOverdueSeconds,
    /// Deletions at OpenAI that are still to be done.
    PendingDeletions,
    /// The age of the oldest of them, in seconds.
    PendingDeletionAgeSeconds,
    /// The age of the admin key, in seconds.
    AdminKeyAgeSeconds,
}

impl RotationKind {
    pub(super) const ALL: [Self; 2] = [Self::AdminKey, Self::StaticRole];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminKey => "admin_key",
            Self::StaticRole => "static_role",
        }
    }
}

impl RotationResult {
    pub(super) const ALL: [Self; 2] = [Self::Done, Self::Failed];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl CheckOutResult {
    pub(super) const ALL: [Self; 3] = [Self::Lent, Self::Refused, Self::Failed];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lent => "lent",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Level {
    pub(super) const ALL: [Self; 4] = [
        Self::RotationOverdueSeconds,
        Self::PendingDeletions,
        Self::PendingDeletionAgeSeconds,
        Self::AdminKeyAgeSeconds,
    ];

    /// The metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RotationOverdueSeconds => "openai_rotation_overdue_seconds",
            Self::PendingDeletions => "openai_pending_deletions",
            Self::PendingDeletionAgeSeconds => "openai_pending_deletion_age_seconds",
            Self::AdminKeyAgeSeconds => "openai_admin_key_age_seconds",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::RotationOverdueSeconds => "How long the most overdue rotation has been due.",
            Self::PendingDeletions => "Deletions at OpenAI that are still to be done.",
            Self::PendingDeletionAgeSeconds => "Age of the oldest deletion that is still to be done.",
            Self::AdminKeyAgeSeconds => "Age of the admin API key.",
        }
    }
}
