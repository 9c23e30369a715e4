//! OpenAI's refusals of a key's lifetime: an organization's policy may require that keys expire, and limit their lifetime.
//! The caller adds the setting to change.

use crate::engine::Error;
use crate::openai;

/// True if OpenAI refused a creation, or the end of a grace period, because of the key's lifetime.
pub(in crate::engine) fn is_about(error: &Error) -> bool {
    let (Error::AccountCreation(refusal) | Error::KeyCreation(refusal) | Error::Revocation(refusal)) = error
    else {
        return false;
    };
    is_refused(refusal)
}

/// True if OpenAI refused the key's lifetime.
fn is_refused(error: &openai::Error) -> bool {
    let openai::Error::Refused(refusal) = error else { return false };
    refusal.message.is_some()
        && matches!(refusal.status, 400 | 403 | 422)
        && refusal.param.as_deref() == Some("expires_in_seconds")
}

/// Adds advice to an error about the key's lifetime.
pub(in crate::engine) fn explained(error: Error, advice: impl FnOnce() -> String) -> Error {
    if is_about(&error) { Error::KeyLifetime { error: Box::new(error), advice: advice() } } else { error }
}
