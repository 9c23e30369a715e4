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

/// A number that is what it is now, computed when metrics are read; from storage, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Rotations whose time has passed.
    OverdueRotations,
    /// How long the most overdue rotation has been due, in seconds.
    RotationOverdueSeconds,
    /// Deletions at OpenAI that are still to be done.
    PendingDeletions,
    /// The age of the oldest of them, in seconds.
    PendingDeletionAgeSeconds,
    /// Creations at OpenAI that were cut off and are not undone.
    UnfinishedCreations,
    /// The age of the oldest of them, in seconds.
    UnfinishedCreationAgeSeconds,
    /// The age of the admin key, in seconds.
    AdminKeyAgeSeconds,
    /// 1 while OpenAI refuses the admin key.
    AdminKeyRefused,
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
    pub(super) const ALL: [Self; 8] = [
        Self::OverdueRotations,
        Self::RotationOverdueSeconds,
        Self::PendingDeletions,
        Self::PendingDeletionAgeSeconds,
        Self::UnfinishedCreations,
        Self::UnfinishedCreationAgeSeconds,
        Self::AdminKeyAgeSeconds,
        Self::AdminKeyRefused,
    ];

    /// The metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OverdueRotations => "openai_overdue_rotations",
            Self::RotationOverdueSeconds => "openai_rotation_overdue_seconds",
            Self::PendingDeletions => "openai_pending_deletions",
            Self::PendingDeletionAgeSeconds => "openai_pending_deletion_age_seconds",
            Self::UnfinishedCreations => "openai_unfinished_creations",
            Self::UnfinishedCreationAgeSeconds => "openai_unfinished_creation_age_seconds",
            Self::AdminKeyAgeSeconds => "openai_admin_key_age_seconds",
            Self::AdminKeyRefused => "openai_admin_key_refused",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::OverdueRotations => "Rotations whose time has passed.",
            Self::RotationOverdueSeconds => "How long the most overdue rotation has been due.",
            Self::PendingDeletions => {
                "Deletions at OpenAI that are still to be done; 1000 means at least so many."
            }
            Self::PendingDeletionAgeSeconds => "Age of the oldest deletion that is still to be done.",
            Self::UnfinishedCreations => "Creations at OpenAI that were cut off and are not undone yet.",
            Self::UnfinishedCreationAgeSeconds => {
                "Age of the oldest creation that was cut off and is not undone."
            }
            Self::AdminKeyAgeSeconds => "Age of the admin API key.",
            Self::AdminKeyRefused => "1 while OpenAI's last word on the admin key is that it is no good.",
        }
    }
}
