//! What can go wrong, in the engine's own words. The sentences of the README's troubleshooting guide live here,
//! and the only conversion into what Vault knows.

use crate::logical::{self, StorageError, SystemError};
use crate::openai;

/// Why the engine did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no configuration yet.
    #[error("OpenAI client not configured")]
    NotConfigured,
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
        owner: super::owners::AccountOwner,
    },
    /// OpenAI did not make the account.
    #[error("service account creation failed: {0}")]
    AccountCreation(openai::Error),
    /// OpenAI did not make the key, or did not narrow it.
    #[error("API key creation failed: {0}")]
    KeyCreation(openai::Error),
    /// What OpenAI made may still stand; it is undone later, and the caller must not ask again blindly.
    #[error("{0}; what it may have left at OpenAI is removed within 10 minutes")]
    LeftBehind(Box<Error>),
    /// A key or account could not be ended yet.
    #[error("revocation failed: {0}")]
    Revocation(openai::Error),
    /// Any other call to OpenAI failed.
    #[error("{what}: {error}")]
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

impl From<Error> for logical::Error {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Storage(error) => error.into(),
            Error::System(error) => error.into(),
            Error::Framework(error) => error,
            Error::AccountCreation(error) | Error::KeyCreation(error) | Error::OpenAi { error, .. } => {
                of_openai(&error, sentence)
            }
            Error::Revocation(error) => Self::internal(sentence).with_detail(error_class(&error)),
            // Vault's client repeats 429 and 5xx by itself: what may have left something behind is neither.
            Error::LeftBehind(_)
            | Error::Validation(_)
            | Error::NotConfigured
            | Error::Field(_)
            | Error::ProjectNotFound(_)
            | Error::ProjectInUse(_)
            | Error::NotFound { .. }
            | Error::AccountInUse { .. }
            | Error::Settings(_) => Self::bad_request(sentence),
        }
    }
}

/// OpenAI's refusal is the caller's business (400); a limit or an outage is for later (429, 503).
fn of_openai(error: &openai::Error, sentence: String) -> logical::Error {
    if error.is_limited() {
        logical::Error::status(429, sentence)
    } else if error.is_transient() {
        logical::Error::status(503, sentence)
    } else {
        logical::Error::bad_request(sentence)
    }
}

fn error_class(error: &openai::Error) -> &'static str {
    if error.is_limited() {
        "limited"
    } else if error.is_transient() {
        "transient"
    } else {
        "refused"
    }
}
