//! `metadata`: labels that operators give roles, static roles and library sets. Answers and events echo the labels.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::engine::Error;
use crate::framework::{Call, Field, Path, ResponseField};
use crate::logical::data;

/// Labels by name.
pub(in crate::engine) type Metadata = BTreeMap<String, String>;

/// Maximum number of labels.
const MAX_LABELS: usize = 64;
/// Maximum length of a name or value, in bytes.
const MAX_LENGTH: usize = 512;

const NONE: &[(&str, &str)] = &[];
static METADATA: Field<Metadata> = Field::new(
    "metadata",
    "Labels of your own, such as team=search: at most 64, with names and values of at most 512 bytes. Answers \
    and events echo them, so they must hold no secrets. Sent labels replace all earlier ones.",
)
.default(NONE)
.most(MAX_LABELS)
.longest(MAX_LENGTH);

/// The field in reads of a role or set.
pub(in crate::engine) const ANSWER: ResponseField =
    ResponseField::new::<Metadata>("metadata", "Labels of the role or library set.");

/// Name of the field in answers with a key. Vault Agent, OpenBao's agent and consul-template take an answer with an object
/// `metadata` for a deleted secret of the key-value engine.
pub(in crate::engine) const ECHO: &str = "custom_metadata";

/// The field in answers with a key.
pub(in crate::engine) const ECHO_ANSWER: ResponseField =
    ResponseField::new::<Metadata>(ECHO, "Labels of the role or library set: its metadata.");

/// Adds the field to the path.
pub(in crate::engine) fn all<E: Send + Sync + 'static>(path: Path<E>) -> Path<E> {
    path.field(&METADATA)
}

/// The labels after this call; `old` are the current ones.
pub(in crate::engine) fn changed_by(call: &Call, old: Option<&Metadata>) -> Result<Metadata, Error> {
    match call.sent(&METADATA)? {
        Some(sent) => check(sent),
        None => Ok(old.cloned().unwrap_or_default()),
    }
}

/// The labels as an answer shows them.
pub(in crate::engine) fn shown(labels: &Metadata) -> Value {
    data(labels.iter().map(|(name, value)| (name, Value::from(value.as_str())))).into()
}

/// Refuses labels that would break a line of an answer or log.
fn check(labels: Metadata) -> Result<Metadata, Error> {
    if labels.contains_key("") {
        return Err(Error::field("metadata must give each label a name"));
    }
    let is_invalid = |text: &&String| text.chars().any(char::is_control);
    let invalid = labels.iter().flat_map(|(name, value)| [name, value]).find(is_invalid);
    match invalid {
        Some(invalid) => Err(Error::field(format!("metadata must hold no control characters: {invalid:?}"))),
        None => Ok(labels),
    }
}
