//! The engine's errors, with the sentences of docs/troubleshooting.md, and their conversion to Vault's errors.

use crate::logical::{StorageError, SystemError};
use crate::{logical, openai};

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no configuration yet.
    #[error(
        "OpenAI client not configured: run `vault write {}/config admin_api_key=... organization_id=...`",
        logical::Error::MOUNT
    )]
    NotConfigured,
    /// The mount is no issuer of tokens yet.
    #[error(
        "the mount issues no access tokens yet: run `vault write -f {}/config/federation` first",
        logical::Error::MOUNT
    )]
    NotFederated,
    /// OpenAI gave no access token.
    #[error("token exchange failed: {error}{advice}")]
    Exchange {
        /// The failure.
        error: openai::ExchangeError,
        /// The thing to check; empty if there is no advice.
        advice: String,
    },
    /// OpenAI has not taken a change that is stored.
    #[error("{0}; what was written is stored, and Vault repeats it at OpenAI")]
    Pending(Box<Error>),
    /// The object belongs to an organization that the configured admin key cannot see.
    #[error(
        "this belongs to organization {organization}, but config names {configured}, whose admin key cannot see or \
         delete it"
    )]
    OtherOrganization {
        /// The object's organization.
        organization: openai::OrganizationId,
        /// The organization of the configured admin key.
        configured: openai::OrganizationId,
    },
    /// The lease of the Go plugin belongs to an organization that is not configured.
    #[error(
        "project {project} of this lease is not in organization {organization}, which config names: configure the \
         lease's organization until the lease is revoked"
    )]
    ProjectElsewhere {
        /// The lease's project.
        project: openai::ProjectId,
        /// The configured organization.
        organization: openai::OrganizationId,
    },
    /// OpenAI refused the admin key or the organization, or could not be asked.
    #[error("error validating OpenAI configuration: {0}")]
    Validation(openai::Error),
    /// OpenAI lets the admin key read, but not change anything.
    #[error(
        "error validating OpenAI configuration: the admin key may not change anything: give it the permission \"Organization \
         Administration\" *Write* at OpenAI; OpenAI says: {0}"
    )]
    ReadOnlyKey(openai::Error),
    /// A field has an invalid value. The sentence names the field.
    #[error("{0}")]
    Field(String),
    /// No project has this name or id.
    #[error("project not found: {0}")]
    ProjectNotFound(String),
    /// Roles or library sets use the project.
    #[error("project has roles that use it, cannot delete: it is used by {}", .0.join(", "))]
    ProjectInUse(Vec<String>),
    /// No record has this name.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// The kind of record: `role`, `static role`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Another role or library set owns the account.
    #[error("service account {account} already belongs to {owner}")]
    AccountInUse {
        /// The account.
        account: openai::ServiceAccountId,
        /// The owner, in words.
        owner: String,
    },
    /// Somebody deleted the account of a static role at OpenAI.
    #[error(
        "service account {account} is gone at OpenAI ({error}): delete the static role, or set rotation_method=account \
         to have another account made"
    )]
    AccountGone {
        /// The account.
        account: openai::ServiceAccountId,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// Somebody deleted the account of a role at OpenAI.
    #[error(
        "API key creation failed: {error}; service account {account} of role {role:?} is gone at OpenAI: write the role \
         with another service_account_id, or with an empty one to have an account made for each credential"
    )]
    RoleAccountGone {
        /// The role's name.
        role: String,
        /// The account.
        account: openai::ServiceAccountId,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// The static role was deleted, but its key may still work.
    #[error("static role {0:?} is being deleted")]
    BeingDeleted(String),
    /// The static role has no key yet.
    #[error(
        "static role {0:?} has no key yet: its creation is running or was interrupted; write the role again, and Vault \
         deletes the objects of the earlier attempt at OpenAI"
    )]
    NoKeyYet(String),
    /// The record of the static role changed during a call to OpenAI.
    #[error("static role {0:?} was changed meanwhile, as by another node: try again")]
    Superseded(String),
    /// The deletion of a static role is incomplete.
    #[error(
        "static role {name:?} is being deleted, but not all of it is gone yet: {error}; Vault repeats the attempt"
    )]
    Undeleted {
        /// The role's name.
        name: String,
        /// The failure.
        error: Box<Error>,
    },
    /// The deletions of other keys of a static role used up the time.
    #[error("no time was left for this key; the next tick continues")]
    NoTimeLeft,
    /// The list of the project's keys is so long, or OpenAI's rate limit so low, that the listing takes several ticks.
    #[error(
        "the list of the project's keys is not read to its end yet, because it is long and OpenAI allows few calls: the \
         next tick continues"
    )]
    KeysUnlisted,
    /// Too many replaced keys of a static role wait for their deletion.
    #[error("{0} replaced keys of this static role are not ended yet: no more are made until they are")]
    ReplacedKeysLeft(usize),
    /// Too many creations of one owner have an unknown outcome.
    #[error(
        "{0} creations here have an unknown outcome at OpenAI: Vault creates nothing more here until it has looked for \
         them, which takes some minutes"
    )]
    UnknownOutcomes(usize),
    /// A part of the tick's work, or a run of `tidy`, panicked.
    #[error("the work panicked")]
    Panicked,
    /// Every account of the set is checked out, or its last key is not deleted yet.
    #[error("no available service accounts in library")]
    NoneAvailable,
    /// The requested account is checked out, or its last key is not deleted yet.
    #[error("service account is already checked out")]
    AlreadyCheckedOut,
    /// The set has no such account.
    #[error("library set {set} has no service account {account:?}")]
    NotInSet {
        /// The set.
        set: String,
        /// The requested name or id.
        account: String,
    },
    /// The account is not checked out.
    #[error("service account {0} is not checked out")]
    NotCheckedOut(String),
    /// The account has another borrower.
    #[error(
        "service account {0} is checked out by somebody else: only its borrower can check it in, or an operator by \
         admin-check-in"
    )]
    NotBorrower(String),
    /// The check-out of a lease is over.
    #[error("this check-out is over: {0}")]
    LoanOver(&'static str),
    /// These accounts are checked out, or their last keys are not deleted yet.
    #[error("service accounts must be checked in first (admin-check-in can force it): {}", .0.join(", "))]
    StillOut(Vec<String>),
    /// The key of a check-out could not be deleted yet.
    #[error(
        "service account {account} is not free yet and is tried again until its key is deleted: {reason}"
    )]
    NotFreeYet {
        /// The account's name.
        account: String,
        /// The failure.
        reason: Box<Error>,
    },
    /// The key would live longer than the organization's policy allows.
    #[error("{error}; {advice}")]
    KeyLifetime {
        /// OpenAI's refusal of the creation.
        error: Box<Error>,
        /// The setting to change.
        advice: String,
    },
    /// An account of a library set is unknown to OpenAI.
    #[error(
        "API key creation failed: {error}; OpenAI does not know service account {account} of library set {set}: write \
         the set's service_account_names again, and Vault adopts or creates the account"
    )]
    AccountMissing {
        /// The set.
        set: String,
        /// The account's name.
        account: String,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// The account has other keys, which its deletion would delete too.
    #[error(
        "service account {account} has a live key that does not come from its role or library set here ({key}): it is \
         deleted when that key has ended"
    )]
    AccountHasKeys {
        /// The account.
        account: openai::ServiceAccountId,
        /// One of its keys.
        key: openai::ApiKeyId,
    },
    /// OpenAI did not answer the creation of a key, so the key may still appear.
    #[error("OpenAI has not said yet whether it made the key")]
    KeyInDoubt,
    /// Somebody uses a key that nobody should have: a backup of the moment of the check-out was restored.
    #[error(
        "key {0} of an unfinished check-out is in use, so storage was restored from a backup: the check-out lasts until the \
         key expires, or until the next check-in"
    )]
    KeyUsed(openai::ApiKeyId),
    /// Somebody uses the key of a static role without a current key: a backup of the moment of its creation was restored.
    #[error(
        "key {0} of an unfinished creation is in use, so storage was restored from a backup: the key lives on until the \
         static role is written again"
    )]
    FirstKeyUsed(openai::ApiKeyId),
    /// Another check-in of the same check-out waits for OpenAI.
    #[error("another return of this check-out is under way")]
    ReturnUnderWay,
    /// Other clusters issue credentials that this cluster's records do not contain.
    #[error(
        "tidy is refused on a replicated mount: each cluster records its own credentials in its local storage, so this \
         cluster cannot distinguish those of the others from strays. A mount enabled with -local can be tidied"
    )]
    Replicated,
    /// One tidy run at a time.
    #[error("tidy is running already; tidy/status shows its progress")]
    TidyRunning,
    /// OpenAI did not create the account.
    #[error("service account creation failed: {}", for_caller(.0))]
    AccountCreation(openai::Error),
    /// OpenAI did not create the key, or did not restrict its permissions.
    #[error("API key creation failed: {}", for_caller(.0))]
    KeyCreation(openai::Error),
    /// The request exceeded its time limit. Its objects at OpenAI are deleted.
    #[error("the request took too long and was abandoned: try again")]
    TookTooLong,
    /// The request may have left an object at OpenAI, which is deleted later. A blind repeat could leave more.
    #[error("{0}; what it may have left at OpenAI is removed within 10 minutes, or when OpenAI is back")]
    LeftBehind(Box<Error>),
    /// A key or account could not be deleted yet.
    #[error("revocation failed: {}", for_caller(.0))]
    Revocation(openai::Error),
    /// Any other call to OpenAI failed.
    #[error("{what}: {}", for_caller(.error))]
    OpenAi {
        /// The action.
        what: &'static str,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// No client can be made from this configuration.
    #[error("{0}")]
    Settings(#[from] openai::SettingsError),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A question to Vault failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The framework refused the request.
    #[error(transparent)]
    Framework(#[from] logical::Error),
}

impl Error {
    /// An error of the caller. The sentence names the field.
    pub fn field(sentence: impl Into<String>) -> Self {
        Self::Field(sentence.into())
    }

    /// True if the configured admin key cannot reach the organization.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::NotConfigured | Self::OtherOrganization { .. })
    }

    /// For `map_err` on calls to OpenAI that have no variant of their own.
    pub(super) fn call(what: &'static str) -> impl Fn(openai::Error) -> Self {
        move |error| Self::OpenAi { what, error }
    }

    /// True if the creation was refused before it was sent, because OpenAI limits or fails the calls. The refusal then
    /// proves nothing about the creation itself.
    pub(super) fn is_unsent(&self) -> bool {
        let (Self::AccountCreation(error) | Self::KeyCreation(error)) = self else { return false };
        matches!(error, openai::Error::Throttled { .. } | openai::Error::Unavailable { .. })
    }
}

impl From<Error> for logical::Error {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Storage(error) => error.into(),
            Error::System(error) => error.into(),
            Error::Framework(error) => error,
            Error::Panicked => Self::internal(sentence),
            Error::TookTooLong | Error::KeysUnlisted => Self::status(503, sentence),
            // A revocation can always be repeated. Only a refusal in OpenAI's error format is the caller's error.
            Error::Revocation(openai::Error::Malformed { .. } | openai::Error::Untrusted { .. }) => {
                Self::internal(sentence)
            }
            Error::AccountCreation(error)
            | Error::KeyCreation(error)
            | Error::Revocation(error)
            | Error::OpenAi { error, .. } => of_openai(&error, sentence),
            // A repeat of the write changes nothing more.
            Error::Pending(error) => match *error {
                Error::Storage(error) => error.into(),
                Error::AccountCreation(error) | Error::Revocation(error) | Error::OpenAi { error, .. } => {
                    of_openai(&error, sentence)
                }
                _ => Self::bad_request(sentence),
            },
            Error::Exchange { error, .. } => match error {
                openai::ExchangeError::Limited { .. } => Self::status(429, sentence),
                openai::ExchangeError::Unreachable(_) => Self::status(503, sentence),
                _ => Self::bad_request(sentence),
            },
            Error::Undeleted { error, .. } => match *error {
                Error::Revocation(error) => of_openai(&error, sentence),
                Error::KeysUnlisted => Self::status(503, sentence),
                _ => Self::bad_request(sentence),
            },
            // Vault's client repeats 429 and 5xx, and a repeat of `LeftBehind` would leave more objects.
            Error::LeftBehind(_)
            | Error::Validation(_)
            | Error::ReadOnlyKey(_)
            | Error::NotConfigured
            | Error::NotFederated
            | Error::OtherOrganization { .. }
            | Error::ProjectElsewhere { .. }
            | Error::Field(_)
            | Error::ProjectNotFound(_)
            | Error::ProjectInUse(_)
            | Error::NotFound { .. }
            | Error::AccountInUse { .. }
            | Error::AccountGone { .. }
            | Error::RoleAccountGone { .. }
            | Error::BeingDeleted(_)
            | Error::NoKeyYet(_)
            | Error::Superseded(_)
            | Error::ReplacedKeysLeft(_)
            | Error::UnknownOutcomes(_)
            | Error::NoneAvailable
            | Error::AlreadyCheckedOut
            | Error::NotInSet { .. }
            | Error::NotCheckedOut(_)
            | Error::NotBorrower(_)
            | Error::LoanOver(_)
            | Error::StillOut(_)
            | Error::NotFreeYet { .. }
            | Error::KeyLifetime { .. }
            | Error::AccountMissing { .. }
            | Error::AccountHasKeys { .. }
            | Error::KeyInDoubt
            | Error::KeyUsed(_)
            | Error::FirstKeyUsed(_)
            | Error::ReturnUnderWay
            | Error::NoTimeLeft
            | Error::Replicated
            | Error::TidyRunning
            | Error::Settings(_) => Self::bad_request(sentence),
        }
    }
}

