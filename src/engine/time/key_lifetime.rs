//! Refusals that are about how long a key would live: an organization's policy may demand that keys expire, and cap
//! how late. Says which field helps; where that is, the caller knows.

use crate::engine::Error;
use crate::openai;

/// Whether a creation failed because of how long the key would live.
pub(in crate::engine) fn is_about(error: &Error) -> bool {
    matches!(error, Error::AccountCreation(refusal) | Error::KeyCreation(refusal) if is_refused(refusal))
}

/// Whether OpenAI refused the time that the key would live.
fn is_refused(error: &openai::Error) -> bool {
    let openai::Error::Refused(refusal) = error else { return false };
    refusal.message.is_some()
        && matches!(refusal.status, 400 | 403 | 422)
        && refusal.param.as_deref() == Some("expires_in_seconds")
}

/// The error, with what to change if it is about how long the key would live.
pub(in crate::engine) fn explained(error: Error, advice: impl FnOnce() -> String) -> Error {
    if !is_about(&error) {
        return error;
    }
    Error::KeyLifetime { error: Box::new(error), advice: advice() }
}
