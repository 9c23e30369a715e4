//! What can go wrong, in the engine's own words. The sentences of docs/troubleshooting.md live here,
//! and the only conversion into what Vault knows.

use crate::logical::{self, StorageError, SystemError};
use crate::openai;

/// Why the engine did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no configuration yet.
    #[error(
        "OpenAI client not configured: run `vault write {}/config admin_api_key=... organization_id=...`",
        logical::Error::MOUNT
    )]
    NotConfigured,
    /// What is asked about lives where the present key says nothing.
    #[error(
        "this belongs to organization {organization}, but config names {configured}: its end cannot be \
        told from there"
    )]
    OtherOrganization {
        /// Where it lives.
        organization: openai::OrganizationId,
        /// Where the present key is good.
        configured: openai::OrganizationId,
    },
    /// The admin key or the organization was refused, or could not be tried.
    #[error("error validating OpenAI configuration: {0}")]
    Validation(openai::Error),
    /// A field is not what it must be; the sentence names it.
    #[error("{0}")]
    Field(String),
    /// No project of this name or id.
    #[error("project not found: {0}")]
    ProjectNotFound(String),
    /// Something still uses the project.
    #[error("project has roles that use it, cannot delete: it is used by {}", .0.join(", "))]
    ProjectInUse(Vec<String>),
    /// There is no such thing by that name.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// What it would be: `role`, `static role`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Another static role or library set has the account.
    #[error("service account {account} already belongs to {owner}")]
    AccountInUse {
        /// The account.
        account: openai::ServiceAccountId,
        /// Who has it.
        owner: crate::engine::accounts::claims::AccountOwner,
    },
    /// The account of a static role was deleted at OpenAI behind our back.
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
    /// The account that a role makes keys on was deleted at OpenAI behind our back.
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
    /// The static role of this name was deleted, but its key is not known to be dead yet.
    #[error("static role {0:?} is being deleted")]
    BeingDeleted(String),
    /// The first key of the static role of this name was not made, or is being made.
    #[error(
        "static role {0:?} has no key yet: its creation is under way or was cut off; write the role again, Vault removes \
         what an earlier try may have left at OpenAI"
    )]
    NoKeyYet(String),
    /// The record of the static role of this name was changed while OpenAI was asked.
    #[error("static role {0:?} was changed meanwhile, as by another node: try again")]
    Superseded(String),
    /// The deletion of a static role is not over.
    #[error(
        "static role {name:?} is being deleted, but its key could not be ended yet: {error}; Vault goes on \
        trying"
    )]
    Undeleted {
        /// The role's name.
        name: String,
        /// Why not.
        error: Box<Error>,
    },
    /// Other keys of a static role took all the time there was.
    #[error("there was no time left for it, which the next tick goes on with")]
    NoTimeLeft,
    /// Too many replaced keys of a static role still live.
    #[error("{0} replaced keys of this static role are not ended yet: no more are made until they are")]
    ReplacedKeysLeft(usize),
    /// Too many creations of one owner have an outcome that is not known.
    #[error(
        "{0} creations here have an unknown outcome at OpenAI: nothing more is made until Vault has looked for them, which \
         takes some minutes"
    )]
    UnknownOutcomes(usize),
    /// A piece of the tick's work panicked.
    #[error("it panicked")]
    Panicked,
    /// Every account of the set is lent, or not free again yet.
    #[error("no available service accounts in library")]
    NoneAvailable,
    /// The account that was asked for is lent, or not free again yet.
    #[error("service account is already checked out")]
    AlreadyCheckedOut,
    /// The set has no such account.
    #[error("library set {set} has no service account {account:?}")]
    NotInSet {
        /// The set.
        set: String,
        /// The name or id that was asked for.
        account: String,
    },
    /// The account is free.
    #[error("service account {0} is not checked out")]
    NotCheckedOut(String),
    /// Somebody else has the account.
    #[error(
        "service account {0} is checked out by somebody else: only its borrower can check it in, or an operator by \
         admin-check-in"
    )]
    NotBorrower(String),
    /// The check-out that a lease belongs to is over.
    #[error("this check-out is over: {0}")]
    LoanOver(&'static str),
    /// These accounts are lent, or not free again yet.
    #[error("service accounts must be checked in first (admin-check-in can force it): {}", .0.join(", "))]
    StillOut(Vec<String>),
    /// The lent key could not be ended yet.
    #[error("service account {account} is not free yet and is tried again until it is: {reason}")]
    NotFreeYet {
        /// The account's name.
        account: String,
        /// Why.
        reason: Box<Error>,
    },
    /// The organization's policy does not let keys live as long as this one would.
    #[error("{error}; {advice}")]
    KeyLifetime {
        /// The creation that OpenAI refused.
        error: Box<Error>,
        /// What to change.
        advice: String,
    },
    /// OpenAI does not know an account of a library set.
    #[error(
        "API key creation failed: {error}; OpenAI does not know service account {account} of library set {set}: write \
         the set's service_account_names again to have it adopted or made anew"
    )]
    AccountMissing {
        /// The set.
        set: String,
        /// The account's name.
        account: String,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// An account cannot be deleted, as its keys would go with it.
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
    /// A key whose creation was not heard of again may still come into being.
    #[error("OpenAI has not said yet whether it made the key")]
    KeyInDoubt,
    /// Another return of a check-out waits for OpenAI.
    #[error("another return of this check-out is under way")]
    ReturnUnderWay,
    /// Other clusters have issued what this one's records do not show.
    #[error(
        "tidy is refused on a replicated mount: each cluster records the credentials that it issued in its own local \
         storage, so this one cannot tell those of the others from strays. A mount enabled with -local can be tidied"
    )]
    Replicated,
    /// One run at a time.
    #[error("tidy is running already; tidy/status tells how far it is")]
    TidyRunning,
    /// OpenAI did not make the account.
    #[error("service account creation failed: {}", told(.0))]
    AccountCreation(openai::Error),
    /// OpenAI did not make the key, or did not narrow it.
    #[error("API key creation failed: {}", told(.0))]
    KeyCreation(openai::Error),
    /// A request went on for longer than it may. What it made is undone.
    #[error("this took too long, and was given up: ask again")]
    TookTooLong,
    /// What OpenAI made may still stand; it is undone later, and the caller must not ask again blindly.
    #[error("{0}; what it may have left at OpenAI is removed within 10 minutes, or when OpenAI is back")]
    LeftBehind(Box<Error>),
    /// A key or account could not be ended yet.
    #[error("revocation failed: {}", told(.0))]
    Revocation(openai::Error),
    /// Any other call to OpenAI failed.
    #[error("{what}: {}", told(.error))]
    OpenAi {
        /// What was tried.
        what: &'static str,
        /// OpenAI's answer.
        error: openai::Error,
    },
    /// The client cannot be made of this configuration.
    #[error("{0}")]
    Settings(#[from] openai::SettingsError),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Vault did not say what it was asked.
    #[error(transparent)]
    System(#[from] SystemError),
    /// What the framework refused.
    #[error(transparent)]
    Framework(#[from] logical::Error),
}

impl Error {
    /// The caller's fault, in a sentence that names the field.
    pub fn field(sentence: impl Into<String>) -> Self {
        Self::Field(sentence.into())
    }

    /// For `map_err` on calls that have no error of their own.
    pub(super) fn call(what: &'static str) -> impl Fn(openai::Error) -> Self {
        move |error| Self::OpenAi { what, error }
    }
}

impl Error {
    /// OpenAI has no room or is failing, and nothing was sent: it says nothing of what it was to be sent for.
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
            Error::TookTooLong => Self::status(503, sentence),
            // It can be asked for again, whatever came of it: only what OpenAI refused in its own words is the caller's.
            Error::Revocation(openai::Error::Malformed { .. } | openai::Error::Untrusted { .. }) => {
                Self::internal(sentence)
            }
            Error::AccountCreation(error)
            | Error::KeyCreation(error)
            | Error::Revocation(error)
            | Error::OpenAi { error, .. } => of_openai(&error, sentence),
            Error::Undeleted { error, .. } => match *error {
                Error::Revocation(error) => of_openai(&error, sentence),
                _ => Self::bad_request(sentence),
            },
            // Vault's client repeats 429 and 5xx by itself: what may have left something behind is neither.
            Error::LeftBehind(_)
            | Error::Validation(_)
            | Error::NotConfigured
            | Error::OtherOrganization { .. }
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
            | Error::ReturnUnderWay
            | Error::NoTimeLeft
            | Error::Replicated
            | Error::TidyRunning
            | Error::Settings(_) => Self::bad_request(sentence),
        }
    }
}

/// OpenAI's answer, for somebody who never saw the admin key: he would take its refusal for that of his own token.
fn told(error: &openai::Error) -> String {
    match error.status().filter(|_| error.is_unauthorized()) {
        Some(status) => format!(
            "the mount's admin key was refused by OpenAI ({status}): ask the operator of {}; OpenAI says: \
            {error}",
            logical::Error::MOUNT
        ),
        None => error.to_string(),
    }
}

/// OpenAI's refusal is the caller's business (400); a limit is for later (429), and so is whatever is wrong with OpenAI
/// or on the way to it (503).
fn of_openai(error: &openai::Error, sentence: String) -> logical::Error {
    if error.is_limited() {
        logical::Error::status(429, sentence)
    } else if error.is_transient() || matches!(error, openai::Error::Untrusted { .. }) {
        logical::Error::status(503, sentence)
    } else {
        logical::Error::bad_request(sentence)
    }
}
