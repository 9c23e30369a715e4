//! Scopes: OpenAI's permissions of a key.
//!
//! OpenAI publishes no complete list of its scopes. [`KNOWN`] has those that OpenAI's guides, SDK and error messages name,
//! as of November 2026. A scope that is missing there may be new, so it is warned of and never refused.

use crate::engine::Error;

/// Maximum number of scopes, which is more than OpenAI has.
const MAX_SCOPES: usize = 100;
/// Maximum length of a scope.
const MAX_SCOPE_LENGTH: usize = 128;

/// Scopes that OpenAI's documents name.
pub(in crate::engine) const KNOWN: [&str; 23] = [
    "api.all.read",
    "api.assistants.read",
    "api.assistants.write",
    "api.files.read",
    "api.files.write",
    "api.fine_tuning.jobs.read",
    "api.fine_tuning.jobs.write",
    "api.model.audio.request",
    "api.model.chat_completions.request",
    "api.model.embeddings.request",
    "api.model.images.request",
    "api.model.moderations.request",
    "api.model.read",
    "api.model.realtime.request",
    "api.model.request",
    "api.responses.read",
    "api.responses.write",
    "api.threads.read",
    "api.threads.write",
    "api.vector_store.read",
    "api.videos.write",
    "model.read",
    "model.request",
];

/// Refuses scopes that OpenAI cannot know.
pub(in crate::engine) fn check(scopes: Vec<String>) -> Result<Vec<String>, Error> {
    if scopes.len() > MAX_SCOPES {
        return Err(Error::field(format!("scopes must be at most {MAX_SCOPES}, not {}", scopes.len())));
    }
    let is_invalid = |scope: &&String| {
        scope.len() > MAX_SCOPE_LENGTH || !scope.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match scopes.iter().find(is_invalid) {
        Some(invalid) => Err(Error::field(format!(
            "scopes must be OpenAI's names for permissions, such as api.model.read, of at most {MAX_SCOPE_LENGTH} \
             characters, not {:?}",
            invalid.chars().take(MAX_SCOPE_LENGTH).collect::<String>()
        ))),
        None => Ok(scopes),
    }
}

/// A warning about scopes that OpenAI's documents do not name.
pub(in crate::engine) fn warn_of_unknown(scopes: &[String]) -> Option<String> {
    let is_unknown = |scope: &&str| KNOWN.binary_search(scope).is_err();
    let unknown: Vec<&str> = scopes.iter().map(String::as_str).filter(is_unknown).collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "scopes that OpenAI's documents do not name: {}. OpenAI refuses unknown scopes when a credential is read",
            unknown.join(", ")
        )
    })
}

/// The scopes of one credential: those that its reader asks for, which must be among the role's. A role without scopes
/// allows all.
pub(in crate::engine) fn narrowed(role: &[String], asked: Vec<String>) -> Result<Vec<String>, Error> {
    let asked = check(asked)?;
    let is_above = |scope: &&String| !role.is_empty() && !role.contains(scope);
    match asked.iter().find(is_above) {
        Some(above) => Err(Error::field(format!(
            "scopes must be among the role's, which has no {above:?}: {}",
            role.join(", ")
        ))),
        None => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_lists_the_known_scopes_and_no_others() {
        let guide = include_str!("../../../docs/guides/dynamic.md");
        let (_, table) = guide.split_once("name these scopes:").unwrap();
        let (table, _) = table.split_once("\n\nA write of a role warns").unwrap();
        let mut listed: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
        listed.sort_unstable();
        assert_eq!(listed, KNOWN);
    }

    #[test]
    fn known_scopes_are_sorted_for_the_search() {
        assert!(KNOWN.is_sorted());
    }
}
