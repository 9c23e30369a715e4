//! Label values of closed sets.

/// The kind of rotated key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationKind {
    /// The admin key of the mount.
    AdminKey,
    /// The key of a static role.
    StaticRole,
    /// The key that signs identity tokens.
    SigningKey,
}

/// The result of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationResult {
    /// The new key is stored.
    Done,
    /// The rotation failed and will be retried.
    Failed,
}

/// The result of a check-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutResult {
    /// An account was checked out.
    Lent,
    /// No account was free, or the requested account was not.
    Refused,
    /// OpenAI or Vault's storage failed.
    Failed,
}

/// The result of a token exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeResult {
    /// OpenAI gave an access token.
    Done,
    /// OpenAI refused the signed token, the provider or the rule.
    Refused,
    /// A rate limit refused the exchange.
    Limited,
    /// OpenAI could not be reached, or failed.
    Failed,
    /// The answer was not usable.
    Unusable,
}

/// A gauge that is computed when metrics are read: from storage, except for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Number of overdue rotations.
    OverdueRotations,
    /// Time since the most overdue rotation was due, in seconds.
    RotationOverdueSeconds,
    /// Number of pending deletions at OpenAI.
    PendingDeletions,
    /// The age of the oldest pending deletion, in seconds.
    PendingDeletionAgeSeconds,
    /// Number of interrupted creations at OpenAI that are not undone yet.
    UnfinishedCreations,
    /// The age of the oldest interrupted creation, in seconds.
    UnfinishedCreationAgeSeconds,
    /// The age of the admin key, in seconds.
    AdminKeyAgeSeconds,
    /// 1 while OpenAI refuses the admin key.
    AdminKeyRefused,
    /// The age of the signing key, in seconds; 0 without one.
    SigningKeyAgeSeconds,
    /// Number of federated roles.
    FederatedRoles,
    /// Number of roles whose tokens OpenAI refuses.
    RefusedFederatedRoles,
    /// Number of federated roles and providers that are not as written at OpenAI.
    PendingChanges,
}

impl RotationKind {
    pub(super) const ALL: [Self; 3] = [Self::AdminKey, Self::StaticRole, Self::SigningKey];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminKey => "admin_key",
            Self::StaticRole => "static_role",
            Self::SigningKey => "signing_key",
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

impl ExchangeResult {
    pub(super) const ALL: [Self; 5] =
        [Self::Done, Self::Refused, Self::Limited, Self::Failed, Self::Unusable];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Unusable => "unusable",
        }
    }
}

impl Level {
    pub(super) const ALL: [Self; 12] = [
        Self::OverdueRotations,
        Self::RotationOverdueSeconds,
        Self::PendingDeletions,
        Self::PendingDeletionAgeSeconds,
        Self::UnfinishedCreations,
        Self::UnfinishedCreationAgeSeconds,
        Self::AdminKeyAgeSeconds,
        Self::AdminKeyRefused,
        Self::SigningKeyAgeSeconds,
        Self::FederatedRoles,
        Self::RefusedFederatedRoles,
        Self::PendingChanges,
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
            Self::SigningKeyAgeSeconds => "openai_signing_key_age_seconds",
            Self::FederatedRoles => "openai_federated_roles",
            Self::RefusedFederatedRoles => "openai_refused_federated_roles",
            Self::PendingChanges => "openai_pending_changes",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::OverdueRotations => "Overdue rotations.",
            Self::RotationOverdueSeconds => "Time since the most overdue rotation was due.",
            Self::PendingDeletions => "Pending deletions at OpenAI; 1000 means 1000 or more.",
            Self::PendingDeletionAgeSeconds => "Age of the oldest pending deletion.",
            Self::UnfinishedCreations => "Interrupted creations at OpenAI that are not undone yet.",
            Self::UnfinishedCreationAgeSeconds => "Age of the oldest interrupted creation.",
            Self::AdminKeyAgeSeconds => "Age of the admin API key.",
            Self::AdminKeyRefused => "1 while OpenAI refuses the admin key.",
            Self::SigningKeyAgeSeconds => "Age of the key that signs identity tokens; 0 without one.",
            Self::FederatedRoles => "Roles with access tokens; OpenAI takes 50 rules of a managed provider.",
            Self::RefusedFederatedRoles => "Roles whose tokens OpenAI refuses, as this process saw.",
            Self::PendingChanges => "Federated roles and providers that are not as written at OpenAI.",
        }
    }
}