/// OpenAI's answer in words for the caller, who has never seen the admin key. A bare 401 would look like a refusal of
/// the caller's own token.
fn for_caller(error: &openai::Error) -> String {
    let (Some(denial), Some(status)) = (error.denial(), error.status()) else { return error.to_string() };
    let operator = format!("ask the operator of {}", logical::Error::MOUNT);
    match denial {
        openai::Denial::Key => format!(
            "the mount's admin key was refused by OpenAI ({status}): {operator}; OpenAI says: {error}"
        ),
        openai::Denial::Project => format!(
            "OpenAI does not serve this project at the mount's api_endpoint ({status}): {operator} to set api_endpoint to \
             the host of the project's region; OpenAI says: {error}"
        ),
        openai::Denial::Call => format!(
            "the mount's admin key was refused by OpenAI ({status}): {operator} if the key has the permission \
             \"Organization Administration\" *Write*, and if OpenAI allows this server's address; OpenAI says: {error}"
        ),
    }
}

/// OpenAI's refusal is the caller's error (400), a rate limit is 429, and a failure of OpenAI or of the network is 503.
fn of_openai(error: &openai::Error, sentence: String) -> logical::Error {
    if error.is_limited() {
        logical::Error::status(429, sentence)
    } else if error.is_transient() || matches!(error, openai::Error::Untrusted { .. }) {
        logical::Error::status(503, sentence)
    } else {
        logical::Error::bad_request(sentence)
    }
}
